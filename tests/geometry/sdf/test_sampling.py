"""Samples that fields are trained on."""

from pathlib import Path

import pytest
import torch
import trimesh

from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.raster import closest_point
from headlab.geometry.sdf.sampling import HeadSampler, SurfaceSamples, cached, far_points, near_points, visible_faces


@pytest.fixture(scope="module")
def sampler(default_head: HeadModel) -> HeadSampler:
    return HeadSampler.of(default_head)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_only_the_outer_of_two_spheres_is_visible() -> None:
    outer, inner = trimesh.creation.icosphere(3, 1.0), trimesh.creation.icosphere(2, 0.5)
    both = trimesh.util.concatenate([outer, inner])
    seen = visible_faces(torch.from_numpy(both.vertices).float(), torch.from_numpy(both.faces).long())
    assert bool(seen[: len(outer.faces)].all()) and not bool(seen[len(outer.faces) :].any())


def test_the_head_is_seen_and_its_inside_is_not(sampler: HeadSampler) -> None:
    model = sampler.model
    outer = visible_faces(model.template, model.faces)
    assert model.face_parts is not None
    share = {
        name: float(outer[model.face_parts == index].float().mean()) for index, name in enumerate(model.part_names)
    }
    assert share["skin"] > 0.8
    assert share["lower_teeth"] < 0.3 and share["tongue"] < 0.3
    assert bool(outer[(model.regions["face"][model.faces]).all(1)].float().mean() > 0.9)


def test_samples_lie_on_the_surface_with_its_normals(sampler: HeadSampler) -> None:
    model = sampler.model
    code = model.neutral()
    samples = sampler.surface(code, 400, 300, draws())
    vertices = sampler.frame.to_field(model.vertices(code))
    for points, normals in ((samples.face, samples.face_normals), (samples.rest, samples.rest_normals)):
        distance, face, _ = closest_point(vertices, sampler.faces, points)
        assert float(distance.max()) < 1e-5
        a, b, c = vertices[sampler.faces[face.long()]].unbind(1)
        flat = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
        assert float((flat * normals).sum(-1).median()) > 0.97
        torch.testing.assert_close(normals.norm(dim=-1), torch.ones(len(points)))
    assert samples.anchors.shape == (39, 3)
    # The front is the face: z out of it.
    assert float(samples.face[:, 2].median()) > float(samples.rest[:, 2].median()) + 0.1
    again = sampler.surface(code, 400, 300, draws())
    assert torch.equal(samples.face, again.face)


def test_correspondences_move_with_the_expression(sampler: HeadSampler) -> None:
    model = sampler.model
    neutral = model.neutral()
    same = sampler.correspondences(neutral, neutral, 200, draws())
    torch.testing.assert_close(same.neutral, same.posed)
    vertices = sampler.frame.to_field(model.vertices(neutral))
    off = closest_point(vertices, sampler.faces, same.neutral)[0]
    assert float(off[:100].mean()) > 3 * float(off[100:].mean()), "the first half lies farther off"
    expression = torch.zeros(model.expressions)
    expression[model.expression_names.index("jawOpen")] = 1
    moved = sampler.correspondences(
        neutral, type(neutral)(**{**vars(neutral), "expression": expression}), 2000, draws()
    )
    shift = (moved.posed - moved.neutral)[:, 1]
    chin = (moved.neutral[:, 1] < -0.25) & (moved.neutral[:, 2] > 0.05)
    assert float(shift[chin].mean()) < -0.02
    assert float(shift[moved.neutral[:, 1] > 0.2].abs().max()) < 1e-3


def test_near_and_far_points() -> None:
    far = far_points(4000, draws())
    radius = far.norm(dim=-1)
    assert float(radius.max()) <= 0.5 ** (1 / 3) + 1e-6
    assert float((radius < 0.25 ** (1 / 3)).float().mean()) == pytest.approx(0.5, abs=0.03)
    assert float(near_points(torch.zeros(4000, 3), draws()).std()) == pytest.approx(0.01, rel=0.05)


def test_the_cache_keeps_and_tells(tmp_path: Path, sampler: HeadSampler) -> None:
    made = []

    def make() -> SurfaceSamples:
        made.append(1)
        return sampler.surface(sampler.model.neutral(), 20, 10, draws())

    folder = tmp_path / "samples"
    first = cached(folder, {"model": "default", "seed": 0}, make)
    second = cached(folder, {"seed": 0, "model": "default"}, make)
    assert len(made) == 1 and torch.equal(first.face_normals, second.face_normals)
    cached(folder, {"model": "default", "seed": 1}, make)
    assert len(made) == 2 and len(list(folder.iterdir())) == 2
    next(folder.iterdir()).write_bytes(b"half a file")
    with pytest.raises(HeadlabError, match="delete it"):
        for seed in (0, 1):
            cached(folder, {"model": "default", "seed": seed}, make)
