"""A pipeline of stages, a thread each, so that decoding, networks, solving and writing overlap.

    put ──> decode ─┤├─> landmarks ─┤├─> network (several at once) ─┤├─> solve ─┤├─> write ──> ended

Queues between them hold one job; a budget of bytes bounds what is decoded at a time. An error ends its job alone.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

#: A batched stage waits so long for more jobs, seconds.
_PATIENCE = 0.2


@dataclass(frozen=True)
class Stage:
    """One step of the work."""

    name: str
    work: Callable[[Any], Any]  #: state -> state; with a batch, list of states -> list of states
    batch: int = 1


@runtime_checkable
class Task(Protocol):
    """What is done with every item; made once in each worker."""

    #: (item) -> state is the first stage's work; the last stage's result is what the manifest says of the item.
    stages: Sequence[Stage]
    versions: dict[str, str]

    def weigh(self, item: Any) -> int:
        """About how much memory an item takes while it is worked on; 0 where unknown."""
        ...

    def close(self) -> None: ...


@dataclass
class Job:
    """An item on its way."""

    number: int
    item: Any
    state: Any = None
    error: BaseException | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    weight: int = 0  #: bytes


class Pipeline:
    """Runs jobs through stages. `put` blocks while the first stage is busy and another job waits."""

    def __init__(
        self,
        task: Task,
        begun: Callable[[Job, str], None],
        ended: Callable[[Job], None],
        budget: int = 1 << 30,
    ) -> None:
        """Start the threads.

        Args:
            task: what to do.
            begun: called in a stage's thread when a job enters it ("" when it leaves).
            ended: called when a job is through or has failed.
            budget: bytes that the jobs in the pipeline may take together; a single job may take more.
        """
        self._task, self._begun, self._ended = task, begun, ended
        self._budget, self._used, self._room = budget, 0, threading.Condition()
        self._queues: list[queue.Queue[Job | None]] = [queue.Queue(1) for _ in task.stages]
        self._threads = [
            threading.Thread(target=self._run, args=(i,), name=stage.name, daemon=True)
            for i, stage in enumerate(task.stages)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, job: Job) -> None:
        """Hand in a job."""
        self._queues[0].put(job)

    def close(self) -> None:
        """Wait until every job is through."""
        self._queues[0].put(None)
        for thread in self._threads:
            thread.join()

    def _run(self, index: int) -> None:
        stage, inlet = self._task.stages[index], self._queues[index]
        while True:
            jobs, last = _gathered(inlet, stage.batch)
            if jobs:
                if index == 0:
                    self._admit(jobs)
                self._work(stage, jobs)
                self._hand_on(jobs, index + 1)
            if last:
                if index + 1 < len(self._queues):
                    self._queues[index + 1].put(None)
                return
            jobs.clear()  # or the last job's pictures would stay while this thread waits for the next

    def _hand_on(self, jobs: list[Job], index: int) -> None:
        for job in jobs:
            if job.error is None and index < len(self._queues):
                self._queues[index].put(job)
            else:
                self._release(job)
                self._ended(job)

    def _work(self, stage: Stage, jobs: list[Job]) -> None:
        for job in jobs:
            self._begun(job, stage.name)
        start = time.perf_counter()
        try:
            states = stage.work([job.state for job in jobs]) if stage.batch > 1 else [stage.work(jobs[0].state)]
            for job, state in zip(jobs, states, strict=True):
                job.state = state
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].error, jobs[0].state = error, None
            else:  # whose fault it is, tells one at a time
                for job in jobs:
                    self._work(stage, [job])
                return
        took = (time.perf_counter() - start) / len(jobs)
        for job in jobs:
            job.seconds[stage.name] = round(job.seconds.get(stage.name, 0.0) + took, 4)
            self._begun(job, "")

    def _admit(self, jobs: list[Job]) -> None:
        for job in jobs:
            job.state = job.item
            self._begun(job, self._task.stages[0].name)
            try:
                job.weight = self._task.weigh(job.item)
            except Exception:
                job.weight = 0  # reading it will tell what is wrong
            self._begun(job, "")
            with self._room:
                self._room.wait_for(lambda: self._used == 0 or self._used + job.weight <= self._budget)  # noqa: B023
                self._used += job.weight

    def _release(self, job: Job) -> None:
        with self._room:
            self._used -= job.weight
            self._room.notify_all()


def _gathered(inlet: "queue.Queue[Job | None]", most: int) -> tuple[list[Job], bool]:
    """Up to `most` jobs: the next one, and what follows soon; and whether these are the last."""
    jobs: list[Job] = []
    until = float("inf")
    while len(jobs) < most:
        try:
            job = inlet.get(timeout=max(0.0, until - time.monotonic())) if jobs else inlet.get()
        except queue.Empty:
            break
        if job is None:
            return jobs, True
        jobs.append(job)
        until = time.monotonic() + _PATIENCE
    return jobs, False
