"""A folder in NPHM's layout, made of default heads."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from headlab.datasets.nphm import canonical_expressions, nphm_scans, nphm_training_set, registered_folder
from headlab.datasets.surface_file import read_surface
from headlab.geometry.errors import HeadlabError, MissingAssetError
from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.raster import closest_point
from headlab.geometry.sdf.anchors import FieldFrame, mean_anchors
from headlab.geometry.sdf.model_heads import HeadsConfig, draw_people


@pytest.fixture(scope="module")
def folder(default_head: HeadModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects of two expressions; the first of one has a scan of its own and FLAME's throat."""
    place = tmp_path_factory.mktemp("nphm")
    frame = FieldFrame.of(default_head)
    faces = default_head.faces.numpy()
    for number, person in enumerate(draw_people(default_head, HeadsConfig(2, 3))):
        for name, code in (("000", person.canonical), ("001", person.poses[2][1])):
            own = place / f"{number:03d}" / name
            own.mkdir(parents=True)
            vertices = frame.to_field(default_head.vertices(code)).numpy()
            trimesh.Trimesh(vertices, faces, process=False).export(own / "registration.ply")
            np.save(own / "s.npy", np.array(0.004))
            np.save(own / "R.npy", np.eye(3))
            np.save(own / "t.npy", np.array([0.1, 0.2, 0.3]))
    own = place / "000" / "000"
    finer = trimesh.load(own / "registration.ply", process=False).subdivide()
    finer.export(own / "scan.ply")
    throat = np.zeros((5023, 3))
    throat[[3276, 3207, 3310]] = [[0, -0.3, 0], [0, -0.3, 1], [1, -0.3, 0]]
    trimesh.Trimesh(throat, [[0, 1, 2]], process=False).export(own / "flame.ply")
    return place


def test_subjects_and_frames_are_read(folder: Path) -> None:
    scans = nphm_scans(folder)
    assert {name: list(expressions) for name, expressions in scans.items()} == {
        "000": ["000", "001"],
        "001": ["000", "001"],
    }
    scan = scans["000"]["000"]
    frame = scan.frame()
    assert frame is not None and frame.scale == pytest.approx(0.004)
    raw = torch.tensor([[1.0, 2.0, 3.0]])
    torch.testing.assert_close(frame.to_nphm(raw), 0.004 * raw + torch.tensor([0.1, 0.2, 0.3]))
    assert scan.has("scan") and not scans["001"]["000"].has("scan")


def test_samples_come_from_scans_and_registrations(default_head: HeadModel, folder: Path) -> None:
    data = nphm_training_set(folder, face_points=500, rest_points=400, pose_points=200)
    data.check()
    assert data.names == ("000", "001") and len(data.poses) == 4
    for number, head in enumerate(data.heads):
        vertices, faces = read_surface(folder / f"{number:03d}" / "000" / "registration.ply")
        distance, _, _ = closest_point(vertices, faces, torch.cat([head.face, head.rest]))
        assert float(distance.max()) < 1e-5
        assert head.face.shape == (500, 3) and head.rest.shape == (400, 3)
    # The plane through FLAME's throat cuts the first head; the second has none.
    low = [float(torch.cat([head.face, head.rest])[:, 1].min()) for head in data.heads]
    assert low[0] > -0.3 > low[1]
    face = data.heads[0].face
    assert float(face[:, 2].mean()) > float(data.heads[0].rest[:, 2].mean()) + 0.1
    apart = (data.mean_anchors() - mean_anchors(default_head)).norm(dim=-1)
    assert float(apart.median()) < 0.1, "anchors lie where the default head has its own"
    smile = data.poses[1].points
    assert 0.01 < float((smile.posed - smile.neutral).norm(dim=-1).max()) < 0.4


def test_registrations_for_principal_components(folder: Path) -> None:
    heads = registered_folder(folder, (1,))
    assert heads.canonical.shape[0] == 2 and heads.posed.shape[:2] == (2, 1)
    assert heads.anchors.shape == (2, 39, 3) and bool(heads.on_face.any())
    with pytest.raises(HeadlabError, match=r"no subject in .* has the expressions"):
        registered_folder(folder, (7,))


def test_the_canonical_expression_is_told(folder: Path, tmp_path: Path) -> None:
    scans = nphm_scans(folder)
    assert canonical_expressions(scans, "") == {"000": "000", "001": "000"}
    assert canonical_expressions(scans, "001") == {"000": "001", "001": "001"}
    told = tmp_path / "neutral.json"
    told.write_text(json.dumps({"001": "001", "002": "000"}))
    assert canonical_expressions(scans, str(told)) == {"001": "001"}
    told.write_text("[]")
    with pytest.raises(HeadlabError, match="no JSON file of"):
        canonical_expressions(scans, str(told))
    with pytest.raises(HeadlabError, match="no subject has the canonical expression 009"):
        canonical_expressions(scans, "009")


def test_folders_that_are_none(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingAssetError, match="layout of the NPHM dataset"):
        nphm_scans(tmp_path / "nothing")
    with pytest.raises(HeadlabError, match=r"holds no SUBJECT/EXPRESSION/registration\.ply"):
        nphm_scans(tmp_path)
    own = tmp_path / "000" / "000"
    own.mkdir(parents=True)
    (own / "registration.ply").write_bytes(b"ply\nnonsense")
    with pytest.raises(HeadlabError, match="cannot be read"):
        nphm_training_set(tmp_path)
    for number, name in enumerate(("000", "001")):
        place = tmp_path / name / "000"
        place.mkdir(parents=True, exist_ok=True)
        ball = trimesh.creation.icosphere(subdivisions=1 + number, radius=0.4)
        ball.export(place / "registration.ply")
    with pytest.raises(HeadlabError, match="differ in their vertices' number"):
        nphm_training_set(tmp_path)
    scan = nphm_scans(tmp_path)["000"]["000"]
    assert scan.frame() is None
    np.save(own / "s.npy", np.array(-1.0))
    np.save(own / "R.npy", np.eye(3))
    np.save(own / "t.npy", np.zeros(3))
    with pytest.raises(HeadlabError, match="no similarity"):
        scan.frame()
