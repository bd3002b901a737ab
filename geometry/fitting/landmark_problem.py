"""From landmarks to the energy that explains them, and to a place to start."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..camera import Camera
from ..code import HeadCode
from ..errors import HeadlabError
from ..models.head_model import HeadModel
from .contour import outward_normals
from .landmark_basis import LandmarkBasis
from .landmark_energy import LandmarkEnergy, LandmarkState
from .lm import LMConfig
from .pose_init import weak_perspective_pose
from .priors import FOCAL, POSE_VARIABLES, LandmarkPriors, PhotoPrior, photo_prior
from .so3 import rotation_matrix

#: An earlier fit is not continued if the head turned (radians), moved (metres) or grew (log scale) by more than this.
LOST = (0.6, 0.15, 0.5)


@dataclass(frozen=True)
class LandmarkFitConfig:
    """How far landmarks are trusted, and what may move."""

    noise: float = 0.01  #: standard deviation of a landmark, in units of the head's outer-eye distance
    contour_noise: tuple[float, float] = (1.0, 1.5)  #: factors on it for outline points: across and along the outline
    outline: Literal["auto", "fixed", "sliding"] = "auto"  #: of averted cheeks, see `contour`; auto: what fits
    systematic: float = 0.2  #: part of the noise's variance that is the same in all photos, so that more do not cure it
    kernel: str = "charbonnier"  #: "charbonnier", "geman-mcclure" or "none"
    kernel_scale: float = 3.0  #: residuals beyond so many standard deviations count as outliers
    fit_shape: bool = True  #: False keeps the identity of `init`
    fit_jaw: bool | None = None  #: None: only where no expression opens the mouth (no "jawOpen" among the names)
    shared_focal: bool = False  #: the photos come from one camera at one zoom
    slides: int = 8  #: how often outline points may be chosen anew
    priors: LandmarkPriors = field(default_factory=LandmarkPriors)
    solver: LMConfig = field(default_factory=LMConfig)


def landmark_problem(
    basis: LandmarkBasis,
    landmarks: Float[Tensor, "photos 478 2"],
    sizes: Sequence[tuple[int, int]],
    focal: Sequence[float | None] | None,
    init: tuple[HeadCode, Sequence[Camera]] | None,
    config: LandmarkFitConfig,
) -> tuple[LandmarkEnergy, LandmarkState]:
    """The energy of one person's photos and where to start; arguments as in `fit_landmarks`."""
    focals = _checked(landmarks, sizes, focal, init, config)
    targets = basis.layout.of(landmarks.detach().cpu().double().numpy())
    targets = targets - np.array([(width / 2, height / 2) for height, width in sizes])[:, None]
    sharing = len(sizes) if config.shared_focal else 1
    jaw = _fits_jaw(basis.model, config)
    priors = tuple(
        photo_prior(basis.model, config.priors, size, f, fit_jaw=jaw, sharing_focal=sharing)
        for size, f in zip(sizes, focals, strict=True)
    )
    expressions = basis.fixed.expressions
    state = _closed_form(basis, targets, np.array([prior.mean[expressions + FOCAL] for prior in priors]), config)
    if init is not None:
        state = _warm(basis, *init, state, np.array([f is not None for f in focals]))
    bounds = priors[0].lower[:expressions], priors[0].upper[:expressions]
    state = replace(state, expression=np.clip(state.expression, *bounds))
    if _shares_focal(priors, config):
        state = replace(state, log_focal=np.full(len(sizes), state.log_focal.mean()))
    return _energy(basis, state, targets, priors, config), state


def _checked(landmarks, sizes, focal, init, config) -> list[float | None]:
    photos = len(landmarks)
    focals: list[float | None] = [None] * photos if focal is None else list(focal)
    if not photos or len(sizes) != photos or len(focals) != photos:
        raise HeadlabError(
            f"landmarks of {photos} photos came with {len(sizes)} sizes and {len(focals)} focal lengths; "
            "give one of each per photo, and at least one photo"
        )
    if not bool(torch.isfinite(landmarks).all()):
        raise HeadlabError("some landmarks are not finite numbers; leave out photos in which no face was found")
    if bool((landmarks.amax(1) - landmarks.amin(1)).amax(-1).lt(1e-3).any()):
        raise HeadlabError("the landmarks of a photo all lie in one place; leave out photos in which no face was found")
    if any(f is not None and not f > 0 for f in focals):
        raise HeadlabError(f"focal lengths must be positive numbers of pixels, not {focals}; use None where unknown")
    if config.shared_focal and any(f is not None for f in focals):
        if len({f for f in focals if f is not None}) > 1:
            raise HeadlabError(f"photos said to share a focal length came with {focals}; leave out one or the other")
        focals = [next(f for f in focals if f is not None)] * photos
    if init is not None and len(init[0].shape) not in (1, photos):
        raise HeadlabError(f"the starting fit has {len(init[0].shape)} photos, but {photos} are to be fitted")
    if init is None and not config.fit_shape:
        raise HeadlabError("a fixed identity needs a starting fit to take it from; pass init or set fit_shape=True")
    return focals


def _fits_jaw(model: HeadModel, config: LandmarkFitConfig) -> bool:
    if config.fit_jaw is not None:
        return config.fit_jaw
    return "jaw" in model.joint_names and "jawOpen" not in model.expression_names


def _shares_focal(priors: tuple[PhotoPrior, ...], config: LandmarkFitConfig) -> bool:
    """One unknown focal length for all photos; a known one is held in every photo anyway."""
    focal = len(priors[0].mean) - POSE_VARIABLES + FOCAL
    return config.shared_focal and bool(priors[0].lower[focal] < priors[0].upper[focal])


def _weights(basis: LandmarkBasis, config: LandmarkFitConfig) -> np.ndarray:
    """Confidence of each landmark of the layout, for the closed-form start."""
    weights = np.ones(len(basis.order))
    weights[list(basis.layout.contour)] = config.contour_noise[0] ** -2
    return weights


def _closed_form(basis: LandmarkBasis, targets: np.ndarray, log_focal: np.ndarray, config) -> LandmarkState:
    """Mean head, posed by a weak-perspective camera."""
    photos = len(targets)
    poses = [weak_perspective_pose(basis.mean_points - basis.centre, t, _weights(basis, config)) for t in targets]
    return LandmarkState(
        np.zeros(basis.fixed.shapes),
        np.zeros((photos, basis.fixed.expressions)),
        log_focal,
        np.stack([rotation for rotation, _, _ in poses]),
        np.log([max(scale, 1e-6) for _, scale, _ in poses]),
        np.stack([offset for _, _, offset in poses]),
        np.zeros((photos, 3)),
        np.zeros((photos, 2, 2)),
    )


def _warm(
    basis: LandmarkBasis, codes: HeadCode, cameras: Sequence[Camera], closed: LandmarkState, known: np.ndarray
) -> LandmarkState:
    """State of an earlier fit. Where its head is nowhere near the landmarks (a cut, a jump), the closed-form pose."""
    photos = len(closed.log_focal)
    codes = codes.map(lambda value: value.detach().cpu().double().expand(photos, *value.shape[1:]))
    if len(cameras) != photos:
        cameras = list(cameras) * photos
    focal = np.array([float(camera.K[0, 0]) for camera in cameras])
    rotation = np.stack([rotation_matrix(v) for v in codes.rotation.numpy()])
    root = basis.root_of(codes.shape[0].numpy())
    placed = (rotation @ (basis.centre - root)[..., None])[..., 0] + root + codes.translation.numpy()
    scale = focal / -placed[:, 2]
    offset = scale[:, None] * placed[:, :2] * np.array([1.0, -1.0])
    turn = np.arccos(np.clip((np.einsum("kab,kab->k", rotation, closed.rotation) - 1) / 2, -1, 1))
    shift = np.linalg.norm(offset - closed.offset, axis=-1) / np.exp(closed.log_scale)
    lost = (turn > LOST[0]) | (shift > LOST[1]) | ~(np.abs(np.log(scale) - closed.log_scale) < LOST[2])
    return LandmarkState(
        codes.shape[0].numpy(),
        codes.expression.numpy(),
        np.where(known, closed.log_focal, np.log(focal)),
        np.where(lost[:, None, None], closed.rotation, rotation),
        np.where(lost, closed.log_scale, np.log(scale)),
        np.where(lost[:, None], closed.offset, offset),
        codes.jaw.numpy(),
        codes.eyes[..., :2].numpy(),
    )


def _energy(basis: LandmarkBasis, state: LandmarkState, targets, priors, config) -> LandmarkEnergy:
    """The problem at its start, outline slid once."""
    contour = list(basis.layout.contour)
    outward = np.stack([outward_normals(t[contour], basis.layout.closed, t.mean(0)) for t in targets])
    sigma = config.noise * basis.eye_distance * np.exp(state.log_scale)  # pixels
    whiten = np.tile(np.eye(2), (*targets.shape[:2], 1, 1))
    across, along = config.contour_noise
    tangent = np.stack([-outward[..., 1], outward[..., 0]], -1)
    inner = len(basis.order) - len(contour)
    whiten[:, inner:] = np.stack([outward / across, tangent / along], -2)
    whiten /= sigma[:, None, None, None]
    fixed, candidates = basis.fixed, basis.candidates
    if not config.fit_shape:
        fixed, candidates = fixed.with_shape(state.shape), candidates.with_shape(state.shape)
    rows = tuple(basis.lines.rows[:, 0] for _ in targets)
    energy = LandmarkEnergy(
        fixed,
        basis.lines,
        candidates,
        rows,
        (),
        basis.centre,
        targets[:, basis.order],
        whiten,
        outward,
        config.outline,
        priors,
        # n photos know the person as well as n / (1 + (n - 1) systematic) independent ones would
        config.priors.shape * (1 + (len(targets) - 1) * config.systematic),
        config.kernel,
        config.kernel_scale,
        _shares_focal(priors, config),
        config.slides,
    )
    return energy.with_outline(energy.slide(state))
