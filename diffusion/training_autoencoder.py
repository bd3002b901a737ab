"""Training an autoencoder: L1 + perceptual + KL, and a patch adversary that joins later."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .autoencoder import AutoencoderConfig, build_autoencoder, decode, encode, set_normaliser
from .autoencoder_losses import (
    AutoencoderWeights,
    FaceFeatures,
    PatchDiscriminator,
    hinge,
    kl_divergence,
    perceptual,
)
from .training_data import Pictures

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL


@dataclass(frozen=True)
class AutoencoderTaskConfig:
    """What is trained."""

    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    weights: AutoencoderWeights = field(default_factory=AutoencoderWeights)
    decoder_only: bool = False  #: keep the latents as they are


class Reconstruction(nn.Module):
    """Encode, draw, decode: one forward pass, as data-parallel wrappers want it."""

    def __init__(self, vae: "AutoencoderKL"):
        super().__init__()
        self.vae: Any = vae

    def forward(
        self, pictures: Float[Tensor, "batch chan height width"], noise: Float[Tensor, "batch latent rows columns"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures made, and the posterior's mean and log variance."""
        posterior = self.vae.encode(pictures).latent_dist
        made = self.vae.decode(posterior.mean + posterior.std * noise).sample
        return made, posterior.mean, posterior.logvar


class AutoencoderTask:
    """See `training.Task`."""

    def __init__(self, config: AutoencoderTaskConfig, pictures: Pictures, held_out: Pictures, vae: Any = None):
        """Args:
        config: what is trained.
        pictures: to learn from.
        held_out: for the validation pictures.
        vae: to go on with, in place of a fresh one.
        """
        self.config, self.data, self.held_out = config, pictures, held_out
        self.count, self.order = pictures.count, getattr(pictures, "order", None)
        vae = vae or build_autoencoder(config.autoencoder)
        if config.decoder_only:
            vae.encoder.requires_grad_(False)
            if vae.quant_conv is not None:
                vae.quant_conv.requires_grad_(False)
        self.networks: dict[str, nn.Module] = {"autoencoder": Reconstruction(vae)}
        self.players: dict[str, tuple[str, ...]] = {"autoencoder": ("autoencoder",)}
        if config.weights.adversarial:
            self.networks["discriminator"] = PatchDiscriminator(config.autoencoder.channels)
            self.players["discriminator"] = ("discriminator",)
        self.features = FaceFeatures() if config.weights.perceptual else None

    def load(self, indices: Int[Tensor, "batch"], device: torch.device) -> Tensor:
        return self.data.load(indices).to(device)

    def losses(
        self, player: str, networks: dict[str, nn.Module], batch: Tensor, step: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        weights = self.config.weights
        adversary = networks.get("discriminator") if step >= weights.adversarial_from else None
        if player == "discriminator":
            if adversary is None:
                return {}
            return {"discriminator": hinge(adversary(batch), adversary(self._made))}
        size = self._latent_shape(batch)
        noise = torch.randn(size, generator=generator, device=batch.device)
        made, mean, log_variance = networks["autoencoder"](batch, noise)
        self._made = made.detach()
        terms = {"l1": (made - batch).abs().mean(), "kl": weights.kl * kl_divergence(mean, log_variance)}
        if self.features is not None:
            terms["perceptual"] = weights.perceptual * perceptual(self.features.to(batch.device), made, batch)
        if adversary is not None:
            terms["adversarial"] = -weights.adversarial * adversary(made).mean()
        return terms

    def _latent_shape(self, batch: Tensor) -> tuple[int, ...]:
        config = self.config.autoencoder
        step = 2 ** (len(config.widths) - 1)
        return len(batch), config.latents, batch.shape[-2] // step, batch.shape[-1] // step

    def pictures(self, networks: dict[str, nn.Module]) -> Float[Tensor, "3 height width"]:
        """Held-out pictures over what becomes of them."""
        vae = _vae(networks)
        true = self.held_out.load(torch.arange(0, self.held_out.count, max(1, self.held_out.count // 16))[:16])
        true = true.to(next(vae.parameters()).device)
        made = decode(vae, encode(vae, true))
        rows = [strip(true[:, :3]), strip(made[:, :3])]
        if true.shape[1] == 4:
            rows += [strip(x[:, 3:].expand(-1, 3, -1, -1)) for x in (true, made)]
        return (torch.cat(rows, 1) / 2 + 0.5).clamp(0, 1)

    def export(self, networks: dict[str, nn.Module], folder: Path) -> None:
        """Measure the latents on training pictures and write a diffusers folder."""
        vae = _vae(networks)
        if not self.config.decoder_only:
            set_normaliser(vae, *self.latent_statistics(vae))
        vae.save_pretrained(folder)

    def latent_statistics(self, vae, count: int = 1024) -> tuple[Float[Tensor, "latent"], Float[Tensor, "latent"]]:
        """Mean and deviation of raw latents, per channel."""
        device = next(vae.parameters()).device
        indices = torch.arange(0, self.count, max(1, self.count // count))[:count]
        with torch.no_grad():
            means = [vae.encode(self.data.load(part).to(device)).latent_dist.mean for part in indices.split(32)]
        raw = torch.cat(means).movedim(1, 0).flatten(1)
        return raw.mean(1), raw.std(1)


def _vae(networks: dict[str, nn.Module]) -> Any:
    return networks["autoencoder"].vae


def strip(pictures: Float[Tensor, "batch chan height width"]) -> Float[Tensor, "chan height wide"]:
    """Side by side."""
    return torch.cat(list(pictures), -1)
