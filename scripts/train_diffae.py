"""`headlab train diffae`: Diffusion Autoencoders as published: the autoencoder (or the DDPM), then the latent DPM."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..diffusion.training_config import TrainingConfig


@dataclass(frozen=True)
class TrainDiffAE:
    """Train a Diffusion Autoencoder on faces, or the latent DPM of one that is finished."""

    faces: Annotated[str, tyro.conf.Positional]
    """Data set: lmdb:STORE (DiffAE's layout), ffhq:FOLDER, celeba-hq:FOLDER, album:FOLDER, ..."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder of the run; weights/last.ckpt loads here and in the authors' code."""
    what: Literal["autoencoder", "ddpm", "latent"] = "autoencoder"
    """autoencoder; ddpm: the unconditional UNet; latent: the latent DPM of --start."""
    start: Path | None = None
    """last.ckpt to go on from; needed for latent."""
    size: Literal[64, 128, 256] = 128
    """Of a fresh network's pictures, pixels."""
    channels: int = 128
    """Of a fresh network's first level (64 in the authors' 64-pixel template)."""
    steps: int | None = None
    """Optimiser steps (1000000)."""
    batch: int | None = None
    """Pictures (128) or codes (256) at once, over all devices in the publication."""
    rate: float | None = None
    """Learning rate (1e-4)."""
    minutes: float | None = None
    """End earlier."""
    save_every: int | None = None
    """Steps between checkpoints."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision; published: fp16."""
    seed: int = 0
    """Of everything that is drawn."""
    cpu: bool = False
    """Use the CPU even where there is a GPU."""

    def run(self) -> None:
        from ..datasets.kinds import DataSpec, open_pictures
        from ..datasets.loader import LoaderConfig, SquareLoader
        from ..diffusion.training import train
        from ..diffusion.upstream.diffae_files import LatentStatistics, save_latents
        from ..diffusion.upstream.diffae_training import CodeSet, DiffAETask, LatentTask, LoadedPhotos, codes_of
        from .train import _Printer

        network, config = self.network(), self.config()
        loader = SquareLoader(open_pictures(DataSpec.parse(self.faces)), LoaderConfig(network.config.size))
        count, task = loader.count, None
        if self.what == "latent":
            codes = codes_of(network, LoadedPhotos(loader, mirror=False))[:, 0]  # unflipped, as published
            self.out.mkdir(parents=True, exist_ok=True)
            save_latents(self.out / "latent.pkl", codes)
            task = LatentTask(network, CodeSet(codes, LatentStatistics.of(codes)))
        else:
            task = DiffAETask(network, LoadedPhotos(loader))
        train(task, config, self.out, self, _Printer(config))
        samples = config.steps * config.batch * config.accumulate
        print(f"{config.steps:,} steps, {samples:,} samples, {samples / count:.2f} epochs of {count:,} pictures")
        print(f"wrote {self.out / 'weights/last.ckpt'}")

    def config(self) -> TrainingConfig:
        """The published settings with what was changed."""
        from ..diffusion.upstream.diffae_training import PUBLISHED, PUBLISHED_LATENT

        names = ("steps", "batch", "rate", "minutes", "save_every")
        changed: dict[str, Any] = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        base = PUBLISHED_LATENT if self.what == "latent" else PUBLISHED
        return replace(base, precision=self.precision, seed=self.seed, cpu=self.cpu, **changed)

    def network(self) -> Any:
        """The network to train: a checkpoint's trained weights, or a fresh one of a published layout.

        Raises:
            HeadlabError: a latent DPM without an autoencoder.
        """
        import torch

        from ..diffusion.upstream.diffae import DiffAE, published_layout, with_latent_net
        from ..diffusion.upstream.diffae_files import load_diffae
        from ..geometry.errors import HeadlabError

        torch.manual_seed(self.seed)
        if self.what == "latent":
            if self.start is None:
                raise HeadlabError("the latent DPM learns the codes of a finished autoencoder; say --start last.ckpt")
            return with_latent_net(load_diffae(self.start).network)
        if self.start is not None:
            return load_diffae(self.start, averaged=False).network
        return DiffAE(published_layout(self.size, self.channels, self.what == "autoencoder"))
