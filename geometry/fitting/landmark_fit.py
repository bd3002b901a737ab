"""fit_landmarks: camera, pose, identity, expression, jaw and gaze of one person from 478 points in one or more photos.

    closed-form pose of the mean head ──> Levenberg-Marquardt on everything, outline sliding ──> LandmarkFit

The problem is small and almost linear: about ten model evaluations of a millisecond each.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..camera import Camera
from ..code import HeadCode
from ..errors import HeadlabError
from ..models.head_model import HeadModel, LandmarkEmbedding
from .contour import ContourLines, outward_normals
from .landmark_energy import LandmarkEnergy, LandmarkState
from .landmark_layout import LandmarkLayout, layout_for
from .lm import LMConfig, minimize
from .point_basis import PointBasis
from .pose_init import weak_perspective_pose
from .priors import FOCAL, POSE_VARIABLES, LandmarkPriors, PhotoPrior, photo_prior
from .so3 import rotation_matrix, rotation_vector


@dataclass(frozen=True)
class LandmarkFitConfig:
    """How far landmarks are trusted, and what may move."""

    noise: float = 0.02  #: standard deviation of a landmark, in units of the head's outer-eye distance
    contour_noise: tuple[float, float] = (2.0, 4.0)  #: factors on it for outline points: across and along the outline
    kernel: str = "charbonnier"  #: "charbonnier", "geman-mcclure" or "none"
    kernel_scale: float = 3.0  #: residuals beyond so many standard deviations count as outliers
    fit_shape: bool = True  #: False keeps the identity of `init`
    fit_jaw: bool | None = None  #: None: only where no expression opens the mouth (no "jawOpen" among the names)
    shared_focal: bool = False  #: the photos come from one camera at one zoom
    slides: int = 8  #: how often the outline may slide
    priors: LandmarkPriors = field(default_factory=LandmarkPriors)
    solver: LMConfig = field(default_factory=LMConfig)


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


@dataclass(frozen=True, eq=False)
class LandmarkBasis:
    """A model prepared for landmark fitting. Build once, fit many photos."""

    model: HeadModel
    layout: LandmarkLayout
    order: np.ndarray  #: landmarks in the solver's order: fixed ones, then the outline
    fixed: PointBasis
    lines: ContourLines
    candidates: PointBasis
    centre: np.ndarray  #: (3,) the landmarks' centroid on the mean head, metres
    mean_points: np.ndarray  #: (n, 3) landmarks of the mean head, in the layout's order
    eye_distance: float  #: outer-eye distance of the mean head, metres

    @classmethod
    def build(cls, model: HeadModel) -> "LandmarkBasis":
        """Restrict the model to its landmarks and trace its contour lines.

        Raises:
            HeadlabError: the model has no usable landmark embedding.
        """
        layout = layout_for(model)
        embedding = model.landmarks[layout.name]
        contour = np.array(layout.contour)
        inner = np.setdiff1d(np.arange(len(layout.detector)), contour)
        lines = ContourLines.build(model, layout)
        index = torch.from_numpy(inner)
        fixed = PointBasis.build(model, LandmarkEmbedding(embedding.faces[index], embedding.weights[index]))
        points = model.landmarks3d(model.template, layout.name).detach().cpu().double().numpy()
        right, left = layout.outer_eyes
        return cls(
            model,
            layout,
            np.concatenate([inner, contour]),
            fixed,
            lines,
            PointBasis.build(model, lines.embedding),
            points.mean(0),
            points,
            float(np.linalg.norm(points[left] - points[right])),
        )


def fit_landmarks(
    model: HeadModel | LandmarkBasis,
    landmarks: Float[Tensor, "photos 478 2"],
    sizes: Sequence[tuple[int, int]],
    *,
    focal: Sequence[float | None] | None = None,
    init: LandmarkFit | None = None,
    config: LandmarkFitConfig = LandmarkFitConfig(),  # noqa: B008
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
    focals = _checked(landmarks, sizes, focal, init, config)
    targets = basis.layout.of(landmarks.detach().cpu().double().numpy())
    centres = np.array([(width / 2, height / 2) for height, width in sizes])
    priors = tuple(
        photo_prior(
            basis.model,
            config.priors,
            size,
            f,
            fit_jaw=_fits_jaw(basis.model, config),
            sharing_focal=len(sizes) if config.shared_focal else 1,
        )
        for size, f in zip(sizes, focals, strict=True)
    )
    start_focal = np.array([prior.mean[basis.fixed.expressions] for prior in priors])
    if init is None:
        state = _closed_form(basis, targets - centres[:, None], start_focal, config)
    else:
        state = _warm(basis, init, len(sizes), np.array([f is not None for f in focals]), start_focal)
    expressions = slice(0, basis.fixed.expressions)
    state = replace(
        state, expression=np.clip(state.expression, priors[0].lower[expressions], priors[0].upper[expressions])
    )
    if _shares_focal(priors, config):
        state = replace(state, log_focal=np.full(len(sizes), state.log_focal.mean()))
    energy = _energy(basis, state, targets, centres, priors, config)
    result = minimize(energy, state, config.solver)
    return _result(basis, result, targets, centres, sizes, started)


def _checked(landmarks, sizes, focal, init, config) -> list[float | None]:
    photos = len(landmarks)
    focals = [None] * photos if focal is None else list(focal)
    if not photos or len(sizes) != photos or len(focals) != photos:
        raise HeadlabError(
            f"landmarks of {photos} photos came with {len(sizes)} sizes and {len(focals)} focal lengths; "
            "give one of each per photo, and at least one photo"
        )
    if not bool(torch.isfinite(landmarks).all()):
        raise HeadlabError("some landmarks are not finite numbers; leave out photos in which no face was found")
    if any(f is not None and not f > 0 for f in focals):
        raise HeadlabError(f"focal lengths must be positive numbers of pixels, not {focals}; use None where unknown")
    if config.shared_focal and any(f is not None for f in focals):
        if len({f for f in focals if f is not None}) > 1:
            raise HeadlabError(f"photos said to share a focal length came with {focals}; leave out one or the other")
        focals = [next(f for f in focals if f is not None)] * photos
    if init is not None and init.codes.shape.shape[0] not in (1, photos):
        raise HeadlabError(f"the starting fit has {init.codes.shape.shape[0]} photos, but {photos} are to be fitted")
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


def _warm(basis: LandmarkBasis, init: LandmarkFit, photos: int, known: np.ndarray, log_focal: np.ndarray):
    """State of an earlier fit."""
    codes = init.codes.map(lambda value: value.expand(photos, *value.shape[1:])).to(dtype=torch.float64)
    cameras = init.cameras if len(init.cameras) == photos else init.cameras * photos
    focal = np.array([float(camera.K[0, 0]) for camera in cameras])
    rotation = np.stack([rotation_matrix(v) for v in codes.rotation.numpy()])
    root = basis.model.joints(codes.shape.to(basis.model.template.dtype))[:, 0].double().numpy()
    placed = (rotation @ (basis.centre - root)[..., None])[..., 0] + root + codes.translation.numpy()
    scale = focal / -placed[:, 2]
    log_focal = np.where(known, log_focal, np.log(focal))
    return LandmarkState(
        codes.shape[0].numpy(),
        codes.expression.numpy(),
        log_focal,
        rotation,
        np.log(scale),
        scale[:, None] * placed[:, :2] * np.array([1.0, -1.0]),
        codes.jaw.numpy(),
        codes.eyes[..., :2].numpy(),
    )


def _energy(basis: LandmarkBasis, state: LandmarkState, targets, centres, priors, config) -> LandmarkEnergy:
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
        (targets - centres[:, None])[:, basis.order],
        whiten,
        outward,
        priors,
        config.priors.shape,
        config.kernel,
        config.kernel_scale,
        _shares_focal(priors, config),
        config.slides,
    )
    return energy.with_outline(energy.slide(state) if config.slides else rows)


def _result(basis: LandmarkBasis, result, targets, centres, sizes, started: float) -> LandmarkFit:
    state: LandmarkState = result.state
    energy: LandmarkEnergy = result.problem
    model, photos = basis.model, len(sizes)
    dtype = model.template.dtype
    pixels = np.empty_like(targets)
    for i, photo in enumerate(energy.evaluate(state).photos):
        pixels[i, basis.order] = photo.pixels + centres[i]
    subset, (right, left) = list(basis.layout.ibug68), basis.layout.outer_eyes
    error = np.linalg.norm(pixels - targets, axis=-1)[:, subset].mean(-1)
    nme = error / np.linalg.norm(targets[:, left] - targets[:, right], axis=-1)

    focal = np.exp(state.log_focal)
    inverse_scale = np.exp(-state.log_scale)[:, None]
    placed = inverse_scale * np.concatenate([state.offset * np.array([1.0, -1.0]), -focal[:, None]], -1)
    shape = torch.from_numpy(state.shape).to(dtype).expand(photos, -1)
    root = model.joints(shape)[:, 0].double().numpy()
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
