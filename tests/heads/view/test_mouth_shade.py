"""The dark of an open mouth."""

import torch

from headlab.geometry.texture.uv_raster import rasterize_uv, to_uv
from headlab.heads.view.mouth_shade import mouth_light, shaded_mouth


def test_it_is_darker_the_farther_behind_the_lips(default_head):
    light = mouth_light(default_head)
    inside = default_head.regions["mouth"] | default_head.regions["teeth"] | default_head.regions["tongue"]
    inside = inside & ~default_head.regions["lips"]
    assert bool((light[~inside] == 1).all()) and bool((light[inside] < 1).all()) and float(light.min()) > 0
    order = default_head.template[inside][:, 2].argsort()  # from the throat to the front
    brightness = light[inside][order]
    assert bool((brightness.diff(dim=0) >= 0).all()) and float(brightness[-1, 0]) > 3 * float(brightness[0, 0])
    assert bool((light[:, 0] >= light[:, 2]).all())  # red reaches farthest


def test_the_texture_changes_in_the_mouth_only(default_head):
    white = torch.full((3, 128, 128), 0.9)
    texture = shaded_mouth(default_head, white)
    inside = to_uv(rasterize_uv(default_head, 128), default_head, (mouth_light(default_head) < 1).float())[..., 0]
    changed = (texture < white - 1e-4).any(0)
    assert bool(changed.any()) and bool((inside[changed] > 0).all()) and bool((texture <= white + 1e-6).all())
