"""What `headlab data convert` and `headlab data synthesize` do."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..geometry.errors import HeadlabError

if TYPE_CHECKING:
    from .data import Convert, Synthesize

_TARGETS = ("lmdb", "wds", "rig")


def convert_set(options: "Convert") -> None:
    """Raises HeadlabError as `datasets.convert.convert` does."""
    from ..datasets.kinds import DataSpec

    kind, colon, where = options.target.partition(":")
    if not colon or kind not in _TARGETS or not where:
        raise HeadlabError(f"{options.target} names no store; say {' or '.join(f'{t}:FOLDER' for t in _TARGETS)}")
    if not options.sizes or min(options.sizes) < 8:
        raise HeadlabError("--sizes needs at least one side of at least 8 pixels, such as --sizes 256")
    spec = DataSpec.parse(options.source)
    with ExitStack() as stack:
        items = spec.items()
        if options.fits is not None:
            from ..heads.attached_fits import with_fits

            items = with_fits(items, options.fits)
        if options.detect:
            from ..datasets.detected_records import with_landmarks
            from ..geometry.landmarks import open_detector
            from ..heads.assets import find_asset

            items = with_landmarks(items, stack.enter_context(open_detector("auto", find_asset("face_landmarker"))))
        _convert_items(options, items, kind, where)


def _convert_items(options: "Convert", items: Any, kind: str, where: str) -> None:
    from ..datasets.convert import convert
    from ..datasets.store_targets import LmdbTarget, ShardTarget
    from .data import Counter

    if kind == "rig":
        from ..diffusion.rig_store import RigTarget

        target = RigTarget(Path(where), options.sizes[0])
    elif kind == "wds":
        target = ShardTarget(where, options.sizes, per_shard=options.per_shard)
    else:
        most = None if options.most_gigabytes is None else round(options.most_gigabytes * 1e9)
        target = LmdbTarget(Path(where), options.sizes, quality=options.pictures.quality, most_bytes=most)
    before = target.done
    with Counter("converting") as bar:
        report = convert(items, target, options.pictures, lambda report: bar.step())
    print(f"{where}: {report.written} pictures written" + (f", {before} items were done before" if before else ""))
    print("\n".join(report.faults.lines()) or "no bad items")


def synthesize(options: "Synthesize") -> None:
    """Raises HeadlabError: sizes or counts that make no sense; a folder that cannot be written."""
    from ..datasets.synthetic import EditPairs, PairConfig, SyntheticConfig, SyntheticHeads, write_pairs, write_shards
    from ..geometry.models.default import load_default_head

    if options.count < 1 or options.shard < 1:
        raise HeadlabError("--count and --shard must be at least 1")
    model = load_default_head()
    shards = range(-(-options.count // options.shard))
    if options.what == "pairs":
        pairs = EditPairs(model, PairConfig(options.size, seed=options.seed))
        written: Iterator[Path] = write_pairs(pairs, options.out, shards, shard=min(options.shard, options.count))
    elif options.what == "heads":
        heads = SyntheticHeads(model, SyntheticConfig(options.size, options.seed))
        written = write_shards(heads, options.out, shards, shard=min(options.shard, options.count))
    else:
        from ..datasets.layouts import write_layout
        from ..datasets.synthetic_sketches import synthetic_sketches

        sketches = synthetic_sketches(model, options.count, options.size, options.seed)
        write_layout(options.out, options.what, sketches)
        print(f"wrote {options.count} pictures to {options.out} in the layout of {options.what}")
        return
    for path in written:
        print(path)
