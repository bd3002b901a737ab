"""The albedo model of the default head."""

from dataclasses import replace

import pytest
import torch
from synthetic import tiny_head

from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.texture.albedo_model import AlbedoModel
from headlab.geometry.texture.default_albedo import default_albedo, face_parts
from headlab.geometry.texture.uv_raster import rasterize_uv, to_uv


@pytest.fixture(scope="module")
def albedo(default_head: HeadModel) -> AlbedoModel:
    return default_albedo(default_head, 128)


def test_textures_are_linear_in_codes(albedo: AlbedoModel) -> None:
    generator = torch.Generator().manual_seed(0)
    code = torch.randn(2, 1, albedo.components, generator=generator)
    assert albedo.texture(code).shape == (2, 1, 3, 128, 128)
    by_hand = albedo.mean + (albedo.basis * code[1, 0]).sum(-1)
    torch.testing.assert_close(albedo.texture(code)[1, 0], by_hand, atol=1e-5, rtol=0)
    torch.testing.assert_close(albedo.texture(code[1, 0, :3]), albedo.mean + (albedo.basis[..., :3] @ code[1, 0, :3]))
    torch.testing.assert_close(albedo.texture(code[0, 0, :0]), albedo.mean)


def test_colours_are_plausible(default_head: HeadModel, albedo: AlbedoModel) -> None:
    raster = rasterize_uv(default_head, 128)
    parts = face_parts(default_head)
    maps = {name: to_uv(raster, default_head, mask[:, None])[..., 0] > 0.9 for name, mask in parts.items()}
    skin = albedo.mean[:, maps["skin"] & ~maps["scalp"] & ~maps["lips"]].mean(1)
    lips, teeth = albedo.mean[:, maps["lips"]].mean(1), albedo.mean[:, maps["teeth"]].mean(1)
    assert skin[0] > skin[1] > skin[2] > 0.3
    assert lips[0] - lips[1] > skin[0] - skin[1]  # redder
    assert teeth.min() > 0.6
    assert 0 < albedo.mean.min() and albedo.mean.max() < 1


def test_components_act_where_they_should_and_differ(default_head: HeadModel, albedo: AlbedoModel) -> None:
    flat = albedo.basis.reshape(-1, albedo.components)
    assert flat.isfinite().all() and (flat.norm(dim=0) > 0).all()
    unit = flat / flat.norm(dim=0)
    off = (unit.mT @ unit).abs() - torch.eye(albedo.components)
    assert off.max() < 0.99


def test_models_without_regions_are_refused() -> None:
    with pytest.raises(ValueError, match="no region"):
        face_parts(replace(tiny_head(2, rings=4), regions={}))
