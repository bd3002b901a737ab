"""Make the shipped latent diffusion model: pairs, autoencoder, denoiser.

    python -m headlab.scripts.recipes.default_diffusion build/diffusion

Pairs are made first (about 25 a second on one core), then both networks are trained; every stage goes on where it was
stopped. With a GPU, larger numbers of steps cost little: the shipped weights had the minutes that the model card says.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from ...datasets.synthetic import EditPairs, PairConfig, write_pairs
from ...diffusion.autoencoder import AutoencoderConfig, load_autoencoder
from ...diffusion.autoencoder_losses import AutoencoderWeights
from ...diffusion.bundle import DiffusionConfig, LatentDiffusion, load_latent_diffusion
from ...diffusion.training import TrainingConfig, train
from ...diffusion.training_autoencoder import AutoencoderTask, AutoencoderTaskConfig
from ...diffusion.training_data import PictureSet, load_pairs
from ...diffusion.training_denoiser import DenoiserTask, DenoiserTaskConfig
from ...diffusion.training_latents import PairLatents, alternating, cached_latents
from ...geometry.models.default import load_default_head

#: Shards of 512 pairs; the held-out people are those of another seed.
TRAINING_SEED, HELD_OUT_SEED = 1, 1_000_003


@dataclass(frozen=True)
class Args:
    """Make the shipped model."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Where everything goes; weights/ holds the result."""
    shards: int = 31
    """Of 512 training pairs."""
    generate: bool = False
    """Make the pairs and stop."""
    threads: int = 1
    precision: Literal["no", "bf16", "fp16"] = "bf16"
    autoencoder_steps: int = 3570
    decoder_steps: int = 0
    """Steps of the decoder alone, against a patch adversary: sharper, less exact. The shipped one had none."""
    denoiser_steps: int = 5000
    minutes: float = math.inf
    """Of each stage."""


def main(args: Args) -> None:
    torch.set_num_threads(args.threads)
    pairs, held = args.folder / "pairs", args.folder / "held_out"
    model = load_default_head()
    for folder, seed, shards, size in ((held, HELD_OUT_SEED, 1, 320), (pairs, TRAINING_SEED, args.shards, 512)):
        for path in write_pairs(EditPairs(model, PairConfig(seed=seed)), folder, range(shards), shard=size):
            print(path, flush=True)
    if args.generate:
        return
    train_autoencoder(args, pairs, held)
    system = train_denoiser(args, pairs, held)
    system.save(args.folder / "weights")
    print(f"wrote {args.folder / 'weights'}")


def train_autoencoder(args: Args, pairs: Path, held: Path) -> None:
    """First everything, then the decoder alone against the patch adversary."""
    pictures, others = PictureSet(load_pairs(pairs)), PictureSet(load_pairs(held))
    config = AutoencoderTaskConfig()
    how = TrainingConfig(
        steps=args.autoencoder_steps,
        minutes=args.minutes,
        batch=12,
        rate=1.5e-3,
        warmup=100,
        average=0.995,
        precision=args.precision,
        save_every=250,
        picture_every=250,
    )
    train(AutoencoderTask(config, pictures, others), how, args.folder / "autoencoder", config)
    if args.decoder_steps:
        vae = load_autoencoder(args.folder / "autoencoder" / "weights")
        weights = AutoencoderWeights(perceptual=0.3, adversarial=0.01, adversarial_from=400)
        config = AutoencoderTaskConfig(AutoencoderConfig(), weights, decoder_only=True)
        how = TrainingConfig(
            steps=args.decoder_steps,
            minutes=args.minutes,
            batch=12,
            rate=6e-4,
            warmup=50,
            average=0.995,
            precision=args.precision,
        )
        train(AutoencoderTask(config, pictures, others, vae), how, args.folder / "decoder", config)


def train_denoiser(args: Args, pairs: Path, held: Path) -> LatentDiffusion:
    """On the latents of the autoencoder, whose decoder may have been trained on since."""
    tuned = args.folder / "decoder" / "weights"
    vae = load_autoencoder(tuned if tuned.is_dir() else args.folder / "autoencoder" / "weights")
    sets = []
    for folder in (pairs, held):
        loaded = load_pairs(folder)
        kept = args.folder / f"latents-{folder.name}.safetensors"
        sets.append(PairLatents(loaded, cached_latents(vae, loaded, alternating(loaded), kept, half=True)))
    config = DenoiserTaskConfig(DiffusionConfig())
    how = TrainingConfig(
        steps=args.denoiser_steps,
        minutes=args.minutes,
        batch=32,
        rate=8e-4,
        warmup=200,
        average=0.998,
        precision=args.precision,
        save_every=300,
    )
    task = DenoiserTask(config, LatentDiffusion.build(vae, config.diffusion), *sets)
    train(task, how, args.folder / "denoiser", config)
    return load_latent_diffusion(args.folder / "denoiser" / "weights")


if __name__ == "__main__":
    main(tyro.cli(Args))
