"""Every file of a fitted head: models, pictures, report, page."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..geometry.files import write_json, write_png
from ..geometry.frame import Frame
from ..geometry.models.head_model import HeadModel
from ..heads.export import write_glb, write_obj, write_ply
from ..heads.head_fit import HeadFit
from ..viewers.page import write_index_html
from ..viewers.pictures import overlay, render_head, turntable


def write_fit(
    head: HeadFit, model: HeadModel, frames: Sequence[Frame], folder: Path, started: float | None = None
) -> dict[str, Any]:
    """Write a fit's files into a folder (DESIGN: head.npz, .glb, .ply, .obj, pictures, report.json, index.html).

    The first photo gives head.ply, head.obj and the morph weights of head.glb; `overlay` and `render` are written for
    every photo, numbered from the second on.

    Args:
        head: the result of fitting.
        model: its head model.
        frames: the photos.
        folder: an existing folder.
        started: `time.perf_counter()` when the work began, for the report's total.

    Returns:
        The report as written.
    """
    began = time.perf_counter()
    code = head.codes[0]
    vertices = model.vertices(code.with_(rotation=code.rotation * 0, translation=code.translation * 0))
    if head.albedo is not None:
        write_png(folder / "albedo.png", head.albedo)
    write_glb(folder / "head.glb", model, code, head.albedo)
    write_ply(folder / "head.ply", model, vertices, head.albedo)
    write_obj(folder / "head.obj", model, vertices, texture="albedo.png" if head.albedo is not None else None)
    pictures: dict[str, Path] = {}
    for i, (camera, frame) in enumerate(zip(head.cameras, frames, strict=True)):
        suffix = "" if i == 0 else f"_{i + 1}"
        write_png(folder / f"render{suffix}.png", render_head(model, head.codes[i], camera, head.albedo)[:3])
        path = folder / f"overlay{suffix}.png"
        write_png(path, overlay(frame.image, model, head.codes[i], camera, head.albedo))
        pictures[f"{head.sources[i]}: photo, mesh, render"] = path
    write_png(folder / "turntable.png", turntable(model, code, head.albedo))
    pictures["Turntable"] = folder / "turntable.png"
    if head.albedo is not None:
        pictures["Texture"] = folder / "albedo.png"

    seconds = {**head.report["seconds"], "output": round(time.perf_counter() - began, 4)}
    seconds["total"] = round(time.perf_counter() - started, 4) if started is not None else sum(seconds.values())
    report = {**head.report, "seconds": seconds}
    replace(head, report=report).save(folder / "head.npz")
    write_json(folder / "report.json", report)
    write_index_html(folder / "index.html", folder / "head.glb", pictures, report, title=head.sources[0])
    return report
