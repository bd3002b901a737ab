"""Landmarks found by looking at a surface."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from headlab.geometry.errors import HeadlabError
from headlab.geometry.fitting.scan_landmarks import ScanTexture, scan_landmarks
from headlab.geometry.landmarks import open_detector
from headlab.geometry.landmarks.face_landmarks import LandmarkDetector
from headlab.geometry.models.default import load_default_head
from headlab.geometry.texture.default_albedo import default_albedo
from headlab.scripts.bench.geometry import read_scan


@pytest.fixture(scope="module")
def detector() -> Iterator[LandmarkDetector]:
    with open_detector() as found:
        yield found


def test_finds_the_models_own_landmarks(detector: LandmarkDetector) -> None:
    """On a head in its mean colours, turned away and scaled, the points lie where the model says."""
    model = load_default_head()
    beta = torch.randn(model.shapes, generator=torch.Generator().manual_seed(0))
    vertices = model.shaped(beta, torch.zeros(model.expressions))
    assert model.uvs is not None and model.uv_faces is not None
    texture = ScanTexture(default_albedo(model, size=512).mean, model.uvs, model.uv_faces)
    turn = torch.from_numpy(Rotation.from_euler("y", 100, degrees=True).as_matrix()).float()
    moved = 30 * vertices @ turn.T + torch.tensor([1.0, 2.0, 3.0])
    found = scan_landmarks(moved, model.faces, detector, texture)
    expected = 30 * model.landmarks3d(vertices) @ turn.T + torch.tensor([1.0, 2.0, 3.0])
    error = (found - expected).norm(dim=-1)[17:] / 30
    assert error.nanmean() < 0.005 and error.isnan().sum() == 0  # metres


@pytest.mark.slow
def test_real_scan_with_and_without_colours(shared: Path, detector: LandmarkDetector) -> None:
    vertices, faces, texture = read_scan(shared / "data/scans")
    points, triangles = torch.from_numpy(vertices), torch.from_numpy(faces)
    coloured = scan_landmarks(points, triangles, detector, texture)
    grey = scan_landmarks(points, triangles, detector)
    assert np.isfinite(coloured.numpy()).all()
    eyes = (coloured[36] - coloured[45]).norm()
    assert coloured[36, 0] < 0 < coloured[45, 0]  # +X is the subject's left
    assert (coloured - grey)[17:].norm(dim=-1).mean() < 0.06 * eyes
    back = Rotation.from_euler("y", 180, degrees=True).as_matrix()
    turned = scan_landmarks(points @ torch.from_numpy(back).T, triangles, detector, texture).double()
    assert (turned @ torch.from_numpy(back) - coloured)[17:].norm(dim=-1).mean() < 0.05 * eyes


def test_no_face(detector: LandmarkDetector) -> None:
    box = torch.tensor([[x, y, z] for x in (0.0, 1) for y in (0.0, 1) for z in (0.0, 1)])
    faces = torch.tensor([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]])
    with pytest.raises(HeadlabError, match="no face is found"):
        scan_landmarks(box, faces, detector)
