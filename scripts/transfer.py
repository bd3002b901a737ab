"""`headlab transfer`: the expression of A on the person in photo B."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


@dataclass(frozen=True)
class Transfer:
    """Put expressions on the person in a photo: identity, hair and background stay."""

    source: tuple[str, ...]
    """Where expressions come from; several make a strip. Each a photo, a head.npz or result folder of an earlier fit,
    a slider file (JSON: ARKit action -> weight), one of neutral, happy, sad, surprise, fear, disgust, anger, contempt,
    or a point va:VALENCE,AROUSAL, each from -1 to 1."""
    target: Path
    """Photo to edit, or the head.npz or result folder of its earlier fit."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the results; made if need be."""
    renderer: Literal["mesh"] = "mesh"
    """What makes the pictures: the photo warped by the mesh, and the textured model where the photo shows nothing."""
    strength: float = 1.0
    """0 keeps the target's expression, 1 takes the source's, more exaggerates."""
    jaw: bool = True
    """Take the jaw: its joint and its actions."""
    eyes: bool = False
    """Take the gaze."""
    pose: bool = False
    """Take the rotation of head and neck. Hair and shoulders follow as the picture allows: for small turns."""
    light: bool = False
    """Take the light on the head; the background keeps its own."""
    photo: Path | None = None
    """The target's photo, where --target is an earlier fit and the photo is not beside it."""
    model: str = "default"
    """Head model for photos fitted now; sources must be of the target's."""
    face: int = 0
    """Which face of each photo: 0 the largest, 1 the next."""
    texture_size: int = 1024
    """Side of the texture of a target fitted now, pixels."""
    landmarks: Literal["auto", "solutions", "tasks"] = "auto"
    """Which MediaPipe finds the landmarks."""
    overwrite: bool = False
    """Write into a folder that already holds files."""

    def run(self) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        from ..geometry.errors import HeadlabError
        from ..heads.output_folder import check_output

        if not self.source:
            raise HeadlabError("no source given; name a photo, a fit, a slider file, a category or va:0.6,0.4")
        if not 0 <= self.strength <= 3:
            raise HeadlabError(f"--strength is from 0 to 3, not {self.strength:g}")
        check_output(self.out, self.overwrite)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("starting", total=None)
            report = transfer_command(self, lambda stage: bar.update(task, description=stage))
        print(f"{self.out}: {', '.join(report['sources'])} on {report['target']}, {report['seconds']['total']:.1f} s")
        print(f"open {self.out / 'strip.png'}")


def transfer_command(options: Transfer, progress=lambda stage: None) -> dict[str, Any]:
    """What `headlab transfer` does; returns the report.

    Writes edited.png (edited_2.png, ... for further sources) at the photo's size, strip.png, head.npz with a code per
    source, and report.json.

    Raises:
        HeadlabError: unreadable input, no face, models that differ, an output folder in the way.
    """
    import time

    from ..geometry.files import write_json, write_png
    from ..geometry.landmarks import open_detector
    from ..heads.assets import find_asset
    from ..heads.fit import FitConfig
    from ..heads.head_fit import HeadFit
    from ..heads.output_folder import output_folder
    from ..heads.transfer import TransferConfig, transfer
    from ..heads.transfer_source import Workshop, fit_in, read_head, read_source

    start = time.perf_counter()
    fitted = fit_in(options.target)
    # The target's model is everyone's.
    name = options.model if fitted is None else HeadFit.load(fitted).model
    config = TransferConfig(options.strength, options.jaw, options.eyes, options.pose, options.light)
    with open_detector(options.landmarks, find_asset("face_landmarker")) as detector:
        workshop = Workshop(name, detector, FitConfig(face=options.face), options.texture_size, progress)
        progress("target")
        target = read_head(options.target, workshop, options.photo)
        sources = []
        for text in options.source:
            progress(f"source {text}")
            sources.append(read_source(text, workshop))
    ready = time.perf_counter()
    progress("transfer")
    pictures, heads = transfer(workshop.model, sources, target, config)
    done = time.perf_counter()
    report = {
        "target": str(options.target),
        "sources": [source.name for source in sources],
        "renderer": options.renderer,
        "model": name,
        "license": workshop.model.license.name,
        "commercial_use": workshop.model.license.commercial,
        "taken": {key: getattr(options, key) for key in ("strength", "jaw", "eyes", "pose", "light")},
        "seconds": {"fit": round(ready - start, 3), "transfer": round(done - ready, 3)},
    }
    progress("writing")
    with output_folder(options.out, options.overwrite) as folder:
        for i, picture in enumerate(pictures):
            write_png(folder / ("edited.png" if i == 0 else f"edited_{i + 1}.png"), picture)
        write_png(folder / "strip.png", strip(workshop.model, target, sources, pictures))
        heads.save(folder / "head.npz")
        report["seconds"]["total"] = round(time.perf_counter() - start, 3)
        write_json(folder / "report.json", report)
    return report


def strip(model, target, sources, pictures, side: int = 384):
    """The target, and beside it each source above its result; squares around the heads.

    Args:
        model: head model.
        target: `PhotoHead` of the target.
        sources: a `Source` each; those that are an expression alone show it on the mean head.
        pictures: the edited photos, as many.
        side: of each square, pixels.
    """
    import torch

    from ..geometry.camera import Camera
    from ..viewers.pictures import render_head

    white = torch.ones(3, side, side)
    columns = [torch.cat([white, _square(target.frame.image, target.camera, model.vertices(target.code), side)], 1)]
    for source, picture in zip(sources, pictures, strict=True):
        if source.head is not None:
            head = source.head
            above = _square(head.frame.image, head.camera, model.vertices(head.code), side)
        else:
            vertices = model.vertices(model.neutral())
            extent = float((vertices.amax(0) - vertices.amin(0)).max())
            camera = Camera.frontal(0.85 * side * 5, (side, side))
            middle = (vertices.amax(0) + vertices.amin(0)) / 2
            away = -middle + torch.tensor([0.0, 0.0, -5 * extent])
            code = model.neutral().with_(expression=source.expression, translation=away)
            clay = render_head(model, code, camera, None)
            above = clay[:3] + 1 - clay[3:]
        below = _square(picture, target.camera, model.vertices(target.code), side)
        columns.append(torch.cat([above, below], 1))
    return torch.cat(columns, 2).clamp(0, 1)


def _square(image, camera, vertices, side: int):
    """A square of the photo around a head; white beyond the photo."""
    import torch
    from torch.nn.functional import interpolate, pad

    pixels = camera.project(vertices)
    low, high = pixels.amin(0), pixels.amax(0)
    middle, half = ((low + high) / 2).tolist(), 0.56 * float((high - low).max())
    left, top = round(middle[0] - half), round(middle[1] - half)
    size = max(2, round(2 * half))
    height, width = image.shape[-2:]
    inside = image[:, max(0, top) : max(0, top + size), max(0, left) : max(0, left + size)]
    if inside.numel() == 0:
        return torch.ones(3, side, side)
    margins = (max(0, -left), max(0, left + size - width), max(0, -top), max(0, top + size - height))
    return interpolate(
        pad(inside, margins, value=1.0)[None], (side, side), mode="bilinear", antialias=True, align_corners=False
    )[0].clamp(0, 1)
