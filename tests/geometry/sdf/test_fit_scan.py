"""Neural heads fitted to scans with the fields that come with headlab."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from numpy import ndarray
from skimage.measure import marching_cubes

from headlab.datasets.depth_map import read_depth
from headlab.geometry.camera import Camera
from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.sdf.anchors import FieldFrame
from headlab.geometry.sdf.default_fields import load_default_fields
from headlab.geometry.sdf.fit_scan import ScanFitConfig, fit_neural_head
from headlab.geometry.sdf.head_fields import HeadFields
from headlab.geometry.sdf.latent_fit import LatentFitConfig
from headlab.geometry.sdf.mlp import DeepSDF
from headlab.geometry.sdf.model_heads import HeadsConfig, draw_people
from headlab.geometry.sdf.sampling import HeadSampler, visible_faces
from headlab.geometry.sdf.scan_points import Scan, depth_scan
from headlab.heads.completion.hair_mesh import hair_mesh
from headlab.heads.completion.hair_styles import find_style

QUICK = ScanFitConfig(LatentFitConfig(steps=60, points=300), points=4000, resolution=48)


@pytest.fixture(scope="module")
def fields() -> HeadFields:
    return load_default_fields()


@pytest.mark.slow
def test_a_head_in_millimetres_is_fitted_wherever_it_lies(fields: HeadFields, default_head: HeadModel) -> None:
    sampler = HeadSampler.of(default_head)
    shape = 0.7 * torch.randn(default_head.shapes, generator=torch.Generator().manual_seed(9))
    vertices = default_head.vertices(default_head.neutral().with_(shape=shape)).double().numpy()
    turned = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    turned *= np.sign(np.linalg.det(turned))
    scan = Scan(1000 * vertices @ turned.T - 300, sampler.faces.numpy())
    fit = fit_neural_head(fields, scan, QUICK)
    assert fit.unit == "mm" and fit.report["aligned_by"] == "shape"
    assert float(fit.report["median_mm"] or 9) < 2.0 and float(fit.report["face_distance_mm"] or 9) < 3.0
    assert fit.identity.shape == (fields.identity_size,)


def egg() -> Scan:
    """As high and as wide as a head, thinner above."""
    ball = trimesh.creation.icosphere(4, 1.0)
    points = np.asarray(ball.vertices) * [0.075, 0.12, 0.09]
    points[:, [0, 2]] *= 1 - 0.2 * points[:, 1:2] / 0.12
    return Scan(points, np.asarray(ball.faces))


def blended(distances: list[ndarray], width: float) -> ndarray:
    """The smooth union of solids."""
    total = distances[0]
    for other in distances[1:]:
        share = np.clip(0.5 + 0.5 * (other - total) / width, 0, 1)
        total = other + (total - other) * share - width * share * (1 - share)
    return total


def ellipsoid(points: ndarray, centre: tuple[float, ...], radii: tuple[float, ...]) -> ndarray:
    return (np.linalg.norm((points - np.array(centre)) / np.array(radii), axis=-1) - 1) * min(radii)


def solid(inside: Callable[[ndarray], ndarray], size: float) -> Scan:
    """The surface of a solid in a cube, metres."""
    axis = np.linspace(-size, size, 70)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    points, faces, *_ = marching_cubes(inside(grid), 0.0)
    return Scan(points * (axis[1] - axis[0]) - size, faces[:, ::-1].copy())


def skull(points: ndarray) -> ndarray:
    """Cranium, jaw and neck, but neither nose nor eyes."""
    parts = (
        ((0.0, 0.04, -0.03), (0.075, 0.09, 0.095)),
        ((0.0, -0.05, 0.02), (0.055, 0.06, 0.055)),
        ((0.0, -0.13, -0.03), (0.05, 0.08, 0.05)),
    )
    return blended([ellipsoid(points, *part) for part in parts], 0.02)


def shoe(points: ndarray) -> ndarray:
    parts = (((0.0, 0.0, 0.04), (0.05, 0.035, 0.13)), ((0.0, 0.05, -0.05), (0.045, 0.08, 0.05)))
    return blended([ellipsoid(points, *part) for part in parts], 0.02)


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["ball", "egg", "torus", "skull", "shoe"])
def test_what_only_lies_close_is_no_head(fields: HeadFields, shape: str) -> None:
    ball, ring = trimesh.creation.icosphere(4, 0.11), trimesh.creation.torus(0.09, 0.04, 64, 32)
    scan = {
        "ball": lambda: Scan(np.asarray(ball.vertices), np.asarray(ball.faces)),
        "torus": lambda: Scan(np.asarray(ring.vertices), np.asarray(ring.faces)),
        "egg": egg,
        "skull": lambda: solid(skull, 0.24),
        "shoe": lambda: solid(shoe, 0.19),
    }[shape]()
    with pytest.raises(HeadlabError, match=r"does not look like a head.*\d mm off"):
        fit_neural_head(fields, scan, QUICK)


@pytest.mark.slow
def test_long_hair_and_an_open_mouth_do_not_hide_a_head(fields: HeadFields, default_head: HeadModel) -> None:
    code = draw_people(default_head, HeadsConfig(people=121))[120].poses[8][1]
    vertices, skin = default_head.vertices(code), HeadSampler.of(default_head).faces
    hair = hair_mesh(default_head, vertices.double().numpy(), find_style("long"))
    points = torch.cat([vertices, torch.from_numpy(np.asarray(hair.vertices)).float()])
    faces = torch.cat([skin, torch.from_numpy(np.asarray(hair.faces)).long() + len(vertices)])
    scan = Scan(points.double().numpy(), faces[visible_faces(points, faces)].numpy())
    fit = fit_neural_head(fields, scan, QUICK)
    assert fit.unit == "m" and float(fit.report["features_mm"] or 9) < 1.5
    turned = np.degrees(np.arccos(np.clip((np.trace(fit.alignment.rotation) - 1) / 2, -1, 1)))
    assert turned < 6


@pytest.mark.slow
def test_a_real_scan_of_unknown_unit_is_a_head(fields: HeadFields, shared: Path) -> None:
    with np.load(shared / "data" / "scans" / "head_a.npz") as file:
        scan = Scan(file["vertices"].astype(np.float64), file["triangles"])
    fit = fit_neural_head(fields, scan, QUICK)
    assert fit.unit is None and float(fit.report["median_mm"] or 9) < 2.0
    # About 6 cm per unit, judging by the head's height.
    assert float(fit.report["metres_per_unit"] or 0) == pytest.approx(0.06, rel=0.2)


@pytest.mark.slow
def test_a_man_in_a_depth_map_is_found(fields: HeadFields, shared: Path) -> None:
    depth = read_depth(shared / "data" / "rgbd" / "subject_a" / "0001_depth_fused.png")
    scan = depth_scan(depth, Camera.frontal(536.6, (int(depth.shape[0]), int(depth.shape[1]))))
    assert scan.unit == "m" and 0.3 < np.ptp(scan.points[:, 1]) < 0.45
    fit = fit_neural_head(fields, scan, QUICK)
    assert fit.unit == "m" and float(fit.report["median_mm"] or 9) < 2.5


def test_fields_of_another_kind_are_refused() -> None:
    npm = HeadFields(DeepSDF(4, 16, 4), None, torch.zeros(1, 4), torch.zeros(0, 0), FieldFrame(torch.zeros(3)))
    with pytest.raises(HeadlabError, match="NPM fields cannot be fitted"):
        fit_neural_head(npm, Scan(np.zeros((300, 3))), QUICK)
