"""Levenberg-Marquardt for sums of squares whose variables are shared ones plus equal blocks, within bounds.

    normal equations   [ A    B_1 … B_k ]          A: shared variables (identity)
                       [ B_1ᵀ C_1       ]          C_i: variables of one photo or frame
                       [ …         …    ]
                       [ B_kᵀ       C_k ]

The blocks meet only in the shared variables, so the Schur complement over them makes a step linear in k. Bounds are
kept by solving the damped quadratic model in its box (primal-dual active set, Hintermüller, Ito & Kunisch 2002);
damping follows the gain ratio (Nielsen 1999, "Damping parameter in Marquardt's method"; Madsen, Nielsen & Tingleff
2004). What the variables mean is the problem's affair: landmarks, depth and sequences use the same loop.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from scipy.linalg import get_lapack_funcs

State = TypeVar("State")
(_posv,) = get_lapack_funcs(("posv",), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class ArrowVector:
    """A vector of the problem: shared part (s,) and one row per block (k, n)."""

    shared: np.ndarray
    blocks: np.ndarray

    def dot(self, other: "ArrowVector") -> float:
        return float(self.shared @ other.shared + np.vdot(self.blocks, other.blocks))


@dataclass(frozen=True, eq=False)
class ArrowSystem:
    """Gradient and Gauss-Newton Hessian of ½ Σ r² at a point."""

    shared: np.ndarray  #: A (s, s)
    coupling: np.ndarray  #: B (k, s, n)
    blocks: np.ndarray  #: C (k, n, n)
    gradient: ArrowVector

    def damped(self, damping: float) -> "ArrowSystem":
        """Marquardt's scaling: the diagonal grows by the factor (1 + damping)."""
        shared, blocks = self.shared.copy(), self.blocks.copy()
        for matrix in (shared, *blocks):
            diagonal = np.einsum("ii->i", matrix)
            diagonal += damping * np.maximum(diagonal, 1e-12)
        return replace(self, shared=shared, blocks=blocks)

    def times(self, vector: ArrowVector) -> ArrowVector:
        """Hessian · vector."""
        shared = self.shared @ vector.shared + np.einsum("ksn,kn->s", self.coupling, vector.blocks)
        blocks = np.einsum("knm,km->kn", self.blocks, vector.blocks) + vector.shared @ self.coupling
        return ArrowVector(shared, blocks)

    def solve(self, fixed: ArrowVector, values: ArrowVector) -> ArrowVector:
        """Minimise gᵀd + ½ dᵀHd over d with d = values where `fixed` (boolean).

        Raises:
            numpy.linalg.LinAlgError: the matrix is not positive definite; damp it more.
        """
        held = ArrowVector(np.where(fixed.shared, values.shared, 0.0), np.where(fixed.blocks, values.blocks, 0.0))
        pushed = self.times(held)
        right_s = np.where(fixed.shared, values.shared, -self.gradient.shared - pushed.shared)
        right_b = np.where(fixed.blocks, values.blocks, -self.gradient.blocks - pushed.blocks)
        free_s, free_b = ~fixed.shared, ~fixed.blocks
        schur = _restrict(self.shared, free_s)
        eliminated = []
        for matrix, coupling, free, right in zip(self.blocks, self.coupling, free_b, right_b, strict=True):
            coupling = coupling * free_s[:, None] * free
            solved = _solve_spd(_restrict(matrix, free), np.concatenate([coupling, right[None]]).T)
            schur -= coupling @ solved[:, :-1]
            right_s = right_s - coupling @ solved[:, -1]
            eliminated.append(solved)
        step_s = _solve_spd(schur, right_s[:, None])[:, 0] if len(schur) else right_s
        step_b = np.stack([solved[:, -1] - solved[:, :-1] @ step_s for solved in eliminated])
        return ArrowVector(step_s, step_b)

    def solve_within(self, lower: ArrowVector, upper: ArrowVector, max_changes: int = 12) -> ArrowVector:
        """The same over lower <= d <= upper; variables with equal bounds are held."""
        low = ArrowVector(lower.shared >= upper.shared, lower.blocks >= upper.blocks)
        high = ArrowVector(np.zeros_like(low.shared), np.zeros_like(low.blocks))
        pinned = low
        step = ArrowVector(np.clip(0.0, lower.shared, upper.shared), np.clip(0.0, lower.blocks, upper.blocks))
        for change in range(max_changes):
            if change:
                fixed = ArrowVector(low.shared | high.shared, low.blocks | high.blocks)
                values = ArrowVector(
                    np.where(low.shared, lower.shared, upper.shared), np.where(low.blocks, lower.blocks, upper.blocks)
                )
                step = self.solve(fixed, values)
            push = self.times(step)
            before = (low, high)
            new = [
                _active(step_, lower_, upper_, push_ + gradient_, low_, high_, pinned_, change == 0)
                for step_, lower_, upper_, push_, gradient_, low_, high_, pinned_ in zip(
                    _parts(step), _parts(lower), _parts(upper), _parts(push), _parts(self.gradient),
                    _parts(low), _parts(high), _parts(pinned), strict=True,
                )
            ]  # fmt: skip
            low, high = (ArrowVector(new[0][side], new[1][side]) for side in (0, 1))
            same = all(np.array_equal(a, b) for x, y in zip(before, (low, high), strict=True) for a, b in _pairs(x, y))
            if change and same:
                break
        return ArrowVector(
            np.clip(step.shared, lower.shared, upper.shared), np.clip(step.blocks, lower.blocks, upper.blocks)
        )


def _parts(vector: ArrowVector) -> tuple[np.ndarray, np.ndarray]:
    return vector.shared, vector.blocks


def _pairs(a: ArrowVector, b: ArrowVector) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    return (a.shared, b.shared), (a.blocks, b.blocks)


def _active(step, lower, upper, multiplier, low, high, pinned, first: bool) -> tuple[np.ndarray, np.ndarray]:
    """Which variables sit at a bound next: those beyond it, and those whose gradient still presses against it."""
    if first:  # at d = 0: held where descent would leave the box at once
        return pinned | ((lower >= 0) & (multiplier > 0)), ~pinned & (upper <= 0) & (multiplier < 0)
    free = ~(low | high)
    return (
        pinned | (free & (step < lower)) | (low & (multiplier > 0)),
        ~pinned & ((free & (step > upper)) | (high & (multiplier < 0))),
    )


def _restrict(matrix: np.ndarray, free: np.ndarray) -> np.ndarray:
    """The matrix with rows and columns of held variables replaced by the identity's."""
    if free.all():
        return matrix.copy()
    restricted = matrix * free[:, None] * free
    np.einsum("ii->i", restricted)[~free] = 1.0
    return restricted


def _solve_spd(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    _, solution, info = _posv(matrix, right, lower=1)
    if info:
        raise np.linalg.LinAlgError("matrix is not positive definite")
    return solution


@runtime_checkable
class Evaluation(Protocol):
    """A problem's value at a state, with whatever the problem wants to keep for linearising there."""

    @property
    def cost(self) -> float: ...


@runtime_checkable
class Problem(Protocol[State]):
    """What `minimize` needs to know."""

    def evaluate(self, state: State) -> Evaluation:
        """Cost ½ Σ r² (robust kernels included) at a state."""
        ...

    def linearize(self, evaluation) -> ArrowSystem:
        """Gradient and Gauss-Newton Hessian there, for steps that `retract` takes."""
        ...

    def retract(self, state: State, step: ArrowVector) -> State: ...

    def bounds(self, state: State) -> tuple[ArrowVector, ArrowVector]:
        """Smallest and largest step."""
        ...

    def refresh(self, state: State, evaluation) -> "Problem[State]":
        """The problem for the next iteration: correspondences found anew. `self` if nothing changed."""
        ...


@dataclass(frozen=True)
class LMConfig:
    """When to stop, and how boldly to start."""

    max_iterations: int = 30
    damping: float = 1e-3  #: first damping, relative to the Hessian's diagonal
    cost_tolerance: float = 1e-4  #: stop when a step gains, or promises, less than this part of the cost
    max_rejections: int = 8  #: in a row


@dataclass(frozen=True, eq=False)
class LMResult(Generic[State]):
    state: State
    cost: float
    iterations: int  #: linear systems solved
    evaluations: int  #: model evaluations, the first and those after refreshed correspondences included
    converged: bool
    problem: Problem[State]  #: as last refreshed


def minimize(
    problem: Problem[State],
    state: State,
    config: LMConfig = LMConfig(),
    callback: Callable[[int, State, float], None] | None = None,
) -> LMResult[State]:
    """Levenberg-Marquardt within bounds.

    Args:
        problem: see `Problem`.
        state: where to start, inside the bounds.
        callback: called with (iteration, state, cost) after every accepted step.
    """
    evaluation = problem.evaluate(state)
    evaluations, rejections, growth, damping = 1, 0, 2.0, config.damping
    system = problem.linearize(evaluation)
    for iteration in range(1, config.max_iterations + 1):
        try:
            step = system.damped(damping).solve_within(*problem.bounds(state))
        except np.linalg.LinAlgError:
            damping *= 10
            continue
        predicted = -system.gradient.dot(step) - 0.5 * system.times(step).dot(step)
        if predicted <= 0.1 * config.cost_tolerance * evaluation.cost:
            return LMResult(state, evaluation.cost, iteration, evaluations, True, problem)
        candidate = problem.retract(state, step)
        tried = problem.evaluate(candidate)
        evaluations += 1
        gain = (evaluation.cost - tried.cost) / predicted
        if not gain > 1e-3:  # also when the cost is not a number
            damping, growth, rejections = damping * growth, growth * 2, rejections + 1
            if rejections >= config.max_rejections:
                return LMResult(state, evaluation.cost, iteration, evaluations, False, problem)
            continue
        done = evaluation.cost - tried.cost <= config.cost_tolerance * evaluation.cost
        state, evaluation, rejections, growth = candidate, tried, 0, 2.0
        damping *= max(1 / 3, 1 - (2 * gain - 1) ** 3)
        if callback is not None:
            callback(iteration, state, evaluation.cost)
        if done:
            return LMResult(state, evaluation.cost, iteration, evaluations, True, problem)
        refreshed = problem.refresh(state, evaluation)
        if refreshed is not problem:
            problem, evaluation = refreshed, refreshed.evaluate(state)
            evaluations += 1
        system = problem.linearize(evaluation)
    return LMResult(state, evaluation.cost, config.max_iterations, evaluations, False, problem)
