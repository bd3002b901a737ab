"""Unwrapping photos of known heads gives their textures back."""

import pytest
import torch
from torch import Tensor

from headlab.geometry.camera import Camera
from headlab.geometry.code import HeadCode
from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.raster import Raster
from headlab.geometry.texture.default_albedo import default_albedo
from headlab.geometry.texture.unwrap import unwrap
from headlab.geometry.texture.uv_raster import rasterize_uv, to_uv
from headlab.viewers.pictures import render_head

SIZE = 256


@pytest.fixture(scope="module")
def layout(default_head: HeadModel) -> Raster:
    return rasterize_uv(default_head, SIZE)


@pytest.fixture(scope="module")
def texture(default_head: HeadModel) -> Tensor:
    """The mean skin under smooth coloured blotches."""
    generator = torch.Generator().manual_seed(0)
    blotches = torch.rand(1, 3, 16, 16, generator=generator)
    blotches = torch.nn.functional.interpolate(blotches, SIZE, mode="bicubic", align_corners=False)[0]
    return (default_albedo(default_head, SIZE).mean * (0.6 + 0.4 * blotches)).clamp(0.05, 0.9)


@pytest.fixture(scope="module")
def light() -> Tensor:
    light = torch.zeros(9, 3)
    light[0] = torch.tensor([2.6, 2.5, 2.3])
    light[1], light[2], light[3] = 0.15, 0.2, 0.3
    return light


def posed(head: HeadModel, light: Tensor, yaw: float = 0.0) -> HeadCode:
    return head.neutral().with_(
        rotation=torch.tensor([0.0, yaw, 0.0]), translation=torch.tensor([0.0, 0.0, -0.8]), light=light
    )


CAMERA = Camera.frontal(1100.0, (480, 480))


@pytest.mark.parametrize("yaw", [0.0, 0.5])
def test_a_rendered_texture_comes_back(default_head, layout, texture, light, yaw: float) -> None:
    code = posed(default_head, light, yaw)
    image = render_head(default_head, code, CAMERA, texture)[:3]
    found = unwrap(default_head, layout, code, CAMERA, image)
    skin = layout.mask[0] & (default_head.face_parts[layout.face[0].clamp(min=0).long()] == 0)
    good = skin & (found.weight > 0.3)
    assert good.sum() > 0.15 * skin.sum()
    error = (found.colour - texture).abs().mean(0)
    assert error[good].mean() < 0.01
    assert (error[good] < 0.05).float().mean() > 0.98


def test_weight_is_the_squared_cosine_of_the_view_and_0_where_unseen(default_head, layout, texture, light) -> None:
    code = posed(default_head, light)
    image = render_head(default_head, code, CAMERA, texture)[:3]
    weight = unwrap(default_head, layout, code, CAMERA, image).weight
    assert weight.min() >= 0 and weight.max() <= 1
    assert not weight[~layout.mask[0]].any()
    position = to_uv(layout, default_head, default_head.template)
    covered = layout.mask[0]
    back = covered & (position[..., 2] < default_head.template[:, 2].min() + 0.05)
    assert back.any() and not weight[back].any()
    inner = [default_head.regions[name] for name in ("teeth", "tongue") if name in default_head.regions]
    inside = to_uv(layout, default_head, torch.stack(inner, 1).float()).amax(-1) > 0.99
    assert (weight[inside] > 0).float().mean() < 0.02  # the mouth is shut
    forehead = (
        covered
        & (position[..., 0].abs() < 0.01)
        & to_uv(layout, default_head, default_head.regions["face"].float()[:, None])[..., 0].gt(0.99)
    )
    assert weight[forehead].amax() > 0.9


def test_the_light_is_left_in_where_the_code_has_none(default_head, layout, texture, light) -> None:
    code = posed(default_head, 0.5 * light)
    image = render_head(default_head, code, CAMERA, texture)[:3]
    lit = unwrap(default_head, layout, code, CAMERA, image)
    unlit = unwrap(default_head, layout, code.with_(light=None), CAMERA, image)
    good = lit.weight > 0.3
    assert unlit.colour[:, good].mean() < 0.7 * lit.colour[:, good].mean()


def test_hidden_and_transparent_pixels_are_not_trusted(default_head, layout, texture, light) -> None:
    code = posed(default_head, light)
    image = render_head(default_head, code, CAMERA, texture)[:3]
    trusted = torch.ones(480, 480)
    trusted[:, 240:] = 0  # the subject's left half is hidden
    found = unwrap(default_head, layout, code, CAMERA, image, trusted)
    x = to_uv(layout, default_head, default_head.template)[..., 0]
    assert not found.weight[x > 0.005].any()
    assert (found.weight[x < -0.005] > 0.3).any()


def test_what_lies_outside_the_photo_is_unseen(default_head, layout, texture, light) -> None:
    code = posed(default_head, light)
    full = render_head(default_head, code, CAMERA, texture)[:3]
    whole = unwrap(default_head, layout, code, CAMERA, full)
    half = unwrap(default_head, layout, code, CAMERA.cropped(0, 0, (480, 240)), full[:, :, :240].contiguous())
    x = to_uv(layout, default_head, default_head.template)[..., 0]
    assert not half.weight[x > 0.005].any()
    # The border of the photo is no silhouette: what is seen is trusted as before.
    kept = (x < -0.01) & (whole.weight > 0.3)
    assert ((half.weight - whole.weight).abs()[kept] < 0.02).float().mean() > 0.99


def test_large_photos_are_averaged_not_skipped(default_head, layout, light) -> None:
    """Pixel-wide stripes average to grey."""
    camera = Camera.frontal(4400.0, (1920, 1920))
    stripes = (torch.arange(1920) % 2).float().expand(3, 1920, 1920).contiguous()
    found = unwrap(default_head, layout, posed(default_head, light).with_(light=None), camera, stripes)
    seen = found.colour[:, found.weight > 0.3]
    assert float(seen.mean()) == pytest.approx(0.5, abs=0.02)
    assert seen.std() < 0.1


def test_a_head_outside_the_picture_gives_nothing(default_head, layout, light) -> None:
    away = posed(default_head, light).with_(translation=torch.tensor([3.0, 0.0, -0.8]))
    found = unwrap(default_head, layout, away, CAMERA, torch.zeros(3, 480, 480))
    assert not found.weight.any() and found.colour.isfinite().all()


def test_light_taken_for_too_dark_changes_no_hue(default_head, layout, light) -> None:
    """A photo three times as bright as the light allows: albedo cannot exceed 1, but keeps the photo's proportions."""
    image = torch.tensor([0.9, 0.6, 0.45])[:, None, None].expand(3, 480, 480).contiguous()
    dim = torch.zeros(9, 3)
    dim[0] = 0.3 / 0.2820948
    found = unwrap(default_head, layout, posed(default_head, dim), CAMERA, image)
    seen = found.colour[:, found.weight > 0.3]
    assert seen.max() <= 1
    torch.testing.assert_close(seen / seen[0], torch.tensor([[1.0], [2 / 3], [0.5]]).expand_as(seen), atol=1e-3, rtol=0)
