"""Who is who in a video: what is known of the followed person and of the others.

Faces are compared by two measures. A *look* is a small picture of the upright face, brightness and contrast taken out:
between neighbouring frames it hardly changes (distance 0.02), other persons are 0.45 to 1.3 away, but so is the same
person in another light or pose. The *identity* is the cosine between the vectors of a face embedder, which bears such
changes: on photos of one person 0.5 and more, of different persons mostly below.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8

from ..geometry.landmarks import FaceLandmarks
from ..geometry.landmarks.crops import Square, cut, upright
from ..geometry.regress.default_crop import CROP, UprightSquare

#: Side of a look, pixels, and of its window over the face's size.
_PIXELS, _GROW = 20, 1.25
#: Most looks kept of a person, and how far they are apart.
_GALLERY, _APART = 24, 0.08

Look = Float[np.ndarray, "pixels pixels 3"]
Pixels = UInt8[np.ndarray, "_ _ 3"]


@runtime_checkable
class FaceEmbedder(Protocol):
    """Tells persons apart; `geometry.regress.identity_net.IdentityEmbedder` does."""

    def embed(self, crops: Float[torch.Tensor, "batch 3 96 96"]) -> Float[torch.Tensor, "batch dims"]:
        """Unit vectors of upright face crops (`UprightSquare`), sRGB 0..1."""
        ...


@dataclass(frozen=True)
class Likeness:
    """How a face compares with the followed person and with the others."""

    own: float  #: look distance to the person, infinite where nothing is known
    other: float  #: likewise to the nearest of the others
    same: float | None = None  #: cosine to the person; None without an embedder
    strange: float | None = None  #: cosine to the likest of the others; None where there are none

    @property
    def taken_for_other(self) -> bool:
        """Whether the face is more like one of the others."""
        if self.same is not None and self.strange is not None and abs(self.same - self.strange) > 0.1:
            return self.strange > self.same
        return self.other < self.own


class People:
    """Looks and identities of one person and of the others, gathered on the way."""

    def __init__(self, embedder: FaceEmbedder | None) -> None:
        self._embedder = embedder
        self._looks: dict[bool, list[Look]] = {True: [], False: []}
        self._vectors: dict[bool, list[Float[torch.Tensor, "dims"]]] = {True: [], False: []}

    @property
    def known(self) -> bool:
        """Whether the person has been seen."""
        return bool(self._looks[True])

    def compare(self, pixels: Pixels, face: FaceLandmarks, identity: bool = True) -> Likeness:
        """A face against all that is known.

        Args:
            pixels: the frame.
            face: in it.
            identity: ask the embedder, too, which takes five thousandths of a second.
        """
        look = _look(pixels, face)
        own, other = (
            min((1 - float((look * known).sum()) for known in self._looks[who]), default=float("inf"))
            for who in (True, False)
        )
        if not identity or self._embedder is None or not self._vectors[True]:
            return Likeness(own, other)
        vector = self._embed(pixels, face)
        same, strange = (
            max((float(vector @ known) for known in self._vectors[who]), default=None) for who in (True, False)
        )
        return Likeness(own, other, same, strange)

    def remember(self, pixels: Pixels, face: FaceLandmarks, own: bool) -> None:
        """Keep a look that is new, and its identity; of too many, the oldest but the first goes."""
        look, looks, vectors = _look(pixels, face), self._looks[own], self._vectors[own]
        if any(1 - float((look * known).sum()) <= _APART for known in looks):
            return
        looks.append(look)
        if self._embedder is not None:
            vectors.append(self._embed(pixels, face))
        if len(looks) > _GALLERY:
            del looks[1], vectors[1:2]

    def _embed(self, pixels: Pixels, face: FaceLandmarks) -> Float[torch.Tensor, "dims"]:
        assert self._embedder is not None
        square = UprightSquare.from_landmarks(face.points[None])
        (x, y), side, roll = square.centre[0].tolist(), float(square.side), float(square.angle)
        crop = torch.from_numpy(cut(pixels, Square(x, y, side, roll), CROP)).permute(2, 0, 1).float() / 255
        with torch.no_grad():
            return self._embedder.embed(crop[None])[0]


def _look(pixels: Pixels, face: FaceLandmarks) -> Look:
    mesh = torch.cat([face.points, face.depth[:, None]], 1).double().numpy()
    look = cut(pixels, upright(mesh, _GROW), _PIXELS).astype(np.float64)
    look -= look.mean((0, 1))
    return look / max(float(np.linalg.norm(look)), 1e-9)
