"""The Levenberg-Marquardt core against dense linear algebra and problems with known minima."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from headlab.geometry.fitting.lm import ArrowSystem, ArrowVector, LMConfig, minimize


def random_system(rng: np.random.Generator, s: int, k: int, n: int) -> tuple[ArrowSystem, np.ndarray, np.ndarray]:
    """An arrow system, and the same as one dense matrix and gradient."""
    shared, coupling, blocks = np.zeros((s, s)), np.zeros((k, s, n)), np.zeros((k, n, n))
    dense = np.zeros((s + k * n, s + k * n))
    for i in range(k):
        jacobian = rng.standard_normal((3 * (s + n), s + n))
        h = jacobian.T @ jacobian
        shared += h[:s, :s]
        coupling[i], blocks[i] = h[:s, s:], h[s:, s:]
        own = slice(s + i * n, s + (i + 1) * n)
        dense[:s, own], dense[own, :s], dense[own, own] = h[:s, s:], h[s:, :s], h[s:, s:]
    dense[:s, :s] = shared
    gradient = rng.standard_normal(s + k * n) * 10
    system = ArrowSystem(shared, coupling, blocks, ArrowVector(gradient[:s], gradient[s:].reshape(k, n)))
    return system, dense, gradient


def flat(vector: ArrowVector) -> np.ndarray:
    return np.concatenate([vector.shared, vector.blocks.ravel()])


@pytest.mark.parametrize(("s", "k", "n"), [(4, 3, 5), (0, 2, 3), (7, 1, 4), (3, 20, 2)])
def test_schur_complement_equals_dense_solve(s: int, k: int, n: int):
    system, dense, gradient = random_system(np.random.default_rng(0), s, k, n)
    free = ArrowVector(np.zeros(s, bool), np.zeros((k, n), bool))
    step = flat(system.solve(free, ArrowVector(np.zeros(s), np.zeros((k, n)))))
    np.testing.assert_allclose(step, np.linalg.solve(dense, -gradient), rtol=1e-9)
    np.testing.assert_allclose(flat(system.times(ArrowVector(step[:s], step[s:].reshape(k, n)))), dense @ step)


@pytest.mark.parametrize("seed", range(5))
def test_box_solve_equals_bounded_least_squares(seed: int):
    rng = np.random.default_rng(seed)
    s, k, n = 4, 3, 5
    system, dense, gradient = random_system(rng, s, k, n)
    lower, upper = -rng.uniform(0, 0.2, s + k * n), rng.uniform(0, 0.2, s + k * n)
    lower[3] = upper[3] = 0.0
    lower[6] = 0.0
    box = [ArrowVector(b[:s], b[s:].reshape(k, n)) for b in (lower, upper)]
    step = flat(system.solve_within(*box))
    factor = np.linalg.cholesky(dense).T
    target = np.linalg.solve(factor.T, -gradient)
    wide = np.where(upper - lower < 1e-12, upper + 1e-12, upper)  # lsq_linear wants lower < upper
    expected = lsq_linear(factor, target, (lower, wide), method="bvls", tol=1e-12).x
    np.testing.assert_allclose(step, expected, atol=1e-8)


@dataclass(frozen=True, eq=False)
class Value:
    cost: float
    residual: np.ndarray
    x: np.ndarray


@dataclass(frozen=True, eq=False)
class Rosenbrock:
    """½ (10 (y - x²))² + ½ (1 - x)² with x shared and y the block."""

    lower: tuple[float, float] = (-np.inf, -np.inf)
    upper: tuple[float, float] = (np.inf, np.inf)
    refreshed: int = 0

    def evaluate(self, state: np.ndarray) -> Value:
        x, y = state
        residual = np.array([10 * (y - x**2), 1 - x])
        return Value(0.5 * float(residual @ residual), residual, state)

    def linearize(self, evaluation: Value) -> ArrowSystem:
        jacobian = np.array([[-20 * evaluation.x[0], 10.0], [-1.0, 0.0]])
        h, g = jacobian.T @ jacobian, jacobian.T @ evaluation.residual
        return ArrowSystem(h[:1, :1], h[None, :1, 1:], h[None, 1:, 1:], ArrowVector(g[:1], g[None, 1:]))

    def retract(self, state: np.ndarray, step: ArrowVector) -> np.ndarray:
        return state + flat(step)

    def bounds(self, state: np.ndarray) -> tuple[ArrowVector, ArrowVector]:
        low, high = np.array(self.lower) - state, np.array(self.upper) - state
        return ArrowVector(low[:1], low[None, 1:]), ArrowVector(high[:1], high[None, 1:])

    def refresh(self, state: np.ndarray, evaluation: Value) -> "Rosenbrock":
        return replace(self, refreshed=self.refreshed + 1) if self.refreshed < 2 else self


TIGHT = LMConfig(max_iterations=100, cost_tolerance=1e-14)


def test_finds_the_minimum_and_counts():
    seen = []
    result = minimize(Rosenbrock(), np.array([-1.2, 1.0]), TIGHT, lambda *event: seen.append(event))
    np.testing.assert_allclose(result.state, [1, 1], atol=1e-6)
    costs = [cost for _, _, cost in seen]
    assert costs == sorted(costs, reverse=True)
    assert result.problem.refreshed == 2
    assert result.iterations < 40
    assert result.evaluations >= len(seen) + 1 + 2


def test_stays_within_bounds():
    result = minimize(Rosenbrock(upper=(0.5, np.inf)), np.array([-1.2, 1.0]), TIGHT)
    np.testing.assert_allclose(result.state, [0.5, 0.25], atol=1e-6)
    assert result.converged


@dataclass(frozen=True, eq=False)
class NotANumber(Rosenbrock):
    """Becomes NaN right of x = 0.9."""

    def evaluate(self, state: np.ndarray) -> Value:
        value = super().evaluate(state)
        return replace(value, cost=float("nan")) if state[0] > 0.9 else value


def test_never_steps_to_nan():
    result = minimize(NotANumber(), np.array([-1.2, 1.0]), TIGHT)
    assert np.isfinite(result.cost)
    assert result.state[0] <= 0.9
