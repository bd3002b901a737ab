"""Transfer from a video: frame by frame what stills give, times kept, what is taken for a video and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from headlab.datasets.video import open_frames, write_video
from headlab.geometry.camera import Camera
from headlab.geometry.errors import HeadlabError
from headlab.geometry.files import write_png
from headlab.geometry.frame import Frame
from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.texture.default_albedo import default_albedo
from headlab.heads.emotions import expression_of
from headlab.heads.fit import FitConfig
from headlab.heads.head_fit import HeadFit
from headlab.heads.transfer import PhotoHead, Source, TransferConfig, transfer
from headlab.heads.transfer_source import Workshop
from headlab.heads.transfer_video import VideoSource, is_video, read_video_source, smaller, still, transfer_video
from headlab.scripts.transfer import Transfer, transfer_command

TIMES = (0.0, 0.04, 0.2, 0.24)


@pytest.fixture(scope="module")
def target(default_head: HeadModel) -> PhotoHead:
    """A grey photo with a head somewhere in it."""
    code = default_head.neutral().with_(translation=torch.tensor([0.0, 0.0, -1.0]))
    camera = Camera.frontal(250, (160, 150))
    noise = torch.rand(3, *camera.size, generator=torch.Generator().manual_seed(0))
    albedo = default_albedo(default_head).mean
    return PhotoHead(Frame(noise), HeadFit("default", code.map(lambda x: x[None]), (camera,), albedo, ("p.png",)))


@pytest.fixture(scope="module")
def video(default_head: HeadModel) -> VideoSource:
    """Four frames of a jaw that opens; the third shows no face."""
    weights = torch.stack(
        [
            expression_of({"jawOpen": x, "mouthSmileLeft": x / 2}, default_head.expression_names)
            for x in (0.0, 0.2, 0.4, 0.6)
        ]
    )
    codes = default_head.neutral((4,)).with_(expression=weights, translation=torch.tensor([0.0, 0, -1]).expand(4, 3))
    report = {"times": list(TIMES), "interpolated": [2]}
    heads = HeadFit("default", codes, (Camera.frontal(200, (90, 120)),) * 4, None, ("v#0", "v#1", "v#2", "v#3"), report)
    return VideoSource("v", heads, np.array(TIMES), np.array([True, True, False, True]), None)


class NoDetector:
    """Finds nothing, and cannot follow."""

    name = "none"

    def detect(self, image):
        return []

    def close(self) -> None: ...

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace) -> None: ...


@pytest.fixture
def workshop() -> Workshop:
    return Workshop("default", NoDetector(), FitConfig())


def test_each_frame_is_what_a_still_gives(default_head: HeadModel, target: PhotoHead, video: VideoSource) -> None:
    codes = []
    pictures = list(transfer_video(default_head, video, target, None, codes.append))
    stills = [
        Source(f"{i}", video.heads.codes.expression[i], PhotoHead(target.frame, video.heads, i)) for i in range(4)
    ]
    expected, heads = transfer(default_head, stills, target)
    assert len(pictures) == len(codes) == 4
    for i in range(4):
        assert torch.equal(pictures[i], expected[i])
        assert torch.equal(codes[i].expression, heads.codes.expression[i])
    assert torch.equal(pictures[0], target.frame.image) and not torch.equal(pictures[1], pictures[3])


def test_another_head_model_is_refused(default_head: HeadModel, target: PhotoHead, video: VideoSource) -> None:
    other = replace(video, heads=replace(video.heads, model="flame2023"))
    with pytest.raises(HeadlabError, match="fit both with one model"):
        next(transfer_video(default_head, other, target, TransferConfig()))


def test_a_track_is_a_video_and_keeps_its_gaps(workshop: Workshop, video: VideoSource, tmp_path: Path) -> None:
    (tmp_path / "walk").mkdir()
    video.heads.save(tmp_path / "walk/track.npz")
    video.heads.save(tmp_path / "moved.npz")
    for path in (tmp_path / "walk", tmp_path / "walk/track.npz", tmp_path / "moved.npz"):
        assert is_video(path)
        read = read_video_source(path, workshop)
        assert read.seen.tolist() == [True, True, False, True] and tuple(read.times) == TIMES and read.frames is None
        assert read.name == ("moved" if path.suffix == ".npz" and path.name != "track.npz" else "walk")
        assert read.rate == pytest.approx(3 / 0.24)
        assert 2 not in read.shown(6) and read.shown(2) == [0, 3]
        assert still(read, 1, None).head is None
    one = replace(
        video.heads, codes=video.heads.codes[:1], cameras=video.heads.cameras[:1], sources=("p.png",), report={}
    )
    one.save(tmp_path / "walk/track.npz")
    with pytest.raises(HeadlabError, match="no track of a video"):
        read_video_source(tmp_path / "walk", workshop)


def test_what_is_a_video(video: VideoSource, tmp_path: Path) -> None:
    for name in ("a.mp4", "a.MOV", "nowhere.webm"):
        assert is_video(tmp_path / name)
    for name in ("a.png", "a.json", "a.npz", "happy", "va:0.5,0.5"):
        assert not is_video(tmp_path / name)
    (tmp_path / "frames").mkdir()
    assert not is_video(tmp_path / "frames")
    write_png(tmp_path / "frames/f1.png", torch.zeros(3, 4, 4))
    assert is_video(tmp_path / "frames")
    replace(video.heads, report={}).save(tmp_path / "frames/head.npz")
    assert not is_video(tmp_path / "frames")  # the result of `headlab fit`


def test_smaller(target: PhotoHead) -> None:
    assert smaller(target, 1000) is target
    small = smaller(target, 80)
    assert small.frame.size == small.camera.size == (80, 75)
    points = torch.tensor([[0.02, 0.03, -1.0]])
    torch.testing.assert_close(small.camera.project(points), target.camera.project(points) / 2)


def test_uneven_times_are_written(tmp_path: Path) -> None:
    pictures = [np.full((32, 32, 3), 40 * i, np.uint8) for i in range(4)]
    assert write_video(tmp_path / "a.mp4", iter(pictures), 25, np.array(TIMES) + 7) == 4
    assert [frame.time for frame in open_frames(tmp_path / "a.mp4").frames()] == pytest.approx(TIMES, abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": ("happy", "a.mp4")}, "happy is no video, but other sources are"),
        ({"renderer": "diffusion"}, "by the mesh alone"),
        ({"video_side": 3}, "--video-side is from 64"),
        ({"source": ("nowhere.mp4",)}, "does not exist"),
    ],
)
def test_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(HeadlabError, match=message) as error:
        options = Transfer(("a.mp4",), tmp_path / "missing.png", tmp_path / "out", renderer="auto")
        transfer_command(replace(options, **changes))
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_command_makes_a_film(tmp_path: Path, shared: Path, astronaut) -> None:
    write_png(tmp_path / "a.png", astronaut)
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(4):
        (folder / f"f{i}.jpg").symlink_to(shared / f"data/photos/video_a/f{25 * i:04d}.jpg")
    options = Transfer((str(folder),), tmp_path / "a.png", tmp_path / "out", texture_size=256, video_side=256, rate=5.0)
    report = transfer_command(options)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "edited.mp4",
        "strip.png",
        "head.npz",
        "report.json",
    }
    film = open_frames(tmp_path / "out/edited.mp4")
    assert film.size == (256, 256) and [f.time for f in film.frames()] == pytest.approx([0, 0.2, 0.4, 0.6], abs=1e-3)
    assert report["videos"][0]["frames"] == 4 and report["videos"][0]["interpolated"] == []
    assert is_video(tmp_path / "out/head.npz") and len(HeadFit.load(tmp_path / "out/head.npz").cameras) == 4
