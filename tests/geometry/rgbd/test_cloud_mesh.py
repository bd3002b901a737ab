"""Depth maps, clouds and meshes: there and back without losing a bit; pictures of them; two cameras."""

import math

import pytest
import roma
import torch
from torch import Tensor

from headlab.geometry.camera import Camera
from headlab.geometry.errors import HeadlabError
from headlab.geometry.rgbd import (
    PointCloud,
    cloud_from_depth,
    depth_from_cloud,
    mesh_from_depth,
    register_depth,
    render_mesh,
    render_points,
)
from headlab.geometry.rgbd.cloud import back_project
from headlab.geometry.rgbd.register import camera_from

SIZE = (48, 64)
K = torch.tensor([[70.0, 0, 30.3], [0, 69.0, 25.1], [0, 0, 1]])


def posed(seed: int = 0) -> Camera:
    generator = torch.Generator().manual_seed(seed)
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = roma.random_rotmat(dtype=torch.float64)
    pose[:3, 3] = torch.randn(3, generator=generator, dtype=torch.float64)
    return camera_from(K, SIZE, pose)


def bumpy(holes: float = 0.2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(SIZE[0]) / 9, torch.arange(SIZE[1]) / 7, indexing="ij")
    depth = 0.6 + 0.02 * torch.sin(x) * torch.cos(y)
    depth[:, 40:] += 0.4  # an edge
    return torch.where(torch.rand(SIZE, generator=generator) < holes, 0.0, depth)


def test_points_of_known_pixels() -> None:
    depth = torch.full(SIZE, 2.0)
    points = back_project(depth, camera_from(K, SIZE))
    expected = [2 * (10.5 - 30.3) / 70, 2 * (20.5 - 25.1) / 69, 2.0]
    torch.testing.assert_close(points[20, 10], torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)
    with pytest.raises(HeadlabError, match="register the depth"):
        back_project(torch.ones(4, 4), camera_from(K, SIZE))


@pytest.mark.parametrize("camera", [camera_from(K, SIZE), posed(1), Camera.frontal(80.0, SIZE)])
def test_round_trips_are_exact(camera: Camera) -> None:
    depth, image = bumpy(), torch.rand(3, *SIZE)
    cloud = cloud_from_depth(depth, camera, image)
    assert cloud.grid == SIZE and int(cloud.valid.sum()) == int((depth > 0).sum())
    assert torch.equal(depth_from_cloud(cloud, camera), depth)
    mesh = mesh_from_depth(depth, camera, image)
    picture = render_mesh(mesh.vertices, mesh.faces, camera, mesh.colors)
    assert torch.equal(picture.depth[depth > 0], depth[depth > 0])
    torch.testing.assert_close(picture.image[:, depth > 0], image[:, depth > 0])
    points = render_points(cloud.known(), camera, radius=0.5)
    assert torch.equal(points.depth, depth)
    torch.testing.assert_close(points.image[:, depth > 0], image[:, depth > 0], atol=1e-5, rtol=0)
    assert torch.equal(points.confidence, (depth > 0).float())


def test_unorganised_clouds_have_no_pixels() -> None:
    cloud = cloud_from_depth(bumpy(), posed()).known()
    with pytest.raises(HeadlabError, match="not organised"):
        depth_from_cloud(cloud, posed())
    with pytest.raises(ValueError, match="do not fill"):
        PointCloud(torch.zeros(5, 3), grid=(2, 2))


def test_meshes_do_not_bridge_edges_and_face_the_camera() -> None:
    camera, depth = posed(3), bumpy(0.0)
    mesh = mesh_from_depth(depth, camera)
    corners = mesh.vertices[mesh.faces]
    assert float((camera.to_camera(corners.flatten(0, 1))[:, 2].reshape(-1, 3).diff()).abs().max()) < 0.02
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    towards = -camera.R.mT @ camera.t - corners.mean(1)
    assert bool(((normal * towards).sum(-1) > 0).all())


@pytest.mark.parametrize("surface", [True, False])
def test_registration_of_a_plane_to_another_camera(surface: bool) -> None:
    """Depth camera and colour camera with their own intrinsics, 5 cm apart and turned; the plane is known."""
    depth_camera = camera_from(K, SIZE)
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = roma.rotvec_to_rotmat(torch.tensor([0.02, -0.05, 0.01], dtype=torch.float64))
    pose[:3, 3] = torch.tensor([0.05, 0.003, 0.002])
    colour = camera_from(torch.tensor([[110.0, 0, 48], [0, 110, 36], [0, 0, 1]]), (72, 96), pose)
    normal, height = torch.tensor([0.2, -0.1, -1.0], dtype=torch.float64), -0.9

    def plane(camera: Camera) -> Tensor:
        rays = back_project(torch.ones(camera.size), camera)
        eye = -camera.R.mT @ camera.t
        return (height - normal @ eye) / ((rays - eye) @ normal)

    found = register_depth(plane(depth_camera).float(), depth_camera, colour, surface=surface).depth
    seen = found > 0
    assert float(seen.float().mean()) > 0.4
    inner = seen.clone()
    inner[:3], inner[-3:], inner[:, :3], inner[:, -3:] = False, False, False, False
    error = (found - plane(colour)).abs()[inner]
    assert float(error.mean()) < (1e-5 if surface else 2e-3)


def test_the_nearest_points_hide_others() -> None:
    camera = Camera.frontal(100.0, (40, 40))

    def sheet(count: int, side: float, z: float) -> Tensor:
        steps = torch.linspace(-side / 2, side / 2, count)
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        return torch.stack([x.flatten(), y.flatten(), torch.full((count * count,), z)], 1)

    wall, patch = sheet(70, 1.0, -1.0), sheet(45, 0.2, -0.5)
    colours = torch.cat([torch.zeros(len(wall), 3), torch.ones(len(patch), 3)])
    picture = render_points(PointCloud(torch.cat([wall, patch]), colours), camera)
    middle = slice(8, 32)
    torch.testing.assert_close(picture.depth[middle, middle], torch.full((24, 24), 0.5), atol=1e-5, rtol=0)
    assert bool((picture.image[:, middle, middle] == 1).all())
    assert float((picture.depth > 0).float().mean()) > 0.9
    assert float(picture.confidence.max()) <= 1 and not bool(((picture.confidence > 0) & (picture.depth == 0)).any())


def test_nothing_in_view() -> None:
    behind = PointCloud(torch.tensor([[0.0, 0.0, 3.0]]), torch.ones(1, 3))
    picture = render_points(behind, Camera.frontal(50.0, (8, 9)))
    assert not bool(picture.depth.any()) and picture.image.shape == (3, 8, 9)
    empty = render_mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.long), Camera.frontal(50.0, (8, 9)))
    assert not bool(empty.depth.any()) and math.isclose(float(empty.confidence.sum()), 0)
