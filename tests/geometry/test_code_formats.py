"""Other tools' layouts: exact round trips, golden DECA meshes and projections, refusals."""

from pathlib import Path

import numpy as np
import pytest
import roma
import torch
from synthetic import tiny_head

from headlab.geometry.camera import FRONTAL, Camera, WeakPerspective
from headlab.geometry.code import HeadCode
from headlab.geometry.code_formats import (
    EYE_RANGE,
    arkit_weights,
    camera_from_gl,
    camera_to_world_gl,
    from_arkit,
    from_deca,
    from_smirk,
    from_vhap,
    resized,
    to_deca,
    to_smirk,
    to_vhap,
    with_eyelids,
)
from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.arkit import ARKIT_ACTIONS
from headlab.geometry.models.flame import load_flame


def draw(seed: int, **lengths: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(5, n, generator=generator) for name, n in lengths.items()}


def same(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_tools_round_trip_bit_for_bit():
    deca = draw(0, shape=100, exp=50, pose=6, cam=3, tex=50, detail=128) | {"light": torch.randn(5, 9, 3)}
    same(to_deca(*from_deca(deca)), deca)
    lengths = {"shape_params": 300, "expression_params": 50, "pose_params": 3, "cam": 3, "jaw_params": 3}
    smirk = draw(1, **lengths, eyelid_params=2)
    same(to_smirk(*from_smirk(smirk)), smirk)
    vhap = draw(2, translation=3, rotation=3, neck_pose=3, jaw_pose=3, eyes_pose=6, expr=100)
    vhap["shape"] = torch.randn(300)
    same(to_vhap(from_vhap(vhap)), vhap)
    codes = from_vhap(vhap)
    assert torch.equal(codes.eyes[:, 0], vhap["eyes_pose"][:, :3])  # the left eye first
    same(from_vhap(to_vhap(codes)).arrays(), codes.arrays())


def test_deca_codes_give_the_authors_mesh_and_projection(shared: Path):
    folder = shared / "parity/geometry"
    with np.load(folder / "deca_decode.npz") as file:
        golden = {key: torch.from_numpy(file[key]) for key in ("shape", "exp", "pose", "cam", "verts")}
        projected = torch.from_numpy(file["trans_verts_projected"])
    model = load_flame(folder / "flame_like.pkl")
    code, camera = from_deca(golden)
    torch.testing.assert_close(model.vertices(code), golden["verts"], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(camera.project_ndc(golden["verts"])[..., :2], projected[..., :2], atol=1e-4, rtol=1e-4)
    # The same head through VHAP's layout.
    again = from_vhap(to_vhap(resized(code[:1], 300, 100)))
    torch.testing.assert_close(model.vertices(again), golden["verts"][:1], atol=2e-5, rtol=1e-4)


def test_weak_perspective_takes_up_the_translation():
    code, camera = from_deca(draw(3, shape=100, exp=50, pose=6, cam=3))
    points = torch.randn(5, 40, 3)
    moved = code.with_(translation=torch.randn(5, 3))
    placed = WeakPerspective(to_deca(moved, camera)["cam"])
    want = camera.project_ndc(points + moved.translation[:, None])
    torch.testing.assert_close(placed.project_ndc(points)[..., :2], want[..., :2])


def test_nothing_is_lost_silently():
    code, camera = from_deca(draw(4, shape=100, exp=50, pose=6, cam=3))
    with pytest.raises(HeadlabError, match="neck"):
        to_deca(code.with_(neck=torch.ones(5, 3)), camera)
    with pytest.raises(HeadlabError, match="300 shape"):
        to_deca(code.with_(shape=torch.ones(5, 300)), camera)
    assert to_deca(code.with_(shape=torch.ones(5, 300)), camera, cut=True)["shape"].shape == (5, 100)
    assert torch.equal(resized(resized(code, 300, 100), 100, 50).shape, code.shape)
    with pytest.raises(HeadlabError, match="one person"):
        to_vhap(code)
    with pytest.raises(HeadlabError, match="lack exp"):
        from_deca({"shape": torch.zeros(100)})
    with pytest.raises(HeadlabError, match="50 numbers"):
        from_deca(draw(5, shape=100, exp=49, pose=6, cam=3))
    vhap = draw(2, translation=3, rotation=3, neck_pose=3, jaw_pose=3, eyes_pose=6, expr=100, shape=300)
    with pytest.raises(HeadlabError, match="static_offset"):
        from_vhap(vhap | {"static_offset": torch.ones(1, 5143, 3)})


def test_opengl_cameras():
    torch.manual_seed(0)
    R = roma.random_rotmat(4, dtype=torch.float64)
    camera = Camera(torch.eye(3, dtype=torch.float64), R, torch.randn(4, 3, dtype=torch.float64), (4, 6))
    matrix = camera_to_world_gl(camera)
    point = torch.randn(4, 3, dtype=torch.float64)
    homogeneous = torch.cat([point, torch.ones(4, 1, dtype=torch.float64)], -1)
    in_gl = torch.linalg.solve(matrix, homogeneous)[:, :3]
    in_cv = camera.to_camera(point[:, None])[:, 0]
    torch.testing.assert_close(in_gl, in_cv * torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    back = camera_from_gl(matrix, camera.K, camera.size)
    torch.testing.assert_close(back.R, camera.R)
    torch.testing.assert_close(back.t, camera.t)
    # VHAP's default camera: at (0, 0, 1), looking at the origin.
    default = Camera(torch.eye(3), torch.tensor(FRONTAL), torch.tensor([0.0, 0.0, 1.0]), (4, 4))
    want = torch.eye(4)
    want[2, 3] = 1
    torch.testing.assert_close(camera_to_world_gl(default), want)


def test_eyelids_move_the_lids(shared: Path):
    model = load_flame(shared / "parity/geometry/flame_like.pkl")
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(len(model.template), 3, generator=generator) * 1e-3 for _ in range(2))
    lidded = with_eyelids(model, left, right)
    lengths = {"shape_params": 300, "expression_params": 50, "pose_params": 3, "cam": 3, "jaw_params": 3}
    smirk = {name: torch.zeros(1, n) for name, n in lengths.items()} | {"eyelid_params": torch.tensor([[0.7, 0.2]])}
    code, _ = from_smirk(smirk)
    code = resized(code, model.shapes, lidded.expressions)
    moved = lidded.vertices(code)[0] - model.template
    torch.testing.assert_close(moved, 0.7 * left + 0.2 * right, atol=1e-6, rtol=1e-4)
    with pytest.raises(HeadlabError, match="eyelids"):
        with_eyelids(lidded, left, right)


def test_arkit_round_trip_and_signs(default_head):
    weights = torch.rand(6, 52, generator=torch.Generator().manual_seed(0))
    code = from_arkit(default_head, weights)
    assert torch.equal(arkit_weights(default_head, code), weights)
    still = torch.zeros(52)
    still[ARKIT_ACTIONS.index("eyeLookOutLeft")] = still[ARKIT_ACTIONS.index("eyeLookInRight")] = 1.0
    eyes = from_arkit(default_head, still).eyes
    assert eyes[0, 1] == eyes[1, 1] == pytest.approx(EYE_RANGE)
    ahead = torch.tensor([0.0, 0.0, 1.0])
    assert (roma.rotvec_to_rotmat(eyes[0]) @ ahead)[0] > 0.4  # to the subject's left
    down = torch.zeros(52)
    down[ARKIT_ACTIONS.index("eyeLookDownRight")] = 1.0
    assert (roma.rotvec_to_rotmat(from_arkit(default_head, down).eyes[1]) @ ahead)[1] < -0.4
    # A fitted head has its gaze in the joints alone.
    fitted = default_head.neutral().with_(eyes=torch.tensor([[-0.1, 0.2, 0.0], [-0.1, 0.2, 0.0]]))
    curves = dict(zip(ARKIT_ACTIONS, arkit_weights(default_head, fitted).tolist(), strict=True))
    assert {n for n, w in curves.items() if w} == {
        "eyeLookUpLeft",
        "eyeLookUpRight",
        "eyeLookOutLeft",
        "eyeLookInRight",
    }
    assert curves["eyeLookOutLeft"] == pytest.approx(0.2 / EYE_RANGE)
    again = from_arkit(default_head, arkit_weights(default_head, fitted), fitted)
    torch.testing.assert_close(again.eyes, fitted.eyes)


def test_arkit_needs_its_names():
    model = tiny_head()
    with pytest.raises(HeadlabError, match="ARKit"):
        arkit_weights(model, model.neutral())
    with pytest.raises(HeadlabError, match="has no browDownLeft"):
        from_arkit(model, torch.ones(52, dtype=torch.float64))
    assert isinstance(from_arkit(model, torch.zeros(52, dtype=torch.float64)), HeadCode)
