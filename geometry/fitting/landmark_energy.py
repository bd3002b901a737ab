"""The landmark energy and its analytic derivatives, as a problem for `lm.minimize`.

    E = ½ Σ_photos Σ_points ρ(‖whiten (projection - landmark)‖²) + priors

A photo's head sits where its landmarks' centroid c (a constant of the model) is carried to w:

    x_world = R (x_local - c) + w,    w = (offset_x, -offset_y, -f) / scale

so that the focal length f alone changes perspective and neither place nor size in the image: the classic coupling of
focal length and distance costs no iterations. The camera is `Camera.frontal`, its principal point the image centre.
"""

from dataclasses import dataclass, replace

import numpy as np

from .contour import ContourLines
from .lm import ArrowSystem, ArrowVector
from .point_basis import PointBasis
from .priors import EYES, FOCAL, JAW, OFFSET, POSE_VARIABLES, SCALE, TURN, PhotoPrior
from .robust import KERNELS
from .so3 import left_jacobian, rotation_matrix


@dataclass(frozen=True, eq=False)
class LandmarkState:
    """Variables of k photos, float64."""

    shape: np.ndarray  #: β (S,)
    expression: np.ndarray  #: ψ (k, E)
    log_focal: np.ndarray  #: (k,)
    rotation: np.ndarray  #: (k, 3, 3)
    log_scale: np.ndarray  #: (k,) pixels per metre at the face
    offset: np.ndarray  #: (k, 2) pixels from the principal point
    jaw: np.ndarray  #: (k, 3) axis-angle
    eyes: np.ndarray  #: (k, 2, 2) axis-angle x, y; z = 0

    def photo(self, i: int) -> np.ndarray:
        """Variables of one photo in the order of `priors`, turn left at 0."""
        pose = np.zeros(POSE_VARIABLES)
        pose[FOCAL], pose[SCALE], pose[OFFSET] = self.log_focal[i], self.log_scale[i], self.offset[i]
        pose[JAW], pose[EYES] = self.jaw[i], self.eyes[i].ravel()
        return np.concatenate([self.expression[i], pose])

    def local_vectors(self, i: int) -> np.ndarray:
        """Axis-angle vectors of jaw, left eye, right eye (3, 3)."""
        eyes = np.concatenate([self.eyes[i], np.zeros((2, 1))], -1)
        return np.concatenate([self.jaw[i][None], eyes])


@dataclass(frozen=True, eq=False)
class PhotoEvaluation:
    """One photo's intermediate values, kept for its Jacobian."""

    q: np.ndarray  #: linear code
    vectors: np.ndarray  #: local joint rotations, axis-angle (3, 3)
    rotations: np.ndarray  #: the same as matrices (3, 3, 3)
    turned: np.ndarray  #: R (x_local - c) (n, 3)
    world: np.ndarray  #: (n, 3)
    pixels: np.ndarray  #: (n, 2)
    residual: np.ndarray  #: whitened (n, 2)
    weight: np.ndarray  #: ρ' (n,)


@dataclass(frozen=True, eq=False)
class LandmarkEvaluation:
    cost: float
    state: LandmarkState
    photos: tuple[PhotoEvaluation, ...]


@dataclass(frozen=True, eq=False)
class LandmarkEnergy:
    """Landmarks of k photos of one person. Points are ordered: fixed ones, then the outline."""

    fixed: PointBasis  #: points that stay where they are on the surface
    lines: ContourLines
    candidates: PointBasis  #: all points of `lines`
    outline_rows: tuple[np.ndarray, ...]  #: per photo, the candidates in use
    outlines: tuple[PointBasis, ...]  #: per photo, those points
    centre: np.ndarray  #: c (3,)
    targets: np.ndarray  #: (k, n, 2) pixels from the principal point
    whiten: np.ndarray  #: (k, n, 2, 2) 1 / pixels
    outward: np.ndarray  #: (k, lines, 2)
    outline: str  #: "fixed", "sliding" or "auto"
    priors: tuple[PhotoPrior, ...]
    shape_weight: float
    kernel: str
    kernel_scale: float
    shared_focal: bool
    refreshes: int  #: how often the outline may still slide

    @property
    def shapes(self) -> int:
        return self.fixed.shapes

    def evaluate(self, state: LandmarkState) -> LandmarkEvaluation:
        cost = 0.5 * self.shape_weight * float(state.shape @ state.shape) if self.shapes else 0.0
        photos = []
        for i, prior in enumerate(self.priors):
            photo = self._evaluate_photo(state, i)
            rho, weight = KERNELS[self.kernel]((photo.residual**2).sum(-1), self.kernel_scale)
            behind = bool((photo.world[:, 2] > -0.02).any())
            cost += np.inf if behind else 0.5 * float(rho.sum()) + prior.energy(state.photo(i))
            photos.append(replace(photo, weight=weight))
        return LandmarkEvaluation(cost, state, tuple(photos))

    def _evaluate_photo(self, state: LandmarkState, i: int) -> PhotoEvaluation:
        vectors = state.local_vectors(i)
        rotations = np.stack([rotation_matrix(v) for v in vectors])
        q = self.fixed.coefficients(state.shape[: self.shapes], state.expression[i], rotations)
        local = np.concatenate([self.fixed.evaluate(q, rotations), self.outlines[i].evaluate(q, rotations)], 1).T
        turned, world, pixels = self._place(state, i, local)
        residual = (self.whiten[i] @ (pixels - self.targets[i])[..., None])[..., 0]
        return PhotoEvaluation(q, vectors, rotations, turned, world, pixels, residual, np.ones(len(pixels)))

    def _place(self, state: LandmarkState, i: int, local: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Local points (n, 3) -> turned, world, pixels from the principal point."""
        focal, inverse_scale = np.exp(state.log_focal[i]), np.exp(-state.log_scale[i])
        turned = (local - self.centre) @ state.rotation[i].T
        x, y = state.offset[i]
        world = turned + inverse_scale * np.array([x, -y, -focal])
        return turned, world, focal * world[:, :2] / (world[:, 2:] * np.array([-1.0, 1.0]))

    def linearize(self, evaluation: LandmarkEvaluation) -> ArrowSystem:
        k, s, n = len(self.priors), self.shapes, self.fixed.expressions + POSE_VARIABLES
        focal = s + self.fixed.expressions + FOCAL
        shared_variables = np.r_[np.arange(s), focal] if self.shared_focal else np.arange(s)
        shared = np.zeros((len(shared_variables),) * 2)
        shared_gradient = np.zeros(len(shared_variables))
        coupling, blocks, gradients = np.zeros((k, len(shared), n)), np.zeros((k, n, n)), np.zeros((k, n))
        for i, (prior, photo) in enumerate(zip(self.priors, evaluation.photos, strict=True)):
            root = np.sqrt(photo.weight)
            jacobian = self._jacobian(evaluation.state, i, photo, root)
            hessian = jacobian.T @ jacobian
            gradient = (photo.residual * root[:, None]).T.ravel() @ jacobian
            hessian[s:, s:] += prior.precision
            gradient[s:] += prior.gradient(evaluation.state.photo(i))
            shared += hessian[np.ix_(shared_variables, shared_variables)]
            shared_gradient += gradient[shared_variables]
            if self.shared_focal:
                coupling[i, -1] = hessian[focal, s:]
                coupling[i, :-1] = hessian[:s, s:]
                hessian[focal], hessian[:, focal], gradient[focal] = 0.0, 0.0, 0.0
                hessian[focal, focal], coupling[i, :, focal - s] = 1.0, 0.0
            else:
                coupling[i] = hessian[:s, s:]
            blocks[i], gradients[i] = hessian[s:, s:], gradient[s:]
        np.einsum("ii->i", shared)[:s] += self.shape_weight
        shared_gradient[:s] += self.shape_weight * evaluation.state.shape[:s]
        return ArrowSystem(shared, coupling, blocks, ArrowVector(shared_gradient, gradients))

    def _jacobian(self, state: LandmarkState, i: int, photo: PhotoEvaluation, root: np.ndarray) -> np.ndarray:
        """Whitened residuals (u of all points, then v) by β, ψ and pose: (2 n, S + E + 14)."""
        points, linear = len(photo.pixels), self.fixed.linear
        f, inverse_scale = np.exp(state.log_focal[i]), np.exp(-state.log_scale[i])
        depth = -photo.world[:, 2]
        project = np.zeros((points, 2, 3))  # pixels by world point
        project[:, 0, 0], project[:, 1, 1] = f / depth, -f / depth
        project[:, :, 2] = photo.pixels / depth[:, None]
        whiten = self.whiten[i] * root[:, None, None]
        project = whiten @ project
        local = np.ascontiguousarray(np.swapaxes(project @ state.rotation[i], 0, 1))
        project = np.swapaxes(project, 0, 1)  # (2, n, 3)

        jacobian = np.empty((2, points, linear + POSE_VARIABLES))
        pose = jacobian[..., linear:]
        start = 0
        for basis in (self.fixed, self.outlines[i]):
            rows = slice(start, start + basis.points)
            jacobian[:, rows, :linear], turn = basis.jacobian(photo.q, photo.rotations, local[:, rows])
            by_vector = np.einsum("anjk,jkl->anjl", turn, np.stack([left_jacobian(v) for v in photo.vectors]))
            pose[:, rows, JAW] = by_vector[:, :, 0]
            pose[:, rows, EYES] = by_vector[:, :, 1:, :2].reshape(2, basis.points, 4)
            start += basis.points
        pose[..., TURN] = np.cross(photo.turned, project)
        x, y = state.offset[i]
        pose[..., SCALE] = -inverse_scale * (project @ np.array([x, -y, -f]))
        pose[..., OFFSET] = inverse_scale * project[..., :2] * np.array([1.0, -1.0])
        by_focal = (whiten @ photo.pixels[..., None])[..., 0].T  # pixels are proportional to f …
        pose[..., FOCAL] = by_focal - inverse_scale * f * project[..., 2]  # … and the head moves away with it
        return jacobian.reshape(2 * points, -1)

    def retract(self, state: LandmarkState, step: ArrowVector) -> LandmarkState:
        s, e = self.shapes, self.fixed.expressions
        pose = step.blocks[:, e:]
        focal = step.shared[-1] if self.shared_focal else pose[:, FOCAL]
        turns = np.stack([rotation_matrix(v) for v in pose[:, TURN]])
        return LandmarkState(
            state.shape + step.shared[:s] if s else state.shape,
            state.expression + step.blocks[:, :e],
            state.log_focal + focal,
            turns @ state.rotation,
            state.log_scale + pose[:, SCALE],
            state.offset + pose[:, OFFSET],
            state.jaw + pose[:, JAW],
            state.eyes + pose[:, EYES].reshape(-1, 2, 2),
        )

    def bounds(self, state: LandmarkState) -> tuple[ArrowVector, ArrowVector]:
        """Steps that keep every variable in its range, turns below about 60 degrees and scales within a factor 3."""
        now = np.stack([state.photo(i) for i in range(len(self.priors))])
        lower = np.stack([prior.lower for prior in self.priors]) - now
        upper = np.stack([prior.upper for prior in self.priors]) - now
        pose = slice(self.fixed.expressions, None)
        for limit, sign in ((lower[:, pose], -1.0), (upper[:, pose], 1.0)):
            limit[:, TURN], limit[:, SCALE] = sign * 1.0, sign * 1.1
        shared_lower, shared_upper = np.full(self.shapes, -np.inf), np.full(self.shapes, np.inf)
        if self.shared_focal:
            column = self.fixed.expressions + FOCAL
            shared_lower = np.append(shared_lower, lower[:, column].max())
            shared_upper = np.append(shared_upper, upper[:, column].min())
            lower[:, column] = upper[:, column] = 0.0
        # a start on a bound may miss it by rounding
        return (
            ArrowVector(np.minimum(shared_lower, 0.0), np.minimum(lower, 0.0)),
            ArrowVector(np.maximum(shared_upper, 0.0), np.maximum(upper, 0.0)),
        )

    def refresh(self, state: LandmarkState, evaluation: LandmarkEvaluation) -> "LandmarkEnergy":
        """Let the outline slide to where the face is seen edge-on now."""
        if not self.refreshes:
            return self
        chosen = self.slide(state)
        if all(np.array_equal(a, b) for a, b in zip(chosen, self.outline_rows, strict=True)):
            return self
        return replace(self.with_outline(chosen), refreshes=self.refreshes - 1)

    def slide(self, state: LandmarkState) -> tuple[np.ndarray, ...]:
        """Candidates for the outline, per photo: those on the silhouette, or the landmarks themselves."""
        return tuple(self._slide_photo(state, i) for i in range(len(self.priors)))

    def _slide_photo(self, state: LandmarkState, i: int) -> np.ndarray:
        fixed = self.lines.rows[:, 0]
        if self.outline == "fixed":
            return fixed
        turns = np.stack([rotation_matrix(v) for v in state.local_vectors(i)])
        q = self.candidates.coefficients(state.shape[: self.shapes], state.expression[i], turns)
        _, _, pixels = self._place(state, i, self.candidates.evaluate(q, turns).T)
        slid = self.lines.march(pixels, self.outward[i], 5e-4 * float(np.exp(state.log_scale[i])))
        if self.outline == "sliding":
            return slid
        inner = self.fixed.points
        costs = []
        for rows in (fixed, slid):
            off = self.whiten[i, inner:] @ (pixels[rows] - self.targets[i, inner:])[..., None]
            costs.append(KERNELS[self.kernel]((off[..., 0] ** 2).sum(-1), self.kernel_scale)[0].sum())
        return fixed if costs[0] <= costs[1] else slid

    def with_outline(self, rows: tuple[np.ndarray, ...]) -> "LandmarkEnergy":
        return replace(self, outline_rows=rows, outlines=tuple(self.candidates.take(row) for row in rows))
