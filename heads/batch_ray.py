"""The engine on a cluster: Ray Data hands blocks of items to supervisors on every machine; when one is lost, its
blocks go to others.

A supervisor is an actor with a `WorkerPool` of one process, so that time limits, memory limits and crashes are dealt
with on every machine as they are on one. Only items and outcomes, a kilobyte each, travel through Ray.
"""

import json
import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ..geometry.errors import HeadlabError
from .batch_items import Item
from .batch_pool import Factory, PoolConfig, WorkerPool

if TYPE_CHECKING:
    from .batch import RayConfig

#: Memory for Ray's own objects where a cluster is started here, bytes.
_STORE = 200 << 20


class Supervisor:
    """Works on blocks of items in a process that outlives the blocks."""

    def __init__(self, factory: Factory, config: PoolConfig) -> None:
        import ray

        self._pool = WorkerPool(factory, replace(config, workers=1))
        self._node = ray.get_runtime_context().get_node_id()

    def __call__(self, block: dict[str, Any]) -> dict[str, Any]:
        """Items as JSON -> outcomes as JSON."""
        items = {item.key: item for item in map(_item, block["item"])}
        numbers = {item.key: int(number) for item, number in zip(items.values(), block["number"], strict=True)}
        done: list[tuple[int, str]] = []
        try:
            for item, outcome in self._pool.run(items.values(), keep=True):
                done.append((numbers[item.key], json.dumps({**outcome, "ray_node": self._node})))
        except HeadlabError as error:
            # An error would be retried; this one is the user's to mend.
            done = [(number, json.dumps({"refused": str(error)})) for number in numbers.values()]
        return {"number": [number for number, _ in done], "outcome": [outcome for _, outcome in done]}


def run_on_ray(
    items: Sequence[Item], factory: Factory, pool: PoolConfig, config: "RayConfig"
) -> Iterator[tuple[Item, dict[str, Any]]]:
    """Work on items with a cluster; yields each with its outcome, in no order.

    Args:
        items: what they read and where they write must be reachable from every machine.
        factory: see `WorkerPool`; its module must be installed on every machine.
        pool: of each supervisor; `workers` is their number, 0: as many as the cluster has processors for.
        config: the cluster.

    Raises:
        HeadlabError: Ray is not installed, no cluster answers, or the task cannot be prepared.
    """
    # Ray tells nobody of its use, and its own processes keep their troubles to their log files.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise HeadlabError(
            f"--engine ray needs Ray ({error}); install it with: pip install 'headlab[cluster]'"
        ) from error
    started = not ray.is_initialized()
    if started:
        _connect(ray, config)
    try:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        total = int(ray.cluster_resources().get("CPU", 1) // config.cpus)
        workers = max(1, min(pool.workers or total, len(items)))
        size = max(1, min(config.block, math.ceil(len(items) / (4 * workers))))
        rows = [{"number": i, "item": json.dumps(asdict(item))} for i, item in enumerate(items)]
        outcomes = ray.data.from_items(rows, override_num_blocks=math.ceil(len(rows) / size)).map_batches(
            Supervisor,
            fn_constructor_args=(factory, pool),
            batch_size=size,
            num_cpus=config.cpus,
            num_gpus=config.gpus or None,
            # Fewer than asked for is better than waiting for machines that are gone.
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
            # Ray would pack the first supervisors onto one machine.
            ray_remote_args_fn=_spread,
        )
        ended: set[int] = set()
        for row in outcomes.iter_rows():
            outcome = json.loads(row["outcome"])
            if "refused" in outcome:
                raise HeadlabError(outcome["refused"])
            if row["number"] not in ended:
                ended.add(row["number"])
                yield items[row["number"]], outcome
    finally:
        if started:
            ray.shutdown()


def _spread() -> dict[str, Any]:
    return {"scheduling_strategy": "SPREAD"}


def _connect(ray: Any, config: "RayConfig") -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
    try:
        if config.address is None:
            ray.init(address="local", object_store_memory=_STORE, **options)
        else:
            options.pop("include_dashboard")
            ray.init(address=config.address, **options)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise HeadlabError(
            f"no Ray cluster answers at {config.address or 'this machine'} ({reason}); start one with: ray start --head"
        ) from error


def _item(text: str) -> Item:
    values = json.loads(text)
    return Item(**{**values, "paths": tuple(values["paths"])})
