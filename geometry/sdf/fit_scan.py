"""From a scan in any frame to a neural head laid on it: unit, alignment, latents.

    scan ──> points, normals ──> align to the mean head ──> latents ──> align to that head ──> latents, residuals

Nobody has to know the fields' frame: the unit is told by the size (m, cm, mm; otherwise the scale is free), the pose by
landmarks where the caller has some, and else by iterated closest points from all sides.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial import KDTree
from torch import Tensor

from ..errors import HeadlabError
from ..raster import closest_point
from .align import Alignment, Target, align, guessed_scales, judged, landmark_start
from .expression import ExpressionField
from .extract import SdfMesh, mesh_normals
from .face_evidence import FaceEvidence, face_evidence, feature_points
from .fitting import FitConfig, fit_point_clouds
from .frame import UNITS_PER_METRE
from .head_fields import HeadFields
from .identity import IdentityField
from .latent_fit import LatentFitConfig, fit_latents
from .scan_points import UNITS, Scan, SurfacePoints, scan_unit, surface_points

#: Anchors of the face, and which of the 68 landmarks lies at some of them.
_FACE_ANCHORS = (*range(16), 18, 19, 22, 23, *range(33, 39))
_UPPER_LIP = 35
_LANDMARK_OF_ANCHOR = {0: 48, 1: 54, 10: 39, 11: 42, 12: 36, 13: 45, 33: 30, 34: 57, 35: 51, 36: 27}

#: Points farther from the mean head than this are something else (shoulders, hair): 30 mm, in the field's unit.
_ELSEWHERE = 0.12

_MM = 1000 / UNITS_PER_METRE

#: No head: its face, laid on the mean one as well as can be, is farther off than this; millimetres. Much can still be
#: wrong below it: what was fitted is judged in the end.
_NO_HEAD = 12.0
#: With a known unit, a match worse than this is tried again with a free scale.
_DOUBTFUL = 5.5
#: No head: about eyes and nose the fitted head is farther off (millimetres), less of it is seen, normals agree
#: less (median cosine), or a smooth lump does as well (ratio of the residuals: heads reach 0.9, eggs begin at 2).
_FAR_OFF, _UNSEEN, _DISAGREES, _NO_RELIEF = 3.5, 0.35, 0.7, 1.1


#: Scans differ from what fields were trained on by more than noise. Believed to 0.4 mm, as heads of the same model may
#: be, they drive latents of the shipped fields four standard deviations off, where lips and lids tear.
SCAN_LATENTS = LatentFitConfig(steps=250, points=800, noise=(0.012, 0.004), evidence=600.0, own=0.2)


@dataclass(frozen=True)
class ScanFitConfig:
    """How a scan is fitted."""

    latents: LatentFitConfig = field(default_factory=lambda: SCAN_LATENTS)  #: with the training heads as the prior
    authors: FitConfig | None = None  #: the authors' energy and schedule instead, which suit their much larger training
    rough: tuple[float, ...] = (0.3,)  #: shares of the steps that fits take after which the scan is aligned again
    face: int = 4  #: times that points of the face count: they are few, but lips and lids are made of them
    points: int = 20000  #: drawn from the scan
    resolution: int = 96  #: of the surfaces that scans are laid on and compared with


@dataclass(frozen=True)
class NeuralFit:
    """A head of the fields, laid on a scan."""

    identity: Float[Tensor, "latent"]
    expression: Float[Tensor, "ex"] | None
    alignment: Alignment  #: scan -> field
    unit: str | None  #: "m", "cm", "mm"; None where the scale had to be estimated
    report: dict[str, float | str | None]


def fit_neural_head(
    fields: HeadFields,
    scan: Scan,
    config: ScanFitConfig,
    seed: int = 0,
    landmarks: Float[ndarray, "68 3"] | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> NeuralFit:
    """Fit identity and expression to a scan or to a depth map's points, full or of one view.

    Args:
        fields: NPHM fields.
        scan: mesh or cloud.
        config: settings.
        seed: of the draws.
        landmarks: the 68 points on the scan, in its frame; rows may be NaN. None: found by shape alone.
        progress: told what goes on.

    Raises:
        HeadlabError: too few points, no head in the scan, or fields of another kind.
    """
    if not isinstance(fields.identity, IdentityField):
        raise HeadlabError(f"{fields.kind} fields cannot be fitted to scans; give fields of NPHM")
    draws = np.random.default_rng(seed)
    progress("reading the scan")
    points = surface_points(scan, config.points, draws)
    identity, expression = _start(fields)
    progress("aligning")
    target = _target(
        fields, fields.extract(identity, expression, config.resolution, normals=False), identity, expression
    )
    unit, alignment, by = _aligned(fields, scan, points, target, landmarks)
    _refuse(alignment.face_distance * _MM, _NO_HEAD, "laid on the mean head as well as can be")
    mesh = None
    for share in (*config.rough, 1.0):
        progress("fitting" if share == 1.0 else "fitting roughly")
        observed = _observed(points, target, alignment)
        cloud = torch.cat([observed, *[_of_face(fields, observed)] * (config.face - 1)])
        identity, expression = _latents(fields, cloud, config, share, seed)
        mesh = fields.extract(identity, expression, config.resolution, normals=False)
        target = _target(fields, mesh, identity, expression)
        if share != 1.0:
            progress("aligning")
            alignment = align(points, target, (alignment.scale,), unit is None, alignment)
    assert mesh is not None
    report = _residuals(mesh, _observed(points, target, alignment).numpy(), alignment, target, points)
    evidence = face_evidence(
        target, *feature_points(fields, target.points, identity, expression), _placed(points, alignment)
    )
    _refuse_faceless(evidence)
    return NeuralFit(
        identity,
        expression,
        alignment,
        unit,
        {
            **report,
            "features_mm": evidence.residual_mm,
            "features_smooth_mm": evidence.relief_mm,
            "unit": unit,
            "metres_per_unit": alignment.scale / UNITS_PER_METRE,
            "aligned_by": by,
            "left_out": float(points.dropped),
        },
    )


def _latents(
    fields: HeadFields, observed: Float[Tensor, "n 3"], config: ScanFitConfig, share: float, seed: int
) -> tuple[Float[Tensor, "latent"], Float[Tensor, "ex"] | None]:
    draws = torch.Generator().manual_seed(seed)
    if config.authors is not None:
        assert isinstance(fields.identity, IdentityField)
        schedule = replace(config.authors, steps=max(1, round(share * config.authors.steps)))
        expression = fields.expression if isinstance(fields.expression, ExpressionField) else None
        taken = fit_point_clouds(fields.identity, expression, [observed], schedule, draws, start=_start(fields))
        return taken.identity, None if taken.expressions is None else taken.expressions[0]
    settings = replace(config.latents, steps=max(1, round(share * config.latents.steps)))
    found = fit_latents(fields, [observed], settings, draws, posed=fields.expression is not None)
    return found.identity, None if found.expressions is None else found.expressions[0]


def _start(fields: HeadFields) -> tuple[Float[Tensor, "latent"], Float[Tensor, "ex"] | None]:
    """The mean of the training heads, in the mean of their expressions."""
    expression = fields.expression_latents.mean(0) if fields.expression is not None else None
    return fields.identity_latents.mean(0), expression


def _target(
    fields: HeadFields, mesh: SdfMesh, identity: Float[Tensor, "latent"], expression: Float[Tensor, "ex"] | None
) -> Target:
    """A head's outer surface; the face is what lies next to an anchor of the face, above the upper lip: jaws move."""
    points = mesh.vertices.double().numpy()
    normals = mesh_normals(mesh.vertices, mesh.faces).double().numpy()
    with torch.no_grad():
        anchors = fields.anchors(identity).double().numpy()
    distance, nearest = KDTree(anchors).query(points)
    if len(anchors) == 39:
        face = (distance < 0.2) & np.isin(nearest, _FACE_ANCHORS) & (points[:, 1] > anchors[_UPPER_LIP, 1])
    else:
        face = normals[:, 2] > 0.2
    features, _ = feature_points(fields, points, identity, expression)
    return Target(points, normals, face, KDTree(points), features)


def _aligned(
    fields: HeadFields,
    scan: Scan,
    points: SurfacePoints,
    target: Target,
    landmarks: Float[ndarray, "68 3"] | None,
) -> tuple[str | None, Alignment, str]:
    """The unit, the alignment, and what found it."""
    unit = scan.unit or scan_unit(scan.extent)
    pairs = None if landmarks is None else _landmark_pairs(fields, landmarks)
    by = "shape" if pairs is None else "landmarks"
    found = None
    if unit is not None:
        scale = UNITS[unit] * UNITS_PER_METRE
        start = None if pairs is None else landmark_start(*pairs, scale)
        found = align(points, target, (scale,), False, start)
        if scan.unit is not None or found.face_distance * _MM <= _DOUBTFUL:
            return unit, found, by
    # A unit of its own, or a known one by accident: let the scale go.
    start = None if pairs is None else landmark_start(*pairs, None)
    freely = align(points, target, guessed_scales(scan.extent, UNITS_PER_METRE), True, start)
    if found is not None and found.face_distance <= 1.5 * freely.face_distance:
        return unit, found, by
    return None, freely, by


def _landmark_pairs(
    fields: HeadFields, landmarks: Float[ndarray, "68 3"]
) -> tuple[Float[ndarray, "k 3"], Float[ndarray, "k 3"]] | None:
    """Landmarks of the scan and the mean head's anchors there; None if too few are known."""
    with torch.no_grad():
        anchors = fields.anchors(_start(fields)[0]).double().numpy()
    known = [
        (landmarks[mark], anchors[a])
        for a, mark in _LANDMARK_OF_ANCHOR.items()
        if a < len(anchors) and np.isfinite(landmarks[mark]).all()
    ]
    if len(known) < 4:
        return None
    return np.array([mark for mark, _ in known], dtype=np.float64), np.array([goal for _, goal in known])


def _observed(points: SurfacePoints, target: Target, alignment: Alignment) -> Float[Tensor, "kept 3"]:
    """The scan's points near a head, in the field's frame."""
    placed = alignment.to_field(points.points)
    near = np.isfinite(target.tree.query(placed, distance_upper_bound=_ELSEWHERE)[0])
    return torch.from_numpy(placed[near]).float()


def _of_face(fields: HeadFields, observed: Float[Tensor, "n 3"]) -> Float[Tensor, "some 3"]:
    """Those next to the mean head's anchors of the face, jaw and mouth included."""
    with torch.no_grad():
        anchors = fields.anchors(_start(fields)[0]).double().numpy()
    distance, nearest = KDTree(anchors).query(observed.numpy())
    return observed[torch.from_numpy((distance < 0.2) & np.isin(nearest, _FACE_ANCHORS))]


def _residuals(
    mesh: SdfMesh,
    observed: Float[ndarray, "n 3"],
    alignment: Alignment,
    target: Target,
    points: SurfacePoints,
) -> dict[str, float]:
    """Millimetres between the scan and the fitted head."""
    distance = closest_point(mesh.vertices, mesh.faces, torch.from_numpy(observed).to(mesh.vertices))[0].numpy() * _MM
    judgement = judged(points, target, alignment)
    return {
        "distance_mm": float(distance.mean()),
        "median_mm": float(np.median(distance)),
        "within_1.5mm": float((distance <= 1.5).mean()),
        "face_distance_mm": judgement.face_distance * _MM,
        "face_agreement": judgement.agreement,
        "points": float(len(observed)),
    }


def _placed(points: SurfacePoints, alignment: Alignment) -> SurfacePoints:
    """A scan's points in the fields' frame."""
    turned = points.normals @ alignment.rotation.T
    return replace(points, points=alignment.to_field(points.points), normals=turned)


def _refuse(residual: float, limit: float, how: str) -> None:
    if not residual <= limit:
        raise HeadlabError(
            f"this does not look like a head: {how}, its face is {residual:.1f} mm off on average (at most "
            f"{limit:g} mm are allowed); give a scan of one head that shows the face, in m, cm or mm"
        )


def _refuse_faceless(face: FaceEvidence) -> None:
    """Raises:
    HeadlabError: the scan shows no eyes and nose where the fitted head has them.
    """
    if face.covered < _UNSEEN:
        found = f"the scan shows only {100 * face.covered:.0f} % of its eyes and nose"
    elif face.residual_mm > _FAR_OFF or face.agreement < _DISAGREES:
        turned = np.degrees(np.arccos(np.clip(face.agreement, 0, 1)))
        found = f"its eyes and nose are {face.residual_mm:.1f} mm off and turned by {turned:.0f} degrees"
    elif face.ratio > _NO_RELIEF:
        found = (
            f"its eyes and nose are {face.residual_mm:.1f} mm off, where a smooth surface without them is "
            f"{face.relief_mm:.1f} mm off"
        )
    else:
        return
    raise HeadlabError(f"this does not look like a head: fitted, {found}; give a scan of one head that shows the face")
