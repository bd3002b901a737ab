"""From observed points back to canonical ones."""

from functools import partial
from pathlib import Path

import nphm
import pytest
import torch
from torch import Tensor

from headlab.geometry.sdf.root_finding import attach_gradient, canonical_points, deformation_jacobian


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "parity" / "nphm"


def test_jacobians_and_roots_of_the_authors(folder: Path) -> None:
    golden, field = nphm.golden(folder, "nphm_expression"), nphm.expression(folder, "compress")
    identity, expression = golden["latent_id"][:, 0], golden["latent_ex"][:, 0]
    jacobian = deformation_jacobian(
        lambda points: field(points, identity, expression, golden["anchors"]), golden["xyz"][:, :100]
    )
    torch.testing.assert_close(jacobian, golden["jacobian_first100"], atol=3e-6, rtol=0)

    def offset(points: Tensor) -> Tensor:  # both rows share identity 0
        return field(points, identity[:1], expression, golden["anchors"][:1])

    found = canonical_points(offset, golden["rf_observed"])
    assert torch.equal(found.converged, golden["rf_valid"])
    valid = found.converged
    assert float((found.points - golden["rf_result"])[valid].abs().max()) < 3e-6
    assert float((found.points - golden["rf_canonical_true"])[valid].abs().max()) < 1e-5
    assert float(found.residual[valid].max()) < 1e-6


def bent(points: Tensor, amount: Tensor) -> Tensor:
    """A smooth invertible deformation."""
    return amount * torch.stack([points[..., 1].sin(), points[..., 2].cos(), points[..., 0] ** 2], -1)


def test_implicit_gradient_is_that_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(1)
    observed = torch.rand(2, 30, 3, generator=generator, dtype=torch.float64)
    amount = torch.tensor([0.1, 0.2, 0.15], dtype=torch.float64, requires_grad=True)
    found = canonical_points(lambda x: bent(x, amount), observed)
    assert bool(found.converged.all())
    points = attach_gradient(lambda x: bent(x, amount), found.points)
    torch.testing.assert_close(points, found.points, atol=1e-12, rtol=0)
    weights = torch.rand(2, 30, 3, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weights * points).sum(), amount)
    for axis in range(3):
        ends = []
        for side in (1e-3, -1e-3):
            other = amount.detach().clone()
            other[axis] += side
            ends.append(canonical_points(partial(bent, amount=other), observed).points)
        numeric = float((weights * (ends[0] - ends[1])).sum() / 2e-3)
        assert float(gradient[axis]) == pytest.approx(numeric, rel=2e-3)


def test_a_point_without_origin_is_reported() -> None:
    # x + offset(x) is 0 everywhere: nothing lands at 1.
    found = canonical_points(lambda x: -0.999 * x, torch.tensor([[0.0, 0, 0], [1e3, 0, 0]]))
    assert found.converged.tolist()[0]
    assert not found.converged.tolist()[1] or float(found.residual[1]) < 1e-6
