"""fit_depth: one person's head laid on depth frames from several sides, landmarks holding it in place.

Gauss-Newton on one identity β, and an expression ψ and a rigid pose per frame. Each round pairs every visible vertex
with the measured point in its pixel (projective association) and minimises

    Σ w (n · (y(β, ψ, pose) - q) / σ)²  +  Σ ρ(|π(landmark) - detected| / σ_l)  +  |β|²  +  |ψ / std|²
      +  c Σ |(ψ_i - mean ψ) / std|²

point to plane, pixels, prior, and that the face changes little from frame to frame. σ shrinks from round to round as
in `scan.fit_scan`. The jaw joint stays shut and the eyes look ahead: heads that open their mouth by an action of ψ
(the default head, ICT-FaceKit) need no more. What has no depth (the back of the head, hair that was masked out)
follows from the face through the model: the estimate is the conditional mean of the rest given the face.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from ..camera import Camera
from ..code import HeadCode
from ..errors import HeadlabError
from ..models.correspondence import face_mask, vertex_normals
from ..models.head_model import HeadModel
from ..models.shape_space import vertex_areas
from .landmark_layout import layout_for
from .priors import LandmarkPriors
from .robust import charbonnier, geman_mcclure
from .scan import outer_skin, solve_in_box
from .so3 import rotation_matrix, rotation_vector

_IRISES = range(468, 478)
_STEEPEST = 0.3  # cosine to the line of sight below which a vertex is not paired


@dataclass(frozen=True)
class DepthFitConfig:
    """Strengths; metres on the head."""

    noise: tuple[float, ...] = (0.006, 0.006, 0.004, 0.003, 0.002, 0.0015, 0.001, 0.001, 0.001, 0.001)  #: σ per round
    landmark_noise: float = 0.004  #: of a landmark's place, for 51 of them; denser sets count no more in sum
    patch: float = 12.0  #: pixels whose errors are alike (smoothing, sensor): so many are one measurement
    pixel_noise: float = 1.0  #: σ is at least so many pixels on the face
    reach: float = 4.0  #: pairs farther apart than this many times the noise (or 6 mm) count little
    outside_face: float = 0.1  #: weight of ears, scalp and neck against the face: hair lies over them
    sameness: float = 2.0  #: c above: how strongly a person's frames share one expression
    fit_expression: bool = True
    priors: LandmarkPriors = field(default_factory=LandmarkPriors)  #: its `shape`, `expression`, `sparsity`


@dataclass(frozen=True)
class DepthView:
    """One frame to be fitted. World: y up, z to the camera, the camera at its origin; metres."""

    camera: Camera
    depth: Float[Tensor, "height width"]  #: 0 = none, and what is not the person
    normals: Float[Tensor, "height width 3"]  #: unit, world axes; 0 where unknown
    landmarks: Float[Tensor, "478 2"]  #: MediaPipe's points, pixels
    trust: Float[Tensor, "height width"] | None = None  #: 0..1 of the depth


@dataclass(frozen=True)
class DepthPairs:
    """Vertices and the planes they were measured on, in the frame's world."""

    vertices: Int[Tensor, "pairs"]
    points: Float[Tensor, "pairs 3"]
    normals: Float[Tensor, "pairs 3"]
    weights: Float[Tensor, "pairs"]

    def energy(self, vertices: Float[Tensor, "verts 3"], noise: float) -> Float[Tensor, ""]:
        """Weighted mean of the squared distances from the planes, over the noise; robust beyond a few of it."""
        gap = ((vertices[self.vertices] - self.points) * self.normals).sum(-1) / noise
        square = gap.square()
        return (self.weights * square / (1 + square / 16)).sum() / self.weights.sum().clamp(min=1e-9)


@dataclass(frozen=True)
class DepthFit:
    """One person in k frames."""

    codes: HeadCode  #: leading axis over frames; rows of `shape` are equal
    pairs: tuple[DepthPairs, ...]  #: of the last round, per frame
    residuals: tuple[float, ...]  #: per frame: median distance of the face to the depth along normals, metres
    matched: tuple[float, ...]  #: per frame: share of the face's vertices that were paired


@dataclass(frozen=True)
class _State:
    shape: Float[ndarray, "s"]
    expression: Float[ndarray, "frames e"]
    rotation: Float[ndarray, "frames 3 3"]
    offset: Float[ndarray, "frames 3"]  #: y = rotation · head + offset


def fit_depth(
    model: HeadModel,
    views: Sequence[DepthView],
    poses: Sequence[tuple[Float[ndarray, "3 3"], Float[ndarray, "3"]]],
    config: DepthFitConfig | None = None,
    step: Callable[[int], None] = lambda round: None,
) -> DepthFit:
    """Fit identity, expressions and poses.

    Args:
        model: with 478 or 68 landmarks.
        views: one or more frames of one person.
        poses: first guess of each: rotation and offset that place the unposed head in the frame's world.
        config: settings.
        step: called with the number of each round.

    Raises:
        HeadlabError: no frames, counts disagree, or depth and head do not meet.
    """
    config = config or DepthFitConfig()
    if not views or len(views) != len(poses):
        raise HeadlabError(f"{len(views)} depth frames came with {len(poses)} poses; give one of each, at least one")
    problem = _Problem(model, views, config)
    state = _State(
        np.zeros(model.shapes),
        np.zeros((len(views), model.expressions if config.fit_expression else 0)),
        np.stack([r for r, _ in poses]),
        np.stack([o for _, o in poses]),
    )
    for round, noise in enumerate(config.noise):
        step(round)
        pairs = [problem.pairs(state, i, noise) for i in range(len(views))]
        if sum(int((p.weight > 0.1).sum()) for p in pairs) < 100:
            raise HeadlabError(
                "the head and the measured depth do not meet; check that the depth is registered to the colour and its "
                "unit is right (metres, after --depth-scale)"
            )
        state = problem.step(state, pairs, noise)
    return problem.finish(state)


@dataclass(frozen=True)
class _Pairs:
    rows: ndarray  # into the used vertices
    point: Float[ndarray, "n 3"]
    normal: Float[ndarray, "n 3"]
    weight: Float[ndarray, "n"]
    gap: Float[ndarray, "n"]  # along the normal


class _Problem:
    """What is the same in all rounds."""

    def __init__(self, model: HeadModel, views: Sequence[DepthView], config: DepthFitConfig) -> None:
        self.model, self.config = model, config
        self.views = [_Measured(view) for view in views]
        self.template = _numpy(model.template)
        basis = _numpy(model.shape_basis)
        self.shapes = model.shapes
        self.expressions = model.expressions if config.fit_expression else 0
        if self.expressions:
            basis = np.concatenate([basis, _numpy(model.expression_basis)], -1)
        skin, self.faces = outer_skin(model)
        self.used = np.flatnonzero(skin)
        self.face = face_mask(model)[self.used]
        area = vertex_areas(self.template, self.faces)[self.used]
        importance = np.clip(area / area[self.face].mean(), 0, 3)
        self.importance = importance * np.where(self.face, 1, config.outside_face)
        self.basis = np.ascontiguousarray(basis[self.used])
        self.full_basis = basis
        layout = layout_for(model)
        marks = [i for i in range(len(layout.detector)) if i not in layout.contour]
        marks = [i for i in marks if layout.detector[i] not in _IRISES]
        embedding = model.landmarks[layout.name]
        corners = model.faces.cpu().numpy()[embedding.faces.cpu().numpy()[marks]]
        weights = _numpy(embedding.weights)[marks]
        self.mark_template = np.einsum("mi,mic->mc", weights, self.template[corners])
        self.mark_basis = np.einsum("mi,mick->mck", weights, basis[corners])
        self.targets = [view.landmarks.double().numpy()[[layout.detector[i] for i in marks]] for view in views]
        self.mark_share = 51 / len(marks)
        std = np.ones(self.expressions)
        if self.expressions and model.expression_std is not None:
            std = np.maximum(_numpy(model.expression_std), 1e-6)
        self.std = std
        self.bounds = np.tile([-np.inf, np.inf], (self.expressions, 1))
        if self.expressions and model.expression_bounds is not None:
            self.bounds = _numpy(model.expression_bounds)

    def head(self, state: _State, i: int) -> Float[ndarray, "verts 3"]:
        """Unposed vertices of one frame."""
        return self.template + self.full_basis @ np.concatenate([state.shape, state.expression[i]])

    def pairs(self, state: _State, i: int, noise: float) -> _Pairs:
        """What each visible vertex was measured to be."""
        view = self.views[i]
        placed = self.head(state, i) @ state.rotation[i].T + state.offset[i]
        normals = vertex_normals(placed, self.faces)[self.used]
        placed = placed[self.used]
        sight = -placed / np.linalg.norm(placed, axis=1, keepdims=True)
        x, y, known = view.pixels(placed)
        point, normal = view.points[y, x], view.normals[y, x]
        gap = ((point - placed) * normal).sum(1)
        reach = max(self.config.reach * noise, 0.006)
        near = geman_mcclure((np.linalg.norm(point - placed, axis=1) / (2 * reach)) ** 2, 1.0)[1]
        near = near * geman_mcclure((gap / reach) ** 2, 1.0)[1]
        agreement = np.clip(((normals * normal).sum(1) - 0.4) / 0.4, 0, 1)
        visible = known & ((normals * sight).sum(1) > _STEEPEST) & ((normal * sight).sum(1) > _STEEPEST)
        weight = np.where(visible, agreement * near * view.trust[y, x], 0)
        rows = np.flatnonzero(weight > 1e-3)
        return _Pairs(rows, point[rows], normal[rows], weight[rows], gap[rows])

    def step(self, state: _State, pairs: list[_Pairs], noise: float) -> _State:
        """Minimise the linearised energy: coefficients anew, poses by a small motion."""
        s, e, k = self.shapes, self.expressions, len(self.views)
        block = e + 6
        size = s + k * block
        hessian, linear = np.zeros((size, size)), np.zeros(size)
        centres = []
        for i, found in enumerate(pairs):
            columns = np.concatenate([np.arange(s), s + i * block + np.arange(block)])
            centre = found.point.mean(0) if len(found.point) else state.offset[i]
            centres.append(centre)
            system, right = self._depth_rows(state, i, found, centre, noise)
            marks, mark_right = self._landmark_rows(state, i, centre, noise)
            hessian[np.ix_(columns, columns)] += system.T @ system + marks.T @ marks
            linear[columns] += system.T @ right + marks.T @ mark_right
        lower, upper = np.full(size, -np.inf), np.full(size, np.inf)
        diagonal = np.einsum("ii->i", hessian)
        diagonal[:s] += self.config.priors.shape
        for i in range(k):
            psi = slice(s + i * block, s + i * block + e)
            diagonal[psi] += self.config.priors.expression / self.std**2
            linear[psi] -= np.where(self.bounds[:, 0] >= 0, self.config.priors.sparsity / self.std, 0)
            lower[psi], upper[psi] = self.bounds.T
            diagonal[psi.stop : psi.stop + 6] += 1e-6
            for j in range(k):  # Σ |ψ_i - mean|² = Σ |ψ_i|² - |Σ ψ|² / k
                share = self.config.sameness * ((i == j) - 1 / k) / self.std**2
                rows = np.arange(e)
                hessian[s + i * block + rows, s + j * block + rows] += share
        solution = solve_in_box(hessian, linear, lower, upper)
        expression, rotations, offsets = [], [], []
        for i in range(k):
            part = solution[s + i * block : s + (i + 1) * block]
            expression.append(part[:e])
            turn = rotation_matrix(part[e : e + 3])
            rotations.append(turn @ state.rotation[i])
            offsets.append(centres[i] + turn @ (state.offset[i] - centres[i]) + part[e + 3 :])
        return _State(solution[:s], np.stack(expression), np.stack(rotations), np.stack(offsets))

    def _depth_rows(self, state: _State, i: int, found: _Pairs, centre, noise: float) -> tuple[ndarray, ndarray]:
        rotation, offset = state.rotation[i], state.offset[i]
        n, rows = found.normal, found.rows
        if not len(rows):
            return np.zeros((0, self.shapes + self.expressions + 6)), np.zeros(0)
        trust = np.sqrt(found.weight * self.importance[rows] * self._evidence(found, i))
        trust = trust / max(noise, self.config.pixel_noise * -np.median(found.point[:, 2]) / self.views[i].focal)
        bend = np.einsum("nc,nck->nk", n @ rotation, self.basis[rows])
        y = self.template[self.used[rows]] @ rotation.T + offset
        now = self.basis[rows] @ np.concatenate([state.shape, state.expression[i]])
        arm = y + now @ rotation.T - centre
        system = np.concatenate([bend, np.cross(arm, n), n], 1)
        return system * trust[:, None], (n * (found.point - y)).sum(1) * trust

    def _evidence(self, found: _Pairs, i: int) -> float:
        """Independent measurements per pair: a small face has more vertices than pixels, let alone good ones."""
        place = found.point[self.face[found.rows]]
        if len(place) < 3:
            return 1.0
        spread = (place[:, :2] / -place[:, 2:]) * self.views[i].focal
        pixels = float(np.prod(np.percentile(spread, 95, axis=0) - np.percentile(spread, 5, axis=0)))
        return min(1.0, pixels / self.config.patch / len(place))

    def _landmark_rows(self, state: _State, i: int, centre, noise: float) -> tuple[ndarray, ndarray]:
        view, rotation, offset = self.views[i], state.rotation[i], state.offset[i]
        rest = self.mark_template @ rotation.T + offset
        bent = self.mark_basis @ np.concatenate([state.shape, state.expression[i]])
        placed = rest + bent @ rotation.T
        pixel, slope = view.project(placed)
        residual = self.targets[i] - pixel
        sigma = max(self.config.landmark_noise, noise) * view.focal / -np.median(placed[:, 2])
        weight = charbonnier((residual**2).sum(1) / sigma**2, 1.5)[1]
        trust = np.sqrt(weight * self.mark_share) / sigma
        bend = np.einsum("mac,mck->mak", slope @ rotation, self.mark_basis)
        arm = placed - centre
        motion = np.concatenate(
            [np.swapaxes(np.cross(arm[:, :, None], np.swapaxes(slope, 1, 2), axis=1), 1, 2), slope], 2
        )
        system = np.concatenate([bend, motion], -1) * trust[:, None, None]
        right = (residual + np.einsum("mac,mc->ma", slope, placed - rest)) * trust[:, None]
        return system.reshape(-1, system.shape[-1]), right.ravel()

    def finish(self, state: _State) -> DepthFit:
        model, like, k = self.model, self.model.template, len(self.views)
        shape = torch.from_numpy(state.shape).to(like)
        root = _numpy(model.joints(shape))[0]
        code = model.neutral((k,)).with_(shape=shape.expand(k, -1).clone())
        move = state.offset + state.rotation @ root - root
        code = code.with_(
            rotation=torch.from_numpy(np.stack([rotation_vector(r) for r in state.rotation])).to(like),
            translation=torch.from_numpy(move).to(like),
        )
        if self.expressions:
            code = code.with_(expression=torch.from_numpy(state.expression).to(like))
        pairs, residuals, matched = [], [], []
        for i in range(k):
            found = self.pairs(state, i, self.config.noise[-1])
            on_face = self.face[found.rows] & (found.weight > 0.1)
            residuals.append(float(np.median(np.abs(found.gap[on_face]))) if on_face.any() else float("nan"))
            matched.append(float(on_face.sum() / max(self.face.sum(), 1)))
            weight = found.weight * self.importance[found.rows]
            values = [torch.from_numpy(x).to(like) for x in (found.point, found.normal, weight)]
            pairs.append(DepthPairs(torch.from_numpy(self.used[found.rows]), *values))
        return DepthFit(code, tuple(pairs), tuple(residuals), tuple(matched))


class _Measured:
    """A view as arrays."""

    def __init__(self, view: DepthView) -> None:
        camera = view.camera.to(dtype=torch.float64)
        self.K, self.R, self.t = camera.K.numpy(), camera.R.numpy(), camera.t.numpy()
        self.focal = float(self.K[0, 0])
        self.depth = view.depth.double().numpy()
        height, width = self.depth.shape
        x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        rays = np.stack([(x - self.K[0, 2]) / self.K[0, 0], (y - self.K[1, 2]) / self.K[1, 1], np.ones_like(x)], -1)
        self.points = (rays * self.depth[..., None] - self.t) @ self.R
        self.normals = view.normals.double().numpy()
        trust = np.ones_like(self.depth) if view.trust is None else view.trust.double().numpy()
        self.trust = trust * (self.depth > 0) * (np.abs(self.normals).sum(-1) > 0)

    def project(self, points: Float[ndarray, "n 3"]) -> tuple[Float[ndarray, "n 2"], Float[ndarray, "n 2 3"]]:
        """Pixels of world points, and their derivative by the points."""
        seen = points @ self.R.T + self.t
        z = np.maximum(seen[:, 2], 1e-3)
        pixel = (seen[:, :2] / z[:, None]) @ self.K[:2, :2].T + self.K[:2, 2]
        slope = np.zeros((len(points), 2, 3))
        slope[:, 0, 0] = slope[:, 1, 1] = 1 / z
        slope[:, :, 2] = -seen[:, :2] / z[:, None] ** 2
        return pixel, self.K[:2, :2] @ slope @ self.R

    def pixels(self, points: Float[ndarray, "n 3"]) -> tuple[ndarray, ndarray, Bool[ndarray, "n"]]:
        """Column and row of each point's pixel, and whether a depth was measured there."""
        pixel, _ = self.project(points)
        height, width = self.depth.shape
        cell = np.floor(pixel).astype(np.int64)
        inside = ((cell >= 0) & (cell < [width, height])).all(1)
        x, y = cell[:, 0].clip(0, width - 1), cell[:, 1].clip(0, height - 1)
        return x, y, inside & (self.trust[y, x] > 0)


def _numpy(x: Tensor) -> ndarray:
    return x.detach().cpu().numpy().astype(np.float64)
