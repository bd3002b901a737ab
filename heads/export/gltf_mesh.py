"""The surface of a head as glTF primitives with morph targets."""

from dataclasses import dataclass

import numpy as np
import pygltflib as gltf
import torch
from jaxtyping import Float, UInt8

from ...geometry.code import HeadCode
from ...geometry.models.head_model import HeadModel
from .gltf_buffer import BufferBuilder
from .gltf_skeleton import four_weights
from .parts import Part, unit_normals

#: Displacements below 0.1 micrometre are dropped; all 52 actions together stay below 10.
_STILL = 1e-7
#: Changes of a unit normal below (radians, about 0.1 degrees) are dropped: no one sees them, the file shrinks.
_STILL_NORMAL = 2e-3


@dataclass(frozen=True)
class RestSurface:
    """A head before blending and skinning, per vertex of the model."""

    positions: Float[np.ndarray, "verts 3"]  #: metres
    normals: Float[np.ndarray, "verts 3"]
    moves: Float[np.ndarray, "expr verts 3"]  #: displacement per unit of each expression
    turns: Float[np.ndarray, "expr verts 3"]  #: change of the unit normal with it
    joints: UInt8[np.ndarray, "verts 4"]
    weights: Float[np.ndarray, "verts 4"]


def rest_surface(model: HeadModel, code: HeadCode, *, posed: bool) -> RestSurface:
    """The head with the code's identity, expressionless and unposed.

    Pose correctives, which glTF cannot drive by joints, are baked in for the code's pose if `posed`.
    """
    still = model.neutral().with_(shape=code.shape)
    positions = model.shaped(still.shape, still.expression)
    if posed and model.pose_basis is not None:
        feature = model.joint_rotations(code)[1:]
        feature = (feature - torch.eye(3, dtype=feature.dtype, device=feature.device)).flatten()
        positions = positions + model.pose_basis @ feature
    normals = unit_normals(positions, model.faces)
    moves = model.expression_basis.permute(2, 0, 1)
    turns = [unit_normals(positions + move, model.faces) - normals for move in moves]
    arrays = (positions, normals, moves, torch.stack(turns) if turns else torch.zeros_like(moves))
    positions, normals, moves, turns = (x.detach().cpu().numpy().astype(np.float32) for x in arrays)
    moves = np.where(np.linalg.norm(moves, axis=-1, keepdims=True) < _STILL, np.float32(0), moves)
    turns = np.where(np.linalg.norm(turns, axis=-1, keepdims=True) < _STILL_NORMAL, np.float32(0), turns)
    return RestSurface(positions, normals, moves, turns, *four_weights(model.skin_weights.cpu().numpy()))


def primitive(
    buffer: BufferBuilder,
    part: Part,
    surface: RestSurface,
    material: int,
    uvs: Float[np.ndarray, "texcoords 2"] | None,
    colors: Float[np.ndarray, "verts 3"] | None,
) -> gltf.Primitive:
    """Append one part's arrays and return the primitive that draws it.

    Args:
        uvs: texture coordinates, v up.
        colors: linear light 0..1 per vertex.
    """
    rows = part.vertices
    attributes = gltf.Attributes(
        POSITION=buffer.dense(surface.positions[rows], bounds=True),
        NORMAL=buffer.dense(surface.normals[rows]),
        JOINTS_0=buffer.dense(surface.joints[rows]),
        WEIGHTS_0=buffer.dense(surface.weights[rows]),
    )
    if uvs is not None and part.texcoords is not None:
        chosen = uvs[part.texcoords]
        attributes.TEXCOORD_0 = buffer.dense(np.stack([chosen[:, 0], 1 - chosen[:, 1]], 1).astype(np.float32))
    if colors is not None:
        # Sixteen bits: linear light has too few dark tones in eight. Four channels keep elements on four bytes.
        rgba = np.concatenate([colors[rows], np.ones((len(rows), 1))], axis=1)
        attributes.COLOR_0 = buffer.dense((rgba * 65535).round().astype(np.uint16), normalized=True)
    targets = [
        gltf.Attributes(POSITION=buffer.displacement(move[rows]), NORMAL=buffer.displacement(turn[rows]))
        for move, turn in zip(surface.moves, surface.turns, strict=True)
    ]
    # The largest index of a type is reserved, so 65535 points are the most that fit sixteen bits.
    index_type = np.uint16 if len(rows) <= 65535 else np.uint32
    indices = buffer.dense(part.faces.reshape(-1).astype(index_type), gltf.ELEMENT_ARRAY_BUFFER)
    return gltf.Primitive(attributes=attributes, targets=targets, indices=indices, material=material)
