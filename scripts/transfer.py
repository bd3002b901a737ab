"""`headlab transfer`: the expression of A on the person in photo B."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


@dataclass(frozen=True)
class Transfer:
    """Put expressions on the person in a photo: identity, hair and background stay."""

    source: tuple[str, ...]
    """Where expressions come from; several make a strip. Each a photo, a head.npz or result folder of an earlier fit,
    a slider file (JSON: ARKit action -> weight), one of neutral, happy, sad, surprise, fear, disgust, anger, contempt,
    or a point va:VALENCE,AROUSAL, each from -1 to 1. Or videos (also folders of frames, or what `headlab track` wrote):
    each frame's expression is put on the target, into edited.mp4."""
    target: Path
    """Photo to edit, or the head.npz or result folder of its earlier fit. Or an RGB-D capture, rgbd:FOLDER with colour,
    depth and intrinsics (see --frame): its depth is edited, too, and a head is fitted to the edited points."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the results; made if need be."""
    renderer: Literal["auto", "mesh", "diffusion"] = "auto"
    """What makes the pictures. mesh: the photo warped by the mesh, and the textured model where the photo shows
    nothing. diffusion: latent diffusion under renders of the head, its changes put into the photo. auto: diffusion
    where it sees the face as finely as the photo does, or knows the person (--model), else mesh; report.json tells."""
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
    """Head model for photos fitted now (sources must be of the target's); or the folder of a diffusion model, such as
    `headlab personalize` writes; or diffusionrig:PATH, a checkpoint of DiffusionRig (diffusionrig: the added one)."""
    only: Literal["light", "expression", "pose"] | None = None
    """Take this alone from the source, as DiffusionRig's modes do; in place of --jaw, --eyes, --pose and --light."""
    depth: Path | None = None
    """Depth of the target's photo, registered to it: 16-bit PNG, millimetres, 0 = none. Edited with the colour."""
    frame: str | None = None
    """Of an RGB-D target: which picture, as PERSON/NAME or NAME; the first where not given."""
    ply: bool = False
    """Write the edited colour and depth as a mesh (edited.ply), too; --depth implies it."""
    steps: int = 20
    """Of the diffusion, 1 to 1000."""
    guidance: float = 1.0
    """Of the diffusion: above 1 it stresses the wanted expression."""
    fresh: bool = False
    """Start the diffusion from fresh noise and show it the photo, instead of from the photo's own noise (inversion)."""
    seed: int = 0
    """Of the fresh noise."""
    text: str | None = None
    """Words for the diffusion, where its model takes text and CLIP has been added."""
    face: int = 0
    """Which face of each photo: 0 the largest, 1 the next."""
    texture_size: int = 1024
    """Side of the texture of a target fitted now, pixels."""
    video_side: int = 1280
    """Of videos: a target photo with a longer side is made smaller, pixels."""
    rate: float | None = None
    """Frames per second of a source that is a folder of frames (25 where not given)."""
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
        if not 1 <= self.steps <= 1000:
            raise HeadlabError(f"--steps is from 1 to 1000, not {self.steps}")
        if not 0 <= self.guidance <= 20:
            raise HeadlabError(f"--guidance is from 0 to 20, not {self.guidance:g}")
        check_output(self.out, self.overwrite)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("starting", total=None)
            report = transfer_command(self, lambda stage: bar.update(task, description=stage))
        print(f"{self.out}: {', '.join(report['sources'])} on {report['target']}, {report['seconds']['total']:.1f} s")
        print(f"renderer {report['renderer']}: {report['renderer_why']}")
        print(f"open {self.out / 'strip.png'}")


def transfer_command(options: Transfer, progress=lambda stage: None, kit=None) -> dict[str, Any]:
    """What `headlab transfer` does; returns the report.

    `kit` is what a batch keeps from one transfer to the next (`batch_transfer.Kit`): the workshop and its readers.

    Writes edited.png (edited_2.png, ... for further sources) at the photo's size, strip.png, head.npz with a code per
    source, and report.json; with depth also edited_depth.png and edited.ply.

    Raises:
        HeadlabError: unreadable input, no face, models that differ, an output folder in the way.
    """
    import time

    from ..geometry.errors import HeadlabError
    from ..geometry.files import write_json, write_png
    from ..heads.head_fit import HeadFit
    from ..heads.models import MODELS
    from ..heads.output_folder import output_folder
    from ..heads.transfer import TransferConfig, transfer
    from ..heads.transfer_diffusionrig import is_diffusionrig, only
    from ..heads.transfer_source import fit_in, with_depth
    from ..heads.transfer_video import is_video
    from .batch_transfer import Kit
    from .transfer_capture import is_capture, transfer_capture

    if is_capture(options.target):
        return transfer_capture(options, progress)
    if any(is_video(Path(text)) for text in options.source):
        from .transfer_video import transfer_videos

        return transfer_videos(options, progress)
    start = time.perf_counter()
    fitted = fit_in(options.target)
    bundle = None if options.model in MODELS or is_diffusionrig(options.model) else Path(options.model)
    if bundle is not None and not bundle.exists():
        raise HeadlabError(
            f"{options.model} is neither a head model ({', '.join(MODELS)}) nor the folder of a diffusion model"
        )
    # The target's model is everyone's.
    given = options.model if options.model in MODELS else "default"
    name = HeadFit.load(fitted).model if fitted is not None else given
    config = TransferConfig(options.strength, options.jaw, options.eyes, options.pose, options.light)
    config = config if options.only is None else only(config, options.only)
    with Kit.of(options, name, progress) if kit is None else kit.lent(name) as kit:
        workshop = kit.workshop
        progress("target")
        target = kit.head(options.target, options.photo)
        if options.depth is not None:
            target = with_depth(target, options.depth)
        sources = []
        for text in options.source:
            progress(f"source {text}")
            source = kit.source(text)
            # A name tells the networks of the whole expression; of a part of it, the renders alone do.
            sources.append(source if options.strength == 1 else replace(source, emotion=-1, feeling=None))
    ready = time.perf_counter()
    progress("transfer")
    renderer, choice, made = _renderer(options, bundle, kit, target, progress)
    pictures, heads = transfer(workshop.model, sources, target, config, renderer)
    done = time.perf_counter()
    report = {
        "target": str(options.target),
        "sources": [source.name for source in sources],
        "renderer": choice.renderer,
        "renderer_why": choice.why,
        "model": name,
        "license": workshop.model.license.name,
        "commercial_use": workshop.model.license.commercial,
        "taken": {key: getattr(config, key) for key in ("strength", "expression", "jaw", "eyes", "pose", "light")},
        "seconds": {"fit": round(ready - start, 3), "transfer": round(done - ready, 3)},
    }
    progress("writing")
    with output_folder(options.out, options.overwrite) as folder:
        for i, picture in enumerate(pictures):
            write_png(folder / ("edited.png" if i == 0 else f"edited_{i + 1}.png"), picture)
        for i, edited in enumerate(made if options.ply or options.depth else []):
            _write_depth(folder, "" if i == 0 else f"_{i + 1}", edited, target.camera)
        write_png(folder / "strip.png", strip(workshop.model, target, sources, pictures))
        heads.save(folder / "head.npz")
        report["seconds"]["total"] = round(time.perf_counter() - start, 3)
        write_json(folder / "report.json", report)
    return report


def _renderer(options: Transfer, bundle: Path | None, kit, target, progress):
    """The renderer for `transfer` (None: the mesh), why it was chosen, and the list that it fills."""
    from ..geometry.errors import HeadlabError
    from ..heads.transfer_diffusionrig import is_diffusionrig
    from ..heads.transfer_renderer import Choice

    needed = "--depth or --ply" if options.depth is not None or options.ply else "--text" if options.text else None
    if is_diffusionrig(options.model):
        return _rig_renderer(options, kit, target, progress, needed)
    if options.renderer == "mesh":
        if needed:
            raise HeadlabError(f"{needed} needs the diffusion renderer; leave out --renderer mesh")
        return None, Choice("mesh", "asked for"), []

    from ..diffusion.edit import EditConfig
    from ..heads.edit_photo import EditPhotoConfig
    from ..heads.transfer_renderer import choose_renderer, diffusion_renderer

    try:
        editor = kit.editor(bundle)
    except HeadlabError as error:
        if options.renderer == "diffusion" or bundle is not None or needed:
            raise
        return None, Choice("mesh", f"no diffusion model can be used: {error}"), []
    if options.renderer == "diffusion":
        choice = Choice("diffusion", "asked for")
    elif needed:
        choice = Choice("diffusion", f"{needed} needs it")
    else:
        choice = choose_renderer(kit.workshop.model, target, editor)
        if choice.renderer == "mesh":
            return None, choice, []
    text = None
    if options.text is not None:
        from ..diffusion.bundle import DEFAULT
        from ..diffusion.text import text_tokens

        if not editor.diffusion.config.denoiser.text:
            raise HeadlabError(f"the diffusion model {editor.name} was trained without text; leave out --text")
        text = text_tokens(bundle or DEFAULT, [options.text])
    config = EditConfig(
        steps=options.steps,
        guidance=options.guidance,
        start="noise" if options.fresh else "inversion",
        capture=options.fresh,
        seed=options.seed,
    )
    made = []
    settings = EditPhotoConfig(config, text=text)
    return diffusion_renderer(kit.workshop.model, target, editor, settings, made, progress), choice, made


def _rig_renderer(options: Transfer, kit, target, progress, needed: str | None):
    """DiffusionRig, which knows neither depth nor text."""
    from ..diffusion.upstream.diffusionrig_edit import RigEditConfig
    from ..geometry.errors import HeadlabError
    from ..heads.transfer_diffusionrig import diffusionrig_renderer, open_diffusionrig, rig_choice

    if needed or options.renderer == "mesh" or options.guidance != 1:
        what = needed or ("--guidance" if options.guidance != 1 else "--renderer mesh")
        raise HeadlabError(f"DiffusionRig takes no {what}; leave it out, or --model {options.model}")
    network = open_diffusionrig(options.model)
    config = RigEditConfig(options.steps, "noise" if options.fresh else "inversion", options.seed)
    made = []
    renderer = diffusionrig_renderer(kit.workshop.model, target, network, config, made, progress)
    return renderer, rig_choice(options.model), made


def _write_depth(folder: Path, suffix: str, edited, camera) -> None:
    """The edited depth as a picture, and with the colour as a mesh."""
    from ..datasets.depth_map import write_depth
    from ..geometry.errors import HeadlabError
    from ..heads.export.depth_ply import write_depth_ply

    if edited.depth is None:
        raise HeadlabError("this diffusion model knows colour alone; leave out --depth and --ply, or take an RGB-D one")
    write_depth(folder / f"edited_depth{suffix}.png", edited.depth)
    write_depth_ply(folder / f"edited{suffix}.ply", edited.image, edited.depth, camera)


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
