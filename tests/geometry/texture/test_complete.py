"""Filling textures: mirroring, spreading, merging, and what does not belong to the person."""

import pytest
import torch
from torch import Tensor

from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.raster import Raster, sample_texture
from headlab.geometry.texture.complete import (
    complete,
    merge,
    mirror_map,
    mirror_partners,
    without_strangers,
)
from headlab.geometry.texture.default_albedo import default_albedo
from headlab.geometry.texture.push_pull import push_pull
from headlab.geometry.texture.unwrap import Unwrapped
from headlab.geometry.texture.uv_raster import rasterize_uv, to_uv

SIZE = 256


@pytest.fixture(scope="module")
def layout(default_head: HeadModel) -> Raster:
    return rasterize_uv(default_head, SIZE)


@pytest.fixture(scope="module")
def mirror(default_head: HeadModel, layout: Raster) -> Tensor:
    return mirror_map(default_head, layout, mirror_partners(default_head.template))


@pytest.fixture(scope="module")
def expected(default_head: HeadModel) -> Tensor:
    return default_albedo(default_head, SIZE).mean


def region(head: HeadModel, layout: Raster, name: str) -> Tensor:
    return to_uv(layout, head, head.regions[name].float()[:, None])[..., 0] > 0.99


def test_mirror_partners_pair_up(default_head: HeadModel) -> None:
    partner = mirror_partners(default_head.template)
    mirrored = default_head.template[partner] * torch.tensor([-1.0, 1.0, 1.0])
    distance = (mirrored - default_head.template).norm(dim=1)
    assert distance.max() < 5e-4
    assert torch.equal(partner[partner], torch.arange(len(partner)))


def test_the_mirror_map_leads_to_the_mirrored_position(default_head, layout, mirror) -> None:
    skin = layout.mask[0] & (default_head.face_parts[layout.face[0].clamp(min=0).long()] == 0)
    position = to_uv(layout, default_head, default_head.template)
    packed = torch.cat([position, layout.mask[0, ..., None].float()], -1).permute(2, 0, 1)
    there = sample_texture(packed[None], mirror[None])[0]
    inside = skin & (there[..., 3] > 0.999)  # not mixed with what lies off the island
    error = (there[..., :3] * torch.tensor([-1.0, 1.0, 1.0]) - position).norm(dim=-1)[inside]
    assert inside.sum() > 0.85 * skin.sum()
    assert error.median() < 2e-4 and error.quantile(0.98) < 2e-3  # metres; a texel is about 2 mm


def test_mirroring_twice_is_the_identity(layout, mirror) -> None:
    own = torch.stack(
        torch.meshgrid((torch.arange(SIZE) + 0.5) / SIZE, 1 - (torch.arange(SIZE) + 0.5) / SIZE, indexing="xy"), -1
    )
    packed = torch.cat([mirror, layout.mask[0, ..., None].float()], -1).permute(2, 0, 1)
    twice = sample_texture(packed[None], mirror[None])[0]
    inside = layout.mask[0] & (twice[..., 2] > 0.999)
    texels = (twice[..., :2] - own).norm(dim=-1)[inside] * SIZE
    assert (texels < 1).float().mean() > 0.95


def test_push_pull_keeps_constants_and_what_is_trusted() -> None:
    generator = torch.Generator().manual_seed(0)
    for size in ((64, 64), (37, 50), (1, 9), (5, 1)):
        weight = (torch.rand(size, generator=generator) > 0.7).float()
        weight[0, 0] = 1
        constant = torch.full((2, *size), 0.37)
        if min(size) > 1:
            torch.testing.assert_close(push_pull(constant * weight, weight), constant)
        values = torch.rand(3, *size, generator=generator)
        filled = push_pull(values, weight)
        assert torch.equal(filled[:, weight == 1], values[:, weight == 1])
        assert filled.isfinite().all()


def test_push_pull_stays_within_the_range_of_what_is_known() -> None:
    generator = torch.Generator().manual_seed(1)
    values = torch.rand(1, 48, 48, generator=generator)
    weight = (torch.rand(48, 48, generator=generator) > 0.95).float()
    filled = push_pull(values, weight)
    known = values[:, weight == 1]
    assert filled.min() >= known.min() - 1e-6 and filled.max() <= known.max() + 1e-6


def test_push_pull_of_one_known_texel_fills_everything_with_it() -> None:
    values, weight = torch.zeros(1, 32, 32), torch.zeros(32, 32)
    values[0, 20, 9], weight[20, 9] = 0.6, 1
    torch.testing.assert_close(push_pull(values, weight), torch.full((1, 32, 32), 0.6))


def test_complete_leaves_trusted_texels_and_fills_the_rest(default_head, layout, mirror, expected) -> None:
    """A face seen from one side: kept there, mirrored on the other, and the whole layout filled."""
    generator = torch.Generator().manual_seed(2)
    blotches = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 12, generator=generator), SIZE, mode="bilinear")[0]
    truth = (expected * (0.7 + 0.3 * blotches)).clamp(0, 1)
    x = to_uv(layout, default_head, default_head.template)[..., 0]
    weight = ((x > 0.004) & layout.mask[0]).float()
    out = complete(default_head, layout, Unwrapped(truth * weight, weight), expected, mirror)
    trusted = weight == 1
    torch.testing.assert_close(out[:, trusted], truth[:, trusted], atol=2e-6, rtol=0)
    face = region(default_head, layout, "face")
    other = face & (x < -0.006)
    reflected = sample_texture(truth[None], mirror[None])[0].permute(2, 0, 1)
    assert (out - reflected)[:, other].abs().mean() < 0.02
    assert (out - expected)[:, other].abs().mean() > 0.03  # the expectation alone would not do
    assert 0 <= out.min() and out.max() <= 1


def test_complete_without_any_view_is_the_expectation(default_head, layout, mirror, expected) -> None:
    nothing = Unwrapped(torch.zeros(3, SIZE, SIZE), torch.zeros(SIZE, SIZE))
    out = complete(default_head, layout, nothing, expected, mirror)
    covered = layout.mask[0]
    torch.testing.assert_close(out[:, covered], expected.clamp(0.02, 1)[:, covered])


def test_complete_carries_the_skin_tone_to_where_nothing_was_seen(default_head, layout, mirror, expected) -> None:
    """Both ears and the neck unseen, the face 20 % darker than expected: so are they."""
    face = region(default_head, layout, "face")
    weight = face.float()
    out = complete(default_head, layout, Unwrapped(0.8 * expected * weight, weight), expected, mirror)
    neck = region(default_head, layout, "neck")
    ratio = (out / expected)[:, neck & ~face]
    assert float(ratio.median()) == pytest.approx(0.8, abs=0.03)


def test_a_blue_collar_is_rejected_and_skin_is_kept(default_head, layout, expected) -> None:
    generator = torch.Generator().manual_seed(3)
    tone = 0.85 + 0.06 * torch.rand(1, SIZE, SIZE, generator=generator)
    neck, face = region(default_head, layout, "neck"), region(default_head, layout, "face")
    y = to_uv(layout, default_head, default_head.template)[..., 1]
    middle = y[neck].median()
    collar, bare = neck & ~face & (y < middle), neck & ~face & (y > middle)
    colour = (expected * tone).clamp(0, 1)
    colour = torch.where(collar, torch.tensor([0.1, 0.2, 0.8])[:, None, None], colour)
    weight = layout.mask[0].float() * 0.8
    kept = without_strangers(default_head, layout, Unwrapped(colour, weight), expected)
    assert torch.equal(kept.colour, colour)
    assert (kept.weight <= weight).all()
    assert (kept.weight[collar] < 0.01).float().mean() > 0.99
    assert (kept.weight[bare] > 0.75).float().mean() > 0.95
    assert (kept.weight[face] > 0.79).float().mean() > 0.99


def test_a_face_hardly_seen_teaches_nothing(default_head, layout, expected) -> None:
    weight = torch.zeros(SIZE, SIZE)
    weight[0] = 1.0
    seen = Unwrapped(expected, weight)
    assert without_strangers(default_head, layout, seen, expected) is seen


def test_merge_prefers_the_better_view() -> None:
    good = Unwrapped(torch.full((3, 2, 2), 0.8), torch.tensor([[0.9, 0.0], [0.5, 0.0]]))
    poor = Unwrapped(torch.full((3, 2, 2), 0.2), torch.tensor([[0.3, 0.4], [0.5, 0.0]]))
    merged = merge([good, poor])
    torch.testing.assert_close(merged.weight, torch.tensor([[0.9, 0.4], [0.5, 0.0]]))
    colour = merged.colour[0]
    assert colour[0, 0] > 0.77  # weights 27 to 1
    torch.testing.assert_close(colour[0, 1], torch.tensor(0.2))
    torch.testing.assert_close(colour[1, 0], torch.tensor(0.5))
    torch.testing.assert_close(merge([good]).colour[:, 0, 0], good.colour[:, 0, 0])
