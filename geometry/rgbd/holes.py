"""Hole completion: narrow holes in depth are filled from the surface they lie in, never across an edge.

1. Holes wider than `largest` stay (a wall out of reach is not a hole); morphological opening tells them.
2. Every hole pixel finds the measured pixel it belongs to: geodesic distance over the picture, where steps across
   colour edges are long. Neighbours whose surfaces lie at different depths are cut apart.
3. Within the pieces a thin plate is fitted to the holes and a ring of measurements around them, in which these keep
   some noise to themselves (smoothing splines), by one sparse linear solve.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from ..texture.push_pull import push_pull
from .render import DepthPicture

_EDGE = 25.0  # length of a step of full colour difference, pixels
_RING = 3  # pixels of measurements around a hole that the plate is fitted to
_DATA, _STRETCH = 0.3, 0.003  # weights of measurements and of slopes against the plate's bending
_FADE = 8.0  # pixels over which confidence falls to 1 / e


def complete_depth(
    depth: Float[Tensor, "height width"],
    image: Float[Tensor, "3 height width"] | None = None,
    *,
    largest: float | int = 16,
    jump: float = 0.02,
    confidence: Float[Tensor, "height width"] | None = None,
) -> DepthPicture:
    """Fill holes.

    Args:
        depth: metres, 0 = none.
        image: sRGB 0..1; tells where surfaces end. None: the nearest measurement decides.
        largest: widest hole that is filled, pixels.
        jump: larger differences of depth at a hole's rim belong to two surfaces, metres (and 1 % of the depth more).
        confidence: of the measurements, 0..1; 1 where absent.

    Returns:
        Depth with the measurements as they were; confidence below 0.9, by distance, where it was filled in.
    """
    measured = (depth > 0).float() if confidence is None else torch.where(depth > 0, confidence, 0.0)
    z = depth.double().numpy()
    holes = narrow_holes(z == 0, largest)
    if not holes.any() or not (z > 0).any():
        return DepthPicture(depth, image, measured)
    colour = np.zeros((*z.shape, 3)) if image is None else image.permute(1, 2, 0).double().numpy()
    source, distance = _nearest_surface(z, holes, colour)
    filled = _thin_plate(z, holes, source, jump)
    done = holes & np.isfinite(filled)
    value = torch.from_numpy(np.where(done, filled, z)).float()
    trust = torch.from_numpy(0.9 * np.exp(-distance / _FADE)).float()
    mask = torch.from_numpy(done)
    return DepthPicture(torch.where(mask, value, depth), image, torch.where(mask, trust, measured))


def complete_picture(picture: DepthPicture, *, largest: float | int = 16) -> DepthPicture:
    """`complete_depth` for a rendered picture: its colours are filled as well, from around, for the filled pixels."""
    known = picture.depth > 0
    full = complete_depth(picture.depth, None, largest=largest, confidence=picture.confidence)
    if picture.image is None:
        return full
    spread = push_pull(picture.image, known.float())
    image = torch.where(known, picture.image, torch.where(full.depth > 0, spread, 0.0))
    return replace(full, image=image)


def narrow_holes(holes: Bool[ndarray, "height width"], largest: float | int) -> Bool[ndarray, "height width"]:
    """The holes less the parts that a disc wider than `largest` pixels fits into."""
    from scipy.ndimage import distance_transform_edt

    half = largest / 2
    # The picture's border does not end a hole: what lies behind it is unknown.
    inner = np.asarray(distance_transform_edt(np.pad(holes, 1, mode="edge")))[1:-1, 1:-1]
    wide = inner > half + 0.5
    if not wide.any():
        return holes
    return holes & (np.asarray(distance_transform_edt(~wide)) > half + 0.5)


def _nearest_surface(
    z: Float[ndarray, "height width"], holes: Bool[ndarray, "height width"], colour: Float[ndarray, "height width 3"]
) -> tuple[Float[ndarray, "height width"], Float[ndarray, "height width"]]:
    """Depth of the measurement that each hole pixel belongs to (NaN: none in reach), and how far it is, pixels."""
    from scipy.ndimage import maximum_filter
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import dijkstra

    rim = (z > 0) & np.asarray(maximum_filter(holes, 3), bool)
    nodes = holes | rim
    number = np.cumsum(nodes).reshape(nodes.shape) - 1
    rows, columns, costs = [], [], []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        a, b = _pairs(z.shape, dy, dx)
        used = nodes[a] & nodes[b] & (holes[a] | holes[b])
        step = np.hypot(dy, dx) * (1 + _EDGE * np.linalg.norm(colour[a] - colour[b], axis=-1))
        rows.append(number[a][used])
        columns.append(number[b][used])
        costs.append(step[used])
    count = int(nodes.sum())
    graph = coo_matrix((np.concatenate(costs), (np.concatenate(rows), np.concatenate(columns))), (count, count))
    starts = number[rim]
    distance = np.full(z.shape, np.inf)
    source = np.full(z.shape, np.nan)
    if not len(starts):
        return source, distance
    far, _, origin = dijkstra(graph.tocsr(), directed=False, indices=starts, return_predecessors=True, min_only=True)
    depth_of = np.full(count, np.nan)
    depth_of[starts] = z[rim]
    reached = origin >= 0
    found = np.full(count, np.nan)
    found[reached] = depth_of[origin[reached]]
    source[nodes], distance[nodes] = found, far
    return source, distance


def _thin_plate(
    z: Float[ndarray, "height width"],
    holes: Bool[ndarray, "height width"],
    source: Float[ndarray, "height width"],
    jump: float,
) -> Float[ndarray, "height width"]:
    """Depth of the hole pixels, NaN where nothing reaches."""
    from scipy.ndimage import maximum_filter
    from scipy.sparse import coo_matrix
    from scipy.sparse.linalg import spsolve

    level = np.where(holes, source, z)  # which surface a pixel is on
    nodes = np.asarray(maximum_filter(holes, 2 * _RING + 1), bool) & np.isfinite(level) & (level > 0)
    number = np.cumsum(nodes).reshape(nodes.shape) - 1
    count = int(nodes.sum())
    result = np.full(z.shape, np.nan)
    if not count:
        return result

    def same(a, b) -> Bool[ndarray, "..."]:
        """Both pixels take part and lie on one surface."""
        near = np.abs(np.nan_to_num(level[a]) - np.nan_to_num(level[b])) < jump + 0.01 * np.nan_to_num(level[a])
        return nodes[a] & nodes[b] & near

    blocks: list[tuple[Int[ndarray, "rows terms"], Float[ndarray, "terms"]]] = []
    for dy, dx in ((0, 1), (1, 0)):
        a, b = _pairs(z.shape, dy, dx)
        used = same(a, b)
        blocks.append((np.stack([number[a][used], number[b][used]], 1), np.sqrt(_STRETCH) * np.array([1.0, -1.0])))
        first, last = _pairs(z.shape, 2 * dy, 2 * dx)
        middle = (slice(dy, z.shape[0] - dy), slice(dx, z.shape[1] - dx))
        used = same(first, middle) & same(middle, last)
        corners = np.stack([number[first][used], number[middle][used], number[last][used]], 1)
        blocks.append((corners, np.array([1.0, -2.0, 1.0])))
    rows, columns, values, start = [], [], [], 0
    for members, terms in blocks:
        length = len(members)
        rows.append(np.repeat(np.arange(start, start + length), len(terms)))
        columns.append(members.ravel())
        values.append(np.tile(terms, length))
        start += length
    matrix = coo_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), (start, count))
    known = (z > 0)[nodes]
    data = np.where(known, _DATA, 1e-9)  # a piece without any measurement stays at its level
    goal = np.where(known, z[nodes], level[nodes])
    normal = matrix.T @ matrix + coo_matrix((data, (np.arange(count), np.arange(count))), (count, count))
    result[nodes] = spsolve(normal.tocsc(), data * goal)
    return np.where(holes, result, np.nan)


def _pairs(shape: tuple[int, ...], dy: int, dx: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of a picture and of the same shifted by (dy, dx), dy >= 0."""
    height, width = shape
    if dx >= 0:
        return (slice(0, height - dy), slice(0, width - dx)), (slice(dy, height), slice(dx, width))
    return (slice(0, height - dy), slice(-dx, width)), (slice(dy, height), slice(0, width + dx))
