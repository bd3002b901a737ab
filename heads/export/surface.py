"""Any triangle mesh as PLY, OBJ or GLB: surfaces of fields, which belong to no head model."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from ...geometry.errors import HeadlabError
from ...geometry.files import write_bytes

SURFACE_SUFFIXES = (".ply", ".obj", ".glb")


def write_surface(
    path: Path,
    vertices: Float[Tensor, "verts 3"],
    faces: Int[Tensor, "faces 3"],
    normals: Float[Tensor, "verts 3"] | None = None,
    colors: Float[Tensor, "verts 3"] | None = None,
) -> None:
    """Write a mesh atomically; its ending says how.

    Args:
        path: .ply, .obj or .glb.
        vertices: any unit.
        faces: counter-clockwise seen from outside.
        normals: unit.
        colors: sRGB, 0..1.

    Raises:
        HeadlabError: another ending, or the file cannot be written.
    """
    import trimesh
    from trimesh.exchange.obj import export_obj
    from trimesh.exchange.ply import export_ply

    suffix = path.suffix.lower()
    if suffix not in SURFACE_SUFFIXES:
        raise HeadlabError(f"{path} has no ending of a mesh; name a file that ends in {', '.join(SURFACE_SUFFIXES)}")
    mesh = trimesh.Trimesh(
        vertices=vertices.detach().cpu().numpy(),
        faces=faces.cpu().numpy(),
        vertex_normals=None if normals is None else normals.detach().cpu().numpy(),
        vertex_colors=None
        if colors is None
        else (colors.detach().cpu().clamp(0, 1) * 255).round().byte().numpy().astype(np.uint8),
        process=False,
    )
    if suffix == ".ply":
        data = export_ply(mesh, encoding="binary", vertex_normal=normals is not None)
    elif suffix == ".glb":
        data = mesh.export(file_type="glb")
    else:
        data = export_obj(mesh, include_normals=normals is not None, include_color=colors is not None).encode()
    assert isinstance(data, bytes)
    write_bytes(path, data)
