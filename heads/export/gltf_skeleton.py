"""The joints of a head as glTF nodes, and skin weights as glTF wants them."""

import numpy as np
import pygltflib as gltf
from jaxtyping import Float, UInt8
from torch import Tensor

from ...geometry.code import HeadCode
from ...geometry.models.head_model import HeadModel
from .gltf_buffer import BufferBuilder

_NODE_NAMES = {"left_eye": "leftEye", "right_eye": "rightEye"}


def joint_nodes(model: HeadModel, code: HeadCode, first: int, *, posed: bool) -> list[gltf.Node]:
    """One node per joint, in the model's order; the parent of a node moves it.

    Args:
        code: one head; where the joints lie depends on its identity.
        first: index the first node will have in the file.
        posed: turned and moved as in the code; otherwise at rest, with the code's rotation (x, y, z, w) in the extras.
    """
    import roma

    rest = model.joints(code.shape).double()
    rotations = roma.rotmat_to_unitquat(model.joint_rotations(code).double())
    nodes = []
    for joint, parent in enumerate(model.parents):
        offset = rest[joint] - rest[parent] if parent >= 0 else rest[joint]
        if posed and parent < 0:
            offset = offset + code.translation
        rotation = rotations[joint].tolist()
        name = model.joint_names[joint]
        nodes.append(
            gltf.Node(
                name=_NODE_NAMES.get(name, name),
                translation=offset.tolist(),
                rotation=rotation if posed else None,
                extras={} if posed else {"fittedRotation": rotation},
                children=[first + child for child, of in enumerate(model.parents) if of == joint],
            )
        )
    return nodes


def inverse_binds(buffer: BufferBuilder, rest: Float[Tensor, "joints 3"]) -> int:
    """Accessor of the matrices world -> joint at rest; joints are not turned at rest, so they only shift."""
    matrices = np.tile(np.eye(4, dtype=np.float32), (len(rest), 1, 1))
    matrices[:, 3, :3] = -rest.cpu().numpy()  # glTF matrices are column-major: the last column is the last row here
    return buffer.dense(matrices, target=None)


def four_weights(
    weights: Float[np.ndarray, "verts joints"],
) -> tuple[UInt8[np.ndarray, "verts 4"], Float[np.ndarray, "verts 4"]]:
    """The four largest weights per vertex, made to sum to one, and their joints (0 where the weight is 0)."""
    order = np.argsort(-weights, axis=1, kind="stable")[:, :4]
    largest = np.take_along_axis(weights, order, axis=1).astype(np.float64)
    # Weights that float32 rounding would lose against the sum only upset validators.
    largest[largest < 1e-6] = 0.0
    largest = (largest / largest.sum(axis=1, keepdims=True)).astype(np.float32)
    largest[:, 0] += (1.0 - largest.sum(axis=1, dtype=np.float64)).astype(np.float32)
    joints = np.where(largest > 0, order, 0)
    missing = ((0, 0), (0, 4 - joints.shape[1]))
    return np.pad(joints, missing).astype(np.uint8), np.pad(largest, missing)
