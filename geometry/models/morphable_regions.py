"""Soft regions of a face (eyes, nose, mouth) about its landmarks, for exchanging them between heads.

A region's weight is 1 on the feature and falls smoothly to 0 within a few centimetres; the band in which it falls is
where two heads are matched when one lends the other its nose.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from .head_model import HeadModel

#: Names, landmarks of the 68 that outline them, and how far they reach: full weight, and none, in outer-eye distances.
_OUTLINES = (
    ("left_eye", (*range(42, 48),), 0.06, 0.24),
    ("right_eye", (*range(36, 42),), 0.06, 0.24),
    ("nose", (*range(27, 36),), 0.06, 0.24),
    ("mouth", (*range(48, 60),), 0.07, 0.28),
)
#: What moves with a region as a whole, where the model names it.
_INSIDE = {"left_eye": ("left_eye",), "right_eye": ("right_eye",), "mouth": ("teeth", "tongue", "mouth")}
_FILL = 6  # points between a landmark and the outline's middle, and between two landmarks


@dataclass(frozen=True)
class FaceRegion:
    """Part of a face."""

    name: str
    vertices: Int[ndarray, "n"]
    weight: Float[ndarray, "n"]  #: 0..1, above 0
    band: Float[ndarray, "n"]  #: importance of each vertex in placing the region, sum 1: largest where the weight is ½


def face_regions(
    template: Float[ndarray, "verts 3"],
    landmarks: Float[ndarray, "68 3"],
    areas: Float[ndarray, "verts"],
    inside: dict[str, ndarray] | None = None,
) -> tuple[FaceRegion, ...]:
    """Left eye, right eye, nose and mouth of a head.

    Args:
        template: vertices, metres.
        landmarks: its 68 points.
        areas: of each vertex (`shape_space.vertex_areas`).
        inside: masks of vertices that belong to a region whole: eyeballs, teeth, tongue, inside of the mouth.
    """
    unit = float(np.linalg.norm(landmarks[45] - landmarks[36]))
    out = []
    for name, outline, full, none in _OUTLINES:
        points = _filled(landmarks[list(outline)])
        distance = np.sqrt(((template[:, None] - points[None]) ** 2).sum(-1)).min(1) / unit
        t = np.clip((none - distance) / (none - full), 0, 1)
        weight = t * t * (3 - 2 * t)
        whole = [inside[part] for part in _INSIDE.get(name, ()) if inside and part in inside]
        hidden = np.logical_or.reduce(whole) if whole else np.zeros(len(template), bool)
        weight[hidden] = 1.0
        if inside:  # an eyeball is no part of the nose, however near
            foreign = [mask for part, mask in inside.items() if part not in _INSIDE.get(name, ())]
            if foreign:
                weight[np.logical_or.reduce(foreign)] = 0.0
        vertices = np.flatnonzero(weight > 1e-3)
        weight = weight[vertices]
        band = weight * (1 - weight) * areas[vertices] * ~hidden[vertices]
        out.append(FaceRegion(name, vertices, weight.astype(np.float32), (band / band.sum()).astype(np.float32)))
    return tuple(out)


def model_regions(model: HeadModel, areas: Float[ndarray, "verts"]) -> tuple[FaceRegion, ...]:
    """The regions of a model's mean head."""
    parts = {part for names in _INSIDE.values() for part in names}
    inside = {part: model.regions[part].cpu().numpy() for part in parts if part in model.regions}
    landmarks = model.landmarks3d(model.template, "68").double().cpu().numpy()
    return face_regions(model.template.double().cpu().numpy(), landmarks, areas, inside)


def _filled(outline: Float[ndarray, "n 3"]) -> Float[ndarray, "m 3"]:
    """The outline with points along its edges and towards its middle."""
    middle = outline.mean(0)
    share = np.linspace(0, 1, _FILL, endpoint=False)[:, None, None]
    edges = ((1 - share) * outline + share * np.roll(outline, -1, axis=0)).reshape(-1, 3)
    return ((1 - share) * edges + share * middle).reshape(-1, 3)
