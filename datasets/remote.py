"""Files here and elsewhere under one name: plain paths, and whatever fsspec reaches (s3://, gs://, https://, memory://).

fsspec and the library of the place (s3fs, gcsfs, aiohttp) are imported only where an address asks for them.
"""

import re
from pathlib import Path
from typing import Any

from ..geometry.errors import HeadlabError

_SCHEME = re.compile(r"([a-z][a-z0-9+]*)://")
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_NEEDS = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp", "az": "adlfs"}


def is_remote(address: str) -> bool:
    return bool(_SCHEME.match(address))


def joined(address: str, name: str) -> str:
    """A file of a folder."""
    return f"{address.rstrip('/')}/{name}"


def open_read(address: str) -> Any:
    """A file for reading forwards.

    Raises:
        HeadlabError: it is not there or cannot be reached.
    """
    if not is_remote(address):
        try:
            return Path(address).open("rb")
        except OSError as error:
            raise HeadlabError(f"{address} cannot be read ({error.strerror}); check the name") from error
    try:
        return _system(address).open(address, "rb")
    except HeadlabError:
        raise
    except Exception as error:
        raise _unreached(address, error) from error


def read_all(address: str) -> bytes:
    """The whole file.

    Raises:
        HeadlabError: it is not there or cannot be reached.
    """
    with open_read(address) as file:
        try:
            return file.read()
        except Exception as error:
            raise _unreached(address, error) from error


def write_all(address: str, data: bytes) -> None:
    """Write a whole file; a reader sees all of it or nothing.

    Raises:
        HeadlabError: it cannot be written.
    """
    if not is_remote(address):
        from ..geometry.files import write_bytes

        Path(address).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(Path(address), data)
        return
    try:
        _system(address).pipe_file(address, data)  # one request: object stores show the object when it is whole
    except HeadlabError:
        raise
    except Exception as error:
        raise _unreached(address, error) from error


def exists(address: str) -> bool:
    if not is_remote(address):
        return Path(address).is_file()
    try:
        return bool(_system(address).isfile(address))
    except HeadlabError:
        raise
    except Exception as error:
        raise _unreached(address, error) from error


def shard_addresses(address: str) -> list[str]:
    """The .tar files that an address stands for: one, a range like shard-{000000..000012}.tar, or a folder's.

    Raises:
        HeadlabError: a folder without any.
    """
    braces = _BRACES.search(address)
    if braces:
        first, last = braces[1], braces[2]
        numbers = range(int(first), int(last) + 1)
        return [address[: braces.start()] + f"{n:0{len(first)}d}" + address[braces.end() :] for n in numbers]
    if address.endswith((".tar", ".tar/")):
        return [address]
    if is_remote(address):
        system = _system(address)
        scheme = address.split("://")[0]
        try:
            listed = sorted(str(name) for name in system.ls(address, detail=False) if str(name).endswith(".tar"))
        except Exception as error:
            raise _unreached(address, error) from error
        found = [name if is_remote(name) else f"{scheme}://{name.lstrip('/')}" for name in listed]
    else:
        found = [str(path) for path in sorted(Path(address).glob("*.tar"))]
    if not found:
        raise HeadlabError(
            f"{address} holds no .tar files; name a WebDataset, as a folder or shard-{{000000..000012}}.tar"
        )
    return found


def _system(address: str) -> Any:
    scheme = address.split("://")[0]
    try:
        import fsspec

        return fsspec.filesystem(scheme)
    except ImportError as error:
        needs = " ".join(["fsspec", *([_NEEDS[scheme]] if scheme in _NEEDS else [])])
        raise HeadlabError(f"{address} needs a library that is not installed; pip install {needs}") from error
    except ValueError as error:
        raise HeadlabError(f"{address}: {scheme}:// is no kind of address that fsspec knows") from error


def _unreached(address: str, error: Exception) -> HeadlabError:
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return HeadlabError(f"{address} cannot be reached ({reason}); check the address and your access to it")
