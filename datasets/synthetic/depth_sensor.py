"""What a depth camera makes of true depth: a structured-light or stereo sensor's noise, steps and holes.

Disparity f b / z carries the errors (Khoshelham and Elberink 2012; Nguyen et al. 2012): correlated noise, sub-pixel
steps, jitter at edges. Nothing is measured in the projector's shadow, at grazing angles, on very dark surfaces, and in
scattered specks; the rest is rounded to whole millimetres.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray


@dataclass(frozen=True)
class DepthSensor:
    """One sensor. Half a metre away, the default has 0.9 mm of noise and steps of 0.7 mm at a focal length of 580."""

    baseline: float = 0.075  #: metres between camera and projector (which sits on the picture's left)
    noise: float = 0.15  #: standard deviation of disparity, pixels
    correlation: float = 1.0  #: of the noise between pixels: spread of its blur, pixels
    steps: int = 8  #: disparities per pixel
    jitter: float = 0.6  #: of where a pixel looks, pixels
    grazing: float = 0.2  #: cosine of the viewing angle below which nothing is measured
    dark: float = 0.06  #: brightness below which half the pixels are lost
    specks: float = 4e-4  #: share of pixels that are the centre of a small hole
    speck_size: int = 6  #: largest such hole, pixels across

    def measure(
        self,
        depth: Float[ndarray, "height width"],
        focal: float,
        rng: np.random.Generator,
        brightness: Float[ndarray, "height width"] | None = None,
    ) -> Float[ndarray, "height width"]:
        """Measured depth, whole millimetres in metres, 0 = none.

        Args:
            depth: true depth, metres, 0 = none.
            focal: focal length, pixels.
            rng: source of chance.
            brightness: 0..1.
        """
        from scipy.ndimage import gaussian_filter

        height, width = depth.shape
        rows, columns = np.mgrid[:height, :width]
        looks = [
            np.rint(axis + rng.normal(0, self.jitter / 2, depth.shape)).astype(int).clip(0, size - 1)
            for axis, size in ((rows, height), (columns, width))
        ]
        seen = depth[looks[0], looks[1]]
        known = (seen > 0) & (depth > 0)
        lost = self._shadow(depth, focal) | self._grazing(depth, focal) | self._specks(depth.shape, rng)
        if brightness is not None:
            lost |= (brightness < self.dark) & (rng.random(depth.shape) < 0.5)
        noise = gaussian_filter(rng.normal(0, 1, depth.shape), self.correlation)
        noise *= self.noise / noise.std()
        disparity = focal * self.baseline / np.where(known, seen, 1.0) + noise
        disparity = np.rint(disparity * self.steps) / self.steps
        measured = focal * self.baseline / np.maximum(disparity, 1e-3)
        return np.where(known & ~lost, np.rint(measured * 1000) / 1000, 0.0)

    def _shadow(self, depth: Float[ndarray, "height width"], focal: float) -> Bool[ndarray, "height width"]:
        """Pixels whose surface the projector does not reach: another one stands in its way."""
        far = np.where(depth > 0, depth, depth.max() + 1)
        column = np.arange(depth.shape[1])
        projected = column + focal * self.baseline / far
        # The projector stands on the left: what it sees left of something nearer, though it lies right of it in the
        # picture, is behind that.
        before = np.maximum.accumulate(projected, axis=1)
        return projected < before - 1.0

    def _grazing(self, depth: Float[ndarray, "height width"], focal: float) -> Bool[ndarray, "height width"]:
        z = np.where(depth > 0, depth, np.nan)
        dy, dx = np.gradient(z)
        slope = np.hypot(dx, dy) * focal / z  # metres of depth per metre across
        return np.nan_to_num(1 / np.sqrt(1 + slope**2), nan=1.0) < self.grazing

    def _specks(self, shape: tuple[int, ...], rng: np.random.Generator) -> Bool[ndarray, "height width"]:
        out = np.zeros(shape, bool)
        count = rng.poisson(self.specks * shape[0] * shape[1])
        for _ in range(count):
            y, x = rng.integers(shape[0]), rng.integers(shape[1])
            h, w = rng.integers(1, self.speck_size + 1, 2)
            out[y : y + h, x : x + w] = True
        return out
