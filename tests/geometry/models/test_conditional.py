"""The rest of the head from the face."""

import pytest
import torch

from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.conditional import complete_head


def test_the_face_tells_about_the_rest(default_head) -> None:
    face = default_head.regions["face"]
    rest = default_head.regions["scalp"] | default_head.regions["ears"]
    generator = torch.Generator().manual_seed(0)
    errors, prior, expected = [], [], []
    for _ in range(6):
        truth = default_head.shaped(torch.randn(default_head.shapes, generator=generator), torch.zeros(52))
        found = complete_head(default_head, torch.where(face[:, None], truth, torch.nan), face)
        assert float((found.vertices - truth)[face].norm(dim=1).mean()) < 0.001
        errors.append((found.vertices - truth)[rest].square().sum(1).mean())
        prior.append((default_head.template - truth)[rest].square().sum(1).mean())
        expected.append(found.spread[rest].square().mean())
    error, before, promised = (float(torch.stack(x).mean().sqrt()) for x in (errors, prior, expected))
    assert error < 0.75 * before
    assert error == pytest.approx(promised, rel=0.3)  # it knows how sure it is
    assert bool((found.spread <= found.prior_spread + 1e-9).all())


def test_closed_form_of_one_component(default_head) -> None:
    from dataclasses import replace

    model = replace(default_head, shape_basis=default_head.shape_basis[..., :1])
    known = torch.zeros(len(model.template), dtype=torch.bool)
    known[:5] = True
    b = model.shape_basis[:5, :, 0].flatten().double()
    found = complete_head(model, model.template + 2 * model.shape_basis[..., 0], known, noise=0.002)
    gain = float(b @ b) / (float(b @ b) + 0.002**2)
    assert float(found.shape[0]) == pytest.approx(2 * gain, rel=1e-5)


def test_nothing_known(default_head) -> None:
    with pytest.raises(HeadlabError, match="only 0 vertices"):
        complete_head(default_head, default_head.template, torch.zeros(len(default_head.template), dtype=torch.bool))
