"""Frames of videos as records: one video, or a folder of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ..geometry.errors import HeadlabError
from .picture_folders import natural
from .records import Fault, Labels, PictureRecord
from .video import VideoLimits, open_frames

SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"}


@dataclass(frozen=True, eq=False)
class VideoRecord(PictureRecord):
    """One frame."""

    frame: int  #: number in its video, from 0
    time: float  #: seconds since the first frame
    pixels: UInt8[np.ndarray, "height width 3"]  #: RGB, upright

    @property
    def labels(self) -> Labels:
        return Labels(person=self.path.stem)

    def encoded(self) -> bytes:
        """The frame as PNG."""
        return cv2.imencode(".png", cv2.cvtColor(self.pixels, cv2.COLOR_RGB2BGR))[1].tobytes()

    def picture(self) -> Image.Image:
        return Image.fromarray(self.pixels)

    def told(self) -> dict:
        return super().told() | {"frame": self.frame, "time": round(self.time, 6)}


def read_videos(
    root: Path | str, *, every: int = 1, limits: VideoLimits | None = None
) -> Iterator[VideoRecord | Fault]:
    """Frames of one video, or of all videos of a folder, in order; a damaged video gives what can be read of it.

    Args:
        root: a video, or a folder that holds videos (in subfolders too).
        every: take each so-many-th frame.
        limits: what to refuse.

    Raises:
        HeadlabError: nothing there.
    """
    root = Path(root)
    files = [root]
    if root.is_dir():
        files = [path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
        files.sort(key=lambda path: natural(path.relative_to(root).as_posix()))
    if not files or not root.exists():
        raise HeadlabError(f"{root} holds no videos ({', '.join(sorted(SUFFIXES))})")
    if every < 1:
        raise HeadlabError(f"every must be at least 1, not {every}")
    for path in files:
        name = path.relative_to(root).as_posix() if root.is_dir() else path.name
        troubles: list[str] = []
        try:
            for frame in open_frames(path, limits=limits).frames(troubles.append):
                if frame.index % every == 0:
                    yield VideoRecord(f"{name}#{frame.index:06d}", path, frame.index, frame.time, frame.pixels)
        except HeadlabError as error:
            troubles.append(str(error))
        for trouble in troubles:
            yield Fault(name, "unreadable", trouble)
