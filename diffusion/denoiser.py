"""The denoiser: a conditional UNet in latent space.

    maps ──ConditionEncoder──┐
    capture's latent ────────┤ concatenated to the noisy latent ──> UNet2DConditionModel ──> prediction
    person's picture ──z──┐  │                                         ^           ^
    ψ, emotion, VA, text ─┴──┴────── tokens (cross-attention) ─────────┘           │
                          └───────── embedding (added to the time's) ──────────────┘

Whatever is not given has a learnt token of its own or is 0 with a flag, so that one network serves classifier-free
guidance, DiffusionRig's mode (no capture) and the RGB-D avatar's (capture of the target given).
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..geometry.errors import HeadlabError
from .condition_encoder import CHANNELS, ConditionEncoder
from .semantic_encoder import SemanticConfig, build_semantic_encoder

#: AffectNet's.
EMOTION_CLASSES = 8


@dataclass(frozen=True)
class DenoiserConfig:
    """Sizes; the defaults are the shipped network's."""

    latents: int = 6
    size: int = 64  #: side of the pictures, pixels
    factor: int = 4  #: how many times smaller the latents are
    expressions: int = 52  #: length of ψ
    widths: tuple[int, ...] = (64, 128, 128)
    attention: tuple[bool, ...] = (False, False, True)  #: at which resolutions tokens are read
    blocks: int = 1  #: residual blocks per resolution
    heads: int | tuple[int, ...] = 4  #: of the attention, per resolution
    groups: int = 16  #: of the group normalisation
    tokens: int = 128  #: length of the cross-attention tokens
    condition_width: int = 32  #: channels of the encoded maps
    semantic: SemanticConfig = field(default_factory=lambda: SemanticConfig(width=16))
    person_tokens: int = 4  #: that z becomes
    text: int = 0  #: length of text tokens (CLIP: 768 or 1024); 0: no text
    linear_projection: bool = False  #: Stable Diffusion 2's way of entering attention


@dataclass(frozen=True)
class Given:
    """What the denoiser is told. Rows that hold NaN (emotion: -1) are not told; None: no row is."""

    maps: Float[Tensor, "batch chan height width"]  #: `condition_encoder.network_maps`
    capture: Float[Tensor, "batch latent rows columns"] | None = None  #: latent of the photo to edit
    person: Float[Tensor, "batch 3 height2 width2"] | None = None  #: a picture of the person, -1..1
    expression: Float[Tensor, "batch expr"] | None = None  #: ψ
    emotion: Int[Tensor, "batch"] | None = None  #: index into AffectNet's classes, -1: none
    valence_arousal: Float[Tensor, "batch 2"] | None = None  #: -1..1
    text: Float[Tensor, "batch words length"] | None = None  #: hidden states of a text encoder

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, index: Any) -> "Given":
        """Some rows, by a slice or an index tensor."""
        return self.map(lambda value: value[index])

    def map(self, function) -> "Given":
        """Apply a function to every tensor that is set."""
        return replace(self, **{name: function(value) for name, value in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are set, by name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Given":
        """Moved; only floating-point fields change their type."""

        def moved(value: Tensor) -> Tensor:
            return value.to(device=device, dtype=dtype if value.is_floating_point() else None)

        return self.map(moved)

    def without(self, *names: str) -> "Given":
        """The same, without being told these.

        Raises:
            HeadlabError: no such thing.
        """
        unknown = set(names) - {f.name for f in fields(self)}
        if unknown:
            raise HeadlabError(f"nothing called {', '.join(sorted(unknown))} is given to a denoiser")
        changes: dict[str, Tensor | None] = {name: None for name in names if name != "maps"}
        if "maps" in names:
            changes["maps"] = torch.zeros_like(self.maps)
        return replace(self, **changes)

    def masked(self, name: str, keep: torch.Tensor) -> "Given":
        """The same, with a field told in these rows only (keep: bool, (batch,))."""
        value = getattr(self, name)
        if value is None:
            return self
        none = 0.0 if name == "maps" else (float("nan") if value.is_floating_point() else -1)
        keep = keep.reshape(-1, *[1] * (value.ndim - 1))
        return replace(self, **{name: torch.where(keep, value, torch.full_like(value, none))})


@dataclass(frozen=True)
class Context:
    """What of a `Given` the UNet sees; the same at all times."""

    local: Float[Tensor, "batch chan rows columns"]  #: concatenated to the noisy latent
    tokens: Float[Tensor, "batch words length"]
    embedding: Float[Tensor, "batch length"]

    def __getitem__(self, index: Any) -> "Context":
        return Context(self.local[index], self.tokens[index], self.embedding[index])


class Optional(nn.Module):
    """A vector as tokens and as an embedding, with learnt ones for rows that are not told."""

    def __init__(self, inputs: int, length: int, count: int = 1):
        super().__init__()
        self.count = count
        self.hidden = nn.Linear(inputs, length)
        self.out = nn.Linear(length, count * length)
        self.embed = nn.Linear(length, length)
        self.none = nn.Parameter(torch.zeros(count, length))
        self.no_embedding = nn.Parameter(torch.zeros(length))

    def forward(
        self, value: Float[Tensor, "batch inputs"], told: torch.Tensor
    ) -> tuple[Float[Tensor, "batch count length"], Float[Tensor, "batch length"]]:
        """Args:
        value: finite also where it is not told.
        told: bool, (batch,).
        """
        h = nn.functional.silu(self.hidden(value))
        tokens = torch.where(told[:, None, None], self.out(h).unflatten(1, (self.count, -1)), self.none)
        return tokens, torch.where(told[:, None], self.embed(h), self.no_embedding)


class Denoiser(nn.Module):
    """Noisy latents, a time and a context -> prediction."""

    def __init__(self, config: DenoiserConfig | None = None):
        """Raises:
        HeadlabError: sizes that do not go together.
        """
        super().__init__()
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        self.config = config = config or DenoiserConfig()
        levels = len(config.widths)
        if len(config.attention) != levels or config.size % config.factor:
            raise HeadlabError("a denoiser needs an attention flag per width, and a size that its factor divides")
        side = config.size // config.factor
        if side % 2 ** (levels - 1):
            raise HeadlabError(f"latents of {side} x {side} cannot be halved {levels - 1} times; use fewer widths")
        self.conditions = ConditionEncoder(config.factor, config.condition_width)
        self.semantic = build_semantic_encoder(config.semantic)
        self.person = Optional(config.semantic.size, config.tokens, config.person_tokens)
        self.expression = Optional(config.expressions, config.tokens)
        self.emotion = Optional(EMOTION_CLASSES, config.tokens)
        self.valence_arousal = Optional(2, config.tokens)
        self.text = None
        if config.text:  # Stable Diffusion's UNet reads CLIP's states as they are
            self.text = nn.Identity() if config.text == config.tokens else nn.Linear(config.text, config.tokens)
        down = ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in config.attention]
        up = ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(config.attention)]
        make: Any = UNet2DConditionModel  # its annotations say tuples of one
        self.unet = make(
            sample_size=side,
            in_channels=2 * config.latents + config.condition_width + 1,
            out_channels=config.latents,
            down_block_types=tuple(down),
            up_block_types=tuple(up),
            block_out_channels=config.widths,
            layers_per_block=config.blocks,
            attention_head_dim=config.heads,
            norm_num_groups=config.groups,
            cross_attention_dim=config.tokens,
            use_linear_projection=config.linear_projection,
            class_embed_type="projection",
            projection_class_embeddings_input_dim=config.tokens,
        )

    def context(self, given: Given) -> Context:
        """Everything that does not depend on the time.

        Raises:
            HeadlabError: maps, capture or ψ of another size than the network was built for.
        """
        config, maps = self.config, given.maps
        check_given(config, given)
        side, count = config.size // config.factor, len(maps)
        if given.capture is None:
            capture, shown = maps.new_zeros(count, config.latents, side, side), maps.new_zeros(count)
        else:
            capture, shown = given.capture.nan_to_num(), given.capture.flatten(1).isfinite().all(1).to(maps)
        flag = shown[:, None, None, None].expand(-1, 1, side, side)
        local = torch.cat([self.conditions(maps), capture.to(maps), flag], 1)
        parts = [self._person(given), *self._told(given)]
        tokens = torch.cat([part for part, _ in parts], 1)
        if self.text is not None and given.text is not None:
            tokens = torch.cat([tokens, self.text(given.text)], 1)
        return Context(local, tokens, torch.stack([part for _, part in parts]).sum(0))

    def forward(
        self,
        noisy: Float[Tensor, "batch latent rows columns"],
        t: Int[Tensor, "batch"],
        context: Context,
    ) -> Float[Tensor, "batch latent rows columns"]:
        """The prediction (epsilon, v or x0: as the schedule it was trained with)."""
        x = torch.cat([noisy, context.local.to(noisy)], 1)
        return self.unet(x, t, context.tokens, class_labels=context.embedding).sample

    def code(self, person: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch size"]:
        """z of pictures, -1..1."""
        return self.semantic(person)

    def _person(self, given: Given) -> tuple[Tensor, Tensor]:
        if given.person is None:
            nothing = given.maps.new_zeros(len(given), self.config.semantic.size)
            return self.person(nothing, nothing.any(1))
        told = given.person.flatten(1).isfinite().all(1)
        return self.person(self.code(given.person.nan_to_num()), told)

    def _told(self, given: Given) -> list[tuple[Tensor, Tensor]]:
        """Expression in its three forms."""
        count, maps = len(given), given.maps
        emotion = given.emotion if given.emotion is not None else torch.full((count,), -1, device=maps.device)
        one_hot = (emotion[:, None] == torch.arange(EMOTION_CLASSES, device=maps.device)).to(maps)
        out = [self.emotion(one_hot, emotion >= 0)]
        for name, length in (("expression", self.config.expressions), ("valence_arousal", 2)):
            value = getattr(given, name)
            value = maps.new_full((count, length), torch.nan) if value is None else value
            out.append(getattr(self, name)(value.nan_to_num().to(maps), value.isfinite().all(1)))
        return out


def check_given(config: DenoiserConfig, given: Given) -> None:
    """Raises HeadlabError where the sizes are not the network's."""
    want = (CHANNELS, config.size, config.size)
    if tuple(given.maps.shape[1:]) != want:
        raise HeadlabError(
            f"this denoiser takes conditions of {want[0]} x {want[1]} x {want[2]}, not "
            f"{' x '.join(map(str, given.maps.shape[1:]))}; render them with network_maps at size {config.size}"
        )
    side = config.size // config.factor
    capture, psi = given.capture, given.expression
    if capture is not None and tuple(capture.shape[1:]) != (config.latents, side, side):
        raise HeadlabError(
            f"this denoiser takes latents of {config.latents} x {side} x {side}, not "
            f"{' x '.join(map(str, capture.shape[1:]))}; encode the picture with the autoencoder that belongs to it"
        )
    if psi is not None and psi.shape[1] != config.expressions:
        raise HeadlabError(
            f"this denoiser knows expressions of {config.expressions} numbers, not {psi.shape[1]}; "
            "use the head model it was trained for"
        )
    if given.text is not None and not config.text:
        raise HeadlabError("this denoiser was trained without text; use one with text tokens, or give no text")
    counts = {name: len(value) for name, value in given.tensors().items()}
    if len(set(counts.values())) > 1:
        raise HeadlabError(f"a denoiser's conditions must be of one number of pictures, not {counts}")
