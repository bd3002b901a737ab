"""From one head model's code to another's: the same head, in the same place, in the other model's parameters."""

from dataclasses import dataclass, replace

import numpy as np
import roma
import torch
from jaxtyping import Float
from scipy.optimize import lsq_linear
from torch import Tensor

from ..code import HeadCode
from .correspondence import Correspondence, find_correspondence, similarity
from .head_model import HeadModel

_EVIDENCE = 200.0  # residuals of neighbouring vertices are alike: this many count as independent
_NOISE = 0.001  # metres: residuals below this do not matter much
_ROUNDS = 6
_JAW_STD = 0.3  # radians


def convert_code(
    code: HeadCode, source: HeadModel, target: HeadModel, correspondence: Correspondence | None = None
) -> HeadCode:
    """Express a head of one model in another, so that the posed faces coincide in the world.

    β is solved from the neutral head alone, so it does not depend on the expression; then pose, ψ and, where the
    target has no `jawOpen` action, the jaw are solved on the posed face. Neck and eyes keep their angles. Light is
    kept; albedo and detail codes belong to the source and are dropped.

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
    solver = _Solver(
        source.to("cpu", torch.float64), target.to("cpu", torch.float64), match, "jawOpen" not in target.expression_names
    )
    batch = torch.broadcast_shapes(*(v.shape[:-d] for v, d in _fields(code)))
    whole = replace(code, albedo=None, detail=None)
    flat = whole.map(lambda v: v)
    flat = replace(
        flat, **{name: v.expand(*batch, *v.shape[v.dim() - d :]).flatten(0, -d - 1) if batch else v[None]
                 for name, v, d in _named_fields(flat)}
    )  # fmt: skip
    size = flat.rotation.shape[0]
    with torch.no_grad():
        codes = [solver.solve(flat[i].to("cpu", torch.float64)) for i in range(size)]
    stacked = {name: torch.stack([c.arrays()[name] for c in codes]) for name in codes[0].arrays()}
    like = code.rotation
    return HeadCode(**{name: v.reshape(*batch, *v.shape[1:]).to(like) for name, v in stacked.items()})


@dataclass(frozen=True)
class _Solver:
    source: HeadModel
    target: HeadModel
    match: Correspondence
    moves_jaw: bool

    def solve(self, code: HeadCode) -> HeadCode:
        still = self.source.neutral().with_(shape=code.shape)
        guess = self._place(self.target.neutral(), still)
        for _ in range(_ROUNDS):
            wanted = self._unposed(guess, still)
            guess = guess.with_(shape=self._shape(wanted))
            guess = self._place(guess, still)
        turn = roma.rotvec_to_rotmat(guess.rotation)  # target's rest axes -> source's
        start = guess.with_(neck=code.neck @ turn, jaw=code.jaw @ turn, eyes=code.eyes @ turn, light=code.light)
        start = self._place(start, code)
        for _ in range(_ROUNDS):
            start = self._expression(start, code)
            start = self._place(start, code)
        return start

    def _goal(self, code: HeadCode) -> Float[Tensor, "n 3"]:
        return self.match.points(self.source.vertices(code))

    def _place(self, guess: HeadCode, code: HeadCode) -> HeadCode:
        """Move the guess rigidly onto the source's posed face."""
        goal, points = self._goal(code), self.target.vertices(guess)[self.match.vertices]
        weights = self.match.importance.numpy()
        _, rotation, _ = similarity(points.numpy(), goal.numpy(), weights)
        turn = torch.from_numpy(rotation)
        offset = self.match.importance @ (goal - points @ turn.mT)
        root = self.target.joints(guess.shape)[0]
        # x -> turn x + offset, with x = R (y - root) + root + t
        moved = turn @ (root + guess.translation) + offset - root
        rotated = roma.rotmat_to_rotvec(turn @ roma.rotvec_to_rotmat(guess.rotation))
        return guess.with_(rotation=rotated, translation=moved)

    def _unposed(self, guess: HeadCode, code: HeadCode) -> Float[Tensor, "n 3"]:
        """Where the target's unposed vertices must lie for its posed ones to meet the source's: skinning undone."""
        rotation, offset = self.target.transforms(guess)
        weights = self.target.skin_weights[self.match.vertices]
        blended = torch.einsum("vj,jab->vab", weights, rotation)
        return torch.linalg.solve(blended, (self._goal(code) - weights @ offset).unsqueeze(-1)).squeeze(-1)

    def _shape(self, wanted: Float[Tensor, "n 3"]) -> Float[Tensor, "shape"]:
        """Most likely β for unposed, neutral vertices."""
        rows, right = self._weighted(
            self.target.shape_basis[self.match.vertices], wanted - self.target.template[self.match.vertices]
        )
        return torch.linalg.solve(rows.mT @ rows + torch.eye(rows.shape[1], dtype=rows.dtype), rows.mT @ right)

    def _expression(self, guess: HeadCode, code: HeadCode) -> HeadCode:
        """Most likely ψ within its bounds, and a step of the jaw where that is free, for given β and pose."""
        target, at = self.target, self.match.vertices
        neutral = target.shaped(guess.shape, guess.expression.new_zeros(1))[at]
        if target.pose_basis is not None:
            feature = target.joint_rotations(guess)[1:] - torch.eye(3, dtype=neutral.dtype)
            neutral = neutral + target.pose_basis[at] @ feature.flatten()
        columns = [target.expression_basis[at]]
        std = target.expression_std
        scale = [torch.ones(target.expressions, dtype=neutral.dtype) if std is None else std]
        if target.expression_bounds is None:
            low, high = [np.full(target.expressions, -np.inf)], [np.full(target.expressions, np.inf)]
        else:
            low, high = [target.expression_bounds[:, 0].numpy()], [target.expression_bounds[:, 1].numpy()]
        if self.moves_jaw:
            columns.append(self._jaw_columns(guess))
            scale.append(torch.full((3,), _JAW_STD, dtype=neutral.dtype))
            low.append(np.full(3, -0.2))
            high.append(np.full(3, 0.2))
        basis = torch.cat(columns, -1)
        rows, right = self._weighted(basis, self._unposed(guess, code) - neutral)
        priors = torch.diag(1 / torch.cat(scale))
        centre = torch.zeros(len(priors), dtype=right.dtype)
        if self.moves_jaw:  # the prior holds the jaw's angle, of which the step is only a part
            centre[-3:] = -guess.jaw / _JAW_STD * 0.1
        low_all, high_all = np.concatenate(low), np.concatenate(high)
        # The few hundred unknowns are solved through the triangular factor of the normal equations.
        factor = torch.linalg.cholesky(rows.mT @ rows + priors @ priors)
        short = torch.linalg.solve_triangular(factor, (rows.mT @ right + priors @ centre).unsqueeze(-1), upper=False)
        found = lsq_linear(factor.mT.numpy(), short.squeeze(-1).numpy(), (low_all, np.maximum(high_all, low_all + 1e-9)))
        answer = torch.from_numpy(found.x)
        guess = guess.with_(expression=answer[: target.expressions])
        return guess.with_(jaw=guess.jaw + answer[-3:]) if self.moves_jaw else guess

    def _jaw_columns(self, guess: HeadCode) -> Float[Tensor, "n 3 3"]:
        """Derivative of the unposed position by the three jaw angles, by central differences."""
        rotation, _ = self.target.transforms(guess)
        blended = torch.einsum("vj,jab->vab", self.target.skin_weights[self.match.vertices], rotation)
        columns = []
        for axis in torch.eye(3, dtype=guess.jaw.dtype) * 1e-4:
            ahead = self.target.vertices(guess.with_(jaw=guess.jaw + axis))[self.match.vertices]
            behind = self.target.vertices(guess.with_(jaw=guess.jaw - axis))[self.match.vertices]
            columns.append(torch.linalg.solve(blended, ((ahead - behind) / 2e-4).unsqueeze(-1)).squeeze(-1))
        return torch.stack(columns, -1)

    def _weighted(
        self, basis: Float[Tensor, "n 3 k"], right: Float[Tensor, "n 3"]
    ) -> tuple[Float[Tensor, "rows k"], Float[Tensor, "rows"]]:
        weight = (self.match.importance * _EVIDENCE).sqrt() / _NOISE
        return (basis * weight[:, None, None]).flatten(0, 1), (right * weight[:, None]).flatten()


def _named_fields(code: HeadCode) -> list[tuple[str, Tensor, int]]:
    """Fields that are set, and how many of their axes are not batch."""
    return [(name, v, 2 if name in ("eyes", "light") else 1) for name, v in code.arrays().items()]


def _fields(code: HeadCode) -> list[tuple[Tensor, int]]:
    return [(v, d) for _, v, d in _named_fields(code)]
