"""A field that grows says what it said, and learns with its new parts."""

import pytest
import torch

from headlab.geometry.errors import HeadlabError
from headlab.geometry.sdf.identity import IdentityConfig, IdentityField
from headlab.geometry.sdf.layout import EnsembleLayout
from headlab.geometry.sdf.training_growth import widened

SMALL = IdentityConfig(EnsembleLayout(5, 2, latent_global=4, latent_local=3), hidden=24, layers=4, anchor_hidden=6)
WIDE = IdentityConfig(EnsembleLayout(5, 2, latent_global=6, latent_local=7), hidden=40, layers=4, anchor_hidden=9)


def fresh(config: IdentityConfig, seed: int) -> IdentityField:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return IdentityField(config, 0.2 * torch.randn(config.layout.anchors, 3)).double()


@pytest.mark.parametrize("wide", [WIDE, SMALL])
def test_surfaces_stay(wide: IdentityConfig) -> None:
    old, new = fresh(SMALL, 0), fresh(wide, 1)
    latents = 0.3 * torch.randn(3, SMALL.layout.latent, dtype=torch.float64)
    points = 0.2 * torch.randn(3, 50, 3, dtype=torch.float64)
    codes = widened(old, latents, new, torch.Generator().manual_seed(2)).double()
    assert codes.shape == (3, wide.layout.latent)
    torch.testing.assert_close(new(points, codes), old(points, latents), atol=1e-7, rtol=0)
    torch.testing.assert_close(new.anchors(codes), old.anchors(latents), atol=1e-7, rtol=0)


def test_new_units_are_heard_after_a_step() -> None:
    old, new = fresh(SMALL, 0), fresh(WIDE, 1)
    latents = 0.3 * torch.randn(1, SMALL.layout.latent, dtype=torch.float64)
    codes = widened(old, latents, new, torch.Generator().manual_seed(2)).double()
    new(0.1 * torch.randn(1, 200, 3, dtype=torch.float64), codes).square().mean().backward()
    outgoing = new.ensembled_deep_sdf.lin4.weight.grad
    assert outgoing is not None and bool((outgoing[..., SMALL.hidden :] != 0).any())


def test_a_field_does_not_shrink() -> None:
    with pytest.raises(HeadlabError, match="only grows"):
        widened(fresh(WIDE, 0), torch.zeros(2, WIDE.layout.latent), fresh(SMALL, 1), torch.Generator())
