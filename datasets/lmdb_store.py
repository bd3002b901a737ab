"""LMDB folders, read and written so that nothing is lost: the ground that the stores in this folder stand on.

    LmdbReader ── read-only, no lock file, any number of threads and (after a fork) processes
    LmdbWriter ── whole transactions; a full map grows and the transaction is made again; a full disk stops

Imports no torch, so that workers start quickly.
"""

import errno
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..geometry.errors import HeadlabError

_FILE = "data.mdb"
#: Address space is cheap and LMDB's files are sparse, but 32 bits and containers with limits exist: grow from here.
FIRST_MAP = 1 << 28


class LmdbReader:
    """An LMDB folder, read-only."""

    def __init__(self, path: Path | str):
        """Args:
            path: folder that holds data.mdb.

        Raises:
            HeadlabError: there is none, or it is damaged.
        """
        self.path = Path(path)
        if not (self.path / _FILE).is_file():
            raise HeadlabError(f"{self.path} holds no {_FILE}; name the folder of an LMDB store")
        self._environment()

    def _environment(self) -> Any:
        return _opened(self.path)

    def get(self, key: bytes) -> bytes | None:
        """One value (a copy), or None.

        Raises:
            HeadlabError: the store is damaged there.
        """
        import lmdb

        try:
            with self._environment().begin() as transaction:
                return transaction.get(key)
        except lmdb.Error as error:
            raise _damaged(self.path, error, key) from error

    def get_many(self, keys: Iterable[bytes]) -> list[bytes | None]:
        """Several values in one transaction."""
        import lmdb

        try:
            with self._environment().begin() as transaction:
                return [transaction.get(key) for key in keys]
        except lmdb.Error as error:
            raise _damaged(self.path, error) from error

    def keys(self, prefix: bytes = b"", start: bytes = b"") -> Iterator[bytes]:
        """Keys that begin with the prefix, from `start` on, in order, as they are met."""
        import lmdb

        first = max(prefix, start)
        try:
            with self._environment().begin() as transaction:
                cursor = transaction.cursor()
                if not (cursor.set_range(first) if first else cursor.first()):
                    return
                for key in cursor.iternext(keys=True, values=False):
                    if not key.startswith(prefix):
                        return
                    yield key
        except lmdb.Error as error:
            raise _damaged(self.path, error) from error

    def length(self) -> int:
        """The decimal text under the key "length", as DiffAE and DiffusionRig write it.

        Raises:
            HeadlabError: missing or no number.
        """
        text = self.get(b"length")
        try:
            count = int((text or b"").decode())
            if count < 0:
                raise ValueError
        except ValueError:
            what = "has no key 'length'" if text is None else f"says 'length' = {text[:20]!r}, which is no count"
            raise HeadlabError(
                f"{self.path} {what}; it is no picture store, or was cut short: convert it again"
            ) from None
        return count


_open: dict[tuple[int, str], Any] = {}
_lock = threading.Lock()


def _opened(path: Path) -> Any:
    """This process's environment of a folder: LMDB allows one per process, and none that was inherited by a fork."""
    key = os.getpid(), os.path.realpath(path)
    if key not in _open:
        import lmdb

        with _lock:
            if key not in _open:
                for other in [known for known in _open if known[1] == key[1]]:
                    _open.pop(other).close()  # inherited by a fork: of no use here, and in the way
                try:
                    _open[key] = lmdb.open(
                        str(path), readonly=True, lock=False, readahead=False, meminit=False, max_readers=512
                    )
                except lmdb.Error as error:
                    raise _damaged(path, error) from error
    return _open[key]


def close_reader(path: Path | str) -> None:
    """Let go of a folder that was read, for instance before it is written or deleted."""
    with _lock:
        environment = _open.pop((os.getpid(), os.path.realpath(path)), None)
    if environment is not None:
        environment.close()


class LmdbWriter:
    """An LMDB folder, written in whole transactions. One writer at a time; a killed one leaves the last transaction."""

    def __init__(self, path: Path | str, *, most_bytes: int | None = None):
        """Args:
            path: folder; made where missing.
            most_bytes: size that the file may reach; None: as the disk has room.

        Raises:
            HeadlabError: the folder cannot be made or opened, or another process writes it.
        """
        import lmdb

        self.path, self.most_bytes = Path(path), most_bytes
        close_reader(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = self.path / _FILE
            size = max(FIRST_MAP, _pages(2 * file.stat().st_size) if file.is_file() else 0)
            if most_bytes is not None:
                size = max(_pages(min(size, most_bytes)), _pages(file.stat().st_size) if file.is_file() else 0)
            self._guard = _guarded(self.path)
            try:
                self._env = lmdb.open(str(self.path), map_size=size, readahead=False, meminit=False)
            except lmdb.Error:
                self._guard.close()
                raise
        except OSError as error:
            raise HeadlabError(f"{self.path} cannot be written ({error.strerror}); choose another folder") from error
        except lmdb.Error as error:
            raise _damaged(self.path, error) from error

    def __enter__(self) -> "LmdbWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._env.close()
        self._guard.close()

    def get(self, key: bytes) -> bytes | None:
        with self._env.begin() as transaction:
            return transaction.get(key)

    def commit(self, new: Mapping[bytes, bytes], changed: Mapping[bytes, bytes] | None = None) -> None:
        """Write these together: all of them or, whatever happens, none.

        Args:
            new: values by key; a key that is there already is an error.
            changed: values that may take the place of older ones.

        Raises:
            HeadlabError: a key is taken; the map may not grow any more; the disk is full. What was committed before
                stays, so a conversion can go on from there.
        """
        import lmdb

        while True:
            try:
                with self._env.begin(write=True) as transaction:
                    for key, value in (changed or {}).items():
                        transaction.put(key, value)
                    for key, value in new.items():
                        if not transaction.put(key, value, overwrite=False):
                            raise HeadlabError(
                                f"{self.path} already holds {key.decode(errors='replace')}; "
                                "two items have one index: look for the double, or choose an empty folder"
                            )
                return
            except lmdb.MapFullError:
                self._grow()
            except (lmdb.Error, OSError) as error:
                raise self._unwritten(error) from error

    def _grow(self) -> None:
        size = self._env.info()["map_size"]
        wanted = _pages(2 * size)
        if self.most_bytes is not None:
            wanted = min(wanted, _pages(self.most_bytes))
        if wanted <= size:
            raise HeadlabError(
                f"{self.path} is full at {size / 1e6:.0f} MB, the limit that was set; "
                "raise the limit and run again: it goes on where it stopped"
            )
        self._env.set_mapsize(wanted)

    def _unwritten(self, error: Exception) -> HeadlabError:
        text = " ".join(str(error).split())
        full = "no space left" in text.lower() or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if full:
            return HeadlabError(
                f"{self.path}: no space left on the disk; free some and run again: it goes on where it stopped"
            )
        return HeadlabError(f"{self.path} cannot be written ({text}); choose another folder")


def _guarded(path: Path) -> Any:
    """A lock on the folder that ends with the process, however it ends."""
    file = (path / ".writing").open("w")
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # no such locks on Windows
        pass
    except OSError:
        file.close()
        raise HeadlabError(f"{path} is being written by another process; wait until it has ended") from None
    return file


def _pages(size: int) -> int:
    """LMDB's maps are whole pages."""
    return max(1 << 16, -(-int(size) // 65536) * 65536)


def _damaged(path: Path, error: Exception, key: bytes | None = None) -> HeadlabError:
    where = "" if key is None else f" at {key.decode(errors='replace')}"
    reason = " ".join(str(error).split())[-160:]
    return HeadlabError(f"{path} is damaged{where} or no LMDB store ({reason}); make it again")
