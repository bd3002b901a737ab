"""Values and gradients in one pass against automatic differentiation, twice, of the dense field."""

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from headlab.geometry.sdf.blended_gradient import ensemble_value_and_gradient, network_value_and_gradient
from headlab.geometry.sdf.identity import IdentityConfig, IdentityField
from headlab.geometry.sdf.layout import EnsembleLayout
from headlab.geometry.sdf.losses import IdentityWeights, SurfaceBatch, identity_terms, surface_terms, total
from headlab.geometry.sdf.mlp import DeepSDF

DOUBLE = torch.float64


def some_batch(about: Float[Tensor, "anchors 3"], heads: int = 2, count: int = 12) -> SurfaceBatch:
    """Points about given ones, with normals of any direction."""
    draws = torch.Generator().manual_seed(3)

    def points(number: int, reach: float) -> Tensor:
        which = torch.randint(len(about), (heads, number), generator=draws)
        return about[which] + reach * torch.randn(heads, number, 3, generator=draws, dtype=DOUBLE)

    def normals(number: int) -> Tensor:
        return F.normalize(torch.randn(heads, number, 3, generator=draws, dtype=DOUBLE), dim=-1)

    return SurfaceBatch(
        points(count, 0.05), normals(count), points(count, 0.1), normals(count), points(count, 0.05), points(3, 0.5)
    )


@pytest.fixture(scope="module")
def ensemble() -> IdentityField:
    layout = EnsembleLayout(anchors=5, pairs=2, latent_global=4, latent_local=3)
    anchors = torch.tensor([[-1, 0, 1], [1, 0, 1], [-1, 1, 0], [1, 1, 0], [0, -1, 0.5]], dtype=DOUBLE) * 0.15
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return IdentityField(IdentityConfig(layout, 24, 4, 8), anchors).to(DOUBLE)


def gradients(loss: Tensor, *tensors: Tensor) -> list[Tensor]:
    return [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, torch.autograd.grad(loss, tensors, allow_unused=True), strict=True)]  # fmt: skip # noqa: E501


def test_the_ensembles_losses_and_their_gradients_are_those_of_autograd(ensemble: IdentityField) -> None:
    latent = 0.1 * torch.randn(2, ensemble.layout.latent, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    latent.requires_grad_()
    batch = some_batch(ensemble.mean_anchors)
    weights = list(ensemble.parameters())
    dense = identity_terms(lambda points: ensemble(points, latent), batch, latent)
    value, gradient = ensemble_value_and_gradient(ensemble.folded(latent), batch.points(), 0.0)
    ours = surface_terms(value, gradient, batch, latent)
    for name, expected in dense.items():
        torch.testing.assert_close(ours[name], expected, rtol=1e-9, atol=1e-12)
    expected = gradients(total(dense, IdentityWeights()), latent, *weights)
    found = gradients(total(ours, IdentityWeights()), latent, *weights)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10)


def test_what_is_left_out_hardly_matters(ensemble: IdentityField) -> None:
    latent = torch.zeros(2, ensemble.layout.latent, dtype=DOUBLE)
    points = some_batch(ensemble.mean_anchors).points()
    with torch.no_grad():
        whole = ensemble_value_and_gradient(ensemble.folded(latent), points, 0.0)
        part = ensemble_value_and_gradient(ensemble.folded(latent), points, 1e-4)
        exact = ensemble(points, latent)
    assert float((whole[0] - exact).abs().max()) < 1e-11
    assert float((part[0] - exact).abs().max()) < 1e-3
    assert float((part[1] - whole[1]).abs().max()) < 2e-2


def test_a_point_on_an_anchor_has_a_finite_gradient(ensemble: IdentityField) -> None:
    latent = torch.zeros(1, ensemble.layout.latent, dtype=DOUBLE, requires_grad=True)
    points = ensemble.anchors(latent.detach())[:, :3]
    value, gradient = ensemble_value_and_gradient(ensemble.folded(latent), points)
    (back,) = torch.autograd.grad(value.sum() + gradient.square().sum(), latent)
    assert bool(gradient.isfinite().all()) and bool(back.isfinite().all())


@pytest.mark.parametrize("layers", [3, 4, 6])
def test_a_single_network_likewise(layers: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(layers)
        network = DeepSDF(5, 20, layers).to(DOUBLE)
    latent = torch.full((2, 5), 0.1, dtype=DOUBLE, requires_grad=True)
    batch = some_batch(torch.zeros(1, 3, dtype=DOUBLE))
    dense = identity_terms(lambda points: network(points, latent).squeeze(-1), batch, latent)
    value, gradient = network_value_and_gradient(network.folded([(slice(3, 8), latent)]), batch.points())
    ours = surface_terms(value, gradient, batch, latent)
    weights = IdentityWeights.npm()
    parameters = list(network.parameters())
    expected = gradients(total(dense, weights), latent, *parameters)
    for one, other in zip(gradients(total(ours, weights), latent, *parameters), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10)


def test_large_preactivations_stay_finite() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = DeepSDF(2, 16, 4)
    latent = torch.full((1, 2), 100.0, requires_grad=True)
    value, gradient = network_value_and_gradient(
        network.folded([(slice(3, 5), latent)]), torch.tensor([[[50.0, -50.0, 3.0]]])
    )
    exact = network(torch.tensor([[[50.0, -50.0, 3.0]]]), latent)[..., 0]
    torch.testing.assert_close(value, exact, rtol=1e-4, atol=1e-4)
    (back,) = torch.autograd.grad(gradient.sum(), latent)
    assert bool(back.isfinite().all())
