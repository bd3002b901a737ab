"""`headlab fit`: photos of one person -> a textured, riggable head and pictures of it; or a scan -> a neural head."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from ..geometry.models.head_model import HeadModel
    from ..heads.head_fit import HeadFit

#: Sides of textures, pixels.
SMALLEST_TEXTURE, LARGEST_TEXTURE = 64, 8192


@dataclass(frozen=True)
class Fit:
    """Fit a 3D head to one photo, to several photos of one person, or (--method nphm) to a scan."""

    photos: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files. Several photos share identity and texture; each keeps its own expression, pose and light. With
    --method nphm one scan: a mesh, a cloud of points, or a depth map."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the results; made if need be."""
    rgbd: Path | None = None
    """Instead of photos, an RGB-D capture: a folder of colour and 16-bit depth pictures, or an .r3d, .bag or .mkv."""
    frames: int = 4
    """Of an RGB-D capture: views that are fitted and give the texture (front, left, right, up, then others)."""
    depth_scale: float | None = None
    """Of an RGB-D capture: metres per count of its depth pictures; 0.001 where the files do not tell."""
    hair: str = "none"
    """Hair put on the head: none, a style (buzz, short, quiff, fringe, bob, long, curly, afro, bun; or one of yours in
    the assets folder's hair/), or a style's .json file."""
    model: str | None = None
    """Head model: default, flame2020, flame2023 or ict (`headlab assets list`); DECA and EMOCA use flame2020."""
    method: Literal["optimise", "auto", "regress", "deca", "emoca", "nphm"] = "optimise"
    """Fit by optimisation; read the default head off by the bundled network alone (regress) or as a start for a shorter
    optimisation (auto); or read FLAME off by DECA's or EMOCA's networks (`headlab assets add`); or lay neural fields
    on a scan (nphm)."""
    fields: Path | None = None
    """Fields of --method nphm: a file or folder of `headlab train nphm`; the bundled ones where absent."""
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
        if self.method == "nphm":
            from .fit_neural import summary

            print(summary(self, report))
            return
        sources = self.photos if self.rgbd is None else (self.rgbd,)
        print(
            f"{self.out}: {', '.join(path.name for path in sources)} fitted with {report['model']}, "
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

    if options.method == "nphm":
        from .fit_neural import fit_neural

        return fit_neural(options, progress)
    # Before the slow imports: what is plainly wrong shall be said at once.
    if options.photos and options.rgbd is not None:
        raise HeadlabError("photos and --rgbd exclude each other; name photos, or one RGB-D capture")
    if options.rgbd is None and not options.photos:
        raise HeadlabError("no photo given; name at least one image file, or an RGB-D capture with --rgbd")
    if options.rgbd is not None and options.method != "optimise":
        raise HeadlabError(
            f"an RGB-D capture is not fitted by --method {options.method}, only by optimise; leave it out"
        )
    if not SMALLEST_TEXTURE <= options.texture_size <= LARGEST_TEXTURE:
        raise HeadlabError(
            f"a texture of {options.texture_size} pixels a side cannot be made; "
            f"--texture-size takes {SMALLEST_TEXTURE} to {LARGEST_TEXTURE}"
        )
    check_output(options.out, options.overwrite)
    if options.hair != "none":
        from ..heads.completion.hair_styles import find_style

        find_style(options.hair)
    if options.rgbd is not None:
        from .fit_rgbd import fit_capture

        return fit_capture(options, progress)

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
    head, model = with_hair(head, tools.model, options.hair)
    with output_folder(options.out, options.overwrite) as folder:
        return write_fit(head, model, frames, folder, start)


def with_hair(head: "HeadFit", model: "HeadModel", hair: str) -> "tuple[HeadFit, HeadModel]":
    """The fit and its model with hair of a style on them; as they are where it is "none"."""
    if hair == "none":
        return head, model
    from ..heads.completion import dressed, find_style

    model, albedo = dressed(model, head.codes[0], head.albedo, find_style(hair))
    return replace(head, albedo=albedo, report={**head.report, "hair": hair}), model
