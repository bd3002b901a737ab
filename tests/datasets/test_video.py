"""Videos made here by PyAV: times, turns, sizes, damage, limits."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from headlab.datasets.video import VideoLimits, open_frames, read_ahead, write_video
from headlab.geometry.errors import HeadlabError


def picture(i: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Bright top left corner, brightness grows with i."""
    image = np.full((height, width, 3), 20 + 5 * i, np.uint8)
    image[: height // 2, : width // 2] = (230, 40, 30)
    return image


def make(path: Path, times: list[float], *, codec: str = "libx264", options: dict | None = None, aspect=None) -> Path:
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        if aspect is not None:
            stream.sample_aspect_ratio = aspect
        stream.codec_context.time_base = Fraction(1, 1000)
        for i, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def steady(n: int) -> list[float]:
    return [i * 0.04 for i in range(n)]


def test_variable_rate_by_timestamps(tmp_path):
    times = [0.0, 0.04, 0.08, 0.28, 0.30, 0.9]
    source = open_frames(make(tmp_path / "a.mkv", times))
    frames = list(source.frames())
    assert source.size == (48, 64) and [f.index for f in frames] == list(range(6))
    np.testing.assert_allclose([f.time for f in frames], times, atol=2e-3)
    for frame in frames:
        assert np.abs(frame.pixels[40:, 40:].astype(int) - picture(frame.index)[40:, 40:]).mean() < 6
    assert len(list(source.frames())) == 6  # can be read again


def test_late_start_and_nominal_rate(tmp_path):
    source = open_frames(make(tmp_path / "a.mp4", [t + 2 for t in steady(5)]))
    assert source.count == 5 and source.rate == pytest.approx(25, rel=0.3)
    np.testing.assert_allclose([f.time for f in source.frames()], steady(5), atol=2e-3)


def test_phone_video_is_turned_upright(tmp_path):
    data = bytearray(make(tmp_path / "a.mp4", steady(3)).read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(data)
    source = open_frames(tmp_path / "turned.mp4")
    [frame, *_] = source.frames()
    assert source.size == (64, 48)
    want = np.rot90(picture(0), -1)  # clockwise
    assert np.abs(frame.pixels.astype(int) - want).mean() < 8


def test_oblong_pixels_become_square(tmp_path):
    source = open_frames(make(tmp_path / "a.mp4", steady(2), aspect=Fraction(3, 2)))
    assert source.size == (48, 96)


def test_damaged_tail_is_read_as_far_as_it_goes(tmp_path):
    whole = make(tmp_path / "a.mp4", steady(60), options={"movflags": "faststart"}).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 3 // 4])
    warnings: list[str] = []
    frames = list(open_frames(tmp_path / "cut.mp4").frames(warnings.append))
    assert 5 < len(frames) < 60 and len(warnings) == 1
    assert f"{len(frames)}" in warnings[0] and "\n" not in warnings[0]
    junk = bytearray(whole)
    start = len(junk) * 2 // 3
    junk[start:] = np.random.default_rng(0).integers(0, 256, len(junk) - start, dtype=np.uint8).tobytes()
    (tmp_path / "junk.mp4").write_bytes(junk)
    warnings.clear()
    assert len(list(open_frames(tmp_path / "junk.mp4").frames(warnings.append))) > 5
    assert len(warnings) == 1


def sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_what_is_no_video_is_said_in_one_line(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("hello " * 100)
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n/etc/hostname\n#EXT-X-ENDLIST\n")
    (tmp_path / "none").mkdir()
    whole = make(tmp_path / "a.mp4", steady(10)).read_bytes()
    (tmp_path / "headless.mp4").write_bytes(whole[: len(whole) // 2])  # its index was at the end
    for name, message in {
        "missing.mp4": "does not exist",
        "empty.mp4": "0 bytes",
        "text.mp4": "not a video",
        "list.m3u8": "not a video|no picture|no pictures",
        "none": "holds no pictures",
        "headless.mp4": "not a video, or its start is damaged|no picture",
    }.items():
        with pytest.raises(HeadlabError, match=message) as caught:
            open_frames(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(HeadlabError, match="only sound"):
        open_frames(sound(tmp_path / "sound.m4a"))


def test_zero_length_video(tmp_path):
    whole = make(tmp_path / "a.mp4", steady(10), options={"movflags": "faststart"}).read_bytes()
    (tmp_path / "hollow.mp4").write_bytes(whole[: whole.index(b"mdat") + 4])
    with pytest.raises(HeadlabError, match="no picture that can be read"):
        open_frames(tmp_path / "hollow.mp4")


def test_limits_come_before_decoding(tmp_path):
    path = make(tmp_path / "a.mp4", steady(10))
    with pytest.raises(HeadlabError, match="10 frames, and 5 are allowed"):
        open_frames(path, limits=VideoLimits(max_frames=5))
    with pytest.raises(HeadlabError, match="megapixels"):
        open_frames(path, limits=VideoLimits(max_megapixels=0.001))
    untold = open_frames(make(tmp_path / "b.mkv", steady(10)), limits=VideoLimits(max_frames=5))
    with pytest.raises(HeadlabError, match="more than 5"):
        list(untold.frames())
    with pytest.raises(HeadlabError, match="frame rate"):
        open_frames(path, rate=-1)


def test_folder_in_order_of_its_numbers(tmp_path):
    for i in (10, 2, 1):
        cv2.imwrite(str(tmp_path / f"f{i}.png"), picture(i)[..., ::-1])
    (tmp_path / "notes.txt").write_text("not a frame")
    source = open_frames(tmp_path, rate=10)
    frames = list(source.frames())
    assert [f.name for f in frames] == ["f1.png", "f2.png", "f10.png"]
    np.testing.assert_allclose([f.time for f in frames], [0, 0.1, 0.2])
    np.testing.assert_array_equal(frames[2].pixels, picture(10))
    cv2.imwrite(str(tmp_path / "f11.png"), picture(0, 32, 32))
    with pytest.raises(HeadlabError, match=r"f11\.png is 32 x 32"):
        list(source_of(tmp_path).frames())


def source_of(folder: Path):
    return open_frames(folder)


def test_reading_ahead_keeps_order_and_errors():
    assert list(read_ahead(iter(range(50)), 3)) == list(range(50))

    def failing():
        yield 1
        raise HeadlabError("broken")

    ahead = read_ahead(failing())
    assert next(ahead) == 1
    with pytest.raises(HeadlabError, match="broken"):
        next(ahead)
    endless = read_ahead(iter(lambda: 7, 8))
    assert next(endless) == 7
    endless.close()  # the thread ends


def test_written_video_reads_back(tmp_path):
    assert write_video(tmp_path / "out.mp4", (picture(i, 65, 49) for i in range(7)), 29.97) == 7
    source = open_frames(tmp_path / "out.mp4")
    assert source.size == (48, 64) and source.rate == pytest.approx(29.97, rel=1e-3)
    frames = list(source.frames())
    assert len(frames) == 7 and np.abs(frames[6].pixels[40:, 40:].astype(int) - picture(6)[40:48, 40:64]).mean() < 6
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
