"""Smoothing of tracked values over time: forward-backward for whole recordings, one-euro for streams.

Forward-backward: the curve x that minimises

    Σ_i (x_i - y_i)² Δt_i  +  τ⁴ ∫ x''(t)² dt            (Whittaker 1923; Reinsch 1967: a smoothing spline)

It is what a Kalman filter and Rauch-Tung-Striebel smoother give for a point pushed by white noise, found in the same
forward elimination and backward substitution of a banded system. Nothing lags: an oscillation of angular frequency ω
keeps its phase and 1 / (1 + (ωτ)⁴) of its size, so f = 1 / (2πτ) is the frequency that is halved. Times may be uneven.
"""

from dataclasses import dataclass

import numpy as np
import roma
import torch
from jaxtyping import Bool, Float
from scipy.linalg import solveh_banded
from torch import Tensor


def smooth_forward_backward(
    values: Float[np.ndarray, "frames *channels"], times: Float[np.ndarray, "frames"], cutoff: float | int
) -> Float[np.ndarray, "frames *channels"]:
    """Smooth without lag.

    Straight lines pass unchanged, whatever the times; so does everything where there are fewer than three frames.

    Args:
        values: one row per frame.
        times: seconds, strictly increasing.
        cutoff: frequency that is halved, Hz; infinite leaves the values alone, 0 fits a straight line.

    Raises:
        ValueError: times do not increase, or the cutoff is negative.
    """
    frames = len(values)
    steps = np.diff(times)
    if len(times) != frames or not bool((steps > 0).all()):
        raise ValueError("smoothing needs one time per frame, each later than the one before")
    if not cutoff >= 0:
        raise ValueError(f"the cutoff is a frequency of at least 0 Hz, not {cutoff}")
    if frames < 3 or np.isinf(cutoff):
        return values.copy()
    flat = values.reshape(frames, -1).astype(np.float64)
    line = np.polynomial.polynomial.polyfit(times - times.mean(), flat, 1)
    straight = line[0] + np.outer(times - times.mean(), line[1])
    if cutoff == 0:
        return straight.reshape(values.shape).astype(values.dtype)
    # Lengths in units of the mean step, so that the two terms are of like size.
    unit = steps.mean()
    h = steps / unit
    stiffness = (1 / (2 * np.pi * cutoff * unit)) ** 4
    span = (h[:-1] + h[1:]) / 2
    second = np.stack([1 / h[:-1], -1 / h[:-1] - 1 / h[1:], 1 / h[1:]], 1) / span[:, None]  # rows of D
    bands = np.zeros((3, frames))  # upper form: bands[2 - k, j] is entry (j - k, j) of W + τ⁴ Dᵀ S D
    bands[2] = np.concatenate([h[:1], h[:-1] + h[1:], h[-1:]]) / 2  # the trapezoidal rule
    weight = bands[2].copy()
    for a in range(3):
        for b in range(a, 3):
            columns = np.arange(frames - 2) + b
            np.add.at(bands[2 - (b - a)], columns, stiffness * span * second[:, a] * second[:, b])
    # Without the straight part: the penalty does not see it, and what is left is better conditioned.
    smooth = straight + solveh_banded(bands, weight[:, None] * (flat - straight))
    return smooth.reshape(values.shape).astype(values.dtype)


def smooth_rotations(
    vectors: Float[Tensor, "frames *joints 3"], times: Float[np.ndarray, "frames"], cutoff: float | int
) -> Float[Tensor, "frames *joints 3"]:
    """`smooth_forward_backward` for axis-angle vectors, radians: on unit quaternions, one sign along each curve."""
    quaternions = continuous_quaternions(vectors)
    smooth = torch.from_numpy(smooth_forward_backward(quaternions.numpy(), times, cutoff))
    return roma.unitquat_to_rotvec(torch.nn.functional.normalize(smooth, dim=-1)).to(vectors)


def continuous_quaternions(vectors: Float[Tensor, "frames *joints 3"]) -> Float[Tensor, "frames *joints 4"]:
    """Axis-angle -> unit quaternions (x, y, z, w) in float64, each on the side of the sphere the one before is on."""
    quaternions = roma.rotvec_to_unitquat(vectors.detach().cpu().double())
    if len(quaternions) < 2:
        return quaternions
    turned = (quaternions[1:] * quaternions[:-1]).sum(-1, keepdim=True) < 0
    flips = torch.cat([torch.zeros_like(turned[:1]), turned]).long().cumsum(0) % 2
    return torch.where(flips == 1, -quaternions, quaternions)


def fill_gaps(
    values: Float[np.ndarray, "frames *channels"], times: Float[np.ndarray, "frames"], known: Bool[np.ndarray, "frames"]
) -> Float[np.ndarray, "frames *channels"]:
    """Straight lines through the unknown frames; before the first and after the last known one, its value.

    Raises:
        ValueError: nothing is known.
    """
    if not known.any():
        raise ValueError("no frame is known, so there is nothing to interpolate from")
    flat = values.reshape(len(values), -1)
    filled = [np.interp(times, times[known], column[known]) for column in flat.T]
    return np.stack(filled, 1).reshape(values.shape).astype(values.dtype) if filled else values.copy()


def fill_rotation_gaps(
    vectors: Float[Tensor, "frames *joints 3"], times: Float[np.ndarray, "frames"], known: Bool[np.ndarray, "frames"]
) -> Float[Tensor, "frames *joints 3"]:
    """`fill_gaps` for axis-angle vectors, radians: along the shorter arc (normalised linear interpolation)."""
    quaternions = torch.zeros(*vectors.shape[:-1], 4, dtype=torch.float64)
    quaternions[torch.from_numpy(known)] = continuous_quaternions(vectors[torch.from_numpy(known)])
    filled = torch.from_numpy(fill_gaps(quaternions.numpy(), times, known))
    result = roma.unitquat_to_rotvec(torch.nn.functional.normalize(filled, dim=-1)).to(vectors)
    result[torch.from_numpy(known)] = vectors[torch.from_numpy(known)]
    return result


@dataclass(frozen=True)
class OneEuro:
    """The one-euro filter (Casiez, Roussel & Vogel, "1€ Filter", CHI 2012): smooth when still, prompt when moving."""

    min_cutoff: float = 1.0  #: cutoff of values at rest, Hz: lower for less jitter
    beta: float = 0.05  #: growth of the cutoff with speed, Hz per unit per second: higher for less lag
    speed_cutoff: float = 1.0  #: cutoff of the speed, Hz

    def start(self, value: Float[np.ndarray, "*channels"], time: float) -> "OneEuroState":
        """The first value of a stream; it passes as it is."""
        return OneEuroState(value.astype(np.float64), np.zeros(value.shape), float(time))

    def step(self, state: "OneEuroState", value: Float[np.ndarray, "*channels"], time: float) -> "OneEuroState":
        """The next value.

        Raises:
            ValueError: its time is not later than the last one's.
        """
        elapsed = time - state.time
        if not elapsed > 0:
            raise ValueError(f"time must grow from value to value: {time} came after {state.time}")
        slope = (value - state.value) / elapsed
        speed = state.speed + _share(self.speed_cutoff, elapsed) * (slope - state.speed)
        share = _share(self.min_cutoff + self.beta * np.abs(speed), elapsed)
        return OneEuroState(state.value + share * (value - state.value), speed, float(time))

    def run(
        self, values: Float[np.ndarray, "frames *channels"], times: Float[np.ndarray, "frames"]
    ) -> Float[np.ndarray, "frames *channels"]:
        """A whole stream; frame i depends on frames 0..i alone."""
        if not len(values):
            return values.copy()
        state = self.start(values[0], float(times[0]))
        rows = [state.value]
        for value, time in zip(values[1:], times[1:], strict=True):
            state = self.step(state, value, float(time))
            rows.append(state.value)
        return np.stack(rows).astype(values.dtype)

    def run_rotations(
        self, vectors: Float[Tensor, "frames *joints 3"], times: Float[np.ndarray, "frames"]
    ) -> Float[Tensor, "frames *joints 3"]:
        """`run` for axis-angle vectors, radians, on unit quaternions."""
        rows = torch.from_numpy(self.run(continuous_quaternions(vectors).numpy(), times))
        return roma.unitquat_to_rotvec(torch.nn.functional.normalize(rows, dim=-1)).to(vectors)


@dataclass(frozen=True, eq=False)
class OneEuroState:
    """Where a stream is."""

    value: Float[np.ndarray, "*channels"]  #: the filtered value
    speed: Float[np.ndarray, "*channels"]  #: filtered, units per second
    time: float  #: seconds


def _share(cutoff, elapsed: float):
    """Part of the way to a new value that a first-order low-pass goes."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff * elapsed))
