"""Where a batch reads and writes: folders, or what fsspec has an address for; results appear whole or not at all."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..geometry.errors import HeadlabError
from .batch_items import is_url

#: Folder of the batch's own files within the output folder.
PRIVATE = ".batch"
#: What no other item would escape: the run stops, and waits for --resume.
_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}


class StorageError(HeadlabError):
    """Results cannot be written at all: the disk is full or has become read-only."""


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    Raises:
        HeadlabError: no such kind of address, or its driver is not installed.
    """
    try:
        from fsspec.core import url_to_fs

        return url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise HeadlabError(f"{url} cannot be opened ({error}); install what fsspec needs for it") from error


def is_storage_error(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that nothing more can be written."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, StorageError) or (isinstance(seen, OSError) and seen.errno in _STORAGE):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


@contextmanager
def fetched(path: str) -> Iterator[Path]:
    """A file as a local path: itself, or a copy of what a URL names for as long as the block lasts.

    Raises:
        HeadlabError: the URL cannot be read.
    """
    if not is_url(path):
        yield Path(path)
        return
    from tempfile import TemporaryDirectory

    system, inside = file_system(path)
    with TemporaryDirectory(prefix="headlab-") as folder:
        local = Path(folder) / (os.path.basename(inside) or "file")
        try:
            system.get_file(inside, str(local))
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise HeadlabError(f"{path} cannot be read ({reason}); check the address") from error
        yield local


@contextmanager
def result_folder(out: str, name: str) -> Iterator[Path]:
    """A temporary folder whose files become `out`/`name` when the block ends well; whatever was there goes.

    Locally it is moved there in one step. To a URL files are copied, report.json last: where it is, all are.

    Raises:
        StorageError: the disk is full or read-only.
        HeadlabError: the place cannot be written.
    """
    from tempfile import mkdtemp

    remote = is_url(out)
    temporary = Path(mkdtemp(prefix="headlab-")) if remote else Path(out) / PRIVATE / "work" / secrets.token_hex(8)
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        yield temporary
        if remote:
            _upload(temporary, out, name)
        else:
            _move(temporary, Path(out) / name)
    except Exception as error:
        if is_storage_error(error):
            raise StorageError(
                f"cannot write {out}/{name} ({_reason(error)}); free room and go on with --resume"
            ) from error
        if isinstance(error, OSError):
            raise HeadlabError(f"cannot write {out}/{name} ({_reason(error)}); check the output folder") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _reason(error: BaseException) -> str:
    seen: BaseException | None = error
    while seen is not None and not (isinstance(seen, OSError) and seen.strerror):
        seen = seen.__cause__ or seen.__context__
    return " ".join(str(error).split()) if seen is None else str(getattr(seen, "strerror", seen))


def _move(temporary: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    old = temporary.with_name(temporary.name + ".old")
    try:
        os.rename(folder, old)
    except FileNotFoundError:
        pass
    os.rename(temporary, folder)
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old, ignore_errors=True)
    elif old.is_symlink() or old.exists():
        old.unlink()


def _upload(temporary: Path, out: str, name: str) -> None:
    system, base = file_system(out)
    target = f"{base.rstrip('/')}/{name}"
    files = sorted(
        (path for path in temporary.rglob("*") if path.is_file()), key=lambda path: path.name == "report.json"
    )
    for path in files:
        place = f"{target}/{path.relative_to(temporary).as_posix()}"
        system.makedirs(os.path.dirname(place), exist_ok=True)
        system.put_file(str(path), place)


def sizes(folder: Path) -> dict[str, int]:
    """Size in bytes of every file of a result, by its path within."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()
    }


def is_whole(out: str, name: str, files: dict[str, int]) -> bool:
    """Whether a result still has every file with the size it was written with."""
    if is_url(out):
        system, base = file_system(out)
        return all(system.exists(f"{base.rstrip('/')}/{name}/{file}") for file in files)
    try:
        return all(os.stat(Path(out) / name / file).st_size == size for file, size in files.items())
    except OSError:
        return False
