"""Editing with Diffusion Autoencoders: encode, change the code, decode; interpolate; sample people that nobody is.

    codes = editor.encode(photos)                              # who and what: z
    noise = editor.invert(photos, codes)                       # the rest: x_T, so that decoding gives the photo back
    edited = editor.decode(noise, classifier.moved(codes, "Smiling", 0.3))

Photos are -1..1, decoded pictures 0..1. Steps must divide 1000 as `respaced` says; the authors' notebooks take 250 to
invert and 100 to decode.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ...geometry.errors import HeadlabError
from ..sampling import Callback
from ..schedule import NoiseSchedule
from .diffae import DiffAE
from .diffae_files import LatentStatistics
from .process import Process

_SCHEDULE = NoiseSchedule.linear()
#: Of the latent DPM: every step adds as much.
LATENT_SCHEDULE = NoiseSchedule.of_betas(torch.full((1000,), 0.008, dtype=torch.float64))

Photos = Float[Tensor, "batch 3 height width"]
Codes = Float[Tensor, "batch size"]


@dataclass(frozen=True)
class DiffAEEditor:
    """A network with the statistics of its codes."""

    network: DiffAE
    statistics: LatentStatistics | None = None

    @torch.no_grad()
    def encode(self, photos: Photos) -> Codes:
        """Semantic codes.

        Raises:
            HeadlabError: the network is the unconditional one.
        """
        if self.network.sizes.stages is None:
            raise HeadlabError("the unconditional DDPM has no encoder; give the checkpoint of an autoencoder")
        return self.network.encode(photos)

    def invert(
        self,
        photos: Photos,
        codes: Codes | None,
        steps: int = 250,
        *,
        clip: bool = True,
        callback: Callback | None = None,
    ) -> Photos:
        """Stochastic codes x_T: noise of which `decode` makes about the photos under these codes."""
        process = Process.of(_SCHEDULE, f"ddim{steps}")
        return process.ddim_inverted(self._predict(codes), photos, clip=clip, callback=callback)

    def decode(
        self,
        noise: Photos,
        codes: Codes | None,
        steps: int = 100,
        *,
        clip: bool = True,
        callback: Callback | None = None,
    ) -> Photos:
        """Pictures, 0..1 (where clipped)."""
        process = Process.of(_SCHEDULE, f"ddim{steps}")
        return process.ddim(self._predict(codes), noise, clip=clip, callback=callback) / 2 + 0.5

    def sample_codes(self, noise: Codes, steps: int = 20) -> Codes:
        """Codes of people that nobody is, by the latent DPM.

        Args:
            noise: unit Gaussian, (count, size).
            steps: of sampling.

        Raises:
            HeadlabError: the checkpoint has no latent DPM, or no statistics.
        """
        if self.network.sizes.latent_net is None or self.statistics is None:
            raise HeadlabError(
                "sampling needs a latent DPM and the statistics of codes; give the checkpoint of a latent run "
                "(ffhq256_autoenc_latent, say)"
            )
        process = Process.of(LATENT_SCHEDULE, f"ddim{steps}")
        return self.statistics.restored(process.ddim(self.network.latent_net, noise, clip=False))

    def sample(self, noise: Photos, latent_noise: Codes | None, steps: int = 20, latent_steps: int = 20) -> Photos:
        """Unconditional pictures, 0..1: by the latent DPM and the decoder, or (without a code) by the DDPM alone.

        Args:
            noise: unit Gaussian pictures.
            latent_noise: unit Gaussian codes; None for the DDPM.
            steps: of the decoder.
            latent_steps: of the latent DPM.
        """
        codes = None if latent_noise is None else self.sample_codes(latent_noise, latent_steps)
        return self.decode(noise, codes, steps)

    def _predict(self, codes: Codes | None):
        if (codes is None) != (self.network.config.code is None):
            raise HeadlabError("an autoencoder decodes with codes, the unconditional DDPM without any")
        return lambda x, t: self.network(x, t, codes)


def interpolated(
    codes: tuple[Float[Tensor, "size"], Float[Tensor, "size"]],
    noises: tuple[Float[Tensor, "chan height width"], Float[Tensor, "chan height width"]],
    shares: Float[Tensor, "count"],
) -> tuple[Float[Tensor, "count size"], Float[Tensor, "count chan height width"]]:
    """Codes on the line, stochastic codes on the great circle between two pictures (the authors' way).

    Args:
        codes: semantic codes of both.
        noises: stochastic codes of both.
        shares: of the second, 0..1.
    """
    lines = torch.lerp(codes[0], codes[1], shares[:, None].to(codes[0]))
    return lines, torch.stack([slerp(*noises, float(share)) for share in shares])


def slerp(a: Float[Tensor, "*shape"], b: Float[Tensor, "*shape"], share: float) -> Float[Tensor, "*shape"]:
    """On the great circle from a (0) to b (1); on the line where they point the same way."""
    angle = angle_between(a, b)
    sine = torch.sin(angle)
    if float(sine) < 1e-6:
        return torch.lerp(a, b, share)
    return (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / sine


def angle_between(a: Float[Tensor, "*shape"], b: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Radians."""
    x, y = a.flatten(), b.flatten()
    return torch.acos((x @ y / (x.norm() * y.norm())).clamp(-1, 1))
