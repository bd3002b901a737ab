"""Wavefront OBJ with its material file: the plainest textured mesh, every program reads it."""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ...geometry.files import write_text
from ...geometry.models.head_model import HeadModel
from .looks import look_of
from .parts import unit_normals


def write_obj(
    path: Path,
    model: HeadModel,
    vertices: Float[Tensor, "verts 3"],
    *,
    texture: str | None = None,
) -> None:
    """Write vertices of a head as `path` and its materials as the `.mtl` beside it, both atomically.

    Vertices keep the model's order and number; seams of the texture live in separate texture indices.

    Args:
        path: the file, ending in .obj; its folder must exist.
        model: the head model the vertices belong to.
        vertices: metres, +Y up, +Z out of the face.
        texture: file name of the albedo, relative to the folder; None for plain colours.

    Raises:
        HeadlabError: the files cannot be written.
    """
    names = [name.replace(" ", "_") for name in model.part_names]
    materials = path.with_suffix(".mtl")
    textured = texture is not None and model.uvs is not None
    write_text(materials, "\n".join(_material(name, texture if textured else None) for name in names))

    points = vertices.detach().cpu()
    lines = ["# headlab: metres, +Y up, +Z out of the face", f"mtllib {materials.name}", "o head"]
    lines += _rows("v", points.numpy(), 7)
    if model.uvs is not None:
        lines += _rows("vt", model.uvs.cpu().numpy(), 6)
    lines += _rows("vn", unit_normals(points, model.faces.cpu()).numpy(), 5)
    corners = model.faces.cpu().numpy() + 1
    texcoords = None if model.uv_faces is None else model.uv_faces.cpu().numpy() + 1
    owner = np.zeros(len(corners), int) if model.face_parts is None else model.face_parts.cpu().numpy()
    for index, name in enumerate(names):
        chosen = np.flatnonzero(owner == index)
        if len(chosen) == 0:
            continue
        lines += [f"g {name}", f"usemtl {name}"]
        if texcoords is None:
            lines += [f"f {a}//{a} {b}//{b} {c}//{c}" for a, b, c in corners[chosen].tolist()]
        else:
            pairs = np.concatenate([corners[chosen], texcoords[chosen]], axis=1).tolist()
            lines += [f"f {a}/{p}/{a} {b}/{q}/{b} {c}/{r}/{c}" for a, b, c, p, q, r in pairs]
    write_text(path, "\n".join(lines) + "\n")


def _rows(word: str, array: Float[np.ndarray, "n k"], digits: int) -> list[str]:
    form = word + f" %.{digits}f" * array.shape[1]
    return [form % tuple(row) for row in array.tolist()]


def _material(name: str, texture: str | None) -> str:
    look = look_of(name)
    color = (1.0, 1.0, 1.0) if texture else look.color
    # Phong exponent of the same highlight width as the roughness (Blinn-Phong: 2 / alpha² - 2, alpha = roughness²).
    shine = min(1000.0, max(2.0, 2 / max(look.roughness, 0.05) ** 4 - 2))
    lines = [
        f"newmtl {name}",
        "Kd {:.4f} {:.4f} {:.4f}".format(*color),
        "Ks 0.04 0.04 0.04",
        f"Ns {shine:.1f}",
        "illum 2",
    ]
    if texture:
        lines.append(f"map_Kd {texture}")
    return "\n".join(lines) + "\n"
