"""DiffAE's latent DPM: an MLP that denoises semantic codes, for sampling people that nobody is.

    h_0 = x;  h = SiLU(LayerNorm((1 + s_t) W [h, x]));  the last layer is linear

The input joins again at layers 1 to 9. `linear_emb` and `cond_layers.1` are one layer under two names, as published.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import silu

from .blocks import timestep_embedding


@dataclass(frozen=True)
class LatentNetConfig:
    """Sizes; the defaults are the released ones."""

    size: int = 512  #: of the code
    hidden: int = 2048
    layers: int = 10
    time: int = 64  #: length of the time's sinusoids


class LatentLayer(nn.Module):
    """Linear, scaled by the time, normalised; or linear alone."""

    def __init__(self, inputs: int, outputs: int, time: int | None):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.cond_layers = None
        if time is not None:
            self.linear_emb = nn.Linear(time, outputs)
            self.cond_layers = nn.Sequential(nn.SiLU(), self.linear_emb)
            self.norm = nn.LayerNorm(outputs)

    def forward(
        self, x: Float[Tensor, "batch inputs"], time: Float[Tensor, "batch time"]
    ) -> Float[Tensor, "batch out"]:
        x = self.linear(x)
        if self.cond_layers is None:
            return x
        return silu(self.norm(x * (1 + self.cond_layers(time))))


class LatentNet(nn.Module):
    """Noisy normalised code and time -> noise."""

    def __init__(self, config: LatentNetConfig | None = None):
        super().__init__()
        self.config = c = config or LatentNetConfig()
        self.time_embed = nn.Sequential(nn.Linear(c.time, c.size), nn.SiLU(), nn.Linear(c.size, c.size))
        inner = [LatentLayer(c.size + c.hidden, c.hidden, c.size) for _ in range(c.layers - 2)]
        last = LatentLayer(c.size + c.hidden, c.size, None)
        self.layers = nn.ModuleList([LatentLayer(c.size, c.hidden, c.size), *inner, last])

    def forward(self, x: Float[Tensor, "batch size"], t: Shaped[Tensor, "batch"]) -> Float[Tensor, "batch size"]:
        time = self.time_embed(timestep_embedding(t, self.config.time).to(x.dtype))
        h = x
        for i, layer in enumerate(self.layers):
            h = layer(torch.cat([h, x], 1) if i else h, time)
        return h


def latent_net_config_of(shapes: dict[str, tuple[int, ...]]) -> LatentNetConfig:
    """Sizes from the parameters' shapes.

    Raises:
        KeyError, ValueError: it is no such network.
    """
    size, time = shapes["time_embed.0.weight"]
    layers = 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("layers."))
    return LatentNetConfig(size, shapes["layers.0.linear.weight"][0], layers, time)
