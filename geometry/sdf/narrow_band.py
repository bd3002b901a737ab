"""Finding the grid cells that a surface crosses without looking at all of them.

From a coarse grid downwards, a cell is split unless it is certain that the surface does not pass. Certain is what lies
in a cone: a field that changes by at most L per unit of length, and is h at a corner, keeps h's sign within |h| / L of
it. L is at least `slope`, or 1.25 times what the cell's own corners show if that is more. At the last level the cones
give most vertices' signs, and only

    vertices that no cone covers, and all corners of cells with both signs

are computed to full precision. These computed values test the cones: if one has another sign than was certain, L was
too small, and everything is done again with twice the slope.

The field is asked in two ways. `probe` must behave like a distance everywhere, however far from the head (NPHM's own
value fades to 0 there: FastIdentity.steady_value does not); it may be rough. `exact` is the field, of the same sign.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import HeadlabError
from .sparse_grid import SparseGrid

Field = Callable[[Float[Tensor, "n 3"]], Float[Tensor, "n"]]

#: Corners and the lattices on which cones are checked, in units of a cell.
_CORNERS = torch.tensor([[c & 1, c >> 1 & 1, c >> 2] for c in range(8)])

#: Cells per axis of the coarsest level, at least.
_COARSE = 20
_BATCH = 1 << 12


@dataclass(frozen=True)
class Grid:
    """Vertices of a box, evenly spaced from face to face."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    resolution: tuple[int, int, int]  #: vertices per axis

    @property
    def spacing(self) -> Float[Tensor, "3"]:
        extent = torch.tensor(self.high, dtype=torch.float64) - torch.tensor(self.low, dtype=torch.float64)
        return extent / (torch.tensor(self.resolution) - 1)

    def points(self, index: Float[Tensor, "*batch 3"] | Int[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """Positions of vertices (or of points between them), float32."""
        return (torch.tensor(self.low, dtype=torch.float64) + index.double() * self.spacing).float()


@dataclass(frozen=True)
class Band:
    """The cells the surface crosses."""

    cells: Int[Tensor, "cells 3"]
    values: Float[Tensor, "cells 8"]  #: exact
    evaluated: dict[str, int]  #: how many points were asked: probe, exact


def narrow_band(probe: Field, exact: Field, grid: Grid, probe_error: float = 0.0, slope: float = 1.25) -> Band:
    """Cells of the grid whose corners have both signs.

    Args:
        probe: like a distance everywhere.
        exact: the field.
        grid: where.
        probe_error: bound of the difference between probe and a distance-like field of the right sign.
        slope: how fast the field may change, at least.

    Raises:
        HeadlabError: fewer than two vertices along an axis.
    """
    if min(grid.resolution) < 2:
        raise HeadlabError(f"a grid of {grid.resolution} vertices has no cells; give a resolution of 2 or more")
    for _ in range(6):
        search = _Search(probe, exact, grid, probe_error, slope)
        band = search.run()
        if search.contradicted == 0:
            return band
        slope *= 2
    raise HeadlabError(
        f"the field changes by more than {slope / 2:g} per unit next to its surface, so it is no signed distance; "
        "check the weights and the latent"
    )


class _Search:
    """One pass; see the module."""

    def __init__(self, probe: Field, exact: Field, grid: Grid, probe_error: float, slope: float) -> None:
        self.probe, self.exact, self.grid, self.error, self.slope = probe, exact, grid, probe_error, slope
        self.evaluated = {"probe": 0, "exact": 0}
        self.contradicted = 0
        self.stride = 1  #: of the last level that is not the finest

    def run(self) -> Band:
        stride = 1
        while (min(self.grid.resolution) - 1) // (2 * stride) >= _COARSE:
            stride *= 2
        cells, sparse = self._coarse(stride)
        while stride > 2:
            stride //= 2
            cells = self._split(cells, stride)
            self._probe_corners(sparse, cells, stride)
            cells = cells[self._uncertain(sparse.values[sparse.corners(cells, stride)], stride, 5)]
        self.stride = stride
        if stride == 2:
            self._sign_children(sparse, cells)
        else:  # nothing between the coarsest level and the finest
            certain = sparse.values.abs() > self.error
            sparse.values.copy_(torch.where(certain, sparse.values.sign() * torch.inf, torch.nan))
        return self._finish(sparse, cells)

    def _coarse(self, stride: int) -> tuple[Int[Tensor, "cells 3"], SparseGrid]:
        """The coarsest level, whole; and a sparse grid about what is kept of it."""
        counts = [-(-(n - 1) // stride) for n in self.grid.resolution]  # cells
        axes = [torch.arange(count + 1) * stride for count in counts]
        index = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        values = self._ask(self.probe, index.reshape(-1, 3), "probe").view(index.shape[:-1])
        cells = torch.stack(torch.meshgrid(*[axis[:-1] for axis in axes], indexing="ij"), -1).reshape(-1, 3)
        at = (cells // stride)[:, None] + _CORNERS
        corner_values = values[at[..., 0], at[..., 1], at[..., 2]]
        kept = self._uncertain(corner_values, stride, 5)
        sparse = SparseGrid.about(cells[kept], stride, self.grid.resolution)
        sparse.values[sparse.corners(cells[kept], stride)] = corner_values[kept]
        return cells[kept], sparse

    def _ask(self, field: Field, index: Int[Tensor, "n 3"], which: str) -> Float[Tensor, "n"]:
        self.evaluated[which] += index.shape[0]
        return field(self.grid.points(index))

    @staticmethod
    def _split(cells: Int[Tensor, "cells 3"], stride: int) -> Int[Tensor, "children 3"]:
        return (cells[:, None] + stride * _CORNERS).reshape(-1, 3)

    def _probe_corners(self, sparse: SparseGrid, cells: Int[Tensor, "cells 3"], stride: int) -> None:
        wanted = sparse.unknown(sparse.corners(cells, stride))
        sparse.values[wanted] = self._ask(self.probe, sparse.index(wanted), "probe")

    def _covered(
        self, values: Float[Tensor, "cells 8"], stride: int, lattice: int
    ) -> tuple[Float[Tensor, "cells lattice"], Float[Tensor, "cells lattice"]]:
        """How far inside a cone each lattice point is (negative: in none), and the sign of that cone."""
        length = self.grid.spacing.float() * stride
        steps = torch.linspace(0, 1, lattice)
        points = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
        distance = ((points[:, None] - _CORNERS) * length).norm(dim=-1)  # [lattice, 8]
        height = values.abs() - self.error
        # Slope along each axis, the largest of the four edges; their combination bounds any direction's.
        slopes = [
            (values[:, [c for c in range(8) if c >> a & 1]] - values[:, [c for c in range(8) if not c >> a & 1]])
            .abs()
            .amax(1)
            / length[a]
            for a in range(3)
        ]
        steepest = (1.25 * torch.stack(slopes).norm(dim=0)).clamp(min=self.slope)
        best = torch.full((values.shape[0], points.shape[0]), -torch.inf)
        sign = torch.ones_like(best)
        for c in range(8):
            reach = height[:, c, None] - steepest[:, None] * distance[:, c]
            sign = torch.where(reach > best, values[:, c, None].sign(), sign)
            best = torch.maximum(best, reach)
        return best, sign

    def _uncertain(self, values: Float[Tensor, "cells 8"], stride: int, lattice: int) -> Bool[Tensor, "cells"]:
        """Cells through which the surface may pass."""
        if stride == 1:  # there are no vertices in between
            return ~((values > self.error).all(1) | (values < -self.error).all(1))
        out = []
        for part in values.split(_BATCH):
            best, sign = self._covered(part, stride, lattice)
            out.append((best <= 0).any(1) | (sign.amax(1) != sign.amin(1)))
        return torch.cat(out) if out else torch.zeros(0, dtype=torch.bool)

    def _sign_children(self, sparse: SparseGrid, cells: Int[Tensor, "cells 3"]) -> None:
        """Signs of all vertices in cells of stride 2, as infinite values; those in no cone stay unknown."""
        signs = torch.full_like(sparse.values, torch.nan)
        steps = torch.arange(3)
        lattice = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
        for part in cells.split(_BATCH):
            best, sign = self._covered(sparse.values[sparse.corners(part, 2)], 2, 3)
            where = sparse.flat(part[:, None] + lattice)
            certain = best > 0
            signs[where[certain]] = sign[certain] * torch.inf
        sparse.values.copy_(signs)

    def _finish(self, sparse: SparseGrid, cells: Int[Tensor, "cells 3"]) -> Band:
        """Exact values where the surface passes.

        Args:
            cells: of the last level, not split yet where that is the second.
        """
        cells, corners = self._open(sparse, cells)
        exact = torch.zeros(sparse.values.shape[0], dtype=torch.bool)
        if len(cells) == 0:
            return Band(cells, torch.zeros(0, 8), dict(self.evaluated))
        wanted = sparse.unknown(corners)
        while True:
            before = sparse.values[wanted]
            value = self._ask(self.exact, sparse.index(wanted), "exact")
            self.contradicted += int(((before > 0) & (value < 0) | (before < 0) & (value > 0)).sum())
            sparse.values[wanted] = value
            exact[wanted] = True
            crossing = torch.cat([~_one_sign(sparse.values[part]) for part in corners.split(_BATCH)])
            # Cells about a vertex whose sign changed may cross now, and others no longer: ask until all is known.
            missing = torch.zeros_like(exact)
            missing[corners[crossing].flatten().long()] = True
            wanted = (missing & ~exact).nonzero().squeeze(1)
            if len(wanted) == 0:
                break
        return Band(cells[crossing].long(), sparse.values[corners[crossing]], dict(self.evaluated))

    def _open(
        self, sparse: SparseGrid, cells: Int[Tensor, "cells 3"]
    ) -> tuple[Int[Tensor, "open 3"], Int[Tensor, "open 8"]]:
        """Cells of the last level inside the grid whose corners are not all certain to have one sign; the corners."""
        found, where = [], []
        last = torch.tensor(self.grid.resolution) - 1
        for part in cells.split(_BATCH):
            children = self._split(part, 1) if self.stride > 1 else part
            children = children[(children < last).all(1)]
            corners = sparse.corners(children, 1)
            values = sparse.values[corners]
            undecided = ~((values > 0).all(1) | (values < 0).all(1))
            found.append(children[undecided].int())
            where.append(corners[undecided])
        if not found:
            return cells[:0], torch.zeros(0, 8, dtype=torch.int32)
        return torch.cat(found), torch.cat(where)


def _one_sign(values: Float[Tensor, "cells 8"]) -> Bool[Tensor, "cells"]:
    inside = values < 0
    return inside.all(1) | ~inside.any(1)


def dense_band(field: Field, grid: Grid) -> Band:
    """The same by asking at every vertex: the reference."""
    axes = [torch.arange(n) for n in grid.resolution]
    index = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    values = torch.cat([field(grid.points(part)) for part in index.reshape(-1, 3).split(_BATCH)]).view(index.shape[:-1])
    inside = values < 0
    windows = [
        inside[x : x + inside.shape[0] - 1, y : y + inside.shape[1] - 1, z : z + inside.shape[2] - 1]
        for x, y, z in _CORNERS.tolist()
    ]
    count = torch.stack([window.to(torch.int8) for window in windows]).sum(0)
    cells = ((count > 0) & (count < 8)).nonzero()
    at = cells[:, None] + _CORNERS
    found = values[at[..., 0], at[..., 1], at[..., 2]]
    return Band(cells, found, {"probe": 0, "exact": values.numel()})
