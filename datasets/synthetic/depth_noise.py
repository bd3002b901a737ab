"""What a depth camera makes of true depth: noise that grows with distance, steps, and holes.

Noise along the axis after Nguyen, Izadi & Lovell, "Modeling Kinect Sensor Noise for Improved 3D Reconstruction and
Tracking" (2012): 1.2 mm + 1.9 mm/m² (z - 0.4 m)²; correlated over neighbouring pixels, since sensors match patches.
Holes: at jumps of depth, on surfaces seen at a slant, and as blobs (hair and glasses swallow the pattern).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float
from numpy import ndarray


@dataclass(frozen=True)
class DepthNoiseConfig:
    """A sensor's faults."""

    noise: float = 1.0  #: factor on the standard deviation of the axial noise
    step: float = 0.001  #: depths are multiples of this, metres
    jump: float = 0.02  #: neighbours that differ by more are an edge, metres
    edge_holes: float = 0.6  #: share of the pixels at edges without depth
    slant: float = 0.010  #: difference to the next pixel beyond which a surface is slanted, metres
    slant_holes: float = 0.25
    blobs: float = 1.5  #: mean number of blobs
    blob_size: float = 0.035  #: their radius, part of the picture's side


def sensor_depth(
    depth: Float[ndarray, "height width"], rng: np.random.Generator, config: DepthNoiseConfig | None = None
) -> Float[ndarray, "height width"]:
    """True depth as a sensor would tell it.

    Args:
        depth: metres, 0 = none.
        rng: source of chance.
        config: see `DepthNoiseConfig`.

    Returns:
        Metres, 0 = none (float32).
    """
    config = config or DepthNoiseConfig()
    height, width = depth.shape
    known = depth > 0
    white = rng.normal(size=depth.shape).astype(np.float32)
    smooth = cv2.GaussianBlur(white, (0, 0), 0.7)
    smooth /= max(float(smooth.std()), 1e-6)
    deviation = config.noise * (0.0012 + 0.0019 * (depth - 0.4) ** 2)
    out = depth + deviation * smooth
    if config.step > 0:
        out = np.round(out / config.step) * config.step

    far = np.where(known, depth, 1e3).astype(np.float32)
    kernel = np.ones((3, 3), np.uint8)
    spread = cv2.dilate(far, kernel) - cv2.erode(far, kernel)
    holes = (spread > config.jump) & (rng.random(depth.shape) < config.edge_holes)
    holes |= (spread > 2 * config.slant) & (rng.random(depth.shape) < config.slant_holes)
    y, x = np.mgrid[:height, :width]
    for _ in range(rng.poisson(config.blobs)):
        centre = rng.uniform(0, (height, width))
        radius = config.blob_size * max(height, width) * np.exp(0.4 * rng.normal())
        wobble = 1 + 0.3 * cv2.GaussianBlur(rng.normal(size=depth.shape).astype(np.float32), (0, 0), 2) * 4
        holes |= (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < (radius * wobble) ** 2
    return np.where(known & ~holes, out, 0).astype(np.float32)
