"""Stable Diffusion made to know depth (LDM3D's way), on RGB-D faces: first the autoencoder's ends, then the UNet.

    vae = with_depth_channels(vae, 6)                     # colour as before, depth new
    train(DepthAutoencoderTask(vae, pictures, held_out, ends_only=True), ...)
    train(DepthDenoiserTask(pipeline, latents, captions), ...)

The new input channels start at 0 and the new outputs as the mean of the colours', so a widened autoencoder draws the
colours that it drew. Latents keep their scale: the UNet goes on with what it knows.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...datasets.records import EXPRESSIONS, USABLE
from ...geometry.errors import HeadlabError
from ..autoencoder import AutoencoderConfig, encode
from ..autoencoder_losses import AutoencoderWeights
from ..losses import l_simple
from ..schedule import NoiseSchedule
from ..training_autoencoder import AutoencoderTask, AutoencoderTaskConfig
from ..training_data import PictureSet

_PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v", "sample": "sample"}


@torch.no_grad()
def with_depth_channels(vae: Any, channels: Literal[4, 6]) -> Any:
    """A copy of a colour autoencoder that takes and gives depth as well: its first and last convolutions are wider.

    Raises:
        HeadlabError: it has depth already.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    if vae.config["in_channels"] != 3:
        raise HeadlabError(f"this autoencoder has {vae.config['in_channels']} channels already; widen one of 3")
    make: Any = AutoencoderKL
    wide = make.from_config({**vae.config, "in_channels": channels, "out_channels": channels})
    state = vae.state_dict()
    first, last = state["encoder.conv_in.weight"], state["decoder.conv_out.weight"]
    new = first.new_zeros(len(first), channels, *first.shape[2:])
    new[:, :3] = first
    more = channels - 3
    state["encoder.conv_in.weight"] = new
    state["decoder.conv_out.weight"] = torch.cat([last, last.mean(0, keepdim=True).repeat(more, 1, 1, 1)])
    bias = state["decoder.conv_out.bias"]
    state["decoder.conv_out.bias"] = torch.cat([bias, bias.mean().repeat(more)])
    wide.load_state_dict(state)
    return wide


class DepthAutoencoderTask(AutoencoderTask):
    """Fine-tuning of a widened autoencoder; see `training.Task`."""

    def __init__(
        self,
        vae: Any,
        pictures: PictureSet,
        held_out: PictureSet,
        *,
        ends_only: bool = True,
        weights: AutoencoderWeights | None = None,
    ):
        """Args:
        vae: trained in place.
        pictures: to learn from.
        held_out: for the validation pictures.
        ends_only: train the first and the last convolution, and leave what lies between.
        weights: of the losses.
        """
        c = vae.config
        sizes = AutoencoderConfig(
            c["in_channels"],
            tuple(c["block_out_channels"]),
            c["layers_per_block"],
            c["latent_channels"],
            c["norm_num_groups"],
            c["mid_block_add_attention"],
        )
        vae.requires_grad_(not ends_only)
        for layer in (vae.encoder.conv_in, vae.decoder.conv_out):
            layer.requires_grad_(True)
        super().__init__(AutoencoderTaskConfig(sizes, weights or AutoencoderWeights()), pictures, held_out, vae)

    def export(self, networks: dict[str, nn.Module], folder: Path) -> None:
        """Write a diffusers folder, the scale of the latents as it was."""
        vae: Any = networks["autoencoder"].vae
        vae.save_pretrained(folder)


class _Unet(nn.Module):
    """The prediction in one forward pass, as data-parallel wrappers want it."""

    def __init__(self, unet: Any):
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        return self.unet(x, t, tokens).sample


class DepthDenoiserTask:
    """Fine-tuning of a pipeline's UNet on latents of RGB-D pictures with words; see `training.Task`."""

    def __init__(
        self,
        pipeline: Any,
        latents: Float[Tensor, "count latent rows columns"],
        captions: Sequence[str],
        *,
        unconditional: float = 0.1,
    ):
        """Args:
            pipeline: whose UNet is trained, in place (`ldm3d.TextToDepthPictures.pipeline`).
            latents: of the pictures (`latents_of`).
            captions: one per picture.
            unconditional: share of pictures that come without words, for guidance.

        Raises:
            HeadlabError: another number of captions than pictures.
        """
        if len(captions) != len(latents):
            raise HeadlabError(f"{len(latents)} pictures came with {len(captions)} captions; give one each")
        self.pipeline, self.latents, self.count = pipeline, latents, len(latents)
        self.unconditional = unconditional
        self.schedule = schedule_of(pipeline.scheduler)
        words = sorted({*captions, ""})
        self.tokens = encoded_words(pipeline, words)
        self.rows = torch.tensor([words.index(text) for text in captions])
        self.empty = words.index("")
        self.networks: dict[str, nn.Module] = {"unet": _Unet(pipeline.unet.requires_grad_(True).train())}
        self.players: dict[str, tuple[str, ...]] = {"unet": ("unet",)}

    def load(self, indices: Int[Tensor, "batch"], device: torch.device) -> tuple[Tensor, Tensor]:
        return self.latents[indices].to(device), self.rows[indices].to(device)

    def losses(
        self,
        player: str,
        networks: dict[str, nn.Module],
        batch: tuple[Tensor, Tensor],
        step: int,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        latents, rows = batch
        device = latents.device
        t = torch.randint(self.schedule.steps, (len(latents),), generator=generator, device=device)
        noise = torch.randn(latents.shape, generator=generator, device=device)
        silent = torch.rand(len(rows), generator=generator, device=device) < self.unconditional
        tokens = self.tokens.to(device)[torch.where(silent, self.empty, rows)]
        said = networks["unet"](self.schedule.add_noise(latents, noise, t), t, tokens)
        return {"simple": l_simple(said, self.schedule.target(latents, noise, t)).mean()}

    def pictures(self, networks: dict[str, nn.Module]) -> None:
        """None are made here; generate some from the exported folder."""

    def export(self, networks: dict[str, nn.Module], folder: Path) -> None:
        """Write a whole pipeline in diffusers' layout."""
        own, averaged = self.pipeline.unet, networks["unet"].unet
        self.pipeline.register_modules(unet=averaged)
        try:
            self.pipeline.save_pretrained(folder)
        finally:
            self.pipeline.register_modules(unet=own)


@torch.no_grad()
def latents_of(vae: Any, pictures: PictureSet, batch: int = 8) -> Float[Tensor, "count latent rows columns"]:
    """Latents (posterior means, scaled) of all pictures."""
    device = next(vae.parameters()).device
    parts = [encode(vae, pictures.load(rows).to(device)).cpu() for rows in torch.arange(pictures.count).split(batch)]
    return torch.cat(parts)


def captions_of(pictures: PictureSet) -> list[str]:
    """Words for synthetic pictures: the face's expression, where it has a name."""
    words = [f"{name.lower()} " for name in EXPRESSIONS[:USABLE]]
    emotions = pictures.pairs.emotion.flatten().tolist()
    said = [f"face portrait photo of a {words[e] if 0 <= e < USABLE else ''}person" for e in emotions]
    return [text for text in said for _ in range(2)]  # every face with the depth of all surfaces, and the bare head's


@torch.no_grad()
def encoded_words(pipeline: Any, texts: list[str]) -> Float[Tensor, "texts words length"]:
    """What the pipeline's text encoder makes of texts."""
    return pipeline.encode_prompt(texts, pipeline.device, 1, False)[0]


def schedule_of(scheduler: Any) -> NoiseSchedule:
    """The schedule that a pipeline was trained on, with its kind of prediction."""
    kind = _PREDICTIONS[scheduler.config.get("prediction_type", "epsilon")]
    return NoiseSchedule(scheduler.alphas_cumprod.double(), kind)  # type: ignore[arg-type]
