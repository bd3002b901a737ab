"""`headlab fit`: photos of one person -> a textured, riggable head and pictures of it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

#: Sides of textures, pixels.
SMALLEST_TEXTURE, LARGEST_TEXTURE = 64, 8192


@dataclass(frozen=True)
class Fit:
    """Fit a 3D head to one photo, or to several photos of one person."""

    photos: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files. Several photos share identity and texture; each keeps its own expression, pose and light."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the results; made if need be."""
    model: str | None = None
    """Head model: default, flame2020, flame2023 or ict (`headlab assets list`); DECA and EMOCA use flame2020."""
    method: Literal["optimise", "auto", "regress", "deca", "emoca"] = "optimise"
    """Fit by optimisation; read the default head off by the bundled network alone (regress) or as a start for a shorter
    optimisation (auto); or read FLAME off by DECA's or EMOCA's networks (`headlab assets add`)."""
    face: int = 0
    """Which face of each photo: 0 the largest, 1 the next; report.json lists them."""
    focal: float | None = None
    """Focal length in pixels; read from EXIF or fitted where not given."""
    photometric: bool = True
    """Refine shape, light and colour by the photo's pixels after the landmarks."""
    texture_size: int = 1024
    """Side of the texture, pixels."""
    landmarks: Literal["auto", "solutions", "tasks"] = "auto"
    """Which MediaPipe finds the landmarks: the networks in its wheel, or face_landmarker.task."""
    overwrite: bool = False
    """Write into a folder that already holds files."""

    def run(self) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("starting", total=None)
            report = fit(self, lambda stage: bar.update(task, description=stage))
        print(
            f"{self.out}: {', '.join(path.name for path in self.photos)} fitted with {report['model']}, "
            f"landmark error {100 * report['landmark_nme']:.1f} % of the eye distance, "
            f"{report['seconds']['total']:.1f} s"
        )
        print(f"open {self.out / 'index.html'}")


def fit(options: Fit, progress=lambda stage: None) -> dict:
    """What `headlab fit` does; returns the report.

    Raises:
        HeadlabError: unreadable photos, no face, a missing model, an output folder in the way.
    """
    import time

    from ..geometry.errors import HeadlabError
    from ..heads.output_folder import check_output, output_folder

    # Before the slow imports: what is plainly wrong shall be said at once.
    if not options.photos:
        raise HeadlabError("no photo given; name at least one image file")
    if not SMALLEST_TEXTURE <= options.texture_size <= LARGEST_TEXTURE:
        raise HeadlabError(
            f"a texture of {options.texture_size} pixels a side cannot be made; "
            f"--texture-size takes {SMALLEST_TEXTURE} to {LARGEST_TEXTURE}"
        )
    check_output(options.out, options.overwrite)

    from ..datasets.photo import read_photo
    from ..geometry.landmarks import open_detector
    from ..heads.assets import find_asset
    from ..heads.fit import FitConfig, FitTools, fit_photos
    from ..heads.fit_regressed import METHODS, fit_regressed, load_networks
    from ..heads.models import load_model
    from .write_fit import write_fit

    start = time.perf_counter()
    progress("reading photos")
    frames = [read_photo(path) for path in options.photos]
    progress("loading the head model")
    name = options.model or ("flame2020" if options.method in METHODS else "default")
    tools = FitTools.build(name, load_model(name), options.texture_size)
    config = FitConfig(face=options.face, focal=options.focal, photometric=options.photometric)
    with open_detector(options.landmarks, find_asset("face_landmarker")) as detector:
        if options.method in METHODS:
            head = fit_regressed(tools, load_networks(options.method), frames, detector, config, progress)
        else:
            head = fit_photos(tools, frames, detector, replace(config, method=options.method), progress)
    progress("writing")
    with output_folder(options.out, options.overwrite) as folder:
        return write_fit(head, tools.model, frames, folder, start)
