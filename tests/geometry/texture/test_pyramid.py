"""Texture pyramids: linear in their codes, the same at all levels, and fitted from small textures."""

from pathlib import Path

import pytest
import torch

from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.texture.default_albedo import default_albedo
from headlab.geometry.texture.pyramid import TexturePyramid, build_pyramid
from headlab.geometry.texture.pyramid_fit import PyramidFitConfig, fit_pyramid
from headlab.geometry.texture.pyramid_regions import NAMES, texture_parts, vertex_parts
from headlab.geometry.texture.unwrap import Unwrapped
from headlab.geometry.texture.uv_raster import rasterize_uv

LOW, HIGH, COUNT = 48, 96, 16


@pytest.fixture(scope="module")
def textures(default_head: HeadModel) -> torch.Tensor:
    """Albedo and a map that goes along with it."""
    albedo = default_albedo(default_head, HIGH)
    codes = torch.randn(COUNT + 2, albedo.components, generator=torch.Generator().manual_seed(0))
    colour = albedo.texture(codes).clamp(0, 1)
    return torch.cat([colour, 1 - colour[:, :1]], 1)


@pytest.fixture(scope="module")
def pyramid(default_head: HeadModel, textures: torch.Tensor, tmp_path_factory) -> TexturePyramid:
    folder = tmp_path_factory.mktemp("pyramid")
    return build_pyramid(default_head, textures.__getitem__, COUNT, folder, (LOW, HIGH), variance=0.9999)


def low(texture: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.interpolate(texture[None], (LOW, LOW), mode="area")[0]


def test_parts_add_up(default_head: HeadModel) -> None:
    shares = vertex_parts(default_head)
    torch.testing.assert_close(shares.sum(1), torch.ones(len(shares)))
    marks = default_head.landmarks3d(default_head.template, "68")
    for landmark, name in ((30, "nose"), (57, "mouth"), (40, "right_eye"), (8, "chin"), (2, "right_cheek")):
        vertex = (default_head.template - marks[landmark]).norm(dim=1).argmin()
        assert NAMES[int(shares[vertex].argmax())] == name
    torch.testing.assert_close(texture_parts(default_head, 64).sum(0), torch.ones(64, 64), atol=1e-4, rtol=0)


def test_the_mean_and_the_samples_come_back_at_every_level(
    default_head: HeadModel, pyramid: TexturePyramid, textures: torch.Tensor
) -> None:
    covered = rasterize_uv(default_head, HIGH).mask[0]
    zero = torch.zeros(len(NAMES), pyramid.largest)
    mean = pyramid.texture(zero, HIGH)
    assert float((mean - textures[:COUNT].mean(0)).abs()[:, covered].amax()) < 3e-3
    fit = fit_pyramid(pyramid, Unwrapped(low(textures[3])[:3], torch.ones(LOW, LOW)), PyramidFitConfig(variation=0.0))
    high = fit.texture(pyramid, HIGH)
    error = (high - textures[3])[:, covered].square().mean().sqrt()
    assert error < 0.25 * (mean - textures[3])[:, covered].square().mean().sqrt()
    small = fit.texture(pyramid, LOW)  # levels tell the same but for 8 bits and the parts' borders
    assert float((low(high) - small)[:, rasterize_uv(default_head, LOW).mask[0]].abs().mean()) < 0.01
    assert high.shape[0] == 4  # what goes along with the colours follows from the same numbers
    assert float((high[3] - 1 + high[0]).abs()[covered].mean()) < 0.02


def test_a_texture_seen_in_part(default_head: HeadModel, pyramid: TexturePyramid, textures: torch.Tensor) -> None:
    """A held-out face of which the left half is seen; the prior and the total variation do what they are for."""
    seen = low(textures[COUNT])[:3]
    weight = rasterize_uv(default_head, LOW).mask[0].float()
    weight[:, LOW // 2 :] = 0
    fit = fit_pyramid(pyramid, Unwrapped(seen, weight))
    assert fit.error < 0.5 * fit.error_of_mean
    assert fit.energy[-1] < fit.energy[0]
    strong = fit_pyramid(pyramid, Unwrapped(seen, weight), PyramidFitConfig(prior=100.0))
    assert strong.codes.norm() < fit.codes.norm()
    smooth = fit_pyramid(pyramid, Unwrapped(seen, weight), PyramidFitConfig(variation=5.0))
    inside = rasterize_uv(default_head, LOW).mask[0]

    def variation(codes: torch.Tensor) -> float:
        texture = pyramid.texture(codes, LOW)[:3] * inside
        return float(texture.diff(dim=1).abs().sum() + texture.diff(dim=2).abs().sum())

    assert variation(smooth.codes) < variation(fit.codes)


def test_components_are_limited_and_reported(default_head: HeadModel, textures: torch.Tensor, tmp_path: Path) -> None:
    made = build_pyramid(default_head, lambda i: low(textures[i]), 6, tmp_path, (LOW,), limit=2)
    assert made.components == (2,) * len(NAMES) and all(0.3 < share <= 1 for share in made.explained)
    assert TexturePyramid.load(tmp_path) == made


def test_refused(default_head: HeadModel, pyramid: TexturePyramid, textures: torch.Tensor, tmp_path: Path) -> None:
    give = textures.__getitem__
    with pytest.raises(HeadlabError, match="at least two"):
        build_pyramid(default_head, give, 1, tmp_path, (LOW,))
    with pytest.raises(HeadlabError, match="do not divide"):
        build_pyramid(default_head, give, 3, tmp_path, (40, HIGH))
    with pytest.raises(HeadlabError, match="resize the samples"):
        build_pyramid(default_head, give, 3, tmp_path, (LOW, 2 * HIGH))
    with pytest.raises(HeadlabError, match="unwrap at 48"):
        fit_pyramid(pyramid, Unwrapped(textures[0, :3], torch.ones(HIGH, HIGH)))
    with pytest.raises(HeadlabError, match="nothing of the head"):
        fit_pyramid(pyramid, Unwrapped(low(textures[0])[:3], torch.zeros(LOW, LOW)))
    with pytest.raises(HeadlabError, match="none of 50"):
        pyramid.texture(torch.zeros(len(NAMES), pyramid.largest), 50)
    with pytest.raises(HeadlabError, match="takes codes"):
        pyramid.texture(torch.zeros(2, 2), LOW)
    with pytest.raises(HeadlabError, match="no texture pyramid"):
        TexturePyramid.load(tmp_path / "nowhere")
