"""Latents found again from points of heads that the fields know."""

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from headlab.geometry.errors import HeadlabError
from headlab.geometry.sdf.anchors import FieldFrame
from headlab.geometry.sdf.extract import box_grid, extract_surface
from headlab.geometry.sdf.head_fields import HeadFields
from headlab.geometry.sdf.latent_fit import LatentFitConfig, LatentPrior, fit_latents
from headlab.geometry.sdf.mlp import DeepSDF


def test_a_prior_has_the_training_latents_spread() -> None:
    draws = torch.Generator().manual_seed(0)
    latents = torch.randn(40, 6, generator=draws) * torch.arange(1, 7) + 3
    prior = LatentPrior.of(latents, own=0.5)
    covariance = prior.components @ prior.components.mT
    torch.testing.assert_close(covariance, latents.mT.cov(), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(prior.own, 0.5 * latents.std(0))
    torch.testing.assert_close(prior.latent(torch.zeros(6), torch.zeros(6)), latents.mean(0))


def grown_ball() -> HeadFields:
    """NPM whose one number is about the radius of a sphere, and whose one expression lifts it."""
    identity = DeepSDF(1, 40, 4)
    expression = DeepSDF(2, 24, 3, out=3)
    identity.initialise_as_sphere(0.35, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for number in range(expression.depth):
            layer = expression.linear(number)
            layer.weight.zero_()
            layer.bias.zero_()
        # The expression's number, in softplus above its bend, all the way to y.
        expression.linear(0).weight[0, 4] = 1.0
        expression.linear(0).bias[0] = 1.0
        expression.linear(1).weight[0, 0] = 2**0.5
        expression.linear(2).weight[0, 0] = 1.0
        expression.linear(3).weight[1, 0] = 1.0
        expression.linear(3).bias[1] = -1.0
    identity.requires_grad_(False)
    expression.requires_grad_(False)
    latents = torch.linspace(-0.6, 0.6, 7)[:, None]
    return HeadFields(identity, expression, latents, 0.3 * latents, FieldFrame(torch.zeros(3)))


def surface_points(fields: HeadFields, latent: Float[Tensor, "1"]) -> Float[Tensor, "n 3"]:
    box = ((-0.9, -0.9, -0.9), (0.9, 0.9, 0.9))
    return extract_surface(fields.surface(latent), box_grid(24, box), normals=False).vertices


def test_a_canonical_cloud_gives_its_latent() -> None:
    fields, wanted = grown_ball(), torch.tensor([0.45])
    cloud = surface_points(fields, wanted)
    config = LatentFitConfig(steps=80, points=200, evidence=5000.0)
    found = fit_latents(fields, [cloud], config, torch.Generator().manual_seed(0))
    assert found.expressions is None and found.losses[-1] < 0.2 * found.losses[0]
    before = float(fields.sdf(fields.identity_latents.mean(0), cloud).abs().mean())
    assert float(fields.sdf(found.identity, cloud).abs().mean()) < 0.2 * before


def test_posed_clouds_give_identity_and_expressions() -> None:
    fields, wanted = grown_ball(), torch.tensor([-0.3])
    points = surface_points(fields, wanted)
    lifts = [fields.offsets(wanted, torch.tensor([code]), points) for code in (0.12, -0.08)]
    torch.testing.assert_close(lifts[0].mean(0), torch.tensor([0.0, 0.12, 0.0]), atol=2e-2, rtol=0.2)
    config = LatentFitConfig(steps=120, points=150, evidence=5000.0)
    clouds = [points + lift for lift in lifts]
    found = fit_latents(fields, clouds, config, torch.Generator().manual_seed(0), posed=True)
    assert found.expressions is not None
    apart = found.expressions[0] - found.expressions[1]
    assert float(apart) == pytest.approx(0.2, abs=0.03)


def test_nothing_to_fit_is_said() -> None:
    fields = grown_ball()
    with pytest.raises(HeadlabError, match="no points"):
        fit_latents(fields, [], LatentFitConfig(), torch.Generator())
    alone = HeadFields(fields.identity, None, fields.identity_latents, torch.zeros(0, 0), fields.frame)
    with pytest.raises(HeadlabError, match="no expressions"):
        fit_latents(alone, [torch.zeros(9, 3)], LatentFitConfig(), torch.Generator(), posed=True)
