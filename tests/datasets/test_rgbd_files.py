"""RGB-D captures on disk: every format there and back, and what is said about broken ones."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from headlab.datasets.depth_map import write_depth
from headlab.datasets.rgbd_clouds import camera_of_grid, read_cloud, write_cloud
from headlab.datasets.rgbd_folder import write_rgbd_folder
from headlab.datasets.rgbd_intrinsics import read_intrinsics_text
from headlab.datasets.rgbd_packed import millimetres, read_four_channels, read_packed, write_four_channels, write_packed
from headlab.datasets.rgbd_record3d import enlarged, write_record3d
from headlab.datasets.rgbd_sequence import open_rgbd, rgbd_kind
from headlab.datasets.rgbd_trajectory import read_trajectory, write_trajectory
from headlab.geometry.errors import HeadlabError
from headlab.geometry.files import write_png
from headlab.geometry.frame import Frame
from headlab.geometry.rgbd.register import camera_from

SIZE = (40, 56)
K = torch.tensor([[61.5, 0, 27.2], [0, 60.25, 20.8], [0, 0, 1]], dtype=torch.float64)


def frame(seed: int = 0, posed: bool = False) -> Frame:
    generator = torch.Generator().manual_seed(seed)
    image = (torch.rand(3, *SIZE, generator=generator) * 255).round() / 255
    depth = (0.5 + 0.2 * torch.rand(SIZE, generator=generator)).mul(1000).round() / 1000
    depth[torch.rand(SIZE, generator=generator) < 0.2] = 0
    pose = torch.eye(4, dtype=torch.float64)
    if posed:
        pose[:3, 3] = torch.tensor([0.1 * seed, 0.2, 0.3])
    return Frame(image, depth=depth, camera=camera_from(K, SIZE, pose))


def same(a: Frame, b: Frame, colour: float = 0.0) -> None:
    assert torch.equal(a.depth, b.depth)
    assert float((a.image - b.image).abs().max()) <= colour + 1e-6
    torch.testing.assert_close(a.camera.K, b.camera.K, atol=1e-4, rtol=0)


@pytest.mark.parametrize("subfolders", [False, True])
def test_folders(tmp_path: Path, subfolders: bool) -> None:
    frames = [frame(0), frame(1), frame(2)]
    write_rgbd_folder(tmp_path, frames, subfolders=subfolders)
    sequence = open_rgbd(tmp_path)
    assert len(sequence) == 3 and sequence.camera is not None and sequence.camera.size == SIZE
    for i, one in enumerate(frames):
        same(sequence.read(i), one)
    torch.testing.assert_close(open_rgbd(tmp_path, depth_scale=0.002).read(0).depth, 2 * frames[0].depth)
    if subfolders:
        (tmp_path / "intrinsics.txt").unlink()  # Open3D's own file remains
        torch.testing.assert_close(open_rgbd(tmp_path).camera.K, K)


def test_folders_with_poses(tmp_path: Path) -> None:
    frames = [frame(1, posed=True), frame(2, posed=True)]
    write_rgbd_folder(tmp_path, frames, subfolders=True)
    write_trajectory(tmp_path / "trajectory.json", [one.camera for one in frames])
    read = open_rgbd(tmp_path).read(1)
    torch.testing.assert_close(read.camera.t, frames[1].camera.t)
    data = json.loads((tmp_path / "trajectory.json").read_text())
    assert data["class_name"] == "PinholeCameraTrajectory"
    assert data["parameters"][1]["extrinsic"][12:15] == pytest.approx([0.2, 0.2, 0.3])  # column by column
    write_trajectory(tmp_path / "trajectory.json", [frames[0].camera])
    with pytest.raises(HeadlabError, match="2 frames but a trajectory of 1 poses"):
        open_rgbd(tmp_path)
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(HeadlabError, match="no camera trajectory"):
        read_trajectory(tmp_path / "t.json")


def test_open3d_reads_our_trajectory(tmp_path: Path) -> None:
    o3d = pytest.importorskip("open3d")
    camera = frame(2, posed=True).camera
    write_trajectory(tmp_path / "t.json", [camera])
    read = o3d.io.read_pinhole_camera_trajectory(str(tmp_path / "t.json")).parameters[0]
    np.testing.assert_allclose(read.extrinsic[:3, 3], camera.t.numpy())
    np.testing.assert_allclose(read.intrinsic.intrinsic_matrix, K.numpy())


def test_the_log_form(tmp_path: Path) -> None:
    (tmp_path / "trajectory.log").write_text("0 0 1\n1 0 0 0.5\n0 1 0 0\n0 0 1 -2\n0 0 0 1\n")
    pose = read_trajectory(tmp_path / "trajectory.log")[0]
    torch.testing.assert_close(pose.T_camera_world[:3, 3], torch.tensor([-0.5, 0, 2.0], dtype=torch.float64))


def test_record3d(tmp_path: Path) -> None:
    frames = [frame(0), frame(1)]
    write_record3d(tmp_path / "a.r3d", frames)
    sequence = open_rgbd(tmp_path / "a.r3d")
    assert len(sequence) == 2
    same(sequence.read(1), frames[1], colour=0.2)  # random colours suffer from JPEG
    assert sequence.read(1).time == pytest.approx(1 / 30)


def test_record3d_of_an_iphone(tmp_path: Path) -> None:
    """LiDAR depth is smaller than the picture, NaN where there is none; the lens' focal length changes."""
    small = torch.full((10, 14), 0.8)
    small[:, 7:] = 1.5
    small[0, 0] = torch.nan
    meta = {"w": 56, "h": 40, "dw": 14, "dh": 10, "fps": 60, "K": K.mT.flatten().tolist()}
    meta["perFrameIntrinsicCoeffs"] = [[70.0, 71.0, 28.0, 20.0]]
    from headlab.datasets.lzfse import store
    from headlab.geometry.files import encode_image

    with zipfile.ZipFile(tmp_path / "b.r3d", "w") as archive:
        archive.writestr("metadata", json.dumps(meta))
        archive.writestr("rgbd/0.jpg", encode_image(frame().image, "JPEG"))
        archive.writestr("rgbd/0.depth", store(small.numpy().astype("<f4").tobytes()))
        archive.writestr("rgbd/1.jpg", encode_image(frame().image, "JPEG"))
        archive.writestr("rgbd/1.depth", b"bvx2rubbish")
    sequence = open_rgbd(tmp_path / "b.r3d")
    read = sequence.read(0)
    assert read.depth.shape == SIZE and float(read.camera.K[0, 0]) == 70
    values = [value for value in read.depth.unique().tolist() if value]
    assert all(min(abs(value - 0.8), abs(value - 1.5)) < 1e-6 for value in values)  # no ramp at the edge
    assert int((read.depth == 0).sum()) == 16
    with pytest.raises(HeadlabError, match="frame 1 cannot be read"):
        sequence.read(1)
    assert torch.equal(enlarged(small, (10, 14)), small) or bool(small.isnan().any())


@pytest.mark.parametrize("ending", ["ply", "pcd"])
def test_clouds(tmp_path: Path, ending: str) -> None:
    one = frame(3)
    path = tmp_path / f"c.{ending}"
    write_cloud(path, one)
    same(open_rgbd(path).read(0), one)
    cloud, faces = read_cloud(path)
    assert cloud.grid == SIZE and not len(faces)
    torch.testing.assert_close(camera_of_grid(cloud).K, K, atol=1e-4, rtol=0)


def test_open3d_reads_our_clouds(tmp_path: Path) -> None:
    o3d = pytest.importorskip("open3d")
    one = frame(3)
    for ending in ("ply", "pcd"):
        write_cloud(tmp_path / f"c.{ending}", one)
        points = np.asarray(o3d.io.read_point_cloud(str(tmp_path / f"c.{ending}")).points)
        known = np.isfinite(points).all(1)
        assert known.sum() == int((one.depth > 0).sum())
        np.testing.assert_allclose(np.sort(points[known][:, 2]), np.sort(one.depth[one.depth > 0].numpy()), atol=1e-6)


@pytest.mark.parametrize("kind", ["ascii", "binary", "compressed"])
def test_pcd_of_open3d(tmp_path: Path, kind: str) -> None:
    o3d = pytest.importorskip("open3d")
    rng = np.random.default_rng(0)
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(rng.normal(size=(500, 3)) * 0.1 + [0, 0, 1]))
    colors = (rng.random((500, 3)) * 255).round() / 255
    cloud.colors = o3d.utility.Vector3dVector(colors)
    path = tmp_path / "o.pcd"
    o3d.io.write_point_cloud(str(path), cloud, write_ascii=kind == "ascii", compressed=kind == "compressed")
    read, _ = read_cloud(path)
    np.testing.assert_allclose(read.points.numpy(), np.asarray(cloud.points), atol=1e-5)
    np.testing.assert_allclose(read.colors.numpy(), colors, atol=1e-2)
    assert read.grid is None


def test_unorganised_clouds_are_drawn(tmp_path: Path) -> None:
    import trimesh

    y, x = np.mgrid[-0.1:0.1:120j, -0.1:0.1:120j]
    points = np.stack([x.ravel(), y.ravel(), np.full(x.size, -0.6)], 1)
    colours = np.tile([200, 100, 50, 255], (x.size, 1)).astype(np.uint8)
    (tmp_path / "p.ply").write_bytes(trimesh.PointCloud(points, colours).export(file_type="ply"))
    sequence = open_rgbd(tmp_path / "p.ply")
    read = sequence.read(0)
    assert "virtual camera" in sequence.notes[0]
    assert float((read.depth > 0).float().mean()) > 0.5
    torch.testing.assert_close(read.depth[read.depth > 0].median(), torch.tensor(0.6), atol=1e-4, rtol=0)
    np.testing.assert_allclose(read.image[:, 240, 320].numpy() * 255, [200, 100, 50], atol=1)


def test_packed_depth_against_the_authors(tmp_path: Path, shared: Path) -> None:
    golden = np.load(shared / "parity/diffusion/ldm3d_depth_packing.npz")
    from PIL import Image

    counts = golden["depth_uint16"]
    metres = torch.from_numpy(counts.astype(np.float64) / 1000).float()
    assert np.array_equal(millimetres(metres), counts)
    write_packed(tmp_path / "p.png", metres)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "p.png")), golden["packed_uint8_hwc"])
    assert np.array_equal(millimetres(read_packed(tmp_path / "p.png")), counts)
    image = torch.rand(3, *counts.shape)
    write_four_channels(tmp_path / "f.png", image, metres)
    colour, depth = read_four_channels(tmp_path / "f.png")
    assert np.array_equal(millimetres(depth), counts)
    torch.testing.assert_close(colour, image, atol=1e-5, rtol=0)
    with pytest.raises(HeadlabError, match="no packed depth"):
        read_packed(tmp_path / "f.png")
    with pytest.raises(HeadlabError, match="16-bit RGBA"):
        read_four_channels(tmp_path / "p.png")


def test_depth_of_its_own_camera_is_registered(tmp_path: Path) -> None:
    write_png(tmp_path / "1_color.png", frame().image)
    write_depth(tmp_path / "1_depth.png", torch.full((20, 28), 0.75))
    (tmp_path / "intrinsics.txt").write_text("fx 61.5\nfy 60.25\ncx 27.2\ncy 20.8\nwidth 56\nheight 40\n")
    with pytest.raises(HeadlabError, match="register it to the colour"):
        open_rgbd(tmp_path).read(0)
    (tmp_path / "depth_intrinsics.txt").write_text("fx 25\nfy 25\ncx 14\ncy 10\nwidth 28\nheight 20\n")
    depth = open_rgbd(tmp_path).read(0).depth
    assert depth.shape == SIZE and float((depth[5:35, 5:50] - 0.75).abs().max()) < 1e-5
    (tmp_path / "depth_to_color.txt").write_text("1 0 0 0  0 1 0 0  0 0 1 0.05  0 0 0 1")
    assert float(open_rgbd(tmp_path).read(0).depth.max()) == pytest.approx(0.8)


def test_odd_folders(tmp_path: Path) -> None:
    assert rgbd_kind(tmp_path) is None
    with pytest.raises(HeadlabError, match="no RGB-D capture headlab knows"):
        open_rgbd(tmp_path)
    with pytest.raises(HeadlabError, match="does not exist"):
        open_rgbd(tmp_path / "nothing")
    write_rgbd_folder(tmp_path, [frame(0), frame(1)])
    with pytest.raises(HeadlabError, match="metres per count"):
        open_rgbd(tmp_path, depth_scale=-1)
    (tmp_path / "0002_depth.png").unlink()
    with pytest.raises(HeadlabError, match=r"2 colour and 1 depth pictures.*0002"):
        open_rgbd(tmp_path)


def test_depth_that_no_camera_measures(tmp_path: Path) -> None:
    one = frame(0)
    write_rgbd_folder(tmp_path, [one])
    write_depth(tmp_path / "0001_depth.png", torch.zeros(SIZE))
    with pytest.raises(HeadlabError, match="0 everywhere"):
        open_rgbd(tmp_path).read(0)
    write_depth(tmp_path / "0001_depth.png", one.depth / 20)  # centimetres, say
    with pytest.raises(HeadlabError, match=r"median depth is 0\.0.* give --depth-scale"):
        open_rgbd(tmp_path).read(0)
    write_depth(tmp_path / "0001_depth.png", 50 * one.depth)
    with pytest.raises(HeadlabError, match="no camera measures"):
        open_rgbd(tmp_path).read(0)


def test_broken_intrinsics(tmp_path: Path) -> None:
    path = tmp_path / "intrinsics.txt"
    path.write_text("500 0 320\n0 500 240\n0 0 1\n")
    camera, scale = read_intrinsics_text(path)
    assert camera.size == (480, 640) and scale is None
    path.write_text("fx 500\nfy 500\n")
    with pytest.raises(HeadlabError, match="lacks cx"):
        read_intrinsics_text(path)
    path.write_text("fx 0\nfy 500\ncx 3\ncy 4\nwidth 6\nheight 8")
    with pytest.raises(HeadlabError, match="make no sense"):
        read_intrinsics_text(path)
    for name in ("a.r3d", "a.pcd", "a.ply", "a.bag", "a.mkv"):
        (tmp_path / name).write_bytes(b"rubbish" * 10)
    for name in ("a.r3d", "a.pcd", "a.ply"):
        with pytest.raises(HeadlabError, match=name):
            open_rgbd(tmp_path / name)


@pytest.mark.slow
def test_broken_recordings(tmp_path: Path) -> None:
    """Open3D works in a process of its own: whatever it does to it, we answer with a line."""
    pytest.importorskip("open3d")
    for name in ("a.bag", "a.mkv"):
        (tmp_path / name).write_bytes(b"rubbish" * 10)
        with pytest.raises(HeadlabError, match="cannot be read through Open3D"):
            open_rgbd(tmp_path / name)
