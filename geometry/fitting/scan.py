"""Fit a head model to a scan: a mesh or a cloud of points of a real head.

Iterated closest points with the model as the regulariser (Amberg et al., "Expression Invariant 3D Face Recognition
with a Morphable Model", 2008). After a rough alignment by landmarks, every round finds the scan's nearest point to
each vertex and solves one linear least-squares problem

    Σ w (n · (y(β, ψ, pose) - q) / σ)²  +  Σ |landmark / σ_l|²  +  |β|²  +  |ψ / std|²      (point to plane)

for identity β, expression ψ, a small turn and shift, and the unit's scale. σ shrinks from round to round, so that
the prior, strong at first, lets go as the pairs become right. Pairs whose normals disagree, that lie far apart or on
the scan's border have no weight.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from ..code import HeadCode
from ..errors import HeadlabError
from ..models.correspondence import face_mask, similarity, vertex_normals
from ..models.head_model import HeadModel
from ..models.shape_space import vertex_areas
from .robust import geman_mcclure
from .scan_surface import ScanSurface, SurfaceHits, scan_surface
from .so3 import rotation_matrix, rotation_vector

INNER = slice(17, 68)  # of the 68 landmarks; where the jaw line runs is a matter of definition


@dataclass(frozen=True)
class ScanConfig:
    """How a scan is fitted. Lengths in metres of the head."""

    noise: tuple[float, ...] = (0.006, 0.006, 0.004, 0.003, 0.002, 0.0015, 0.001, 0.001, 0.001, 0.001)  #: σ per round
    scale_noise: float = 0.006  #: an unknown unit is estimated while σ is at least this: later rounds overfit it
    landmark_noise: float = 0.004  #: standard deviation of a landmark's place
    reach: float = 4.0  #: pairs farther apart than this many times the noise (or 6 mm) count little
    outside_face: float = 0.2  #: weight of ears, scalp and neck against the face: scans of them carry hair
    fit_expression: bool = False  #: also ψ, within the model's bounds


@dataclass(frozen=True)
class ScanFit:
    """A head laid on a scan."""

    code: HeadCode  #: places the head in the scan's frame, metres: vertices ≈ scale · scan
    scale: float  #: metres per unit of the scan
    distances: Float[Tensor, "verts"]  #: from each vertex to the scan's surface, metres; NaN inside the head
    report: dict[str, float] = field(default_factory=dict)


def fit_scan(
    model: HeadModel,
    target_vertices: Float[ndarray, "scan 3"],
    target_faces: ndarray | None,
    landmarks: Float[ndarray, "68 3"] | None = None,
    *,
    scale: bool = False,
    config: ScanConfig | None = None,
) -> ScanFit:
    """Fit identity, pose and, if asked, expression and unit. About a second.

    Args:
        model: any head model with 68 landmarks.
        target_vertices: points of the scan.
        target_faces: (faces, 3) its triangles, or None for a cloud of points.
        landmarks: the 68 points on the scan, in its unit (see `scan_landmarks`); rows may be NaN. None: the scan
            already lies about where the model's neutral head does.
        scale: the scan's unit is unknown and is estimated from what sizes heads have, to about 5 %; otherwise it is
            metres.
        config: settings.

    Raises:
        HeadlabError: the scan is empty or broken, the landmarks are too few, or none of the scan is near the head.
    """
    config = config or ScanConfig()
    surface = scan_surface(target_vertices, target_faces)
    problem = _Problem.of(model, surface, landmarks, scale, config)
    state = problem.start()
    for noise in config.noise:
        hits, weights = problem.pairs(state, noise)
        if (weights > 0.1).sum() < 50:
            raise HeadlabError(
                "the scan has no surface near the head; give its 68 landmarks, or its right unit (metres) and axes "
                "(+X left ear, +Y up, +Z face)"
            )
        state = problem.step(state, hits, weights, noise)
    return problem.finish(state)


@dataclass(frozen=True)
class _State:
    """Head to scan: y = size · rotation · (template + basis · coefficients) + offset, in the scan's unit."""

    coefficients: Float[ndarray, "k"]  # β, then ψ
    size: float  # units of the scan per metre
    rotation: Float[ndarray, "3 3"]
    offset: Float[ndarray, "3"]

    def place(self, points: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
        return self.size * points @ self.rotation.T + self.offset


@dataclass(frozen=True)
class _Problem:
    model: HeadModel
    surface: ScanSurface
    config: ScanConfig
    free_scale: bool
    template: Float[ndarray, "verts 3"]
    basis: Float[ndarray, "verts 3 k"]
    precision: Float[ndarray, "k"]  # of the coefficients' prior
    lower: Float[ndarray, "k"]
    upper: Float[ndarray, "k"]
    used: ndarray  # vertices that are matched
    importance: Float[ndarray, "used"]
    faces: ndarray  # of the skin
    marks: Float[ndarray, "m 3"]  # landmarks of the scan, and of the model:
    mark_template: Float[ndarray, "m 3"]
    mark_basis: Float[ndarray, "m 3 k"]

    @classmethod
    def of(cls, model, surface, landmarks, scale, config) -> "_Problem":
        template, basis = _numpy(model.template), _numpy(model.shape_basis)
        precision = np.ones(model.shapes)
        lower, upper = np.full(model.shapes, -np.inf), np.full(model.shapes, np.inf)
        if config.fit_expression:
            basis = np.concatenate([basis, _numpy(model.expression_basis)], -1)
            std = np.ones(model.expressions) if model.expression_std is None else _numpy(model.expression_std)
            precision = np.concatenate([precision, 1 / std**2])
            bounds = np.tile([-np.inf, np.inf], (model.expressions, 1))
            if model.expression_bounds is not None:
                bounds = _numpy(model.expression_bounds)
            lower, upper = np.concatenate([lower, bounds[:, 0]]), np.concatenate([upper, bounds[:, 1]])
        skin, faces = outer_skin(model)
        face = face_mask(model)
        used = np.flatnonzero(skin)
        area = vertex_areas(template, faces)[used]
        importance = np.clip(area / area[face[used]].mean(), 0, 3) * np.where(face[used], 1, config.outside_face)
        marks, mark_template, mark_basis = _landmark_rows(model, template, basis, landmarks)
        return cls(
            model, surface, config, scale, template, basis, precision, lower, upper, used, importance, faces,
            marks, mark_template, mark_basis,
        )  # fmt: skip

    def start(self) -> _State:
        """The mean head on the scan's landmarks."""
        coefficients = np.zeros(len(self.precision))
        if not len(self.marks):
            return _State(coefficients, 1.0, np.eye(3), np.zeros(3))
        size, rotation, offset = similarity(self.mark_template, self.marks)
        if not self.free_scale:
            offset = self.marks.mean(0) - rotation @ self.mark_template.mean(0)
            size = 1.0
        return _State(coefficients, size, rotation, offset)

    def head(self, state: _State) -> Float[ndarray, "verts 3"]:
        return self.template + self.basis @ state.coefficients

    def pairs(self, state: _State, noise: float) -> tuple[SurfaceHits, Float[ndarray, "used"]]:
        """The scan's nearest points to the matched vertices, and how far each pair is trusted, 0..1."""
        placed = state.place(self.head(state))
        normals = vertex_normals(placed, self.faces)[self.used]
        hits = self.surface.nearest(placed[self.used])
        agreement = (normals * hits.normal).sum(1)
        if not self.surface.oriented:
            agreement = np.abs(agreement)
        elif np.median(agreement) < 0:  # the scan is inside out
            agreement = -agreement
        reach = max(self.config.reach * noise, 0.006) * state.size
        gap = np.linalg.norm(placed[self.used] - hits.position, axis=1)
        near = geman_mcclure((gap / reach) ** 2, 1.0)[1]
        facing = np.clip((agreement - 0.4) / 0.4, 0, 1)
        return hits, np.where(hits.border, 0, facing * near)

    def step(self, state: _State, hits: SurfaceHits, weights: Float[ndarray, "used"], noise: float) -> _State:
        """Minimise the linearised energy: the coefficients anew, the pose by a small motion."""
        keep = weights > 1e-3
        rows, n, q = self.used[keep], hits.normal[keep], hits.position[keep]
        y = state.place(self.head(state))[rows]
        centre = y.mean(0)
        trust = np.sqrt(weights[keep] * self.importance[keep]) / (noise * state.size)
        turned = n @ state.rotation * state.size
        bend = np.einsum("nc,nck->nk", turned, self.basis[rows])
        arm = y - centre
        motion = np.concatenate([np.cross(arm, n), n, (n * arm).sum(1, keepdims=True)], 1)
        right = (n * (q - state.place(self.template[rows]))).sum(1)
        system = np.concatenate([bend, motion], 1) * trust[:, None]
        right = right * trust

        # Landmarks in the same unknowns.
        mark_trust = 1 / (max(self.config.landmark_noise, noise) * state.size)
        mark_y = state.place(self.mark_template + self.mark_basis @ state.coefficients)
        mark_arm = mark_y - centre
        mark_bend = np.einsum("ij,mjk->mik", state.size * state.rotation, self.mark_basis)
        mark_motion = np.concatenate(
            [-_cross_matrix(mark_arm), np.tile(np.eye(3), (len(mark_arm), 1, 1)), mark_arm[..., None]], -1
        )
        mark_system = np.concatenate([mark_bend, mark_motion], -1).reshape(-1, system.shape[1]) * mark_trust
        mark_right = (self.marks - state.place(self.mark_template)).ravel() * mark_trust

        count = len(self.precision)
        scaling = self.free_scale and noise >= self.config.scale_noise
        prior = np.concatenate([self.precision, np.full(6, 1e-6), [1e-6 if scaling else 1e12]])
        hessian = system.T @ system + mark_system.T @ mark_system + np.diag(prior)
        linear = system.T @ right + mark_system.T @ mark_right
        free = np.full(7, np.inf)
        solution = solve_in_box(
            hessian, linear, np.concatenate([self.lower, -free]), np.concatenate([self.upper, free])
        )
        turn, shift, growth = np.split(solution[count:], [3, 6])
        ratio = float(np.exp(np.clip(growth[0], -0.2, 0.2))) if scaling else 1.0
        rotation = rotation_matrix(turn)
        offset = centre + ratio * rotation @ (state.offset - centre) + shift
        return _State(solution[:count], state.size * ratio, rotation @ state.rotation, offset)

    def finish(self, state: _State) -> ScanFit:
        shapes, scale = self.model.shapes, 1 / state.size
        beta, psi = state.coefficients[:shapes], state.coefficients[shapes:]
        head = self.head(state)
        like = self.model.template
        code = self.model.neutral().with_(shape=torch.from_numpy(beta).to(like))
        if len(psi):
            code = code.with_(expression=torch.from_numpy(psi).to(like))
        root = _numpy(self.model.joints(code.shape))[0]
        move = state.offset * scale + state.rotation @ root - root
        code = code.with_(
            rotation=torch.from_numpy(rotation_vector(state.rotation)).to(like),
            translation=torch.from_numpy(move).to(like),
        )
        hits, weights = self.pairs(state, self.config.noise[-1])
        distances = np.full(len(head), np.nan)
        distances[self.used] = hits.distance * scale
        area = vertex_areas(head, self.faces)[self.used] * face_mask(self.model)[self.used] * ~hits.border
        marks = state.place(self.mark_template + self.mark_basis @ state.coefficients) - self.marks
        report = {
            "face_distance": float((distances[self.used] * area).sum() / max(area.sum(), 1e-12)),
            "matched": float((weights * self.importance).sum() / self.importance.sum()),
            "shape_rms": float(np.sqrt(np.mean(beta**2))) if len(beta) else 0.0,
            "scale": scale,
        }
        if len(marks):
            report["landmark_distance"] = float(np.linalg.norm(marks, axis=1).mean() * scale)
        return ScanFit(code, scale, torch.from_numpy(distances), report)


def outer_skin(model: HeadModel) -> tuple[Bool[ndarray, "verts"], ndarray]:
    """Vertices a scanner sees (no eyeballs, mouth or sockets), and the skin's faces."""
    faces = model.faces.cpu().numpy()
    if model.face_parts is not None and "skin" in model.part_names:
        faces = faces[model.face_parts.cpu().numpy() == model.part_names.index("skin")]
    skin = np.zeros(len(model.template), dtype=bool)
    skin[faces] = True
    named = [model.regions[name].cpu().numpy() for name in ("face", "ears", "scalp", "neck") if name in model.regions]
    if len(named) > 1:
        skin &= np.logical_or.reduce(named)
    for name in ("eyes", "teeth", "tongue", "mouth"):
        if name in model.regions:
            skin &= ~model.regions[name].cpu().numpy()
    return skin, faces


def solve_in_box(
    hessian: Float[ndarray, "n n"], linear: Float[ndarray, "n"], lower: Float[ndarray, "n"], upper: Float[ndarray, "n"]
) -> Float[ndarray, "n"]:
    """Minimise ½ xᵀHx - linearᵀx in a box by the primal-dual active set (Hintermüller, Ito & Kunisch 2002)."""
    x = np.linalg.solve(hessian, linear)
    low, high = x < lower, x > upper
    for _ in range(30):
        fixed = low | high
        x = np.where(low, lower, np.where(high, upper, 0.0))
        free = ~fixed
        x[free] = np.linalg.solve(hessian[np.ix_(free, free)], linear[free] - hessian[np.ix_(free, fixed)] @ x[fixed])
        slope = linear - hessian @ x  # pushes x upwards where positive
        now_low = np.where(low, slope < 0, x < lower)
        now_high = np.where(high, slope > 0, x > upper)
        if (now_low == low).all() and (now_high == high).all():
            break
        low, high = now_low, now_high
    return np.clip(x, lower, upper)


def _landmark_rows(model, template, basis, landmarks) -> tuple[ndarray, ndarray, ndarray]:
    """The scan's inner landmarks that are known, and the model's as linear functions of the coefficients."""
    if landmarks is None:
        return np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3, basis.shape[-1]))
    if "68" not in model.landmarks:
        raise HeadlabError(f"{model.name} has no 68 landmarks; add its landmark file with `headlab assets add`")
    marks = np.asarray(landmarks, dtype=np.float64)[INNER]
    known = np.isfinite(marks).all(1)
    if known.sum() < 6:
        raise HeadlabError(f"only {int(known.sum())} of the 51 inner landmarks are known; at least 6 are needed")
    embedding = model.landmarks["68"]
    corners = model.faces.cpu().numpy()[embedding.faces.cpu().numpy()[INNER]][known]
    weights = _numpy(embedding.weights)[INNER][known]
    own = np.einsum("mi,mic->mc", weights, template[corners])
    return marks[known], own, np.einsum("mi,mick->mck", weights, basis[corners])


def _cross_matrix(v: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3 3"]:
    """[v] with [v] w = v × w."""
    zero = np.zeros(len(v))
    x, y, z = v.T
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)


def _numpy(x: Tensor) -> ndarray:
    return x.detach().cpu().numpy().astype(np.float64)
