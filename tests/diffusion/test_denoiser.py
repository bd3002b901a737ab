"""The conditional denoiser and the encoders in it."""

from dataclasses import replace

import pytest
import torch
from small_diffusion import DENOISER, small_diffusion, some_given

from headlab.diffusion.condition_encoder import network_maps, pair_maps
from headlab.diffusion.conditions import Conditions
from headlab.diffusion.denoiser import Denoiser, DenoiserConfig, Given
from headlab.diffusion.semantic_encoder import SemanticConfig, build_semantic_encoder
from headlab.geometry.errors import HeadlabError

NAMES = ("maps", "capture", "person", "expression", "emotion", "valence_arousal")


@pytest.fixture(scope="module")
def denoiser():
    return small_diffusion().denoiser.requires_grad_(False)


def said(denoiser: Denoiser, given: Given) -> torch.Tensor:
    noisy = torch.randn(len(given), 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return denoiser(noisy, torch.full((len(given),), 500), denoiser.context(given))


def test_rows_are_independent_and_batches_may_be_cut(denoiser):
    given = some_given(4)
    whole = said(denoiser, given)
    assert whole.shape == (4, 3, 8, 8)
    context = denoiser.context(given)
    for index in (slice(1, 3), torch.tensor([3, 0])):
        part = denoiser.context(given[index])
        torch.testing.assert_close(part.local, context[index].local, atol=1e-5, rtol=0)
        torch.testing.assert_close(part.tokens, context[index].tokens, atol=1e-5, rtol=0)
        torch.testing.assert_close(part.embedding, context[index].embedding, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_everything_that_is_given_counts_and_can_be_left_out(denoiser, name):
    given = some_given(3)
    full, without = said(denoiser, given), said(denoiser, given.without(name))
    assert float((full - without).abs().max()) > 1e-6
    keep = torch.tensor([True, False, True])
    mixed = said(denoiser, given.masked(name, keep))
    torch.testing.assert_close(mixed, torch.where(keep[:, None, None, None], full, without), atol=1e-5, rtol=0)


def test_given_moves_and_is_cut():
    given = some_given(2).to(dtype=torch.float64)
    assert given.maps.dtype == torch.float64 and given.emotion is not None and given.emotion.dtype == torch.int64
    assert len(given[:1]) == 1 and given.without("text").text is None
    with pytest.raises(HeadlabError, match="nothing called colour"):
        given.without("colour")


def test_conditions_of_another_size_are_refused(denoiser):
    given = some_given(2)
    with pytest.raises(HeadlabError, match="conditions of 11 x 32 x 32, not 11 x 64 x 64"):
        denoiser.context(replace(given, maps=torch.zeros(2, 11, 64, 64)))
    with pytest.raises(HeadlabError, match="latents of 3 x 8 x 8"):
        denoiser.context(replace(given, capture=torch.zeros(2, 4, 8, 8)))
    with pytest.raises(HeadlabError, match="expressions of 5 numbers, not 52"):
        denoiser.context(replace(given, expression=torch.zeros(2, 52)))
    with pytest.raises(HeadlabError, match="without text"):
        denoiser.context(replace(given, text=torch.zeros(2, 7, 16)))


def test_sizes_that_do_not_go_together_are_refused():
    for change in ({"attention": (True,)}, {"size": 30}, {"size": 12, "widths": (8,) * 3, "attention": (False,) * 3}):
        with pytest.raises(HeadlabError):
            Denoiser(replace(DENOISER, **change))


def test_resnets_are_torchvisions():
    counts = {"resnet18": 11_176_512, "resnet50": 23_508_032}
    for kind, count in counts.items():
        encoder = build_semantic_encoder(SemanticConfig(kind=kind))  # type: ignore[arg-type]
        head = sum(p.numel() for p in encoder[1].parameters())
        assert sum(p.numel() for p in encoder.parameters()) - head == count
        assert encoder.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 64)


def test_diffae_encoder_looks_at_the_whole_picture():
    encoder = build_semantic_encoder(SemanticConfig("diffae", 8, 16, (1, 2, 2), (1,)))
    picture = torch.randn(2, 3, 32, 32, requires_grad=True)
    z = encoder(picture)
    assert z.shape == (2, 16)
    z[0, 0].backward()
    assert picture.grad is not None and bool((picture.grad[0] != 0).all()) and not bool(picture.grad[1].any())


def test_the_shipped_size_is_small():
    assert sum(p.numel() for p in Denoiser(DenoiserConfig()).parameters()) < 8e6


def test_maps_of_a_fit_are_those_of_training(default_head):
    from headlab.datasets.synthetic import EditPairs, PairConfig
    from headlab.geometry.texture.default_albedo import default_albedo

    pairs = EditPairs(default_head, PairConfig(size=64, seed=3)).batch(range(1))
    want = pair_maps(pairs, 1)
    code = pairs.codes[0][1]
    assert code.albedo is not None
    albedo = default_albedo(default_head).texture(code.albedo[None]).clamp(0, 1)[0]
    camera = replace(pairs.camera, K=pairs.camera.K[0], R=pairs.camera.R[0], t=pairs.camera.t[0]).resized((128, 128))
    made = network_maps(Conditions.of(default_head, code, camera, albedo), pairs.distance[0], 64)
    error = (made - want[0]).abs().mean((1, 2))
    assert float(error.max()) < 0.01, error
    with pytest.raises(HeadlabError, match="multiple of 48"):
        network_maps(Conditions.of(default_head, code, camera, albedo), pairs.distance[0], 48)
