"""FLAME (Li et al., "Learning a model of facial shape and expression from 4D scans", 2017) as a `HeadModel`.

Reads the authors' pickles of 2020 and 2023, whose arrays may be chumpy's or plain, without chumpy and without
running the pickle. The landmark tables and masks that go with FLAME are read by `flame_landmarks`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from ..errors import HeadlabError, MissingAssetError
from ..safe_pickle import ARRAY_GLOBALS, CHUMPY_GLOBALS, SCIPY_GLOBALS, load_pickle
from .flame_landmarks import read_landmark_tables, read_mediapipe_table
from .head_model import HeadModel, LandmarkEmbedding, License
from .obj import fan, read_obj

#: Columns of `shapedirs` that are identity; the rest is expression.
SHAPES = 300

FLAME_GLOBALS = {**ARRAY_GLOBALS, **SCIPY_GLOBALS, **CHUMPY_GLOBALS}

#: Said where the file does not say it: the terms differ between releases, the download page states them.
FLAME_LICENSE = License("FLAME model licence, as accepted at download", False, "https://flame.is.tue.mpg.de")

_NEEDED = ("v_template", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights", "f")


def load_flame(
    path: Path,
    *,
    landmark_embedding: Path | None = None,
    mediapipe_embedding: Path | None = None,
    uv: Path | None = None,
    masks: Path | None = None,
    shapes: int = SHAPES,
    expressions: int = 100,
    name: str = "flame",
    license: License = FLAME_LICENSE,
) -> HeadModel:
    """Read a FLAME pickle: generic_model.pkl, FLAME_NEUTRAL.pkl, flame2023.pkl, flame2023_no_jaw.pkl and the like.

    Args:
        path: the model.
        landmark_embedding: DECA's landmark_embedding.npy; gives landmarks "68" (all 68, static), "51" (the inner
            ones) and the sliding contour.
        mediapipe_embedding: EMOCA's mediapipe_landmark_embedding.npz; gives landmarks "105".
        uv: head_template.obj, or FLAME_texture.npz (its `vt` and `ft`).
        masks: FLAME_masks.pkl; gives regions (face, neck, scalp, ears, lips, ...).
        shapes: how many of the 300 identity components to keep.
        expressions: how many of the 100 expression components to keep.
        name: model id.
        license: terms of this release.

    Returns:
        The model in float32, in FLAME's own frame (metres, +X the subject's left, +Y up, +Z out of the face).

    Raises:
        MissingAssetError: the file is not there.
        UnsafePickleError: a pickle names what no FLAME file needs.
        HeadlabError: the file is damaged or something else.
    """
    data = read_flame_arrays(path)
    basis = data["shapedirs"]
    parents = tuple(-1 if p > 1 << 30 or p < 0 else int(p) for p in data["kintree_table"][0].astype(np.int64))
    faces = torch.from_numpy(data["f"].astype(np.int64))
    weights = _float(data["weights"])
    landmarks: dict[str, LandmarkEmbedding] = {}
    contour = None
    if landmark_embedding is not None:
        landmarks, contour = read_landmark_tables(landmark_embedding, len(faces))
    if mediapipe_embedding is not None:
        landmarks["105"] = read_mediapipe_table(mediapipe_embedding, len(faces))
    uvs, uv_faces = _read_uv(uv, len(faces)) if uv is not None else (None, None)
    eyes = weights[:, 3:].sum(-1) > 0.5
    return HeadModel(
        name=name,
        template=_float(data["v_template"]),
        shape_basis=_float(basis[..., : min(shapes, SHAPES)]),
        expression_basis=_float(basis[..., SHAPES : SHAPES + expressions]),
        expression_names=tuple(f"expression{i:03d}" for i in range(min(expressions, basis.shape[-1] - SHAPES))),
        faces=faces,
        joint_regressor=_float(data["J_regressor"]),
        skin_weights=weights,
        parents=parents,
        license=license,
        pose_basis=_float(data["posedirs"]),
        uvs=uvs,
        uv_faces=uv_faces,
        landmarks=landmarks,
        contour=contour,
        regions=(_read_masks(masks, len(eyes)) if masks is not None else {}) | {"eyes": eyes},
        part_names=("skin", "eyes"),
        face_parts=eyes[faces].all(-1).long(),
        joints_follow_expression=True,
    )


def read_flame_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a FLAME pickle by name, checked against each other.

    Raises:
        MissingAssetError, UnsafePickleError, HeadlabError: as `load_flame`.
    """
    if not path.is_file():
        raise MissingAssetError(
            f"{path} is not there: expected a FLAME model ({FLAME_LICENSE.name}); get it at {FLAME_LICENSE.url} and "
            "run `headlab assets add FILE`"
        )
    data = load_pickle(path, FLAME_GLOBALS)
    missing = [key for key in _NEEDED if not isinstance(data, dict) or key not in data]
    if missing:
        found = f"a dict with {', '.join(map(str, list(data)[:6]))}" if isinstance(data, dict) else type(data).__name__
        raise HeadlabError(f"{path} is no FLAME model: {', '.join(missing)} expected, {found} found")
    arrays = {key: np.asarray(data[key]) for key in _NEEDED}
    count, joints = len(arrays["v_template"]), len(arrays["weights"].T)
    expected = {
        "v_template": (count, 3),
        "posedirs": (count, 3, 9 * (joints - 1)),
        "J_regressor": (joints, count),
        "kintree_table": (2, joints),
        "weights": (count, joints),
    }
    wrong = [f"{key} {arrays[key].shape}, not {shape}" for key, shape in expected.items() if arrays[key].shape != shape]
    basis = arrays["shapedirs"].shape
    if joints != 5:
        wrong.append(f"{joints} joints, not 5 (a body or hand model?)")
    elif basis[:2] != (count, 3) or len(basis) != 3 or basis[2] <= SHAPES:
        wrong.append(f"shapedirs {basis}, not ({count}, 3, 400)")
    elif arrays["f"].ndim != 2 or arrays["f"].min() < 0 or arrays["f"].max() >= count:
        wrong.append("faces name vertices that are not there")
    if wrong:
        raise HeadlabError(f"{path} is no FLAME model: {'; '.join(wrong)}")
    return arrays


def _float(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _read_uv(path: Path, faces: int) -> tuple[Tensor, Tensor]:
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as file:
                uvs, uv_faces = file["vt"], file["ft"].astype(np.int64)
        except (OSError, ValueError, KeyError) as error:
            raise HeadlabError(f"{path} has no texture coordinates (vt, ft): {error}") from error
    else:
        mesh = read_obj(path)
        uvs = mesh.uvs
        uv_faces = fan(mesh.uv_polygons)[0] if len(mesh.uv_polygons) else np.empty((0, 3), np.int64)
    if len(uv_faces) != faces or uv_faces.max() >= len(uvs):
        raise HeadlabError(
            f"{path} does not belong to this model: {len(uv_faces)} textured faces, the model has {faces}"
        )
    return _float(uvs), torch.from_numpy(uv_faces)


def _read_masks(path: Path, count: int) -> dict[str, Bool[Tensor, "verts"]]:
    """FLAME_masks.pkl: a dict of vertex lists."""
    data: Any = load_pickle(path, ARRAY_GLOBALS)
    regions = {}
    for name, members in data.items() if isinstance(data, dict) else ():
        members = np.asarray(members)
        if members.ndim != 1 or members.dtype.kind not in "iu" or (len(members) and members.max() >= count):
            break
        mask = torch.zeros(count, dtype=torch.bool)
        mask[torch.from_numpy(members.astype(np.int64))] = True
        regions[str(name)] = mask
    else:
        if regions:
            return regions
    raise HeadlabError(f"{path} is no FLAME mask file: expected a dict of vertex lists below {count}")
