"""Synthetic heads as pictures for `layouts`."""

from collections.abc import Iterator

import numpy as np

from ..geometry.models.head_model import HeadModel
from .layouts import Sketch
from .records import EXPRESSIONS
from .synthetic import SyntheticConfig, SyntheticHeads


def synthetic_sketches(model: HeadModel, count: int, size: int, seed: int = 0, batch: int = 16) -> Iterator[Sketch]:
    """Pictures with 68 landmarks, an expression, and valence and arousal.

    Args:
        model: head model with 68 landmarks.
        count: of pictures; each person comes four times.
        size: side, pixels.
        seed: of everything.
        batch: pictures at once.

    Faces whose expression has no name get class 8 ("None"); unknown valence and arousal are 0.
    """
    heads = SyntheticHeads(model, SyntheticConfig(size, seed, maps=False))
    for start in range(0, count, batch):
        made = heads.batch(range(start, min(start + batch, count)))
        vertices = model.vertices(made.codes)
        points = made.camera.project(model.landmarks3d(vertices, "68")).double().numpy()
        for i in range(len(made.index)):
            valence, arousal = np.nan_to_num(made.valence_arousal[i].double().numpy()).tolist()
            emotion = int(made.emotion[i])
            yield Sketch(
                made.images[i].permute(1, 2, 0).numpy(),
                points[i],
                emotion if emotion >= 0 else EXPRESSIONS.index("None"),
                valence,
                arousal,
                str(int(made.person[i])),
            )
