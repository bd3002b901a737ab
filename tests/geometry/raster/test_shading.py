"""Normals, light and textures."""

from pathlib import Path

import numpy as np
import pytest
import torch

from headlab.geometry.raster import RasterError, sample_texture, sh_basis, shade_sh, vertex_normals

from .conftest import sphere


def test_lighting_as_deca(shared: Path) -> None:
    with np.load(shared / "parity" / "geometry" / "sh_lighting.npz") as data:
        light = torch.from_numpy(data["sh_coefficients"]).reshape(2, 1, 1, 9, 3)
        for name, expected in (("normals", "shading"), ("normals_not_unit", "shading_not_unit")):
            normals = torch.from_numpy(data[name]).movedim(1, -1)
            shaded = shade_sh(normals, light).movedim(-1, 1)
            torch.testing.assert_close(shaded, torch.from_numpy(data[expected]), rtol=1e-5, atol=2e-6)
        factors = sh_basis(torch.tensor([1.0, 1.0, 1.0]))
        expected = torch.from_numpy(data["constant_factor"])
        torch.testing.assert_close(factors[[0, 1, 2, 3, 4, 5, 6]], expected[:7])


@pytest.mark.parametrize(
    ("file", "vertices"), [("sh_lighting", "normals_vertices"), ("flame_forward", "vertices"), ("deca_decode", "verts")]
)
def test_normals_as_deca(shared: Path, file: str, vertices: str) -> None:
    folder = shared / "parity" / "geometry"
    with np.load(folder / "flame_like_expected.npz") as model, np.load(folder / f"{file}.npz") as data:
        faces, verts = torch.from_numpy(model["f"]), torch.from_numpy(data[vertices])
        expected = torch.from_numpy(data["vertex_normals"])
    torch.testing.assert_close(vertex_normals(verts, faces), expected, rtol=0, atol=1e-4)


def test_sphere_normals_point_outwards() -> None:
    verts, faces = sphere(40, 60)
    normals = vertex_normals(verts, faces)
    assert (normals * verts).sum(-1).min() > 0.999
    assert (normals.norm(dim=-1) - 1).abs().max() < 1e-12


@pytest.mark.parametrize("batch", [(), (1,), (3, 1, 2)])
def test_normals_on_any_axes(batch: tuple[int, ...]) -> None:
    verts, faces = sphere(6, 7)
    stack = verts * torch.linspace(1, 2, max(1, torch.Size(batch).numel()), dtype=verts.dtype).reshape(*batch, 1, 1)
    normals = vertex_normals(stack, faces)
    assert normals.shape == stack.shape
    torch.testing.assert_close(normals, vertex_normals(verts, faces).expand_as(normals))


def test_normals_gradcheck_and_lonely_vertices() -> None:
    verts, faces = sphere(3, 4)
    verts = torch.cat([verts, torch.randn(1, 3, dtype=verts.dtype)])  # used by no face
    assert not vertex_normals(verts, faces)[-1].any()
    assert torch.autograd.gradcheck(lambda v: vertex_normals(v, faces), verts.requires_grad_())
    tiny = verts.detach().float() * 1e-7
    assert (vertex_normals(tiny, faces)[:-1].norm(dim=-1) - 1).abs().max() < 1e-5


def test_normals_refuse_bad_faces() -> None:
    verts, faces = sphere(3, 4)
    with pytest.raises(RasterError, match="outside"):
        vertex_normals(verts, faces + 5)


def test_basis_is_orthogonal() -> None:
    """Integrated over the sphere the functions are orthogonal; their norms are the cosine lobe's factors."""
    generator = torch.Generator().manual_seed(0)
    n = torch.nn.functional.normalize(torch.randn(400_000, 3, generator=generator, dtype=torch.float64), dim=-1)
    basis = sh_basis(n)
    gram = basis.T @ basis * (4 * torch.pi / len(n))
    lobe = torch.tensor([1.0] + [2 / 3 * torch.pi] * 3 + [torch.pi / 4] * 5, dtype=torch.float64)
    torch.testing.assert_close(gram / lobe / lobe[:, None], torch.eye(9, dtype=torch.float64), rtol=0, atol=0.02)


def test_texture_texel_centres() -> None:
    texture = torch.rand(1, 3, 5, 7, dtype=torch.float64)
    i, j = torch.meshgrid(torch.arange(5).double(), torch.arange(7).double(), indexing="ij")
    uv = torch.stack([(j + 0.5) / 7, 1 - (i + 0.5) / 5], -1)[None]
    torch.testing.assert_close(sample_texture(texture, uv)[0], texture[0].movedim(0, -1))
    corner = sample_texture(texture, torch.tensor([[[[0.0, 1.0], [-3.0, 9.0]]]], dtype=torch.float64))
    torch.testing.assert_close(corner[0, 0], texture[0, :, 0, 0].expand(2, -1))
    middle = sample_texture(texture, torch.tensor([[[[1 / 7, 0.9]]]], dtype=torch.float64))[0, 0, 0]
    torch.testing.assert_close(middle, (texture[0, :, 0, 0] + texture[0, :, 0, 1]) / 2)


def test_texture_gradcheck_and_shared_texture() -> None:
    generator = torch.Generator().manual_seed(0)
    texture = torch.rand(1, 2, 4, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    uv = torch.rand(2, 3, 3, 2, generator=generator, dtype=torch.float64).mul(0.8).add(0.1).requires_grad_()
    assert torch.autograd.gradcheck(sample_texture, (texture, uv))
