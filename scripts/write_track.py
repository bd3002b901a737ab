"""Every file of a tracked head: parameters, animation, curves, videos, report."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch.nn.functional import interpolate as resize

from ..datasets.video import FrameSource, read_ahead, write_video
from ..geometry.code_formats import arkit_weights
from ..geometry.errors import HeadlabError
from ..geometry.files import write_json, write_png
from ..geometry.models.head_model import HeadModel
from ..heads.export import write_glb
from ..heads.export.animation import write_animated_glb
from ..heads.export.arkit_csv import write_arkit_csv
from ..heads.export.vhap import write_vhap
from ..heads.track import Track
from ..viewers.pictures import render_head

#: Longest side of a panel of the side-by-side video, pixels.
_PANEL = 512


def write_track(
    track: Track,
    model: HeadModel,
    source: FrameSource,
    folder: Path,
    began: float,
    *,
    video: bool = True,
    vhap: bool = True,
    progress=lambda stage, done: None,
) -> dict[str, Any]:
    """Write a track's files into a folder.

    track.npz (a `HeadFit` whose photos are the frames), track.glb (animated), head.glb (rigged, at rest), arkit.csv
    where ψ is made of ARKit's actions, albedo.png, report.json; side_by_side.mp4 and vhap/ if wanted.

    Args:
        track: the result of tracking.
        model: its head model.
        source: the video, read again for the pictures.
        folder: an existing folder.
        began: `time.perf_counter()` when the work began, for the report's total.

    Returns:
        The report as written.
    """
    started = time.perf_counter()
    head = track.head
    progress("writing", 0)
    if head.albedo is not None:
        write_png(folder / "albedo.png", head.albedo)
    write_glb(folder / "head.glb", model, head.codes[0], head.albedo)
    write_animated_glb(folder / "track.glb", model, head.codes, track.times, head.albedo, camera=head.cameras[0])
    if has_arkit(model, track):
        write_arkit_csv(folder / "arkit.csv", model, head.codes, track.times, source.rate)
    if vhap:
        progress("writing vhap", 0)
        pictures = (frame.pixels for frame in read_ahead(source.frames()))
        write_vhap(
            folder / "vhap", model, head.model, head.codes, head.cameras, track.times, track.seen.tolist(), pictures
        )
    if video:
        write_video(folder / "side_by_side.mp4", side_by_side(track, model, source, progress), source.rate, track.times)
    seconds = {**head.report["seconds"], "output": round(time.perf_counter() - started, 4)}
    seconds["total"] = round(time.perf_counter() - began, 4)
    report = {**head.report, "seconds": seconds}
    replace(head, report=report).save(folder / "track.npz")
    write_json(folder / "report.json", report)
    return report


def has_arkit(model: HeadModel, track: Track) -> bool:
    """Whether the track has ARKit curves to write."""
    try:
        arkit_weights(model, track.head.codes[:1])
    except HeadlabError:
        return False
    return True


def side_by_side(
    track: Track, model: HeadModel, source: FrameSource, progress=lambda stage, done: None
) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
    """Frame, mesh over the frame, textured render; a red bar under frames whose face was not found."""
    scale = min(1.0, _PANEL / max(source.size))
    camera = track.head.cameras[0].scaled(scale)
    for frame in read_ahead(source.frames()):
        i = frame.index
        photo = torch.from_numpy(frame.pixels).permute(2, 0, 1).float() / 255
        if scale < 1:
            photo = resize(photo[None], camera.size, mode="bilinear", antialias=True, align_corners=False)[0]
        code = track.head.codes[i]
        clay = render_head(model, replace(code, light=None), camera, None)
        textured = render_head(model, code, camera, track.head.albedo)[:3]
        mesh = photo * (1 - 0.75 * clay[3:]) + 0.75 * clay[:3]
        picture = torch.cat([photo, mesh, textured], 2).clamp(0, 1)
        if not track.seen[i]:
            picture[:, -max(4, picture.shape[1] // 64) :] = picture.new_tensor([0.9, 0.1, 0.1])[:, None, None]
        progress("drawing", i + 1)
        yield (picture * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
