"""Heads that no linear model of others holds: smooth bumps and dents of their own on a head of a model's."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ...geometry.sdf.extract import mesh_normals
from ...geometry.sdf.registered import RegisteredHeads
from ...heads.metrics.surface_score import MILLIMETRES


@dataclass(frozen=True)
class EditConfig:
    """How heads are changed; lengths in millimetres."""

    bumps: int = 12
    width: tuple[float, float] = (10.0, 25.0)  #: standard deviation of each
    height: tuple[float, float] = (1.5, 4.0)  #: outwards or inwards
    lowest: float = -75.0  #: centres lie above this, in the fields' frame: the foot of the neck is not judged


def edited_heads(heads: RegisteredHeads, config: EditConfig, seed: int) -> RegisteredHeads:
    """Canonical heads with bumps and dents, spread over each at random; no expressions.

    Args:
        heads: people.
        config: how.
        seed: of the first one's; the others' follow.
    """
    changed = [
        vertices + bumps(vertices, mesh_normals(vertices, heads.faces), config, seed + number)
        for number, vertices in enumerate(heads.canonical)
    ]
    return replace(heads, canonical=torch.stack(changed), posed=heads.posed[:, :0], pose_names=())


def bumps(
    vertices: Float[Tensor, "verts 3"], normals: Float[Tensor, "verts 3"], config: EditConfig, seed: int
) -> Float[Tensor, "verts 3"]:
    """Displacements along the normals at the bumps' centres, which fall off as Gaussians."""
    draws = torch.Generator().manual_seed(seed)
    above = (vertices[:, 1] > config.lowest / MILLIMETRES).nonzero().squeeze(1)
    out = torch.zeros_like(vertices)
    for _ in range(config.bumps):
        centre = above[int(torch.randint(len(above), (), generator=draws))]
        wide, high, side = torch.rand(3, generator=draws).tolist()
        width = (config.width[0] + (config.width[1] - config.width[0]) * wide) / MILLIMETRES
        height = (config.height[0] + (config.height[1] - config.height[0]) * high) / MILLIMETRES
        near = torch.exp(-(vertices - vertices[centre]).square().sum(-1) / (2 * width**2))
        out += (height if side < 0.5 else -height) * near[:, None] * normals[centre]
    return out
