"""The plain-torch operations that CUDA tensors use, on the CPU beside the native ones."""

import pytest
import torch

from headlab.geometry.raster import closest_point, cuda, fallback, vertex_normals

from .conftest import sphere


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normals_and_gradients(dtype: torch.dtype) -> None:
    verts, faces = sphere(8, 9, dtype)
    generator = torch.Generator().manual_seed(0)
    verts = torch.stack([verts, verts + 0.1 * torch.randn(verts.shape, generator=generator, dtype=dtype)])
    verts = torch.cat([verts, verts[:, :1]], 1).requires_grad_()  # the last belongs to no face
    faces = torch.cat([faces, torch.full((2, 3), -1, dtype=torch.int32)])
    expected = vertex_normals(verts, faces)
    grad = torch.randn(expected.shape, generator=generator, dtype=dtype)
    (expected_grad,) = torch.autograd.grad(expected, verts, grad)
    out, grad_out = torch.full_like(expected, 7), torch.full_like(expected, 7)
    cuda.vertex_normals(verts.detach(), faces, 1, out)
    cuda.vertex_normals_backward(verts.detach(), faces, 1, grad, grad_out)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(out, expected.detach(), rtol=0, atol=tolerance)
    torch.testing.assert_close(grad_out, expected_grad, rtol=tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("meshes", [1, 2])
@pytest.mark.parametrize("pairs", [1 << 22, 1000])
def test_closest_point(meshes: int, pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, "PAIRS", pairs)
    generator = torch.Generator().manual_seed(1)
    vertices = torch.randn(meshes, 60, 3, generator=generator, dtype=torch.float64)
    faces = torch.randint(60, (90, 3), generator=generator)  # slivers, degenerate and intersecting ones included
    faces[4], faces[9] = -1, faces[3]
    points = 2 * torch.randn(2, 70, 3, generator=generator, dtype=torch.float64)
    distance, _, _ = closest_point(vertices if meshes > 1 else vertices[0], faces, points)
    face, bary = torch.empty(2, 70, dtype=torch.int32), torch.empty(2, 70, 3, dtype=torch.float64)
    assert cuda.closest_point(vertices, faces, 1, points, face, bary) == 0
    assert not torch.isin(face, torch.tensor([4, 9])).any()
    assert (bary >= 0).all() and (bary.sum(-1) - 1).abs().max() < 1e-12
    item = torch.arange(2)[:, None, None] if meshes > 1 else torch.zeros(2, 1, 1, dtype=torch.int64)
    foot = (bary[..., None] * vertices[item, faces[face.long()]]).sum(-2)
    torch.testing.assert_close((points - foot).norm(dim=-1), distance)


def test_closest_point_reports_bad_input() -> None:
    verts, faces = sphere(3, 4)
    face, bary = torch.empty(1, 2, dtype=torch.int32), torch.empty(1, 2, 3, dtype=torch.float64)
    points = torch.zeros(1, 2, 3, dtype=torch.float64)
    for status, args in {
        1: (verts[None], faces + 9, points),
        2: (verts[None], faces, points * float("nan")),
        5: (verts[None], faces * 0 - 1, points),
    }.items():
        assert fallback.closest_point(*args, face, bary) == status
    assert fallback.closest_point(verts[None], faces, points[:, :0], face[:, :0], bary[:, :0]) == 0


def test_antialias_has_no_cuda_version() -> None:
    with pytest.raises(ValueError, match="no CUDA version"):
        _ = cuda.antialias
