"""`headlab train ldm3d`: Stable Diffusion made to know depth, on RGB-D faces: autoencoder first, then the UNet."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..diffusion.training_config import TrainingConfig


@dataclass(frozen=True)
class TrainLdm3d:
    """Fine-tune a Stable Diffusion or LDM3D pipeline on RGB-D faces, LDM3D's way."""

    pairs: Annotated[Path, tyro.conf.Positional]
    """Folder of pairs of RGB-D pictures with expressions, as `headlab train autoencoder` takes them."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder of the run; unet/weights is the tuned pipeline, for `headlab generate --depth linear`."""
    pipeline: Path
    """Folder of the pipeline in diffusers' layout; one of colour alone gets depth channels."""
    channels: Literal[4, 6] = 6
    """6: LDM3D's packed depth; 4: depth as one channel. Of a pipeline that has depth, its own count."""
    everything: bool = False
    """Train the whole autoencoder, not its first and last convolution alone."""
    autoencoder_steps: int = 2000
    """Optimiser steps of the autoencoder; 0 leaves it as it is."""
    unet_steps: int = 10_000
    """Optimiser steps of the UNet."""
    batch: int = 8
    """Pictures at once."""
    rate: float = 1e-5
    """Learning rate of the UNet; the autoencoder's convolutions learn ten times as fast."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision."""
    seed: int = 0
    """Of everything that is drawn."""
    cpu: bool = False
    """Use the CPU even where there is a GPU."""

    def run(self) -> None:
        from ..diffusion.autoencoder_files import load_autoencoder
        from ..diffusion.autoencoder_losses import AutoencoderWeights
        from ..diffusion.training import train
        from ..diffusion.training_data import PictureSet, load_pairs
        from ..diffusion.upstream.ldm3d import load_text_to_depth
        from ..diffusion.upstream.rgbd_training import (
            DepthAutoencoderTask,
            DepthDenoiserTask,
            captions_of,
            latents_of,
            with_depth_channels,
        )
        from .train import _Printer

        pipeline, pairs = load_text_to_depth(self.pipeline).pipeline, load_pairs(self.pairs)
        has = int(pipeline.vae.config["in_channels"])
        vae = with_depth_channels(pipeline.vae, self.channels) if has == 3 else pipeline.vae
        pictures = PictureSet(pairs, self.channels if has == 3 else has)
        config = self.config()
        if self.autoencoder_steps:
            how = replace(config, steps=self.autoencoder_steps, rate=10 * self.rate)
            weights = AutoencoderWeights(perceptual=0.2, kl=1e-6)
            task = DepthAutoencoderTask(vae, pictures, pictures, ends_only=not self.everything, weights=weights)
            train(task, how, self.out / "autoencoder", self, _Printer(how))
            vae = load_autoencoder(self.out / "autoencoder/weights")
        pipeline.register_modules(vae=vae.requires_grad_(False).eval())
        task = DepthDenoiserTask(pipeline, latents_of(vae, pictures), captions_of(pictures))
        how = replace(config, steps=self.unet_steps)
        train(task, how, self.out / "unet", self, _Printer(how))
        print(f"wrote {self.out / 'unet/weights'}")

    def config(self) -> TrainingConfig:
        """What both trainings share."""
        return TrainingConfig(
            batch=self.batch,
            rate=self.rate,
            warmup=100,
            average=0.999,
            precision=self.precision,
            seed=self.seed,
            cpu=self.cpu,
        )
