"""Expression transfer from a video: every frame's expression on the person in one photo.

video, frames or an earlier track ──> codes of its frames ──> target's code with each ──> `Canvas`, prepared once
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..datasets.video import IMAGES, FrameSource, open_frames
from ..geometry.code import HeadCode
from ..geometry.errors import HeadlabError
from ..geometry.frame import Frame
from ..geometry.landmarks import FaceLandmarks
from ..geometry.models.head_model import HeadModel
from .head_fit import HeadFit
from .track import TrackConfig, track_video
from .track_follow import FollowConfig, VideoDetector
from .transfer import PhotoHead, Source, TransferConfig, check_models, prepare_canvas, transferred_code
from .transfer_source import EXPRESSIVE, Workshop

#: Endings of files that are taken for videos.
VIDEOS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".3gp", ".ts"}


@dataclass(frozen=True, eq=False)
class VideoSource:
    """One person through a video."""

    name: str
    heads: HeadFit  #: a code and a camera per frame
    times: Float[np.ndarray, "frames"]  #: seconds since the first frame
    seen: Bool[np.ndarray, "frames"]  #: False where the face was not found and the code is interpolated
    frames: FrameSource | None  #: the pictures; None where only the track is known
    warnings: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        """Mean frames per second."""
        if self.frames is not None:
            return float(self.frames.rate)
        return (len(self.times) - 1) / max(float(self.times[-1] - self.times[0]), 1e-6) if len(self.times) > 1 else 25.0

    def shown(self, count: int) -> list[int]:
        """Frames to show in a strip: spread evenly over those with a face."""
        found = np.flatnonzero(self.seen)
        return sorted({int(found[i]) for i in np.linspace(0, len(found) - 1, count).round().astype(int)})


def is_video(path: Path) -> bool:
    """Whether a source is one: a video file, a folder of frames, or a track (file, or folder that holds track.npz)."""
    if path.is_dir():
        if (path / "head.npz").is_file():
            return False
        return (path / "track.npz").is_file() or any(file.suffix.lower() in IMAGES for file in path.iterdir())
    if path.suffix.lower() == ".npz" and path.is_file():
        return path.name == "track.npz" or _is_track(HeadFit.load(path))
    return path.suffix.lower() in VIDEOS


def read_video_source(
    path: Path, workshop: Workshop, rate: float | None = None, progress: Callable[[str, int], None] = lambda s, n: None
) -> VideoSource:
    """Track a video, or read what was tracked earlier.

    Args:
        path: see `is_video`.
        workshop: for tracking.
        rate: frames per second of a folder of frames.
        progress: called with the stage and the number of frames done.

    Raises:
        NoFaceError: no frame shows a face.
        HeadlabError: nothing there, no pictures, damaged from the start, too long; the track is none.
    """
    tracked = path / "track.npz" if path.is_dir() else path
    if tracked.suffix.lower() == ".npz" and tracked.is_file():
        heads = HeadFit.load(tracked)
        if not _is_track(heads):
            raise HeadlabError(f"{tracked} is no track of a video; give the track.npz that `headlab track` writes")
        seen = np.ones(len(heads.cameras), bool)
        seen[heads.report["interpolated"]] = False
        name = (tracked.absolute().parent if tracked.name == "track.npz" else tracked).stem
        return VideoSource(name, heads, np.array(heads.report["times"], float), seen, None)
    if not isinstance(workshop.detector, VideoDetector):
        raise HeadlabError(f"the landmark network {workshop.detector.name} cannot follow a video; use --landmarks auto")
    source = open_frames(path, rate=rate)
    config = TrackConfig(landmarks=EXPRESSIVE, follow=FollowConfig(face=workshop.config.face))
    # The source's texture is of no use.
    tools = replace(workshop.tools, uv_raster=None, mirror=None)
    track = track_video(tools, source, workshop.detector, config, progress)
    return VideoSource(path.stem, track.head, track.times, track.seen, source, track.warnings)


def transfer_video(
    model: HeadModel,
    source: VideoSource,
    target: PhotoHead,
    config: TransferConfig | None = None,
    take: Callable[[HeadCode], None] = lambda code: None,
) -> Iterator[Float[Tensor, "3 height width"]]:
    """The target's photo with the expression of each frame, in order.

    Args:
        model: head model of the target's fit.
        source: a video of the same model.
        target: the photo to edit and its fit.
        config: what is taken.
        take: called with the code of each frame before its picture is made.

    Raises:
        HeadlabError: as `transfer`.
    """
    config = config or TransferConfig()
    check_models(source.name, source.heads, target)
    canvas = prepare_canvas(model, target, config)
    for i in range(len(source.times)):
        head = PhotoHead(target.frame, source.heads, i)
        code = transferred_code(model, Source(source.name, head.code.expression, head), target, config)
        take(code)
        yield canvas.picture(code)


def still(source: VideoSource, index: int, frame: Frame | None) -> Source:
    """One frame of the video as a source for a strip; without a picture the expression alone."""
    head = None if frame is None else PhotoHead(frame, source.heads, index)
    name = f"{source.name} {source.times[index]:.2f} s"
    return Source(name, source.heads.codes.expression[index], head)


def smaller(target: PhotoHead, longest: int) -> PhotoHead:
    """The target with a photo whose longer side has at most so many pixels."""
    scale = longest / max(target.frame.size)
    if scale >= 1:
        return target
    camera = target.camera.scaled(scale)
    image = torch.nn.functional.interpolate(
        target.frame.image[None], camera.size, mode="bilinear", antialias=True, align_corners=False
    )[0]
    face = target.frame.landmarks
    if face is not None:
        face = FaceLandmarks(face.points * scale, face.depth * scale, face.confidence, face.scores, face.score_names)
    cameras = list(target.fit.cameras)
    cameras[target.index] = camera
    fit = replace(target.fit, cameras=tuple(cameras))
    return PhotoHead(target.frame.with_(image=image, landmarks=face), fit, target.index)


def _is_track(heads: HeadFit) -> bool:
    return len(heads.report.get("times", ())) == len(heads.cameras) and "interpolated" in heads.report
