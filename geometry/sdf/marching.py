"""Marching cubes on a list of cells, wherever they lie in a grid: vertices are shared, nothing else of the grid is
needed."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .cube_table import EDGES, triangle_table


def march(
    values: Float[Tensor, "cells 8"], cells: Int[Tensor, "cells 3"], vertices_per_axis: Int[Tensor, "3"]
) -> tuple[Float[Tensor, "verts 3"], Int[Tensor, "faces 3"]]:
    """The zero surface inside cells; negative is inside.

    Args:
        values: at the corners (c & 1, c >> 1 & 1, c >> 2) of each cell.
        cells: the grid vertex at corner 0.
        vertices_per_axis: of the grid, which bounds `cells`.

    Returns:
        vertices in grid coordinates (float64), in the order of the grid's edges, and faces, normals outwards.
    """
    pattern = ((values < 0).long() << torch.arange(8)).sum(1)
    table = triangle_table()[pattern]
    cell, slot = (table[..., 0] >= 0).nonzero(as_tuple=True)
    edge = table[cell, slot]  # [triangles, 3]
    low, high, axis = torch.tensor(EDGES).unbind(1)
    corner = torch.tensor([[c & 1, c >> 1 & 1, c >> 2] for c in range(8)])
    _, ny, nz = vertices_per_axis.tolist()
    place = torch.tensor([ny * nz, nz, 1])
    key = 3 * (cells * place).sum(1)[cell][:, None] + (3 * (corner[low] * place).sum(1) + axis)[edge]
    unique, faces = torch.unique(key, return_inverse=True)
    cell = cell[:, None].expand(-1, 3)
    one = torch.empty(unique.shape[0], dtype=torch.long)
    one[faces.flatten()] = torch.arange(faces.numel())  # any one of the cells around an edge: they agree
    cell, edge = cell.reshape(-1)[one], edge.reshape(-1)[one]
    a, b = values[cell, low[edge]].double(), values[cell, high[edge]].double()
    position = (cells[cell] + corner[low[edge]]).double()
    position[torch.arange(len(one)), axis[edge]] += a / (a - b)
    return position, faces
