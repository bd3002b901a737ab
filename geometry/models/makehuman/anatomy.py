"""What must hold in every head, whatever its controls and deformations: closed lips, round eyes.

Both corrections are linear in the vertices, so that a head made of corrected ones by linear components needs none.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.spatial import KDTree

_CONTACT = 0.0025  # metres: vertices of the two lips nearer than that face each other
_LID = 0.003  # metres outside the eyeball: where the skin's tie to it fades
_ALONG, _AROUND = 0.004, 0.006  # metres: how far a gap is smoothed, and how far its closing reaches


def seal_lips(
    heads: Float[ndarray, "count verts 3"],
    base: Float[ndarray, "verts 3"],
    jaw: Float[ndarray, "verts"],
    mouth: Bool[ndarray, "verts"],
) -> Float[ndarray, "count verts 3"]:
    """Close every head's mouth.

    The base mesh holds its lips a millimetre apart, and sliders and deformations that move one lip alone part them
    further. Vertices that face each other across the mouth are brought to the same height, each lip going halfway;
    the motion fades out around the lips.

    Args:
        heads: metres.
        base: the base mesh, metres, about the heads' size: tells which vertices face each other.
        jaw: skinning weight of the jaw: tells the lower lip (near 1) from the upper (0).
        mouth: lips and inside of the mouth.
    """
    upper, lower = _contacts(base, jaw, mouth)
    middle = (base[upper] + base[lower]) / 2
    near = np.flatnonzero(KDTree(middle).query(base)[0] < 3 * _AROUND)
    distance = np.linalg.norm(base[near, None] - middle[None], axis=-1)
    kernel = np.exp(-((distance / _ALONG) ** 2) / 2) + 1e-12
    share = np.exp(-((distance.min(1) / _AROUND) ** 2) / 2)
    side = np.clip(jaw[near] / np.median(jaw[lower]), 0, 1) - 0.5
    spread = kernel / kernel.sum(1, keepdims=True) * (share * side)[:, None]
    out = heads.copy()
    for _ in range(4):  # the smoothing leaves a part of each gap to the next pass
        out[:, near, 1] += (out[:, upper, 1] - out[:, lower, 1]) @ spread.T
    return out


def _contacts(
    base: Float[ndarray, "verts 3"], jaw: Float[ndarray, "verts"], mouth: Bool[ndarray, "verts"]
) -> tuple[Int[ndarray, "pairs"], Int[ndarray, "pairs"]]:
    """Pairs of a vertex of the upper lip and one of the lower: each one's nearest of the other."""
    upper, lower = np.flatnonzero(mouth & (jaw < 0.2)), np.flatnonzero(mouth & (jaw > 0.5))
    below, of_upper = KDTree(base[lower]).query(base[upper])
    above, of_lower = KDTree(base[upper]).query(base[lower])
    first = np.stack([upper, lower[of_upper]], 1)[below < _CONTACT]
    second = np.stack([upper[of_lower], lower], 1)[above < _CONTACT]
    pairs = np.unique(np.concatenate([first, second]), axis=0)
    return pairs[:, 0], pairs[:, 1]


def round_eyes(
    heads: Float[ndarray, "count verts 3"],
    base: Float[ndarray, "verts 3"],
    eyeballs: list[Int[ndarray, "_"]],
    skin: Bool[ndarray, "verts"],
) -> Float[ndarray, "count verts 3"]:
    """Give every head the base mesh's eyeballs, moved and evenly scaled, and lids that lie on them.

    Stretched eyeballs could not turn in their sockets. The skin around an eye keeps the base mesh's distance from
    the eyeball's centre, along the base mesh's directions from there; its motion along the eyeball stays free.
    """
    out = heads.copy()
    for members in eyeballs:
        centre = base[members].mean(0)
        shape = base[members] - centre
        moved = heads[:, members].mean(1, keepdims=True)
        size = ((heads[:, members] - moved) * shape).sum((1, 2)) / (shape**2).sum()
        out[:, members] = moved + size[:, None, None] * shape

        radius = np.linalg.norm(shape, axis=1).max()
        distance = np.linalg.norm(base - centre, axis=1)
        near = np.flatnonzero(skin & (distance < radius + 3 * _LID))
        outwards = (base[near] - centre) / distance[near, None]
        share = np.exp(-((np.maximum(distance[near] - radius, 0) / _LID) ** 2) / 2)
        wrong = size[:, None] * distance[near] - np.einsum("nvc,vc->nv", heads[:, near] - moved, outwards)
        out[:, near] += (wrong * share)[..., None] * outwards
    return out
