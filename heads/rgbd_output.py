"""What a fitted RGB-D capture gives besides the head: the measured surface, coloured."""

from pathlib import Path

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample
from trimesh.exchange.ply import export_ply

from ..geometry.files import write_bytes
from ..geometry.raster import rasterize, vertex_normals
from .fit_rgbd import RgbdFit

_HIDDEN = 0.004  # metres behind what the view sees there


def write_surface(path: Path, fit: RgbdFit) -> None:
    """Write the fused surface as a PLY with colours of the chosen views, in the first view's world, metres."""
    surface = fit.fusion.surface
    colours = surface_colours(fit)
    opaque = np.concatenate([(colours * 255).round().byte().numpy(), np.full((len(colours), 1), 255, np.uint8)], 1)
    mesh = trimesh.Trimesh(
        vertices=surface.vertices.float().numpy(), faces=surface.faces.numpy(), vertex_colors=opaque, process=False
    )
    write_bytes(path, export_ply(mesh, encoding="binary", vertex_normal=False))


def surface_colours(fit: RgbdFit) -> Float[Tensor, "verts 3"]:
    """Colour of each vertex: the views that see it, by how squarely they do; grey where none does."""
    surface = fit.fusion.surface
    normals = vertex_normals(surface.vertices, surface.faces)
    total, weight = torch.zeros(len(normals), 3), torch.full((len(normals), 1), 1e-6)
    for frame, camera, placed in zip(fit.frames, fit.head.cameras, fit.fusion.alignments, strict=False):
        if placed is None:
            continue
        inverse = torch.from_numpy(np.linalg.inv(placed.T))
        vertices = surface.vertices @ inverse[:3, :3].T + inverse[:3, 3]
        turned = normals @ inverse[:3, :3].T
        seen = camera.to_homogeneous(vertices.float())
        raster = rasterize(seen[None], surface.faces, camera.size)
        height, width = camera.size
        grid = seen[:, :2] / seen[:, 3:].clamp(min=1e-3) / torch.tensor([width, height]) * 2 - 1
        both = torch.cat([frame.image, raster.depth])[None]
        found = grid_sample(both, grid[None, None], mode="nearest", align_corners=False)[0, :, 0].mT
        facing = -(turned * vertices).sum(-1) / vertices.norm(dim=-1)
        visible = (found[:, 3] > 0) & (seen[:, 2] < found[:, 3] + _HIDDEN)
        share = (facing.clamp(min=0) ** 2 * visible).float()[:, None]
        total += share * found[:, :3]
        weight += share
    return (total / weight + (weight < 1e-3) * 0.5).clamp(0, 1)
