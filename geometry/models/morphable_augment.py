"""Many plausible heads out of a few: features exchanged, moved a little and mirrored.

The augmentation of "High-Fidelity 3D Digital Human Head Creation from RGB-D Selfies" (Bao et al. 2021): eyes, nose and
mouth of one head replace another's; a region is laid on its new place by a rigid motion found on the band around it,
turned by about a degree (not the eyes), shifted and scaled a little; heads, and in their own frames the regions, are
mirrored. Batch k of the stream depends on the seed and on k alone, so the same heads can be streamed again and again.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int
from numpy import ndarray

from .closest_surface import SurfacePoints, closest_points
from .morphable_regions import FaceRegion

_MIRROR = np.array([-1.0, 1.0, 1.0], np.float32)
_LARGEST_TURN = 3.0  # standard deviations


@dataclass(frozen=True)
class AugmentConfig:
    """How heads are varied."""

    heads: int = 100_000  #: how many; the source heads themselves come first
    exchange: float = 0.7  #: how often a region is another head's
    mirror: float = 0.5  #: how often a head or a lent region is mirrored
    turn: float = 1.0  #: degrees, standard deviation about each axis; the eyes are not turned
    shift: float = 0.0005  #: metres, standard deviation along each axis
    scale: float = 0.02  #: standard deviation of a region's logarithmic size
    batch: int = 128  #: heads at once
    seed: int = 0


@dataclass(frozen=True)
class HeadStream:
    """An augmented set of heads that is made batch by batch and never held whole."""

    pool: Float32[ndarray, "pool verts 3"]  #: source heads, then their mirror images
    sources: int
    regions: tuple[FaceRegion, ...]
    config: AugmentConfig

    @classmethod
    def of(
        cls,
        heads: Float[ndarray, "count verts 3"],
        regions: tuple[FaceRegion, ...],
        mirrored: SurfacePoints | None,
        corners: Int[ndarray, "verts 3"] | None,
        config: AugmentConfig | None = None,
    ) -> "HeadStream":
        """Args:
        heads: in correspondence, rigidly aligned, metres, symmetric about x = 0 on average.
        regions: `face_regions`.
        mirrored: of `mirror_points`; None: no mirror images are made.
        corners: vertices of the faces that `mirrored` names.
        config: see `AugmentConfig`.
        """
        pool = np.ascontiguousarray(heads, dtype=np.float32)
        if mirrored is not None and corners is not None:
            weights = mirrored.weights.astype(np.float32)[..., None]
            flipped = np.stack([(head[corners] * weights).sum(1) * _MIRROR for head in pool])
            pool = np.concatenate([pool, flipped])
        return cls(pool, len(heads), regions, config or AugmentConfig())

    def __len__(self) -> int:
        return max(self.config.heads, self.sources)

    def batches(self) -> Iterator[Float32[ndarray, "batch verts 3"]]:
        """All heads, in the same order every time."""
        step = self.config.batch
        for start in range(0, self.sources, step):
            yield self.pool[start : min(start + step, self.sources)].copy()
        for number, start in enumerate(range(self.sources, len(self), step)):
            yield self.augmented(min(step, len(self) - start), np.random.default_rng([self.config.seed, number]))

    def augmented(self, count: int, rng: np.random.Generator) -> Float32[ndarray, "count verts 3"]:
        """New heads."""
        config = self.config
        base = self._drawn(count, rng)
        out = self.pool[base]
        eyes = np.where(rng.random(count) < config.exchange, self._drawn(count, rng), base)  # two eyes are a pair
        for region in self.regions:
            is_eye = region.name.endswith("eye")
            lender = eyes if is_eye else np.where(rng.random(count) < config.exchange, self._drawn(count, rng), base)
            moved = self._placed(region, base, lender, rng, 0.0 if is_eye else config.turn)
            rows = region.vertices
            own = out[:, rows]
            out[:, rows] = own + region.weight[:, None] * (moved - own)
        return out

    def _drawn(self, count: int, rng: np.random.Generator) -> Int[ndarray, "count"]:
        """Heads of the pool, mirrored as often as configured."""
        head = rng.integers(self.sources, size=count)
        flip = rng.random(count) < self.config.mirror
        return head + np.where(flip & (len(self.pool) > self.sources), self.sources, 0)

    def _placed(
        self,
        region: FaceRegion,
        base: Int[ndarray, "count"],
        lender: Int[ndarray, "count"],
        rng: np.random.Generator,
        turn: float,
    ) -> Float32[ndarray, "count n 3"]:
        """The lenders' region in the place of the base heads', perturbed."""
        config, count = self.config, len(base)
        goal, lent = self.pool[base][:, region.vertices], self.pool[lender][:, region.vertices]
        band = region.band
        there, here = np.einsum("n,bnc->bc", band, goal), np.einsum("n,bnc->bc", band, lent)
        lent = lent - here[:, None]
        u, _, vt = np.linalg.svd(np.einsum("bni,bnj->bij", (goal - there[:, None]) * band[:, None], lent))
        u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
        angles = np.clip(rng.normal(size=(count, 3)), -_LARGEST_TURN, _LARGEST_TURN) * np.deg2rad(turn)
        motion = _small_rotations(angles) @ (u @ vt)
        motion = motion * np.exp(config.scale * rng.normal(size=(count, 1, 1)))
        offset = there + config.shift * rng.normal(size=(count, 3))
        return np.matmul(lent, motion.transpose(0, 2, 1).astype(np.float32)) + offset[:, None].astype(np.float32)


def mirror_points(
    template: Float[ndarray, "verts 3"], faces: Int[ndarray, "faces 3"], tolerance: float = 0.002
) -> SurfacePoints | None:
    """For each vertex the point of the surface that is its mirror image across x = 0.

    Returns:
        The points; None where the template is not symmetric: the mirror images lie off its surface by more than
        `tolerance` metres on average.
    """
    points = closest_points(template * _MIRROR.astype(float), template, faces)
    off = np.linalg.norm(points.position - template * _MIRROR, axis=1)
    return points if float(off.mean()) < tolerance else None


def _small_rotations(vectors: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3 3"]:
    """Rotation matrices of axis-angle vectors (Rodrigues; exact at 0)."""
    angle = np.linalg.norm(vectors, axis=1)[:, None, None]
    x, y, z = vectors.T
    zero = np.zeros_like(x)
    skew = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)
    half = np.sinc(angle / (2 * np.pi))
    return np.eye(3) + np.sinc(angle / np.pi) * skew + half**2 / 2 * (skew @ skew)
