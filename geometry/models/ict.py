"""ICT-FaceKit (Li et al., "Learning Formation of Physically-Based Face Attributes", 2020; MIT) as a `HeadModel`.

Read from the folder of OBJ files that a clone of ICT-VGL/ICT-FaceKit has (`FaceXModel`), or from one npz of the
same arrays, which `save_ict` writes and which loads a hundred times faster.

    mesh = neutral + sum β_i identity_i + sum ψ_j expression_j      (β ~ N(0, 1), ψ in 0..1)

The model has no joints of its own; `ict_rig` derives them. Its texture coordinates fill eight unit squares, some of
them twice; `ict_atlas` packs them into one. All vertices are kept, so indices are upstream's, but the clear films
over the eyes are not drawn.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from ..errors import HeadlabError, MissingAssetError
from .head_model import JOINTS, HeadModel, LandmarkEmbedding, License
from .ict_atlas import pack_uvs
from .ict_rig import ict_rig
from .ict_topology import PARTS, POLYGONS, VERTICES, part_of_polygon, vertex_regions
from .obj import fan, read_obj, read_obj_vertices

MIT = License("MIT, USC Institute for Creative Technologies", True, "https://github.com/ICT-VGL/ICT-FaceKit")
_METRES = 0.01  # upstream's unit is the centimetre


@dataclass(frozen=True)
class IctArrays:
    """What upstream's files hold, in upstream's unit (centimetres) and names."""

    neutral: Float[ndarray, "verts 3"]
    identities: Float[ndarray, "identities verts 3"]  #: minus neutral
    expressions: Float[ndarray, "expressions verts 3"]  #: minus neutral
    expression_names: tuple[str, ...]
    polygons: Int[ndarray, "polygons 4"]  #: -1 ends a triangle
    uv_polygons: Int[ndarray, "polygons 4"]
    uvs: Float[ndarray, "texcoords 2"]
    landmarks: Int[ndarray, "68"]  #: vertices, iBUG order


def load_ict(path: Path) -> HeadModel:
    """Read ICT-FaceKit.

    Args:
        path: a clone, its `FaceXModel` folder, or an npz from `save_ict`.

    Returns:
        The model in metres: 68 landmarks, expressions named as ARKit's (eyeBlink_L -> eyeBlinkLeft; where ICT
        splits an action that ARKit does not, it is browInnerUpLeft and so on), weights 0..1.

    Raises:
        MissingAssetError: nothing is there.
        HeadlabError: the files are damaged, incomplete, or something else.
    """
    return ict_model(read_ict(path))


def read_ict(path: Path) -> IctArrays:
    """The arrays of a folder or npz, checked.

    Raises:
        MissingAssetError, HeadlabError: as `load_ict`.
    """
    if path.is_dir():
        arrays = _read_folder(path / "FaceXModel" if (path / "FaceXModel").is_dir() else path)
    elif path.is_file():
        arrays = _read_npz(path)
    else:
        raise MissingAssetError(
            f"{path} is not there: expected ICT-FaceKit ({MIT.name}); clone {MIT.url} and run "
            "`headlab assets add ICT-FaceKit/FaceXModel`"
        )
    found = arrays.neutral.shape, arrays.polygons.shape
    if found != ((VERTICES, 3), (POLYGONS, 4)) or len(arrays.landmarks) != 68:
        raise HeadlabError(
            f"{path} is no ICT-FaceKit light model: {VERTICES} vertices and {POLYGONS} polygons expected, "
            f"{len(arrays.neutral)} and {len(arrays.polygons)} found (the releases before 2020-06 differ)"
        )
    if "jawOpen" not in arrays.expression_names:
        raise HeadlabError(f"{path} lacks the expression jawOpen, from which the jaw is found; get it again")
    return arrays


def save_ict(arrays: IctArrays, path: Path) -> None:
    """Write the arrays as one compressed npz (no pickles)."""
    np.savez_compressed(
        path,
        neutral_vertices=arrays.neutral.astype(np.float32),
        identity_deltas=arrays.identities.astype(np.float32),
        expression_deltas=arrays.expressions.astype(np.float32),
        expression_names=np.array(arrays.expression_names),
        quads=arrays.polygons.astype(np.int32),
        quads_uv=arrays.uv_polygons.astype(np.int32),
        uv=arrays.uvs.astype(np.float32),
        landmarks68=arrays.landmarks.astype(np.int32),
    )


def ict_model(arrays: IctArrays) -> HeadModel:
    """The arrays as a head model."""
    neutral = arrays.neutral * _METRES
    part = part_of_polygon()
    drawn = part >= 0
    faces, polygon = fan(arrays.polygons[drawn])
    uvs, uv_polygons = pack_uvs(arrays.uvs, arrays.uv_polygons)
    jaw_open = arrays.expressions[arrays.expression_names.index("jawOpen")] * _METRES
    rig = ict_rig(neutral, jaw_open)
    names = tuple(name.replace("_L", "Left").replace("_R", "Right") for name in arrays.expression_names)
    return HeadModel(
        name="ict",
        template=_float(neutral),
        shape_basis=_float(arrays.identities.transpose(1, 2, 0) * _METRES),
        expression_basis=_float(arrays.expressions.transpose(1, 2, 0) * _METRES),
        expression_names=names,
        faces=torch.from_numpy(faces),
        joint_regressor=_float(rig.regressor),
        skin_weights=_float(rig.weights),
        parents=rig.parents,
        license=MIT,
        joint_names=JOINTS,
        uvs=_float(uvs),
        uv_faces=torch.from_numpy(fan(uv_polygons[drawn])[0]),
        landmarks={"68": _vertex_landmarks(faces, arrays.landmarks)},
        regions={name: torch.from_numpy(mask) for name, mask in _regions(neutral).items()},
        part_names=PARTS,
        face_parts=torch.from_numpy(part[drawn][polygon]),
        expression_bounds=torch.tensor([[0.0, 1.0]]).repeat(len(names), 1),
        expression_std=torch.full((len(names),), 0.3),
    )


def _read_folder(folder: Path) -> IctArrays:
    try:
        config = json.loads((folder / "vertex_indices.json").read_text(encoding="utf-8"))
        names = tuple(str(name) for name in config["expressions"])
        landmarks = np.array(config["idx_to_landmark_verts"], np.int64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HeadlabError(
            f"{folder} is no ICT-FaceKit folder: vertex_indices.json with expressions and landmarks expected ({error})"
        ) from error
    if any(not name.replace("_", "").isalnum() for name in names):
        raise HeadlabError(f"{folder}/vertex_indices.json names expressions that are no file names; get it again")
    mesh = read_obj(folder / "generic_neutral_mesh.obj")
    if mesh.polygons.shape[1] != 4 or not len(mesh.uv_polygons):
        raise HeadlabError(f"{folder}/generic_neutral_mesh.obj is not ICT's: textured quads expected")
    identities = []
    while (file := folder / f"identity{len(identities):03d}.obj").is_file():
        identities.append(_delta(file, mesh.vertices))
    if not identities:
        raise HeadlabError(f"{folder} is incomplete: identity000.obj is missing; clone the repository again")
    expressions = [_delta(folder / f"{name}.obj", mesh.vertices) for name in names]
    return IctArrays(
        mesh.vertices,
        np.stack(identities),
        np.stack(expressions),
        names,
        mesh.polygons,
        mesh.uv_polygons,
        mesh.uvs,
        landmarks,
    )


def _delta(file: Path, neutral: Float[ndarray, "verts 3"]) -> Float[ndarray, "verts 3"]:
    vertices = read_obj_vertices(file)
    if vertices.shape != neutral.shape:
        raise HeadlabError(f"{file} has {len(vertices)} vertices, the neutral mesh {len(neutral)}; get it again")
    return (vertices - neutral).astype(np.float32)


def _read_npz(path: Path) -> IctArrays:
    try:
        with np.load(path, allow_pickle=False) as file:
            return IctArrays(
                file["neutral_vertices"].astype(np.float64),
                file["identity_deltas"],
                file["expression_deltas"],
                tuple(str(name) for name in file["expression_names"]),
                file["quads"].astype(np.int64),
                file["quads_uv"].astype(np.int64),
                file["uv"].astype(np.float64),
                file["landmarks68"].astype(np.int64),
            )
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise HeadlabError(f"{path} is no ICT-FaceKit npz: {error}") from error


def _regions(neutral: Float[ndarray, "verts 3"]) -> dict[str, Bool[ndarray, "verts"]]:
    """Masks by the names other models use; "face" is upstream's narrow face (brow to chin, ear to ear)."""
    upstream = vertex_regions()
    eyes = upstream["eyeball_left"] | upstream["eyeball_right"]
    skin = upstream["face"] | upstream["head_neck"]
    lowest = neutral[upstream["narrow_face"], 1].min()
    neck = skin & ~upstream["narrow_face"] & (neutral[:, 1] < lowest + 0.01)
    return {
        "face": upstream["narrow_face"],
        "wide_face": upstream["face"],
        "neck": neck,
        "scalp": upstream["head_neck"] & ~neck,
        "left_eye": upstream["eyeball_left"],
        "right_eye": upstream["eyeball_right"],
        "eyes": eyes,
        "teeth": upstream["teeth"],
        "tongue": upstream["gums_tongue"],
        "mouth": upstream["mouth_socket"],
    }


def _vertex_landmarks(faces: Int[ndarray, "faces 3"], vertices: Int[ndarray, "points"]) -> LandmarkEmbedding:
    """Points that are vertices, as a corner of a face that has them."""
    flat = faces.ravel()
    where = np.array([np.flatnonzero(flat == vertex)[0] for vertex in vertices])
    return LandmarkEmbedding(torch.from_numpy(where // 3), torch.eye(3)[torch.from_numpy(where % 3)])


def _float(array: ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
