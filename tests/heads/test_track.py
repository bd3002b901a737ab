"""Tracking: real frames against MediaPipe's reference, and made-up films for what goes wrong."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from headlab.datasets.photo import read_photo
from headlab.datasets.video import FrameSource, VideoLimits, open_frames, write_video
from headlab.geometry.code import HeadCode
from headlab.geometry.errors import HeadlabError, NoFaceError
from headlab.geometry.landmarks import IBUG68, FaceLandmarks
from headlab.heads.head_fit import HeadFit
from headlab.heads.track import TrackConfig, follow_video, track_video
from headlab.heads.track_follow import FaceFollower
from headlab.heads.track_solve import SmoothConfig, fill_codes, landmark_errors, smooth_codes, spread_frames
from headlab.scripts.track import Track as TrackCommand
from headlab.scripts.track import track


def film(path: Path, pictures: list[np.ndarray]) -> FrameSource:
    write_video(path, iter(pictures), 25)
    return open_frames(path)


def face_of(shared: Path, name: str, side: int = 220) -> np.ndarray:
    """The face of a photo with some hair, `side` pixels square."""
    import cv2

    with np.load(shared / "data/photos/mediapipe_reference.npz") as file:
        row = file["files"].tolist().index(name)
        points, (width, height) = file["landmarks"][row, :, :2], file["image_wh"][row]
    image = (read_photo(shared / "data/photos" / name).image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    points = points * [width, height]
    centre, reach = points.mean(0), np.ptp(points, 0).max() * 0.72
    corners = np.float32(centre + reach * np.array([[-1, -1], [1, -1], [-1, 1]]))
    matrix = cv2.getAffineTransform(corners, np.float32([[0, 0], [side, 0], [0, side]]))
    return cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_AREA)


def stage(places: list[tuple[np.ndarray, int]], size: tuple[int, int] = (260, 640)) -> np.ndarray:
    """Faces on grey at the given left edges; later ones in front."""
    picture = np.full((*size, 3), 128, np.uint8)
    for face, left in places:
        low, high = max(0, left), min(size[1], left + face.shape[1])
        if low < high:
            picture[20 : 20 + face.shape[0], low:high] = face[:, low - left : high - left]
    return picture


def centres(faces: tuple[FaceLandmarks | None, ...]) -> np.ndarray:
    return np.array([np.nan if face is None else float(face.points[:, 0].mean()) for face in faces])


def test_two_people_crossing_the_first_goes_on(tmp_path, shared, detector):
    """Ours (larger) walks right behind another face that walks left; ours is hidden in the middle."""
    ours, other = face_of(shared, "p07.jpg", 220), face_of(shared, "p05.jpg", 200)
    lefts = np.linspace(0, 400, 45).round().astype(int)
    pictures = [stage([(ours, int(left)), (other, int(420 - left))]) for left in lefts]
    followed = follow_video(film(tmp_path / "a.mp4", pictures), detector)
    found = centres(followed.faces) - (lefts + 110)
    assert np.isfinite(found[:12]).all() and np.isfinite(found[-8:]).all()
    assert np.nanmax(np.abs(found)) < 40  # never the other


def test_leaving_and_returning(tmp_path, shared, detector):
    face = face_of(shared, "p07.jpg")
    lefts = [20] * 6 + list(range(20, 660, 60)) + [700] * 8 + list(range(640, 200, -60)) + [200] * 10
    followed = follow_video(film(tmp_path / "a.mp4", [stage([(face, left)]) for left in lefts]), detector)
    gone = np.array(lefts) > 620
    assert not followed.seen[gone].any()
    assert followed.seen[:6].all() and followed.seen[-6:].all()
    off = centres(followed.faces) - (np.array(lefts) + 110)
    assert np.nanmax(np.abs(off[np.array(lefts) <= 420])) < 25


def test_somebody_else_is_not_taken_for_the_one_who_left(tmp_path, shared, detector):
    ours, other = face_of(shared, "p07.jpg"), face_of(shared, "p05.jpg")
    pictures = [stage([(ours, 50)])] * 8 + [stage([])] * 6 + [stage([(other, 350)])] * 10
    followed = follow_video(film(tmp_path / "a.mp4", pictures), detector)
    assert followed.seen.tolist() == [True] * 8 + [False] * 16


def test_no_face_at_all(tmp_path, detector, fit_tools):
    source = film(tmp_path / "a.mp4", [stage([])] * 4)
    with pytest.raises(NoFaceError, match="no face found in any of 4 frames"):
        track_video(fit_tools, source, detector)


class Scripted:
    """A detector that is told what there is to see."""

    def __init__(self, faces: Callable[[int], FaceLandmarks | None]):
        self.faces, self.frame = faces, -1

    def detect(self, image) -> list[FaceLandmarks]:
        face = self.faces(self.frame)
        return [] if face is None else [face]

    def follow(self, picture, last):
        return self.faces(self.frame)

    def glance(self, picture) -> list[FaceLandmarks]:
        return self.detect(None)


def reference(shared: Path) -> torch.Tensor:
    with np.load(shared / "data/photos/mediapipe_reference.npz") as file:
        rows = [i for i, name in enumerate(file["files"]) if name.startswith("video_a/")]
        return torch.from_numpy(file["landmarks"][rows]).float() * 512


def frames_of(shared: Path, count: int, step: int = 1, rate: float = 25.0) -> FrameSource:
    source = open_frames(shared / "data/photos/video_a", rate=rate)
    return replace(source, files=source.files[: count * step : step], count=count)


class ReferenceDetector(Scripted):
    """MediaPipe's stored points, with holes."""

    def __init__(self, points: torch.Tensor, holes: set[int]):
        super().__init__(self.look)
        self.points, self.holes = points, holes

    def look(self, frame: int) -> FaceLandmarks | None:
        points = self.points[frame]
        return None if frame in self.holes else FaceLandmarks(points[:, :2], points[:, 2], 1.0)


@pytest.fixture
def counted(monkeypatch):
    """Tells a scripted detector which frame it is asked about."""

    def attach(detector: Scripted) -> Scripted:
        before = FaceFollower.next

        def following(self, pixels, time):
            detector.frame += 1
            return before(self, pixels, time)

        monkeypatch.setattr(FaceFollower, "next", following)
        return detector

    return attach


def test_frames_without_a_face_are_interpolated_and_flagged(shared, fit_tools, counted):
    points = reference(shared)[:14]
    detector = counted(ReferenceDetector(points, {0, 9, 10, 13}))
    result = track_video(fit_tools, frames_of(shared, 14), detector, TrackConfig(smooth=SmoothConfig("none")))
    codes, report = result.head.codes, result.head.report
    assert report["interpolated"] == [0, 9, 10, 13] and np.flatnonzero(~result.seen).tolist() == [0, 9, 10, 13]
    assert [i for i, e in enumerate(report["frame_nme"]) if e is None] == [0, 9, 10, 13]
    torch.testing.assert_close(codes.expression[0], codes.expression[1])
    torch.testing.assert_close(codes.translation[13], codes.translation[12])
    third = (codes.translation[11] - codes.translation[8]) / 3
    torch.testing.assert_close(codes.translation[9], codes.translation[8] + third, atol=1e-6, rtol=1e-5)
    assert bool((codes.shape == codes.shape[:1]).all())
    assert all(camera == result.head.cameras[0] for camera in result.head.cameras)
    # Codes between are where the reference has the face, too.
    errors = landmark_errors(fit_tools.basis, codes, result.head.cameras, points[..., :2], TrackConfig().landmarks)
    assert errors[[9, 10]].max() < 0.05 and errors.mean() < 0.03


def test_smoothing_calms_and_keeps_the_landmarks(shared, fit_tools, counted):
    detector = counted(ReferenceDetector(reference(shared)[:20], set()))
    result = track_video(fit_tools, frames_of(shared, 20), detector)
    report = result.head.report
    assert report["jitter_mm"] < 0.6 * report["jitter_mm_unsmoothed"]
    assert report["landmark_nme"] < 0.02
    bounds = fit_tools.model.expression_bounds
    assert bool((result.head.codes.expression >= bounds[:, 0] - 1e-6).all())
    same = smooth_codes(fit_tools.model, result.raw, result.times, SmoothConfig(strength=0))
    assert torch.equal(same.expression, result.raw.expression)
    calmer = smooth_codes(fit_tools.model, result.raw, result.times, SmoothConfig(strength=3))
    second = lambda codes: float(codes.translation.diff(n=2, dim=0).norm(dim=-1).mean())  # noqa: E731
    assert second(calmer) < second(result.head.codes) < second(result.raw)
    euro = smooth_codes(fit_tools.model, result.raw, result.times, SmoothConfig("one-euro"))
    assert second(euro) < second(result.raw)
    early = result.raw[:12]
    stream = smooth_codes(fit_tools.model, early, result.times[:12], SmoothConfig("one-euro"))
    torch.testing.assert_close(stream.rotation, euro.rotation[:12])  # only the past counts


def test_uneven_times_move_the_interpolated_frame():
    codes = HeadCode.neutral(2, 3, (2,)).with_(translation=torch.tensor([[0.0, 0, 0], [1.0, 0, 0]]))
    filled = fill_codes(codes, np.array([0.0, 0.1, 1.0]), np.array([True, False, True]))
    assert filled.translation[1, 0] == pytest.approx(0.1)


def test_identity_frames_are_spread(shared):
    points = reference(shared)[..., :2]
    chosen = spread_frames(points, 8)
    assert len(set(chosen)) == 8 and max(chosen) - min(chosen) > 60
    assert spread_frames(points[:1].repeat(5, 1, 1), 8) == [0]


@pytest.mark.slow
def test_command_writes_everything_and_once(tmp_path, shared):
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(0, 24, 4):
        (folder / f"f{i:03d}.jpg").symlink_to(shared / f"data/photos/video_a/f{i:04d}.jpg")
    options = TrackCommand(folder, tmp_path / "out", rate=6.25, texture_size=128)
    report = track(options)
    names = {"albedo.png", "arkit.csv", "head.glb", "report.json", "side_by_side.mp4", "track.glb", "track.npz", "vhap"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == names
    head = HeadFit.load(tmp_path / "out/track.npz")
    assert len(head.cameras) == len(head.sources) == len(head.codes.rotation) == 6
    assert json.loads((tmp_path / "out/report.json").read_text())["times"][-1] == pytest.approx(5 * 0.16)
    assert report["landmark_nme"] < 0.03
    assert len(list(open_frames(tmp_path / "out/side_by_side.mp4").frames())) == 6
    with pytest.raises(HeadlabError, match="overwrite"):
        track(options)
    track(replace(options, overwrite=True, write_video=False))  # vhap/ takes the place of the old one
    with pytest.raises(HeadlabError, match="strength"):
        track(replace(options, overwrite=True, strength=-1.0))


@pytest.mark.slow
def test_real_video_meets_the_bars(shared, fit_tools, detector):
    """110 frames: error, jitter, one identity. (Speed: scripts/bench/track.py.)"""
    source = open_frames(shared / "data/photos/video_a")
    result = track_video(fit_tools, source, detector)
    points = reference(shared)[..., :2]
    assert result.seen.all() and bool((result.head.codes.shape == result.head.codes.shape[:1]).all())
    found = landmark_errors(fit_tools.basis, result.head.codes, result.head.cameras, points, TrackConfig().landmarks)
    assert found.mean() < 0.03
    assert result.head.report["landmark_nme"] < 0.02
    assert result.head.report["jitter_mm"] < 0.5 * result.head.report["jitter_mm_unsmoothed"]


def test_damaged_tail_is_tracked_as_far_as_it_goes(tmp_path, shared, fit_tools, detector):
    face = face_of(shared, "p07.jpg")
    noise = np.random.default_rng(0)
    pictures = [np.clip(stage([(face, 100)]) + noise.integers(-9, 9, (260, 640, 1)), 0, 255) for _ in range(20)]
    write_video(tmp_path / "a.mp4", iter([p.astype(np.uint8) for p in pictures]), 25)
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    start = data.index(b"mdat") + 4 + (data.index(b"moov") - data.index(b"mdat")) * 6 // 10
    data[start : data.index(b"moov") - 4] = bytes(data.index(b"moov") - 4 - start)
    (tmp_path / "cut.mp4").write_bytes(data)
    result = track_video(fit_tools, open_frames(tmp_path / "cut.mp4"), detector)
    assert len(result.warnings) == 1 and "could be read" in result.warnings[0]
    assert result.seen[:5].all()
    assert result.head.report["warnings"] == list(result.warnings)


def test_size_may_not_change(shared):
    source = FrameSource(Path("x"), (4, 5), 25.0, 1, VideoLimits(), (shared / "data/photos/p02.jpg",))
    with pytest.raises(HeadlabError, match="one size"):
        list(source.frames())


def test_follower_reads_68_points_like_the_detector(shared, detector):
    """Two views on a followed crop are as near the reference as the thorough detection is, over 12 frames."""
    points = reference(shared)
    source = frames_of(shared, 12)
    followed = follow_video(source, detector)
    chosen = list(IBUG68)
    for face, want in zip(followed.faces, points, strict=False):
        assert face is not None
        unit = (want[33, :2] - want[263, :2]).norm()
        assert float((face.points[chosen] - want[chosen, :2]).norm(dim=-1).mean() / unit) < 0.03
