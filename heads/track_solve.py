"""From landmarks of every frame to codes: one identity, then pose and expression frame by frame, then smoothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..geometry.camera import Camera
from ..geometry.code import HeadCode
from ..geometry.fitting.landmark_fit import LandmarkBasis, LandmarkFit, LandmarkFitConfig, fit_landmarks
from ..geometry.fitting.landmark_problem import landmark_problem
from ..geometry.fitting.smoothing import (
    OneEuro,
    fill_gaps,
    fill_rotation_gaps,
    smooth_forward_backward,
    smooth_rotations,
)
from ..geometry.landmarks import IBUG68
from ..geometry.models.head_model import HeadModel

#: Fields of a code that are rotations, and those that are plain numbers, and whether they belong to the pose.
_ROTATIONS = {"rotation": True, "neck": True, "jaw": False, "eyes": False}
_NUMBERS = {"translation": True, "expression": False}


@dataclass(frozen=True)
class SmoothConfig:
    """How a track is smoothed."""

    method: Literal["forward-backward", "one-euro", "none"] = "forward-backward"
    strength: float | int = 1.0  #: divides the cutoffs: 0 none, 1 usual, 2 calmer
    pose_cutoff: float = 4.0  #: of rotation and translation, Hz at strength 1
    expression_cutoff: float = 7.0  #: of expression, jaw and gaze; a blink lasts a tenth of a second
    one_euro: OneEuro = field(default_factory=lambda: OneEuro(min_cutoff=1.0, beta=30.0))  #: strength divides both


def spread_frames(
    landmarks: Float[Tensor, "frames 478 2"], count: int, *, trust: Float[np.ndarray, "frames"] | None = None
) -> list[int]:
    """Frames that differ most in pose and expression: farthest points among the upright, equally large landmarks.

    Args:
        landmarks: frames with a face only.
        count: how many are wanted at most.
        trust: the first is the frame with the largest; the one nearest to the mean face where absent.

    Returns:
        Indices, sorted.
    """
    points = landmarks[:, list(IBUG68)].double().numpy()
    points = points - points.mean(1, keepdims=True)
    features = (points / np.sqrt((points**2).sum((1, 2), keepdims=True))).reshape(len(points), -1)
    first = np.linalg.norm(features - features.mean(0), axis=1).argmin() if trust is None else trust.argmax()
    chosen = [int(first)]
    distance = np.linalg.norm(features - features[first], axis=1)
    while len(chosen) < min(count, len(points)) and distance.max() > 1e-6:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(features - features[chosen[-1]], axis=1))
    return sorted(chosen)


def solve_frames(
    basis: LandmarkBasis,
    landmarks: Float[Tensor, "frames 478 2"],
    size: tuple[int, int],
    start: LandmarkFit,
    config: LandmarkFitConfig,
    step: Callable[[int], None] = lambda frame: None,
) -> tuple[HeadCode, Float[np.ndarray, "frames"]]:
    """Pose and expression of every frame with identity and focal length held, each begun from the frame before.

    Args:
        start: gives identity, focal length and the first start.

    Returns:
        Codes with a frame axis and the landmark error of every frame (68 points, over the eye distance).
    """
    config = replace(config, fit_shape=False)
    focal = float(start.cameras[0].K[0, 0])
    last = replace(start, codes=start.codes[:1], cameras=start.cameras[:1])
    rows: list[HeadCode] = []
    errors = np.zeros(len(landmarks))
    for i, points in enumerate(landmarks):
        last = fit_landmarks(basis, points[None], [size], focal=[focal], init=last, config=config)
        rows.append(last.codes[0])
        errors[i] = last.report.nme[0]
        step(i)
    codes = _stack(rows)
    return codes.with_(shape=start.codes.shape[:1].expand(len(rows), -1)), errors


def fill_codes(codes: HeadCode, times: Float[np.ndarray, "frames"], seen: Bool[np.ndarray, "frames"]) -> HeadCode:
    """Codes of the frames with a face -> of all frames, the others interpolated.

    Args:
        codes: as many as there are frames with a face.
        times: seconds, of all frames.
    """
    index = torch.from_numpy(np.cumsum(seen).clip(1) - 1)
    every = codes[index]
    changes: dict[str, Tensor | None] = {}
    for name in _ROTATIONS:
        changes[name] = fill_rotation_gaps(getattr(every, name), times, seen)
    for name in _NUMBERS:
        changes[name] = torch.from_numpy(fill_gaps(getattr(every, name).numpy(), times, seen))
    return every.with_(**changes)


def smooth_codes(
    model: HeadModel, codes: HeadCode, times: Float[np.ndarray, "frames"], config: SmoothConfig
) -> HeadCode:
    """Smooth everything that changes over time; identity, light and colour stay. ψ stays within the model's bounds."""
    if config.method == "none" or config.strength <= 0 or len(times) < 3:
        return codes
    slow, beta = config.one_euro.min_cutoff / config.strength, config.one_euro.beta / config.strength
    euro = replace(config.one_euro, min_cutoff=slow, beta=beta)
    changes: dict[str, Tensor | None] = {}
    for name, of_pose in (_ROTATIONS | _NUMBERS).items():
        values = getattr(codes, name)
        cutoff = (config.pose_cutoff if of_pose else config.expression_cutoff) / config.strength
        if config.method == "one-euro":
            if name in _ROTATIONS:
                changes[name] = euro.run_rotations(values, times)
            else:
                changes[name] = torch.from_numpy(euro.run(values.numpy(), times))
        elif name in _ROTATIONS:
            changes[name] = smooth_rotations(values, times, cutoff)
        else:
            changes[name] = torch.from_numpy(smooth_forward_backward(values.numpy(), times, cutoff))
    expression = changes["expression"]
    if model.expression_bounds is not None and expression is not None:
        low, high = model.expression_bounds.to(expression)[: expression.shape[-1]].unbind(-1)
        changes["expression"] = expression.clamp(low, high)
    return codes.with_(**changes)


def landmark_errors(
    basis: LandmarkBasis,
    codes: HeadCode,
    cameras: Sequence[Camera],
    landmarks: Float[Tensor, "frames 478 2"],
    config: LandmarkFitConfig,
) -> Float[np.ndarray, "frames"]:
    """Landmark error of given codes (68 points, outline slid, over the eye distance)."""
    errors = np.zeros(len(landmarks))
    config = replace(config, fit_shape=False, shared_focal=False)
    subset, (right, left) = list(basis.layout.ibug68), basis.layout.outer_eyes
    for i, camera in enumerate(cameras):
        start = (codes[i : i + 1], [camera])
        focal = [float(camera.K[0, 0])]
        energy, state = landmark_problem(basis, landmarks[i : i + 1], [camera.size], focal, start, config)
        pixels, targets = np.empty_like(energy.targets[0]), np.empty_like(energy.targets[0])
        pixels[basis.order] = energy.evaluate(state).photos[0].pixels
        targets[basis.order] = energy.targets[0]
        unit = max(float(np.linalg.norm(targets[left] - targets[right])), 1e-9)
        errors[i] = np.linalg.norm(pixels - targets, axis=-1)[subset].mean() / unit
    return errors


def jitter(model: HeadModel, codes: HeadCode, still: Bool[np.ndarray, "frames"]) -> float:
    """Mean length of the second difference of the posed vertices over frames where the head is still, millimetres."""
    frames = np.flatnonzero(still[:-2] & still[1:-1] & still[2:])
    if not len(frames):
        return float("nan")
    total = 0.0
    for i in frames:
        a, b, c = model.vertices(codes[int(i) : int(i) + 3])
        total += float((a - 2 * b + c).norm(dim=-1).mean())
    return 1000 * total / len(frames)


def still_frames(codes: HeadCode, times: Float[np.ndarray, "frames"]) -> Bool[np.ndarray, "frames"]:
    """Frames in which the head turns slower than 10 degrees and moves slower than 5 cm per second.

    Judged on curves smoothed to 1 Hz, so that the jitter itself does not count as motion.
    """
    if len(times) < 3:
        return np.ones(len(times), bool)
    turn = smooth_rotations(codes.rotation, times, 1.0).double().numpy()
    move = smooth_forward_backward(codes.translation.double().numpy(), times, 1.0)
    speed = np.linalg.norm(np.gradient(turn, times, axis=0), axis=-1)
    return (speed < np.radians(10)) & (np.linalg.norm(np.gradient(move, times, axis=0), axis=-1) < 0.05)


def _stack(rows: Sequence[HeadCode]) -> HeadCode:
    first = rows[0].arrays()
    return HeadCode(**{name: torch.stack([row.arrays()[name] for row in rows]) for name in first})
