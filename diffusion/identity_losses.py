"""IdentityLosses: the identity terms of a training step, from what the denoiser said.

    prediction ──> x̂0 (schedule) ──> picture (frozen decoder) ──> view ──> β, vector (frozen readers) ──> the losses

The gradient goes back the same way, to the denoiser alone. Terms are weighted by (1 - t / T)^2 and left out (and not
read) where their weight is 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..geometry.errors import HeadlabError
from .identity import Embedder, ExpressionReader, ShapeReader, viewed
from .losses import l_expression, l_id, l_id_deca, l_tid, time_weight
from .schedule import NoiseSchedule


@dataclass(frozen=True)
class IdentityWeights:
    """Factors of the terms; 0 leaves one out."""

    identity: float = 0.0  #: L_ID
    triplet: float = 0.0  #: L_TID
    shape: float = 0.0  #: L_id_DECA, per mm^2
    expression: float = 0.0  #: that the expression stays the wanted one in L_id_DECA's reading, per mm^2
    margin: float = 0.6  #: m of L_TID
    latest: float = 1.0  #: times t / T beyond this part are left out: x̂0 is a blur there
    power: float = 2.0  #: of 1 - t / T
    views: float = 1.0  #: spread of the random views that are read (`identity.viewed`); 0: the pictures as they are

    @property
    def any(self) -> bool:
        return bool(self.identity or self.triplet or self.shape or self.expression)


@dataclass(frozen=True)
class IdentityLosses:
    """The terms with the networks that they need.

    Attributes:
        weights: factors.
        decode: latents -> colour of the pictures, sRGB 0..1 (not clamped); its networks must be frozen.
        reader: needed for L_id_DECA.
        embedder: needed for L_ID and L_TID.
    """

    weights: IdentityWeights
    decode: Callable[[Tensor], Tensor]
    reader: ShapeReader | None = None
    embedder: Embedder | None = None

    def __post_init__(self):
        w = self.weights
        for name in ("identity", "triplet", "shape", "expression"):
            if not 0 <= getattr(w, name) < math.inf:
                raise HeadlabError(f"the weight {name} of the identity losses is 0 or more, not {getattr(w, name)}")
        if w.expression and not isinstance(self.reader, ExpressionReader):
            raise HeadlabError("holding the expression needs a reader of expressions; set its weight to 0")
        if w.shape and self.reader is None:
            raise HeadlabError(
                "the loss L_id_DECA needs a shape reader; pass load_shape_reader() or set its weight to 0"
            )
        if (w.identity or w.triplet) and self.embedder is None:
            raise HeadlabError("the losses L_ID and L_TID need an embedder; pass load_embedder() or set them to 0")

    def __call__(
        self,
        prediction: Float[Tensor, "batch chan height width"],
        noisy: Float[Tensor, "batch chan height width"],
        t: Int[Tensor, "batch"],
        schedule: NoiseSchedule,
        source: Float[Tensor, "batch 3 rows columns"],
        prior: Float[Tensor, "batch 3 rows columns"] | None = None,
        source_shape: Float[Tensor, "batch shape"] | None = None,
        wanted: Float[Tensor, "batch 3 rows columns"] | None = None,
    ) -> dict[str, Tensor]:
        """Weighted means over the batch, under the names "identity", "triplet" and "shape".

        Args:
            prediction: the denoiser's, of `noisy` at times `t`.
            noisy: latents.
            t: times.
            schedule: what the prediction means.
            source: pictures of the persons, upright crops, sRGB 0..1: the clean pictures behind `noisy`, or others.
            prior: pictures of other people that the base model made; for L_TID. One may be used many times.
            source_shape: shape codes of the persons where better ones are known than can be read from `source`.
            wanted: pictures with the wanted expression; `source` where None.

        Raises:
            HeadlabError: L_TID is on and there are no prior pictures.
        """
        w = self.weights
        early = (t < w.latest * schedule.steps).nonzero()[:, 0]
        if not w.any or not len(early):
            return {}
        if w.triplet and prior is None:
            raise HeadlabError(
                "L_TID compares with pictures of other people made by the base model; give prior pictures"
            )
        clean = schedule.x0_from(prediction[early], noisy[early], t[early])
        pictures = self.decode(clean)
        others = (source, source if wanted is None else wanted, *([] if prior is None else [prior]))
        shown = [pictures, *(x[early] for x in others)]
        if w.views:
            shown = viewed(shown, w.views, mirror=source_shape is None)
        pictures, source = shown[0], shown[1]
        factor = time_weight(schedule, t[early], w.power).to(pictures) / len(t)
        terms = {}
        if self.reader is not None and w.shape and not w.expression:
            with torch.no_grad():
                known = self.reader.shapes(source) if source_shape is None else source_shape[early]
            loss = l_id_deca(self.reader.shapes(pictures), known, self.reader.gram.to(pictures))
            terms["shape"] = w.shape * (factor * loss).sum()
        if w.expression and self.reader is not None and isinstance(self.reader, ExpressionReader):
            with torch.no_grad():
                known = self.reader.shapes(source) if source_shape is None else source_shape[early]
                _, psi = self.reader.read(shown[2])
            shape, expression = self.reader.read(pictures)
            if w.shape:
                terms["shape"] = w.shape * (factor * l_id_deca(shape, known, self.reader.gram.to(pictures))).sum()
            loss = l_expression(expression, psi, self.reader.expression_gram.to(pictures))
            terms["expression"] = w.expression * (factor * loss).sum()
        if self.embedder is not None and (w.identity or w.triplet):
            with torch.no_grad():
                own = self.embedder.vectors(source)
            vectors = self.embedder.vectors(pictures)
            if w.identity:
                terms["identity"] = w.identity * (factor * l_id(vectors, own)).sum()
            if w.triplet:
                with torch.no_grad():
                    other = self.embedder.vectors(shown[3])
                terms["triplet"] = w.triplet * (factor * l_tid(vectors, own, other, w.margin)).sum()
        return terms
