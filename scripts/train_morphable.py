"""`headlab train morphable`: a head model of one's own, of scans or of heads that are registered already."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

#: In the folder that is written.
MODEL = "model.safetensors"


@dataclass(frozen=True)
class TrainMorphable:
    """Build a head model of a folder of heads: scans are registered to a template, varied, and analysed."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Meshes (.ply, .obj, .stl, .off, .glb) of neutral faces, upright. Those with as many vertices as the template
    count as registered. NAME.landmarks.txt beside NAME.ply may give 68 landmarks; else they are found on renders."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for model.safetensors (`headlab fit --model OUT/model.safetensors`), report.json and registered/."""
    template: str = "default"
    """Head model whose topology, expressions and landmarks the new one gets: default, ict, flame2020 or flame2023."""
    augment: bool = True
    """Exchange eyes, noses and mouths between the heads, turn and scale them a little, and mirror: helps where heads
    are few and bases large (scripts/bench/morphable.py)."""
    heads: int = 10_000
    """How many heads are made of them."""
    variance: float = 0.999
    """Share of the heads' variance that the basis explains."""
    limit: int = 400
    """Most components."""
    seed: int = 0
    """Of the augmentation."""
    landmarks: Literal["auto", "solutions", "tasks"] = "auto"
    """Which MediaPipe finds landmarks on scans."""

    def run(self) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("starting", total=None)
            report = train_morphable(self, lambda stage: bar.update(task, description=stage))
        left_out = [name for name, told in report["scans"].items() if "left_out" in told]
        print(
            f"{self.out / MODEL}: {report['components']} components explain {100 * report['explained']:.2f} % of "
            f"{report['heads']} heads made of {report['sources']}"
        )
        for name in left_out:
            print(f"left out {name}: {report['scans'][name]['left_out']}")


def train_morphable(options: TrainMorphable, progress=lambda stage: None) -> dict[str, Any]:
    """What `headlab train morphable` does; returns the report.

    Raises:
        HeadlabError: no usable heads, a missing template, or numbers out of range.
    """
    import time

    from ..geometry.errors import HeadlabError
    from ..geometry.files import write_json
    from ..geometry.landmarks import open_detector
    from ..geometry.models.morphable import AugmentConfig, MorphableConfig, build_morphable
    from ..geometry.models.storage import write_model
    from ..heads.assets import find_asset
    from ..heads.models import load_model
    from ..heads.register_heads import register_heads

    if not 0 < options.variance <= 1 or options.limit < 1 or options.heads < 2:
        raise HeadlabError("--variance is above 0 and at most 1, --limit at least 1, --heads at least 2")
    start = time.perf_counter()
    template = load_model(options.template)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HeadlabError(f"cannot make the folder {options.out}: {error.strerror}; choose another") from error
    with open_detector(options.landmarks, find_asset("face_landmarker")) as detector:
        found = register_heads(options.folder, template, detector, options.out / "registered", progress=progress)
    registered = time.perf_counter()
    augment = AugmentConfig(heads=options.heads, seed=options.seed) if options.augment else None
    config = MorphableConfig(augment, options.variance, options.limit)
    model, report = build_morphable(found.vertices, template, config, name=options.out.name, progress=progress)
    write_model(model, options.out / MODEL)
    seconds = {"registration": registered - start, "model": time.perf_counter() - registered}
    told = {**report.plain(), "template": options.template, "scans": found.report, "seconds": seconds}
    write_json(options.out / "report.json", told)
    return told
