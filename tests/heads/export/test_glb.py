"""GLB: validator, round trip, and the file evaluated by numpy against HeadModel."""

import json
import os
import subprocess
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pygltflib
import pytest
import torch
import trimesh
from PIL import Image
from riggable import random_code

from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.default import load_default_head
from headlab.heads.export import write_glb

_DTYPES = {5121: np.uint8, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_SIZES = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class GltfFile:
    """A reader and evaluator of its own, written from the glTF 2.0 specification."""

    def __init__(self, path: Path):
        self.gltf = pygltflib.GLTF2.load_binary(str(path))
        self.blob = self.gltf.binary_blob()
        self.nodes = {node.name: i for i, node in enumerate(self.gltf.nodes)}

    def _take(self, view: int, offset: int | None, dtype: type, count: int) -> np.ndarray:
        start = self.gltf.bufferViews[view].byteOffset + (offset or 0)
        return np.frombuffer(self.blob, dtype, count, start)

    def accessor(self, index: int) -> np.ndarray:
        a = self.gltf.accessors[index]
        size, dtype = _SIZES[a.type], _DTYPES[a.componentType]
        out = np.zeros((a.count, size), dtype)
        if a.bufferView is not None:
            out[:] = self._take(a.bufferView, a.byteOffset, dtype, a.count * size).reshape(-1, size)
        if a.sparse is not None:
            n, where, what = a.sparse.count, a.sparse.indices, a.sparse.values
            rows = self._take(where.bufferView, where.byteOffset, _DTYPES[where.componentType], n)
            out[rows] = self._take(what.bufferView, what.byteOffset, dtype, n * size).reshape(-1, size)
        return out

    def joint_matrices(self, rotations: dict[str, np.ndarray], shift: np.ndarray) -> np.ndarray:
        """World matrix times inverse bind per joint, nodes turned as given (matrices) and the root shifted."""
        nodes, skin = self.gltf.nodes, self.gltf.skins[0]
        world: dict[int, np.ndarray] = {}

        def visit(index: int, parent: np.ndarray) -> None:
            node = nodes[index]
            local = np.eye(4)
            if node.rotation:
                local[:3, :3] = _matrix(np.array(node.rotation))
            local[:3, 3] = node.translation or 0
            if node.name in rotations:
                local[:3, :3] = rotations[node.name]
            if node.name == "root":
                local[:3, 3] += shift
            world[index] = parent @ local
            for child in node.children or []:
                visit(child, world[index])

        for root in self.gltf.scenes[0].nodes:
            visit(root, np.eye(4))
        binds = self.accessor(skin.inverseBindMatrices).reshape(-1, 4, 4).transpose(0, 2, 1)
        return np.stack([world[j] @ bind for j, bind in zip(skin.joints, binds, strict=True)])

    def corners(self, weights: np.ndarray, matrices: np.ndarray) -> list[np.ndarray]:
        """Posed positions of the triangles' corners, (faces, 3, 3), per primitive."""
        found = []
        for part in self.gltf.meshes[0].primitives:
            points = self.accessor(part.attributes.POSITION).astype(np.float64)
            for weight, target in zip(weights, part.targets, strict=True):
                points = points + weight * self.accessor(_attribute(target, "POSITION"))
            joints, skin = self.accessor(part.attributes.JOINTS_0), self.accessor(part.attributes.WEIGHTS_0)
            blend = (matrices[joints] * skin[:, :, None, None]).sum(1)
            points = (blend @ np.concatenate([points, np.ones((len(points), 1))], 1)[..., None])[:, :3, 0]
            found.append(points[self.accessor(part.indices).reshape(-1, 3)])
        return found


def _attribute(target, name: str) -> int:
    return target[name] if isinstance(target, dict) else getattr(target, name)


def _matrix(q: np.ndarray) -> np.ndarray:
    x, y, z, w = q
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _rodrigues(vector: torch.Tensor) -> np.ndarray:
    angle = float(vector.norm())
    x, y, z = (vector / max(angle, 1e-12)).tolist()
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _expected(model, vertices: torch.Tensor) -> list[np.ndarray]:
    parts = torch.zeros(len(model.faces), dtype=torch.long) if model.face_parts is None else model.face_parts
    return [vertices[model.faces[parts == i]].numpy() for i in range(len(model.part_names))]


def _same(found: list[np.ndarray], expected: list[np.ndarray], tolerance: float) -> None:
    assert [x.shape for x in found] == [x.shape for x in expected]
    assert max(np.abs(a - b).max() for a, b in zip(found, expected, strict=True)) < tolerance


@pytest.mark.parametrize("seed", range(4))
def test_file_evaluates_to_the_model(tmp_path, small_head, albedo, seed):
    """Base, morph targets, skin and hierarchy, read back and driven by hand, give HeadModel.vertices."""
    shape = random_code(small_head, 100)
    write_glb(tmp_path / "head.glb", small_head, shape, albedo)
    file = GltfFile(tmp_path / "head.glb")
    code = random_code(small_head, seed).with_(shape=shape.shape)
    turned = {
        "root": code.rotation,
        "neck": code.neck,
        "jaw": code.jaw,
        "leftEye": code.eyes[0],
        "rightEye": code.eyes[1],
    }
    matrices = file.joint_matrices({k: _rodrigues(v) for k, v in turned.items()}, code.translation.numpy())
    _same(file.corners(code.expression.numpy(), matrices), _expected(small_head, small_head.vertices(code)), 1e-5)


@pytest.mark.parametrize("correctives", [False, True])
def test_posed_file_opens_as_fitted(tmp_path, small_head, correctives):
    model = small_head
    if correctives:
        basis = torch.randn(len(model.template), 3, 36, generator=torch.Generator().manual_seed(1)) * 1e-3
        model = replace(model, pose_basis=basis)
    code = random_code(model, 7)
    write_glb(tmp_path / "head.glb", model, code, neutral=False)
    file = GltfFile(tmp_path / "head.glb")
    weights = np.array(file.gltf.meshes[0].weights)
    _same(file.corners(weights, file.joint_matrices({}, np.zeros(3))), _expected(model, model.vertices(code)), 1e-5)


def test_neutral_file_carries_the_fit_in_extras(tmp_path, small_head):
    code = random_code(small_head, 3)
    write_glb(tmp_path / "head.glb", small_head, code)
    file = GltfFile(tmp_path / "head.glb")
    mesh = file.gltf.meshes[0]
    assert mesh.weights == [0.0] * small_head.expressions
    assert mesh.extras["targetNames"] == list(small_head.expression_names)
    assert mesh.extras["fittedWeights"] == pytest.approx(code.expression.tolist())
    jaw = file.gltf.nodes[file.nodes["jaw"]]
    assert jaw.rotation is None
    np.testing.assert_allclose(_matrix(np.array(jaw.extras["fittedRotation"])), _rodrigues(code.jaw), atol=1e-6)


def test_short_codes_stand_for_their_leading_components(tmp_path, small_head):
    code = random_code(small_head, 5)
    code = code.with_(shape=code.shape[:2], expression=code.expression[:3])
    write_glb(tmp_path / "head.glb", small_head, code, neutral=False)
    file = GltfFile(tmp_path / "head.glb")
    weights = np.array(file.gltf.meshes[0].weights)
    assert len(weights) == small_head.expressions
    expected = _expected(small_head, small_head.vertices(code))
    _same(file.corners(weights, file.joint_matrices({}, np.zeros(3))), expected, 1e-5)


def test_morphed_normals_are_those_of_the_morphed_surface(tmp_path, small_head):
    code = small_head.neutral()
    write_glb(tmp_path / "head.glb", small_head, code)
    file = GltfFile(tmp_path / "head.glb")
    vertices = small_head.shaped(code.shape, torch.eye(small_head.expressions)[3]).numpy()
    mesh = trimesh.Trimesh(vertices, small_head.faces.numpy(), process=False)
    normals = trimesh.geometry.weighted_vertex_normals(
        len(vertices), mesh.faces, mesh.face_normals, mesh.face_angles * 0 + mesh.area_faces[:, None]
    )
    for part, expected in zip(
        file.gltf.meshes[0].primitives, _expected(small_head, torch.tensor(normals)), strict=True
    ):
        found = file.accessor(part.attributes.NORMAL) + file.accessor(_attribute(part.targets[3], "NORMAL"))
        found = found[file.accessor(part.indices).reshape(-1, 3)]
        assert np.abs(found - expected).max() < 3e-3  # displacements below 2e-3 are dropped


def test_texture_is_looked_up_where_the_model_says(tmp_path, small_head, albedo):
    write_glb(tmp_path / "head.glb", small_head, small_head.neutral(), albedo, jpeg_quality=None)
    file = GltfFile(tmp_path / "head.glb")
    view = file.gltf.bufferViews[file.gltf.images[0].bufferView]
    picture = Image.open(BytesIO(file.blob[view.byteOffset : view.byteOffset + view.byteLength]))
    pixels = np.asarray(picture) / 255.0
    np.testing.assert_allclose(pixels, albedo.permute(1, 2, 0).numpy(), atol=0.5 / 255 + 1e-6)
    for i, part in enumerate(file.gltf.meshes[0].primitives):
        at = file.accessor(part.attributes.TEXCOORD_0)[file.accessor(part.indices).reshape(-1, 3)]
        expected = small_head.uvs[small_head.uv_faces[small_head.face_parts == i]].numpy()
        # glTF's v runs down the picture: its first row must be the model's v = 1.
        row, column = np.clip(at[..., 1] * 64, 0, 63).astype(int), np.clip(at[..., 0] * 128, 0, 127).astype(int)
        assert np.abs(pixels[row, column, 1] - (0.2 + 0.6 * expected[..., 1])).max() < 0.02
        assert np.abs(pixels[row, column, 0] - (0.2 + 0.6 * expected[..., 0])).max() < 0.02


def test_trimesh_round_trip_keeps_vertices(tmp_path, small_head, albedo):
    code = small_head.neutral().with_(shape=random_code(small_head, 2).shape)
    write_glb(tmp_path / "head.glb", small_head, code, albedo)
    scene = trimesh.load(tmp_path / "head.glb", process=False)
    found = [mesh.vertices[mesh.faces] for mesh in scene.geometry.values()]
    _same(found, _expected(small_head, small_head.vertices(code)), 1e-6)


def test_weights_fit_the_specification(tmp_path, small_head):
    write_glb(tmp_path / "head.glb", small_head, small_head.neutral())
    file = GltfFile(tmp_path / "head.glb")
    for part in file.gltf.meshes[0].primitives:
        joints, weights = file.accessor(part.attributes.JOINTS_0), file.accessor(part.attributes.WEIGHTS_0)
        assert np.abs(weights.sum(1, dtype=np.float64) - 1).max() < 2e-7
        assert (joints[weights == 0] == 0).all()


def test_open_parts_show_their_back_and_closed_ones_do_not(tmp_path, small_head):
    write_glb(tmp_path / "head.glb", small_head, small_head.neutral())
    materials = GltfFile(tmp_path / "head.glb").gltf.materials
    assert {m.name: m.doubleSided for m in materials} == {"skin": True, "eyes": False}


def test_vertex_colors_are_linear_light(tmp_path, bare_head):
    colors = torch.full((len(bare_head.template), 3), 0.5)
    write_glb(tmp_path / "head.glb", bare_head, bare_head.neutral(), vertex_colors=colors)
    file = GltfFile(tmp_path / "head.glb")
    found = file.accessor(file.gltf.meshes[0].primitives[0].attributes.COLOR_0) / 65535
    np.testing.assert_allclose(found[:, :3], 0.21404, atol=2e-5)  # sRGB one half in linear light
    np.testing.assert_allclose(found[:, 3], 1.0)


def test_damaged_code_and_batches_are_refused(tmp_path, small_head):
    code = small_head.neutral()
    with pytest.raises(HeadlabError, match="not finite"):
        write_glb(tmp_path / "head.glb", small_head, code.with_(jaw=torch.full((3,), float("nan"))))
    with pytest.raises(ValueError, match="one head"):
        write_glb(tmp_path / "head.glb", small_head, small_head.neutral((2,)))
    assert not list(tmp_path.iterdir())


_VALIDATE = """
const validator = require("gltf-validator"), fs = require("fs");
(async () => {
  const reports = {};
  for (const file of process.argv.slice(1)) {
    const result = await validator.validateBytes(new Uint8Array(fs.readFileSync(file)), { maxIssues: 1000 });
    reports[file] = result.issues;
  }
  console.log(JSON.stringify(reports));
})();
"""


def validate(node_modules: Path, files: list[Path]) -> dict[str, dict]:
    """Khronos' reports on GLB files."""
    if not (node_modules / "gltf-validator").is_dir():
        pytest.skip(f"gltf-validator is not in {node_modules}: npm install --prefix build gltf-validator")
    done = subprocess.run(
        ["node", "-e", _VALIDATE, *map(str, files)],
        env={**os.environ, "NODE_PATH": str(node_modules)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return json.loads(done.stdout)


def test_khronos_validator_has_nothing_to_say(tmp_path, small_head, bare_head, albedo, node_modules):
    code = random_code(small_head, 1)
    bounded = replace(small_head, expression_bounds=torch.tensor([[0.0, 1.0]] * small_head.expressions))
    write_glb(tmp_path / "neutral.glb", bounded, code, albedo)
    write_glb(tmp_path / "posed.glb", small_head, code, albedo, neutral=False, jpeg_quality=None)
    write_glb(tmp_path / "parts.glb", small_head, code, albedo, plain_parts=("eyes",))
    write_glb(tmp_path / "plain.glb", replace(small_head, uvs=None, uv_faces=None), code)
    write_glb(tmp_path / "bare.glb", bare_head, bare_head.neutral())
    colors = torch.rand(len(bare_head.template), 3)
    write_glb(tmp_path / "colors.glb", bare_head, bare_head.neutral(), vertex_colors=colors)
    for file, issues in validate(node_modules, sorted(tmp_path.glob("*.glb"))).items():
        assert issues["numErrors"] + issues["numWarnings"] + issues["numInfos"] == 0, (file, issues["messages"])


def test_painting_coordinates_stay_without_a_texture(tmp_path, small_head, node_modules):
    """Unused texture coordinates are worth an `info` of the validator, but no more."""
    write_glb(tmp_path / "head.glb", small_head, small_head.neutral())
    [issues] = validate(node_modules, [tmp_path / "head.glb"]).values()
    assert issues["numErrors"] == issues["numWarnings"] == 0
    assert {message["code"] for message in issues["messages"]} == {"UNUSED_OBJECT"}


@pytest.mark.slow
def test_default_head(tmp_path, node_modules):
    """The real thing: 52 ARKit names, small enough for a page, valid, and equal to the model."""
    model = load_default_head()
    code = random_code(model, 0).with_(shape=0.5 * random_code(model, 1).shape)
    albedo = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)).repeat_interleave(16, 1)
    write_glb(tmp_path / "head.glb", model, code, albedo.repeat_interleave(16, 2), neutral=False)
    assert (tmp_path / "head.glb").stat().st_size < 12e6
    [issues] = validate(node_modules, [tmp_path / "head.glb"]).values()
    assert issues["numErrors"] + issues["numWarnings"] + issues["numInfos"] == 0, issues["messages"]
    file = GltfFile(tmp_path / "head.glb")
    mesh = file.gltf.meshes[0]
    assert mesh.extras["targetNames"] == list(model.expression_names) and len(model.expression_names) == 52
    assert [file.gltf.nodes[j].name for j in file.gltf.skins[0].joints] == [
        "root",
        "neck",
        "jaw",
        "leftEye",
        "rightEye",
    ]
    found = file.corners(np.array(mesh.weights), file.joint_matrices({}, np.zeros(3)))
    _same(found, _expected(model, model.vertices(code)), 1e-5)
