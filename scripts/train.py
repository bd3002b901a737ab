"""`headlab train`: train the autoencoder and the denoiser of latent diffusion on pairs of synthetic pictures.

Fields of heads are in train_nphm.py. All go on where they were stopped when started again with the same folder,
however they were stopped.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..datasets.balance import Balance
from ..diffusion.training_config import TrainingConfig
from ..geometry.errors import HeadlabError
from .train_classifier import TrainClassifier
from .train_diffae import TrainDiffAE
from .train_diffusionrig import TrainDiffusionRig
from .train_ldm3d import TrainLdm3d
from .train_morphable import TrainMorphable
from .train_nphm import TrainNphm
from .train_textures import TrainTextures

# Networks are imported by the commands themselves: torch and diffusers would make every `--help` slow.


@dataclass(frozen=True)
class TrainAutoencoder:
    """Train an autoencoder: pictures, or pictures with depth, to latents and back."""

    pairs: Annotated[Path | None, tyro.conf.Positional] = None
    """Folder of pairs (`headlab data synthesize FOLDER --what pairs` makes them)."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = tyro.MISSING
    """Folder of the run: checkpoints, pictures, log and weights/ (a diffusers folder)."""
    data: str | None = None
    """Pictures in place of pairs: KIND:PATH, as `headlab data` takes them, such as lmdb:faces or affectnet:PATH."""
    size: int = 64
    """Side of the pictures of --data, pixels."""
    balance: Balance = field(default_factory=Balance)
    """Of the expressions of --data."""
    held_out: Path | None = None
    """Folder of pairs for the validation pictures; the training pictures where none is given."""
    start: Path | None = None
    """Autoencoder to go on with: a diffusers folder or a .safetensors file, Stable Diffusion's too."""
    channels: Literal[3, 4, 6] = 4
    """3: RGB; 4: RGB-D; 6: RGB and LDM3D's packed depth."""
    widths: tuple[int, ...] = (16, 32, 64)
    """Channels per resolution; each after the first halves the picture."""
    latents: int = 6
    """Channels of the latents."""
    perceptual: float = 0.2
    """Weight of the perceptual loss (features of the default regressor)."""
    kl: float = 3e-4
    """Weight of the Kullback-Leibler term."""
    adversarial: float = 0.0
    """Weight of the patch adversary."""
    adversarial_from: int = 0
    """Step at which it joins."""
    decoder_only: bool = False
    """Keep the encoder, so that latents stay as they are."""
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def run(self) -> None:
        from ..diffusion.autoencoder import AutoencoderConfig, load_autoencoder
        from ..diffusion.autoencoder_losses import AutoencoderWeights
        from ..diffusion.training import train
        from ..diffusion.training_autoencoder import AutoencoderTask, AutoencoderTaskConfig
        from ..diffusion.training_data import PictureSet, load_pairs

        vae = None if self.start is None else load_autoencoder(self.start)
        if vae is not None and vae.config["in_channels"] != self.channels:
            raise HeadlabError(
                f"{self.start} is an autoencoder of {vae.config['in_channels']} channels; "
                f"say --channels {vae.config['in_channels']} or start with another"
            )
        weights = AutoencoderWeights(self.perceptual, self.kl, self.adversarial, self.adversarial_from)
        sizes = AutoencoderConfig(self.channels, self.widths, latents=self.latents)
        config = AutoencoderTaskConfig(sizes, weights, self.decoder_only)
        check_source(self.pairs, self.data)
        if self.data is not None:
            from ..diffusion.training_store import open_store_pictures

            options = {"channels": self.channels, "balance": self.balance, "seed": self.training.seed}
            pictures: Any = open_store_pictures(self.data, self.size, **options)
        else:
            assert self.pairs is not None
            pictures = PictureSet(load_pairs(self.pairs), self.channels)
        held = pictures if self.held_out is None else PictureSet(load_pairs(self.held_out), self.channels)
        train(AutoencoderTask(config, pictures, held, vae), self.training, self.out, config, _Printer(self.training))
        print(f"wrote {self.out / 'weights'}")


@dataclass(frozen=True)
class TrainDenoiser:
    """Train a denoiser on the latents of a trained autoencoder."""

    pairs: Annotated[Path | None, tyro.conf.Positional] = None
    """Folder of pairs."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = tyro.MISSING
    """Folder of the run; weights/ holds autoencoder and denoiser, as `headlab transfer --model` takes them."""
    data: str | None = None
    """Pictures in place of pairs: KIND:PATH, as `headlab data` takes them. Their labels, and fits where they have some,
    are what the denoiser is given. Or rgbd:FOLDER, RGB-D selfies (a folder or recording per person, expressions.json
    with a category per frame): trains the avatar mode, one capture of a person shown, another wanted."""
    balance: Balance = field(default_factory=Balance)
    """Of the expressions of --data."""
    held_out: Path | None = None
    """Folder of pairs for the validation pictures."""
    autoencoder: Path | None = None
    """Autoencoder for a fresh denoiser: a diffusers folder or a .safetensors file."""
    start: Path | None = None
    """Model to go on with: a folder that `headlab train denoiser` wrote. Default: the one that comes with headlab."""
    stable_diffusion: Path | None = None
    """Start from Stable Diffusion: the folder of a pipeline of its version 1 or 2 in diffusers' layout."""
    lora: int = 0
    """Train only adapters of this rank in the UNet; 0: all weights. Merged when the training ends."""
    prediction: Literal["epsilon", "v", "sample"] = "v"
    """What a fresh denoiser predicts."""
    weighting: Literal["plain", "p2", "min_snr"] = "min_snr"
    """Of the loss over times."""
    shape: float = 0.0
    """Weight of L_id_DECA per square millimetre: the face's shape in the decoded picture, by the default regressor."""
    identity: float = 0.0
    """Weight of L_ID: likeness in the decoded picture, by the default embedder."""
    triplet: float = 0.0
    """Weight of L_TID: nearer to the person than to others that the starting model made."""
    prior: float = 0.0
    """Weight of L_PR: pictures that the starting model made stay as they are."""
    prior_pictures: int = 96
    """How many of them are made for --prior and --triplet."""
    frozen_encoder: bool = False
    """Keep the parameters of the person's encoder."""
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def run(self) -> None:
        from dataclasses import replace

        from ..diffusion.identity import load_embedder, load_shape_reader
        from ..diffusion.identity_losses import IdentityWeights
        from ..diffusion.lora import add_lora, merge_lora
        from ..diffusion.training import train
        from ..diffusion.training_data import load_pairs
        from ..diffusion.training_denoiser import DenoiserTask, DenoiserTaskConfig
        from ..diffusion.training_latents import PairLatents, alternating, cached_latents

        weights = IdentityWeights(identity=self.identity, triplet=self.triplet, shape=self.shape)
        system = self._start()

        def data(folder: Path, name: str) -> PairLatents:
            pairs = load_pairs(folder)
            size, wanted = pairs.camera.size[0], system.config.denoiser.size
            if size != wanted:
                raise HeadlabError(f"{folder} holds pictures of {size} pixels, the model takes {wanted}; make others")
            return PairLatents(pairs, cached_latents(system.vae, pairs, alternating(pairs), self.out / name))

        check_source(self.pairs, self.data)
        self.out.mkdir(parents=True, exist_ok=True)
        if self.data is not None and self.data.startswith("rgbd:"):
            from .train_selfies import selfie_data

            pictures: Any = selfie_data(self.data, system, self.out / "selfies.safetensors")
        elif self.data is not None:
            from ..diffusion.training_store import StoreLatents, open_store_pictures

            sizes, channels = system.config.denoiser, system.vae.config["in_channels"]
            options = {"channels": channels, "balance": self.balance, "seed": self.training.seed}
            store = open_store_pictures(self.data, sizes.size, **options)
            pictures = StoreLatents(store, system.vae, sizes.expressions)
        else:
            assert self.pairs is not None
            pictures = data(self.pairs, "latents.safetensors")
        held = None if self.held_out is None else data(self.held_out, "held_out.safetensors")
        config = DenoiserTaskConfig(
            system.config,
            weighting=self.weighting,
            prior=self.prior,
            identity=weights,
            frozen_encoder=self.frozen_encoder,
        )
        prior = self._prior(system) if self.prior or self.triplet else None
        if self.lora:
            system.denoiser.unet.requires_grad_(False)
            add_lora(system.denoiser.unet, self.lora)
        task = DenoiserTask(
            config,
            system,
            pictures,
            held,
            prior=prior,
            reader=load_shape_reader() if self.shape else None,
            embedder=load_embedder() if self.identity or self.triplet else None,
            save=_save_merged if self.lora else None,
        )
        networks: Any = train(task, self.training, self.out, config, _Printer(self.training))
        denoiser = networks["denoiser"].denoiser
        if self.lora:
            merge_lora(denoiser.unet)
        replace(system, denoiser=denoiser).save(self.out / "weights")
        print(f"wrote {self.out / 'weights'}")

    def _start(self) -> Any:
        """The system to train."""
        from ..diffusion.autoencoder import factor, load_autoencoder
        from ..diffusion.bundle import DEFAULT, DiffusionConfig, LatentDiffusion, load_latent_diffusion
        from ..diffusion.denoiser import DenoiserConfig
        from ..diffusion.schedule import ScheduleConfig
        from ..diffusion.stable_diffusion import load_stable_diffusion

        given = [name for name in ("autoencoder", "start", "stable_diffusion") if getattr(self, name) is not None]
        if len(given) > 1:
            raise HeadlabError(f"start from one thing, not from {' and '.join(given)} at once")
        if self.stable_diffusion is not None:
            return load_stable_diffusion(self.stable_diffusion)
        if self.autoencoder is None:
            return load_latent_diffusion(self.start or DEFAULT)
        vae = load_autoencoder(self.autoencoder)
        sizes = DenoiserConfig(latents=vae.config["latent_channels"], factor=factor(vae))
        schedule = ScheduleConfig("cosine", prediction=self.prediction)
        return LatentDiffusion.build(vae, DiffusionConfig(sizes, schedule))

    def _prior(self, system: Any) -> Any:
        """What the starting model makes of other people."""
        from ..diffusion.personal import prior_examples
        from ..geometry.models.default import load_default_head

        system.denoiser.eval()
        return prior_examples(system, load_default_head(), self.prior_pictures, seed=self.training.seed)


def check_source(pairs: Path | None, data: str | None) -> None:
    """Raises HeadlabError: neither is named, or both."""
    if (pairs is None) == (data is None):
        raise HeadlabError("name what to train on: either a folder of pairs, or --data KIND:PATH (see `headlab data`)")


def _save_merged(system: Any, folder: Path) -> None:
    """A copy with the adapters worked in, so that it can be used while the training goes on."""
    import copy
    from dataclasses import replace

    from ..diffusion.lora import merge_lora

    denoiser = copy.deepcopy(system.denoiser)
    merge_lora(denoiser.unet)
    replace(system, denoiser=denoiser).save(folder)


class _Printer:
    """One line of means every so many steps."""

    def __init__(self, config: TrainingConfig):
        self.every, self.rows = config.log_every, []

    def __call__(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if int(row["step"]) % self.every == 0:
            means = {name: sum(r.get(name, 0.0) for r in self.rows) / len(self.rows) for name in row if name != "step"}
            print(json.dumps({"step": int(row["step"]), **{k: round(v, 5) for k, v in means.items()}}), flush=True)
            self.rows = []


@dataclass(frozen=True)
class Train:
    """Train latent diffusion, classifiers of DiffAE's codes, DiffusionRig, and neural head fields."""

    what: (
        Annotated[TrainAutoencoder, tyro.conf.subcommand("autoencoder")]
        | Annotated[TrainDenoiser, tyro.conf.subcommand("denoiser")]
        | Annotated[TrainClassifier, tyro.conf.subcommand("classifier")]
        | Annotated[TrainDiffusionRig, tyro.conf.subcommand("diffusionrig")]
        | Annotated[TrainDiffAE, tyro.conf.subcommand("diffae")]
        | Annotated[TrainLdm3d, tyro.conf.subcommand("ldm3d")]
        | Annotated[TrainNphm, tyro.conf.subcommand("nphm")]
        | Annotated[TrainMorphable, tyro.conf.subcommand("morphable")]
        | Annotated[TrainTextures, tyro.conf.subcommand("textures")]
    )

    def run(self) -> None:
        self.what.run()


def main(args: Train) -> None:
    """Run the command."""
    args.run()


if __name__ == "__main__":
    main(tyro.cli(tyro.conf.OmitSubcommandPrefixes[Train]))  # type: ignore[arg-type]
