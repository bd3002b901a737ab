"""Where the photo's lips really are: what the landmarks say beyond the fitted mesh.

A fitted mesh misses the lips by a pixel or two. That is enough to leave a line of teeth on a mouth that closes. So the
mesh's projection is bent onto the landmarks around the mouth before the photo is fetched through it. A mouth that
closes loses its bend, or its lips would not meet. Lids are left alone: on narrow eyes the fitted mesh, which sees the
pixels, is nearer the truth than the landmarks.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.camera import Camera
from ..geometry.landmarks.mesh478 import INNER_LIPS, OUTER_LIPS
from ..geometry.models.head_model import HeadModel

_SPREAD = 0.003  # metres on the skin: how far a landmark's bend reaches undamped
_FADE = 0.012  # metres: from the lips, over which the bend fades out
_OPEN = 0.0003  # metres: an opening below that counts as closed
_RIM = 0.0015  # metres: width of the rim of a lip that may show teeth
_LIMIT = 0.004  # metres: landmarks that ask for more are mistaken


@dataclass(frozen=True)
class Bend:
    """Pixels to add to the projected vertices of the old and of the new head."""

    old: Float[Tensor, "verts 2"]
    new: Float[Tensor, "verts 2"]


def bend_to_landmarks(
    model: HeadModel,
    unfolded: Float[Tensor, "verts 3"],
    old: Float[Tensor, "verts 3"],
    new: Float[Tensor, "verts 3"],
    camera: Camera,
    landmarks: Float[Tensor, "478 2"],
) -> Bend:
    """How to bend the projection of the lips onto the photo's landmarks.

    Args:
        model: head model with the 478 landmarks.
        unfolded: vertices of a head with its lips apart: landmarks act on what is near them there.
        old: vertices as fitted to the photo.
        new: vertices of the changed head.
        camera: the photo's camera.
        landmarks: detected in the photo, pixels.

    Returns:
        The bends. With `new` equal to `old` both are equal.
    """
    embedding = model.landmarks["478"]
    expected = camera.project(model.surface_points(old, embedding))
    pixel = camera.to_camera(old)[:, 2].median() / camera.K[0, 0]
    wanted = landmarks - expected
    length = wanted.norm(dim=1, keepdim=True)
    wanted = wanted * (_LIMIT / pixel / length.clamp(min=1e-9)).clamp(max=1)
    where = model.surface_points(unfolded, embedding)

    ring = INNER_LIPS
    before, after = (_opening(model.surface_points(vertices, embedding), ring) for vertices in (old, new))
    kept = min(1.0, after / max(before, _OPEN)) if after < before else 1.0
    # The rims of lips that close are fetched from a little within the lips: what touches them are teeth.
    inwards = torch.zeros_like(wanted)
    for i in range(1, len(ring) // 2):
        lower, upper = ring[i], ring[-i]
        apart = landmarks[lower] - landmarks[upper]
        step = (1 - kept) * _RIM / pixel * apart / apart.norm().clamp(min=1.0)
        inwards[lower], inwards[upper] = step, -step

    index = torch.tensor((*ring, *OUTER_LIPS))
    squared = torch.cdist(unfolded, where[index]).square()
    nearest = squared.amin(1, keepdim=True)
    # Relative to the nearest landmark, so that it has a say however far it is.
    weight = torch.exp((nearest - squared) / (2 * _SPREAD**2))
    weight = weight / weight.sum(1, keepdim=True) * torch.exp(-nearest / (2 * _FADE**2))
    return Bend(weight @ (wanted + inwards)[index], kept * (weight @ wanted[index]))


def _opening(points: Float[Tensor, "478 3"], ring: tuple[int, ...]) -> float:
    """Mean distance of the two halves of a ring, metres."""
    half = len(ring) // 2
    lower, upper = list(ring[1:half]), [ring[-i] for i in range(1, half)]
    return float((points[lower] - points[upper]).norm(dim=1).mean())
