"""Gradients against finite differences and the torch oracle."""

import pytest
import torch
from torch import Tensor

from headlab.geometry.raster import Raster, antialias, interpolate, oracle, rasterize

from .conftest import Scene, sphere


def small_scene() -> Scene:
    verts, faces = sphere(4, 5)
    x, y, z = verts.unbind(-1)
    z = z * 0.8 + 3.1
    points = torch.stack([9 * x + 5.13 * z, 9 * y + 4.87 * z, z, z], -1)
    return points[None], faces, (9, 11)


@pytest.mark.parametrize("layers", [1, 2])
def test_rasterize_gradcheck(layers: int) -> None:
    points, faces, size = small_scene()
    points = torch.cat([points, points + points.new_tensor([0.3, -0.7, 0.02, 0.05])])  # z and w differ in the second

    def outputs(p: Tensor) -> tuple[Tensor, Tensor]:
        raster = rasterize(p, faces, size, layers=layers)
        return raster.bary, raster.depth

    assert torch.autograd.gradcheck(outputs, points.requires_grad_(), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("shared_values", [True, False])
def test_interpolate_gradcheck(shared_values: bool) -> None:
    points, faces, size = small_scene()
    raster = rasterize(points.expand(2, -1, -1), faces, size)
    values = torch.randn(1 if shared_values else 2, points.shape[1], 3, dtype=torch.float64, requires_grad=True)
    bary = raster.bary.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v, b: interpolate(Raster(raster.face, b, raster.depth), v, faces), (values, bary)
    )


def test_cut_faces_gradcheck() -> None:
    points = torch.tensor([[[1.0, 2, 2, 2], [30, 4, 3, 3], [-6.0, -20, -1, -1]]], dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2]])

    def outputs(p: Tensor) -> tuple[Tensor, Tensor]:
        raster = rasterize(p, faces, (8, 9), near=0.3)
        assert raster.mask.any()
        return raster.bary, raster.depth

    assert torch.autograd.gradcheck(outputs, points.requires_grad_(), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_equal_oracle(ball: Scene, dtype: torch.dtype) -> None:
    points, faces, size = ball
    weight = torch.randn(*size, 3, generator=torch.Generator().manual_seed(0), dtype=dtype)
    grads = []
    for backend in ("native", "torch"):
        p = points.to(dtype).requires_grad_()
        raster = rasterize(p, faces, size, backend=backend)
        ((raster.bary * weight).sum() + (raster.depth * weight[..., 0]).sum()).backward()
        grads.append(p.grad)
    assert (grads[0] - grads[1]).norm() <= (1e-4 if dtype == torch.float32 else 1e-10) * grads[1].norm()


def test_unused_outputs_cost_no_gradient(ball: Scene) -> None:
    points, faces, size = ball
    raster = rasterize(points.requires_grad_(), faces, size)
    (only_depth,) = torch.autograd.grad(raster.depth.sum(), points, retain_graph=True)
    (only_bary,) = torch.autograd.grad(raster.bary[..., 0].sum(), points)
    p = points.detach().clone().requires_grad_()
    bary, depth = oracle.weights(p, faces, raster.face[..., None])
    assert torch.allclose(only_depth, torch.autograd.grad(depth.sum(), p, retain_graph=True)[0])
    assert torch.allclose(only_bary, torch.autograd.grad(bary[..., 0].sum(), p)[0])


def silhouette_loss(points: Tensor, faces: Tensor, size: tuple[int, int], weight: Tensor) -> Tensor:
    raster = rasterize(points, faces, size)
    image = torch.cat([raster.mask[..., None].to(points.dtype), raster.depth[..., None].detach()], -1)
    return (antialias(image, raster, points, faces) * weight).sum()


def test_antialias_gradient_is_that_of_its_picture(ball: Scene) -> None:
    """Along random motions, within the pieces between visibility changes."""
    points, faces, size = ball
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(*size, 2, generator=generator, dtype=torch.float64)
    weight[..., 1] = 0  # depth itself moves too; only coverage is under test here
    p = points.clone().requires_grad_()
    (grad,) = torch.autograd.grad(silhouette_loss(p, faces, size, weight), p)
    for _ in range(5):
        step = torch.randn(points.shape, generator=generator, dtype=torch.float64) * 1e-7
        change = silhouette_loss(points + step, faces, size, weight) - silhouette_loss(
            points - step, faces, size, weight
        )
        assert float(change / 2) == pytest.approx(float((grad * step).sum()), rel=1e-4, abs=1e-12)


@pytest.mark.parametrize("angle", [0.0, 0.2, 0.7, 1.2])
def test_antialias_moves_the_covered_area(angle: float) -> None:
    """The gradient of a weighted area under a motion of the whole object is its boundary integral, within 3 %."""
    verts, faces = sphere(24, 40)
    c, s = torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))
    x, y, z = verts[:, 0] * 1.3, verts[:, 1] * 0.8, verts[:, 2] + 5
    x, y = c * x - s * y, s * x + c * y
    points = torch.stack([270 * x + 100.2 * z, 270 * y + 98.9 * z, z, z], -1)[None]
    weight = torch.linspace(0, 1, 200, dtype=torch.float64)[None, :, None] * torch.tensor([1.0, 0.0])
    p = points.clone().requires_grad_()
    (grad,) = torch.autograd.grad(silhouette_loss(p, faces, (200, 200), weight), p)
    moved = float((grad[..., 0] * points[..., 3]).sum())  # d/du of all pixels
    fine = rasterize(points * points.new_tensor([8, 8, 1, 1]), faces, (1600, 1600)).mask.double().sum() / 64
    assert moved == pytest.approx(float(fine / 199), rel=0.03)
    across = float((grad[..., 1] * points[..., 3]).sum())
    assert abs(across) <= 0.04 * moved


def test_antialias_brings_coverage_nearer_to_the_truth(ball: Scene) -> None:
    points, faces, size = ball
    raster = rasterize(points, faces, size)
    image = raster.mask[..., None].double()
    smooth = antialias(image, raster, points, faces)
    fine = rasterize(points * points.new_tensor([16, 16, 1, 1]), faces, (size[0] * 16, size[1] * 16)).mask
    truth = torch.nn.functional.avg_pool2d(fine[:, None].double(), 16)[0, 0]
    assert (smooth[0, ..., 0] - truth).abs().sum() <= 0.3 * (image[0, ..., 0] - truth).abs().sum()
    assert smooth.min() >= 0 and smooth.max() <= 1


def test_antialias_leaves_the_inside_alone(ball: Scene) -> None:
    """Changing faces on an unbroken surface is no silhouette."""
    points, faces, size = ball
    raster = rasterize(points, faces, size)
    colours = torch.rand(1, len(faces), 3, dtype=torch.float64)[0][raster.face.clamp(min=0).long()]
    smooth = antialias(colours, raster, points, faces)
    mask = raster.mask[0].double()
    inner = -torch.nn.functional.max_pool2d(-mask[None], 5, 1, 2)[0] > 0
    assert torch.equal(smooth[0][inner], colours[0][inner])


def test_antialias_gradcheck_in_the_image() -> None:
    points, faces, size = small_scene()
    raster = rasterize(points, faces, size)
    image = torch.randn(1, *size, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda i: antialias(i, raster, points, faces), image)
