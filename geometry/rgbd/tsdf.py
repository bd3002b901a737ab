"""Truncated signed distance volume: depth frames averaged into one surface (Curless and Levoy 1996).

Only voxels near measured surfaces are visited: for each pixel those along its ray within the truncation. The distance
along the ray is turned into one along the normal by the angle between them.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from ..camera import Camera
from ..sdf.marching import march
from .icp import Surface

_FLAT = 0.012  # metres; depths of neighbouring pixels closer than that are interpolated


@dataclass(frozen=True)
class TsdfVolume:
    """A box of voxels in the reference world. `integrate` changes the arrays: a volume is a buffer, not a value."""

    origin: Float[ndarray, "3"]  #: centre of voxel (0, 0, 0)
    voxel: float  #: side, metres
    truncation: float  #: metres
    value: Float[ndarray, "x y z"]  #: in truncations; positive before the surface
    weight: Float[ndarray, "x y z"]

    @classmethod
    def around(cls, centre: Float[ndarray, "3"], side: float, voxel: float, truncation: float) -> "TsdfVolume":
        """An empty cube."""
        count = max(2, int(np.ceil(side / voxel)) + 1)
        shape = (count,) * 3
        origin = centre - voxel * (count - 1) / 2
        return cls(origin, voxel, truncation, np.zeros(shape, np.float32), np.zeros(shape, np.float32))

    def integrate(
        self,
        depth: Float[Tensor, "height width"],
        camera: Camera,
        normals: Float[Tensor, "height width 3"],
        T_reference_frame: Float[ndarray, "4 4"],
    ) -> None:
        """Add a frame.

        Args:
            depth: metres, 0 = none; set to 0 what does not belong to the head.
            camera: of the frame, frontal at its world's origin.
            normals: unit, in the frame's world; 0 where unknown: such pixels are left out.
            T_reference_frame: the frame's world -> reference.
        """
        z = depth.double().numpy()
        K = camera.K.double().numpy()
        flip = camera.R.double().numpy()
        n = normals.double().numpy() @ flip.T
        known = (z > 0) & (np.abs(n).sum(-1) > 0)
        rows, columns = np.nonzero(known)
        if not len(rows):
            return
        rays = np.stack([(columns + 0.5 - K[0, 2]) / K[0, 0], (rows + 0.5 - K[1, 2]) / K[1, 1], np.ones(len(rows))], 1)
        slant = np.zeros_like(z)
        slant[known] = np.abs((n[known] * rays).sum(1))  # metres along the normal per metre of depth
        candidates = self._touched(rays, z[known], flip, T_reference_frame)
        self._update(candidates, z, slant, K, flip, T_reference_frame)

    def _touched(self, rays, z, flip, T) -> ndarray:
        """Flat indices of voxels along the rays near the surface."""
        steps = int(np.ceil(1.2 * self.truncation / self.voxel))
        marked = np.zeros(self.value.size, bool)
        to_reference = T[:3, :3] @ flip.T
        start = (rays * z[:, None]) @ to_reference.T + T[:3, 3]
        along = rays @ to_reference.T * self.voxel
        for k in range(-steps, steps + 1):
            cell = np.rint((start + k * along - self.origin) / self.voxel).astype(np.int64)
            inside = ((cell >= 0) & (cell < self.value.shape)).all(1)
            cell = cell[inside]
            marked[np.ravel_multi_index((cell[:, 0], cell[:, 1], cell[:, 2]), self.value.shape)] = True
        return np.flatnonzero(marked)

    def _update(self, flat, z, slant, K, flip, T) -> None:
        inverse = np.linalg.inv(T)
        cell = np.stack(np.unravel_index(flat, self.value.shape), 1)
        point = (self.origin + self.voxel * cell) @ inverse[:3, :3].T + inverse[:3, 3]
        seen = point @ flip.T
        front = seen[:, 2] > 1e-3
        flat, seen = flat[front], seen[front]
        x = seen[:, 0] / seen[:, 2] * K[0, 0] + K[0, 2]
        y = seen[:, 1] / seen[:, 2] * K[1, 1] + K[1, 2]
        measured, cosine = _sample(z, slant, x, y)
        distance = (measured - seen[:, 2]) * cosine
        good = (measured > 0) & (cosine > 0.15) & (distance > -self.truncation)
        flat, distance, cosine = flat[good], distance[good], cosine[good]
        value = np.minimum(distance / self.truncation, 1.0)
        weight = cosine**2
        values, weights = self.value.reshape(-1), self.weight.reshape(-1)
        total = weights[flat] + weight
        values[flat] = (values[flat] * weights[flat] + value * weight) / total
        weights[flat] = total

    def extract(self, fewest: float = 0.05) -> Surface:
        """The zero surface where all corners of a cell were seen, in the reference world.

        Args:
            fewest: least weight of a corner; a frontal look counts 1.
        """
        seen = self.weight > fewest
        corners = [seen[_corner(c)] for c in range(8)]
        full = np.logical_and.reduce(corners)
        inside = [(self.value < 0)[_corner(c)] for c in range(8)]
        crossing = np.logical_or.reduce(inside) & ~np.logical_and.reduce(inside) & full
        cells = np.stack(np.nonzero(crossing), 1)
        if not len(cells):
            return Surface(torch.zeros(0, 3, dtype=torch.float64), torch.zeros(0, 3, dtype=torch.long))
        place = [cells + np.array([c & 1, c >> 1 & 1, c >> 2]) for c in range(8)]
        values = np.stack([self.value[p[:, 0], p[:, 1], p[:, 2]] for p in place], 1)
        values[values == 0] = 1e-9  # exactly on the surface: marching wants a side
        shape = torch.tensor(self.value.shape)
        vertices, faces = march(torch.from_numpy(values), torch.from_numpy(cells), shape)
        return Surface(vertices * self.voxel + torch.from_numpy(self.origin), faces)


def _corner(c: int) -> tuple[slice, slice, slice]:
    def side(bit: int) -> slice:
        return slice(1, None) if bit else slice(None, -1)

    return side(c & 1), side(c >> 1 & 1), side(c >> 2)


def _sample(
    z: Float[ndarray, "height width"], slant: Float[ndarray, "height width"], x: ndarray, y: ndarray
) -> tuple[Float[ndarray, "n"], Float[ndarray, "n"]]:
    """Depth and slant at pixels: between four neighbours of one surface bilinearly, else the nearest one's."""
    height, width = z.shape
    nx, ny = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    inside = (nx >= 0) & (nx < width) & (ny >= 0) & (ny < height)
    nx, ny = nx.clip(0, width - 1), ny.clip(0, height - 1)
    near, tilt = np.where(inside, z[ny, nx], 0), slant[ny, nx]
    x0, y0 = np.floor(x - 0.5).astype(np.int64), np.floor(y - 0.5).astype(np.int64)
    whole = (x0 >= 0) & (x0 < width - 1) & (y0 >= 0) & (y0 < height - 1)
    x0, y0 = x0.clip(0, width - 2), y0.clip(0, height - 2)
    fx, fy = x - 0.5 - x0, y - 0.5 - y0
    four = np.stack([z[y0, x0], z[y0, x0 + 1], z[y0 + 1, x0], z[y0 + 1, x0 + 1]])
    whole &= (four > 0).all(0) & (four.max(0) - four.min(0) < _FLAT)
    mixed = (four[0] * (1 - fx) + four[1] * fx) * (1 - fy) + (four[2] * (1 - fx) + four[3] * fx) * fy
    return np.where(whole, mixed, near), tilt
