"""From one head model's code to another's: the same head, in the same place, in the other model's parameters."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..code import HeadCode
from ..rodrigues import rotvec_to_rotmat
from .correspondence import Correspondence, find_correspondence, similarity
from .head_model import HeadModel
from .reduce import keep_vertices

_EVIDENCE = 200.0  # residuals of neighbouring vertices are alike: this many count as independent
_NOISE = 0.0003  # metres: residuals below this do not matter much
_ROUNDS = 6
_JAW_STD = 0.3  # radians


def convert_code(
    code: HeadCode, source: HeadModel, target: HeadModel, correspondence: Correspondence | None = None
) -> HeadCode:
    """Express a head of one model in another, so that the posed faces coincide in the world.

    β is solved from the neutral head alone, so it does not depend on the expression. What the target cannot show of
    that head (half a millimetre, say) is set aside; then pose, ψ and, where the target has no `jawOpen` action, the
    jaw are solved on the posed face. So a neutral face becomes a neutral face. Neck and eyes keep their angles.
    Light is kept; albedo and detail codes belong to the source and are dropped.

    Args:
        code: one head or a batch.
        source: the code's model.
        target: the model wanted.
        correspondence: `find_correspondence(source, target)`, if at hand.

    Returns:
        The code in the target's parameters, with the same batch axes, dtype and device.

    Raises:
        HeadlabError: a model has no 68 landmarks.
    """
    match = correspondence or find_correspondence(source, target)
    solver = _Solver.build(source, target, match)
    code = replace(code, albedo=None, detail=None)
    values = {name: (v, v.dim() - 1 - (name in ("eyes", "light"))) for name, v in code.arrays().items()}
    batch = torch.broadcast_shapes(*(v.shape[:axes] for v, axes in values.values()))
    heads = {name: v.expand(*batch, *v.shape[axes:]).reshape(-1, *v.shape[axes:]) for name, (v, axes) in values.items()}
    with torch.no_grad():
        rows = [HeadCode(**{name: v[i] for name, v in heads.items()}) for i in range(len(heads["rotation"]))]
        solved = [solver.solve(row.to("cpu", torch.float64)).arrays() for row in rows]
    return HeadCode(
        **{
            name: torch.stack([row[name] for row in solved]).reshape(*batch, *first.shape).to(code.rotation)
            for name, first in solved[0].items()
        }
    )


@dataclass(frozen=True)
class _Solver:
    """Both models cut down to the matching points, float64 on the CPU."""

    source: HeadModel  #: its vertices are corners of the surface that the points lie on
    target: HeadModel  #: its first vertices are the points
    corners: Int[Tensor, "n 3"]  #: vertices of `source` around each point
    weights: Float[Tensor, "n 3"]
    importance: Float[Tensor, "n"]
    moves_jaw: bool

    @classmethod
    def build(cls, source: HeadModel, target: HeadModel, match: Correspondence) -> "_Solver":
        used, corners = match.corners.unique(return_inverse=True)
        return cls(
            keep_vertices(source.to("cpu"), used).to(dtype=torch.float64),
            keep_vertices(target.to("cpu"), match.vertices).to(dtype=torch.float64),
            corners,
            match.weights,
            match.importance,
            "jawOpen" not in target.expression_names,
        )

    def solve(self, code: HeadCode) -> HeadCode:
        still = self._goal(self.source.neutral().with_(shape=code.shape))
        guess = self._place(self.target.neutral(), still)
        for _ in range(_ROUNDS):
            guess = guess.with_(shape=self._shape(self._unposed(guess, still)))
            guess = self._place(guess, still)
        leftover = self._shaped(guess) - self._unposed(guess, still)
        turn = rotvec_to_rotmat(guess.rotation)  # target's rest axes -> source's
        guess = guess.with_(neck=code.neck @ turn, jaw=code.jaw @ turn, eyes=code.eyes @ turn, light=code.light)
        goal, jaw = self._goal(code), guess.jaw
        guess = self._place(guess, goal)
        for _ in range(_ROUNDS):
            guess = self._expression(guess, self._unposed(guess, goal) + leftover, jaw)
            guess = self._place(guess, goal)
        return guess

    def _goal(self, code: HeadCode) -> Float[Tensor, "n 3"]:
        return (self.source.vertices(code)[self.corners] * self.weights.unsqueeze(-1)).sum(-2)

    def _of_points(self, values: Float[Tensor, "verts *rest"]) -> Float[Tensor, "n *rest"]:
        return values[: len(self.corners)]

    def _place(self, guess: HeadCode, goal: Float[Tensor, "n 3"]) -> HeadCode:
        """Move the guess rigidly onto the source's posed face."""
        import roma

        points = self._of_points(self.target.vertices(guess))
        _, rotation, _ = similarity(points.numpy(), goal.numpy(), self.importance.numpy())
        turn = torch.from_numpy(rotation)
        offset = self.importance @ (goal - points @ turn.mT)
        root = self.target.joints(guess.shape, guess.expression)[0]
        # x -> turn x + offset, with x = R (y - root) + root + t
        moved = turn @ (root + guess.translation) + offset - root
        rotated = roma.rotmat_to_rotvec(turn @ rotvec_to_rotmat(guess.rotation))
        return guess.with_(rotation=rotated, translation=moved)

    def _shaped(self, guess: HeadCode) -> Float[Tensor, "n 3"]:
        """The target's unposed vertices without expression, pose correctives included."""
        shaped = self._of_points(self.target.shaped(guess.shape, guess.expression.new_zeros(1)))
        if self.target.pose_basis is None:
            return shaped
        feature = self.target.joint_rotations(guess)[1:] - torch.eye(3, dtype=shaped.dtype)
        return shaped + self._of_points(self.target.pose_basis) @ feature.flatten()

    def _unposed(self, guess: HeadCode, goal: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Where the target's unposed vertices must lie for its posed ones to meet the goal: skinning undone."""
        rotation, offset = self.target.transforms(guess)
        weights = self._of_points(self.target.skin_weights)
        blended = torch.einsum("vj,jab->vab", weights, rotation)
        return torch.linalg.solve(blended, (goal - weights @ offset).unsqueeze(-1)).squeeze(-1)

    @cached_property
    def _shape_rows(self) -> tuple[Float[Tensor, "rows k"], Float[Tensor, "k k"]]:
        """Weighted basis of β and of small rigid motions, and the factor of its normal equations with their prior."""
        template = self._of_points(self.target.template)
        basis = torch.cat([self._of_points(self.target.shape_basis), _rigid_columns(template)], -1)
        rows, _ = self._weighted(basis, template)
        prior = torch.cat([rows.new_ones(self.target.shapes), rows.new_full((6,), 1e-6)])
        return rows, torch.linalg.cholesky(rows.mT @ rows + torch.diag(prior))

    def _shape(self, wanted: Float[Tensor, "n 3"]) -> Float[Tensor, "shape"]:
        """Most likely β for unposed, neutral vertices that may be off by a small rigid motion."""
        rows, factor = self._shape_rows
        template = self._of_points(self.target.template)
        _, right = self._weighted(template.unsqueeze(-1), wanted - template)
        return torch.cholesky_solve((rows.mT @ right).unsqueeze(-1), factor).squeeze(-1)[: self.target.shapes]

    def _expression(self, guess: HeadCode, wanted: Float[Tensor, "n 3"], jaw: Float[Tensor, "3"]) -> HeadCode:
        """Most likely ψ within its bounds, and a step of the jaw where that is free, for given β and pose.

        Args:
            guess: the target's code so far.
            wanted: its unposed vertices.
            jaw: where the prior of the jaw sits.
        """
        target = self.target
        neutral = self._shaped(guess)
        count, free = target.expressions, [np.inf] * 6
        std = neutral.new_ones(count) if target.expression_std is None else target.expression_std
        bounds = target.expression_bounds
        low, high = ([-np.inf] * count, [np.inf] * count) if bounds is None else (bounds[:, 0], bounds[:, 1])
        # Unknowns: ψ, a step of the jaw if it is free, a small rigid motion (which `_place` then finds exactly).
        basis, scale, centre = [self._of_points(target.expression_basis)], [std], [torch.zeros_like(std)]
        step: list[float] = []
        if self.moves_jaw:
            basis.append(self._jaw_columns(guess))
            scale.append(std.new_full((3,), _JAW_STD))
            centre.append((jaw - guess.jaw) / _JAW_STD)
            step = [0.3] * 3
        basis.append(_rigid_columns(neutral))
        prior = torch.diag(torch.cat([1 / torch.cat(scale), std.new_full((6,), 1e-3)]))
        rows, right = self._weighted(torch.cat(basis, -1), wanted - neutral)
        from scipy.optimize import lsq_linear

        # The few hundred unknowns are solved through the triangular factor of the normal equations.
        factor = torch.linalg.cholesky(rows.mT @ rows + prior @ prior)
        middle = rows.mT @ right + prior @ torch.cat([*centre, std.new_zeros(6)])
        short = torch.linalg.solve_triangular(factor, middle.unsqueeze(-1), upper=False).squeeze(-1)
        limits = np.array([*low, *(-x for x in step), *(-x for x in free)]), np.array([*high, *step, *free])
        found = torch.from_numpy(lsq_linear(factor.mT.numpy(), short.numpy(), limits).x)
        guess = guess.with_(expression=found[:count])
        return guess.with_(jaw=guess.jaw + found[count : count + 3]) if self.moves_jaw else guess

    def _jaw_columns(self, guess: HeadCode) -> Float[Tensor, "n 3 3"]:
        """Derivative of the unposed position by the three jaw angles, by central differences."""
        rotation, _ = self.target.transforms(guess)
        blended = torch.einsum("vj,jab->vab", self._of_points(self.target.skin_weights), rotation)
        columns = []
        for axis in torch.eye(3, dtype=guess.jaw.dtype) * 1e-4:
            ahead = self._of_points(self.target.vertices(guess.with_(jaw=guess.jaw + axis)))
            behind = self._of_points(self.target.vertices(guess.with_(jaw=guess.jaw - axis)))
            columns.append(torch.linalg.solve(blended, ((ahead - behind) / 2e-4).unsqueeze(-1)).squeeze(-1))
        return torch.stack(columns, -1)

    def _weighted(
        self, basis: Float[Tensor, "n 3 k"], right: Float[Tensor, "n 3"]
    ) -> tuple[Float[Tensor, "rows k"], Float[Tensor, "rows"]]:
        weight = (self.importance * _EVIDENCE).sqrt() / _NOISE
        return (basis * weight[:, None, None]).flatten(0, 1), (right * weight[:, None]).flatten()


def _rigid_columns(points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3 6"]:
    """Motions of points under small turns about their centre and shifts along the axes."""
    arm = points - points.mean(0)
    axes = torch.eye(3, dtype=points.dtype)
    turns = torch.stack([torch.linalg.cross(axis.expand_as(arm), arm) for axis in axes], -1)
    return torch.cat([turns, axes.expand(len(points), 3, 3)], -1)
