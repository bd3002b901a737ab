"""FLAME against DECA's and EMOCA's own outputs."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

from headlab.geometry.code import HeadCode
from headlab.geometry.errors import HeadlabError, MissingAssetError
from headlab.geometry.models.flame import load_flame
from headlab.geometry.models.flame_landmarks import contour_bin, flame_landmarks, visible_landmarks
from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.raster import vertex_normals
from headlab.geometry.safe_pickle import UnsafePickleError

#: Upstream's own float32 and float64 runs differ by 4e-8 (values) and 1.2e-6 (gradients, relative): a few of those.
VALUES, GRADIENTS = 2e-7, 5e-6


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "parity/geometry/flame_forward.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def model(shared: Path) -> HeadModel:
    folder = shared / "parity/geometry"
    return load_flame(
        folder / "flame_like.pkl",
        landmark_embedding=folder / "landmark_embedding.npy",
        mediapipe_embedding=folder / "mediapipe_landmark_embedding.npz",
        uv=folder / "flame_texture_tiny_flame.npz",
    )


def code_of(golden: dict[str, np.ndarray], neck: bool = False, eyes: bool = True) -> HeadCode:
    """DECA's parameters: 100 shape, 50 expression, global and jaw, eyes; one neck for all."""
    value = {key: torch.from_numpy(golden[key]) for key in ("shape", "exp", "pose", "eye_pose", "neck_pose")}
    count = len(value["shape"])
    return HeadCode(
        shape=value["shape"],
        expression=value["exp"],
        rotation=value["pose"][:, :3],
        neck=value["neck_pose"].expand(count, 3) if neck else torch.zeros(count, 3),
        jaw=value["pose"][:, 3:],
        eyes=value["eye_pose"].reshape(-1, 2, 3) if eyes else torch.zeros(count, 2, 3),
        translation=torch.zeros(count, 3),
    )


def close(ours: torch.Tensor, theirs: np.ndarray, tolerance: float = VALUES) -> bool:
    return bool((ours.detach() - torch.from_numpy(theirs)).abs().max() <= tolerance)


@pytest.mark.parametrize(
    "suffix, neck, eyes", [("", False, True), ("_default_eye", False, False), ("_neck", True, True)]
)
def test_forward(model: HeadModel, golden, suffix: str, neck: bool, eyes: bool) -> None:
    code = code_of(golden, neck, eyes)
    vertices = model.vertices(code)
    points = flame_landmarks(model, code, vertices)
    assert close(vertices, golden[f"vertices{suffix}"])
    assert close(points.landmarks2d, golden[f"landmarks2d{suffix}"])
    if f"landmarks3d{suffix}" in golden:
        assert close(points.landmarks3d, golden[f"landmarks3d{suffix}"])
    if not suffix:
        rotation, offset = model.transforms(code)
        rest = model.joints(code.shape, code.expression)
        assert close((rotation @ rest.unsqueeze(-1)).squeeze(-1) + offset, golden["joints"])


def test_mediapipe_landmarks(model: HeadModel, golden, shared: Path) -> None:
    expected = np.load(shared / "parity/geometry/flame_forward_mediapipe.npz")["landmarks2d_mediapipe"]
    points = flame_landmarks(model, code_of(golden)).landmarks_mediapipe
    assert points is not None
    assert close(points, expected)


def test_contour_rows(model: HeadModel, golden) -> None:
    rotations = model.joint_rotations(code_of(golden))
    assert contour_bin(rotations[:, 0] @ rotations[:, 1]).tolist() == golden["yaw_bin"].tolist()
    degrees = torch.tensor([0.0, 0.5, 1.5, 38.6, 39.4, 80.0, -0.4, -0.6, -39.4, -39.6, -80.0], dtype=torch.float64)
    angle = torch.deg2rad(degrees)
    turn = torch.eye(3, dtype=torch.float64).repeat(len(angle), 1, 1)
    turn[:, 0, 0] = turn[:, 2, 2] = angle.cos()
    turn[:, 0, 2], turn[:, 2, 0] = angle.sin(), -angle.sin()
    assert contour_bin(turn).tolist() == [0, 0, 2, 39, 39, 39, 0, 40, 78, 78, 78]


@pytest.mark.parametrize("batch", [(), (1,), (2, 3)])
def test_batch_axes_are_free(model: HeadModel, golden, batch: tuple[int, ...]) -> None:
    count = int(np.prod(batch))
    code = code_of(golden)[:count].map(lambda v: v.reshape(*batch, *v.shape[1:]))
    points = flame_landmarks(model, code)
    assert points.landmarks2d.shape == (*batch, 68, 3)
    assert close(points.landmarks2d.reshape(-1, 68, 3), golden["landmarks2d"][:count])


def test_normals_and_visibility(model: HeadModel, golden) -> None:
    normals = vertex_normals(torch.from_numpy(golden["vertices"]), model.faces)
    assert close(normals, golden["vertex_normals"], 2e-5)
    visible = visible_landmarks(model, torch.from_numpy(golden["vertex_normals"]))
    assert torch.equal(visible.float(), torch.from_numpy(golden["landmark68_visible"][..., 0]))


def test_gradients(model: HeadModel, golden) -> None:
    code = code_of(golden)
    code = code.map(lambda v: v.clone().requires_grad_())
    vertices = model.vertices(code)
    points = flame_landmarks(model, code, vertices)
    random = np.random.RandomState(7)
    loss = torch.zeros(())
    for value in (vertices, points.landmarks2d, points.landmarks3d):
        loss = loss + (value * torch.from_numpy(random.randn(*value.shape).astype(np.float32))).sum()
    loss.backward()
    assert abs(float(loss.detach()) - float(golden["grad_loss"])) < 1e-4
    ours = {
        "grad_shape": code.shape.grad,
        "grad_exp": code.expression.grad,
        "grad_pose": torch.cat([code.rotation.grad, code.jaw.grad], -1),
        "grad_eye_pose": code.eyes.grad.flatten(1),
    }
    for name, gradient in ours.items():
        scale = np.abs(golden[name]).max()
        assert close(gradient / scale, golden[name] / scale, GRADIENTS), name


def test_texture_coordinates(model: HeadModel, shared: Path) -> None:
    with np.load(shared / "parity/geometry/flame_texture_tiny_flame.npz") as file:
        assert np.array_equal(model.uvs, file["vt"])
        assert np.array_equal(model.uv_faces, file["ft"])


def write(path: Path, shared: Path, **changes) -> Path:
    """A plain-array FLAME pickle of today's numpy and scipy, with some keys changed (None: left out)."""
    with np.load(shared / "parity/geometry/flame_like_expected.npz") as file:
        data = {key: file[key] for key in file.files if key != "parents"}
    data["J_regressor"] = scipy.sparse.csc_matrix(data["J_regressor"])
    data["kintree_table"] = data["kintree_table"].astype(np.int64)
    data["kintree_table"][0, 0] = -1
    data |= changes
    path.write_bytes(pickle.dumps({key: value for key, value in data.items() if value is not None}))
    return path


def test_plain_pickle_of_2023(model: HeadModel, shared: Path, tmp_path: Path) -> None:
    plain = load_flame(write(tmp_path / "flame2023_no_jaw.pkl", shared), shapes=100, expressions=50)
    assert torch.equal(plain.template, model.template)
    assert torch.equal(plain.shape_basis, model.shape_basis[..., :100])
    assert torch.equal(plain.expression_basis, model.expression_basis[..., :50])
    assert torch.equal(plain.joint_regressor, model.joint_regressor)
    assert plain.parents == model.parents == (-1, 0, 1, 1, 1)
    assert len(plain.expression_names) == 50
    with pytest.raises(HeadlabError, match="headlab assets add"):
        flame_landmarks(plain, plain.neutral())


def test_wrong_files(shared: Path, tmp_path: Path) -> None:
    folder = shared / "parity/geometry"
    with pytest.raises(MissingAssetError, match=r"headlab assets add"):
        load_flame(tmp_path / "generic_model.pkl")
    whole = (folder / "flame_like.pkl").read_bytes()
    (tmp_path / "short.pkl").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(HeadlabError, match="damaged"):
        load_flame(tmp_path / "short.pkl")
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(HeadlabError, match=r"no FLAME model: v_template.*expected, list found"):
        load_flame(tmp_path / "list.pkl")
    with pytest.raises(HeadlabError, match="shapedirs expected, a dict with"):
        load_flame(write(tmp_path / "part.pkl", shared, shapedirs=None))
    with pytest.raises(HeadlabError, match="a body or hand model"):
        load_flame(write(tmp_path / "body.pkl", shared, weights=np.zeros((486, 24)), kintree_table=np.zeros((2, 24))))
    with pytest.raises(HeadlabError, match="shapedirs"):
        load_flame(write(tmp_path / "small.pkl", shared, shapedirs=np.zeros((486, 3, 10))))
    with pytest.raises(HeadlabError, match=r"npz|pickle"):
        load_flame(folder / "flame_forward.npz")
    with pytest.raises(HeadlabError, match="no landmark table"):
        load_flame(
            write(tmp_path / "f.pkl", shared, f=np.array([[0, 1, 2]])),
            landmark_embedding=folder / "landmark_embedding.npy",
        )
    with pytest.raises(HeadlabError, match="no MediaPipe landmark table"):
        load_flame(folder / "flame_like.pkl", mediapipe_embedding=folder / "flame_forward.npz")
    with pytest.raises(HeadlabError, match="no texture coordinates"):
        load_flame(folder / "flame_like.pkl", uv=folder / "flame_forward.npz")


def test_malicious_is_refused(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsafePickleError):
        load_flame(shared / "parity/geometry/malicious.pkl")
    assert list(tmp_path.iterdir()) == []


def test_template_obj_and_masks(model: HeadModel, shared: Path, tmp_path: Path) -> None:
    lines = [f"v {x} {y} {z}" for x, y, z in model.template.tolist()]
    lines += [f"vt {u} {v}" for u, v in model.uvs.tolist()]
    rows = zip((model.faces + 1).tolist(), (model.uv_faces + 1).tolist(), strict=True)
    lines += ["f " + " ".join(f"{a}/{b}" for a, b in zip(*row, strict=True)) for row in rows]
    (tmp_path / "head_template.obj").write_text("\n".join(lines))
    masks = {"face": np.array([1, 5, 7], dtype=np.uint32), "neck": np.array([2])}
    (tmp_path / "FLAME_masks.pkl").write_bytes(pickle.dumps(masks, protocol=2))
    again = load_flame(
        shared / "parity/geometry/flame_like.pkl",
        uv=tmp_path / "head_template.obj",
        masks=tmp_path / "FLAME_masks.pkl",
    )
    assert torch.allclose(again.uvs, model.uvs)
    assert torch.equal(again.uv_faces, model.uv_faces)
    assert again.regions["face"].nonzero().flatten().tolist() == [1, 5, 7]
    assert replace(again, regions={}).landmarks == {}
