"""PLY: read back by trimesh; colours against the texture's formula."""

import numpy as np
import trimesh
from riggable import random_code

from headlab.heads.export import write_ply
from headlab.heads.export.ply import vertex_colors


def test_round_trip(tmp_path, small_head, albedo):
    vertices = small_head.vertices(random_code(small_head, 0))
    write_ply(tmp_path / "head.ply", small_head, vertices, albedo)
    head = (tmp_path / "head.ply").read_bytes()[:400]
    assert b"binary_little_endian" in head and b"property float nx" in head and b"property uchar red" in head
    mesh = trimesh.load(tmp_path / "head.ply", process=False)
    np.testing.assert_array_equal(mesh.vertices.astype(np.float32), vertices.numpy())
    np.testing.assert_array_equal(mesh.faces, small_head.faces.numpy())
    expected = (vertex_colors(small_head, albedo) * 255).round().numpy()
    np.testing.assert_array_equal(mesh.visual.vertex_colors[:, :3], expected)


def test_colors_are_the_texture_at_the_vertex(small_head, albedo):
    """Red rises with u and green with v in the test texture, so each vertex must show its own u and v."""
    colors = vertex_colors(small_head, albedo)[small_head.faces]
    uv = small_head.uvs[small_head.uv_faces]
    seam = small_head.faces.new_zeros(len(small_head.template)).index_add(
        0, small_head.faces.flatten(), small_head.uv_faces.flatten()
    )
    used = small_head.faces.new_zeros(len(small_head.template)).index_add(
        0, small_head.faces.flatten(), small_head.faces.new_ones(small_head.faces.numel())
    )
    single = (seam[small_head.faces] == used[small_head.faces] * small_head.uv_faces).numpy()
    inside = single & ((uv > 0.02) & (uv < 0.98)).all(-1).numpy()
    assert inside.mean() > 0.5
    assert np.abs(colors[..., 0] - (0.2 + 0.6 * uv[..., 0]))[inside].max() < 0.01
    assert np.abs(colors[..., 1] - (0.2 + 0.6 * uv[..., 1]))[inside].max() < 0.02


def test_plain_parts_without_a_texture(tmp_path, small_head):
    colors = vertex_colors(small_head, None)
    for part, expected in enumerate(((0.80, 0.62, 0.53), (0.90, 0.89, 0.87))):
        of_part = colors[small_head.faces[small_head.face_parts == part]]
        np.testing.assert_allclose(of_part, np.broadcast_to(expected, of_part.shape), atol=1e-6)
