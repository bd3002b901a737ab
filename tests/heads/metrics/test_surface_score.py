"""Scores of surfaces whose distance is known, and the table on heads that fit themselves."""

from dataclasses import dataclass

import pytest
import torch
import trimesh
from jaxtyping import Float
from torch import Tensor

from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.sdf.linear_heads import global_pca
from headlab.geometry.sdf.model_heads import HeadsConfig, draw_people
from headlab.geometry.sdf.registered import RegisteredHeads, registered_heads
from headlab.heads.metrics.geometry_table import TableConfig, geometry_table, observed_points
from headlab.heads.metrics.surface_score import MILLIMETRES, HeadSurface, mean_rows, score_surface
from headlab.heads.metrics.table_rows import LinearRow


def ball(radius: float, on_face: bool = False, finer: int = 5) -> HeadSurface:
    """A sphere; the half in front is its face."""
    mesh = trimesh.creation.icosphere(subdivisions=finer, radius=radius)
    vertices = torch.tensor(mesh.vertices, dtype=torch.float32)
    faces = torch.tensor(mesh.faces)
    front = vertices[faces].mean(1)[:, 2] > 0
    return HeadSurface(vertices, faces, front if on_face else None)


def test_spheres_are_as_far_apart_as_they_are() -> None:
    draws = torch.Generator().manual_seed(0)
    score = score_surface(ball(0.3), ball(0.304, True), draws, 4000)
    for region in ("head", "face"):
        assert score[region].chamfer_l1 == pytest.approx(0.004 * MILLIMETRES, rel=0.02)
        assert score[region].normal_consistency == pytest.approx(1.0, abs=1e-3)
        assert score[region].f_score(0.9) < 0.01 and score[region].f_score(1.1) > 0.99
    row = mean_rows([score, score])["head"]
    assert set(row) == {"chamfer_l1", "normal_consistency", "f_score_1", "f_score_1.5"}


def test_the_same_surface_is_perfect_whatever_the_number_of_points() -> None:
    score = score_surface(ball(0.3), ball(0.3, True), torch.Generator().manual_seed(0), 50)
    assert score["head"].chamfer_l1 < 1e-3 and score["head"].f_score(1.0) == 1.0


def test_only_the_face_counts_for_the_face() -> None:
    true = ball(0.3, True)
    dented = true.vertices.clone()
    dented[dented[:, 2] < -0.2] *= 0.9
    score = score_surface(HeadSurface(dented, true.faces), true, torch.Generator().manual_seed(0), 6000)
    assert score["face"].chamfer_l1 < 0.05 < 0.5 < score["head"].chamfer_l1


def test_what_lies_inside_is_not_compared() -> None:
    outer, inner = ball(0.3, finer=3), ball(0.1, finer=3)
    both = HeadSurface(
        torch.cat([outer.vertices, inner.vertices]), torch.cat([outer.faces, inner.faces + len(outer.vertices)])
    )
    assert torch.equal(both.outer().faces, outer.faces)
    with pytest.raises(HeadlabError, match="turn its faces round"):
        HeadSurface(outer.vertices, outer.faces.flip(1)).outer()
    with pytest.raises(HeadlabError, match="no triangles"):
        HeadSurface(outer.vertices, outer.faces[:0]).outer()
    low = HeadSurface(outer.vertices - torch.tensor([0.0, 2.0, 0.0]), outer.faces)
    with pytest.raises(HeadlabError, match="below the neck's cut"):
        score_surface(low, outer, torch.Generator(), 100)


@dataclass(frozen=True)
class Broken:
    """A row that fails on every head."""

    name: str = "broken"

    def canonical(self, cloud: Float[Tensor, "n 3"]) -> HeadSurface:
        raise HeadlabError("it does not converge")

    def posed(self, clouds: list[Float[Tensor, "_ 3"]]) -> list[HeadSurface]:
        raise HeadlabError("it does not converge")


@pytest.fixture(scope="module")
def people(default_head: HeadModel) -> RegisteredHeads:
    return registered_heads(default_head, draw_people(default_head, HeadsConfig(8, 3)), [2])


def test_a_table_of_components_and_of_a_row_that_fails(people: RegisteredHeads) -> None:
    known = LinearRow("knows them", global_pca(people, 7, 6))
    mean = LinearRow("knows one thing", global_pca(people.some(slice(2)), 1, 1))
    table = geometry_table([known, mean, Broken()], people.some(slice(3, 4)), TableConfig(800, samples=1000))
    for stage in ("identity", "expression"):
        assert set(table[stage]) == {"knows them", "knows one thing"}
        for region in ("head", "face"):
            best, worst = table[stage]["knows them"][region], table[stage]["knows one thing"][region]
            assert best["chamfer_l1"] < 0.3 * worst["chamfer_l1"] and best["f_score_1"] > worst["f_score_1"]
    assert [failure["row"] for failure in table["failures"]] == ["broken", "broken"]
    assert table["failures"][0]["error"] == "it does not converge"
    with pytest.raises(HeadlabError, match="at least one row"):
        geometry_table([], people, TableConfig())


def test_the_front_view_sees_the_front(people: RegisteredHeads) -> None:
    surface = HeadSurface(people.canonical[0], people.faces, people.on_face)
    whole = observed_points(surface, TableConfig(800), torch.Generator().manual_seed(0))
    front = observed_points(surface, TableConfig(800, view="front"), torch.Generator().manual_seed(0))
    assert float(front[:, 2].min()) > float(whole[:, 2].min()) + 0.1
    noisy = observed_points(surface, TableConfig(800, noise=1.0), torch.Generator().manual_seed(0))
    assert MILLIMETRES * float((noisy - whole).std()) == pytest.approx(1.0, rel=0.1)
