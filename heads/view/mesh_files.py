"""Meshes and point clouds of any origin."""

from pathlib import Path

import numpy as np
import torch

from ...geometry.errors import HeadlabError
from ...geometry.rgbd.cloud import PointCloud
from .surface import Surface

MESH_SUFFIXES = (".ply", ".obj", ".glb", ".gltf", ".stl", ".off")
#: More than this is refused, since it would not be drawn at a usable rate.
_MOST = 20_000_000


def read_mesh_or_cloud(path: Path) -> Surface | PointCloud:
    """A mesh, with its colours or texture; or, where the file has no faces, a point cloud. The file's own unit.

    Raises:
        HeadlabError: damaged, empty, too large, or not of its suffix's kind.
    """
    import trimesh

    try:
        found = trimesh.load(path, process=False, maintain_order=True)
        if isinstance(found, trimesh.Scene):
            found = found.to_geometry()
    except Exception as error:  # readers of seven formats raise anything
        reason = " ".join(str(error).split())[:120]
        raise HeadlabError(f"{path} cannot be read as {path.suffix[1:].upper()} ({reason}); export it again") from error
    points = torch.from_numpy(np.asarray(getattr(found, "vertices", np.zeros((0, 3))), dtype=np.float32).copy())
    if len(points) == 0 or not bool(points.isfinite().all()):
        raise HeadlabError(f"{path} holds no points, or points that are not numbers; export it again")
    if len(points) > _MOST:
        raise HeadlabError(f"{path} has {len(points)} points; {_MOST} can be shown: thin it out first")
    faces = np.asarray(getattr(found, "faces", np.zeros((0, 3))))
    if len(faces) == 0:
        return PointCloud(points, _colors(getattr(found, "colors", None), len(points)))
    surface = Surface(points, torch.from_numpy(faces.astype(np.int32)))
    return _textured(surface, found) or _painted(surface, found)


def _colors(values: object, count: int) -> torch.Tensor | None:
    array = np.asarray(values) if values is not None else np.zeros((0, 4))
    if array.ndim != 2 or len(array) != count or array.shape[1] < 3:
        return None
    return torch.from_numpy(array[:, :3].astype(np.float32) / 255)


def _painted(surface: Surface, mesh) -> Surface:
    visual = mesh.visual
    if visual.kind in ("vertex", "face"):
        colors = _colors(visual.vertex_colors, len(surface.vertices))
        return Surface(surface.vertices, surface.faces, colors=colors)
    return surface


def _textured(surface: Surface, mesh) -> Surface | None:
    """With the file's picture, where it has one and a coordinate per vertex."""
    if mesh.visual.kind != "texture" or mesh.visual.uv is None:
        return None
    material = mesh.visual.material
    picture = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    uvs = torch.from_numpy(np.asarray(mesh.visual.uv, dtype=np.float32).copy())
    if picture is None or len(uvs) != len(surface.vertices):
        return None
    texture = np.asarray(picture.convert("RGB"))
    return Surface(surface.vertices, surface.faces, None, texture, uvs, surface.faces, torch.arange(len(uvs)))
