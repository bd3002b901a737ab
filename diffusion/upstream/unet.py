"""UNet of guided diffusion (Dhariwal and Nichol 2021) with a global code: DiffusionRig's denoiser and DiffAE's decoder.

noisy picture, time, code ──> input_blocks (kept) ──> middle_block ──> output_blocks (with what was kept) ──> out
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...geometry.errors import HeadlabError
from .blocks import AttentionBlock, Downsample, Modulated, ResBlock, Upsample, groups, timestep_embedding, zeroed


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a UNet; the defaults are DiffusionRig's released denoiser of 256 pixels."""

    size: int = 256  #: side of the pictures
    inputs: int = 12
    outputs: int = 3
    channels: int = 128  #: of the first level
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4)  #: of the channels, one per level; each level halves the size
    blocks: int = 2  #: residual blocks per level on the way in; one more on the way out
    attention: tuple[int, ...] = (16,)  #: sizes (pixels) at which there is self-attention, besides the middle
    heads: int = 1
    heads_up: int = -1  #: heads on the way out; -1: as on the way in
    head_channels: int = -1  #: channels per head, in place of `heads`; -1: not used
    new_order: bool = False  #: see `AttentionBlock`
    time: int = 512  #: length of the time embedding
    code: int | None = 64  #: length of the global code; None: there is none
    code_shift: bool = True  #: the code shifts as well as scales (DiffusionRig); DiffAE's only scales
    residual_resize: bool = True  #: sizes change in residual blocks, not by plain convolutions
    dropout: float = 0.1
    nested_time: bool = False  #: DiffAE's autoencoder names the time's layers time_embed.time_embed

    def heads_at(self, channels: int, up: bool = False) -> int:
        """Heads of an attention block."""
        if self.head_channels != -1:
            return channels // self.head_channels
        return self.heads_up if up and self.heads_up != -1 else self.heads


class TimeMLP(nn.Module):
    """The time's layers, one name deeper."""

    def __init__(self, layers: nn.Sequential):
        super().__init__()
        self.time_embed = layers

    def forward(self, x: Float[Tensor, "batch size"]) -> Float[Tensor, "batch time_size"]:
        return self.time_embed(x)


class UNet(nn.Module):
    """Noisy picture, time and code -> what the network says: noise, and where it has twice the outputs, variances."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        c, levels = config, len(config.multipliers)
        layers = nn.Sequential(nn.Linear(c.channels, c.time), nn.SiLU(), nn.Linear(c.time, c.time))
        self.time_embed = TimeMLP(layers) if c.nested_time else layers
        now = first = c.multipliers[0] * c.channels
        self.input_blocks = nn.ModuleList([Modulated(nn.Conv2d(c.inputs, now, 3, padding=1))])
        kept, size = [now], c.size
        for level, times in enumerate(c.multipliers):
            for _ in range(c.blocks):
                self.input_blocks.append(self._block(now, times * c.channels, size))
                now = times * c.channels
                kept.append(now)
            if level + 1 < levels:
                down = self._residual(now, down=True) if c.residual_resize else Downsample(now)
                self.input_blocks.append(Modulated(down))
                kept.append(now)
                size //= 2
        middle = AttentionBlock(now, c.heads_at(now), c.new_order)
        self.middle_block = Modulated(self._residual(now), middle, self._residual(now))
        self.output_blocks = nn.ModuleList()
        for level, times in reversed(list(enumerate(c.multipliers))):
            for i in range(c.blocks + 1):
                block = self._block(now + kept.pop(), times * c.channels, size, up=True)
                now = times * c.channels
                if level and i == c.blocks:
                    block.append(self._residual(now, up=True) if c.residual_resize else Upsample(now))
                    size *= 2
                self.output_blocks.append(block)
        self.out = nn.Sequential(groups(now), nn.SiLU(), zeroed(nn.Conv2d(first, c.outputs, 3, padding=1)))

    def _residual(self, inputs: int, outputs: int | None = None, up: bool = False, down: bool = False) -> ResBlock:
        c = self.config
        return ResBlock(
            inputs,
            outputs,
            time=c.time,
            code=c.code,
            code_shift=c.code_shift,
            up=up,
            down=down,
            dropout=c.dropout,
        )

    def _block(self, inputs: int, outputs: int, size: int, up: bool = False) -> Modulated:
        c = self.config
        layers: list[nn.Module] = [self._residual(inputs, outputs)]
        if size in c.attention:
            layers.append(AttentionBlock(outputs, c.heads_at(outputs, up), c.new_order))
        return Modulated(*layers)

    def forward(
        self,
        x: Float[Tensor, "batch inputs height width"],
        t: Shaped[Tensor, "batch"],
        code: Float[Tensor, "batch code_size"] | None = None,
    ) -> Float[Tensor, "batch outputs height width"]:
        """Args:
            x: noisy pictures, -1..1 and noise, with what else the network sees.
            t: times, 0..999.
            code: global codes.

        Raises:
            HeadlabError: a size that cannot be halved often enough.
        """
        step = 2 ** (len(self.config.multipliers) - 1)
        if x.shape[1] != self.config.inputs or x.shape[2] % step or x.shape[3] % step:
            raise HeadlabError(
                f"this network takes {self.config.inputs} channels of pictures with sides that {step} divides, "
                f"not {tuple(x.shape[1:])}; resize them to {self.config.size} pixels"
            )
        time = self.time_embed(timestep_embedding(t, self.config.channels).to(x.dtype))
        kept, h = [], x
        for block in self.input_blocks:
            h = block(h, time, code)
            kept.append(h)
        h = self.middle_block(h, time, code)
        for block in self.output_blocks:
            h = block(torch.cat([h, kept.pop()], 1), time, code)
        return self.out(h)

    def residuals(self) -> list[ResBlock]:
        """All residual blocks, in order of execution."""
        parts = [self.input_blocks, self.middle_block, self.output_blocks]
        return [module for part in parts for module in part.modules() if isinstance(module, ResBlock)]


def fuse_attention(network: nn.Module, fused: bool = True) -> nn.Module:
    """Compute attention without its matrix of weights (or, for comparison, with it), in place."""
    for module in network.modules():
        if isinstance(module, AttentionBlock):
            module.fused = fused
    return network


def unet_config_of(state: dict[str, tuple[int, ...]]) -> UNetConfig:
    """Sizes of a UNet from its parameters' shapes; heads and dropout are not to be seen in them.

    Raises:
        KeyError, ValueError, IndexError: it is no such UNet.
    """
    count = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("output_blocks."))
    ups = [k for k in range(count) if _grows(state, k)]
    levels = len(ups) + 1
    blocks = count // levels - 1
    first, inputs = state["input_blocks.0.0.weight"][:2]
    nested = "time_embed.time_embed.0.weight" in state
    time, channels = state[f"time_embed.{'time_embed.' * nested}0.weight"]
    widths = [state[f"output_blocks.{level * (blocks + 1)}.0.out_layers.3.weight"][0] for level in range(levels)]
    multipliers = tuple(width // channels for width in reversed(widths))
    code = state.get("input_blocks.1.0.cond_emb_layers.1.weight")
    # The levels with attention are known, not their sizes: published networks have it at 16 pixels.
    attended = [level for level in range(levels) if f"input_blocks.{level * (blocks + 1) + 1}.1.qkv.weight" in state]
    if count != levels * (blocks + 1) or first != multipliers[0] * channels:
        raise ValueError("blocks do not add up")
    size = 16 * 2 ** attended[-1] if attended else 16 * 2**levels
    return UNetConfig(
        size=size,
        inputs=inputs,
        outputs=state["out.2.weight"][0],
        channels=channels,
        multipliers=multipliers,
        blocks=blocks,
        attention=tuple(size >> level for level in attended),
        time=time,
        code=None if code is None else code[1],
        code_shift=code is not None and code[0] == 2 * first,
        residual_resize=not any(name.endswith(".op.weight") for name in state),
        nested_time=nested,
    )


def _grows(state: dict[str, tuple[int, ...]], k: int) -> bool:
    """Whether an output block ends by doubling the size."""
    names = [f"output_blocks.{k}.{i}.{leaf}" for i in (1, 2) for leaf in ("in_layers.0.weight", "conv.weight")]
    return any(name in state for name in names)
