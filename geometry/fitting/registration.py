"""Non-rigid registration: a template head laid on a scan, vertex by vertex, so that heads correspond.

    fit_scan (identity, expression, pose, unit) ──> free displacements, ever less stiff ──> template on the scan

The second part is a non-rigid iterated closest point method with falling stiffness (Amberg, Romdhani & Vetter,
"Optimal Step Nonrigid ICP Algorithms for Surface Registration", 2007), on displacements D from the fitted model:

    Σ w |D_i - T_i|²  +  Σ_l |landmark|²/σ²  +  α (|∇D|² + |ΔD|²)

T moves a vertex onto its scan point along the scan's normal only, so that the surface may slide. Vertices without a
partner (hidden, at the scan's border, turned away) and eyeballs, teeth and tongue follow their neighbours.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy import sparse
from scipy.sparse.linalg import splu
from scipy.spatial import KDTree

from ..code import HeadCode
from ..errors import HeadlabError
from ..models.correspondence import vertex_normals
from ..models.head_model import HeadModel
from ..models.shape_space import vertex_areas
from .robust import geman_mcclure
from .scan import INNER, ScanConfig, ScanFit, fit_scan, outer_skin
from .scan_surface import ScanSurface, scan_surface


@dataclass(frozen=True)
class RegistrationConfig:
    """How stiff the template is, round by round. Lengths in metres."""

    stiffness: tuple[float, ...] = (30.0, 10.0, 3.0, 1.0, 0.5)  #: α, for lengths in edge lengths
    rounds: int = 3  #: of pairing for each stiffness
    reach: float = 0.006  #: pairs much farther apart count little
    landmark_noise: float = 0.003  #: standard deviation of a landmark's place
    scan: ScanConfig = field(default_factory=lambda: ScanConfig(fit_expression=True))  #: of the first part


@dataclass(frozen=True)
class Registration:
    """A scan in the template's topology."""

    vertices: Float[ndarray, "verts 3"]  #: posed on the scan, metres
    neutral: Float[ndarray, "verts 3"]  #: in the template's own frame, with the fitted expression taken back
    matched: float  #: share of the skin that found a partner
    distance: float  #: of the matched skin to the scan, mean, metres
    fit: ScanFit


def register_scan(
    model: HeadModel,
    scan_vertices: Float[ndarray, "scan 3"],
    scan_faces: ndarray | None,
    landmarks: Float[ndarray, "68 3"] | None = None,
    *,
    scale: bool = False,
    config: RegistrationConfig | None = None,
) -> Registration:
    """Lay a head model's template on a scan.

    Args:
        model: template with 68 landmarks; its own identity basis gives the first fit.
        scan_vertices: points of the scan.
        scan_faces: its triangles; None for a cloud of points.
        landmarks: the 68 points on the scan, in its unit; rows may be NaN. None: the scan lies where the template does.
        scale: the scan's unit is unknown.
        config: see `RegistrationConfig`.

    Raises:
        HeadlabError: as `fit_scan`.
    """
    config = config or RegistrationConfig()
    fit = fit_scan(model, scan_vertices, scan_faces, landmarks, scale=scale, config=config.scan)
    surface = scan_surface(np.asarray(scan_vertices, np.float64) * fit.scale, scan_faces)
    with torch.no_grad():
        start = model.to(dtype=torch.float64).vertices(fit.code.to(dtype=torch.float64)).numpy()
    problem = _Problem.of(model, start, surface, None if landmarks is None else landmarks * fit.scale, config)
    moved = problem.solve()
    gap, used = problem.gaps(moved)
    if not used.any():
        raise HeadlabError("the template found no partner on the scan; give the scan's 68 landmarks")
    return Registration(
        vertices=moved,
        neutral=neutral_of(model, fit.code, moved),
        matched=float(problem.areas[used].sum() / problem.areas[problem.skin].sum()),
        distance=float((np.abs(gap) * problem.areas)[used].sum() / problem.areas[used].sum()),
        fit=fit,
    )


def neutral_of(model: HeadModel, code: HeadCode, vertices: Float[ndarray, "verts 3"]) -> Float[ndarray, "verts 3"]:
    """Posed vertices without the code's pose and expression: skinning undone, the expression's displacement taken off.

    Pose correctives are taken off as those of the fitted pose.
    """
    double, code = model.to(dtype=torch.float64), code.to(dtype=torch.float64)
    rest = code.with_(expression=torch.zeros_like(code.expression))
    with torch.no_grad():
        rotation, offset = double.transforms(code)
        blended = torch.einsum("vj,jab->vab", double.skin_weights, rotation)
        shift = double.skin_weights @ offset
        unposed = torch.linalg.solve(blended, (torch.from_numpy(vertices) - shift).unsqueeze(-1)).squeeze(-1)
        posed = torch.linalg.solve(blended, (double.vertices(code) - shift).unsqueeze(-1)).squeeze(-1)
        # What the model itself adds to its neutral head: expression and correctives.
        return (unposed - (posed - double.shaped(rest.shape, rest.expression))).numpy()


@dataclass(frozen=True)
class _Problem:
    start: Float[ndarray, "verts 3"]
    surface: ScanSurface
    faces: ndarray  # of the skin
    skin: ndarray  # bool: may be matched
    areas: Float[ndarray, "verts"]  # of the skin's vertices, mean 1 over the skin
    smooth: Any  # sparse: membrane and bending energy
    marks: sparse.csr_matrix  # vertices -> landmarks
    goals: Float[ndarray, "marks 3"]
    config: RegistrationConfig

    @classmethod
    def of(cls, model: HeadModel, start, surface: ScanSurface, landmarks, config: RegistrationConfig) -> "_Problem":
        skin, faces = outer_skin(model)
        areas = vertex_areas(start, faces)
        areas = areas / areas[skin].mean()
        count, all_faces = len(start), model.faces.cpu().numpy()
        laplacian = _laplacian(start, all_faces)
        smooth = laplacian + laplacian @ laplacian
        rows, goals = sparse.csr_matrix((0, count)), np.zeros((0, 3))
        if landmarks is not None:
            known = np.isfinite(landmarks[INNER]).all(1)
            embedding = model.landmarks["68"]
            corners = all_faces[embedding.faces.cpu().numpy()[INNER]][known]
            weights = embedding.weights.double().cpu().numpy()[INNER][known]
            index = np.repeat(np.arange(len(corners)), 3)
            rows = sparse.csr_matrix((weights.ravel(), (index, corners.ravel())), (len(corners), count))
            goals = np.asarray(landmarks, np.float64)[INNER][known] - rows @ start
        return cls(start, surface, faces, skin, areas, smooth.tocsc(), rows, goals, config)

    def pairs(self, moved: ndarray) -> tuple[ndarray, ndarray, ndarray]:
        """(gap along the scan's normal, that normal, weight 0..1) of every vertex."""
        hits = self.surface.nearest(moved[self.skin])
        normals = vertex_normals(moved, self.faces)[self.skin]
        agreement = (normals * hits.normal).sum(1)
        if not self.surface.oriented:
            agreement = np.abs(agreement)
        elif np.median(agreement) < 0:
            agreement = -agreement
        off = hits.position - moved[self.skin]
        near = geman_mcclure((np.linalg.norm(off, axis=1) / self.config.reach) ** 2, 1.0)[1]
        facing = np.clip((agreement - 0.4) / 0.4, 0, 1)
        gap, normal, weight = np.zeros(len(moved)), np.zeros_like(moved), np.zeros(len(moved))
        gap[self.skin], normal[self.skin] = (off * hits.normal).sum(1), hits.normal
        weight[self.skin] = np.where(hits.border, 0, facing * near)
        return gap, normal, weight

    def gaps(self, moved: ndarray) -> tuple[ndarray, ndarray]:
        """Remaining distances, and which vertices have a partner."""
        gap, _, weight = self.pairs(moved)
        return gap, weight > 0.5

    def solve(self) -> Float[ndarray, "verts 3"]:
        change = np.zeros_like(self.start)
        mark_weight = (0.001 / self.config.landmark_noise) ** 2
        for alpha in self.config.stiffness:
            for _ in range(self.config.rounds):
                gap, normal, weight = self.pairs(self.start + change)
                weight = weight * self.areas
                goal = change + gap[:, None] * normal
                system = sparse.diags(weight + 1e-6) + alpha * self.smooth
                right = weight[:, None] * goal + 1e-6 * change
                if len(self.goals):
                    system = system + mark_weight * (self.marks.T @ self.marks)
                    right = right + mark_weight * (self.marks.T @ self.goals)
                change = splu(system.tocsc()).solve(right)
        return self.start + change


def _laplacian(vertices: Float[ndarray, "verts 3"], faces: ndarray) -> sparse.csr_matrix:
    """Symmetric graph Laplacian of the mesh, rows scaled to about 1; separate shells hang on their nearest vertices."""
    count = len(vertices)
    edges = np.unique(np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    graph = _adjacency(edges, count)
    shells, label = sparse.csgraph.connected_components(graph, directed=False)
    if shells > 1:
        main = label == np.bincount(label).argmax()
        ties = []
        tree = KDTree(vertices[main])
        for shell in range(shells):
            members = np.flatnonzero(label == shell)
            if not main[members[0]]:
                near = np.flatnonzero(main)[tree.query(vertices[members])[1]]
                ties.append(np.stack([members, near], 1))
        edges = np.concatenate([edges, *ties])
        graph = _adjacency(edges, count)
    degree = np.asarray(graph.sum(1)).ravel()
    return (sparse.diags(degree) - graph).tocsr() / max(float(degree.mean()), 1.0)


def _adjacency(edges: ndarray, count: int) -> sparse.csr_matrix:
    both = np.concatenate([edges, edges[:, ::-1]])
    graph = sparse.csr_matrix((np.ones(len(both)), (both[:, 0], both[:, 1])), (count, count))
    graph.data[:] = 1.0
    return graph


def stiffer(config: RegistrationConfig, factor: float) -> RegistrationConfig:
    """The same with a stiffer (factor > 1) or softer template: noisy scans want a stiffer one."""
    return replace(config, stiffness=tuple(factor * alpha for alpha in config.stiffness))
