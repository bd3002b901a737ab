"""Identity losses on real decoded pictures: they pull to the person, and only the denoiser feels it."""

from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from riggable import riggable_head
from torch import nn

from headlab.datasets.synthetic import SyntheticConfig, SyntheticHeads
from headlab.diffusion.identity import (
    DecaShapeReader,
    DefaultEmbedder,
    deca_square,
    face_gram,
    load_embedder,
    load_shape_reader,
    resized,
    viewed,
)
from headlab.diffusion.identity_losses import IdentityLosses, IdentityWeights
from headlab.diffusion.losses import l_id_deca
from headlab.diffusion.schedule import NoiseSchedule
from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.default import load_default_head
from headlab.geometry.regress import Deca
from headlab.geometry.regress.detail_decoder import DetailDecoder
from headlab.geometry.regress.encoder import CodeEncoder
from headlab.geometry.regress.resnet import ResNetConfig

SCHEDULE = NoiseSchedule.linear(prediction="v")


@lru_cache(maxsize=1)
def _pictures() -> torch.Tensor:
    """Two pictures each of four people, 64 pixels."""
    config = SyntheticConfig(size=64, seed=99, pictures_per_person=2, maps=False)
    return SyntheticHeads(load_default_head(), config).batch(range(8)).images.float() / 255


def _decode(latents: torch.Tensor) -> torch.Tensor:
    """Pictures -1..1 stand for latents."""
    return (latents + 1) / 2


def _losses(views: float = 0.0, **weights: float) -> IdentityLosses:
    return IdentityLosses(IdentityWeights(**weights, views=views), _decode, load_shape_reader(), load_embedder())


def _step(guess: torch.Tensor, source: torch.Tensor, prior: torch.Tensor, losses: IdentityLosses, size: float):
    """x̂0 before and after a step of the denoiser's prediction against the gradient; the loss's terms."""
    t = torch.tensor([50, 100, 200, 300])
    noise = torch.randn(guess.shape, generator=torch.Generator().manual_seed(0))
    noisy = SCHEDULE.add_noise(source * 2 - 1, noise, t)
    signal, dirt = SCHEDULE.scales(t, guess)
    said = ((signal * noisy - (guess * 2 - 1)) / dirt).requires_grad_()
    torch.testing.assert_close(_decode(SCHEDULE.x0_from(said, noisy, t)), guess, atol=1e-3, rtol=0)
    terms = losses(said, noisy, t, SCHEDULE, source, prior)
    sum(terms.values(), torch.zeros(())).backward()
    assert said.grad is not None
    unit = said.grad / said.grad.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    return _decode(SCHEDULE.x0_from((said - size * unit).detach(), noisy, t)), terms


def test_a_step_brings_the_shape_back() -> None:
    pictures = _pictures()
    source, wrong = pictures[::2], pictures[::2].roll(1, 0)
    reader = load_shape_reader()
    moved, terms = _step(wrong, source, wrong, _losses(shape=1.0), 0.1)
    assert set(terms) == {"shape"}
    with torch.no_grad():
        before, after = (l_id_deca(reader.shapes(x), reader.shapes(source), reader.gram) for x in (wrong, moved))
    assert bool((after < before).all())


@pytest.mark.parametrize("term", ["identity", "triplet"])
def test_a_step_brings_the_likeness_back(term: str) -> None:
    pictures = _pictures()
    source, wrong = pictures[::2], pictures[::2].roll(1, 0)
    embedder = load_embedder()
    moved, terms = _step(wrong, source, wrong, _losses(**{term: 1.0}), 0.5)
    assert set(terms) == {term}
    with torch.no_grad():
        own, before, after = (embedder.vectors(x) for x in (source, wrong, moved))
    assert bool(((after * own).sum(-1) > (before * own).sum(-1)).all())
    if term == "triplet":
        assert bool(((after * before).sum(-1) < 1 - 1e-4).all())


def test_only_the_denoiser_gets_gradients() -> None:
    pictures, losses = _pictures()[::2], _losses(shape=0.1, triplet=1.0, identity=1.0)
    decoder = nn.Conv2d(3, 3, 1).requires_grad_(False)
    losses = replace(losses, decode=lambda x: _decode(decoder(x)))
    denoiser = nn.Conv2d(3, 3, 3, padding=1)
    noisy = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    terms = losses(denoiser(noisy), noisy, torch.tensor([0, 10, 100, 999]), SCHEDULE, pictures, pictures.roll(1, 0))
    assert set(terms) == {"shape", "triplet", "identity"}
    sum(terms.values(), torch.zeros(())).backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in denoiser.parameters())
    frozen = [decoder, load_shape_reader().regressor.net, load_embedder().embedder.net]
    assert all(p.grad is None and not p.requires_grad for net in frozen for p in net.parameters())
    assert not any(net.training for net in frozen[1:])


def test_times_count_by_their_weight() -> None:
    """x̂0 the same at all times: the mean is that of (1 - t / T)^2, and late times may be left out."""
    pictures = _pictures()[::2]
    latents, wrong = pictures * 2 - 1, pictures.roll(1, 0) * 2 - 1
    schedule = NoiseSchedule.linear(prediction="sample")
    t = torch.tensor([0, 250, 500, 750])
    each = [
        float(_losses(identity=1.0)(wrong[[i]], latents[[i]], t[:1], schedule, pictures[[i]])["identity"])
        for i in range(4)
    ]
    expected = sum(e * (1 - k / 1000) ** 2 for e, k in zip(each, t.tolist(), strict=True)) / 4
    got = _losses(identity=1.0)(wrong, latents, t, schedule, pictures)["identity"]
    assert float(got) == pytest.approx(expected, rel=1e-4)
    early = _losses(identity=1.0, latest=0.4)(wrong, latents, t, schedule, pictures)["identity"]
    expected = sum(e * (1 - k / 1000) ** 2 for e, k in zip(each[:2], (0, 250), strict=True)) / 4
    assert float(early) == pytest.approx(expected, rel=1e-4)
    assert _losses(identity=1.0, latest=0.4)(wrong, latents, t + 500, schedule, pictures) == {}
    assert _losses()(wrong, latents, t, schedule, pictures) == {}


def test_holding_the_expression() -> None:
    """Read together: β as in the photo, ψ as in another picture."""
    pictures = _pictures()
    photo, wanted = pictures[::2], pictures[1::2]
    schedule, t = NoiseSchedule.linear(prediction="sample"), torch.zeros(4, dtype=torch.long)
    losses, reader = _losses(shape=1.0, expression=1.0), load_shape_reader()
    both = losses(photo * 2 - 1, photo, t, schedule, photo, wanted=wanted)
    assert float(both["shape"]) < 1e-4
    with torch.no_grad():
        _, psi = reader.read(torch.cat([photo, wanted]))
    moved = 1000 * torch.einsum("vce,be->bvc", reader.regressor.model.expression_basis, psi[:4] - psi[4:])
    model = reader.regressor.model
    face = model.regions["face"] | model.regions["lips"] | model.regions["eyelids"]
    expected = moved[:, face].square().sum(-1).mean()
    assert float(both["expression"]) == pytest.approx(float(expected), rel=1e-3)
    with pytest.raises(HeadlabError, match="reader of expressions"):
        IdentityLosses(IdentityWeights(expression=1.0), _decode)


def test_views_are_the_same_for_photo_and_edit() -> None:
    """Equal pictures cost nothing in any view; different ones cost about the same; and views differ."""
    pictures = _pictures()
    schedule, t = NoiseSchedule.linear(prediction="sample"), torch.tensor([0, 0, 0, 0])
    own, other = pictures[::2], pictures[::2].roll(1, 0)
    torch.manual_seed(0)
    losses = _losses(views=1.0, shape=1.0, identity=1.0)
    assert all(float(x) < 1e-4 for x in losses(own * 2 - 1, own, t, schedule, own).values())
    plain = _losses(shape=1.0)(other * 2 - 1, own, t, schedule, own)["shape"]
    seen = [float(losses(other * 2 - 1, own, t, schedule, own)["shape"]) for _ in range(3)]
    assert 0.5 < sum(seen) / len(seen) / float(plain) < 2 and len(set(seen)) == 3
    still = viewed([own], 0.0, mirror=False)[0]
    torch.testing.assert_close(still, resized(own, 96), atol=1e-5, rtol=0)


def test_embedder_tells_people_apart() -> None:
    vectors = load_embedder().vectors(_pictures())
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(8))
    cosine = vectors[::2] @ vectors[1::2].mT
    other = cosine[~torch.eye(4, dtype=torch.bool)]
    assert float(cosine.diagonal().mean() - other.mean()) > 0.4


def test_gram_is_millimetres_without_size_and_place() -> None:
    model = load_default_head()
    gram = face_gram(model, 64)
    face = model.regions["face"] | model.regions["lips"] | model.regions["eyelids"]
    rest = model.template[face].double()
    shape = torch.randn(3, 64, generator=torch.Generator().manual_seed(0)) * 0.01  # small: the similarity is linearised
    for b, got in zip(shape, l_id_deca(shape, torch.zeros_like(shape), gram), strict=True):
        moved = rest + (model.shape_basis[face][..., :64] @ b).double()
        p, q = rest - rest.mean(0), moved - moved.mean(0)
        u, s, vt = torch.linalg.svd(q.mT @ p)
        best = q @ (u @ vt) * (s.sum() / q.square().sum())
        expected = float((best - p).square().sum(-1).mean()) * 1e6
        assert float(got) == pytest.approx(expected, rel=0.02)
    with pytest.raises(HeadlabError, match="FLAME_masks"):
        face_gram(riggable_head(), 3)


def test_deca_reader() -> None:
    """Gradients reach the pixels through DECA's encoder, and its square lies where the face is."""
    torch.manual_seed(0)
    coarse = CodeEncoder(236, ResNetConfig((1, 1, 1, 1), 8), 16).eval().requires_grad_(False)
    deca = Deca("deca", coarse, coarse, DetailDecoder())
    reader = DecaShapeReader(deca, torch.eye(100))
    pictures = _pictures()[:2].clone().requires_grad_()
    codes = reader.shapes(pictures)
    assert codes.shape == (2, 100)
    codes.square().sum().backward()
    assert pictures.grad is not None and bool((pictures.grad.abs().sum((1, 2, 3)) > 0).all())
    ramp = torch.linspace(0.5 / 64, 1 - 0.5 / 64, 64).expand(1, 3, 64, 64)
    columns = deca_square(ramp)[0, 0, 0]
    assert float(columns.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(columns[-1] - columns[0]) == pytest.approx(0.847, abs=0.01)


def test_bad_input() -> None:
    with pytest.raises(HeadlabError, match="shape reader"):
        IdentityLosses(IdentityWeights(shape=1.0), _decode)
    with pytest.raises(HeadlabError, match="embedder"):
        IdentityLosses(IdentityWeights(triplet=1.0), _decode)
    with pytest.raises(HeadlabError, match="prior pictures"):
        x = torch.zeros(1, 3, 64, 64)
        _losses(triplet=1.0)(x, x, torch.tensor([5]), SCHEDULE, x)
    with pytest.raises(HeadlabError, match="square"):
        resized(torch.zeros(1, 3, 64, 32), 96)
    with pytest.raises(HeadlabError, match="UprightSquare"):
        DefaultEmbedder(load_embedder().embedder).embedder.embed(torch.zeros(1, 3, 64, 64))
