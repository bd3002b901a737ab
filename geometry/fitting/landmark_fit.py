"""fit_landmarks: camera, pose, identity, expression, jaw and gaze of one person from 478 points in one or more photos.

    closed-form pose of the mean head ──> Levenberg-Marquardt on everything, outline sliding ──> LandmarkFit

The problem is small and almost linear: fewer than ten model evaluations of a millisecond each.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..camera import Camera
from ..code import HeadCode
from ..models.head_model import HeadModel
from .landmark_basis import LandmarkBasis as LandmarkBasis
from .landmark_energy import LandmarkEnergy, LandmarkState
from .landmark_problem import LandmarkFitConfig as LandmarkFitConfig
from .landmark_problem import landmark_problem
from .lm import LMResult, minimize
from .so3 import rotation_vector

DEFAULT = LandmarkFitConfig()


@dataclass(frozen=True)
class LandmarkReport:
    """How the solver fared."""

    nme: tuple[float, ...]  #: per photo: mean distance of the 68 points over the outer-eye distance in the photo
    iterations: int
    evaluations: int  #: model evaluations, each of all photos
    cost: float
    converged: bool
    seconds: float


@dataclass(frozen=True)
class LandmarkFit:
    """One person in k photos."""

    codes: HeadCode  #: leading axis over photos; rows of `shape` are equal
    cameras: tuple[Camera, ...]  #: frontal, at the world's origin
    points: Float[Tensor, "photos points 2"]  #: the model's landmarks in the photos, outline slid, pixels
    landmarks: Float[Tensor, "photos points 2"]  #: the detected ones in the same order
    report: LandmarkReport


def fit_landmarks(
    model: HeadModel | LandmarkBasis,
    landmarks: Float[Tensor, "photos 478 2"],
    sizes: Sequence[tuple[int, int]],
    *,
    focal: Sequence[float | None] | None = None,
    init: LandmarkFit | None = None,
    config: LandmarkFitConfig = DEFAULT,
) -> LandmarkFit:
    """Fit one person's head to the landmarks of one or more photos.

    Args:
        model: a head model, or what `LandmarkBasis.build` made of it (do that when fitting more than once).
        landmarks: MediaPipe's points, pixels.
        sizes: (height, width) of every photo, pixels.
        focal: known focal lengths in pixels; None where unknown.
        init: an earlier fit to start from (one per photo, or one for all), instead of the closed-form pose.
        config: see `LandmarkFitConfig`.

    Raises:
        HeadlabError: counts disagree, numbers are not finite, or the model has no landmarks.
    """
    started = time.perf_counter()
    basis = model if isinstance(model, LandmarkBasis) else LandmarkBasis.build(model)
    start = None if init is None else (init.codes, init.cameras)
    energy, state = landmark_problem(basis, landmarks, sizes, focal, start, config)
    return _result(basis, minimize(energy, state, config.solver), sizes, started)


def _result(
    basis: LandmarkBasis, result: LMResult[LandmarkState], sizes: Sequence[tuple[int, int]], started: float
) -> LandmarkFit:
    state, energy = result.state, result.problem
    assert isinstance(energy, LandmarkEnergy)
    model, photos = basis.model, len(sizes)
    dtype = model.template.dtype
    pixels, targets = np.empty_like(energy.targets), np.empty_like(energy.targets)
    for i, (photo, (height, width)) in enumerate(zip(energy.evaluate(state).photos, sizes, strict=True)):
        pixels[i, basis.order] = photo.pixels + np.array([width / 2, height / 2])
        targets[i, basis.order] = energy.targets[i] + np.array([width / 2, height / 2])
    subset, (right, left) = list(basis.layout.ibug68), basis.layout.outer_eyes
    error = np.linalg.norm(pixels - targets, axis=-1)[:, subset].mean(-1)
    nme = error / np.maximum(np.linalg.norm(targets[:, left] - targets[:, right], axis=-1), 1e-9)

    focal = np.exp(state.log_focal)
    inverse_scale = np.exp(-state.log_scale)[:, None]
    placed = inverse_scale * np.concatenate([state.offset * np.array([1.0, -1.0]), -focal[:, None]], -1)
    shape = torch.from_numpy(state.shape).to(dtype).expand(photos, -1)
    root = basis.root_of(state.shape)
    translation = placed - (state.rotation @ (basis.centre - root)[..., None])[..., 0] - root

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(dtype)

    codes = HeadCode(
        shape,
        tensor(state.expression),
        tensor(np.stack([rotation_vector(r) for r in state.rotation])),
        torch.zeros(photos, 3, dtype=dtype),
        tensor(state.jaw),
        tensor(np.concatenate([state.eyes, np.zeros((photos, 2, 1))], -1)),
        tensor(translation),
    )
    cameras = tuple(Camera.frontal(float(f), size, dtype) for f, size in zip(focal, sizes, strict=True))
    report = LandmarkReport(
        tuple(nme.tolist()),
        result.iterations,
        result.evaluations,
        result.cost,
        result.converged,
        time.perf_counter() - started,
    )
    return LandmarkFit(codes, cameras, tensor(pixels), tensor(targets), report)
