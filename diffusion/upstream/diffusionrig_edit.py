"""Editing with DiffusionRig: a photo redrawn under the physical buffers of another light, expression or pose.

    z = encoder(photo);  x_T = fresh noise (as published) or the photo's own, by inversion under its buffers
    picture = DDIM(x_T, z, buffers of the edited head)

The authors' script draws x_T at random, which asks for a model personalised in stage 2. The photo's own noise keeps
more of a photo with the general model.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ...geometry.code import HeadCode
from ...geometry.errors import HeadlabError
from ..sampling import Callback
from ..schedule import NoiseSchedule
from .diffusionrig import DiffusionRig
from .process import Process

#: What is taken from the other photo.
MODES = ("light", "expression", "pose")

Photos = Float[Tensor, "batch 3 height width"]
Buffers = Float[Tensor, "batch 9 height width"]


@dataclass(frozen=True)
class RigEditConfig:
    """How to edit."""

    steps: int = 20  #: of DDIM (the authors' ddim20), with an exact stride of 1000
    start: Literal["noise", "inversion"] = "inversion"
    seed: int = 0  #: of fresh noise


@torch.no_grad()
def redraw(
    network: DiffusionRig,
    photo: Photos,
    buffers: Buffers,
    config: RigEditConfig | None = None,
    before: Buffers | None = None,
    callback: Callback | None = None,
) -> Photos:
    """Pictures of the same people under other buffers, -1..1.

    Args:
        network: in evaluation mode.
        photo: aligned as FFHQ is, -1..1.
        buffers: of the edited heads.
        config: how.
        before: of the heads as they are; needed for an inversion.
        callback: called after each step of sampling.

    Raises:
        HeadlabError: another size than the network's, or no buffers to invert under.
    """
    config = config or RigEditConfig()
    size = network.config.unet.size
    if photo.shape[-2:] != (size, size) or buffers.shape[-2:] != (size, size):
        raise HeadlabError(
            f"this DiffusionRig draws {size} x {size} pixels, not {tuple(photo.shape[-2:])}; resize the crop"
        )
    variance = "learned_range" if network.config.learned_variance else "fixed_large"
    process = Process.of(NoiseSchedule.linear(), f"ddim{config.steps}", variance)
    code = network.encode(photo)
    if config.start == "noise":
        generator = torch.Generator().manual_seed(config.seed)
        noise = torch.randn(photo.shape, generator=generator).to(photo)
    else:
        if before is None:
            raise HeadlabError("inversion needs the buffers of the head as it is in the photo; pass them as `before`")
        noise = process.ddim_inverted(lambda x, t: network(x, t, before, code=code), photo)
    return process.ddim(lambda x, t: network(x, t, buffers, code=code), noise, callback=callback)


def taken(code: HeadCode, other: HeadCode, mode: str) -> HeadCode:
    """A head's code with what a mode takes from another's: identity and albedo stay.

    light: the light; expression: expression and jaw; pose: the head's rotation (the authors' "exp" takes DECA's jaw,
    "pose" the global rotation alone).

    Raises:
        HeadlabError: an unknown mode, or the other head has no light.
    """
    if mode == "light":
        if other.light is None:
            raise HeadlabError("no light is known for the other head; fit it with the photometric stage")
        return code.with_(light=other.light)
    if mode == "expression":
        return code.with_(expression=other.expression, jaw=other.jaw)
    if mode == "pose":
        return code.with_(rotation=other.rotation)
    raise HeadlabError(f"DiffusionRig has no mode {mode!r}; choose {', '.join(MODES)}")
