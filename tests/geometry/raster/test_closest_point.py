"""Closest point on a mesh."""

import numpy as np
import pytest
import torch

from headlab.geometry.raster import RasterError, closest_point

from .conftest import sphere


def brute_force(vertices: np.ndarray, faces: np.ndarray, point: np.ndarray) -> float:
    """Distance to the nearest edge segment, or plane where the foot lies inside the face; over all faces."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))

    def segment(s: np.ndarray, e: np.ndarray) -> np.ndarray:
        d = e - s
        t = np.clip(((point - s) * d).sum(1) / np.maximum((d * d).sum(1), 1e-300), 0, 1)
        return np.linalg.norm(point - s - t[:, None] * d, axis=1)

    best = np.minimum(np.minimum(segment(a, b), segment(b, c)), segment(c, a))
    normal = np.cross(b - a, c - a)
    inside = np.ones(len(faces), bool)
    for s, e in ((a, b), (b, c), (c, a)):
        inside &= (np.cross(e - s, point - s) * normal).sum(1) > 0
    height = np.abs(((point - a) * normal).sum(1)) / np.maximum(np.linalg.norm(normal, axis=1), 1e-300)
    return float(np.where(inside, np.minimum(best, height), best).min())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_brute_force(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    vertices = torch.randn(300, 3, generator=generator, dtype=dtype)
    faces = torch.randint(300, (500, 3), generator=generator)  # slivers, degenerate and intersecting faces included
    faces[7] = -1
    points = torch.randn(400, 3, generator=generator, dtype=dtype) * 2
    distance, face, bary = closest_point(vertices, faces, points)
    assert (bary >= 0).all() and (bary.sum(-1) - 1).abs().max() < 1e-5 and not (face == 7).any()
    kept = np.delete(faces.numpy(), 7, 0)
    expected = [brute_force(vertices.double().numpy(), kept, p) for p in points.double().numpy()]
    tolerance = 2e-6 if dtype == torch.float32 else 1e-12
    np.testing.assert_allclose(distance.numpy(), expected, rtol=0, atol=tolerance)
    foot = (bary[..., None] * vertices[faces[face.long()]]).sum(-2)
    torch.testing.assert_close((points - foot).norm(dim=-1), distance)


@pytest.mark.parametrize("face", [[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 2], [2, 1, 0], [1, 0, 2]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_faces_without_area_are_segments(face: list[int], dtype: torch.dtype) -> None:
    """Repeated corners, and three in a row that no number format holds exactly."""
    vertices = torch.tensor([[0.1, 0.2, 0.3], [1.3, -0.4, 0.7], [0.7, -0.1, 0.5]], dtype=dtype)
    points = torch.randn(200, 3, generator=torch.Generator().manual_seed(2), dtype=dtype)
    distance, _, bary = closest_point(vertices, torch.tensor([face]), points)
    start, end = vertices[0], vertices[1] if any(face) else vertices[0]
    along = end - start
    t = ((points - start) @ along / (along @ along).clamp(min=1e-30)).clamp(0, 1)
    expected = (points - start - t[:, None] * along).norm(dim=-1)
    tolerance = 2e-6 if dtype == torch.float32 else 1e-9
    torch.testing.assert_close(distance, expected, rtol=0, atol=tolerance)
    assert (bary >= 0).all() and (bary.sum(-1) - 1).abs().max() < 1e-6


def test_sphere_in_closed_form() -> None:
    verts, faces = sphere(120, 240)
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(3000, 3, generator=generator, dtype=torch.float64)
    distance, _, _ = closest_point(verts, faces, points)
    assert (distance - (points.norm(dim=-1) - 1).abs()).abs().max() < 1e-3


def test_surface_points_have_no_distance_and_ties_are_stable() -> None:
    verts, faces = sphere(8, 9, torch.float32)
    distance, face, _ = closest_point(verts, faces, verts)
    assert distance.max() < 1e-6
    first = [int((faces == i).any(-1).nonzero()[0]) for i in range(len(verts))]
    exact = distance == 0
    assert torch.equal(face[exact].long(), torch.tensor(first)[exact])
    order = torch.randperm(len(verts), generator=torch.Generator().manual_seed(0))
    assert torch.equal(closest_point(verts, faces, verts[order])[1], face[order])


def test_batches_broadcast() -> None:
    verts, faces = sphere(5, 6)
    scale = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)[:, None, None]
    points = torch.randn(2, 1, 10, 3, dtype=torch.float64)
    distance, face, bary = closest_point(verts * scale, faces, points)
    assert distance.shape == face.shape == (2, 3, 10) and bary.shape == (2, 3, 10, 3)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(distance[i, j], closest_point(verts * scale[j], faces, points[i, 0])[0])


def test_gradient() -> None:
    verts, faces = sphere(4, 5)
    points = torch.randn(12, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda v, p: closest_point(v, faces, p)[0], (verts.requires_grad_(), points))
    on_surface = verts.detach()[:3].clone().requires_grad_()
    closest_point(verts.detach(), faces, on_surface)[0].sum().backward()
    assert on_surface.grad is not None and not on_surface.grad.isnan().any()


def test_threads_change_nothing() -> None:
    verts, faces = sphere(30, 40, torch.float32)
    points = torch.randn(5000, 3)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = closest_point(verts, faces, points)
        torch.set_num_threads(4)
        four = closest_point(verts, faces, points)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(one, four, strict=True))


def test_bad_input_is_named() -> None:
    verts, faces = sphere(4, 5)
    points = torch.zeros(2, 3, dtype=torch.float64)
    with pytest.raises(RasterError, match="no faces"):
        closest_point(verts, faces[:0], points)
    with pytest.raises(RasterError, match="NaN"):
        closest_point(verts, faces, points * float("nan"))
    with pytest.raises(RasterError, match="outside"):
        closest_point(verts[:3], faces, points)
    with pytest.raises(RasterError, match="float"):
        closest_point(verts, faces, points.float())
    assert closest_point(verts, faces, points[:0])[0].shape == (0,)
