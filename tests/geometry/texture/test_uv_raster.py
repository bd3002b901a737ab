"""The texture layout as a raster."""

from dataclasses import replace

import pytest
import torch
from riggable import riggable_head

from headlab.geometry.models.head_model import HeadModel, License
from headlab.geometry.texture.uv_raster import rasterize_uv, to_uv


def test_a_square_fills_its_half_of_the_texture() -> None:
    """Two triangles over u 0..1, v 0.5..1: the upper half, since v = 1 is row 0."""
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    quad = HeadModel(
        name="quad",
        template=torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]),
        shape_basis=torch.zeros(4, 3, 0),
        expression_basis=torch.zeros(4, 3, 0),
        expression_names=(),
        faces=faces,
        joint_regressor=torch.full((1, 4), 0.25),
        skin_weights=torch.ones(4, 1),
        parents=(-1,),
        license=License("made up", True, "https://example.org"),
        joint_names=("root",),
        uvs=torch.tensor([[0.0, 0.5], [1, 0.5], [1, 1], [0, 1]]),
        uv_faces=faces,
    )
    raster = rasterize_uv(quad, 8)
    assert raster.mask[0, :4].all() and not raster.mask[0, 4:].any()
    values = to_uv(raster, quad, quad.template[:, :2])
    centres = (torch.arange(8) + 0.5) / 8
    torch.testing.assert_close(values[:4, :, 0], centres.expand(4, 8))
    torch.testing.assert_close(values[:4, :, 1], (1 - (torch.arange(4) + 0.5) / 4)[:, None].expand(4, 8))
    assert not values[4:].any()


def test_every_face_of_the_default_head_has_texels(default_head: HeadModel) -> None:
    """At 1024 each face with a texture area of two texels and more is seen, and next to all of the smaller ones."""
    raster = rasterize_uv(default_head, 1024)
    assert default_head.uvs is not None and default_head.uv_faces is not None
    a, b, c = (default_head.uvs[default_head.uv_faces] * 1024).unbind(1)
    area = 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]).abs()
    seen = torch.zeros(len(default_head.faces), dtype=torch.bool)
    seen[raster.face[raster.mask].long()] = True
    skin = default_head.face_parts == default_head.part_names.index("skin")
    big = (area >= 1.5) & skin
    assert big.sum() > 0.8 * skin.sum()
    assert seen[big].float().mean() > 0.995  # slivers may pass between texel centres
    # No two parts of the skin share texels: the areas add up to what is covered.
    covered = skin[raster.face.clamp(min=0).long()] & raster.mask
    assert float(covered.sum()) == pytest.approx(float(area[skin].sum()), rel=0.02)


def test_texels_interpolate_linearly(default_head: HeadModel) -> None:
    """A linear function of position, put into the layout, is that function of the position in the layout."""
    raster = rasterize_uv(default_head, 128)
    slope = torch.tensor([3.0, -2.0, 5.0])
    values = torch.cat([default_head.template, (default_head.template @ slope)[:, None]], 1)
    found = to_uv(raster, default_head, values)
    torch.testing.assert_close(found[..., 3], found[..., :3] @ slope, atol=1e-5, rtol=0)
    assert not found[~raster.mask[0]].any()


def test_models_without_texture_coordinates_are_refused() -> None:
    with pytest.raises(ValueError, match="no texture coordinates"):
        rasterize_uv(replace(riggable_head(), uvs=None, uv_faces=None), 8)
