"""run_batch: any number of items -> a result folder each, a manifest, and a summary.

    find_items ──> what the manifest lacks ──> engine: local | ray ──> manifest (a line per item) ──> summary
                                                 └> WorkerPool ──> workers: Pipeline of a task's stages

`batch_items` finds the work, `batch_stages` overlaps it in a worker (`batch_worker`), `batch_pool` watches workers,
`batch_ray` spreads pools over machines, `batch_manifest` remembers what is done, `batch_fit` fits photos in stages,
`batch_people` groups photos by person. Engines and tasks know nothing of each other: any task runs on any engine.
"""

import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..geometry.errors import HeadlabError
from .batch_items import Item, distinguished, is_url
from .batch_manifest import Manifest
from .batch_pool import Factory, PoolConfig, WorkerPool
from .batch_storage import PRIVATE, StorageError, is_whole

#: Called with the name of what happened ("begin", "item", "end") and its figures.
Events = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class RayConfig:
    """The cluster."""

    address: str | None = None  #: of an existing cluster ("auto": the one of this machine); None: one is started here
    cpus: float | int = 1  #: per worker
    gpus: float | int = 0
    block: int = 4  #: items that travel together, and are done again together when a machine is lost


@dataclass(frozen=True)
class BatchConfig:
    """How to run a batch."""

    engine: Literal["local", "ray"] = "local"
    resume: bool = False  #: do what is missing or failed
    overwrite: bool = False  #: forget what is there
    pool: PoolConfig = field(default_factory=PoolConfig)
    ray: RayConfig = field(default_factory=RayConfig)


@dataclass(frozen=True)
class Summary:
    """How a batch went."""

    items: int
    done: int  #: now
    before: int  #: by earlier runs
    failed: int
    reasons: dict[str, int]  #: kind of error -> number
    seconds: float
    stopped: str | None = None  #: why it ended early

    @property
    def complete(self) -> bool:
        return self.stopped is None and self.failed == 0

    @property
    def rate(self) -> float:
        """Items per second."""
        return (self.done + self.failed) / max(self.seconds, 1e-9)


def run_batch(
    items: Sequence[Item],
    factory: Factory,
    out: str,
    same: dict[str, Any],
    versions: dict[str, str],
    config: BatchConfig | None = None,
    events: Events = lambda name, figures: None,
) -> Summary:
    """Do every item that is not done yet.

    Args:
        items: see `find_items`.
        factory: makes the task in each worker; must be picklable.
        out: output folder or URL.
        same: what was asked for, as far as results depend on it; a run with something else is refused.
        versions: of the programs results depend on; likewise.
        config: see `BatchConfig`.
        events: hears what happens.

    Returns:
        The summary. Items that failed are in it and in the manifest; they raise nothing.

    Raises:
        HeadlabError: the output is in the way or of another version, or the task cannot be prepared at all.
    """
    config = config or BatchConfig()
    with Manifest(out) as manifest:
        records = manifest.open({"same": same, "versions": versions}, config.resume, config.overwrite)
        if not is_url(out):
            shutil.rmtree(Path(out) / PRIVATE / "work", ignore_errors=True)  # of a run that was killed
        todo = _todo(items, records, out)
        before = len(items) - len(todo)
        events("begin", {"items": len(items), "before": before, "todo": len(todo)})
        start = time.monotonic()
        reasons: Counter[str] = Counter()
        done, stopped = 0, None
        outcomes = _engine(todo, factory, config)
        try:
            with _terminable():
                for item, outcome in outcomes:
                    error = outcome.get("error", {})
                    if error.get("kind") == "storage":
                        raise StorageError(error["message"])
                    record = {"key": item.key, "name": item.name, "kind": item.kind, **outcome}
                    if item.kind == "person":
                        record["paths"] = list(item.paths)
                    record |= {"versions": versions, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
                    manifest.add(record)
                    done += outcome["status"] == "done"
                    if error:
                        reasons[error["kind"]] += 1
                    events("item", record)
        except StorageError as error:
            stopped = str(error)
        except HeadlabError:
            if not records and not done and not reasons:
                manifest.withdraw()
            raise
        finally:
            outcomes.close()
            try:
                manifest.flush()
            except HeadlabError as error:
                stopped = stopped or str(error)
        summary = Summary(len(items), done, before, reasons.total(), dict(reasons), time.monotonic() - start, stopped)
        events("end", {"done": done, "before": before, "failed": summary.failed, "stopped": stopped})
        return summary


def _todo(items: Sequence[Item], records: dict[str, dict[str, Any]], out: str) -> list[Item]:
    """Items without a whole result. Those of earlier runs keep their folder, whatever is in the input now."""
    todo = []
    taken = {record["name"]: key for key, record in records.items()}
    for item in items:
        record = records.get(item.key)
        if record is None:
            name = item.name
            if taken.get(name, item.key) != item.key:
                name = distinguished(name, item.key)
            todo.append(Item(item.key, name, item.kind, item.paths))
        elif record["status"] != "done" or not is_whole(out, record["name"], record.get("files", {})):
            todo.append(Item(item.key, record["name"], item.kind, item.paths))
    return todo


def _engine(
    todo: Sequence[Item], factory: Factory, config: BatchConfig
) -> Generator[tuple[Item, dict[str, Any]], None, None]:
    """Items and their outcomes, as they come."""
    readable = [item for item in todo if item.kind != "unreadable"]
    for item in todo:
        if item.kind == "unreadable":
            message = f"the folder {item.paths[0]} cannot be listed; check its permissions"
            yield item, {"status": "failed", "seconds": {}, "error": {"kind": "input", "message": message}}
    if not readable:
        return
    if config.engine == "ray":
        from .batch_ray import run_on_ray

        yield from run_on_ray(readable, factory, config.pool, config.ray)
        return
    with WorkerPool(factory, config.pool) as pool:
        yield from pool.run(readable)


@contextmanager
def _terminable() -> Iterator[None]:
    """Within the block, SIGTERM ends the run as Ctrl-C does: what is done is on record."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
