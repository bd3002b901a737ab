"""Training data of a denoiser: latents, what is given with them, and the pictures themselves."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Float16, Int
from torch import Tensor

from ..datasets.synthetic.pairs import EditPairBatch
from ..geometry.errors import HeadlabError
from ..geometry.files import write_bytes
from .autoencoder import encode
from .condition_encoder import pair_maps
from .denoiser import Given
from .training_data import PictureSet

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL


@dataclass(frozen=True)
class DenoiserBatch:
    """Samples of a denoiser's training."""

    latents: Float[Tensor, "batch latent rows columns"]  #: what sampling should give
    given: Given  #: everything that is known; training leaves parts out
    colour: Float[Tensor, "batch 3 height width"]  #: the true pictures, sRGB 0..1: sources of the identity losses
    weight: Float[Tensor, "batch"] | None = None  #: of each sample in L_simple; 1 where None


@runtime_checkable
class DenoiserData(Protocol):
    """Samples by number."""

    @property
    def count(self) -> int: ...

    def load(self, indices: Int[Tensor, "batch"], device: torch.device | str) -> DenoiserBatch: ...


@dataclass(frozen=True)
class PairLatents:
    """Pairs as training data: the edit of one face of a pair into the other, both ways.

    Sample: 2 times the pair, plus 1 where the second face is wanted.
    """

    pairs: EditPairBatch
    latents: Float16[Tensor, "pairs 2 latent rows columns"]  #: of `encode_pairs`

    @property
    def count(self) -> int:
        return 2 * len(self.pairs)

    def load(self, indices: Int[Tensor, "batch"], device: torch.device | str = "cpu") -> DenoiserBatch:
        pair, face = indices // 2, indices % 2
        chosen = self.pairs[pair]
        each = torch.arange(len(chosen))
        colour = chosen.images.float() / 255
        given = Given(
            pair_maps(chosen, face),
            self.latents[pair, 1 - face].float(),
            colour[each, 1 - face] * 2 - 1,
            chosen.codes.expression[each, face],
            chosen.emotion[each, face],
            chosen.valence_arousal[each, face],
        )
        target = self.latents[pair, face].float()
        return DenoiserBatch(target.to(device), given.to(device), colour[each, face].to(device))


def alternating(pairs: EditPairBatch) -> Bool[Tensor, "pairs"]:
    """Every other pair: those whose depth is taken to be the bare head's, so that a model learns both."""
    return pairs.index % 2 == 1


@torch.no_grad()
def encode_pairs(
    vae: "AutoencoderKL", pairs: EditPairBatch, bare: Bool[Tensor, "pairs"], batch: int = 16, half: bool = False
) -> Float16[Tensor, "pairs 2 latent rows columns"]:
    """Latents of all pictures of all pairs.

    Args:
        vae: the autoencoder.
        pairs: from the generator.
        bare: where the depth is the bare head's, as a fit to a photo knows it, and not that of all surfaces.
        batch: pairs at once.
        half: run in bfloat16.
    """
    channels, device = vae.config["in_channels"], next(vae.parameters()).device
    pictures = PictureSet(pairs, channels)
    out = []
    for part in torch.arange(len(pairs)).split(batch):
        first = 4 * part + bare[part]
        indices = torch.stack([first, first + 2], 1).flatten()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            out.append(encode(vae, pictures.load(indices).to(device)).half().cpu().unflatten(0, (-1, 2)))
    return torch.cat(out)


def cached_latents(
    vae: "AutoencoderKL", pairs: EditPairBatch, bare: Bool[Tensor, "pairs"], path: Path, half: bool = False
) -> Float16[Tensor, "pairs 2 latent rows columns"]:
    """`encode_pairs`, kept in a file; made anew where the file is of another encoder or other pairs.

    Raises:
        HeadlabError: the file cannot be written, or is something else.
    """
    from safetensors.torch import load_file, save

    encoder = [p for name, p in vae.named_parameters() if name.startswith(("encoder.", "quant_conv."))]
    parts = [p.detach().double().abs().sum().cpu() for p in encoder]
    told = torch.cat([torch.stack(parts).sum()[None], pairs.index.double(), bare.double()])
    if path.is_file():
        try:
            kept = load_file(path)
            if torch.equal(kept["told"], told):
                return kept["latents"]
        except Exception as error:
            raise HeadlabError(f"{path} holds no latents ({error}); delete it") from error
    latents = encode_pairs(vae, pairs, bare, half=half)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, save({"told": told, "latents": latents}))
    return latents
