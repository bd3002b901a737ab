"""Pictures with depth as meshes and point clouds."""

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from headlab.geometry.camera import Camera
from headlab.geometry.errors import HeadlabError
from headlab.heads.export.depth_ply import back_project, grid_faces, write_depth_ply

CAMERA = Camera.frontal(80.0, (40, 50))


def _ball() -> torch.Tensor:
    """Depth of a ball of 10 cm at 0.5 m, nothing around it."""
    rays = back_project(torch.ones(40, 50), CAMERA)
    centre = torch.tensor([0.0, 0.0, -0.5])
    a, b, c = (rays**2).sum(-1), (rays * centre).sum(-1), (centre**2).sum() - 0.1**2
    root = b * b - a * c
    return torch.where(root > 0, (b - root.clamp(min=0).sqrt()) / a, 0.0)


def test_points_project_onto_their_pixels() -> None:
    depth = 0.4 + 0.3 * torch.rand(40, 50, generator=torch.Generator().manual_seed(0))
    turned = Camera(CAMERA.K, torch.linalg.qr(torch.randn(3, 3))[0], torch.tensor([0.1, 0.2, 0.3]), CAMERA.size)
    for camera in (CAMERA, turned):
        points = back_project(depth, camera)
        pixels = camera.project(points.flatten(0, 1)).unflatten(0, (40, 50))
        y, x = torch.meshgrid(torch.arange(40) + 0.5, torch.arange(50) + 0.5, indexing="ij")
        torch.testing.assert_close(pixels, torch.stack([x, y], -1), atol=1e-3, rtol=0)
        torch.testing.assert_close(camera.to_camera(points.flatten(0, 1))[:, 2], depth.flatten(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("points_only", [False, True])
def test_a_ball(tmp_path: Path, points_only: bool) -> None:
    depth, image = _ball(), torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(1))
    write_depth_ply(tmp_path / "ball.ply", image, depth, CAMERA, points_only=points_only)
    read = trimesh.load(tmp_path / "ball.ply", process=False)
    known = depth.flatten() > 0
    assert len(read.vertices) == int(known.sum())
    centre = np.array([0, 0, -0.5])
    np.testing.assert_allclose(np.linalg.norm(read.vertices - centre, axis=1), 0.1, atol=1e-4)
    colors = read.colors if points_only else read.visual.vertex_colors
    expected = (image.flatten(1).mT[known] * 255).round().byte().numpy()
    np.testing.assert_array_equal(np.asarray(colors)[:, :3], expected)
    if not points_only:
        assert len(read.faces) > 100
        outwards = ((read.triangles_center - centre) * read.face_normals).sum(1)
        assert (outwards > 0).all()


def test_edges_are_not_bridged() -> None:
    depth = torch.full((4, 4), 0.5)
    depth[:, 2:] = 0.6
    depth[0, 0] = 0
    faces = grid_faces(depth)
    sides = (faces % 4 >= 2).float().mean(1)
    assert ((sides == 0) | (sides == 1)).all()
    assert (faces != 0).all()
    assert len(faces) == 3 * 2 * 2 - 1


def test_no_depth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HeadlabError, match="--depth"):
        write_depth_ply(tmp_path / "x.ply", torch.zeros(3, 4, 4), torch.zeros(4, 4), Camera.frontal(5.0, (4, 4)))
    assert not (tmp_path / "x.ply").exists()
