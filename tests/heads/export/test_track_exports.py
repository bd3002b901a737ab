"""Animated GLB evaluated by hand, Live Link Face's columns, VHAP's folder."""

import csv
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import roma
import torch
from riggable import random_code

from headlab.geometry.camera import Camera
from headlab.geometry.code import HeadCode
from headlab.geometry.code_formats import arkit_weights, camera_from_gl, from_vhap
from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.flame import load_flame
from headlab.heads.export.animation import write_animated_glb
from headlab.heads.export.arkit_csv import COLUMNS, read_arkit_csv, timecode, write_arkit_csv, yaw_pitch_roll
from headlab.heads.export.vhap import is_flame, write_vhap

_spec = importlib.util.spec_from_file_location("glb_reader", Path(__file__).with_name("test_glb.py"))
assert _spec is not None and _spec.loader is not None
glb = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(glb)

TIMES = np.array([0.5, 0.54, 0.58, 0.7, 0.74])


def motion(model, count: int = 5) -> HeadCode:
    rows = [random_code(model, seed) for seed in range(count)]
    codes = HeadCode(**{name: torch.stack([row.arrays()[name] for row in rows]) for name in rows[0].arrays()})
    return codes.with_(shape=codes.shape[:1].expand(count, -1))


@pytest.fixture
def camera() -> Camera:
    return Camera.frontal(900.0, (480, 640))


def test_every_key_frame_evaluates_to_the_model(tmp_path, small_head, albedo, camera):
    codes = motion(small_head)
    write_animated_glb(tmp_path / "a.glb", small_head, codes, TIMES, albedo, camera=camera)
    file = glb.GltfFile(tmp_path / "a.glb")
    [animation] = file.gltf.animations
    tracks = {}
    for channel in animation.channels:
        sampler = animation.samplers[channel.sampler]
        assert sampler.interpolation == "LINEAR"
        np.testing.assert_allclose(file.accessor(sampler.input)[:, 0], TIMES - 0.5, atol=1e-6)
        name = file.gltf.nodes[channel.target.node].name
        tracks[name, channel.target.path] = file.accessor(sampler.output)
    weights = tracks.pop(("head", "weights")).reshape(len(TIMES), -1)
    places = tracks.pop(("root", "translation"))
    rest = np.array(file.gltf.nodes[file.nodes["root"]].translation)
    for (_, path), turns in tracks.items():
        assert path == "rotation" and ((turns[1:] * turns[:-1]).sum(1) > 0).all()  # the short way between frames
    for i in range(len(TIMES)):
        turned = {name: glb._matrix(turns[i]) for (name, _), turns in tracks.items()}
        found = file.corners(weights[i], file.joint_matrices(turned, places[i] - rest))
        glb._same(found, glb._expected(small_head, small_head.vertices(codes[i])), 2e-6)
    lens = file.gltf.cameras[0].perspective
    assert np.tan(lens.yfov / 2) * 900 == pytest.approx(240) and lens.aspectRatio == pytest.approx(4 / 3)


def test_validator_has_no_errors_or_warnings(tmp_path, small_head, bare_head, albedo, camera, node_modules):
    write_animated_glb(tmp_path / "a.glb", small_head, motion(small_head), TIMES, albedo, camera=camera)
    write_animated_glb(tmp_path / "b.glb", bare_head, motion(bare_head), TIMES)
    write_animated_glb(tmp_path / "c.glb", small_head, motion(small_head, 1), TIMES[:1], albedo)
    for file, issues in glb.validate(node_modules, sorted(tmp_path.glob("*.glb"))).items():
        assert issues["numErrors"] + issues["numWarnings"] == 0, (file, issues["messages"])


def test_animation_refuses_what_it_cannot_write(tmp_path, small_head):
    codes = motion(small_head)
    with pytest.raises(ValueError, match="times growing"):
        write_animated_glb(tmp_path / "a.glb", small_head, codes, TIMES[::-1].copy())
    with pytest.raises(HeadlabError, match="not finite"):
        broken = codes.with_(expression=codes.expression * float("nan"))
        write_animated_glb(tmp_path / "a.glb", small_head, broken, TIMES)
    assert not list(tmp_path.iterdir())


def test_arkit_csv(tmp_path, default_head):
    codes = default_head.neutral((5,))
    generator = torch.Generator().manual_seed(0)
    codes = codes.with_(
        expression=torch.rand(5, 52, generator=generator),
        rotation=torch.randn(5, 3, generator=generator) * 0.3,
    )
    write_arkit_csv(tmp_path / "a.csv", default_head, codes, TIMES, 25)
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 and len(rows[0]) == 63 and rows[0]["BlendShapeCount"] == "61"
    assert len(set(COLUMNS)) == 52 and rows[0]["Timecode"] == "00:00:00:12.500"
    place = default_head.expression_names.index("jawOpen")
    assert float(rows[2]["JawOpen"]) == pytest.approx(float(codes.expression[2, place]), abs=1e-6)
    codes_back = [float(rows[1][f"Head{name}"]) for name in ("Yaw", "Pitch", "Roll")]
    np.testing.assert_allclose(codes_back, yaw_pitch_roll(codes.rotation[1].double()), atol=1e-6)
    stamps, curves = read_arkit_csv(tmp_path / "a.csv")
    assert stamps[0] == rows[0]["Timecode"]
    np.testing.assert_allclose(curves, arkit_weights(default_head, codes).clamp(0, 1), atol=1e-6)
    (tmp_path / "b.csv").write_text("a,b\n1,2\n")
    with pytest.raises(HeadlabError, match="not a CSV of ARKit"):
        read_arkit_csv(tmp_path / "b.csv")


def test_angles_and_timecodes():
    angles = torch.tensor([0.4, -0.3, 0.2], dtype=torch.float64)
    R = roma.euler_to_rotmat("YXZ", angles)
    torch.testing.assert_close(yaw_pitch_roll(roma.rotmat_to_rotvec(R)), angles)
    assert timecode(3661.5, 30) == "01:01:01:15.000"
    assert timecode(0.99999999, 25) == "00:00:01:00.000"


def test_vhap_folder(tmp_path, shared, camera):
    flame = load_flame(shared / "parity/geometry/flame_like.pkl", name="flame2023")
    assert is_flame(flame)
    codes = motion(flame).with_(translation=torch.randn(5, 3) * 0.05 + torch.tensor([0.0, 0.0, -0.7]))
    pictures = [np.full((480, 640, 3), i, np.uint8) for i in range(5)]
    seen = [True, True, False, True, True]
    write_vhap(tmp_path / "v", flame, "flame2023", codes, (camera,) * 5, TIMES, seen, pictures)
    document = json.loads((tmp_path / "v/transforms.json").read_text())
    assert document["model"] == "flame2023" and [f["tracked"] for f in document["frames"]] == seen
    for i, frame in enumerate(document["frames"]):
        with np.load(tmp_path / "v" / frame["flame_param_path"]) as file:
            params = {name: torch.from_numpy(file[name]) for name in file.files}
        assert params["expr"].shape == (1, 100) and params["shape"].shape == (300,)
        code = from_vhap(params)[0].with_(shape=params["shape"][: flame.shapes])
        code = code.with_(expression=code.expression[: flame.expressions])
        K = torch.tensor([[frame["fl_x"], 0, frame["cx"]], [0, frame["fl_y"], frame["cy"]], [0, 0, 1.0]])
        view = camera_from_gl(torch.tensor(frame["transform_matrix"]), K, (frame["h"], frame["w"]))
        torch.testing.assert_close(
            view.project(flame.vertices(code)), camera.project(flame.vertices(codes[i])), atol=2e-2, rtol=1e-4
        )
        assert (tmp_path / "v" / frame["file_path"]).is_file()
    parts = [json.loads((tmp_path / f"v/transforms_{p}.json").read_text())["frames"] for p in ("train", "test")]
    assert len(parts[0]) + len(parts[1]) == 5
    with np.load(tmp_path / "v/canonical_flame_param.npz") as file:
        np.testing.assert_allclose(file["jaw_pose"], [[0.3, 0, 0]], atol=1e-7)


def test_other_models_say_so(tmp_path, small_head, camera):
    codes = motion(small_head)
    write_vhap(tmp_path, small_head, "default", codes, (camera,) * 5, TIMES, [True] * 5)
    document = json.loads((tmp_path / "transforms.json").read_text())
    assert document["model"] == "default" and document["expression_names"] == list(small_head.expression_names)
    assert "flame_param_path" not in document["frames"][0] and (tmp_path / "head_param/00004.npz").is_file()
    assert not (tmp_path / "images").exists()
    assert not is_flame(replace(small_head, joints_follow_expression=True))
