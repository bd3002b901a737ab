"""HeadModel: linear blend shapes plus linear blend skinning. One class for every source of heads.

    code ──> shaped = template + shape_basis β + expression_basis ψ (+ pose correctives)
         ──> joints = joint_regressor · (template + shape_basis β)   (FLAME: + expression_basis ψ)
         ──> skinned about the joints ──> global rotation, translation ──> vertices

FLAME (Li et al. 2017) is this model; so are the default head, ICT-FaceKit and BFM with some parts empty.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np  # its broadcast_shapes: torch's imports sympy
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..code import HeadCode
from ..rodrigues import rotvec_to_rotmat
from ..trees import map_tensors

#: Joints that HeadCode drives, in the order of `HeadModel.joint_names`.
JOINTS = ("root", "neck", "jaw", "left_eye", "right_eye")


@dataclass(frozen=True)
class License:
    """Who owns a model and what may be done with it."""

    name: str
    commercial: bool
    url: str


@dataclass(frozen=True)
class LandmarkEmbedding:
    """Surface points: a face and barycentric weights each."""

    faces: Int[Tensor, "points"]
    weights: Float[Tensor, "points 3"]


@dataclass(frozen=True)
class DynamicContour:
    """FLAME's sliding jaw contour: row k of the tables is for a head turned by a given yaw.

    Bin k <= 39 is +k degrees, bin 39 + k is -k degrees; yaw beyond is clamped.
    """

    faces: Int[Tensor, "bins points"]
    weights: Float[Tensor, "bins points 3"]


@dataclass(frozen=True)
class HeadModel:
    """A head with identity and expression bases. A value: methods return tensors and change nothing."""

    name: str
    template: Float[Tensor, "verts 3"]  #: metres, +X subject's left, +Y up, +Z out of the face
    shape_basis: Float[Tensor, "verts 3 shape"]  #: per standard deviation: a likely head has |β| near 1
    expression_basis: Float[Tensor, "verts 3 expr"]
    expression_names: tuple[str, ...]
    faces: Int[Tensor, "faces 3"]  #: counter-clockwise seen from outside
    joint_regressor: Float[Tensor, "joints verts"]
    skin_weights: Float[Tensor, "verts joints"]
    parents: tuple[int, ...]  #: -1 for the root
    license: License
    joint_names: tuple[str, ...] = JOINTS
    pose_basis: Float[Tensor, "verts 3 pose"] | None = None  #: on (R - I) of all joints but the root, row-major
    uvs: Float[Tensor, "texcoords 2"] | None = None  #: v up (v = 0 is the texture's bottom row)
    uv_faces: Int[Tensor, "faces 3"] | None = None
    landmarks: Mapping[str, LandmarkEmbedding] = field(default_factory=dict)  #: "68", "105", "478"
    contour: DynamicContour | None = None  #: for landmarks 0..16 of "68"; None where the 68 are static
    regions: Mapping[str, Bool[Tensor, "verts"]] = field(default_factory=dict)  #: face, lips, scalp, ...
    part_names: tuple[str, ...] = ("skin",)  #: skin, eyes, teeth, tongue, ...
    face_parts: Int[Tensor, "faces"] | None = None  #: index into part_names
    expression_bounds: Float[Tensor, "expr 2"] | None = None  #: smallest and largest sensible weight
    expression_std: Float[Tensor, "expr"] | None = None  #: prior scale of ψ; 1 where absent
    joints_follow_expression: bool = False  #: FLAME regresses its joints from the head with its expression

    @property
    def shapes(self) -> int:
        return self.shape_basis.shape[-1]

    @property
    def expressions(self) -> int:
        return self.expression_basis.shape[-1]

    def neutral(self, batch: tuple[int, ...] = ()) -> HeadCode:
        """The mean head: all parameters zero."""
        return HeadCode.neutral(
            self.shapes, self.expressions, batch, dtype=self.template.dtype, device=self.template.device
        )

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "HeadModel":
        """The same model on another device or in another floating type."""

        def move(x: Tensor) -> Tensor:
            return x.to(device=device, dtype=dtype if x.is_floating_point() else None)

        return map_tensors(self, move)

    def shaped(
        self, shape: Float[Tensor, "*#batch shape"], expression: Float[Tensor, "*#batch expr"]
    ) -> Float[Tensor, "*batch verts 3"]:
        """Unposed vertices, metres. Codes shorter than the bases stand for their leading components."""
        return self.template + _blend(self.shape_basis, shape) + _blend(self.expression_basis, expression)

    def joints(
        self, shape: Float[Tensor, "*#batch shape"], expression: Float[Tensor, "*#batch expr"] | None = None
    ) -> Float[Tensor, "*batch joints 3"]:
        """Joint positions of an unposed head, metres.

        The expression matters only where `joints_follow_expression`; without it the head is taken as neutral.
        """
        rest, of_shape, of_expression = self._joint_bases
        joints = rest + _blend(of_shape, shape)
        if expression is None:
            return joints
        if of_expression is not None:
            return joints + _blend(of_expression, expression)
        return joints.expand(*np.broadcast_shapes(shape.shape[:-1], expression.shape[:-1]), *rest.shape)

    @cached_property
    def _joint_bases(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """The regressor applied to the template and the bases, once."""
        with torch.inference_mode(False):
            shape = torch.einsum("jv,vcs->jcs", self.joint_regressor, self.shape_basis)
            follow = self.joints_follow_expression
            expression = torch.einsum("jv,vcs->jcs", self.joint_regressor, self.expression_basis) if follow else None
            return self.joint_regressor @ self.template, shape, expression

    def joint_rotations(self, code: HeadCode) -> Float[Tensor, "*batch joints 3 3"]:
        """Local rotation of every joint: global, neck, jaw, left eye, right eye as far as the model has them."""
        by_name = {
            "root": code.rotation,
            "neck": code.neck,
            "jaw": code.jaw,
            "left_eye": code.eyes[..., 0, :],
            "right_eye": code.eyes[..., 1, :],
        }
        vectors = torch.broadcast_tensors(*(by_name[name] for name in self.joint_names))
        return rotvec_to_rotmat(torch.stack(vectors, -2))

    def transforms(self, code: HeadCode) -> tuple[Float[Tensor, "*batch joints 3 3"], Float[Tensor, "*batch joints 3"]]:
        """Rest pose -> world, per joint: x_world = rotation x_rest + offset."""
        local = self.joint_rotations(code)
        rest = self.joints(code.shape, code.expression)
        batch = np.broadcast_shapes(local.shape[:-3], rest.shape[:-2], code.translation.shape[:-1])
        local, rest = local.expand(*batch, *local.shape[-3:]), rest.expand(*batch, *rest.shape[-2:])
        rotations: list[Tensor] = []
        positions: list[Tensor] = []
        for joint, parent in enumerate(self.parents):
            if parent < 0:
                rotations.append(local[..., joint, :, :])
                positions.append(rest[..., joint, :] + code.translation)
            else:
                bone = rest[..., joint, :] - rest[..., parent, :]
                rotations.append(rotations[parent] @ local[..., joint, :, :])
                positions.append(positions[parent] + (rotations[parent] @ bone.unsqueeze(-1)).squeeze(-1))
        rotation, position = torch.stack(rotations, -3), torch.stack(positions, -2)
        return rotation, position - (rotation @ rest.unsqueeze(-1)).squeeze(-1)

    def vertices(self, code: HeadCode) -> Float[Tensor, "*batch verts 3"]:
        """Posed vertices in the world, metres (linear blend skinning)."""
        unposed = self.shaped(code.shape, code.expression)
        if self.pose_basis is not None:
            feature = self.joint_rotations(code)[..., 1:, :, :]
            feature = (feature - torch.eye(3, dtype=feature.dtype, device=feature.device)).flatten(-3)
            unposed = unposed + _blend(self.pose_basis, feature)
        rotation, offset = self.transforms(code)
        blended = torch.einsum("vj,...jab->...vab", self.skin_weights, rotation)
        # A sum of products: much faster than thousands of 3x3 matrix products.
        moved = (blended * unposed.unsqueeze(-2)).sum(-1)
        return moved + torch.einsum("vj,...jc->...vc", self.skin_weights, offset)

    def surface_points(
        self, vertices: Float[Tensor, "*batch verts 3"], embedding: LandmarkEmbedding
    ) -> Float[Tensor, "*batch points 3"]:
        """Points of an embedding on given vertices."""
        corners = vertices[..., self.faces[embedding.faces], :]
        return (corners * embedding.weights.unsqueeze(-1)).sum(-2)

    def landmarks3d(
        self, vertices: Float[Tensor, "*batch verts 3"], which: str = "68"
    ) -> Float[Tensor, "*batch points 3"]:
        """Static landmarks on given vertices.

        Raises:
            KeyError: the model has no such landmark set.
        """
        if which not in self.landmarks:
            raise KeyError(f"{self.name} has no {which}-point landmarks, only {sorted(self.landmarks)}")
        return self.surface_points(vertices, self.landmarks[which])


def _blend(basis: Float[Tensor, "n c k"], code: Float[Tensor, "*batch m"]) -> Float[Tensor, "*batch n c"]:
    """basis · code, where a short code stands for the leading components."""
    size = code.shape[-1]
    if size > basis.shape[-1]:
        raise ValueError(f"code has {size} components, the basis only {basis.shape[-1]}")
    flat = basis[..., :size].flatten(0, 1)  # not reshape(-1, size): the basis may be empty
    return (code @ flat.mT).unflatten(-1, basis.shape[:-1])
