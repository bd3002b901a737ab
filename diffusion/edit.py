"""edit: the expression in a face crop changed by latent diffusion. Works on crops alone; photos: `heads/edit_photo`.

    picture ──> latent ──> noise, by DDIM backwards under z and the maps of the head as it is
    noise ──> sampling under z, the maps of the edited head and its expression ──> latent ──> edited picture, and depth
          ──> what the autoencoder lost of the picture comes back where nothing was changed

This is DiffusionRig's way (Ding et al. 2023). In the RGB-D avatar's way the denoiser is shown the picture's latent
(`capture=True`) and may start from fresh noise (start="noise"); it is faster, and a little farther from the truth.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ..geometry.errors import HeadlabError
from .autoencoder import decode, encode
from .bundle import LatentDiffusion
from .denoiser import Given
from .depth_packing import packed, unpacked
from .inversion import invert_exactly
from .sampling import guided, sample

#: What classifier-free guidance strengthens: everything that tells of the expression in words or numbers.
GUIDED = ("expression", "emotion", "valence_arousal", "text")


#: Difference in a neighbourhood (of -1..1) at which a place counts as changed.
_CHANGED = 0.15


@dataclass(frozen=True)
class EditConfig:
    """How to edit."""

    steps: int = 20
    method: Literal["ddim", "dpm++"] = "ddim"
    guidance: float = 1.0  #: 1 samples as trained; more stresses the wanted expression
    start: Literal["noise", "inversion"] = "inversion"  #: fresh noise by the seed, or the picture's own
    strength: float = 1.0  #: of an inversion: the part of the way to pure noise that is gone; 0.5 keeps the layout
    exact: bool = True  #: of an inversion: carry over what the inverted steps leave, so that no edit changes nothing
    capture: bool = False  #: show the denoiser the latent of the picture
    restore: bool = True  #: give back what the autoencoder lost of the picture, where the edit leaves it (`restored`)
    seed: int = 0


@torch.no_grad()
def edit(
    diffusion: LatentDiffusion,
    picture: Float[Tensor, "batch chan height width"],
    given: Given,
    config: EditConfig | None = None,
    before: Given | None = None,
    progress: Callable[[int, int], None] = lambda done, steps: None,
) -> Float[Tensor, "batch chan height width"]:
    """Pictures with another expression.

    Args:
        diffusion: autoencoder, denoiser and schedule.
        picture: upright face crops, -1..1, with the autoencoder's channels.
        given: of the edited heads: maps, and whatever is known of the expression. `capture` and `person` are taken
            from the pictures.
        config: see `EditConfig`.
        before: of the heads as they are in the pictures; needed unless start is "noise".
        progress: called after every step with the steps done and to do.

    Returns:
        The edited pictures, clamped to -1..1.

    Raises:
        HeadlabError: pictures or maps of another size or number than the model takes, or no `before` to invert under.
    """
    config = config or EditConfig()
    denoiser, schedule = diffusion.denoiser, diffusion.schedule
    latent = encode(diffusion.vae, picture)
    shown = latent if config.capture else None
    wanted = filled(given, picture, shown)
    context = denoiser.context(wanted)
    unconditional = denoiser.context(wanted.without(*GUIDED)) if config.guidance != 1 else None
    predict = guided(denoiser, context, unconditional, config.guidance)

    def callback(done: int, _: Tensor) -> None:
        progress(done, config.steps)

    if config.start == "noise":
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(config.seed)).to(latent)
        edited = sample(predict, noise, schedule, config.steps, config.method, callback=callback)
    else:
        if before is None:
            raise HeadlabError("inversion needs the maps of the head as it is in the picture; pass them as `before`")
        if config.method != "ddim":
            raise HeadlabError("an inversion can only be sampled with ddim; leave the method at that")
        if not 0 < config.strength <= 1:
            raise HeadlabError(f"the strength of an inversion lies within 0..1, not {config.strength:g}")
        was = denoiser.context(filled(before, picture, shown))
        left_out = min(config.steps - 1, round((1 - config.strength) * config.steps))
        inverse = invert_exactly(lambda x, t: denoiser(x, t, was), latent, schedule, config.steps, stop=left_out)
        edited = sample(
            predict,
            inverse.noise,
            schedule,
            config.steps,
            spacing="leading",
            start=left_out,
            corrections=inverse.corrections if config.exact else None,
            callback=callback,
        )
    made = decode(diffusion.vae, edited)
    if config.restore:
        made = restored(made, decode(diffusion.vae, latent), picture)
    return made.clamp(-1, 1)


def restored(
    made: Float[Tensor, "batch chan height width"],
    own: Float[Tensor, "batch chan height width"],
    picture: Float[Tensor, "batch chan height width"],
) -> Float[Tensor, "batch chan height width"]:
    """Edited pictures with what the autoencoder loses of the originals, as far as a place has not been changed.

    Args:
        made: edited, as decoded.
        own: the originals, encoded and decoded.
        picture: the originals.
    """
    change = (made - own).abs().amax(1, keepdim=True)
    change = avg_pool2d(change, 5, 1, 2, count_include_pad=False)
    return made + torch.exp(-((change / _CHANGED) ** 2)) * (picture - own)


@torch.no_grad()
def reconstructed(
    diffusion: LatentDiffusion, picture: Float[Tensor, "batch chan height width"]
) -> Float[Tensor, "batch chan height width"]:
    """What the autoencoder makes of pictures: the best that editing with it can do. -1..1."""
    return decode(diffusion.vae, encode(diffusion.vae, picture)).clamp(-1, 1)


def joined(
    colour: Float[Tensor, "3 height width"], near: Float[Tensor, "height width"], channels: int
) -> Float[Tensor, "chan height width"]:
    """A picture for an autoencoder of 3, 4 (RGB-D) or 6 channels (LDM3D's packing), -1..1.

    Args:
        colour: sRGB 0..1.
        near: nearness 0..1 (`datasets/synthetic/pairs.nearness`); left out where the autoencoder knows colour alone.
        channels: of the autoencoder.
    """
    depth = {3: [], 4: [near[None]], 6: [packed(near)]}[channels]
    return torch.cat([colour, *depth]) * 2 - 1


def depth_in(pictures: Float[Tensor, "batch chan height width"]) -> Float[Tensor, "batch height width"] | None:
    """Nearness 0..1 in pictures of an autoencoder, -1..1; None where they have colour alone."""
    depth = pictures[:, 3:] / 2 + 0.5
    return None if depth.shape[1] == 0 else depth[:, 0] if depth.shape[1] == 1 else unpacked(depth)


def filled(
    given: Given,
    picture: Float[Tensor, "batch chan height width"],
    latent: Float[Tensor, "batch latent rows columns"] | None,
) -> Given:
    """Conditions with what the picture tells: the person, and its latent where that shall be shown."""
    return replace(given, person=picture[:, :3], capture=latent)
