"""EditPairs: pairs of pictures in which one person, at one moment and before one camera, makes two faces.

    people ─ scene ─ two expressions ──> two heads ──> one rasterisation ──> one exposure ──> EditPairBatch

Person, pose, camera, light, hair, backdrop and the camera's faults are the same, so that either picture is the true
edit of the other. Pictures are drawn finer and averaged down, as photos are when they are made small.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import roma
import torch
from jaxtyping import Float, Float16, Int, Int8, UInt8
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d, normalize

from ...geometry.camera import Camera
from ...geometry.code import HeadCode
from ...geometry.errors import HeadlabError
from ...geometry.models.head_model import HeadModel
from ...geometry.texture.albedo_model import AlbedoModel
from .backdrop import draw_backdrop
from .expressions import draw_expression
from .generator import SyntheticConfig, SyntheticHeads
from .pairs_exposure import draw_exposure
from .people import draw_person
from .scene import draw_scene

#: Depths that pictures hold, metres before and behind the point that the camera looks at (`focus`).
NEARER, FARTHER = 0.10, 0.22


@dataclass(frozen=True)
class PairConfig:
    """What to make. The same configuration and index give the same pair."""

    size: int = 64  #: side of the square pictures, pixels
    supersampling: int = 2  #: drawn so many times finer
    seed: int = 0
    pairs_per_person: int = 2


@dataclass(frozen=True)
class EditPairBatch:
    """Pairs; axis 1 holds the two faces. Compact: see `picture`, `maps`."""

    index: Int[Tensor, "batch"]  #: pair numbers
    person: Int[Tensor, "batch"]
    images: UInt8[Tensor, "batch 2 3 height width"]  #: sRGB
    surface: Float16[Tensor, "batch 2 height width"]  #: `nearness` of whatever is seen, hair and clothes too
    normal: Int8[Tensor, "batch 2 3 height width"]  #: of the bare head, world, times 127
    albedo: UInt8[Tensor, "batch 2 3 height width"]  #: of the bare head, sRGB
    head: Float16[Tensor, "batch 2 height width"]  #: nearness of the bare head
    mask: UInt8[Tensor, "batch 2 height width"]  #: the bare head's cover, 0..255
    codes: HeadCode  #: batch axes (batch, 2), with albedo and light
    camera: Camera  #: batch axis (batch,): one camera for both
    distance: Float[Tensor, "batch"]  #: from the camera to the point it looks at, metres
    emotion: Int[Tensor, "batch 2"]  #: index into EMOTIONS, -1: unknown
    valence_arousal: Float[Tensor, "batch 2 2"]  #: -1..1, NaN: unknown

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index) -> "EditPairBatch":
        """Some of the pairs, by a slice or an index tensor."""
        changes = {name: getattr(self, name)[index] for name in TENSORS}
        camera = replace(self.camera, K=self.camera.K[index], R=self.camera.R[index], t=self.camera.t[index])
        return EditPairBatch(**changes, codes=self.codes[index], camera=camera)

    def pictures(self, bare: bool = False) -> Float[Tensor, "batch 2 4 height width"]:
        """Colour 0..1 and nearness 0..1.

        Args:
            bare: the depth is the bare head's, as a fit to a photo knows it, and not that of all surfaces.
        """
        depth = self.head if bare else self.surface
        return torch.cat([self.images.float() / 255, depth[:, :, None].float()], 2)


#: Fields of EditPairBatch that are plain tensors.
TENSORS = (
    "index",
    "person",
    "images",
    "surface",
    "normal",
    "albedo",
    "head",
    "mask",
    "distance",
    "emotion",
    "valence_arousal",
)


def nearness(
    depth: Float[Tensor, "*batch height width"], distance: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch height width"]:
    """Depth along the camera's axis -> 0..1 over the head's range: 1 = `NEARER` before the focus, 0 = nothing there.

    Args:
        depth: metres; 0 where nothing is.
        distance: from the camera to the focus along its axis, metres.

    Returns:
        (distance + FARTHER - depth) / (FARTHER + NEARER), clamped to 0.001..1 where something is.
    """
    near = (distance[..., None, None] + FARTHER - depth) / (FARTHER + NEARER)
    return torch.where(depth > 0, near.clamp(1e-3, 1), 0.0)


def depth_of(
    near: Float[Tensor, "*batch height width"], distance: Float[Tensor, "*batch"], threshold: float = 0.02
) -> Float[Tensor, "*batch height width"]:
    """Inverse of `nearness`: metres, 0 where the nearness is below the threshold."""
    depth = distance[..., None, None] + FARTHER - near * (FARTHER + NEARER)
    return torch.where(near >= threshold, depth, 0.0)


class EditPairs:
    """Endless pairs. Pair i shows person i // pairs_per_person."""

    def __init__(self, model: HeadModel, config: PairConfig | None = None, albedo: AlbedoModel | None = None):
        """Args:
            model: head model as `SyntheticHeads` takes it.
            config: what to make.
            albedo: colours of the skin; the default ones where None.

        Raises:
            HeadlabError: the model cannot be drawn, or the configuration makes no sense.
        """
        config = config or PairConfig()
        if config.supersampling < 1 or config.pairs_per_person < 1:
            raise HeadlabError("pairs need a supersampling of at least 1 and at least one pair per person")
        fine = SyntheticConfig(config.size * config.supersampling, config.seed, config.pairs_per_person)
        self.config, self.heads = config, SyntheticHeads(model, fine, albedo)

    def batch(self, indices: Sequence[int]) -> EditPairBatch:
        """Make these pairs; each depends on the seed and its own index alone."""
        cfg, heads, model = self.config, self.heads, self.heads.model
        count, fine = len(indices), cfg.size * cfg.supersampling
        owner = [i // cfg.pairs_per_person for i in indices]
        albedos = heads.albedo.components
        people = [draw_person(np.random.default_rng([cfg.seed, 3, p]), model.shapes, albedos) for p in owner]
        chances = [np.random.default_rng([cfg.seed, 4, i]) for i in indices]
        names, scale = model.expression_names, heads.expression_scale
        faces = [[draw_expression(rng, names, scale) for _ in "ab"] for rng in chances]
        scenes = [draw_scene(rng) for rng in chances]

        def stack(values: list) -> Tensor:
            return torch.from_numpy(np.stack([np.asarray(v, np.float32) for v in values]))

        turn = roma.euler_to_rotvec("ZYX", list(stack([(s.roll, s.yaw, -s.pitch) for s in scenes]).unbind(-1)))
        first = model.neutral((count,)).with_(
            shape=stack([p.shape for p in people]),
            expression=stack([a.psi for a, _ in faces]),
            eyes=stack([a.eyes for a, _ in faces]),
            albedo=stack([p.albedo for p in people]),
            light=stack([s.light for s in scenes]),
        )
        distance = stack([s.distance for s in scenes])
        faults = stack([(s.crop_turn, s.crop_log_size, *s.crop_shift) for s in scenes])
        first, camera, _ = heads.aim(first, turn, distance, faults)
        second = first.with_(expression=stack([b.psi for _, b in faces]), eyes=stack([b.eyes for _, b in faces]))
        codes = HeadCode(**{k: torch.stack([v, getattr(second, k)], 1) for k, v in first.arrays().items()})

        flat = codes.map(lambda value: value.flatten(0, 1))
        twice = replace(camera, **{k: getattr(camera, k).repeat_interleave(2, 0) for k in ("K", "R", "t")})
        backdrop = stack([_out_of_focus(rng, fine) for rng in chances]).repeat_interleave(2, 0)
        both = [(p, s) for p, s in zip(people, scenes, strict=True) for _ in "ab"]
        lit, maps = heads.renderer.draw(
            flat, model.vertices(flat), twice, [p for p, _ in both], [s for _, s in both], backdrop, True
        )
        assert maps is not None and maps.surface is not None

        def small(x: Float[Tensor, "pictures chan rows columns"]) -> Tensor:
            """Averaged down, in pairs."""
            return avg_pool2d(x, cfg.supersampling).unflatten(0, (count, 2))

        def near(depth: Tensor) -> Tensor:
            """Nearest surface of each pixel."""
            values = nearness(depth, distance.repeat_interleave(2, 0))
            return max_pool2d(values[:, None], cfg.supersampling)[:, 0].unflatten(0, (count, 2)).half()

        lit = small(lit.movedim(-1, 1)).movedim(2, -1).numpy()
        exposures = [draw_exposure(rng, cfg.size) for rng in chances]
        images = np.stack([[exposed(face) for face in pair] for exposed, pair in zip(exposures, lit, strict=True)])
        cover = (maps.depth > 0)[:, None].float()
        normal = normalize(maps.normal, dim=1) * cover
        return EditPairBatch(
            torch.tensor(list(indices)),
            torch.tensor(owner),
            torch.from_numpy(images).movedim(-1, 2).contiguous(),
            near(maps.surface),
            (small(normal) * 127).round().to(torch.int8),
            (small(maps.albedo) * 255).round().to(torch.uint8),
            near(maps.depth),
            (small(cover)[:, :, 0] * 255).round().to(torch.uint8),
            codes,
            camera.resized((cfg.size, cfg.size)),
            distance,
            torch.tensor([[f.emotion for f in pair] for pair in faces]),
            stack([[f.valence_arousal for f in pair] for pair in faces]),
        )


def _out_of_focus(rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size, 3) float32 0..1: what lies behind, never sharp."""
    return cv2.GaussianBlur(draw_backdrop(rng, size), (0, 0), float(rng.uniform(1, 5)) * size / 128)
