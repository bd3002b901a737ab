"""LatentDiffusion: autoencoder, denoiser and schedule that belong together, and the folder they are kept in.

folder/config.json               sizes, schedule, how it was made
folder/autoencoder.safetensors
folder/denoiser.safetensors
"""

import json
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..geometry.errors import HeadlabError
from ..geometry.files import write_bytes, write_json
from .denoiser import Denoiser, DenoiserConfig
from .foreign import foreign_kind
from .schedule import NoiseSchedule, ScheduleConfig

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

#: The shipped weights.
DEFAULT = Path(__file__).with_name("default_weights")
_FORMAT = "headlab latent diffusion 1"


@dataclass(frozen=True)
class DiffusionConfig:
    """Sizes and schedule."""

    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    schedule: ScheduleConfig = field(default_factory=lambda: ScheduleConfig("cosine", prediction="v"))


@dataclass(frozen=True)
class LatentDiffusion:
    """A trained system. Networks in evaluation mode; freeze or thaw them as needed."""

    vae: "AutoencoderKL"
    denoiser: Denoiser
    schedule: NoiseSchedule
    config: DiffusionConfig

    @classmethod
    def build(cls, vae: "AutoencoderKL", config: DiffusionConfig) -> "LatentDiffusion":
        """With a fresh denoiser.

        Raises:
            HeadlabError: the autoencoder's latents are not those that the configuration says.
        """
        levels = len(vae.config["block_out_channels"])
        latents, factor = vae.config["latent_channels"], 2 ** (levels - 1)
        wanted = config.denoiser
        if (latents, factor) != (wanted.latents, wanted.factor):
            raise HeadlabError(
                f"the autoencoder makes {latents} latent channels at 1/{factor} of the size, the denoiser takes "
                f"{wanted.latents} at 1/{wanted.factor}; set latents and factor to the autoencoder's"
            )
        return cls(vae.eval(), Denoiser(wanted).eval(), config.schedule.build(), config)

    @property
    def depth(self) -> bool:
        """Whether pictures have depth."""
        return self.vae.config["in_channels"] != 3

    def to(self, device: torch.device | str) -> "LatentDiffusion":
        """The networks moved (in place, as torch does it)."""
        vae: Any = self.vae
        return LatentDiffusion(vae.to(device), self.denoiser.to(device), self.schedule, self.config)

    def frozen(self) -> "LatentDiffusion":
        """The same networks; no gradient goes to their weights any more."""
        self.vae.requires_grad_(False)
        self.denoiser.requires_grad_(False)
        return self

    def colour(self, latents: Float[Tensor, "batch latent rows columns"]) -> Float[Tensor, "batch 3 height width"]:
        """Decoded colour, 0..1 but not clamped. Differentiable."""
        from .autoencoder import decode

        return decode(self.vae, latents)[:, :3] / 2 + 0.5

    def save(self, folder: Path, half: bool = True, about: dict[str, Any] | None = None) -> None:
        """Write the folder.

        Args:
            folder: made where it is missing.
            half: store half precision.
            about: anything else to keep in config.json.

        Raises:
            HeadlabError: it cannot be written.
        """
        from safetensors.torch import save

        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HeadlabError(f"cannot make the folder {folder}: {error.strerror}; choose another") from error
        for name, network in (("autoencoder", self.vae), ("denoiser", self.denoiser)):
            write_bytes(folder / f"{name}.safetensors", save(_state(network, half)))
        record = {"format": _FORMAT, "autoencoder": _plain_config(self.vae), **asdict(self.config)}
        write_json(folder / "config.json", record | {"about": about or {}})


def load_latent_diffusion(path: Path) -> LatentDiffusion:
    """Read what `LatentDiffusion.save` wrote.

    Raises:
        HeadlabError: missing, damaged, or of another architecture, which the message names with the way to load it.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from safetensors.torch import load_file

    folder = Path(path)
    if folder.is_file() and folder.name in ("config.json", "denoiser.safetensors", "autoencoder.safetensors"):
        folder = folder.parent
    if (kind := foreign_kind(folder)) is not None:
        raise HeadlabError(f"{folder} holds {kind}")
    try:
        record = json.loads((folder / "config.json").read_text("utf-8"))
        config = _of_record(DiffusionConfig, record)
        vae: Any = AutoencoderKL.from_config(record["autoencoder"])
        diffusion = LatentDiffusion.build(vae, config)
        for name, network in (("autoencoder", diffusion.vae), ("denoiser", diffusion.denoiser)):
            network.load_state_dict({k: _full(v) for k, v in load_file(folder / f"{name}.safetensors").items()})
    except HeadlabError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise HeadlabError(
            f"{folder} is no folder of a latent diffusion model, or a damaged one ({reason}); "
            "give one that `headlab train denoiser` or LatentDiffusion.save wrote"
        ) from error
    return diffusion.frozen()


@lru_cache(maxsize=1)
def load_default_diffusion() -> LatentDiffusion:
    """The shipped system: RGB-D pictures of 64 pixels, trained on synthetic people. Shared: do not train it in place.

    Raises:
        HeadlabError: the weights are missing or damaged.
    """
    return load_latent_diffusion(DEFAULT)


def _state(network: nn.Module, half: bool) -> dict[str, Tensor]:
    def stored(value: Tensor) -> Tensor:
        value = value.detach().cpu().contiguous()
        return value.half() if half and value.is_floating_point() else value

    return {name: stored(value) for name, value in network.state_dict().items()}


def _full(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _plain_config(vae: "AutoencoderKL") -> dict[str, Any]:
    return {key: value for key, value in vae.config.items() if not key.startswith("_")}


def _of_record(kind: type, record: dict[str, Any]) -> Any:
    """A (nested) dataclass of what JSON made of it: lists become tuples."""

    def value(annotation: Any, item: Any) -> Any:
        if is_dataclass(annotation) and isinstance(item, dict):
            return _of_record(annotation, item)  # type: ignore[arg-type]
        return tuple(item) if isinstance(item, list) else item

    known = {f.name: f.type for f in fields(kind)}
    return kind(**{name: value(known[name], item) for name, item in record.items() if name in known})
