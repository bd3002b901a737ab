"""ICT-FaceKit from its folder of OBJ files and from one npz."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from headlab.geometry.errors import HeadlabError, MissingAssetError
from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.models.ict import IctArrays, ict_model, load_ict, read_ict, save_ict
from headlab.geometry.models.ict_topology import PARTS

#: A part of the shapes, so that writing and reading text takes seconds.
IDENTITIES = 3
EXPRESSIONS = ("browInnerUp_L", "eyeBlink_L", "jawOpen", "mouthLeft")


@pytest.fixture(scope="module")
def arrays(shared: Path) -> IctArrays:
    return read_ict(shared / "data/ict_facekit.npz")


@pytest.fixture(scope="module")
def model(arrays: IctArrays) -> HeadModel:
    return ict_model(arrays)


@pytest.fixture(scope="module")
def few(arrays: IctArrays) -> IctArrays:
    keep = [arrays.expression_names.index(name) for name in EXPRESSIONS]
    return replace(
        arrays,
        identities=arrays.identities[:IDENTITIES],
        expressions=arrays.expressions[keep],
        expression_names=EXPRESSIONS,
    )


@pytest.fixture(scope="module")
def clone(few: IctArrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as a user has it: ICT-FaceKit/FaceXModel/*.obj."""
    root = tmp_path_factory.mktemp("ICT-FaceKit")
    folder = root / "FaceXModel"
    folder.mkdir()
    config = {"expressions": list(EXPRESSIONS), "idx_to_landmark_verts": few.landmarks.tolist()}
    (folder / "vertex_indices.json").write_text(json.dumps(config))
    lines = ["mtllib ICTFaceModelMaterial.mtl", *vertex_lines(few.neutral)]
    lines += [f"vt {u:.8f} {v:.8f}" for u, v in few.uvs]
    lines += ["usemtl M_Face"]
    for corners, texture in zip(few.polygons + 1, few.uv_polygons + 1, strict=True):
        lines.append("f " + " ".join(f"{a}/{b}" for a, b in zip(corners, texture, strict=True) if a > 0))
    (folder / "generic_neutral_mesh.obj").write_text("\n".join(lines) + "\n")
    shapes = {f"identity{i:03d}": delta for i, delta in enumerate(few.identities)}
    shapes |= dict(zip(EXPRESSIONS, few.expressions, strict=True))
    for name, delta in shapes.items():
        (folder / f"{name}.obj").write_text("\n".join(vertex_lines(few.neutral + delta)) + "\n")
    return root


def vertex_lines(vertices: np.ndarray) -> list[str]:
    return [f"v {x:.15f} {y:.15f} {z:.15f}" for x, y, z in vertices]


def test_folder_and_npz_agree(few: IctArrays, clone: Path, tmp_path: Path) -> None:
    expected = ict_model(few)
    save_ict(read_ict(clone), tmp_path / "ict.npz")
    for path in (clone, clone / "FaceXModel", tmp_path / "ict.npz"):
        found = load_ict(path)
        for name in ("template", "shape_basis", "expression_basis", "joint_regressor", "skin_weights", "uvs"):
            assert torch.allclose(getattr(found, name), getattr(expected, name), atol=1e-6), name
        for name in ("faces", "uv_faces", "face_parts"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), name
        assert found.expression_names == ("browInnerUpLeft", "eyeBlinkLeft", "jawOpen", "mouthLeft")
        assert torch.equal(found.landmarks["68"].faces, expected.landmarks["68"].faces)


def test_geometry_matches_the_data(model: HeadModel, shared: Path) -> None:
    with np.load(shared / "data/ict_facekit.npz") as file:
        neutral, triangles, marks = file["neutral_vertices"], file["triangles"], file["landmarks68"]
        identity, expression = file["identity_deltas"], file["expression_deltas"]
    films = (triangles >= 24591).all(1) & (triangles < 25351).all(1)
    assert np.array_equal(model.faces, triangles[~films])
    random = np.random.default_rng(3)
    beta, psi = random.standard_normal(100), random.random(53)
    expected = (neutral + np.tensordot(beta, identity, 1) + np.tensordot(psi, expression, 1)) / 100
    code = model.neutral().with_(shape=torch.tensor(beta).float(), expression=torch.tensor(psi).float())
    assert np.abs(model.vertices(code).numpy() - expected).max() < 1e-6
    assert np.abs(model.landmarks3d(model.template).numpy() - neutral[marks] / 100).max() < 1e-6
    width = (model.landmarks3d(model.template)[45] - model.landmarks3d(model.template)[36]).norm()
    assert 0.089 < width < 0.09  # outer eye corners, metres
    assert len(set(model.expression_names)) == 53
    assert {"eyeBlinkLeft", "jawOpen", "browInnerUpRight", "mouthSmileRight"} <= set(model.expression_names)


def test_joints(model: HeadModel, shared: Path) -> None:
    joints = model.joints(torch.zeros(100))
    assert torch.allclose(joints[0], model.template.mean(0), atol=1e-6)
    # Eyes: every vertex of the sclera as far from its joint as any other, nearly.
    sclera = model.template[21451:22221]
    radius = (sclera - joints[3]).norm(dim=-1)
    assert 0.0150 < radius.mean() < 0.0165
    assert radius.std() < 0.0008
    assert torch.allclose(joints[3] * torch.tensor([-1.0, 1.0, 1.0]), joints[4], atol=1e-6)
    # Jaw: turning the joint by the angle of jawOpen moves the lower teeth as jawOpen does.
    which = model.expression_names.index("jawOpen")
    opened = model.vertices(model.neutral().with_(expression=torch.eye(53)[which]))
    turned = model.vertices(model.neutral().with_(jaw=torch.tensor([np.radians(25.334), 0, 0]).float()))
    lower = model.face_parts == PARTS.index("lower_teeth")
    teeth = model.faces[lower].unique()
    assert (opened - model.template)[teeth].norm(dim=-1).mean() > 0.02
    assert (opened - turned)[teeth].norm(dim=-1).max() < 0.0003
    upper = model.faces[model.face_parts == PARTS.index("upper_teeth")].unique()
    assert torch.equal(model.skin_weights[upper, 2], torch.zeros(len(upper)))
    # Joints follow the head's size and place.
    moved = model.joint_regressor @ (model.template * 1.1 + torch.tensor([0.1, 0.2, 0.3]))
    assert torch.allclose(moved, joints * 1.1 + torch.tensor([0.1, 0.2, 0.3]), atol=1e-6)


def test_skinning(model: HeadModel) -> None:
    assert torch.allclose(model.skin_weights.sum(-1), torch.ones(len(model.template)), atol=1e-6)
    assert model.skin_weights.min() >= 0
    face = model.regions["face"]
    nodded = model.vertices(model.neutral().with_(neck=torch.tensor([0.2, 0.0, 0.0])))
    skin = model.faces[model.face_parts == 0].sort(-1).values
    edges, count = torch.cat([skin[:, :2], skin[:, 1:], skin[:, ::2]]).unique(dim=0, return_counts=True)
    rim = edges[count == 1].unique()
    rim = rim[model.template[rim, 1] < -0.09]
    assert len(rim) == 54
    assert torch.allclose(nodded[rim], model.template[rim], atol=1e-6)  # the cut at the bottom stays
    # The face turns as one piece.
    a, b = model.template[face], nodded[face]
    assert (torch.pdist(a[::40]) - torch.pdist(b[::40])).abs().max() < 1e-4
    looked = model.vertices(model.neutral().with_(eyes=torch.tensor([[0.0, 0.3, 0.0], [0.0, 0.0, 0.0]])))
    moved = (looked - model.template).norm(dim=-1) > 1e-6
    assert moved.sum() > 1500
    assert not moved[~model.regions["left_eye"]].any()


def test_texture_atlas_does_not_overlap(model: HeadModel) -> None:
    assert 0 <= model.uvs.min() and model.uvs.max() <= 1
    corners = model.uvs[model.uv_faces]
    centre = corners.mean(1)
    boxes = []
    for part in ("skin", "left_eye", "right_eye", "upper_teeth", "gums and tongue", "lashes"):
        mine = centre[model.face_parts == PARTS.index(part)]
        boxes.append((part, mine.min(0).values, mine.max(0).values))
    for i, (_, low, high) in enumerate(boxes):
        for part, other_low, other_high in boxes[i + 1 :]:
            if boxes[i][0] != "skin":  # the skin fills two cells
                assert bool(((low > other_high) | (other_low > high)).any()), part
    face = model.faces[model.face_parts == 0]
    inside = model.regions["face"][face].all(-1)
    low = corners[model.face_parts == 0][inside].flatten(0, 1)
    assert low[:, 0].max() < 0.75 and low[:, 1].min() > 0.25


def test_wrong_files(few: IctArrays, clone: Path, shared: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingAssetError, match="headlab assets add"):
        load_ict(tmp_path / "ICT")
    with pytest.raises(HeadlabError, match=r"vertex_indices\.json"):
        load_ict(tmp_path)
    with pytest.raises(HeadlabError, match="no ICT-FaceKit npz"):
        load_ict(shared / "parity/geometry/flame_forward.npz")
    with pytest.raises(HeadlabError, match="no ICT-FaceKit light model"):
        shapes = few.identities[:, :100], few.expressions[:, :100]
        save_ict(
            replace(few, neutral=few.neutral[:100], identities=shapes[0], expressions=shapes[1]), tmp_path / "small.npz"
        )
        load_ict(tmp_path / "small.npz")
    with pytest.raises(HeadlabError, match="jawOpen"):
        save_ict(replace(few, expressions=few.expressions[:2], expression_names=EXPRESSIONS[:2]), tmp_path / "no.npz")
        load_ict(tmp_path / "no.npz")
    broken = tmp_path / "FaceXModel"
    broken.mkdir()
    for file in (clone / "FaceXModel").iterdir():
        (broken / file.name).symlink_to(file)
    (broken / "jawOpen.obj").unlink()
    with pytest.raises(HeadlabError, match=r"jawOpen\.obj cannot be read"):
        load_ict(broken)
    (broken / "jawOpen.obj").write_text("v 1 2 3\nv 1 x 3\n")
    with pytest.raises(HeadlabError, match="damaged"):
        load_ict(broken)
    (broken / "jawOpen.obj").write_text("v 1 2 3\n")
    with pytest.raises(HeadlabError, match="has 1 vertices"):
        load_ict(broken)
    (broken / "vertex_indices.json").unlink()
    (broken / "vertex_indices.json").write_text(json.dumps({"expressions": ["../x"], "idx_to_landmark_verts": [1]}))
    with pytest.raises(HeadlabError, match="no file names"):
        load_ict(broken)
