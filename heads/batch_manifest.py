"""The manifest: manifest.jsonl in the output, a line for what is being done and a line per finished item.

The first line is the header (format, versions, what was asked for). Lines are added as items end; a later line of an
item replaces the earlier one. A killed run may leave half a line at the end, which is cut off when the run goes on.
Where the output is a URL, which cannot be added to, the lines go to numbered parts in manifest/.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ..geometry.errors import HeadlabError
from .batch_items import is_url
from .batch_storage import PRIVATE, StorageError, file_system, is_storage_error

FORMAT = "headlab.batch/1"
NAME = "manifest.jsonl"
#: A part of a remote manifest is written after so many lines or seconds.
_PART_LINES, _PART_SECONDS = 500, 20.0


class Manifest:
    """A manifest that is being written. Use in a `with` block."""

    def __init__(self, out: str) -> None:
        self.out = out
        self.header: dict[str, Any] | None = None
        self._remote = is_url(out)
        self._file = -1
        self._lock = -1
        self._lines: list[str] = []
        self._parts = 0
        self._saved = time.monotonic()

    def open(self, header: dict[str, Any], resume: bool, overwrite: bool) -> dict[str, dict[str, Any]]:
        """Begin, or go on.

        Args:
            header: versions and options; "same" is what must not change between runs of one output.
            resume: go on with what is there, or begin where nothing is.
            overwrite: forget what is there.

        Returns:
            What earlier runs did: key -> record, the last of each. Pictures of time are left out to save memory.

        Raises:
            HeadlabError: the output holds something and neither was asked for; it was made otherwise; it cannot be
                written; or another run is at it.
        """
        (self._lock_out if not self._remote else self._check_remote)()
        there = self._there()
        if there and not (resume or overwrite):
            what = "a batch" if there == "manifest" else "files"
            raise HeadlabError(
                f"{self.out} already holds {what}; go on with --resume, do all anew with --overwrite, "
                "or name another folder with -o"
            )
        records: dict[str, dict[str, Any]] = {}
        if there == "manifest" and resume and not overwrite:
            records = self._resume(header)
        elif there == "files" and resume and not overwrite:
            raise HeadlabError(f"{self.out} holds files but no manifest to resume from; add --overwrite")
        else:
            self._restart()
        if self.header is None:
            self.header = {"format": FORMAT, "began": _now(), **header}
            self._begin()
            self.add(self.header)
            self.flush()
        elif not self._remote:
            self._begin()
        return records

    def add(self, record: dict[str, Any]) -> None:
        """Add a line.

        Raises:
            StorageError: the disk is full.
        """
        line = json.dumps(record) + "\n"
        if self._remote:
            self._lines.append(line)
            if len(self._lines) >= _PART_LINES or time.monotonic() - self._saved > _PART_SECONDS:
                self.flush()
            return
        data = line.encode()
        try:
            size = os.fstat(self._file).st_size
            try:
                if os.write(self._file, data) != len(data):
                    raise OSError(28, "No space left on device")
            except OSError:
                os.ftruncate(self._file, size)  # no half line
                raise
            if time.monotonic() - self._saved > 2:
                self.flush()
        except OSError as error:
            raise StorageError(
                f"cannot write {self.out}/{NAME} ({error.strerror}); free room and go on with --resume"
            ) from error

    def flush(self) -> None:
        """See to it that what was added outlives the machine."""
        self._saved = time.monotonic()
        if not self._remote:
            if self._file >= 0:
                os.fsync(self._file)
        elif self._lines:
            system, base = file_system(self.out)
            self._parts += 1
            path = f"{base.rstrip('/')}/manifest/{self._parts:06d}.jsonl"
            try:
                system.makedirs(os.path.dirname(path), exist_ok=True)
                system.pipe_file(path, "".join(self._lines).encode())
            except Exception as error:
                if is_storage_error(error):
                    raise StorageError(
                        f"cannot write {self.out} ({error}); free room and go on with --resume"
                    ) from error
                raise HeadlabError(
                    f"cannot write {self.out} ({error}); check the address and go on with --resume"
                ) from error
            self._lines.clear()

    def withdraw(self) -> None:
        """Leave no trace of a run that has done nothing."""
        self.close()
        self._lines.clear()
        self._restart()
        if not self._remote:
            shutil.rmtree(Path(self.out) / PRIVATE, ignore_errors=True)
            try:
                Path(self.out).rmdir()
            except OSError:
                pass  # it was there before, with other things

    def close(self) -> None:
        for file in (self._file, self._lock):
            if file >= 0:
                os.close(file)
        self._file = self._lock = -1

    def __enter__(self) -> "Manifest":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lock_out(self) -> None:
        import fcntl

        private = Path(self.out) / PRIVATE
        try:
            private.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(private / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise HeadlabError(
                f"{self.out} cannot be written ({error.strerror}); name a folder that is writable and has room with -o"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise HeadlabError(f"another batch is writing to {self.out}; wait for it or name another folder") from error

    def _check_remote(self) -> None:
        file_system(self.out)

    def _there(self) -> str:
        """ "manifest", "files" or nothing; a manifest of nothing but its header is nothing."""
        if not self._remote:
            folder = Path(self.out)
            if (folder / NAME).exists():
                return "manifest" if len(list(islice(self._read(), 2))) > 1 else ""
            return "files" if any(entry.name != PRIVATE for entry in folder.iterdir()) else ""
        system, base = file_system(self.out)
        if system.exists(f"{base.rstrip('/')}/manifest"):
            return "manifest" if len(list(islice(self._read(), 2))) > 1 else ""
        return "files" if system.exists(base) and system.ls(base, detail=False) else ""

    def _resume(self, header: dict[str, Any]) -> dict[str, dict[str, Any]]:
        records: dict[str, dict[str, Any]] = {}
        first: dict[str, Any] | None = None
        whole = 0
        for line, end in self._read():
            record = _parsed(line)
            if record is None:
                if first is not None and end is not None:
                    continue  # a damaged line: its item is done again
                break
            whole = end or whole
            if first is None:
                first = record
            elif "key" in record:
                records[record["key"]] = {name: record[name] for name in ("name", "status", "files") if name in record}
        if first is None:
            self._restart()  # killed before the first line was whole
            return {}
        _check_same(self.out, first, header)
        self.header = first
        if not self._remote:
            os.truncate(Path(self.out) / NAME, whole)
        return records

    def _read(self) -> Iterator[tuple[bytes, int | None]]:
        """Lines, and the offset at which each ends; None where it does not end."""
        if not self._remote:
            offset = 0
            with (Path(self.out) / NAME).open("rb") as file:
                for line in file:
                    offset += len(line)
                    yield line, offset if line.endswith(b"\n") else None
            return
        system, base = file_system(self.out)
        for part in sorted(system.find(f"{base.rstrip('/')}/manifest")):
            self._parts = int(Path(part).stem)
            for line in system.cat_file(part).splitlines(keepends=True):
                yield line, 0

    def _restart(self) -> None:
        self.header = None
        if not self._remote:
            (Path(self.out) / NAME).unlink(missing_ok=True)
            return
        system, base = file_system(self.out)
        if system.exists(f"{base.rstrip('/')}/manifest"):
            system.rm(f"{base.rstrip('/')}/manifest", recursive=True)

    def _begin(self) -> None:
        if self._remote:
            return
        try:
            self._file = os.open(Path(self.out) / NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise HeadlabError(
                f"{self.out}/{NAME} cannot be written ({error.strerror}); name another folder"
            ) from error


def read_manifest(out: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The header and the last record of every item, in the order in which items first ended.

    Raises:
        HeadlabError: there is no manifest.
    """
    manifest = Manifest(out)
    header: dict[str, Any] | None = None
    records: dict[str, dict[str, Any]] = {}
    try:
        for line, _ in manifest._read():
            record = _parsed(line)
            if record is not None and header is None:
                header = record
            elif record is not None and "key" in record:
                records[record["key"]] = record
    except OSError as error:
        raise HeadlabError(f"{out} holds no manifest ({error.strerror}); name the output of headlab batch") from error
    if header is None or header.get("format") != FORMAT:
        raise HeadlabError(f"{out}/{NAME} is no manifest of this version of headlab batch ({FORMAT})")
    return header, list(records.values())


def write_parquet(out: str) -> None:
    """manifest.parquet beside manifest.jsonl: a row per item, nested values as JSON.

    Raises:
        HeadlabError: pyarrow is not installed, or the disk is full.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise HeadlabError("Parquet needs pyarrow; install it with: pip install 'headlab[cluster]'") from error
    header, records = read_manifest(out)
    names = sorted({name for record in records for name in record})
    columns = {
        name: [
            json.dumps(record[name]) if isinstance(record.get(name), (dict, list)) else record.get(name)
            for record in records
        ]
        for name in names
    }
    table = pyarrow.table(columns).replace_schema_metadata({"headlab": json.dumps(header)})
    system, base = file_system(out)
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    data = sink.getvalue().to_pybytes()
    if is_url(out):
        system.pipe_file(f"{base.rstrip('/')}/manifest.parquet", data)
    else:
        from ..geometry.files import write_bytes

        write_bytes(Path(out) / "manifest.parquet", data)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _check_same(out: str, there: dict[str, Any], header: dict[str, Any]) -> None:
    if there.get("format") != FORMAT:
        raise HeadlabError(
            f"{out} was made by another version of headlab batch ({there.get('format', 'unknown')}, this one writes "
            f"{FORMAT}); do all anew with --overwrite, or name another folder"
        )
    versions, wanted = there.get("versions", {}), header.get("versions", {})
    other = [
        f"{name} {versions.get(name)} instead of {wanted[name]}"
        for name in wanted
        if versions.get(name) != wanted[name]
    ]
    same, asked = there.get("same", {}), header.get("same", {})
    other += [
        f"{name} {same.get(name)} instead of {asked.get(name)}"
        for name in sorted({*same, *asked})
        if same.get(name) != asked.get(name)
    ]
    if other:
        raise HeadlabError(
            f"{out} was made with {', '.join(other[:4])}; ask for the same, do all anew with --overwrite, "
            "or name another folder"
        )


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
