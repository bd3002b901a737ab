"""SyntheticBatch: pictures of synthetic people and everything that is known about them."""

from dataclasses import dataclass

from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ...geometry.camera import Camera
from ...geometry.code import HeadCode


@dataclass(frozen=True)
class SyntheticMaps:
    """Truth per pixel of the head's own surface, without hair, glasses and body; 0 outside `mask`."""

    mask: Float[Tensor, "batch height width"]  #: 1 where the head is nearest
    normal: Float[Tensor, "batch 3 height width"]  #: unit, world
    albedo: Float[Tensor, "batch 3 height width"]
    depth: Float[Tensor, "batch height width"]  #: metres along the camera's axis
    #: The same of whatever is seen there, hair, glasses and body too; None where the samples come from a file.
    surface: Float[Tensor, "batch height width"] | None = None


@dataclass(frozen=True)
class SyntheticBatch:
    """What one call of the generator made."""

    index: Int[Tensor, "batch"]  #: sample numbers
    person: Int[Tensor, "batch"]
    images: UInt8[Tensor, "batch 3 height width"]  #: sRGB
    codes: HeadCode  #: with albedo and light
    camera: Camera  #: batched, frontal; the principal point lies near the middle
    landmarks: Float[Tensor, "batch points 2"]  #: 478 points (68 where the model has no more), pixels
    emotion: Int[Tensor, "batch"]  #: index into EMOTIONS, -1: unknown
    valence_arousal: Float[Tensor, "batch 2"]  #: -1..1, NaN: unknown
    distance: Float[Tensor, "batch"]  #: from the camera to the point the camera looks at, metres
    maps: SyntheticMaps | None = None
