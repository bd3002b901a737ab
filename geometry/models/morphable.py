"""build_morphable: a head model of one's own, from heads in correspondence.

    registered heads ──> rigid alignment ──> augmented stream ──> streamed PCA ──> HeadModel
                                             (features exchanged,   (99.9 % of the
                                              turned, mirrored)      variance)

After "High-Fidelity 3D Digital Human Head Creation from RGB-D Selfies" (Bao et al. 2021), who make 100 000 heads.
Everything but the mean head and its identity basis (faces, expressions, joints, landmarks) is the template model's.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from numpy import ndarray

from ..errors import HeadlabError
from .correspondence import face_mask, similarity
from .head_model import HeadModel, License
from .morphable_augment import AugmentConfig, HeadStream, mirror_points
from .morphable_regions import model_regions
from .shape_space import align_rigidly, vertex_areas
from .streaming_pca import StreamedComponents, streamed_components

OWN = License("that of the heads it was made of", False, "")
#: Shares of the variance that the report counts components for.
SHARES = (0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
_INSIDE = ("eyes", "teeth", "tongue", "mouth")


@dataclass(frozen=True)
class MorphableConfig:
    """How a model is built."""

    augment: AugmentConfig | None = field(default_factory=AugmentConfig)  #: None: the heads as they are
    variance: float = 0.999  #: share of the variance that the basis shall explain
    limit: int = 400  #: most components
    hidden: float = 0.1  #: weight of eyeballs, teeth and mouth against the skin
    passes: int = 2  #: see `streamed_components`


@dataclass(frozen=True)
class MorphableReport:
    """What was built."""

    sources: int  #: heads that were given
    heads: int  #: that the components were computed from
    vertices: int
    mirrored: bool  #: whether mirror images were used: the template is symmetric
    components: int
    explained: float  #: share of the variance of those heads
    needed: dict[str, int | None]  #: components for 90 %, 95 %, ... of it; None: more than were computed
    spread_mm: float  #: root mean squared distance of a head's skin from the mean head's

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def build_morphable(
    heads: Float[ndarray, "count verts 3"],
    template: HeadModel,
    config: MorphableConfig | None = None,
    *,
    name: str = "morphable",
    license: License = OWN,
    progress: Callable[[str], None] = lambda stage: None,
) -> tuple[HeadModel, MorphableReport]:
    """Build a head model of registered heads.

    Args:
        heads: neutral faces in the template's topology, metres; where they lie and how they are turned does not matter.
        template: the model they were registered to.
        config: see `MorphableConfig`.
        name: of the new model.
        license: of the new model.
        progress: called with each stage.

    Raises:
        HeadlabError: fewer than two heads, another topology, numbers that are not finite, a template without 68
            landmarks.
    """
    config = config or MorphableConfig()
    check_heads(heads, template)
    skin, faces = _importance(template, config.hidden)
    aligned = aligned_heads(heads, template)
    mean = aligned.mean(0)
    areas = vertex_areas(mean, faces)
    weights = np.maximum(areas, 1e-3 * areas[areas > 0].mean()) * skin
    weights = weights / weights[skin == 1].sum()

    batches, mirrored, count = _stream(aligned, replace(template, template=_like(template, mean)), areas, config)
    root = np.repeat(np.sqrt(weights), 3).astype(np.float32)

    def scaled() -> Iterator[Float32[ndarray, "batch size"]]:
        for batch in batches():
            yield batch.reshape(len(batch), -1) * root

    found = streamed_components(scaled, min(config.limit, count - 1), passes=config.passes, progress=progress)
    size = found.needed(config.variance) or len(found.variances)
    kept = found.leading(size)
    centre = (kept.mean / root).reshape(-1, 3)
    basis = kept.directions * np.sqrt(kept.variances).astype(np.float32) / root[:, None]
    basis *= np.where((basis**3).sum(0) < 0, -1, 1)  # as `principal_components` chooses signs
    model = replace(
        template,
        name=name,
        license=license,
        template=_like(template, centre),
        shape_basis=_like(template, basis.reshape(len(centre), 3, size)),
    )
    return model, _report(kept, found, len(heads), count, mirrored, weights, skin)


def check_heads(heads: Float[ndarray, "count verts 3"], template: HeadModel) -> None:
    """Raises HeadlabError where a model cannot be built of these heads."""
    if len(heads) < 2:
        raise HeadlabError(f"{len(heads)} head given; a model needs at least two, and dozens to be useful")
    if heads.shape[1] != len(template.template):
        raise HeadlabError(
            f"the heads have {heads.shape[1]} vertices, the template {template.name} {len(template.template)}; "
            "register them to it first"
        )
    broken = np.flatnonzero(~np.isfinite(heads).all((1, 2)))
    if len(broken):
        raise HeadlabError(f"head {int(broken[0])} holds numbers that are not finite; leave it out")
    if "68" not in template.landmarks:
        raise HeadlabError(f"{template.name} has no 68 landmarks, by which eyes, nose and mouth are found")
    size = float(np.median(np.linalg.norm(heads.max(1) - heads.min(1), axis=-1)))
    own = float((template.template.amax(0) - template.template.amin(0)).norm())
    if not 0.5 < size / own < 2:
        raise HeadlabError(
            f"the heads are {size:.3g} metres across, the template {own:.3g}; give them in metres (scale them first)"
        )


def aligned_heads(heads: Float[ndarray, "count verts 3"], template: HeadModel) -> Float32[ndarray, "count verts 3"]:
    """The heads without their places and turns: on their mean by the face, and the mean on the template."""
    region = face_mask(template)
    rotation, offset = align_rigidly(heads, region)
    out = np.einsum("nij,nvj->nvi", rotation, heads) + offset[:, None]
    rest = template.template.double().cpu().numpy()
    _, turn, _ = similarity(out.mean(0)[region], rest[region])
    shift = rest[region].mean(0) - out.mean(0)[region].mean(0) @ turn.T
    return (out @ turn.T + shift).astype(np.float32)


def _stream(aligned, model: HeadModel, areas, config: MorphableConfig):
    """(starts the batches, whether mirror images are among them, how many heads)."""
    augment = config.augment
    if augment is None:
        return lambda: iter([aligned]), False, len(aligned)
    faces = model.faces.cpu().numpy()
    rest = model.template.double().cpu().numpy()
    mirrored = mirror_points(rest, faces) if augment.mirror > 0 else None
    corners = None if mirrored is None else faces[mirrored.face]
    stream = HeadStream.of(aligned, model_regions(model, areas), mirrored, corners, augment)
    return stream.batches, mirrored is not None, len(stream)


def _importance(template: HeadModel, hidden: float) -> tuple[Float[ndarray, "verts"], ndarray]:
    """1 on the skin, less for what lies inside; and all faces."""
    out = np.ones(len(template.template))
    for part in _INSIDE:
        if part in template.regions:
            out[template.regions[part].cpu().numpy()] = hidden
    return out, template.faces.cpu().numpy()


def _report(kept: StreamedComponents, found: StreamedComponents, sources, count, mirrored, weights, skin):
    total = float(weights[skin == 1].sum())
    return MorphableReport(
        sources=sources,
        heads=count,
        vertices=len(weights),
        mirrored=mirrored,
        components=len(kept.variances),
        explained=float(kept.explained[-1]) if len(kept.variances) else 0.0,
        needed={f"{100 * share:g} %": found.needed(share) for share in SHARES},
        spread_mm=1000 * float(np.sqrt(found.total / total)),
    )


def _like(template: HeadModel, array: ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(template.template)
