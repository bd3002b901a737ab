"""Scans of unknown pose and unit: are they laid on the head?"""

import numpy as np
import pytest
import torch
import trimesh
from numpy import ndarray
from scipy.spatial import KDTree

from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.sdf.align import Alignment, Target, align, guessed_scales, judged, landmark_start
from headlab.geometry.sdf.frame import UNITS_PER_METRE
from headlab.geometry.sdf.sampling import HeadSampler
from headlab.geometry.sdf.scan_points import UNITS, Scan, scan_unit, surface_points


@pytest.fixture(scope="module")
def sampler(default_head: HeadModel) -> HeadSampler:
    return HeadSampler.of(default_head)


@pytest.fixture(scope="module")
def target(sampler: HeadSampler) -> Target:
    samples = sampler.surface(sampler.model.neutral(), 3000, 3000, torch.Generator().manual_seed(0))
    points = torch.cat([samples.face, samples.rest]).double().numpy()
    normals = torch.cat([samples.face_normals, samples.rest_normals]).double().numpy()
    return Target(points, normals, np.arange(6000) < 3000, KDTree(points))


def person(sampler: HeadSampler, seed: int) -> ndarray:
    model = sampler.model
    shape = torch.randn(model.shapes, generator=torch.Generator().manual_seed(seed))
    return model.vertices(model.neutral().with_(shape=shape)).double().numpy()


def turn(seed: int) -> ndarray:
    matrix = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0]
    return matrix * np.sign(np.linalg.det(matrix))


def angle(found: Alignment, turned: ndarray) -> float:
    """Degrees between the rotation that was found and the one that undoes the scan's."""
    cosine = (np.trace(found.rotation @ turned) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def laid(scan: Scan, target: Target, free: bool = False) -> tuple[Alignment, str | None]:
    unit = scan_unit(scan.extent)
    points = surface_points(scan, 3000, np.random.default_rng(0))
    scales = guessed_scales(scan.extent, 4.0) if free or unit is None else (UNITS[unit] * UNITS_PER_METRE,)
    return align(points, target, scales, free or unit is None), unit


@pytest.mark.parametrize(("unit", "cloud"), [("mm", False), ("cm", True)])
def test_a_turned_head_is_found(sampler: HeadSampler, target: Target, unit: str, cloud: bool) -> None:
    rotation = turn(1)
    scan = person(sampler, 3) @ rotation.T / UNITS[unit] + 100
    faces = sampler.faces.numpy()
    used = np.unique(faces)
    found, said = laid(Scan(scan[used]) if cloud else Scan(scan, faces), target)
    assert said == unit
    assert angle(found, rotation) < 8
    assert found.face_distance * 250 < 5 and found.agreement > 0.85


def test_the_front_alone_is_enough(sampler: HeadSampler, target: Target) -> None:
    vertices, rotation = person(sampler, 4), turn(2)
    normal = trimesh.Trimesh(vertices, sampler.faces.numpy(), process=False).face_normals
    middle = vertices[sampler.faces.numpy()].mean(1)
    front = sampler.faces.numpy()[(normal[:, 2] > 0.3) & (middle[:, 2] > np.median(middle[:, 2]))]
    found, _ = laid(Scan((vertices @ rotation.T)[np.unique(front)]), target)
    assert angle(found, rotation) < 10 and found.face_distance * 250 < 5


def test_an_unknown_unit_is_estimated(sampler: HeadSampler, target: Target) -> None:
    scan = person(sampler, 5) * 21.0
    found, unit = laid(Scan(scan, sampler.faces.numpy()), target)
    assert unit is None
    assert found.scale * 21 / UNITS_PER_METRE == pytest.approx(1, abs=0.08)


def test_a_ball_fits_worse_than_any_head(sampler: HeadSampler, target: Target) -> None:
    ball = trimesh.creation.icosphere(4, 0.11)
    found, _ = laid(Scan(np.asarray(ball.vertices), np.asarray(ball.faces)), target)
    assert found.face_distance * 250 > 6.5


def test_landmarks_give_a_start(target: Target) -> None:
    draws, rotation = np.random.default_rng(0), turn(3)
    goals = draws.standard_normal((9, 3)) * 0.2
    marks = (goals - 0.3) @ rotation * 50
    start = landmark_start(marks, goals, None)
    np.testing.assert_allclose(start.to_field(marks), goals, atol=1e-9)
    np.testing.assert_allclose(start.to_scan(goals), marks, atol=1e-7)
    fixed = landmark_start(marks, goals, 0.02)
    assert fixed.scale == 0.02
    np.testing.assert_allclose(fixed.to_field(marks), goals, atol=1e-9)
    # The same points under another name: nothing is between them.
    points = surface_points(Scan((target.points - 0.3) @ rotation * 50), 2000, draws)
    assert judged(points, target, start).face_distance < 0.02
