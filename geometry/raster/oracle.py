"""The rasteriser in plain torch: slow, obvious, on any device, in any precision. Tests compare the native one with it.

Coverage and depth order are decided in float64, one face after the other; weights and depth follow from the winning
face by differentiable torch operations.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def rasterize(
    points: Float[Tensor, "batch verts 4"],
    faces: Int[Tensor, "faces 3"] | Int[Tensor, "batch faces 3"],
    size: tuple[int, int],
    near: float = 1e-3,
    cull: bool = False,
    layers: int = 1,
) -> tuple[
    Int[Tensor, "batch height width layers"],
    Float[Tensor, "batch height width layers 3"],
    Float[Tensor, "batch height width layers"],
]:
    """Same meaning as `headlab.geometry.raster.rasterize`; returns (face, bary, depth) with a layer axis."""
    per_item = faces if faces.ndim == 3 else faces.expand(points.shape[0], -1, -1)
    with torch.no_grad():
        maps = [_face_map(p, f, size, near, cull, layers) for p, f in zip(points, per_item, strict=True)]
    face = torch.stack(maps) if maps else torch.empty((0, *size, layers), dtype=torch.int32, device=points.device)
    bary, depth = weights(points, faces, face)
    return face, bary, depth


def weights(
    points: Float[Tensor, "batch verts 4"],
    faces: Int[Tensor, "faces 3"] | Int[Tensor, "batch faces 3"],
    face: Int[Tensor, "batch height width layers"],
) -> tuple[Float[Tensor, "batch height width layers 3"], Float[Tensor, "batch height width layers"]]:
    """Perspective-correct weights and depth of given faces at the pixel centres, differentiable in `points`.

    Solves sum_i b_i (x_i, y_i, w_i) ~ (u, v, 1), sum_i b_i = 1 by cross products.
    """
    _, height, width, _ = face.shape
    hit = face >= 0
    corners = _corners(points, faces, face)
    v, u = torch.meshgrid(
        torch.arange(height, dtype=points.dtype, device=points.device) + 0.5,
        torch.arange(width, dtype=points.dtype, device=points.device) + 0.5,
        indexing="ij",
    )
    w = corners[..., 3]
    x = corners[..., 0] - u[None, :, :, None, None] * w
    y = corners[..., 1] - v[None, :, :, None, None] * w
    a = x.roll(-1, -1) * y.roll(-2, -1) - x.roll(-2, -1) * y.roll(-1, -1)
    total = a.sum(-1, keepdim=True)
    bary = torch.where(hit[..., None], a, 0) / torch.where(hit[..., None] & (total != 0), total, 1)
    return bary, (bary * corners[..., 2]).sum(-1)


def interpolate(
    face: Int[Tensor, "batch height width *layers"],
    bary: Float[Tensor, "batch height width *layers 3"],
    attributes: Float[Tensor, "#batch verts chan"],
    faces: Int[Tensor, "faces 3"] | Int[Tensor, "batch faces 3"],
) -> Float[Tensor, "batch height width *layers chan"]:
    """Weighted sum of the attributes of each pixel's face; 0 where there is none."""
    values = _corners(attributes.expand(face.shape[0], -1, -1), faces, face)
    return (values * bary[..., None]).sum(-2) * (face >= 0)[..., None]


def _corners(values: Tensor, faces: Tensor, face: Tensor) -> Tensor:
    """Vertex values of every pixel's face: (batch, ..., 3, channels). Zeros where there is no face or no mesh."""
    batch = face.shape[0]
    if faces.shape[-2] == 0 or values.shape[1] == 0:
        return values.new_zeros((*face.shape, 3, values.shape[-1]))
    item = torch.arange(batch, device=face.device).view(batch, *(1,) * (face.ndim - 1))
    safe = face.clamp(min=0).long()
    index = (faces[item, safe] if faces.ndim == 3 else faces[safe]).long().clamp(min=0)
    return values[item[..., None], index]


def _clip(corners: list[Tensor], near: float) -> list[list[Tensor]]:
    """Triangles left of one triangle after removing w < near: none, one or two."""
    polygon: list[Tensor] = []
    for i in range(3):
        a, b = corners[i], corners[(i + 1) % 3]
        a_in, b_in = bool(a[3] >= near), bool(b[3] >= near)
        if a_in:
            polygon.append(a)
        if a_in != b_in:
            inner, outer = (a, b) if a_in else (b, a)
            cut = inner + (near - inner[3]) / (outer[3] - inner[3]) * (outer - inner)
            cut[3] = near
            polygon.append(cut)
    return [[polygon[0], polygon[i], polygon[i + 1]] for i in range(1, len(polygon) - 1)]


def _face_map(
    points: Float[Tensor, "verts 4"],
    faces: Int[Tensor, "faces 3"],
    size: tuple[int, int],
    near: float,
    cull: bool,
    layers: int,
) -> Int[Tensor, "height width layers"]:
    """Faces hit at every pixel centre, nearest first."""
    height, width = size
    points = points.double()
    depths = points.new_full((layers, height, width), torch.inf)
    found = torch.full((layers, height, width), -1, dtype=torch.int32, device=points.device)
    for index, row in enumerate(faces.tolist()):
        if row[0] < 0:
            continue
        for triangle in _clip([points[i] for i in row], near):
            _draw(torch.stack(triangle), index, cull, depths, found)
    return found.permute(1, 2, 0).contiguous()


def _draw(triangle: Float[Tensor, "3 4"], index: int, cull: bool, depths: Tensor, found: Tensor) -> None:
    """Insert one triangle into the sorted layers of every pixel it covers."""
    height, width = depths.shape[1:]
    pixels = triangle[:, :2] / triangle[:, 3:]
    area = _cross(pixels[1] - pixels[0], pixels[2] - pixels[0])
    if area == 0 or (cull and area > 0):
        return
    if area > 0:  # make it counter-clockwise as seen: then inside is where all edge functions are positive
        triangle, pixels = triangle[[0, 2, 1]], pixels[[0, 2, 1]]
    low, high = pixels.min(0).values.tolist(), pixels.max(0).values.tolist()
    left, right = max(0, int(max(low[0], 0))), int(min(high[0], width)) + 1
    top, bottom = max(0, int(max(low[1], 0))), int(min(high[1], height)) + 1
    right, bottom = min(right, width), min(bottom, height)
    if left >= right or top >= bottom:
        return
    v, u = torch.meshgrid(
        torch.arange(top, bottom, dtype=pixels.dtype, device=pixels.device) + 0.5,
        torch.arange(left, right, dtype=pixels.dtype, device=pixels.device) + 0.5,
        indexing="ij",
    )
    centres = torch.stack([u, v], -1)
    inside = torch.ones_like(u, dtype=torch.bool)
    parts = []
    for i in range(3):
        a, b = pixels[(i + 1) % 3], pixels[(i + 2) % 3]
        # From the lexicographically smaller end, so that both triangles of an edge round alike.
        flip = (b[1], b[0]) < (a[1], a[0])
        start, end = (b, a) if flip else (a, b)
        edge = _cross(centres - start, end - start) * (-1 if flip else 1)
        down, right_going = float(b[1] - a[1]), float(b[0] - a[0])
        # Counter-clockwise as seen, v down: left edges go down, top edges go left.
        owns = down > 0 or (down == 0 and right_going < 0)
        inside &= (edge > 0) | ((edge == 0) & owns)
        parts.append(edge / area.abs())
    weight = torch.stack(parts, -1) / triangle[:, 3]
    depth = (weight * triangle[:, 2]).sum(-1) / weight.sum(-1)
    depth = torch.where(inside, depth, torch.inf)
    face = torch.where(inside, index, -1).int()
    window = (slice(top, bottom), slice(left, right))
    for layer in range(depths.shape[0]):
        here, here_face = depths[(layer, *window)], found[(layer, *window)]
        nearer = depth < here
        kept, kept_face = here.clone(), here_face.clone()
        here.copy_(torch.where(nearer, depth, here))
        here_face.copy_(torch.where(nearer, face, here_face))
        depth, face = torch.where(nearer, kept, depth), torch.where(nearer, kept_face, face)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
