"""DreamBooth, PortraitBooth and ID-Booth: LoRA in the UNet of Stable Diffusion 1.5, 2.1 or XL learns one person.

    photo ──> latent ──noise──> UNet ("photo of sks person") ──> L = |e - e_hat|^2         DreamBooth (Ruiz et al. 2023)
    picture of another ──────> UNet ("photo of a person")    ──> + L_PR                     all three
    x0_hat ──decoded──> face ──> embedding ──> + (1 - t/T)^2 L_ID                           PortraitBooth (Peng 2024)
                                           or + (1 - t/T)^2 L_TID                           ID-Booth (Tomasevic 2025)

The face in x0_hat lies where it lies in the photo, so it is looked for there once, and not in a picture that is still a
blur (the authors run a detector on it at each step, and skip the loss where that finds nothing).
"""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...geometry.errors import HeadlabError
from ..identity import Embedder
from ..losses import l_id, l_pr, l_simple, l_tid, time_weight
from ..training_config import TrainingConfig
from .booth_data import IdentityPhotos, face_crops
from .booth_prompts import CLASS, INSTANCE
from .rgbd_training import schedule_of

Method = Literal["dreambooth", "portraitbooth", "idbooth"]
#: What the authors adapt: the projections of all attention.
ADAPTED = ("to_k", "to_q", "to_v", "to_out.0")


def published_booth_training() -> TrainingConfig:
    """ID-Booth's: 32 epochs over 200 pairs of photo and prior picture (checkpoint-31-6400)."""
    return TrainingConfig(
        steps=6400,
        batch=1,
        rate=1e-4,
        warmup=0,
        decay="cosine",
        weight_decay=1e-2,
        betas=(0.9, 0.999),
        average=0.0,
        save_every=1000,
    )


@dataclass(frozen=True)
class BoothConfig:
    """How a person is learned; the defaults are ID-Booth's."""

    method: Method = "idbooth"
    rank: int = 4
    prior: float = 1.0  #: factor of L_PR
    identity: float = 1.0  #: factor of L_ID or L_TID
    margin: float = 1.0  #: of L_TID, as in the authors' code (torch's default)
    power: float = 2.0  #: of 1 - t / T
    instance: str = INSTANCE
    other: str = CLASS
    crop: int = 112  #: side of the faces that the embedder is shown
    training: TrainingConfig = field(default_factory=published_booth_training)


class Adapters(nn.Module):
    """The adapters of a UNet alone, for optimiser, averages and checkpoints; the UNet itself is held, not owned."""

    def __init__(self, unet: Any):
        super().__init__()
        named = {name: p for name, p in unet.named_parameters() if p.requires_grad}
        self.names = list(named)
        self.parts = nn.ParameterList(named.values())
        self._held = (unet,)

    @property
    def unet(self) -> Any:
        """Whose adapters these are."""
        return self._held[0]

    def __deepcopy__(self, memo: dict) -> "Adapters":
        other = copy.copy(self)
        other.__dict__ = dict(self.__dict__)
        other._modules = {"parts": nn.ParameterList(nn.Parameter(p.detach().clone()) for p in self.parts)}
        return other

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor, added: dict[str, Tensor] | None) -> Tensor:
        return self.unet(x, t, tokens, added_cond_kwargs=added).sample

    @torch.no_grad()
    def written_back(self) -> Any:
        """The UNet with these numbers in its adapters."""
        known = dict(self.unet.named_parameters())
        for name, value in zip(self.names, self.parts, strict=True):
            known[name].copy_(value)
        return self.unet


@dataclass(frozen=True)
class BoothBatch:
    """Latents of photos and of other people's pictures, with what the identity loss needs."""

    rows: Int[Tensor, "batch"]
    others: Int[Tensor, "batch"]


class BoothTask:
    """See `training.Task`. VAE, text encoders and the UNet's own weights are frozen."""

    def __init__(
        self,
        pipeline: Any,
        photos: IdentityPhotos,
        others: IdentityPhotos,
        config: BoothConfig | None = None,
        embedder: Embedder | None = None,
    ):
        """Args:
            pipeline: StableDiffusionPipeline or StableDiffusionXLPipeline; its UNet gets adapters, in place.
            photos: of the person.
            others: pictures of other people that the base model made (`prior_pictures`).
            config: how.
            embedder: for L_ID and L_TID; where embeddings lie ready they must be this network's.

        Raises:
            HeadlabError: no embedder for a method that needs one, or embeddings of another network.
        """
        self.config = config = config or BoothConfig()
        if config.method not in ("dreambooth", "portraitbooth", "idbooth"):
            raise HeadlabError(f"there is no method {config.method!r}; choose dreambooth, portraitbooth or idbooth")
        if config.method != "dreambooth" and embedder is None:
            raise HeadlabError(f"{config.method} needs an identity embedder; give one (load_arcface, load_embedder)")
        self.pipeline, self.photos, self.others, self.embedder = pipeline, photos, others, embedder
        self.count = max(photos.count, others.count)
        self.schedule = schedule_of(pipeline.scheduler)
        for part in ("vae", "unet", "text_encoder", "text_encoder_2"):
            if getattr(pipeline, part, None) is not None:
                getattr(pipeline, part).requires_grad_(False)
        self._words = {
            text: _encoded(pipeline, text, photos.pictures.shape[-1]) for text in (config.instance, config.other)
        }
        self.own_latents, self.other_latents = (posterior_of(pipeline.vae, x.pictures) for x in (photos, others))
        self.own_vectors = self.other_vectors = None
        if embedder is not None and config.method != "dreambooth":
            self.own_vectors, self.other_vectors = (self._vectors(x) for x in (photos, others))
        adapted(pipeline.unet, config.rank, config.training.seed)
        self.networks: dict[str, nn.Module] = {"adapters": Adapters(pipeline.unet.train())}
        self.players: dict[str, tuple[str, ...]] = {"adapters": ("adapters",)}

    def load(self, indices: Int[Tensor, "batch"], device: torch.device) -> BoothBatch:
        return BoothBatch(indices % self.photos.count, indices % self.others.count)

    def losses(
        self, player: str, networks: dict[str, nn.Module], batch: BoothBatch, step: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        config, schedule, network = self.config, self.schedule, networks["adapters"]
        device, count = generator.device, len(batch.rows)
        for part in (self.pipeline.unet, self.pipeline.vae):
            part.to(device)  # once; the loop itself moves the adapters alone
        mean, std = (
            torch.cat([a[batch.rows], b[batch.others]]).to(device)
            for a, b in zip(self.own_latents, self.other_latents, strict=True)
        )
        latents = mean + std * torch.randn(mean.shape, generator=generator, device=device)
        t = torch.randint(schedule.steps, (2 * count,), generator=generator, device=device)
        noise = torch.randn(latents.shape, generator=generator, device=device)
        noisy = schedule.add_noise(latents, noise, t)
        words = [self._words[text] for text in (config.instance, config.other)]
        tokens = torch.cat([w[0].expand(count, -1, -1) for w in words]).to(device)
        added = None
        if told := [w[1] for w in words if w[1] is not None]:
            added = {name: torch.cat([w[name].expand(count, -1) for w in told]).to(device) for name in told[0]}
        said, target = network(noisy, t, tokens, added), schedule.target(latents, noise, t)
        terms = {"simple": l_simple(said[:count], target[:count]).mean()}
        if config.prior:
            terms["prior"] = config.prior * l_pr(said[count:], target[count:]).mean()
        if self.own_vectors is not None and self.other_vectors is not None and self.embedder is not None:
            clean = schedule.x0_from(said[:count], noisy[:count], t[:count])
            vectors = self.embedder.vectors(self.faces(clean, batch.rows))
            own, other = self.own_vectors[batch.rows].to(vectors), self.other_vectors[batch.others].to(vectors)
            factor = config.identity * time_weight(schedule, t[:count], config.power).to(vectors)
            if config.method == "portraitbooth":
                terms["identity"] = (factor * l_id(vectors, own)).mean()
            else:
                terms["triplet"] = (factor * l_tid(vectors, own, other, config.margin)).mean()
        return terms

    def faces(self, latents: Tensor, rows: Int[Tensor, "batch"]) -> Float[Tensor, "batch 3 crop crop"]:
        """The decoded faces, 0..1. Differentiable."""
        picture = self.pipeline.vae.decode(latents / self.pipeline.vae.config.scaling_factor).sample / 2 + 0.5
        squares = None if self.photos.squares is None else [self.photos.squares[int(i)] for i in rows]
        return face_crops(picture.clamp(0, 1), squares, self.config.crop)

    @torch.no_grad()
    def _vectors(self, photos: IdentityPhotos) -> Float[Tensor, "count dims"]:
        """Embeddings that lay ready, or of the faces."""
        assert self.embedder is not None
        squares = [None] * photos.count if photos.squares is None else [[s] for s in photos.squares]
        one = photos.pictures[:1] / 2 + 0.5
        size = self.embedder.vectors(face_crops(one, squares[0], self.config.crop)).shape[-1]
        if photos.embeddings is not None:
            if photos.embeddings.shape[-1] != size:
                raise HeadlabError(
                    f"the ready embeddings have {photos.embeddings.shape[-1]} numbers, this embedder's {size}; "
                    "give the network they were made with (ArcFace's backbone.pth), or delete them"
                )
            return torch.nn.functional.normalize(photos.embeddings, dim=-1)
        rows = [
            self.embedder.vectors(face_crops(photos.pictures[i : i + 1] / 2 + 0.5, squares[i], self.config.crop))
            for i in range(photos.count)
        ]
        return torch.cat(rows)

    def pictures(self, networks: dict[str, nn.Module]) -> None:
        """None are made here; see `booth_generation`."""

    def export(self, networks: dict[str, Any], folder: Path) -> None:
        """Write pytorch_lora_weights.safetensors, which diffusers' pipelines load."""
        own = self.networks["adapters"]
        assert isinstance(own, Adapters)
        kept = [p.detach().clone() for p in own.parts]
        save_adapters(self.pipeline, networks["adapters"].written_back(), folder)
        with torch.no_grad():
            for p, value in zip(own.parts, kept, strict=True):
                p.copy_(value)


def adapted(unet: Any, rank: int, seed: int = 0) -> None:
    """Add the authors' adapters (Gaussian start, without effect at first), in place.

    Raises:
        HeadlabError: a rank below 1, or adapters are there already.
    """
    from peft import LoraConfig

    if rank < 1:
        raise HeadlabError(f"a LoRA has a rank of at least 1, not {rank}")
    if getattr(unet, "peft_config", None):
        raise HeadlabError("this UNet has adapters already; load the pipeline anew")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet.add_adapter(
            LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(ADAPTED))
        )


def save_adapters(pipeline: Any, unet: Any, folder: Path) -> None:
    """Write a UNet's adapters in diffusers' form."""
    from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    layers = {name: value.detach().cpu().contiguous() for name, value in layers.items()}
    type(pipeline).save_lora_weights(folder, unet_lora_layers=layers)


@torch.no_grad()
def posterior_of(vae: Any, pictures: Float[Tensor, "count 3 height width"]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the scaled latents of pictures, from which training draws."""
    parts = [vae.encode(picture[None].to(vae.dtype)).latent_dist for picture in pictures]
    scale = vae.config.scaling_factor
    return tuple(torch.cat([getattr(part, name).float() for part in parts]) * scale for name in ("mean", "std"))  # type: ignore[return-value]


@torch.no_grad()
def _encoded(pipeline: Any, text: str, size: int) -> tuple[Tensor, dict[str, Tensor] | None]:
    """Tokens of a prompt; for Stable Diffusion XL also what its UNet is told besides."""
    if getattr(pipeline, "text_encoder_2", None) is None:
        return pipeline.encode_prompt([text], pipeline.device, 1, False)[0], None
    tokens, _, pooled, _ = pipeline.encode_prompt(text, device=pipeline.device, do_classifier_free_guidance=False)
    times = torch.tensor([[size, size, 0, 0, size, size]], dtype=pooled.dtype)
    return tokens, {"text_embeds": pooled, "time_ids": times}
