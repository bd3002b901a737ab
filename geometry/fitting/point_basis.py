"""PointBasis: a head model restricted to a few surface points, in float64 numpy: one evaluation takes a millisecond.

A point fixed to the surface by barycentric weights w_k on vertices v_k is, before the global motion,

    x = Y + Σ_j [(R_j - I) Y_j + W_j (I - R_j) c_j],    Y = mean + basis q,    Y_j = mean_j + basis_j q

with q = (β, ψ, pose features), j over the joints with a local rotation (jaw, eyes; the neck is kept straight), c_j(β)
their centres, Y_j and W_j the parts of the point skinned to j. That is `HeadModel.vertices`, exactly: skinning is
linear in the vertex, so its weights fold into the bases once and for all.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..models.head_model import HeadModel, LandmarkEmbedding

#: Joints that local rotations are fitted for, in the order of every `rotations` argument here.
LOCAL_JOINTS = ("jaw", "left_eye", "right_eye")


@dataclass(frozen=True, eq=False)
class PointJoint:
    """What one joint moves."""

    joint: int  #: index into LOCAL_JOINTS
    rows: np.ndarray  #: (m,) points it moves
    weight: np.ndarray  #: W (m,)
    mean: np.ndarray  #: (3, m)
    basis: np.ndarray  #: (3, m, q)
    centre: np.ndarray  #: (3,)
    centre_basis: np.ndarray  #: (3, q), zero beyond β


@dataclass(frozen=True, eq=False)
class PointBasis:
    """Points as a function of q and local joint rotations; metres, in the model's frame."""

    mean: np.ndarray  #: (3, n)
    basis: np.ndarray  #: (3, n, q); columns β, ψ, pose features
    shapes: int
    expressions: int
    joints: tuple[PointJoint, ...]
    feature_joints: tuple[int, ...]  #: LOCAL_JOINTS whose (R - I), row-major, are the pose features

    @classmethod
    def build(cls, model: HeadModel, embedding: LandmarkEmbedding) -> "PointBasis":
        """Restrict a model to the points of an embedding."""

        def array(tensor) -> np.ndarray:
            return tensor.detach().cpu().numpy()

        corners = array(model.faces)[array(embedding.faces)]  # (n, 3)
        used, corners = np.unique(corners, return_inverse=True)
        corners = corners.reshape(-1, 3)
        weights = array(embedding.weights).astype(np.float64)
        features, feature_joints = _feature_columns(model)
        stack = [array(model.template)[used][..., None], array(model.shape_basis)[used]]
        stack.append(array(model.expression_basis)[used])
        if model.pose_basis is not None:
            stack.append(array(model.pose_basis)[used][..., features])
        full = np.concatenate(stack, -1).astype(np.float64)  # (used, 3, 1 + q)
        skin = array(model.skin_weights)[used].astype(np.float64)
        regressor = array(model.joint_regressor).astype(np.float64)
        rest = array(model.template).astype(np.float64)

        def restricted(vertex_weights: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            mixed = np.einsum("nk,nkcq->cnq", vertex_weights, full[corners[rows]])
            return np.ascontiguousarray(mixed[..., 0]), np.ascontiguousarray(mixed[..., 1:])

        joints = []
        for index, name in enumerate(LOCAL_JOINTS):
            if name not in model.joint_names:
                continue
            j = model.joint_names.index(name)
            shares = weights * skin[corners, j]
            rows = np.flatnonzero(np.abs(shares).sum(-1) > 1e-9)
            if not len(rows):
                continue
            mean, basis = restricted(shares[rows], rows)
            centre_basis = np.zeros((3, full.shape[-1] - 1))
            support = np.flatnonzero(regressor[j])
            shape_basis = array(model.shape_basis)[support].astype(np.float64)
            centre_basis[:, : model.shapes] = np.einsum("v,vcs->cs", regressor[j, support], shape_basis)
            centre = regressor[j] @ rest
            joints.append(PointJoint(index, rows, shares[rows].sum(-1), mean, basis, centre, centre_basis))
        mean, basis = restricted(weights, np.arange(len(corners)))
        return cls(mean, basis, model.shapes, model.expressions, tuple(joints), feature_joints)

    @property
    def points(self) -> int:
        return self.mean.shape[1]

    @property
    def linear(self) -> int:
        """Columns that are variables of their own: β and ψ."""
        return self.shapes + self.expressions

    def take(self, rows: np.ndarray) -> "PointBasis":
        """Some of the points, in the given order."""
        joints = []
        for joint in self.joints:
            place = np.full(self.points, -1)
            place[joint.rows] = np.arange(len(joint.rows))
            kept = np.flatnonzero(place[rows] >= 0)
            source = place[rows[kept]]
            parts = dict(weight=joint.weight[source], mean=joint.mean[:, source], basis=joint.basis[:, source])
            joints.append(replace(joint, rows=kept, **parts))
        return replace(self, mean=self.mean[:, rows], basis=self.basis[:, rows], joints=tuple(joints))

    def with_shape(self, shape: np.ndarray) -> "PointBasis":
        """The points of one known person: β becomes part of the mean, its columns go."""
        s = self.shapes
        joints = tuple(
            replace(
                joint,
                mean=joint.mean + joint.basis[..., :s] @ shape,
                basis=np.ascontiguousarray(joint.basis[..., s:]),
                centre=joint.centre + joint.centre_basis[:, :s] @ shape,
                centre_basis=joint.centre_basis[:, s:],
            )
            for joint in self.joints
        )
        mean, basis = self.mean + self.basis[..., :s] @ shape, np.ascontiguousarray(self.basis[..., s:])
        return replace(self, mean=mean, basis=basis, shapes=0, joints=joints)

    def coefficients(self, shape: np.ndarray, expression: np.ndarray, rotations: np.ndarray) -> np.ndarray:
        """q = (β, ψ, pose features); rotations (3 joints, 3, 3)."""
        features = [(rotations[j] - np.eye(3)).ravel() for j in self.feature_joints]
        return np.concatenate([shape, expression, *features])

    def evaluate(self, q: np.ndarray, rotations: np.ndarray) -> np.ndarray:
        """The points (3, n), metres."""
        columns = self.basis.shape[-1]
        points = self.mean + (self.basis.reshape(-1, columns) @ q).reshape(3, -1)
        for joint in self.joints:
            rotation = rotations[joint.joint]
            moved = _moved(joint, q)
            points[:, joint.rows] += rotation @ moved - moved
        return points

    def jacobian(self, q: np.ndarray, rotations: np.ndarray, project: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Derivative of linear functionals of the points.

        Args:
            q: as `coefficients` gives it.
            rotations: (3 joints, 3, 3).
            project: (2, n, 3); row a of point i is the gradient of its a-th image coordinate by the point.

        Returns:
            by β and ψ (2, n, linear), and by a left-multiplied rotation vector of each local joint (2, n, 3, 3).
        """
        linear = _contract(project, self.basis)
        turn = np.zeros((2, self.points, len(LOCAL_JOINTS), 3))
        for joint in self.joints:
            rotation = rotations[joint.joint]
            rows = project[:, joint.rows]
            turn[:, joint.rows, joint.joint] = np.cross(np.swapaxes(rotation @ _moved(joint, q), 0, 1), rows)
            change = rotation - np.eye(3)
            if not change.any():
                continue
            through = rows @ change
            linear[:, joint.rows] += _contract(through, joint.basis)
            linear[:, joint.rows] -= (through * joint.weight[:, None]) @ joint.centre_basis
        for place, index in enumerate(self.feature_joints):
            features = linear[..., self.linear + 9 * place : self.linear + 9 * (place + 1)].reshape(2, -1, 3, 3)
            # d(features · R) / dω = Σ_b R_:b × features_:b for a left-multiplied turn ω
            turn[:, :, index] += np.cross(rotations[index].T, np.swapaxes(features, -1, -2)).sum(-2)
        return linear[..., : self.linear], turn


def _moved(joint: PointJoint, q: np.ndarray) -> np.ndarray:
    """Y_j - W_j c_j (3, m): the joint's part of its points, about its centre."""
    centre = joint.centre + joint.centre_basis @ q
    return joint.mean + joint.basis @ q - centre[:, None] * joint.weight


def _contract(project: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Σ_c project[a, n, c] basis[c, n, q] -> (2, n, q); three fused passes beat a batched product of tiny matrices."""
    result = np.empty((2, *basis.shape[1:]))
    buffer = np.empty(basis.shape[1:])
    for a in range(2):
        np.multiply(project[a, :, :1], basis[0], out=result[a])
        for c in (1, 2):
            result[a] += np.multiply(project[a, :, c : c + 1], basis[c], out=buffer)
    return result


def _feature_columns(model: HeadModel) -> tuple[np.ndarray, tuple[int, ...]]:
    """Columns of the pose basis that belong to LOCAL_JOINTS, and which joints those are."""
    if model.pose_basis is None:
        return np.zeros(0, int), ()
    joints = [name for name in LOCAL_JOINTS if name in model.joint_names[1:]]
    starts = [9 * (model.joint_names.index(name) - 1) for name in joints]
    columns = np.concatenate([np.arange(start, start + 9) for start in starts]) if starts else np.zeros(0, int)
    return columns, tuple(LOCAL_JOINTS.index(name) for name in joints)
