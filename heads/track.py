"""track_video: one person through a video -> one identity and texture, a code per frame.

read ahead ──> follow the face ──> identity from frames that differ ──> (photometric) ──> pose and ψ of every frame
           ──> interpolate frames without a face ──> smooth ──> texture from the best frames
"""

import time as clock
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..datasets.video import FrameSource, read_ahead
from ..geometry.camera import Camera
from ..geometry.code import HeadCode
from ..geometry.errors import NoFaceError
from ..geometry.fitting.landmark_fit import LandmarkFit, LandmarkFitConfig, fit_landmarks
from ..geometry.fitting.photometric import PhotometricConfig, refine_photometric
from ..geometry.frame import Frame
from ..geometry.landmarks import FaceLandmarks
from ..geometry.regress.identity_net import load_identity_embedder
from .fit import FitTools, build_texture
from .head_fit import HeadFit
from .track_follow import FaceFollower, FollowConfig, VideoDetector
from .track_people import FaceEmbedder
from .track_solve import (
    SmoothConfig,
    fill_codes,
    jitter,
    landmark_errors,
    smooth_codes,
    solve_frames,
    spread_frames,
    still_frames,
)

#: Called with the stage and the number of frames done in it.
TrackProgress = Callable[[str, int], None]


@dataclass(frozen=True)
class TrackConfig:
    """How to track."""

    focal: float | None = None  #: focal length in pixels; None: from the first picture's EXIF, or else fitted
    identity_frames: int = 14  #: frames the identity is solved from
    texture_frames: int = 4  #: frames that give the texture
    photometric: bool = False  #: refine identity and colour by the pixels of the texture frames
    follow: FollowConfig = field(default_factory=FollowConfig)
    smooth: SmoothConfig = field(default_factory=SmoothConfig)
    landmarks: LandmarkFitConfig = field(default_factory=LandmarkFitConfig)
    pixels: PhotometricConfig = field(default_factory=PhotometricConfig)


@dataclass(frozen=True, eq=False)
class Track:
    """One person through a video."""

    head: HeadFit  #: codes and cameras of all frames
    raw: HeadCode  #: before smoothing
    times: Float[np.ndarray, "frames"]  #: seconds since the first frame
    seen: Bool[np.ndarray, "frames"]  #: False where the face was not found and the code is interpolated
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Followed:
    """The landmarks of one person through a video."""

    names: tuple[str, ...]
    times: Float[np.ndarray, "frames"]
    faces: tuple[FaceLandmarks | None, ...]

    @property
    def seen(self) -> Bool[np.ndarray, "frames"]:
        return np.array([face is not None for face in self.faces], bool)

    @property
    def points(self) -> Float[Tensor, "seen 478 2"]:
        return torch.stack([face.points for face in self.faces if face is not None])


def follow_video(
    source: FrameSource,
    detector: VideoDetector,
    config: FollowConfig | None = None,
    progress: TrackProgress = lambda stage, done: None,
    warn: Callable[[str], None] = lambda message: None,
    embedder: FaceEmbedder | None = None,
) -> Followed:
    """Find the person's landmarks in every frame; decoding runs ahead in a thread.

    Args:
        source: the video.
        detector: landmark network with `follow` and `glance`.
        config: see `FollowConfig`.
        progress: called as work goes on.
        warn: called with one line about what was odd.
        embedder: tells persons apart where they meet; the one that comes with the package where None.

    Raises:
        NoFaceError: no frame shows a face.
    """
    follower = FaceFollower(detector, config, embedder or load_identity_embedder())
    names: list[str] = []
    times: list[float] = []
    faces: list[FaceLandmarks | None] = []
    for frame in read_ahead(source.frames(warn)):
        faces.append(follower.next(frame.pixels, frame.time))
        names.append(frame.name)
        times.append(frame.time)
        progress("following the face", len(faces))
    if not any(face is not None for face in faces):
        raise NoFaceError(
            f"{source.path}: no face found in any of {len(faces)} frames; use a video in which a face is at least "
            "20 pixels wide"
        )
    if follower.others_seen:
        warn(f"{source.path}: other faces in at least {follower.others_seen} frames; the first person was followed")
    return Followed(tuple(names), np.array(times), tuple(faces))


def track_video(
    tools: FitTools,
    source: FrameSource,
    detector: VideoDetector,
    config: TrackConfig | None = None,
    progress: TrackProgress = lambda stage, done: None,
) -> Track:
    """Track one person through a video.

    Args:
        tools: prepared head model.
        source: the video, see `open_frames`.
        detector: landmark network with `follow` and `glance`.
        config: see `TrackConfig`.
        progress: called as work goes on.

    Raises:
        NoFaceError: no frame shows a face.
        HeadlabError: frames differ in size, or are too many.
    """
    config = config or TrackConfig()
    warnings: list[str] = []
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        progress(name, 0)
        began = clock.perf_counter()
        yield
        seconds[name] = round(clock.perf_counter() - began, 4)

    with stage("landmarks"):
        followed = follow_video(source, detector, config.follow, progress, warnings.append)
    points, seen, times = followed.points, followed.seen, followed.times
    with stage("identity"):
        start, keys = _identity(tools, points, source, config)
    albedo_code, light = None, None
    if config.photometric and tools.albedo is not None:
        with stage("photometric"):
            start, albedo_code, light = _refined(tools, start, keys, points, followed, source, config)
    with stage("frames"):
        solved, raw_errors = solve_frames(
            tools.basis, points, source.size, start, config.landmarks, lambda i: progress("frames", i)
        )
    with stage("smoothing"):
        # Fitting is in double precision where the model is; results are not.
        raw = fill_codes(solved.to(dtype=torch.float32), times, seen)
        frames = len(times)
        if albedo_code is not None and light is not None:
            raw = raw.with_(albedo=albedo_code.expand(frames, -1), light=light.expand(frames, -1, -1))
        codes = smooth_codes(tools.model, raw, times, config.smooth)
        focal = float(start.cameras[0].K[0, 0])
        cameras = (Camera.frontal(focal, source.size),) * frames
        visible = np.flatnonzero(seen)
        errors = landmark_errors(
            tools.basis, codes[torch.from_numpy(visible)], cameras[: len(visible)], points, config.landmarks
        )
    albedo = None
    if tools.uv_raster is not None:
        with stage("texture"):
            best = _best_frames(points, errors, config.texture_frames)
            pictures = _pictures(source, [int(visible[i]) for i in best])
            index = torch.from_numpy(visible[best])
            albedo = build_texture(tools, codes[index], cameras[: len(best)], pictures)
    report = _report(tools, source, followed, config, focal, errors, raw_errors, codes, raw, seconds)
    report["warnings"] = warnings
    report["skipped"] = [reason for reason in tools.skipped if config.photometric or reason.startswith("texture")]
    head = HeadFit(tools.name, codes, cameras, albedo, followed.names, report)
    return Track(head, raw, times, seen, tuple(warnings))


def _identity(
    tools: FitTools, points: Float[Tensor, "seen 478 2"], source: FrameSource, config: TrackConfig
) -> tuple[LandmarkFit, list[int]]:
    """One person's shape and focal length from frames that differ, and which frames (of those with a face)."""
    keys = spread_frames(points, config.identity_frames)
    focal = config.focal or source.focal
    fit = fit_landmarks(
        tools.basis,
        points[keys],
        [source.size] * len(keys),
        focal=None if focal is None else [focal] * len(keys),
        config=replace(config.landmarks, shared_focal=True),
    )
    return fit, keys


def _refined(
    tools: FitTools,
    start: LandmarkFit,
    keys: list[int],
    points: Float[Tensor, "seen 478 2"],
    followed: Followed,
    source: FrameSource,
    config: TrackConfig,
) -> tuple[LandmarkFit, Tensor, Tensor]:
    """The identity refined by the pixels of a few of its frames, the albedo code, and the mean light."""
    chosen = _best_frames(points[keys], np.array(start.report.nme), config.texture_frames)
    frames = [int(np.flatnonzero(followed.seen)[keys[i]]) for i in chosen]
    images = [picture.image for picture in _pictures(source, frames)]
    index = torch.tensor(chosen)
    codes = start.codes[index].to(dtype=torch.float32)
    cameras = tuple(start.cameras[i].to(dtype=torch.float32) for i in chosen)
    marks = points[[keys[i] for i in chosen]]
    assert tools.albedo is not None
    pixels = refine_photometric(tools.model, tools.albedo, codes, cameras, images, marks, config.pixels)
    assert pixels.codes.albedo is not None and pixels.codes.light is not None
    shape = pixels.codes.shape[:1].to(start.codes.shape).expand_as(start.codes.shape)
    return (
        replace(start, codes=start.codes.with_(shape=shape)),
        pixels.codes.albedo[:1],
        pixels.codes.light.mean(0)[None],
    )


def _best_frames(points: Float[Tensor, "frames 478 2"], errors: Float[np.ndarray, "frames"], count: int) -> list[int]:
    """Frames for the texture, without the worst: the frontal one of least error, then those most unlike it."""
    good = np.flatnonzero(errors <= np.quantile(errors, 0.7) + 1e-12)
    marks = points[torch.from_numpy(good)]
    right, left, nose = marks[:, 33], marks[:, 263], marks[:, 1]
    width = (left - right).norm(dim=-1).clamp(min=1e-6)
    lopsided = (((nose - right).norm(dim=-1) - (nose - left).norm(dim=-1)) / width).abs().numpy()
    chosen = spread_frames(marks, count, trust=-(lopsided + 10 * errors[good]))
    return [int(good[i]) for i in chosen]


def _pictures(source: FrameSource, wanted: Sequence[int]) -> list[Frame]:
    """Some frames of the video, read again, in the order wanted."""
    found: dict[int, Frame] = {}
    for frame in source.frames():
        if frame.index in wanted:
            image = torch.from_numpy(frame.pixels).permute(2, 0, 1).float() / 255
            found[frame.index] = Frame(image, time=frame.time)
            if len(found) == len(set(wanted)):
                break
    return [found[i] for i in wanted]


def _report(
    tools: FitTools,
    source: FrameSource,
    followed: Followed,
    config: TrackConfig,
    focal: float,
    errors: Float[np.ndarray, "seen"],
    raw_errors: Float[np.ndarray, "seen"],
    codes: HeadCode,
    raw: HeadCode,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """What was done and how well, for report.json."""
    seen, times = followed.seen, followed.times
    per_frame = np.full(len(seen), np.nan)
    per_frame[seen] = errors
    still = still_frames(raw, times) & seen
    work = sum(seconds[name] for name in ("landmarks", "identity", "frames", "smoothing"))
    origin = "option" if config.focal else "EXIF" if source.focal else "fitted"
    return {
        "model": tools.name,
        "license": tools.model.license.name,
        "commercial_use": tools.model.license.commercial,
        "landmark_nme": round(float(errors.mean()), 5),
        "landmark_nme_unsmoothed": round(float(raw_errors.mean()), 5),
        "jitter_mm": round(jitter(tools.model, codes, still), 4),
        "jitter_mm_unsmoothed": round(jitter(tools.model, raw, still), 4),
        "still_frames": int(still.sum()),
        "frames": len(seen),
        "frames_without_face": int((~seen).sum()),
        "interpolated": np.flatnonzero(~seen).tolist(),
        "times": [round(float(t), 5) for t in times],
        "frame_nme": [None if np.isnan(e) else round(float(e), 5) for e in per_frame],
        "size": list(source.size),
        "rate": round(float(source.rate), 4),
        "focal_pixels": round(focal, 1),
        "focal_from": origin,
        "smoothing": {"method": config.smooth.method, "strength": float(config.smooth.strength)},
        "seconds": seconds,
        "frames_per_second": round(len(seen) / max(work, 1e-9), 1),
        "versions": {name: version(name) for name in ("headlab", "torch", "mediapipe", "numpy", "av")},
    }
