"""DecaCode: what DECA and EMOCA read off a crop, and its place in a HeadCode."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from enum import Enum

import torch
from jaxtyping import Float
from torch import Tensor

from ..camera import WeakPerspective
from ..code import HeadCode

#: Order and lengths of E_flame's outputs.
PARTS: dict[str, int] = {"shape": 100, "texture": 50, "expression": 50, "pose": 6, "camera": 3, "light": 27}

#: Length of E_flame's output: 236.
OUTPUTS = sum(PARTS.values())


@dataclass(frozen=True)
class DecaCode:
    """Codes of a batch of crops. Rotations are axis-angle, radians."""

    shape: Float[Tensor, "*batch 100"]  #: FLAME identity
    texture: Float[Tensor, "*batch 50"]  #: FLAME albedo
    expression: Float[Tensor, "*batch 50"]
    pose: Float[Tensor, "*batch 6"]  #: global rotation, jaw
    camera: Float[Tensor, "*batch 3"]  #: [s, tx, ty], see `WeakPerspective`
    light: Float[Tensor, "*batch 9 3"]  #: spherical harmonics: band, then RGB
    detail: Float[Tensor, "*batch 128"] | None = None  #: None where the detail encoder was left out

    @classmethod
    def split(
        cls, parameters: Float[Tensor, "*batch 236"], detail: Float[Tensor, "*batch 128"] | None = None
    ) -> "DecaCode":
        """Take E_flame's output apart."""
        parts = dict(zip(PARTS, parameters.split(list(PARTS.values()), -1), strict=True))
        parts["light"] = parts["light"].unflatten(-1, (9, 3))
        return cls(**parts, detail=detail)

    @property
    def weak_perspective(self) -> WeakPerspective:
        return WeakPerspective(self.camera)

    @property
    def latent(self) -> Float[Tensor, "*batch 181"]:
        """What the detail decoder takes: jaw, expression, detail.

        Raises:
            ValueError: there is no detail code.
        """
        if self.detail is None:
            raise ValueError("this code has no detail part; encode with detail=True")
        return torch.cat([self.pose[..., 3:], self.expression, self.detail], -1)

    def with_(self, **changes: Tensor | None) -> "DecaCode":
        """A copy with some fields changed."""
        return replace(self, **changes)

    def map(self, function: Callable[[Tensor], Tensor]) -> "DecaCode":
        """Apply a function to every tensor that is set."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: function(v) for name, v in values.items() if v is not None})

    def __getitem__(self, index) -> "DecaCode":
        """Index the leading batch axes."""
        return self.map(lambda value: value[index])

    def head_code(self) -> HeadCode:
        """The head in FLAME's frame; DECA holds neck, eyes and translation at zero (its camera moves instead)."""
        batch = self.pose.shape[:-1]
        zero = self.pose.new_zeros(*batch, 3)
        return HeadCode(
            shape=self.shape,
            expression=self.expression,
            rotation=self.pose[..., :3],
            neck=zero,
            jaw=self.pose[..., 3:],
            eyes=self.pose.new_zeros(*batch, 2, 3),
            translation=zero,
            albedo=self.texture,
            light=self.light,
            detail=self.detail,
        )


class ExpressionOutputs(Enum):
    """What EMOCA's expression encoder predicts besides the 50 expression coefficients.

    The value is (jaw, global rotation): `exp_deca_jaw_pose` and `exp_deca_global_pose` of its configuration.
    The released EMOCA predicts the expression alone.
    """

    EXPRESSION = (False, False)
    JAW = (True, False)
    GLOBAL = (False, True)
    GLOBAL_JAW = (True, True)

    @property
    def outputs(self) -> int:
        """Length of the network's output: 50, 53, 53 or 56."""
        return PARTS["expression"] + 3 * sum(self.value)

    def merge(self, code: DecaCode, prediction: Float[Tensor, "*batch outputs"]) -> DecaCode:
        """EMOCA's codes: DECA's, with what E_expression predicts in place of DECA's.

        Raises:
            ValueError: the prediction has another length than this configuration.
        """
        if prediction.shape[-1] != self.outputs:
            raise ValueError(f"{self.name} needs {self.outputs} outputs, got {prediction.shape[-1]}")
        jaw, whole = self.value
        expression, pose = prediction[..., : PARTS["expression"]], prediction[..., PARTS["expression"] :]
        if jaw and not whole:
            pose = torch.cat([code.pose[..., :3], pose], -1)
        elif whole and not jaw:
            pose = torch.cat([pose, code.pose[..., 3:]], -1)
        elif not jaw:
            pose = code.pose
        return code.with_(expression=expression, pose=pose)
