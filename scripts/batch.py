"""`headlab batch`: all of a folder, on one machine or a cluster -> a result folder each, a manifest, a gallery."""

import math
import os
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from ..heads.batch import BatchConfig, Events, Summary
    from ..heads.batch_items import Item, Kind
    from .transfer import Transfer

#: Options that results depend on: a run goes on only with the same.
_SAME = (
    *("task", "files", "face", "focal", "photometric", "texture_size", "landmarks", "together", "rate", "group"),
    *("source", "target", "renderer", "strength", "jaw", "eyes", "pose", "light"),
)


@dataclass(frozen=True)
class Batch:
    """Reconstruct every photo, video and RGB-D capture of a folder, going on where an earlier run stopped."""

    inputs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders (searched throughout), files, patterns in quotes, lists (.txt, one path per line; - reads standard
    input), or URLs that fsspec knows (s3://..., gs://..., file://...)."""
    out: Annotated[str, tyro.conf.arg(aliases=["-o"])]
    """Folder or URL for the results: a folder for each item, manifest.jsonl and gallery.html."""
    task: Literal["auto", "fit", "track", "transfer"] = "auto"
    """auto: photos are fitted, videos tracked, RGB-D captures fused and fitted. fit and track do one kind alone.
    transfer: --source onto every photo, or the expression of every item onto --target."""
    method: Literal["auto", "optimise", "regress", "deca", "emoca"] | None = None
    """How photos are fitted, see `headlab fit`. Where not given: auto for the default head (optimise's errors in less
    than half its time), optimise for others."""
    model: str | None = None
    """Head model: default, flame2020, flame2023 or ict."""
    files: Literal["all", "small"] = "all"
    """all: what `headlab fit` and `track` write, some 9 MB per photo. small: head.npz, report.json and thumb.jpg of
    photos; videos without side_by_side.mp4 and vhap/."""
    group: Literal["none", "folder", "identity"] = "none"
    """Photos of one person share their identity, as in `headlab fit A B C`: those of a folder, or those whose faces are
    alike. A result folder per person."""
    frames: bool = False
    """Folders of pictures are videos, their pictures no photos."""
    face: int = 0
    """Which face: 0 the largest."""
    focal: float | None = None
    """Focal length in pixels of all inputs; from EXIF or fitted where not given."""
    photometric: bool = True
    """Refine photos' fits by their pixels."""
    texture_size: int = 1024
    """Side of the texture, pixels."""
    landmarks: Literal["auto", "solutions", "tasks"] = "auto"
    """Which MediaPipe finds the landmarks."""
    rate: float | None = None
    """Frames per second of folders of frames (25 where not given)."""
    source: tuple[str, ...] = ()
    """Of --task transfer: expressions to put on every photo, as `headlab transfer --source` takes them."""
    target: Path | None = None
    """Of --task transfer: photo or fit that gets the expression of every item."""
    renderer: Literal["auto", "mesh", "diffusion"] = "auto"
    """Of --task transfer; likewise the next five."""
    strength: float = 1.0
    jaw: bool = True
    eyes: bool = False
    pose: bool = False
    light: bool = False
    engine: Literal["local", "ray"] = "local"
    """local: processes of this machine. ray: workers on every machine of a Ray cluster (pip install headlab[cluster]);
    inputs and outputs must then be reachable from all of them, as URLs or a shared file system."""
    ray_address: str | None = None
    """Of an existing cluster ("auto": the one this machine belongs to); one is started here where not given."""
    workers: int | None = None
    """Processes, each with its own copy of the models (1 GB); one per core where not given, on Ray per CPU."""
    threads: int = 1
    """Of each worker. More workers are better than more threads."""
    together: int = 4
    """Photos that a network sees at once."""
    resume: bool = False
    """Go on: do what is missing or failed, leave what is done."""
    overwrite: bool = False
    """Do everything anew in an output that already holds results."""
    retry: int = 1
    """Further tries after a crash, a timeout or an unforeseen error; bad input is not tried again."""
    timeout: float = 600.0
    """Seconds of work on one item after which it is given up; 0: never."""
    memory: str | None = None
    """By how much a worker may grow over one item, such as 4G; no limit where not given."""
    manifest: Literal["jsonl", "parquet"] = "jsonl"
    """parquet: write manifest.parquet at the end, too."""
    gallery: bool = True
    """Write gallery.html."""
    log: Literal["progress", "json"] = "progress"
    """json: no progress bar; a line of JSON on standard output for the beginning, every item and the end."""

    @property
    def model_name(self) -> str:
        """The head model in use."""
        return self.model or ("flame2020" if self.method in ("deca", "emoca") else "default")

    @property
    def fit_method(self) -> Literal["auto", "optimise", "regress", "deca", "emoca"]:
        """The method in use."""
        return self.method or ("auto" if self.model_name == "default" else "optimise")

    def transfer(self) -> "Transfer":
        """What every transfer has in common; source or target is left to the item."""
        from .transfer import Transfer

        taken = {name: getattr(self, name) for name in ("renderer", "strength", "jaw", "eyes", "pose", "light")}
        rest = {name: getattr(self, name) for name in ("face", "texture_size", "landmarks", "rate")}
        return Transfer(
            self.source, self.target or Path(), Path(self.out), model=self.model_name, overwrite=True, **taken, **rest
        )

    def run(self) -> None:
        import sys

        from .batch_log import JsonLog, ProgressLog

        log = JsonLog() if self.log == "json" else ProgressLog(self.out)
        with log:
            summary = batch(self, log.event)
        log.conclude(summary)
        if not summary.complete:
            sys.exit(2)


def batch(options: Batch, events: "Events" = lambda name, figures: None) -> "Summary":
    """What `headlab batch` does; returns the summary.

    Raises:
        HeadlabError: nothing to do, an output in the way or of another version, a missing model.
    """
    from ..heads.batch import run_batch

    same = check(options)
    items = list_items(options, events)
    config = run_config(options)
    if options.group != "none":
        from .batch_groups import grouped

        items, config = grouped(options, items, same, versions(), config, events)
    kinds: "tuple[Kind, ...]" = tuple(dict.fromkeys(item.kind for item in items))
    summary = run_batch(items, partial(_work, options, kinds), options.out, same, versions(), config, events)
    if options.manifest == "parquet":
        from ..heads.batch_manifest import write_parquet

        write_parquet(options.out)
    if options.gallery and summary.stopped is None:
        from ..viewers.batch_gallery import write_gallery

        write_gallery(options.out)
    return summary


def check(options: Batch) -> dict[str, Any]:
    """Say at once what is plainly wrong; returns what all runs of one output must have in common.

    Raises:
        HeadlabError: what is wrong.
    """
    from ..geometry.errors import HeadlabError
    from .fit import LARGEST_TEXTURE, SMALLEST_TEXTURE

    if options.task == "transfer":
        if bool(options.source) == (options.target is not None):
            raise HeadlabError(
                "--task transfer wants either --source (put on every photo) or --target (gets every expression)"
            )
    elif options.source or options.target is not None:
        raise HeadlabError("--source and --target belong to --task transfer; add that")
    if options.group != "none" and options.task not in ("auto", "fit"):
        raise HeadlabError(f"--group is for photos that are fitted; leave it out of --task {options.task}")
    if not SMALLEST_TEXTURE <= options.texture_size <= LARGEST_TEXTURE:
        raise HeadlabError(
            f"--texture-size takes {SMALLEST_TEXTURE} to {LARGEST_TEXTURE} pixels, not {options.texture_size}"
        )
    for name, least in (("face", 0), ("retry", 0), ("threads", 1), ("together", 1)):
        if getattr(options, name) < least:
            raise HeadlabError(f"--{name} is from {least} on, not {getattr(options, name)}")
    if options.workers is not None and options.workers < 1:
        raise HeadlabError(f"--workers is from 1 on, not {options.workers}")
    if not 0 <= options.timeout < math.inf:
        raise HeadlabError(f"--timeout is a number of seconds from 0 on, not {options.timeout:g}")
    if options.focal is not None and not 0 < options.focal < math.inf:
        raise HeadlabError(f"--focal is a positive number of pixels, not {options.focal:g}")
    if not options.inputs:
        raise HeadlabError("nothing to do: name a folder, a pattern, a list or files")
    if options.manifest == "parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise HeadlabError("--manifest parquet needs pyarrow; pip install 'headlab[cluster]'") from error
    bytes_of(options.memory)
    every = asdict(options)
    same = {name: str(every[name]) if isinstance(every[name], Path) else every[name] for name in _SAME}
    same["source"] = list(options.source)
    return {**same, "model": options.model_name, "method": options.fit_method}


def list_items(options: Batch, events: "Events" = lambda name, figures: None) -> "list[Item]":
    """The items of the inputs that the task is for.

    Raises:
        HeadlabError: there are none.
    """
    from ..geometry.errors import HeadlabError
    from ..heads.batch_items import FindConfig, find_items

    found = find_items(options.inputs, options.out, FindConfig(frames=options.frames))
    wanted = {
        "auto": ("photo", "video", "capture"),
        "fit": ("photo", "capture"),
        "track": ("video",),
        "transfer": ("photo",) if options.source else ("photo", "video"),
    }[options.task]
    items = [item for item in found.items if item.kind in (*wanted, "unreadable")]
    events("found", {"items": len(items), "ignored": found.ignored, "others": len(found.items) - len(items)})
    if not items:
        raise HeadlabError(
            f"none of {len(found.items)} items is for --task {options.task}"
            + ("; folders of frames are taken with --frames" if options.task == "track" else "")
        )
    return items


def run_config(options: Batch) -> "BatchConfig":
    """How the options want the batch run."""
    from ..heads.batch import BatchConfig, RayConfig
    from ..heads.batch_pool import PoolConfig

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = bytes_of(options.memory)
    # A photo needs its turn in each stage, and some wait to be shown to the network together.
    ahead = 5 + options.together
    budget = 1 << 30 if not memory else max(64 << 20, min(1 << 30, memory // 3))
    pool = PoolConfig(
        workers=options.workers or (cores if options.engine == "local" else 0),
        timeout=options.timeout,
        memory=memory,
        retry=options.retry,
        ahead=ahead,
        threads=options.threads,
        budget=budget,
    )
    ray = RayConfig(address=options.ray_address, cpus=options.threads)
    return BatchConfig(options.engine, options.resume, options.overwrite, pool, ray)


def bytes_of(text: str | None) -> int:
    """ "4G", "500M" or a number of bytes; 0 for None.

    Raises:
        HeadlabError: anything else.
    """
    from ..geometry.errors import HeadlabError

    if text is None:
        return 0
    units = {"K": 10, "M": 20, "G": 30, "T": 40}
    digits = text.strip().upper().removesuffix("B").removesuffix("I")
    scale = units.get(digits[-1:], 0)
    try:
        number = float(digits[:-1] if scale else digits) * 2**scale
    except ValueError:
        number = math.nan
    if not 2**20 <= number < 2**60:
        raise HeadlabError(f"--memory is a size such as 4G or 500M, not {text}")
    return int(number)


def versions() -> dict[str, str]:
    """Of what results depend on."""
    from importlib.metadata import version

    return {name: version(name) for name in ("headlab", "torch", "mediapipe", "numpy")}


def _work(options: Batch, kinds: "tuple[Kind, ...]"):
    from .batch_work import BatchWork

    return BatchWork(options, kinds)
