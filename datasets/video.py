"""Read videos, or folders of frames, as upright 8-bit RGB pictures with their times; bounded before decoding."""

import queue
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from ..geometry.errors import HeadlabError
from .photo import read_photo

_TICKS = 90_000  # per second, the clock of videos whose rate varies

Warn = Callable[[str], None]
Item = TypeVar("Item")

#: File names that count as frames in a folder.
IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True)
class VideoLimits:
    """What is refused before it is decoded."""

    max_frames: int = 20_000
    max_megapixels: float | int = 36  #: per frame


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One picture of a video."""

    pixels: UInt8[np.ndarray, "height width 3"]  #: RGB, upright, square pixels
    time: float  #: seconds since the first frame
    index: int
    name: str  #: file name, or the video's name and the frame's number


@dataclass(frozen=True)
class FrameSource:
    """A video or a folder of frames that can be read any number of times."""

    path: Path
    size: tuple[int, int]  #: (height, width) of every frame, pixels
    rate: float | int  #: nominal frames per second
    count: int | None  #: number of frames, where the file tells
    limits: VideoLimits
    files: tuple[Path, ...] = ()  #: the frames of a folder; empty for a video
    focal: float | None = None  #: pixels, where the first picture tells

    def frames(self, warn: Warn = lambda message: None) -> Iterator[VideoFrame]:
        """The frames in order; times grow strictly, as stored (variable rates) or by the nominal rate.

        A damaged file gives what can be read of it.

        Args:
            warn: called with one line where the file is damaged or ends too early.

        Raises:
            HeadlabError: frames differ in size, or are too many.
        """
        read = self._read_folder() if self.files else _decoded(self, warn)
        for frame in read:
            if frame.index >= self.limits.max_frames:
                raise HeadlabError(_too_many(self.path, f"more than {self.limits.max_frames}", self.limits))
            if frame.pixels.shape[:2] != self.size:
                height, width = frame.pixels.shape[:2]
                raise HeadlabError(
                    f"{frame.name} is {width} x {height} pixels, the frames before it {self.size[1]} x {self.size[0]}; "
                    "give frames of one size"
                )
            yield frame

    def _read_folder(self) -> Iterator[VideoFrame]:
        for i, file in enumerate(self.files):
            image = read_photo(file, max_megapixels=self.limits.max_megapixels).image.numpy()
            pixels = cv2.merge([cv2.convertScaleAbs(plane, alpha=255) for plane in image])
            yield VideoFrame(pixels, i / self.rate, i, file.name)


def open_frames(path: Path | str, *, rate: float | int | None = None, limits: VideoLimits | None = None) -> FrameSource:
    """Look at a video file or a folder of frames (sorted by the numbers in their names).

    Args:
        path: anything FFmpeg reads, or a folder of images.
        rate: frames per second of a folder (25 where not given); a video's own where not given.
        limits: what to refuse.

    Raises:
        HeadlabError: nothing there, no pictures in it (sound only, empty), damaged from the start, too long, too large.
    """
    path, limits = Path(path), limits or VideoLimits()
    if rate is not None and not rate > 0:
        raise HeadlabError(f"the frame rate must be a positive number, not {rate:g}")
    if not path.exists():
        raise HeadlabError(f"{path} does not exist; name a video or a folder of frames")
    if path.is_dir():
        return _open_folder(path, rate or 25.0, limits)
    if path.stat().st_size == 0:
        raise HeadlabError(f"{path} is empty (0 bytes); get a whole copy of it")
    return _open_video(path, rate, limits)


def _open_folder(path: Path, rate: float | int, limits: VideoLimits) -> FrameSource:
    files = [file for file in path.iterdir() if file.suffix.lower() in IMAGES and not file.name.startswith(".")]
    if not files:
        raise HeadlabError(f"{path} holds no pictures ({', '.join(sorted(IMAGES))}); name a folder of frames")
    if len(files) > limits.max_frames:
        raise HeadlabError(_too_many(path, str(len(files)), limits))
    files.sort(key=lambda file: [(int(s), "") if s.isdigit() else (-1, s) for s in re.split(r"(\d+)", file.name)])
    first = read_photo(files[0], max_megapixels=limits.max_megapixels)
    return FrameSource(path, first.size, rate, len(files), limits, tuple(files), first.focal)


def _open_video(path: Path, rate: float | int | None, limits: VideoLimits) -> FrameSource:
    with path.open("rb") as file, _container(path, file) as container:
        stream = _picture_stream(path, container)
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > limits.max_megapixels * 1e6:
            raise HeadlabError(
                f"{path} has frames of {width} x {height} pixels, more than {limits.max_megapixels:g} megapixels; "
                "make it smaller"
            )
        count = stream.frames or None
        if count is not None and count > limits.max_frames:
            raise HeadlabError(_too_many(path, str(count), limits))
        stored = stream.average_rate or stream.guessed_rate
        rate = rate or (float(stored) if stored else 25.0)
        first = next(_pictures(container, stream, lambda reason: None), None)
    if first is None:
        raise HeadlabError(
            f"{path} has no picture that can be read: it has length zero or is damaged; get a whole copy"
        )
    height, width = first[0].shape[:2]
    return FrameSource(path, (height, width), rate, count, limits)


def _decoded(source: FrameSource, warn: Warn) -> Iterator[VideoFrame]:
    troubles: list[str] = []
    index, time, origin = -1, 0.0, None
    with source.path.open("rb") as file, _container(source.path, file) as container:
        stream = _picture_stream(source.path, container)
        for pixels, stamp in _pictures(container, stream, troubles.append):
            index += 1
            if stamp is not None and origin is None:
                origin = stamp - index / source.rate
            stored = None if stamp is None or origin is None else stamp - origin
            if index:
                time = stored if stored is not None and stored > time + 1e-6 else time + 1 / source.rate
            yield VideoFrame(pixels, time, index, f"{source.path.name}#{index}")
    read = index + 1
    if troubles:
        warn(f"{source.path} is damaged ({troubles[0]}); {read} frames could be read")
    elif source.count is not None and read < source.count:
        warn(f"{source.path} ends too early; {read} of {source.count} frames could be read")


def _container(path: Path, file) -> Any:
    import av
    from av.error import FFmpegError

    try:
        # Through the open file, no protocol allowed: playlists cannot make FFmpeg open other files or addresses.
        return av.open(file, options={"protocol_whitelist": "none"})
    except (FFmpegError, ValueError) as error:
        raise HeadlabError(
            f"{path} is not a video, or its start is damaged ({_reason(error)}); give an MP4, MOV, MKV, WebM or AVI "
            "file, or a folder of frames"
        ) from error


def _picture_stream(path: Path, container: Any) -> Any:
    from av.stream import Disposition

    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        what = "only sound" if container.streams.audio else "no pictures"
        raise HeadlabError(f"{path} holds {what}; give a file with a video track")
    streams[0].thread_type = "AUTO"
    return streams[0]


def _pictures(container: Any, stream: Any, trouble: Warn) -> Iterator[tuple[np.ndarray, float | None]]:
    """Upright pictures and their times in seconds, until the end or the first damage that stops the decoder."""
    from av.error import FFmpegError

    aspect = float(stream.sample_aspect_ratio or 1)
    try:
        for frame in container.decode(stream):
            if frame.is_corrupt:
                trouble("a frame is incomplete")
            pixels = frame.to_ndarray(format="rgb24")
            if abs(aspect - 1) > 1e-3:
                size = (max(1, round(pixels.shape[1] * aspect)), pixels.shape[0])
                pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
            turns = round(frame.rotation / 90) % 4  # counter-clockwise, as phones record it
            yield np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels, frame.time
    except FFmpegError as error:
        trouble(_reason(error))


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:120]


def _too_many(path: Path, count: str, limits: VideoLimits) -> str:
    return f"{path} has {count} frames, and {limits.max_frames} are allowed; cut it into pieces"


def read_ahead(items: Iterator[Item], depth: int = 4) -> Iterator[Item]:
    """The same items, made by a thread that runs up to `depth` of them ahead; its exceptions come out here."""
    pipe: queue.Queue = queue.Queue(depth)
    stop = threading.Event()

    def put(entry: tuple[str, Any]) -> bool:
        while not stop.is_set():
            try:
                pipe.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(("item", item)):
                    return
            put(("end", None))
        except BaseException as error:
            put(("error", error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = pipe.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stop.set()
        thread.join()


def write_video(
    path: Path,
    pictures: Iterator[UInt8[np.ndarray, "_ _ 3"]],
    rate: float | int,
    times: Sequence[float] | Float[np.ndarray, "frames"] | None = None,
) -> int:
    """Write RGB pictures of one size as H.264 in MP4, atomically; odd sizes lose their last row or column.

    Args:
        path: file to write.
        pictures: as many as there are; the first one's size counts.
        rate: frames per second, nominal where there are times.
        times: seconds of each picture, growing, for a rate that varies; kept to a ninety-thousandth.

    Returns:
        How many were written.
    """
    from fractions import Fraction

    import av

    from ..geometry.files import atomic_path

    written = 0
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream: Any = None
        for picture in pictures:
            height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001))
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.options = {"crf": "20", "preset": "veryfast"}
                if times is not None:
                    stream.codec_context.time_base = Fraction(1, _TICKS)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(float(times[written] - times[0]) * _TICKS), Fraction(1, _TICKS)
            container.mux(stream.encode(frame))
            written += 1
        if stream is not None:
            container.mux(stream.encode())
    return written
