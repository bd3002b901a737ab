"""`headlab convert` of captures: every source kind to every target."""

from pathlib import Path

import pytest
import torch

from headlab.datasets.rgbd_folder import write_rgbd_folder
from headlab.datasets.rgbd_sequence import open_rgbd
from headlab.geometry.errors import HeadlabError
from headlab.geometry.frame import Frame
from headlab.geometry.rgbd.register import camera_from
from headlab.scripts.convert import Convert, convert, source_kind

TARGETS = ("png16", "open3d", "r3d", "ply", "pcd", "surface", "ldm3d", "rgba16")
SIZE = (32, 40)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    depth = (0.6 + 0.004 * torch.rand(SIZE, generator=generator)).mul(1000).round() / 1000
    depth[4:7, 4:7] = 0
    image = (torch.rand(3, *SIZE, generator=generator) * 255).round() / 255
    K = torch.tensor([[50.0, 0, 20.5], [0, 50, 15.5], [0, 0, 1]])
    (tmp_path / "in").mkdir()
    write_rgbd_folder(tmp_path / "in", [Frame(image, depth=depth, camera=camera_from(K, SIZE))])
    return tmp_path / "in"


def made(source: Path, target: str, out: Path) -> Path:
    said = convert(Convert(source, target, out))
    assert said.startswith(str(out)) and f"as {target}" in said
    return out


def ending(target: str) -> str:
    return {"r3d": ".r3d", "ply": ".ply", "surface": ".ply", "pcd": ".pcd"}.get(target, "")


def test_all_pairs(capture: Path, tmp_path: Path) -> None:
    truth = open_rgbd(capture).read(0).depth
    for source in TARGETS:
        first = made(capture, source, tmp_path / f"{source}{ending(source)}")
        assert source_kind(first) == "RGB-D capture"
        if source == "surface":  # a mesh has no pixels: it is drawn by another camera
            assert float(open_rgbd(first).read(0).depth.max()) == pytest.approx(0.604, abs=0.002)
        for target in TARGETS:
            second = made(first, target, tmp_path / f"{source}-{target}{ending(target)}")
            if "surface" not in (source, target):
                assert torch.equal(open_rgbd(second).read(0).depth, truth), (source, target)


def test_options(capture: Path, tmp_path: Path) -> None:
    filled = made(capture, "png16", tmp_path / "plain")
    assert not bool(open_rgbd(filled).read(0).depth[4:7, 4:7].any())
    convert(Convert(capture, "png16", tmp_path / "filled", fill=True))
    assert bool((open_rgbd(tmp_path / "filled").read(0).depth > 0).all())
    with pytest.raises(HeadlabError, match="--overwrite"):
        convert(Convert(capture, "png16", tmp_path / "plain"))
    with pytest.raises(HeadlabError, match="no glb can be made"):
        convert(Convert(capture, "glb", tmp_path / "x.glb"))
    for name in ("intrinsics.txt", "camera_intrinsic.json"):
        (capture / name).unlink()
    with pytest.raises(HeadlabError, match="needs intrinsics"):
        convert(Convert(capture, "ply", tmp_path / "x.ply"))
    convert(Convert(capture, "ply", tmp_path / "x.ply", focal=50.0))
    assert (tmp_path / "x.ply").is_file()


def test_several_frames_become_a_folder(capture: Path, tmp_path: Path) -> None:
    one = open_rgbd(capture).read(0)
    write_rgbd_folder(capture, [one, one, one])
    (capture / "0002_color.png").write_bytes(b"rubbish")
    said = convert(Convert(capture, "pcd", tmp_path / "clouds"))
    assert "2 of 3 frames" in said and "0002_color.png was left out" in said
    assert sorted(file.name for file in (tmp_path / "clouds").iterdir()) == ["0001.pcd", "0002.pcd"]
