"""The factorial comparison of the project's research notes, end to end, with networks too small to be good.

    python -m headlab.scripts.bench.grid build/grid --run

32 cells: training data x fitter of the training photos x ResNet-18 or -50 x fitter of the photo that is edited x fitter
of the photo whose expression it takes. Each of the eight models is a DiffusionRig of 64 pixels trained for a few steps
on synthetic photos: the figures show that the sweep works, not which choice is best. Writes `grid.toml` and the photos;
with `--run` also runs `headlab evaluate grid` on it. For a real comparison put real folders, more steps and deca and
emoca for the fitters into the TOML file.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

_GRID = """
title = "Which parts of expression editing matter (tiny networks)"

[factors]
data = ["few", "more"]
fitter = ["regress", "optimise"]
encoder = ["resnet18", "resnet50"]
target = ["regress", "optimise"]
source = ["regress", "optimise"]

[[stages]]
name = "fit the training photos"
run = "headlab batch photos/{data} -o fits/{data}-{fitter} --method {fitter} FAST"
makes = "fits/{data}-{fitter}/manifest.jsonl"

[[stages]]
name = "store"
run = "headlab data convert album:photos/{data} rig:stores/{data}-{fitter} --fits fits/{data}-{fitter} --sizes 64"
makes = "stores/{data}-{fitter}/data.mdb"

[[stages]]
name = "train"
run = "headlab train diffusionrig stores/{data}-{fitter} -o models/{data}-{fitter}-{encoder} --encoder {encoder} TRAIN"
makes = "models/{data}-{fitter}-{encoder}/weights/model.pt"

[[stages]]
name = "fit the targets"
run = "headlab batch photos/targets -o fits/targets-{target} --method {target} FAST"
makes = "fits/targets-{target}/manifest.jsonl"

[[stages]]
name = "fit the source"
run = "headlab batch photos/source -o fits/source-{source} --method {source} FAST"
makes = "fits/source-{source}/manifest.jsonl"

[[stages]]
name = "edit"
run = "python -m headlab.scripts.bench.grid . --edit models/{data}-{fitter}-{encoder} {target} {source} edited/{cell}"
makes = "edited/{cell}"

[measure]
run = "headlab evaluate images photos/targets edited/{cell} -o reports/{cell}"
report = "reports/{cell}/report.json"
smaller_is_better = ["β drift"]
[measure.metrics]
"CSIM" = "csim"
"β drift" = "beta_drift_mm"
"PSNR" = "psnr"
"""
_FAST = "--files small --no-photometric --texture-size 256 --no-gallery"
_TRAIN = "--size 64 --channels 32 --steps 10 --batch 4 --cpu"


@dataclass(frozen=True)
class Args:
    """Prepare, and run, the comparison."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder to work in; a run that was stopped goes on there."""
    run: bool = False
    """Run it."""
    few: int = 6
    """Photos of the smaller training set."""
    more: int = 12
    """Photos of the larger one."""
    targets: int = 3
    """Photos to edit."""
    edit: tuple[Path, str, str, Path] | None = None
    """One cell's edits: model, fitter of the targets, fitter of the source, folder to make."""


def main(args: Args) -> None:
    if args.edit is not None:
        edit(args.folder, *args.edit)
        return
    write_photos(args)
    text = _GRID.replace("FAST", _FAST).replace("TRAIN", _TRAIN)
    (args.folder / "grid.toml").write_text(text)
    if args.run:
        words = ("evaluate", "grid", str(args.folder / "grid.toml"), "-o", str(args.folder / "report"), "--overwrite")
        subprocess.run([sys.executable, "-m", "headlab.scripts.cli", *words], check=True)


def write_photos(args: Args) -> None:
    """Synthetic people: training photos, targets (neutral ones would do as well) and a source."""
    from ...datasets.synthetic import SyntheticConfig, SyntheticHeads
    from ...geometry.files import write_png
    from ...geometry.landmarks import open_detector
    from ...geometry.models.default import load_default_head

    heads = SyntheticHeads(load_default_head(), SyntheticConfig(size=192, seed=11, maps=False))
    start = 0
    with open_detector() as detector:
        for name, count in (("few", args.few), ("more", args.more), ("targets", args.targets), ("source", 1)):
            folder, found = args.folder / "photos" / name, 0
            folder.mkdir(parents=True, exist_ok=True)
            while found < count:
                image = heads.batch(range(start, start + 1)).images[0].float() / 255
                start += 1
                if detector.detect(image):  # some look far away or wear what hides them
                    write_png(folder / f"{name}{found:03d}.png", image)
                    found += 1


def edit(folder: Path, model: Path, target: str, source: str, out: Path) -> None:
    """Give every target the source's expression."""
    import os
    import shutil

    from ..transfer import Transfer

    work = out.with_name(f".{out.name}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    sources = sorted((folder / f"fits/source-{source}").glob("*/head.npz"))
    for fit in sorted((folder / f"fits/targets-{target}").glob("*/head.npz")):
        photo = next((folder / "photos/targets").glob(f"{fit.parent.name}*"))
        one = work / f".{fit.parent.name}"
        Transfer(
            source=tuple(str(path) for path in sources),
            target=fit,
            photo=photo,
            out=one,
            renderer="diffusion",
            model=f"diffusionrig:{folder / model / 'weights/model.pt'}",
            steps=4,
        ).run()
        os.replace(one / "edited.png", work / f"{photo.stem}.png")
        shutil.rmtree(one)
    os.replace(work, out)


if __name__ == "__main__":
    main(tyro.cli(Args))
