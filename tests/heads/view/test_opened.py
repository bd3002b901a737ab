"""Opening: every kind of file, and one line for everything that is none."""

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from riggable import ramp_texture, random_code, riggable_head

from headlab.geometry.camera import Camera
from headlab.geometry.errors import HeadlabError
from headlab.geometry.files import write_png
from headlab.heads.export import write_glb, write_ply
from headlab.heads.head_fit import HeadFit
from headlab.heads.view import opened as module
from headlab.heads.view.opened import OpenedCloud, OpenedHead, OpenedMesh, open_any


def fit(model: str = "riggable", frames: int = 1, **report) -> HeadFit:
    head = riggable_head()
    code = random_code(head, 2).map(lambda value: value.expand(frames, *value.shape).clone())
    cameras = tuple(Camera.frontal(300.0, (48, 64)) for _ in range(frames))
    return HeadFit(model, code, cameras, ramp_texture(), tuple(f"{i}.png" for i in range(frames)), report)


@pytest.fixture(autouse=True)
def riggable(monkeypatch):
    from headlab.heads.models import load_model

    monkeypatch.setattr(module, "load_model", lambda name: riggable_head() if name == "riggable" else load_model(name))


def test_a_fit_a_track_and_their_photos(tmp_path):
    fit().save(tmp_path / "head.npz")
    write_png(tmp_path / "0.png", torch.rand(3, 48, 64))
    for path in (tmp_path, tmp_path / "head.npz"):
        head = open_any(path)
        assert isinstance(head, OpenedHead) and head.model is not None and head.frames == 1
        assert head.name == tmp_path.name and head.surface.textured
    assert head.photo(0).shape == (48, 64, 3)
    write_png(tmp_path / "0.png", torch.rand(3, 40, 64))
    assert head.photo(0) is None  # another photo of that name
    with pytest.raises(HeadlabError, match="64 x 40 pixels, but the head was fitted to a photo of 64 x 48"):
        head.photo(0, tmp_path / "0.png")
    fit(frames=3, times=[0.0, 0.1, 0.2]).save(tmp_path / "track.npz")
    track = open_any(tmp_path)
    assert isinstance(track, OpenedHead) and track.frames == 3 and track.times == (0.0, 0.1, 0.2)


def test_a_fit_whose_model_is_missing_shows_the_mesh_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADLAB_ASSETS", str(tmp_path / "none"))
    fit("flame2023").save(tmp_path / "head.npz")
    with pytest.raises(HeadlabError, match=r"headlab assets add.*no head.ply, head.glb, head.obj beside"):
        open_any(tmp_path)
    model = riggable_head()
    write_glb(tmp_path / "head.glb", model, random_code(model, 2), ramp_texture())
    head = open_any(tmp_path)
    assert isinstance(head, OpenedHead) and head.model is None and head.stored is not None
    assert (
        "flame2023 is not installed: showing the mesh of head.glb, without sliders" in head.note
        and "\n" not in head.note
    )
    write_ply(tmp_path / "head.ply", model, model.template, ramp_texture())
    head = open_any(tmp_path)
    assert isinstance(head, OpenedHead) and torch.equal(head.surface.vertices, model.template)
    assert head.surface.colors is not None


def test_meshes_and_points(tmp_path):
    ball = trimesh.creation.icosphere(subdivisions=2, radius=0.1)
    for suffix in ("ply", "obj", "stl", "glb", "off"):
        ball.export(tmp_path / f"ball.{suffix}")
        mesh = open_any(tmp_path / f"ball.{suffix}")
        assert isinstance(mesh, OpenedMesh) and len(mesh.surface.faces) == 320
        assert float(mesh.surface.vertices.norm(dim=1).mean()) == pytest.approx(0.1, rel=1e-4)
    colors = np.random.default_rng(0).integers(0, 255, (50, 4), dtype=np.uint8)
    trimesh.PointCloud(np.random.default_rng(1).random((50, 3)), colors).export(tmp_path / "points.ply")
    cloud = open_any(tmp_path / "points.ply")
    assert isinstance(cloud, OpenedCloud) and len(cloud.cloud.points) == 50 and cloud.cloud.colors is not None
    np.testing.assert_allclose(cloud.cloud.colors.numpy() * 255, colors[:, :3], atol=1e-3)


def test_a_depth_picture_becomes_points_in_front_of_the_camera(tmp_path):
    depth = np.zeros((30, 40), np.uint16)
    depth[10:20, 10:30] = 1250
    Image.fromarray(depth).save(tmp_path / "a_depth.png")
    write_png(tmp_path / "a_color.png", torch.full((3, 30, 40), 0.5))
    with pytest.raises(HeadlabError, match=r"intrinsics.txt, which tells the camera of a_depth.png.*fx, fy, cx and cy"):
        open_any(tmp_path / "a_depth.png")
    (tmp_path / "intrinsics.txt").write_text("# pixels\nfx 50\nfy 50\ncx 20\ncy 15\n")
    cloud = open_any(tmp_path / "a_depth.png")
    assert isinstance(cloud, OpenedCloud) and len(cloud.cloud.points) == 200
    torch.testing.assert_close(cloud.cloud.points[:, 2], torch.full((200,), -1.25))  # it looks along -Z
    assert float(cloud.cloud.points[0, 0]) == pytest.approx(1.25 * (10.5 - 20) / 50)
    assert float(cloud.cloud.points[0, 1]) == pytest.approx(-1.25 * (10.5 - 15) / 50)


def test_everything_else_is_one_line(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "a.ply").write_text("hello")
    (tmp_path / "a.npz").write_bytes(b"hello")
    write_png(tmp_path / "a.png", torch.rand(3, 8, 8))
    cases = {
        "a.txt": "kind .txt are not known",
        "a.ply": "cannot be read as PLY",
        "a.npz": "is not a head fitted by headlab",
        "a.png": "it is a picture; fit it first: headlab fit a.png",
        "gone": "no such file or folder",
        ".": "holds no head.npz or track.npz",
    }
    for name, words in cases.items():
        with pytest.raises(HeadlabError, match=words) as caught:
            open_any(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_fit_of_a_larger_model_is_refused(tmp_path):
    given = fit()
    longer = given.codes.with_(shape=torch.zeros(1, 99))
    HeadFit(given.model, longer, given.cameras, None, given.sources).save(tmp_path / "head.npz")
    with pytest.raises(HeadlabError, match="99 shape and 7 expression coefficients"):
        open_any(tmp_path)
