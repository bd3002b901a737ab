"""HeadCode: everything that describes one head in one moment, apart from the model and the camera."""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class HeadCode:
    """Parameters of a head. Leading batch axes are free; rotations are axis-angle vectors in radians.

    The code places the head in the world: first the model's skinning (neck, jaw, eyes about their joints), then
    the global rotation about the model's root joint, then the translation.
    """

    shape: Float[Tensor, "*#batch shape"]  #: identity beta, in standard deviations of the model
    expression: Float[Tensor, "*#batch expr"]  #: psi; ARKit actions 0..1, or FLAME's coefficients
    rotation: Float[Tensor, "*#batch 3"]  #: global rotation
    neck: Float[Tensor, "*#batch 3"]
    jaw: Float[Tensor, "*#batch 3"]
    eyes: Float[Tensor, "*#batch 2 3"]  #: left eye, right eye (the subject's)
    translation: Float[Tensor, "*#batch 3"]  #: metres
    albedo: Float[Tensor, "*#batch albedo"] | None = None
    light: Float[Tensor, "*#batch 9 3"] | None = None  #: spherical harmonics, per colour
    detail: Float[Tensor, "*#batch detail"] | None = None

    @classmethod
    def neutral(
        cls,
        shapes: int,
        expressions: int,
        batch: tuple[int, ...] = (),
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> "HeadCode":
        """The mean head at the world's origin, eyes ahead, mouth closed."""

        def zero(*shape: int) -> Tensor:
            return torch.zeros(*batch, *shape, dtype=dtype, device=device)

        return cls(zero(shapes), zero(expressions), zero(3), zero(3), zero(3), zero(2, 3), zero(3))

    def with_(self, **changes: Tensor | None) -> "HeadCode":
        """A copy with some fields changed."""
        return replace(self, **changes)

    def arrays(self) -> dict[str, Tensor]:
        """The fields that are set, by name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def map(self, function) -> "HeadCode":
        """Apply a function to every tensor that is set."""
        return replace(self, **{name: function(value) for name, value in self.arrays().items()})

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "HeadCode":
        return self.map(lambda value: value.to(device=device, dtype=dtype))

    def __getitem__(self, index) -> "HeadCode":
        """Index the leading batch axes; every field must carry them in full."""
        return self.map(lambda value: value[index])
