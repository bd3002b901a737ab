"""Records with landmarks that a detector finds, for sets that come without: albums, videos, CelebA-HQ, stores."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from ..geometry.errors import HeadlabError
from ..geometry.landmarks.face_landmarks import LandmarkDetector
from ..geometry.landmarks.ibug68 import IBUG68
from .records import Fault, Labels, PictureRecord


@dataclass(frozen=True, eq=False)
class DetectedRecord(PictureRecord):
    """A record with 68 landmarks of its largest face."""

    record: PictureRecord
    pixels: Image.Image
    landmarks: Float[np.ndarray, "68 2"]

    @property
    def labels(self) -> Labels:
        return self.record.labels

    @property
    def points(self) -> Float[np.ndarray, "points 2"] | None:
        return self.landmarks

    def encoded(self) -> bytes:
        return self.record.encoded()

    def picture(self) -> Image.Image:
        return self.pixels

    def told(self) -> dict:
        return self.record.told() | {"points": np.round(self.landmarks, 3).tolist()}


def with_landmarks(
    items: Iterable[PictureRecord | Fault], detector: LandmarkDetector
) -> Iterator[PictureRecord | Fault]:
    """The same items with landmarks; those that have some keep theirs, those without a face become faults.

    Args:
        items: of a reader.
        detector: finds faces; the largest one of each picture counts.
    """
    for item in items:
        if isinstance(item, Fault) or item.points is not None:
            yield item
            continue
        try:
            picture = item.picture()
        except HeadlabError as error:
            yield Fault(item.key, "unreadable" if item.path.exists() else "missing picture", str(error))
            continue
        levels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
        faces = detector.detect(levels)
        if not faces:
            yield Fault(item.key, "missing annotation", "no face was found in it")
            continue
        points = max(faces, key=lambda face: face.size).points[list(IBUG68)]
        yield DetectedRecord(item.key, item.path, item, picture, points.double().cpu().numpy())
