"""What lies behind a head, and what cameras and files do to a picture."""

import io

import cv2
import numpy as np
from PIL import Image


def draw_backdrop(rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size, 3) float32 0..1: colour gradients, clouds of several scales, blobs, bars."""
    corners = rng.uniform(0, 1, (2, 2, 3)) * rng.uniform(0.2, 1) + rng.uniform(0, 0.4)
    picture = cv2.resize(corners.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
    for scale in (3, 8, 24):
        if rng.random() < 0.5:
            cloud = rng.normal(0, rng.uniform(0, 0.2), (scale, scale, 3)) * rng.uniform(0, 1, 3)
            picture += cv2.resize(cloud.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(0, 5)):
        colour = tuple(float(c) for c in rng.uniform(0, 1, 3))
        centre = tuple(int(c) for c in rng.uniform(0, size, 2))
        axes = tuple(int(c) for c in rng.uniform(0.03, 0.5, 2) * size)
        if rng.random() < 0.6:
            cv2.ellipse(picture, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
        else:
            other = tuple(int(c) for c in rng.uniform(0, size, 2))
            cv2.line(picture, centre, other, colour, int(rng.integers(1, max(2, size // 8))))
    if rng.random() < 0.6:  # out of focus
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.5, 5)))
    return picture.clip(0, 1)


def take_picture(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """(size, size, 3) float 0..1 -> uint8: shadows, something in the way, exposure, colour cast, blur, noise, JPEG."""
    size = picture.shape[0]
    if rng.random() < 0.3:
        shade = cv2.resize(
            rng.uniform(0.45, 1.15, (4, 4)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC
        )
        picture = picture * shade[..., None]
    if rng.random() < 0.08:
        picture = np.ascontiguousarray(picture, dtype=np.float32)
        centre = tuple(int(c) for c in size / 2 + rng.choice((-1, 1), 2) * rng.uniform(0.15, 0.5, 2) * size)
        axes = tuple(int(c) for c in rng.uniform(0.05, 0.25, 2) * size)
        colour = tuple(float(c) for c in rng.uniform(0, 1, 3))
        cv2.ellipse(picture, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
    gain = np.exp(rng.normal(0, 0.12)) * (1 + rng.normal(0, 0.05, 3))
    picture = (picture * gain).clip(1e-4, 1) ** np.exp(rng.normal(0, 0.15))
    grey = picture.mean(-1, keepdims=True)
    colourful = 0.0 if rng.random() < 0.06 else np.exp(rng.normal(0, 0.2))
    picture = (grey + (picture - grey) * colourful).astype(np.float32)
    if rng.random() < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.3, 1.3)) * size / 112)
    if rng.random() < 0.7:
        picture = picture + rng.normal(0, rng.uniform(0, 0.03), picture.shape)
    out = (picture.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    if rng.random() < 0.5:
        with io.BytesIO() as file:
            Image.fromarray(out).save(file, "JPEG", quality=int(rng.integers(25, 95)))
            out = np.asarray(Image.open(file))
    return out
