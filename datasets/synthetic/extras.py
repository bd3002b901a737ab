"""Hair, glasses and shoulders: simple meshes around a head, in its unposed frame, and masks on its skin."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...geometry.models.head_model import HeadModel
from .people import Person

_RING, _ROWS, _COLUMNS = 20, 7, 17


@dataclass(frozen=True)
class Extras:
    """Meshes of a batch. Parts that a person lacks shrink to a point, which is not drawn."""

    vertices: Float[Tensor, "batch verts 3"]  #: unposed, metres
    colours: Float[Tensor, "batch verts 3"]


def extra_faces() -> Int[Tensor, "faces 3"]:
    """Faces of all extras: rims, lenses, bridge and temples, hair, shoulders."""
    faces, start = [], 0
    ring = np.arange(_RING)
    after = (ring + 1) % _RING
    for _ in range(2):
        inner = ring + _RING
        faces += [np.stack([ring, after, inner], 1) + start]
        faces += [np.stack([inner, after, after + _RING], 1) + start]
        start += 2 * _RING
    for _ in range(2):
        faces += [np.stack([ring, after, np.full(_RING, _RING)], 1) + start]
        start += _RING + 1
    for _ in range(3):
        faces += [np.array([[0, 1, 2], [2, 1, 3]]) + start]
        start += 4
    for _ in range(2):
        cell = (np.arange(_ROWS - 1)[:, None] * _COLUMNS + np.arange(_COLUMNS - 1)).reshape(-1)
        faces += [np.stack([cell, cell + _COLUMNS, cell + 1], 1) + start]
        faces += [np.stack([cell + 1, cell + _COLUMNS, cell + _COLUMNS + 1], 1) + start]
        start += _ROWS * _COLUMNS
    return torch.from_numpy(np.concatenate(faces)).int()


def draw_extras(people: Sequence[Person], clothes: np.ndarray, eyes: np.ndarray, bridge: np.ndarray) -> Extras:
    """Place the extras of a batch.

    Args:
        people: who.
        clothes: (batch, 3) colours.
        eyes: (batch, 2, 3) eye centres, left and right, of the unposed heads.
        bridge: (batch, 3) nose bridges.
    """
    count = len(people)

    def gather(name: str) -> np.ndarray:
        return np.array([getattr(p, name) for p in people])

    wears, shape, frame = gather("glasses"), gather("glasses_shape"), gather("glasses_colour")
    half, power, rim = shape[:, :2], shape[:, 2], shape[:, 3]
    angle = np.linspace(0, 2 * math.pi, _RING, endpoint=False)
    arms = np.stack([np.cos(angle), np.sin(angle)], -1)
    outline = np.sign(arms) * np.abs(arms) ** (2 / power[:, None, None])  # (batch, ring, 2)
    middle = eyes.mean(1)

    def bend(xy: np.ndarray) -> np.ndarray:
        """On the slightly wrapped plane of the glasses."""
        z = bridge[:, None, 2] + 0.006 - 5 * (xy[..., 0] - middle[:, None, 0]) ** 2
        return np.concatenate([xy, z[..., None]], -1)

    rims, lenses = [], []
    for side in range(2):
        centre = eyes[:, side, None, :2] - np.array([0, 0.003])
        rims.append(bend(centre + outline * (half + rim[:, None])[:, None]))
        rims.append(bend(centre + outline * (half - rim[:, None])[:, None]))
        lenses.append(np.concatenate([bend(centre + outline * half[:, None]), bend(centre)], 1) - [0, 0, 8e-4])
    bars = []
    left, right = eyes[:, 0], eyes[:, 1]
    height = middle[:, 1] + 0.004
    for begin, end, depth in (
        (right[:, 0] + half[:, 0], left[:, 0] - half[:, 0], None),
        (left[:, 0] + half[:, 0], left[:, 0] + 0.051, -0.01),
        (right[:, 0] - half[:, 0], right[:, 0] - 0.051, -0.01),
    ):
        corners = [np.stack([x, height + s * rim], 1)[:, None] for x in (begin, end) for s in (1.2, -1.2)]
        bar = bend(np.concatenate(corners, 1))
        if depth is not None:
            bar[:, 2:, 2] = depth
        bars.append(bar)
    glasses = np.concatenate(rims, 1) * 1.0
    glass = np.concatenate(lenses, 1)
    glasses[wears < 1], glass[wears < 2] = 0, 0
    bar = np.concatenate(bars, 1)
    bar[wears < 1] = 0

    thick, long = gather("hair_thickness"), gather("hair_length")
    down = np.linspace(0, 1, _ROWS)[None, :, None]
    azimuth = np.linspace(math.radians(80), math.radians(280), _COLUMNS)[None, None]
    flare = 1 + 0.25 * down * long[:, None, None]
    hair = np.stack(
        np.broadcast_arrays(
            (0.076 + thick[:, None, None]) * flare * np.sin(azimuth),
            0.06 - down * (0.1 + 0.2 * long[:, None, None]),
            (0.088 + thick[:, None, None]) * flare * np.cos(azimuth) + 0.005,
        ),
        -1,
    ).reshape(count, -1, 3)
    hair[long == 0] = 0
    around = np.linspace(0, 2 * math.pi, _COLUMNS)[None]
    fall = np.linspace(0.05, math.pi / 2 + 0.4, _ROWS)[:, None]
    body = np.stack(
        np.broadcast_arrays(
            0.21 * np.sin(fall) * np.sin(around),
            0.115 * np.cos(fall) - 0.235,
            0.1 * np.sin(fall) * np.cos(around) - 0.045,
        ),
        -1,
    ).reshape(1, -1, 3)
    body = np.broadcast_to(body, (count, *body.shape[1:]))
    parts = (glasses, glass, bar, hair, body)
    paints = (frame, np.full((count, 3), 0.04), frame, gather("hair_colour"), clothes)
    colours = [np.broadcast_to(c[:, None], p.shape) for c, p in zip(paints, parts, strict=True)]
    return Extras(
        torch.from_numpy(np.concatenate(parts, 1)).float(), torch.from_numpy(np.concatenate(colours, 1)).float()
    )


@dataclass(frozen=True)
class HairField:
    """Where hair may grow: elevation above the level of the ears against a threshold that falls towards the nape."""

    elevation: Float[Tensor, "verts"]  #: radians
    azimuth: Float[Tensor, "verts"]  #: 0 before the face, pi behind, either side
    allowed: Float[Tensor, "verts"]  #: skin without ears

    @classmethod
    def of(cls, model: HeadModel, skin: Float[Tensor, "verts"]) -> "HairField":
        centre = model.template.new_tensor([0.0, 0.02, 0.0])
        x, y, z = (model.template - centre).unbind(-1)
        ears = model.regions["ears"].to(skin.dtype) if "ears" in model.regions else torch.zeros_like(skin)
        return cls(torch.atan2(y, torch.hypot(x, z)), torch.atan2(x.abs(), z), skin * (1 - ears))

    def mask(self, hairline: Float[Tensor, "batch"]) -> Float[Tensor, "batch verts"]:
        """0..1 per vertex for hairlines as in `Person`."""
        front = hairline[:, None]
        temple = ((self.azimuth - 0.75) / 0.7).clamp(0, 1)
        nape = ((self.azimuth - 1.6) / 0.8).clamp(0, 1)
        threshold = torch.lerp(torch.lerp(front, front * 0.25 - 0.1, temple), (front - 1.1).clamp(max=0.0), nape)
        return torch.sigmoid((self.elevation - threshold) / 0.05) * self.allowed
