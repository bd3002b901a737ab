"""What `headlab transfer` does where sources are videos."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .transfer import Transfer

#: Frames in a strip.
_SHOWN = 6


def transfer_videos(options: "Transfer", progress=lambda stage: None) -> dict[str, Any]:
    """Put the expressions of videos on a photo, frame by frame; returns the report.

    Writes edited.mp4 without sound, strip.png with some frames, head.npz with a code per frame (edited_2.mp4,
    strip_2.png, head_2.npz, ... for further videos), and report.json.

    Raises:
        HeadlabError: unreadable input, no face, stills among the sources, models that differ, another renderer.
    """
    from ..geometry.errors import HeadlabError
    from ..geometry.files import write_json
    from ..geometry.landmarks import open_detector
    from ..heads.assets import find_asset
    from ..heads.fit import FitConfig
    from ..heads.head_fit import HeadFit
    from ..heads.models import MODELS
    from ..heads.output_folder import output_folder
    from ..heads.transfer import TransferConfig
    from ..heads.transfer_source import EXPRESSIVE, Workshop, fit_in, read_head
    from ..heads.transfer_video import is_video, read_video_source, smaller

    stills = [text for text in options.source if not is_video(Path(text))]
    if stills:
        raise HeadlabError(f"{stills[0]} is no video, but other sources are; give videos or stills, not both at once")
    if options.renderer == "diffusion" or options.depth is not None or options.ply:
        raise HeadlabError(
            "videos are transferred by the mesh alone; leave out --renderer diffusion, --depth and --ply"
        )
    if options.video_side < 64:
        raise HeadlabError(f"--video-side is from 64 pixels on, not {options.video_side}")
    start = time.perf_counter()
    fitted = fit_in(options.target)
    if options.model not in MODELS:
        raise HeadlabError(
            f"{options.model} is no head model ({', '.join(MODELS)}), and videos take no diffusion model"
        )
    name = options.model if fitted is None else HeadFit.load(fitted).model
    config = TransferConfig(options.strength, options.jaw, options.eyes, options.pose, options.light)
    with open_detector(options.landmarks, find_asset("face_landmarker")) as detector:
        fit = FitConfig(face=options.face, landmarks=EXPRESSIVE)
        workshop = Workshop(name, detector, fit, options.texture_size, progress)
        progress("target")
        target = smaller(read_head(options.target, workshop, options.photo), options.video_side)
        ready = time.perf_counter()
        sources = []
        for text in options.source:
            show = lambda stage, done, text=text: progress(f"{text}: {stage}, {done} frames" if done else text)  # noqa: E731
            sources.append(read_video_source(Path(text), workshop, options.rate, show))
    tracked = time.perf_counter()
    with output_folder(options.out, options.overwrite) as folder:
        videos = []
        for i, source in enumerate(sources):
            suffix = "" if i == 0 else f"_{i + 1}"
            videos.append(_write(folder, suffix, workshop.model, source, target, config, progress))
        report = {
            "target": str(options.target),
            "sources": [source.name for source in sources],
            "renderer": "mesh",
            "renderer_why": "sources are videos",
            "model": name,
            "license": workshop.model.license.name,
            "commercial_use": workshop.model.license.commercial,
            "taken": {key: getattr(options, key) for key in ("strength", "jaw", "eyes", "pose", "light")},
            "videos": videos,
            "warnings": [warning for source in sources for warning in source.warnings],
            "seconds": {"fit": round(ready - start, 3), "track": round(tracked - ready, 3)},
        }
        report["seconds"]["transfer"] = round(sum(video["seconds"] for video in videos), 3)
        report["seconds"]["total"] = round(time.perf_counter() - start, 3)
        write_json(folder / "report.json", report)
    return report


def _write(folder: Path, suffix: str, model, source, target, config, progress) -> dict[str, Any]:
    """The files of one video; what the report says of it."""
    import numpy as np
    import torch

    from ..datasets.video import read_ahead, write_video
    from ..geometry.code import HeadCode
    from ..geometry.files import write_png
    from ..geometry.frame import Frame
    from ..heads.transfer_video import still, transfer_video
    from .transfer import strip

    codes: list[HeadCode] = []
    shown = source.shown(_SHOWN)
    kept = {}

    def pictures():
        for i, picture in enumerate(transfer_video(model, source, target, config, codes.append)):
            progress(f"{source.name}: {i + 1} of {len(source.times)} frames transferred")
            if i in shown:
                kept[i] = picture
            yield (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()

    began, worked = time.perf_counter(), time.process_time()
    # The next pictures are made while one is encoded.
    count = write_video(folder / f"edited{suffix}.mp4", read_ahead(pictures(), 2), source.rate, source.times)
    seconds, worked = time.perf_counter() - began, time.process_time() - worked
    found = {}
    if source.frames is not None:
        for frame in source.frames.frames():
            if frame.index in shown:
                found[frame.index] = Frame(torch.from_numpy(frame.pixels).permute(2, 0, 1).float() / 255)
            if len(found) == len(shown):
                break
    stills = [still(source, i, found.get(i)) for i in shown]
    write_png(folder / f"strip{suffix}.png", strip(model, target, stills, [kept[i] for i in shown]))
    fields = {name: torch.stack([code.arrays()[name] for code in codes]) for name in codes[0].arrays()}
    gaps = np.flatnonzero(~source.seen).tolist()
    times = [round(float(t), 5) for t in source.times]
    heads = replace(
        target.fit,
        codes=HeadCode(**fields),
        cameras=(target.camera,) * count,
        sources=source.heads.sources,
        report={**target.fit.report, "times": times, "interpolated": gaps},
    )
    heads.save(folder / f"head{suffix}.npz")
    return {
        "source": source.name,
        "frames": count,
        "frames_without_face": len(gaps),
        "interpolated": gaps,
        "rate": round(source.rate, 4),
        "times": times,
        "seconds": round(seconds, 3),
        "frames_per_second": round(count / max(seconds, 1e-9), 2),
        "processor_seconds_per_frame": round(worked / max(count, 1), 3),
    }
