"""OBJ: read back line by line and by trimesh."""

import numpy as np
import pytest
import trimesh
from riggable import random_code

from headlab.heads.export import write_obj


def _read(path):
    table: dict[str, list[list[str]]] = {}
    for line in filter(None, path.read_text().splitlines()):
        word, *rest = line.split()
        table.setdefault(word, []).append(rest)
    return table


def test_keeps_the_models_vertices_and_seams(tmp_path, small_head):
    vertices = small_head.vertices(random_code(small_head, 0))
    write_obj(tmp_path / "head.obj", small_head, vertices, texture="albedo.png")
    table = _read(tmp_path / "head.obj")
    np.testing.assert_allclose(np.array(table["v"], float), vertices.numpy(), atol=6e-8)
    np.testing.assert_allclose(np.array(table["vt"], float), small_head.uvs.numpy(), atol=6e-7)
    np.testing.assert_allclose(np.linalg.norm(np.array(table["vn"], float), axis=1), 1, atol=2e-5)
    corners = np.array([[c.split("/") for c in face] for face in table["f"]], int) - 1
    np.testing.assert_array_equal(corners[..., 0], small_head.faces.numpy())
    np.testing.assert_array_equal(corners[..., 1], small_head.uv_faces.numpy())
    np.testing.assert_array_equal(corners[..., 2], small_head.faces.numpy())
    assert table["mtllib"] == [["head.mtl"]] and table["usemtl"] == [["skin"], ["eyes"]]
    materials = _read(tmp_path / "head.mtl")
    assert materials["newmtl"] == [["skin"], ["eyes"]] and materials["map_Kd"] == [["albedo.png"]] * 2


@pytest.mark.parametrize("texture", [None, "albedo.png"])
def test_trimesh_reads_it(tmp_path, bare_head, texture):
    vertices = bare_head.vertices(bare_head.neutral())
    write_obj(tmp_path / "head.obj", bare_head, vertices, texture=texture)
    mesh = trimesh.load(tmp_path / "head.obj", process=False, maintain_order=True)
    np.testing.assert_allclose(mesh.vertices[mesh.faces], vertices[bare_head.faces].numpy(), atol=6e-8)
    assert "map_Kd" not in (tmp_path / "head.mtl").read_text()  # no texture coordinates, no texture
