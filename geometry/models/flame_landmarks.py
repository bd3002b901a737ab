"""Landmarks of FLAME: reading the tables of DECA and EMOCA, and placing the points on a head.

The contour of a turned face is not a set of fixed surface points, so 17 of the 68 points slide: a table has one row
per degree of yaw (RingNet, Sanyal et al. 2019).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..code import HeadCode
from ..errors import HeadlabError
from ..safe_pickle import ARRAY_GLOBALS, TORCH_GLOBALS, load_object_npy
from .head_model import DynamicContour, HeadModel, LandmarkEmbedding

LANDMARK_GLOBALS = {**ARRAY_GLOBALS, **TORCH_GLOBALS}

#: Largest yaw, degrees, of the sliding contour.
_MOST = 39


@dataclass(frozen=True)
class FlameLandmarks:
    """Points on a posed head, metres, in the world."""

    landmarks2d: Float[Tensor, "*batch 68 3"]  #: 17 sliding contour points, then the 51 inner ones
    landmarks3d: Float[Tensor, "*batch 68 3"]  #: fixed surface points
    landmarks_mediapipe: Float[Tensor, "*batch 105 3"] | None  #: where the model has that table


def flame_landmarks(
    model: HeadModel, code: HeadCode, vertices: Float[Tensor, "*batch verts 3"] | None = None
) -> FlameLandmarks:
    """The landmarks that DECA and EMOCA compare with a picture's.

    Args:
        model: FLAME with its landmark tables.
        code: the head; its neck and global rotation choose the contour.
        vertices: `model.vertices(code)`, if at hand.

    Raises:
        HeadlabError: the model was loaded without landmark tables.
    """
    if model.contour is None or "51" not in model.landmarks:
        raise HeadlabError(f"{model.name} has no landmark tables; add landmark_embedding.npy with `headlab assets add`")
    vertices = model.vertices(code) if vertices is None else vertices
    head = model.joint_rotations(code)
    row = contour_bin(head[..., 0, :, :] @ head[..., 1, :, :])
    row = row.expand(vertices.shape[:-2])
    corners = model.faces[model.contour.faces[row]].flatten(-2)  # (*batch, 17 * 3)
    points = torch.gather(vertices, -2, corners.unsqueeze(-1).expand(*corners.shape, 3)).unflatten(-2, (-1, 3))
    sliding = (points * model.contour.weights[row].unsqueeze(-1)).sum(-2)
    inner = model.landmarks3d(vertices, "51")
    mediapipe = model.landmarks3d(vertices, "105") if "105" in model.landmarks else None
    return FlameLandmarks(torch.cat([sliding, inner], -2), model.landmarks3d(vertices, "68"), mediapipe)


def contour_bin(rotation: Float[Tensor, "*batch 3 3"]) -> Int[Tensor, "*batch"]:
    """Row of the contour table for a head rotation (global times neck).

    The yaw is DECA's: degrees about +Y, at most 39, rounded half to even; row k is +k degrees, row 39 + k is -k.
    """
    yaw = torch.atan2(-rotation[..., 2, 0], torch.hypot(rotation[..., 0, 0], rotation[..., 1, 0]))
    degrees = torch.round(torch.rad2deg(yaw).clamp(max=_MOST)).long()
    return torch.where(degrees >= 0, degrees, torch.where(degrees < -_MOST, 2 * _MOST, _MOST - degrees))


def visible_landmarks(model: HeadModel, normals: Float[Tensor, "*batch verts 3"]) -> Bool[Tensor, "*batch 68"]:
    """Which of the 68 fixed points face a DECA camera: their normal's z, in that camera's axes, is below 0.1.

    Args:
        model: FLAME with its landmark tables.
        normals: unit vertex normals of the projected mesh, whose y and z DECA has flipped.
    """
    return model.landmarks3d(normals, "68")[..., 2] < 0.1


def read_landmark_tables(path: Path, faces: int) -> tuple[dict[str, LandmarkEmbedding], DynamicContour]:
    """DECA's landmark_embedding.npy: landmarks "68" and "51", and the sliding contour.

    Args:
        path: the file; a pickle inside an .npy, read without running it.
        faces: number of faces of the model.

    Raises:
        UnsafePickleError: the file names what such a table does not need.
        HeadlabError: the file is missing, damaged, or for another mesh.
    """
    data = load_object_npy(path, LANDMARK_GLOBALS)
    data = data[()] if data.ndim == 0 else None
    try:
        if not isinstance(data, dict):
            raise ValueError("not a dict of tables")
        inner = _embedding(data["static_lmk_faces_idx"], data["static_lmk_bary_coords"], (51,), faces)
        full = _embedding(data["full_lmk_faces_idx"], data["full_lmk_bary_coords"], (68,), faces)
        sliding = _embedding(data["dynamic_lmk_faces_idx"], data["dynamic_lmk_bary_coords"], (2 * _MOST + 1, 17), faces)
    except (KeyError, ValueError, TypeError) as error:
        raise HeadlabError(f"{path} is no landmark table of this FLAME mesh: {error}") from error
    embeddings = {"68": LandmarkEmbedding(*full), "51": LandmarkEmbedding(*inner)}
    return embeddings, DynamicContour(*sliding)


def read_mediapipe_table(path: Path, faces: int) -> LandmarkEmbedding:
    """EMOCA's mediapipe_landmark_embedding.npz: 105 points, in the order of its `landmark_indices`.

    Raises:
        HeadlabError: the file is missing, damaged, or for another mesh.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return LandmarkEmbedding(*_embedding(file["lmk_face_idx"], file["lmk_b_coords"], (105,), faces))
    except (OSError, KeyError, ValueError, TypeError, EOFError) as error:
        raise HeadlabError(f"{path} is no MediaPipe landmark table of this FLAME mesh: {error}") from error


def _embedding(index: Any, weights: Any, shape: tuple[int, ...], faces: int) -> tuple[Tensor, Tensor]:
    index = torch.as_tensor(np.asarray(index)).long().reshape(shape)
    weights = torch.as_tensor(np.asarray(weights)).float().reshape(*shape, 3)
    if index.min() < 0 or index.max() >= faces:
        raise ValueError(f"it names face {int(index.max())} of {faces}")
    return index, weights
