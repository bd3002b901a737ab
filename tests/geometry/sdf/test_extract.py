"""Marching cubes, the narrow band and whole extractions, against dense grids and closed forms."""

import numpy as np
import pytest
import torch
import trimesh
from skimage.measure import marching_cubes
from torch import Tensor

from headlab.geometry.errors import HeadlabError
from headlab.geometry.sdf.cube_table import triangle_table
from headlab.geometry.sdf.expression import ExpressionConfig, ExpressionField
from headlab.geometry.sdf.extract import (
    SdfMesh,
    box_grid,
    components,
    extract_identity,
    extract_posed,
    extract_surface,
    mesh_normals,
)
from headlab.geometry.sdf.fast_network import FastNetwork
from headlab.geometry.sdf.identity import IdentityConfig, IdentityField
from headlab.geometry.sdf.layout import EnsembleLayout
from headlab.geometry.sdf.marching import march
from headlab.geometry.sdf.mlp import DeepSDF
from headlab.geometry.sdf.narrow_band import Band, Grid, dense_band, narrow_band


def ball_and_ring(points: Tensor) -> Tensor:
    """A ring, and a ball of 12 thousandths beside it: smaller than a cell of the coarse grid."""
    tube = torch.stack([points[:, :2].norm(dim=-1) - 0.3, points[:, 2]], -1).norm(dim=-1) - 0.07
    ball = (points - torch.tensor([0.0, 0.0, 0.33])).norm(dim=-1) - 0.012
    return torch.minimum(tube, ball)


def mesh_of(band: Band, grid: Grid) -> trimesh.Trimesh:
    vertices, faces = march(band.values, band.cells, torch.tensor(grid.resolution))
    return trimesh.Trimesh(grid.points(vertices).numpy(), faces.numpy(), process=False)


def as_set(cells: Tensor) -> set[tuple[int, ...]]:
    return {tuple(cell) for cell in cells.tolist()}


def test_every_pattern_of_signs_is_closed() -> None:
    """Noise shows all 256 patterns next to each other."""
    noise = torch.randn(24, 24, 24, generator=torch.Generator().manual_seed(0))
    for axis in range(3):
        noise.select(axis, 0).fill_(1)
        noise.select(axis, 23).fill_(1)
    grid = Grid((0.0, 0.0, 0.0), (23.0, 23.0, 23.0), (24, 24, 24))
    band = dense_band(lambda points: noise[tuple(points.round().long().T)], grid)
    patterns = ((band.values < 0).long() << torch.arange(8)).sum(1)
    assert len(patterns.unique()) == 254
    mesh = mesh_of(band, grid)
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0
    _, uses = np.unique(np.sort(mesh.edges, 1), axis=0, return_counts=True)
    assert (uses == 2).all()


def test_vertices_are_those_of_scikit_image() -> None:
    grid = Grid((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5), (40, 40, 40))
    mesh = mesh_of(dense_band(ball_and_ring, grid), grid)
    axes = [torch.arange(40)] * 3
    index = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    volume = ball_and_ring(grid.points(index).reshape(-1, 3)).view(40, 40, 40).numpy()
    theirs, *_ = marching_cubes(volume, 0.0, method="lorensen")
    theirs = theirs / 39 - 0.5
    key = np.lexsort(np.round(theirs, 5).T), np.lexsort(np.round(mesh.vertices, 5).T)
    assert len(theirs) == len(mesh.vertices)
    np.testing.assert_allclose(theirs[key[0]], mesh.vertices[key[1]], atol=2e-5)


def test_table_has_known_cases() -> None:
    table = triangle_table()
    assert (table[0] == -1).all() and (table[255] == -1).all()
    counts = (table[..., 0] >= 0).sum(1)
    assert int(counts[1]) == 1 and int(counts[0b11]) == 2 and int(counts.max()) == 5
    # Two opposite corners of a face are cut off one by one.
    assert int(counts[0b1001]) == 2


@pytest.mark.parametrize("resolution", [(40, 40, 40), (64, 64, 64), (118, 100, 70)])
def test_the_band_misses_no_cell(resolution: tuple[int, int, int]) -> None:
    grid = Grid((-0.5, -0.45, -0.5), (0.5, 0.5, 0.47), resolution)
    band, dense = narrow_band(ball_and_ring, ball_and_ring, grid), dense_band(ball_and_ring, grid)
    assert as_set(band.cells) == as_set(dense.cells)
    order = [torch.argsort((b.cells * torch.tensor([1 << 20, 1 << 10, 1])).sum(1)) for b in (band, dense)]
    torch.testing.assert_close(band.values[order[0]], dense.values[order[1]], rtol=0, atol=1e-6)
    if resolution[0] > 100:
        assert sum(band.evaluated.values()) < dense.evaluated["exact"] / 2
    assert mesh_of(band, grid).body_count == (1 if resolution[0] == 40 else 2)  # there the ball lies between vertices


def test_the_band_asks_hardly_more_than_the_corners_it_needs() -> None:
    grid = Grid((-0.5,) * 3, (0.5,) * 3, (200,) * 3)
    band = narrow_band(lambda p: p.norm(dim=-1) - 0.37, lambda p: p.norm(dim=-1) - 0.37, grid)
    corners = torch.unique(
        (band.cells[:, None] + torch.tensor([[c & 1, c >> 1 & 1, c >> 2] for c in range(8)])).view(-1, 3), dim=0
    )
    assert band.evaluated["exact"] < 1.02 * len(corners)
    assert band.evaluated["probe"] < len(corners)


def test_a_steep_field_makes_the_band_wider() -> None:
    """Six times as steep as a distance in a shell where the coarse grid cannot see it."""

    def steep(points: Tensor) -> Tensor:
        radius = points.norm(dim=-1)
        return 0.35 - radius + 0.08 * torch.sin(70 * points[:, 0]) * torch.sin(70 * points[:, 1])

    grid = Grid((-0.5,) * 3, (0.5,) * 3, (66,) * 3)
    band, dense = narrow_band(steep, steep, grid), dense_band(steep, grid)
    assert as_set(band.cells) == as_set(dense.cells)


def test_a_rough_probe_does_not_change_the_result() -> None:
    generator = torch.Generator().manual_seed(4)
    grid = Grid((-0.5,) * 3, (0.5,) * 3, (66,) * 3)

    def probe(points: Tensor) -> Tensor:
        return ball_and_ring(points) + 1e-3 * (2 * torch.rand(len(points), generator=generator) - 1)

    band, dense = narrow_band(probe, ball_and_ring, grid, probe_error=1e-3), dense_band(ball_and_ring, grid)
    assert as_set(band.cells) == as_set(dense.cells)
    assert float(band.values.abs().max()) <= float(dense.values.abs().max())


def test_no_surface_and_bad_grids_are_said() -> None:
    network = DeepSDF(4, 32, 4)
    network.initialise_as_sphere(0.3, torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.linear(4).bias.fill_(5.0)
    field = FastNetwork.of(network.folded([(slice(3, 7), torch.zeros(4))]))
    with pytest.raises(HeadlabError, match="no surface inside the box"):
        extract_surface(field, box_grid(40))
    for resolution in (1, 5000):
        with pytest.raises(HeadlabError, match="not between 8 and 1024"):
            box_grid(resolution)
    with pytest.raises(HeadlabError, match="has no inside"):
        box_grid(32, ((0.0, 0.0, 0.0), (1.0, -1.0, 1.0)))


def shaped_field() -> tuple[IdentityField, Tensor]:
    """A small ensemble fitted to an ellipsoid for a moment, with its latent."""
    torch.manual_seed(0)
    layout = EnsembleLayout(anchors=6, pairs=2, latent_global=4, latent_local=4)
    radii = torch.tensor([0.3, 0.35, 0.32])
    directions = torch.tensor([[-1.0, 0, 0], [1, 0, 0], [-0.6, 0.6, 0.5], [0.6, 0.6, 0.5], [0, -1, 0], [0, 0.3, -1]])
    anchors = torch.nn.functional.normalize(directions, dim=-1) * radii
    field = IdentityField(IdentityConfig(layout, 32, 4, 8), anchors)
    for parameter in field.mlp_pos.parameters():
        torch.nn.init.zeros_(parameter)
    latent = torch.randn(layout.latent) * 0.05
    optimizer = torch.optim.Adam(field.ensembled_deep_sdf.parameters(), 5e-3)
    for _ in range(150):
        points = torch.rand(600, 3) * 1.4 - 0.7
        scaled = (points / radii).norm(dim=-1)
        goal = scaled * (scaled - 1) / (points / radii.square()).norm(dim=-1)
        sdf = field(points, latent)
        optimizer.zero_grad()
        (sdf - goal).abs()[(points[:, None] - anchors).norm(dim=-1).amin(1) < 0.33].mean().backward()
        optimizer.step()
    return field.requires_grad_(False), latent


@pytest.fixture(scope="module")
def head() -> tuple[IdentityField, Tensor]:
    return shaped_field()


def test_extracted_head_is_the_dense_one(head: tuple[IdentityField, Tensor]) -> None:
    field, latent = head
    grid = box_grid(60)
    mesh = extract_identity(field, latent, 60)
    dense = dense_band(lambda points: field(points, latent), grid)
    vertices, faces = march(dense.values, dense.cells, torch.tensor(grid.resolution))
    assert mesh.vertices.shape == vertices.shape
    assert float((mesh.vertices - grid.points(vertices)).abs().max()) < 5e-5
    assert components(mesh) == components(SdfMesh(grid.points(vertices), faces, None, {}))
    assert mesh.normals is not None
    about = mesh_normals(mesh.vertices, mesh.faces)
    assert float((mesh.normals * about).sum(-1).median()) > 0.99


def test_posed_head_is_the_neutral_one_moved(head: tuple[IdentityField, Tensor]) -> None:
    field, latent = head
    torch.manual_seed(1)
    for mode in ("compress", "interpolate"):
        expression = ExpressionField(ExpressionConfig(mode, field.layout, 8, code=6, hidden=32, layers=4))
        z = torch.randn(8)
        neutral = extract_identity(field, latent, 48, normals=False)
        posed = extract_posed(field, expression.requires_grad_(False), latent, z, 48)
        offsets = expression(neutral.vertices, latent, z, field.anchors(latent))
        torch.testing.assert_close(posed.vertices, neutral.vertices + offsets, atol=1e-5, rtol=0)
        assert torch.equal(posed.faces, neutral.faces)
        assert posed.normals is not None
        torch.testing.assert_close(posed.normals, mesh_normals(posed.vertices, posed.faces))
