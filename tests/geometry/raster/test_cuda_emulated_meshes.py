"""CUDA's antialiasing, normals and closest points without a GPU, against the CPU op (see test_cuda_emulated.py)."""

from types import ModuleType

import pytest
import torch
from torch import Tensor

from headlab.geometry.raster import Raster, antialias, closest_point, rasterize, vertex_normals

from .conftest import Scene, random_soup, sphere

pytestmark = pytest.mark.slow


def two_views(ball: Scene) -> tuple[Tensor, Tensor, Raster]:
    """The ball twice, half behind the near plane the second time, with a hole and an edge of three faces."""
    points, faces, size = ball
    points = torch.cat([points, points - points.new_tensor([0.0, 0.0, 2.9, 2.9])]).float()
    faces = torch.cat([faces[3:], faces[40:41, [0, 2, 1]], torch.full((2, 3), -1, dtype=torch.int32)])
    return points, faces, rasterize(points, faces, size, near=0.2)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("batched", [False, True])
def test_antialias_agrees(driver: ModuleType, ball: Scene, channels: int, batched: bool) -> None:
    points, faces, raster = two_views(ball)
    faces = torch.stack([faces, faces]) if batched else faces
    image = torch.rand(*raster.face.shape, channels)
    p, i = points.clone().requires_grad_(), image.clone().requires_grad_()
    expected = antialias(i, raster, p, faces, near=0.2)
    assert ((expected - image) != 0).any(-1).sum() > 80
    grad = torch.randn(image.shape)
    expected.backward(grad)
    out = torch.full_like(image, 7)
    driver.antialias(points, faces, 0.2, 1, raster.face, raster.depth, image, out)
    torch.testing.assert_close(out, expected.detach(), rtol=0, atol=1e-6)
    for wanted in ((True, True), (True, False), (False, True)):
        to_image = torch.full_like(image, 7) if wanted[0] else None
        to_points = torch.full_like(points, 7) if wanted[1] else None
        args = (points, faces, 0.2, 1, raster.face, raster.depth, image, grad, to_image, to_points)
        driver.antialias_backward(*args)
        assert p.grad is not None and i.grad is not None
        if to_image is not None:
            torch.testing.assert_close(to_image, i.grad, rtol=0, atol=1e-6)
        if to_points is not None:
            assert (to_points - p.grad).norm() <= 1e-5 * p.grad.norm()


def test_antialias_gradient_is_that_of_its_picture(driver: ModuleType, ball: Scene) -> None:
    """Finite differences along random motions, small enough that no walk changes its course; the raster is held."""
    points, faces, size = ball
    points = points.float()
    raster = rasterize(points, faces, size)
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(*raster.face.shape, 3, generator=generator)
    weight = torch.randn(image.shape, generator=generator)

    def loss(p: Tensor) -> float:
        out = torch.empty_like(image)
        driver.antialias(p, faces, 1e-3, 1, raster.face, raster.depth, image, out)
        return float((out.double() * weight.double()).sum())

    grad = torch.empty_like(points)
    driver.antialias_backward(points, faces, 1e-3, 1, raster.face, raster.depth, image, weight, None, grad)
    for _ in range(5):
        step = torch.randn(points.shape, generator=generator) * torch.tensor([1e-4, 1e-4, 1.0, 2e-6])
        after, before = points + step, points - step
        expected = float((grad.double() * (after.double() - before.double())).sum())
        assert loss(after) - loss(before) == pytest.approx(expected, rel=5e-3, abs=2e-6)


def test_antialias_leaves_bad_faces_alone(driver: ModuleType, ball: Scene) -> None:
    points, faces, size = ball
    points, faces = points.float(), faces.clone()
    raster = rasterize(points, faces, size)
    points[0, 3] = float("nan")
    faces[4, 1], faces[5, 0] = 10_000, -7
    image, out = torch.rand(1, *size, 2), torch.empty(1, *size, 2)
    face = torch.where(raster.face == 7, 10_000, raster.face)
    driver.antialias(points, faces, 1e-3, 1, face, raster.depth, image, out)
    assert out.isfinite().all() and (out != image).any()
    grad = torch.empty_like(points)
    driver.antialias_backward(points, faces, 1e-3, 1, face, raster.depth, image, torch.rand_like(image), None, grad)
    assert grad.isfinite().all() and grad.any()
    none = faces[:0]
    driver.antialias(points, none, 1e-3, 1, torch.full_like(face, -1), raster.depth, image, out)
    assert torch.equal(out, image)


def test_adjacency(driver: ModuleType) -> None:
    _, faces = sphere(5, 6)
    faces = torch.cat([faces, torch.tensor([[-1, -1, -1], [3, 3, 9], [0, 1, 50], [0, 99, 1]], dtype=torch.int32)])
    across = driver.adjacency(faces, 90)[0]
    edges: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for f, v in enumerate(faces.tolist()):
        if min(v) >= 0 and max(v) < 90:
            for k in range(3):
                low, high = sorted((v[k], v[(k + 1) % 3]))
                edges.setdefault((low, high), []).append((f, k))
    expected = torch.full_like(across, -1)
    for sides in edges.values():
        if len(sides) == 2:
            for (f, k), (g, m) in (sides, sides[::-1]):
                expected[f, k] = 4 * g + m
    assert torch.equal(across, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normals_and_gradients(driver: ModuleType, dtype: torch.dtype) -> None:
    verts, faces = sphere(8, 9, dtype)
    generator = torch.Generator().manual_seed(0)
    verts = torch.stack([verts, verts + 0.1 * torch.randn(verts.shape, generator=generator, dtype=dtype)])
    verts = torch.cat([verts, verts[:, :1]], 1).requires_grad_()  # the last belongs to no face
    faces = torch.cat([faces, torch.full((2, 3), -1, dtype=torch.int32)])
    expected = vertex_normals(verts, faces)
    grad = torch.randn(expected.shape, generator=generator, dtype=dtype)
    (expected_grad,) = torch.autograd.grad(expected, verts, grad)
    out, grad_out = torch.full_like(expected, 7), torch.full_like(expected, 7)
    driver.vertex_normals(verts.detach(), faces, 1, out)
    driver.vertex_normals_backward(verts.detach(), faces.long(), 1, grad, grad_out)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    torch.testing.assert_close(out, expected.detach(), rtol=0, atol=tolerance)
    torch.testing.assert_close(grad_out, expected_grad, rtol=tolerance, atol=10 * tolerance)
    out_of_range = torch.cat([faces, torch.tensor([[0, 1, 500]], dtype=torch.int32)])
    driver.vertex_normals(verts.detach(), out_of_range, 1, out)
    torch.testing.assert_close(out, expected.detach(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("meshes", "items"), [(1, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("count", [1, 4, 90, 700])
def test_closest_point(driver: ModuleType, dtype: torch.dtype, meshes: int, items: int, count: int) -> None:
    generator = torch.Generator().manual_seed(1)
    vertices = torch.randn(meshes, 60, 3, generator=generator, dtype=dtype)
    faces = torch.randint(60, (count, 3), generator=generator)  # slivers, degenerate and intersecting ones included
    if count > 9:
        faces[4], faces[9] = -1, faces[3]
    points = 2 * torch.randn(items, 70, 3, generator=generator, dtype=dtype)
    points[0, :9] = vertices[0, faces[0, 0]]  # at a corner of several faces
    distance, expected, _ = closest_point(vertices if meshes > 1 else vertices[0], faces, points)
    face, bary = torch.empty(items, 70, dtype=torch.int32), torch.empty(items, 70, 3, dtype=dtype)
    assert driver.closest_point(vertices, faces, 1, points, face, bary) == 0
    assert count < 9 or not torch.isin(face, torch.tensor([4, 9])).any()
    item = torch.arange(items)[:, None, None] if meshes > 1 else torch.zeros(items, 1, 1, dtype=torch.int64)
    foot = (bary[..., None] * vertices[item, faces[face.long()]]).sum(-2)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert (bary >= 0).all() and (bary.sum(-1) - 1).abs().max() < tolerance
    torch.testing.assert_close((points - foot).norm(dim=-1), distance, rtol=tolerance, atol=tolerance)
    assert (face != expected).sum() <= 2 * items  # equal distances may round differently in another tree


def test_closest_point_on_a_smooth_mesh(driver: ModuleType) -> None:
    verts, faces = sphere(40, 60, torch.float32)
    points = torch.randn(1, 500, 3, generator=torch.Generator().manual_seed(2))
    distance, _, _ = closest_point(verts, faces, points)
    face, bary = torch.empty(1, 500, dtype=torch.int32), torch.empty(1, 500, 3)
    assert driver.closest_point(verts[None], faces, 1, points, face, bary) == 0
    foot = (bary[..., None] * verts[faces[face.long()].long()]).sum(-2)
    torch.testing.assert_close((points - foot).norm(dim=-1), distance, rtol=1e-5, atol=1e-6)


def test_closest_point_reports_bad_input(driver: ModuleType) -> None:
    verts, faces = sphere(3, 4)
    face, bary = torch.empty(1, 2, dtype=torch.int32), torch.empty(1, 2, 3, dtype=torch.float64)
    points = torch.zeros(1, 2, 3, dtype=torch.float64)
    for status, args in {
        1: (verts[None], faces + 9, 1, points),
        2: (verts[None], faces, 1, points * float("nan")),
        5: (verts[None], faces * 0 - 1, 1, points),
    }.items():
        assert driver.closest_point(*args, face, bary) == status
    assert driver.closest_point(verts[None], faces, 1, points[:, :0], face[:, :0], bary[:, :0]) == 0


def test_soup_has_no_neighbours(driver: ModuleType) -> None:
    """Unconnected triangles: every drawn edge is a silhouette."""
    points, faces, size = random_soup(60, 7, (40, 44), 8.0, torch.float32)
    raster = rasterize(points, faces, size, near=0.1)
    image = torch.rand(1, *size, 3)
    out = torch.empty_like(image)
    driver.antialias(points, faces, 0.1, 1, raster.face, raster.depth, image, out)
    torch.testing.assert_close(out, antialias(image, raster, points, faces, near=0.1), rtol=0, atol=1e-6)
