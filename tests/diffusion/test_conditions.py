"""Condition maps: DiffusionRig's numbers, and agreement with what is known of a head."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from riggable import riggable_head

from headlab.diffusion.conditions import Conditions, shade, stack
from headlab.geometry.camera import Camera
from headlab.geometry.errors import HeadlabError


def _scene(size: tuple[int, int] = (60, 80)):
    model = riggable_head()
    code = model.neutral().with_(translation=torch.tensor([0.01, 0.0, -0.8]))
    light = torch.zeros(9, 3)
    light[0] = 3.0
    light[3] = torch.tensor([0.4, 0.1, -0.2])
    return model, code.with_(light=light), Camera.frontal(180, size)


def test_diffusion_rig_buffers(shared: Path) -> None:
    """The authors' own shading and channel values."""
    golden = np.load(shared / "parity/diffusion/physical_buffers_shading.npz")
    data = {name: torch.from_numpy(golden[name]) for name in golden.files}
    rasterised = data["rasterised"]
    normal, mask = rasterised[:, 9:12], rasterised[:, 12]
    grid = rasterised[:, :2].movedim(1, -1)  # uv grid in -1..1, as the albedo is looked up
    albedo = torch.nn.functional.grid_sample(data["albedo_uv"], data["grid"], align_corners=False) * mask[:, None]
    assert grid.shape == data["grid"].shape
    torch.testing.assert_close(albedo, data["albedo_images"], atol=1e-5, rtol=0)
    shaded = shade(normal, albedo, data["sh_light"])
    torch.testing.assert_close(shaded, data["rendered_images"], atol=1e-5, rtol=1e-5)
    maps = Conditions(normal, albedo, shaded, mask, mask, grid.movedim(-1, 1))
    expected = torch.cat([data["rendered_images"], data["normal_images"], data["albedo_images"]], 1)
    torch.testing.assert_close(maps.diffusion_rig(), expected, atol=1e-5, rtol=1e-5)


def test_maps_of_a_head() -> None:
    model, code, camera = _scene()
    u, v = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(1, 0, 64), indexing="xy")
    maps = Conditions.of(model, code, camera, torch.stack([u, v, 0 * u]))
    assert maps.size == (60, 80)
    inside = maps.mask > 0
    assert 0.1 < inside.float().mean() < 0.9
    for name in ("normal", "albedo", "shaded", "depth", "uv"):
        assert (getattr(maps, name)[..., ~inside] == 0).all()
    # The texture holds its own coordinates (texel centres a half texel in), so albedo shows uv.
    half = (maps.uv * 64 - 0.5) / 63
    torch.testing.assert_close(maps.albedo[:2][:, inside], half[:, inside].clamp(0, 1), atol=1e-4, rtol=0)
    # The visible side of a ball: normals look at the camera, the nearest point is a radius before the centre.
    assert (maps.normal[2][inside] > -0.2).all()
    assert maps.normal[:, inside].norm(dim=0).max() <= 1 + 1e-5
    assert 0.6 < maps.depth[inside].min() < 0.71
    expected = maps.albedo * (3 * 0.28209479 + 1.02332671 * maps.normal[2] * code.light[3, :, None, None])
    torch.testing.assert_close(maps.shaded, expected, atol=1e-5, rtol=0)


def test_relit_and_stacked() -> None:
    model, code, camera = _scene()
    maps = Conditions.of(model, code, camera, torch.full((3, 8, 8), 0.5))
    assert code.light is not None
    torch.testing.assert_close(maps.relit(2 * code.light).shaded, 2 * maps.shaded)
    both = stack([maps, maps.relit(0 * code.light)])
    assert both.diffusion_rig().shape == (2, 9, 60, 80)
    assert (both.shaded[1] == 0).all()
    lights = torch.stack([code.light, 0 * code.light])
    torch.testing.assert_close(stack([maps, maps]).relit(lights).shaded, both.shaded)


def test_a_model_without_texture_is_refused() -> None:
    model, code, camera = _scene()
    bare = replace(model, uvs=None)
    with pytest.raises(HeadlabError, match="no texture coordinates"):
        Conditions.of(bare, code, camera, torch.zeros(3, 4, 4))
