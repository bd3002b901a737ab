"""edit on a tiny random model: what is kept, what is told, what is refused."""

from dataclasses import replace

import pytest
import torch
from tiny_diffusion import EXPRESSIONS, SIZE, tiny_diffusion, tiny_given, tiny_pictures

from headlab.diffusion.bundle import LatentDiffusion
from headlab.diffusion.edit import EditConfig, depth_in, edit, joined, reconstructed, restored
from headlab.geometry.errors import HeadlabError

#: One step from fresh noise, shown the latent.
FRESH = EditConfig(steps=1, start="noise", capture=True)


@pytest.fixture(scope="module")
def diffusion() -> LatentDiffusion:
    return tiny_diffusion()


def test_seeds_and_conditions_decide(diffusion: LatentDiffusion) -> None:
    pictures, given = tiny_pictures(2), tiny_given(2)
    config = replace(FRESH, steps=8)
    steps: list[tuple[int, int]] = []
    first = edit(diffusion, pictures, given, config, progress=lambda done, all: steps.append((done, all)))
    assert first.shape == pictures.shape and first.abs().amax() <= 1 and steps == [(i, 8) for i in range(1, 9)]
    assert torch.equal(first, edit(diffusion, pictures, given, config))
    for other in (
        edit(diffusion, pictures, given, replace(config, seed=1)),
        edit(diffusion, pictures, tiny_given(2, seed=5), config),
        edit(diffusion, pictures, given, replace(config, capture=False)),
        edit(diffusion, tiny_pictures(2, seed=7), given, config),
        edit(diffusion, pictures, replace(given, emotion=torch.tensor([1, 2])), config),
        edit(diffusion, pictures, given, replace(config, method="dpm++")),
    ):
        assert (other - first).abs().amax() > 1e-3


def test_guidance_stresses_what_the_expression_changes(diffusion: LatentDiffusion) -> None:
    pictures, given = tiny_pictures(), tiny_given()
    one, none, two = (edit(diffusion, pictures, given, replace(FRESH, guidance=scale)) for scale in (1.0, 0.0, 2.0))
    assert torch.allclose(none, edit(diffusion, pictures, given.without("expression"), FRESH), atol=1e-5)
    assert ((two - one) * (one - none)).sum() > 0


@pytest.mark.parametrize("strength", [1.0, 0.5])
@pytest.mark.parametrize("capture", [True, False])
def test_no_edit_changes_nothing(diffusion: LatentDiffusion, strength: float, capture: bool) -> None:
    """Inverted and sampled under the same maps: the autoencoder's own reconstruction."""
    pictures, given = tiny_pictures(2), tiny_given(2)
    config = EditConfig(steps=10, start="inversion", strength=strength, capture=capture, restore=False)
    same = edit(diffusion, pictures, given, config, given)
    torch.testing.assert_close(same, reconstructed(diffusion, pictures), atol=1e-4, rtol=0)
    whole = edit(diffusion, pictures, given, replace(config, restore=True), given)
    torch.testing.assert_close(whole, pictures, atol=1e-4, rtol=0)
    other = edit(diffusion, pictures, tiny_given(2, seed=9), config, given)
    assert (other - same).abs().amax() > 1e-3


def test_what_is_lost_comes_back_where_nothing_changed() -> None:
    picture = tiny_pictures()
    own = picture + 0.1
    made = own.clone()
    made[..., :16] += 0.8
    out = restored(made, own, picture)
    torch.testing.assert_close(out[..., 20:], picture[..., 20:])
    torch.testing.assert_close(out[..., :12], made[..., :12], atol=1e-3, rtol=0)


@pytest.mark.parametrize("channels", [3, 4, 6])
def test_depth_in_every_packing(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    colour, near = torch.rand(3, SIZE, SIZE, generator=generator), torch.rand(SIZE, SIZE, generator=generator)
    picture = joined(colour, near, channels)
    assert picture.shape == (channels, SIZE, SIZE)
    torch.testing.assert_close(picture[:3] / 2 + 0.5, colour)
    depth = depth_in(picture[None])
    if channels == 3:
        assert depth is None
    else:
        assert depth is not None
        torch.testing.assert_close(depth[0], near, atol=1e-4, rtol=0)
    out = edit(tiny_diffusion(channels), picture[None], tiny_given(), FRESH)
    assert out.shape == (1, channels, SIZE, SIZE)


def test_refused(diffusion: LatentDiffusion) -> None:
    pictures, given = tiny_pictures(), tiny_given()
    with pytest.raises(HeadlabError, match="conditions of 11 x 32 x 32, not 11 x 16 x 16"):
        edit(diffusion, pictures, tiny_given(size=16), FRESH)
    with pytest.raises(HeadlabError, match="4 channels"):
        edit(diffusion, pictures[:, :3], given, FRESH)
    with pytest.raises(HeadlabError, match="this denoiser takes latents of"):
        edit(diffusion, tiny_pictures(size=16), given, FRESH)
    with pytest.raises(HeadlabError, match=f"{EXPRESSIONS} numbers, not 50"):
        edit(diffusion, pictures, replace(given, expression=torch.zeros(1, 50)), FRESH)
    with pytest.raises(HeadlabError, match="maps of the head as it is"):
        edit(diffusion, pictures, given)
    with pytest.raises(HeadlabError, match="only be sampled with ddim"):
        edit(diffusion, pictures, given, EditConfig(method="dpm++"), given)
    with pytest.raises(HeadlabError, match="strength"):
        edit(diffusion, pictures, given, EditConfig(strength=0.0), given)
    with pytest.raises(HeadlabError, match="without text"):
        edit(diffusion, pictures, replace(given, text=torch.zeros(1, 3, 8)), FRESH)


def test_words_are_told() -> None:
    diffusion, given = tiny_diffusion(text=8), tiny_given()
    words = torch.randn(2, 1, 5, 8, generator=torch.Generator().manual_seed(0))
    told = [edit(diffusion, tiny_pictures(), replace(given, text=x), FRESH) for x in words]
    assert (told[0] - told[1]).abs().amax() > 1e-6
