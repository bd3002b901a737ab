"""A worker: a process of its own that loads the models once and works on the items it is sent.

Started by `batch_pool` as `python -m headlab.heads.batch_worker READ WRITE` with two pipes. It reads its `sys.path`,
the task's factory and items, and writes tuples: ("ready", versions), ("refused", why), ("stage", number, name or "",
time), ("end", number, outcome), ("beat",). When the pipe closes (its parent died) it is gone at once.
"""

import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

from ..geometry.errors import HeadlabError, NoFaceError
from .batch_stages import Job, Pipeline
from .batch_storage import is_storage_error

#: Seconds between signs of life.
BEAT = 2.0


def error_record(error: BaseException) -> dict[str, str]:
    """What the manifest says of an error.

    Kinds: "input" and "no face" (the item's own fault, never tried again), "storage" (stops the run), "memory",
    "error" (anything unforeseen); `batch_pool` adds "timeout" and "crash".
    """
    message = " ".join(str(error).split()) or type(error).__name__
    message = message.encode("utf-8", "replace").decode()
    if is_storage_error(error):
        return {"kind": "storage", "message": message}
    if isinstance(error, HeadlabError):
        return {"kind": "no face" if isinstance(error, NoFaceError) else "input", "message": message}
    if isinstance(error, MemoryError) or "alloc" in message:
        return {"kind": "memory", "message": f"{type(error).__name__}: {message}"}
    trace = "".join(traceback.format_exception(error)[-4:])
    return {"kind": "error", "message": f"{type(error).__name__}: {message}", "trace": trace}


class _Outlet:
    """A pipe that several threads write to."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock = pipe, threading.Lock()

    def send(self, *message: Any) -> None:
        try:
            with self._lock:
                self._pipe.send(message)
        except OSError:
            os._exit(0)  # the parent is gone


def main(read: int, write: int) -> None:
    """Work until told to stop."""
    inlet, outlet = Connection(read, writable=False), _Outlet(Connection(write, readable=False))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    try:
        sys.path[:] = inlet.recv()
        factory, budget = inlet.recv()
        task = factory()
    except EOFError:
        return
    except HeadlabError as error:
        outlet.send("refused", " ".join(str(error).split()))
        return
    inbox: queue.Queue[tuple[int, Any] | None] = queue.Queue()
    threading.Thread(target=_listen, args=(inlet, inbox), daemon=True).start()
    threading.Thread(target=_beat, args=(outlet,), daemon=True).start()
    host = socket.gethostname()

    def begun(job: Job, stage: str) -> None:
        outlet.send("stage", job.number, stage, time.monotonic())

    def ended(job: Job) -> None:
        outcome: dict[str, Any] = {"seconds": job.seconds, "host": host, "worker": os.getpid()}
        if job.error is None:
            outcome |= {"status": "done", **job.state}
        else:
            outcome |= {"status": "failed", "error": error_record(job.error)}
        outlet.send("end", job.number, outcome)

    pipeline = Pipeline(task, begun, ended, budget)
    outlet.send("ready", task.versions)
    while (order := inbox.get()) is not None:
        pipeline.put(Job(*order))
    pipeline.close()
    task.close()


def _listen(inlet: Connection, inbox: "queue.Queue[tuple[int, Any] | None]") -> None:
    while True:
        try:
            order = inlet.recv()
        except (EOFError, OSError):
            os._exit(0)
        inbox.put(order)


def _beat(outlet: _Outlet) -> None:
    while True:
        time.sleep(BEAT)
        outlet.send("beat")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
    # Native libraries' threads and destructors have nothing to add, and some of them crash on the way out.
    sys.stderr.flush()
    os._exit(0)
