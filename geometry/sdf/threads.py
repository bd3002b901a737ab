"""Work shared among threads, each computing on one core: torch gives the interpreter's lock back while it computes."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Job = TypeVar("Job")
Result = TypeVar("Result")


def parallel(work: Callable[[Job], Result], jobs: Iterable[Job]) -> list[Result]:
    """`work` of every job, in order, on as many threads as torch may use.

    The operators here are too small to be split themselves; meanwhile every one runs on a single core.
    """
    jobs = list(jobs)
    threads = min(torch.get_num_threads(), len(jobs))
    if threads <= 1:
        return [work(job) for job in jobs]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        # A new thread takes over the setting of the process, but only when it first computes: say it again there.
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, jobs))
    finally:
        torch.set_num_threads(before)
