"""WorkerPool: worker processes that are watched: time limits, memory limits, crashes, and what to try again.

A worker has several items in its stages at once. When it dies, those that were being worked on are suspects, and each
is tried again alone in a worker: then it is clear whose fault it is. The others go to the next worker as if nothing had
happened.
"""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from ..geometry.errors import HeadlabError
from .batch_items import Item
from .batch_stages import Task
from .batch_worker import BEAT

#: Makes the task, in the worker: a function or `functools.partial` that can be pickled.
Factory = Callable[[], Task]
#: Kinds of errors that may pass.
_MAY_PASS = {"error", "crash", "timeout", "memory"}
#: Missed signs of life after which a worker is taken to be stuck as a whole, seconds.
_SILENT = 5 * BEAT
#: So many workers in a row may die before they are ready.
_STILLBORN = 3


@dataclass(frozen=True)
class PoolConfig:
    """How to run and watch workers."""

    workers: int = 1
    timeout: float | int = 600  #: seconds of work on one item (waiting for its turn does not count); 0: any
    memory: int = 0  #: bytes by which a worker may grow over one item; 0: any
    retry: int = 1  #: further tries after a crash, a timeout or an unforeseen error; bad input is not tried again
    ahead: int = 10  #: items a worker is given at once
    threads: int = 1  #: of each worker
    budget: int = 1 << 30  #: bytes of pictures decoded at a time in each worker
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class _Order:
    item: Item
    tries: int = 0
    alone: bool = False
    unlucky: int = 0  #: how often its worker died before it began
    stage: str = ""
    since: float = 0.0
    worked: float = 0.0  #: seconds in stages that it has left


class _Worker:
    def __init__(self, factory: bytes, config: PoolConfig) -> None:
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        self.log = tempfile.TemporaryFile()
        threads = str(config.threads)
        environment = {
            **os.environ,
            # Memory that one thread frees, another shall use again.
            "MALLOC_ARENA_MAX": "2",
            "OMP_WAIT_POLICY": "PASSIVE",
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads),
            **config.environment,
        }
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__.rsplit(".", 1)[0] + ".batch_worker", str(theirs_in), str(theirs_out)],
                pass_fds=(theirs_in, theirs_out),
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=self.log,
                env={**environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        self.inlet, self.outlet = Connection(ours_in, writable=False), Connection(ours_out, readable=False)
        self.orders: dict[int, _Order] = {}
        self.ready = False
        self.heard = time.monotonic()
        self.base = 0  #: bytes when ready
        self.dead_because: str | None = None
        self.send(list(sys.path))
        try:
            self.outlet.send_bytes(factory)
        except OSError:
            pass

    def send(self, message: Any) -> None:
        try:
            self.outlet.send(message)
        except OSError:
            pass  # it died; reading its pipe will tell

    def kill(self, because: str) -> None:
        self.dead_because = because
        self.process.kill()

    def end(self) -> None:
        self.inlet.close()
        self.outlet.close()
        self.process.wait()
        self.log.close()

    def last_words(self) -> str:
        self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, self.log.tell() - 2000))
        return " ".join(self.log.read().decode(errors="replace").split())[-400:]


class WorkerPool:
    """Processes that work on items. Use in a `with` block: none outlives it."""

    def __init__(self, factory: Factory, config: PoolConfig | None = None) -> None:
        """Prepare; workers start when there is work.

        Raises:
            HeadlabError: memory is to be limited where it cannot be measured.
        """
        self.config = config or PoolConfig()
        self._factory = pickle.dumps((factory, self.config.budget))
        self._workers: list[_Worker] = []
        self._waiting: deque[_Order] = deque()
        self._suspects: deque[_Order] = deque()
        self._ended: deque[tuple[Item, dict[str, Any]]] = deque()
        self._numbers = 0
        self._stillborn = 0
        self.versions: dict[str, str] = {}
        if self.config.memory and resident(os.getpid()) is None:
            raise HeadlabError("memory cannot be measured here; install psutil, or leave out --memory")

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def pids(self) -> list[int]:
        """Process ids of the workers there are now."""
        return [worker.process.pid for worker in self._workers]

    def run(
        self, items: Iterable[Item], idle: Callable[[], None] = lambda: None, keep: bool = False
    ) -> Iterator[tuple[Item, dict[str, Any]]]:
        """Work on items; yields each with its outcome as it is done, in no order.

        Args:
            items: may be endless; taken as workers become free.
            idle: called a few times per second.
            keep: leave the workers waiting for another call.

        Raises:
            HeadlabError: the task cannot be prepared (a missing model, say), or workers die before they are ready.
        """
        source = iter(items)
        more = True
        while True:
            more = self._hand_out(source, more)
            while self._ended:
                yield self._ended.popleft()
            if not more and not self._waiting and not self._suspects and not any(w.orders for w in self._workers):
                break
            for inlet in wait([worker.inlet for worker in self._workers], timeout=0.1):
                self._listen(next(worker for worker in self._workers if worker.inlet is inlet))
            self._watch()
            idle()
        if keep:
            return
        for worker in self._workers:
            worker.send(None)
        until = time.monotonic() + 5
        while any(worker.process.poll() is None for worker in self._workers) and time.monotonic() < until:
            time.sleep(0.02)

    def _hand_out(self, source: Iterator[Item], more: bool) -> bool:
        """Give items to workers that have few; whether there may be more to come."""
        wanted = self.config.workers * self.config.ahead
        while more and len(self._waiting) + sum(len(worker.orders) for worker in self._workers) < wanted:
            item = next(source, None)
            if item is None:
                more = False
            else:
                self._waiting.append(_Order(item))
        load = len(self._waiting) + len(self._suspects)
        while len(self._workers) < self.config.workers and load > sum(not worker.orders for worker in self._workers):
            self._workers.append(_Worker(self._factory, self.config))
        # Suspects want a worker for themselves: the emptiest takes no more until it has none.
        alive = [worker for worker in self._workers if not worker.dead_because]  # the others were killed just now
        shy = min(alive, key=lambda worker: len(worker.orders), default=None) if self._suspects else None
        for worker in alive:
            if any(order.alone for order in worker.orders.values()):
                continue
            if worker is shy:
                if not worker.orders:
                    self._give(worker, self._suspects.popleft(), alone=True)
                continue
            # Shares stay even towards the end, when little is left.
            share = max(1, min(self.config.ahead, -(-(load + len(worker.orders)) // self.config.workers)))
            while self._waiting and len(worker.orders) < share:
                self._give(worker, self._waiting.popleft(), alone=False)
        return more

    def _give(self, worker: _Worker, order: _Order, alone: bool) -> None:
        self._numbers += 1
        order.alone, order.stage, order.worked = alone, "", 0.0
        worker.orders[self._numbers] = order
        worker.send((self._numbers, order.item))

    def _listen(self, worker: _Worker) -> None:
        try:
            while worker.inlet.poll():
                message = worker.inlet.recv()
                worker.heard = time.monotonic()
                match message:
                    case ("ready", versions):
                        worker.ready, self.versions, self._stillborn = True, versions, 0
                        worker.base = resident(worker.process.pid) or 0
                    case ("refused", why):
                        raise HeadlabError(why)
                    case ("stage", number, name, when):
                        order = worker.orders[number]
                        if not name:
                            order.worked += when - order.since
                        order.stage, order.since = name, when
                    case ("end", number, outcome):
                        order = worker.orders.pop(number)
                        memory = resident(worker.process.pid)
                        if memory is not None:
                            outcome["worker_mb"] = round(memory / 2**20, 1)
                        self._end(order, outcome)
        except (EOFError, OSError, pickle.UnpicklingError):
            self._bury(worker)

    def _end(self, order: _Order, outcome: dict[str, Any]) -> None:
        order.tries += 1
        kind = outcome.get("error", {}).get("kind")
        if kind in _MAY_PASS and order.tries <= self.config.retry:
            (self._waiting if kind == "error" else self._suspects).append(order)
            return
        self._ended.append((order.item, {**outcome, "tries": order.tries}))

    def _bury(self, worker: _Worker) -> None:
        """A worker has died: what becomes of its items."""
        self._workers.remove(worker)
        worker.process.kill()
        code = worker.process.wait()
        words = worker.last_words()
        worker.end()
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn >= _STILLBORN:
                raise HeadlabError(f"workers end before they begin ({_cause(code)}): {words or 'without a word'}")
        for order in worker.orders.values():
            began = bool(order.stage or order.worked)
            order.unlucky += not began
            if order.alone and worker.ready and (began or order.unlucky > 3):
                why = (
                    worker.dead_because
                    or f"crash: the worker was {_cause(code)} in {order.stage or 'waiting'}; {words}"
                )
                kind, _, message = why.partition(": ")
                self._end(order, {"status": "failed", "seconds": {}, "error": {"kind": kind, "message": message}})
            elif order.stage or order.alone:
                self._suspects.append(order)
            else:
                self._waiting.appendleft(order)

    def _watch(self) -> None:
        now, config = time.monotonic(), self.config
        for worker in self._workers:
            busy = [order for order in worker.orders.values() if order.stage]
            if worker.dead_because or not busy:
                continue
            if config.memory and (resident(worker.process.pid) or 0) - worker.base > config.memory:
                worker.kill(f"memory: the worker grew by more than {config.memory / 2**30:.3g} GB (--memory)")
                continue
            if not config.timeout:
                continue
            late = [order for order in busy if order.worked + now - order.since > config.timeout]
            if late and now - worker.heard > _SILENT:
                worker.kill(f"timeout: longer than {config.timeout:g} s (--timeout), and nothing else went on")
            elif late:
                # Threads tell time even while one of them hangs: it is clear which.
                worker.kill("timeout: ")
                for number, order in list(worker.orders.items()):
                    if order in late and len(late) > 1:  # in one stage together: each is tried alone
                        del worker.orders[number]
                        self._suspects.append(order)
                    elif order in late:
                        del worker.orders[number]
                        message = f"longer than {config.timeout:g} s (--timeout), in {order.stage}"
                        error = {"kind": "timeout", "message": message}
                        self._end(order, {"status": "failed", "seconds": {}, "error": error})
                    elif order.stage:
                        order.stage = ""  # innocent


def _cause(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return f"killed by {name}" + (", as when memory runs out" if code == -signal.SIGKILL else "")
    return f"gone with exit code {code}"


def resident(pid: int) -> int | None:
    """Bytes of memory that a process holds; None where that cannot be told."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        pass
    import psutil

    try:
        return psutil.Process(pid).memory_info().rss
    except psutil.Error:  # it has ended, or is not ours to look at
        return None
