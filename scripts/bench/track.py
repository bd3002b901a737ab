"""Bars of `headlab track` on a video or folder of frames: error, jitter, speed, one identity.

OMP_WAIT_POLICY=PASSIVE OPENBLAS_NUM_THREADS=1 python -m headlab.scripts.bench.track FRAMES [--reference NPZ]
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro


@dataclass(frozen=True)
class Args:
    video: Annotated[Path, tyro.conf.Positional]
    """Video or folder of frames."""
    reference: Path | None = None
    """mediapipe_reference.npz with the landmarks of the same frames, under `<folder>/<file>`."""
    rate: float = 25.0
    """Frames per second of a folder."""
    repeat: int = 3
    """Runs; the fastest counts, since other work may share the machine."""
    strengths: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Strengths of smoothing to compare."""


def main(args: Args) -> dict:
    from ...datasets.video import open_frames
    from ...geometry.landmarks import open_detector
    from ...heads.fit import FitTools
    from ...heads.models import load_model
    from ...heads.track import Track, TrackConfig, track_video
    from ...heads.track_follow import VideoDetector
    from ...heads.track_solve import SmoothConfig, jitter, landmark_errors, smooth_codes, still_frames

    tools = FitTools.build("default", load_model("default"))
    source = open_frames(args.video, rate=args.rate)
    runs: list[dict[str, float]] = []
    track: Track | None = None
    with open_detector() as detector:
        assert isinstance(detector, VideoDetector)
        for _ in range(args.repeat):
            wall, cpu = time.perf_counter(), time.process_time()
            track = track_video(tools, source, detector)
            seconds = track.head.report["seconds"]
            runs.append(
                {
                    "wall": time.perf_counter() - wall - seconds["texture"],
                    "cpu": time.process_time() - cpu,
                    **seconds,
                }
            )
    assert track is not None
    best = min(runs, key=lambda run: run["wall"])
    frames, codes, shape = len(track.times), track.head.codes, track.head.codes.shape
    result = {
        "frames": frames,
        "frames_per_second": frames / best["wall"],
        "cpu_ms_per_frame_with_texture": 1000 * best["cpu"] / frames,
        "seconds": best,
        "one_identity": bool((shape == shape[0]).all()),
        "nme": track.head.report["landmark_nme"],
        "nme_unsmoothed": track.head.report["landmark_nme_unsmoothed"],
    }
    still = still_frames(track.raw, track.times) & track.seen
    result["still_frames"] = int(still.sum())
    result["jitter_mm_unsmoothed"] = jitter(tools.model, track.raw, still)
    config = TrackConfig().landmarks
    points = None
    if args.reference is not None:
        points = _reference(args, track.head.sources, source.size)
        errors = landmark_errors(tools.basis, codes, track.head.cameras, points, config)
        result["nme_to_reference"], result["worst_to_reference"] = float(errors.mean()), float(errors.max())
    methods = [SmoothConfig(strength=strength) for strength in args.strengths] + [SmoothConfig("one-euro")]
    for smooth in methods:
        calm = smooth_codes(tools.model, track.raw, track.times, smooth)
        row = {"jitter_mm": jitter(tools.model, calm, still)}
        if points is not None:
            row["nme_to_reference"] = float(
                landmark_errors(tools.basis, calm, track.head.cameras, points, config).mean()
            )
        result[f"{smooth.method} {smooth.strength:g}"] = row
    return result


def _reference(args: Args, sources: tuple[str, ...], size: tuple[int, int]) -> torch.Tensor:
    assert args.reference is not None
    with np.load(args.reference) as file:
        names = file["files"].tolist()
        rows = [names.index(f"{args.video.name}/{source}") for source in sources]
        points = file["landmarks"][rows][..., :2] * np.array([size[1], size[0]], np.float32)
    return torch.from_numpy(points)


if __name__ == "__main__":
    print(json.dumps(main(tyro.cli(Args)), indent=2))
