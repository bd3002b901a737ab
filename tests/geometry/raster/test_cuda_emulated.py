"""The CUDA kernels without a GPU: their source compiled for the CPU, behind the same Python, against the CPU op."""

import sys
from types import ModuleType

import pytest
import torch

from headlab.geometry.raster import cuda, interpolate, rasterize

from .conftest import Scene, random_soup


def outputs(batch: int, size: tuple[int, int], layers: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    shape = (batch, *size, layers)
    return torch.empty(shape, dtype=torch.int32), torch.empty(*shape, 3), torch.empty(shape)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cull", [False, True])
def test_forward_agrees(driver: ModuleType, layers: int, cull: bool) -> None:
    for scene in (random_soup(150, 4, (40, 52), 6.0, torch.float32), random_soup(20, 5, (64, 70), 60.0, torch.float32)):
        points, faces, size = scene
        points = torch.cat([points, points * 1.01])
        faces = torch.cat([faces, faces[:5], torch.full((3, 3), -1, dtype=torch.int32)])  # doubles and padding
        expected = rasterize(points, faces, size, near=0.1, cull=cull, layers=layers)
        face, bary, depth = outputs(2, size, layers)
        driver.rasterize(points, faces, *size, layers, 0.1, cull, 1, face, bary, depth)
        shape = expected.face.shape
        differ = face.reshape(shape) != expected.face
        assert differ.sum() <= 2 * layers  # nearly equal depths
        assert (bary.reshape(*shape, 3) - expected.bary)[~differ].abs().max() <= 1e-4
        assert (depth.reshape(shape) - expected.depth)[~differ].abs().max() <= 1e-4


@pytest.mark.slow
def test_bad_faces_are_not_drawn(driver: ModuleType, ball: Scene) -> None:
    points, faces, size = ball
    points = points.float()
    points[0, 3] = float("nan")
    faces = faces.clone()
    faces[4, 1], faces[5, 0] = 10_000, -7
    face, bary, depth = outputs(1, size, 1)
    driver.rasterize(points, faces, *size, 1, 1e-3, False, 1, face, bary, depth)
    bad = torch.tensor([4, 5, *(faces == 3).any(-1).nonzero().flatten().tolist()])
    assert (face >= 0).any() and not torch.isin(face, bad).any()
    assert bary.isfinite().all() and depth.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("shared", [True, False])
def test_gradients_agree(driver: ModuleType, ball: Scene, layers: int, shared: bool) -> None:
    points, faces, size = ball
    points = torch.cat([points, points * 1.02]).float()
    values = torch.randn(1 if shared else 2, points.shape[1], 37)  # more channels than a warp has lanes
    p, v = points.clone().requires_grad_(), values.clone().requires_grad_()
    raster = rasterize(p, faces, size, layers=layers)
    raster.bary.retain_grad()
    image = interpolate(raster, v, faces)
    weight = torch.randn_like(image)
    ((image * weight).sum() + raster.depth.square().sum()).backward()

    face, bary = raster.face.reshape(2, *size, layers), raster.bary.detach().reshape(2, *size, layers, 3)
    out = torch.empty(2, *size, layers, 37)
    driver.interpolate(values, faces, 1, face, bary, out)
    assert torch.allclose(out.reshape(image.shape), image.detach(), atol=1e-5)
    grad_values, grad_bary = torch.empty_like(values), torch.empty_like(bary)
    driver.interpolate_backward(values, faces, 1, face, bary, weight.reshape(out.shape), grad_values, grad_bary)
    assert p.grad is not None and v.grad is not None and raster.bary.grad is not None
    assert torch.allclose(grad_values, v.grad, atol=1e-4)
    grad_points = torch.empty_like(points)
    grad_depth = (2 * raster.depth.detach()).reshape(face.shape)
    driver.rasterize_backward(points, faces, 1, face, grad_bary, grad_depth, grad_points)
    assert (grad_points - p.grad).norm() <= 1e-4 * p.grad.norm()


def test_missing_cuda_module_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "headlab.geometry._cuda", None)
    cuda._module.cache_clear()
    with pytest.raises(ValueError, match="HEADLAB_CUDA=ON"):
        cuda._module()
