"""One exposure of a scene, for pictures that must differ in nothing but the face: milder faults than `take_picture`."""

from collections.abc import Callable

import cv2
import numpy as np


def draw_exposure(rng: np.random.Generator, size: int) -> Callable[[np.ndarray], np.ndarray]:
    """Draw shadows, exposure, colour cast, gamma, saturation, blur and a little noise, all the same in every picture.

    Args:
        rng: source of chance.
        size: side of the pictures, pixels.

    Returns:
        (size, size, 3) float 0..1 -> uint8.
    """
    shade = np.ones((size, size), np.float32)
    if rng.random() < 0.3:
        coarse = rng.uniform(0.55, 1.15, (4, 4)).astype(np.float32)
        shade = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    gain = np.exp(rng.normal(0, 0.12)) * (1 + rng.normal(0, 0.05, 3))
    gamma = np.exp(rng.normal(0, 0.15))
    colourful = 0.0 if rng.random() < 0.04 else np.exp(rng.normal(0, 0.2))
    blur = float(rng.uniform(0.2, 0.7)) * size / 64 if rng.random() < 0.3 else 0.0
    noise = rng.normal(0, rng.uniform(0, 0.008), (size, size, 3))

    def expose(picture: np.ndarray) -> np.ndarray:
        picture = (picture * shade[..., None] * gain).clip(1e-4, 1) ** gamma
        grey = picture.mean(-1, keepdims=True)
        picture = (grey + (picture - grey) * colourful).astype(np.float32)
        if blur:
            picture = cv2.GaussianBlur(picture, (0, 0), blur)
        return ((picture + noise).clip(0, 1) * 255 + 0.5).astype(np.uint8)

    return expose
