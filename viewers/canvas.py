"""Drawing surfaces fast, on the CPU, by our own rasteriser: what both viewers show.

Light is computed at vertices, textures are looked up by OpenCV: of the default head, 6 ms of one core for 524 x 560
pixels and 17 ms for 1080 x 1080 (`scripts/bench/view.py`). `pictures` draws with light at every pixel and smooth
silhouettes.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import normalize

from ..geometry.camera import Camera
from ..geometry.raster import Raster, interpolate, rasterize, shade_sh
from ..heads.view.surface import Surface

Picture = UInt8[np.ndarray, "_ _ 3"]
CLAY = (0.72, 0.70, 0.68)
#: Wires: width in pixels, and share of the surface's colour that is left.
_WIRE, _DARK = 0.9, 0.25
#: Farther than any point: the largest whole number of 64 bits.
_NOTHING = (1 << 63) - 1
#: What OpenCV takes for "both coordinates are in the first map".
_NO_SECOND_MAP = np.empty(0, np.float32)


@dataclass(frozen=True)
class Style:
    """How a surface is drawn."""

    texture: bool = True
    wireframe: bool = False
    normals: bool = False
    color: tuple[float, float, float] = CLAY  #: where neither texture nor colours are shown


class Canvas:
    """A picture under way: colours, and the depth of what was drawn."""

    def __init__(self, camera: Camera, background: Picture | tuple[int, int, int] = (245, 246, 248)) -> None:
        height, width = camera.size
        self.camera = camera
        if isinstance(background, tuple):
            self.pixels: Picture = np.empty((height, width, 3), np.uint8)
            self.pixels[:1] = background
            self.pixels[1:] = self.pixels[:1]  # whole rows are copied much faster than single pixels
        else:
            self.pixels = background.copy()
        self.depth: Float[np.ndarray, "height width"] = np.full((height, width), np.inf, np.float32)

    def draw(
        self, surface: Surface, light: Float[Tensor, "9 3"], style: Style | None = None, opacity: float = 1.0
    ) -> None:
        """Draw a surface in front of and behind what is there already.

        Args:
            surface: world, metres.
            light: spherical harmonics, in the world.
            style: how.
            opacity: 1 covers what lies behind, 0 leaves it.
        """
        style = style or Style()
        with torch.inference_mode():
            points = self.camera.to_homogeneous(surface.vertices)[None]
            raster = rasterize(points, surface.faces, self.camera.size)
            colors = self._colors(surface, raster, light, style)
            if style.wireframe:
                colors = _wired(colors, raster, points[0], surface)
        depth = raster.depth[0].numpy()
        shown = (raster.face[0].numpy() >= 0) & (depth < self.depth)
        self._put(colors, shown, opacity)
        np.copyto(self.depth, depth, where=shown)

    def draw_points(
        self,
        points: Float[Tensor, "n 3"],
        colors: Float[Tensor, "n 3"] | None,
        *,
        size: int | None = None,
        slack: float = 0.004,
    ) -> None:
        """Draw points as squares, the nearest in front.

        Args:
            points: world, metres.
            colors: sRGB 0..1; None: blue.
            size: side of the squares, pixels; None: as large as closes the gaps between them, 8 at most.
            slack: metres by which points inside a surface still show.
        """
        with torch.inference_mode():
            height, width = self.camera.size
            seen = self.camera.to_homogeneous(points)
            z = seen[:, 3]
            place = (seen[:, :2] / z.clamp(min=1e-6)[:, None]).floor()
            kept = ((z > 1e-3) & (place >= 0).all(1) & (place[:, 0] < width) & (place[:, 1] < height)).nonzero()[:, 0]
            column, row = place[kept].long().unbind(1)
            if size is None:
                size = _square_size(column, row)
            # Nearest first: depth's bits, which sort like the depths, then the point's number.
            key = (z[kept].view(torch.int32).long() << 32) | kept
            best = torch.full((height * width,), _NOTHING)
            for dy in range(size):
                for dx in range(size):
                    where = (row + dy).clamp(max=height - 1) * width + (column + dx).clamp(max=width - 1)
                    best.scatter_reduce_(0, where, key, "amin")
            best = best.reshape(height, width)
            owner = (best & 0xFFFFFFFF).clamp(max=len(points) - 1)
            depth = (best >> 32).int().view(torch.float32)
            hit = ((best < _NOTHING) & (depth < torch.from_numpy(self.depth) + slack)).numpy()
            if colors is None:
                self.pixels[hit] = (70, 110, 180)
            else:
                self.pixels[hit] = (colors[owner[torch.from_numpy(hit)]] * 255).byte().numpy()

    def draw_marks(self, points: Float[Tensor, "n 3"], color: tuple[int, int, int] = (10, 160, 90)) -> None:
        """Draw small discs at points; hollow where something lies before them."""
        height, width = self.camera.size
        with torch.inference_mode():
            pixels = self.camera.project(points).numpy()
            depth = self.camera.to_camera(points)[:, 2].numpy()
        radius = max(2, round(min(height, width) / 220))
        for (x, y), z in zip(pixels.tolist(), depth.tolist(), strict=True):
            if not (z > 0 and 0 <= x < width and 0 <= y < height):
                continue
            hidden = z > self.depth[int(y), int(x)] + 0.005
            centre = (round(x), round(y))
            cv2.circle(self.pixels, centre, radius, color, 1 if hidden else cv2.FILLED, cv2.LINE_AA)

    def _put(self, colors: Picture, shown: Bool[np.ndarray, "height width"], opacity: float) -> None:
        if opacity < 1:
            colors = cv2.addWeighted(colors, opacity, self.pixels, 1 - opacity, 0)
        cv2.copyTo(colors, shown.view(np.uint8), self.pixels)

    def _colors(self, surface: Surface, raster: Raster, light: Tensor, style: Style) -> Picture:
        """Shaded colours of every pixel; anything where nothing is hit."""
        normals = normalize(surface.normals, dim=-1)
        if style.normals:
            in_camera = normals @ self.camera.R.mT * normals.new_tensor([1.0, -1.0, -1.0])
            return _bytes(interpolate(raster, (in_camera / 2 + 0.5)[None] * 255, surface.faces)[0])
        shade = shade_sh(normals, light).clamp(min=0)
        if style.texture and surface.textured and surface.uv_faces is not None and surface.owner is not None:
            assert surface.texture is not None and surface.uvs is not None
            texture = _fitting_level(surface, raster)
            rows, columns = texture.shape[:2]
            texel = surface.uvs * surface.uvs.new_tensor([columns, -rows]) + surface.uvs.new_tensor([-0.5, rows - 0.5])
            place = interpolate(raster, texel[None], surface.uv_faces)[0].numpy()
            seen = cv2.remap(texture, place, _NO_SECOND_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            shading = interpolate(raster, shade[None], surface.faces)[0].numpy()
            return cv2.multiply(seen, shading, dtype=cv2.CV_8U)
        plain = surface.colors if style.texture and surface.colors is not None else shade.new_tensor(style.color)
        return _bytes(interpolate(raster, (plain * shade)[None] * 255, surface.faces)[0])


def _square_size(column: Int[Tensor, "n"], row: Int[Tensor, "n"]) -> int:
    """Side of squares that about touch where points lie evenly over the part of the picture they take."""
    if len(column) < 2:
        return 2
    area = float(column.max() - column.min() + 1) * float(row.max() - row.min() + 1)
    return max(1, min(8, math.ceil(1.5 * math.sqrt(area / len(column)))))


def _bytes(values: Tensor) -> Picture:
    return cv2.convertScaleAbs(values.numpy())  # rounds, and stops at 255


def _fitting_level(surface: Surface, raster: Raster) -> Picture:
    """The texture, halved until it has about the resolution it is seen at."""
    assert surface.texture is not None
    levels = _levels(surface.texture)
    pixels = float((raster.face >= 0).sum())
    level, texels = 0, levels[0].shape[0] * levels[0].shape[1]
    # A head shows about a third of its texture's area at a time.
    while level + 1 < len(levels) and texels > 12 * pixels:
        level, texels = level + 1, texels / 4
    return levels[level]


_CACHE: dict[int, tuple[Picture, list[Picture]]] = {}


def _levels(texture: Picture) -> list[Picture]:
    """A texture and its halves; kept for the last few textures."""
    known = _CACHE.get(id(texture))
    if known is not None and known[0] is texture:
        return known[1]
    levels = [texture]
    while min(levels[-1].shape[:2]) > 64:
        rows, columns = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], (columns // 2, rows // 2), interpolation=cv2.INTER_AREA))
    while len(_CACHE) >= 4:
        _CACHE.pop(next(iter(_CACHE)))
    _CACHE[id(texture)] = (texture, levels)
    return levels


def _wired(colors: Picture, raster: Raster, points: Tensor, surface: Surface) -> Picture:
    """Edges of the faces darkened; a pixel's distance from an edge is its weight times the face's height."""
    face = raster.face[0]
    hit = face >= 0
    corners = (points[:, :2] / points[:, 3:].clamp(min=1e-6))[surface.faces.long()]
    sides = corners.roll(-2, 1) - corners.roll(-1, 1)  # opposite to each corner
    area = (sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0]).abs()
    heights = area[:, None] / sides.norm(dim=-1).clamp(min=1e-6)
    distance = (raster.bary[0][hit] * heights[face[hit].long()]).amin(-1)
    share = _DARK + (1 - _DARK) * (distance / _WIRE).clamp(0, 1)
    out = colors.copy()
    where = hit.numpy()
    out[where] = (colors[where] * share[:, None].numpy()).astype(np.uint8)
    return out
