"""A head model cut down to the vertices one needs: same codes, same places, a fraction of the work."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .head_model import HeadModel


def keep_vertices(model: HeadModel, vertices: Int[Tensor, "n"]) -> HeadModel:
    """The model of some vertices only, in the order given, without faces or landmarks.

    Its first n vertices equal those of the full model for every code. The joints, which the full model reads from
    vertices that may be gone, follow as further vertices, so that the regressor need only pick them.
    """
    joints, n = len(model.parents), len(vertices)

    def rows(values: Float[Tensor, "verts *rest"]) -> Float[Tensor, "kept *rest"]:
        return torch.cat([values[vertices], torch.tensordot(model.joint_regressor, values, 1)])

    pick = model.joint_regressor.new_zeros(joints, n + joints)
    pick[:, n:] = torch.eye(joints)
    still = model.skin_weights.new_zeros(joints, joints)
    pose = model.pose_basis
    return replace(
        model,
        template=rows(model.template),
        shape_basis=rows(model.shape_basis),
        expression_basis=rows(model.expression_basis),
        joint_regressor=pick,
        skin_weights=torch.cat([model.skin_weights[vertices], still]),
        pose_basis=None if pose is None else torch.cat([pose[vertices], pose.new_zeros(joints, *pose.shape[1:])]),
        faces=model.faces[:0],
        uvs=None,
        uv_faces=None,
        landmarks={},
        contour=None,
        regions={},
        face_parts=None,
    )
