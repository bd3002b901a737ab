"""What `headlab transfer` does where the target is an RGB-D capture."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..datasets.rgbd_selfie import SelfiePerson
    from ..heads.avatar import Avatar
    from ..heads.transfer import PhotoHead
    from .transfer import Transfer

_PREFIX = "rgbd:"
_RANGE = 0.25  #: of depths in the strip's pictures, metres


def is_capture(target: Path) -> bool:
    """Whether a target is `rgbd:FOLDER`, or a folder of captures that holds no fit."""
    from ..datasets.rgbd_selfie import is_selfies

    return str(target).startswith(_PREFIX) or (not (target / "head.npz").exists() and is_selfies(target))


def transfer_capture(options: "Transfer", progress=lambda stage: None) -> dict[str, Any]:
    """Capture and expression -> edited RGB-D -> point cloud -> fitted head; returns the report.

    Writes edited.png, edited_depth.png (16 bits, millimetres), edited.ply (mesh), cloud.ply (points of the head),
    head.npz, head.glb, head.obj and head.ply of the head fitted to them (edited_2.png, ... for further sources),
    strip.png and report.json.

    Raises:
        HeadlabError: unreadable captures, no face, no depth on it, an output folder in the way.
    """
    from ..datasets.rgbd_selfie import open_selfies
    from ..geometry.errors import HeadlabError
    from ..geometry.files import write_json, write_png
    from ..geometry.landmarks import open_detector
    from ..heads.assets import find_asset
    from ..heads.avatar import edit_capture
    from ..heads.fit import FitConfig
    from ..heads.models import MODELS
    from ..heads.output_folder import output_folder
    from ..heads.selfie_crops import fit_selfie
    from ..heads.transfer import TransferConfig, transferred_code
    from ..heads.transfer_renderer import load_editor
    from ..heads.transfer_source import EXPRESSIVE, Workshop, read_source

    if options.depth is not None or options.photo is not None:
        raise HeadlabError("an RGB-D capture brings its own colour and depth; leave out --depth and --photo")
    start = time.perf_counter()
    person, index = chosen(open_selfies(Path(str(options.target).removeprefix(_PREFIX))), options.frame)
    bundle = None if options.model in MODELS else Path(options.model)
    name = "default" if bundle else options.model
    config = TransferConfig(options.strength, options.jaw, options.eyes, options.pose, options.light)
    with open_detector(options.landmarks, find_asset("face_landmarker")) as detector:
        fit_config = FitConfig(face=options.face, landmarks=EXPRESSIVE)
        workshop = Workshop(name, detector, fit_config, options.texture_size, progress)
        progress("capture")
        target = fit_selfie(workshop.tools, person, index, detector, options.face)
        sources = [read_source(text, workshop) for text in options.source]
        if options.strength != 1:
            sources = [replace(source, emotion=-1, feeling=None) for source in sources]
        ready = time.perf_counter()
        editor = load_editor(bundle)
        renderer, why = _renderer(options, workshop.model, target, editor)
        diffusion = editor.diffusion if renderer == "diffusion" else None
        model, settings, made = workshop.model, _config(options), []
        for source in sources:
            code = transferred_code(model, source, target, config)
            made.append(edit_capture(model, diffusion, target, code, source, detector, settings, progress))
    done = time.perf_counter()
    report: dict[str, Any] = {
        "target": f"{person.name}/{person.frames[index]}",
        "sources": [source.name for source in sources],
        "renderer": renderer,
        "renderer_why": why,
        "model": name,
        "license": workshop.model.license.name,
        "commercial_use": workshop.model.license.commercial,
        "heads": [
            {"beta_drift_mm": avatar.beta_drift_mm, "landmarks": avatar.landmarks, "points": len(avatar.cloud.points)}
            | avatar.fit.report
            for avatar in made
        ],
        "seconds": {"fit": round(ready - start, 3), "transfer": round(done - ready, 3)},
    }
    progress("writing")
    with output_folder(options.out, options.overwrite) as folder:
        for i, avatar in enumerate(made):
            write_avatar(folder, "" if i == 0 else f"_{i + 1}", avatar, target, workshop.model)
        write_png(folder / "strip.png", strip(workshop.model, target, made))
        report["seconds"]["total"] = round(time.perf_counter() - start, 3)
        write_json(folder / "report.json", report)
    return report


def chosen(people: "list[SelfiePerson]", frame: str | None) -> "tuple[SelfiePerson, int]":
    """The person and the number of the frame that is called so; the first where no name is given.

    Raises:
        HeadlabError: none is, or several.
    """
    from ..geometry.errors import HeadlabError

    if frame is None:
        return people[0], 0
    found = [(p, i) for p in people for i, name in enumerate(p.frames) if frame in (name, f"{p.name}/{name}")]
    if len(found) != 1:
        some = ", ".join(f"{p.name}/{p.frames[0]}" for p in people[:3])
        raise HeadlabError(
            f"{len(found)} captures are called {frame}; name one such as {some} with --frame PERSON/NAME"
        )
    return found[0]


def _renderer(options: "Transfer", model, target: "PhotoHead", editor) -> tuple[str, str]:
    """What makes the colours, and why."""
    from ..heads.transfer_renderer import choose_renderer

    if options.renderer != "auto":
        return options.renderer, "asked for"
    if options.fresh:
        return "diffusion", "--fresh needs it"
    choice = choose_renderer(model, target, editor)
    return choice.renderer, choice.why


def _config(options: "Transfer"):
    from ..diffusion.edit import EditConfig
    from ..heads.avatar import AvatarConfig
    from ..heads.edit_photo import EditPhotoConfig

    edit = EditConfig(options.steps, "dpm++", guidance=options.guidance, start="noise", capture=True, seed=options.seed)
    return AvatarConfig(EditPhotoConfig(edit, depth="head"))


def write_avatar(folder: Path, suffix: str, avatar: "Avatar", target: "PhotoHead", model) -> None:
    """The files of one edited capture."""
    from ..datasets.depth_map import write_depth
    from ..geometry.files import write_png
    from ..heads.export import write_glb, write_obj, write_ply
    from ..heads.export.depth_ply import write_depth_ply, write_points

    head = avatar.head(target)
    code = head.codes[0]
    vertices = model.vertices(code)
    write_png(folder / f"edited{suffix}.png", avatar.image)
    write_depth(folder / f"edited_depth{suffix}.png", avatar.depth)
    write_depth_ply(folder / f"edited{suffix}.ply", avatar.image, avatar.depth, target.camera)
    write_points(folder / f"cloud{suffix}.ply", avatar.cloud.points, avatar.cloud.colors)
    head.save(folder / f"head{suffix}.npz")
    write_glb(folder / f"head{suffix}.glb", model, code, head.albedo)
    write_ply(folder / f"head{suffix}.ply", model, vertices, head.albedo)
    write_obj(folder / f"head{suffix}.obj", model, vertices)


def strip(model, target: "PhotoHead", made: "list[Avatar]", side: int = 320):
    """Capture and results in columns: colour, depth, and below results the head fitted to the points."""
    import torch

    from ..viewers.pictures import render_head
    from .transfer import _square

    vertices = model.vertices(target.code)
    seen = target.frame.depth
    assert seen is not None
    known = seen[seen > 0]
    near = float((target.camera.to_camera(vertices)[:, 2].amin() - 0.02).clamp(max=float(known.quantile(0.2))))

    def column(image, depth, code):
        grey = torch.where(depth > 0, (1 - (depth - near) / _RANGE).clamp(0.05, 1), 0.0).expand(3, -1, -1)
        drawn = render_head(model, code, target.camera, None)
        clay = drawn[:3] + (1 - drawn[3:])
        return torch.cat([_square(x, target.camera, vertices, side) for x in (image, grey, clay)], 1)

    columns = [column(target.frame.image, seen, made[0].before.code)]
    columns += [column(avatar.image, avatar.depth, avatar.fit.code) for avatar in made]
    return torch.cat(columns, 2).clamp(0, 1)
