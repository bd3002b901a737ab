"""The identity embedder: a small network from an upright face crop to a unit vector, one per person in all pictures.

Trained on synthetic people only (`identity_weights/README.md`); cosines of its vectors say who is alike. It is no
network of the ArcFace kind, and figures made with it say so.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import HeadlabError
from .default_crop import CROP
from .default_net import Residual

WEIGHTS = Path(__file__).with_name("identity_weights") / "identity_embedder.safetensors"
#: Length of the vectors.
EMBEDDING = 128
_WIDTHS = (24, 48, 96, 128, 144)


class IdentityNet(nn.Module):
    """Crop -> unit vector. Differentiable to pixels; in eval mode every picture is read for itself."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, _WIDTHS[0], 5, 2, 2, bias=False)
        self.stem_norm = nn.BatchNorm2d(_WIDTHS[0])
        self.blocks = nn.Sequential(*(Residual(a, b) for a, b in pairwise(_WIDTHS)))
        self.out = nn.Linear(9 * _WIDTHS[-1], EMBEDDING, bias=False)
        self.out_norm = nn.BatchNorm1d(EMBEDDING)

    def forward(self, crops: Float[Tensor, "batch 3 96 96"]) -> Float[Tensor, "batch dims"]:
        """Read crops (sRGB, 0..1) cut by `UprightSquare`."""
        x = torch.relu(self.stem_norm(self.stem(crops * 2 - 1)))
        x = self.out_norm(self.out(self.blocks(x).flatten(1)).float())
        return torch.nn.functional.normalize(x, dim=-1)


@dataclass(frozen=True)
class IdentityEmbedder:
    """A trained network. Frozen: gradients flow to pixels, not to weights."""

    net: IdentityNet

    def embed(self, crops: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dims"]:
        """Unit vectors of upright face crops (sRGB, 0..1; see `UprightSquare`). Differentiable in the pixels.

        Raises:
            HeadlabError: another size.
        """
        if crops.ndim != 4 or crops.shape[1:] != (3, CROP, CROP):
            raise HeadlabError(
                f"the identity embedder reads crops of shape (n, 3, {CROP}, {CROP}), not {tuple(crops.shape)}; "
                "cut them with UprightSquare"
            )
        return self.net(crops)

    def to(self, device: torch.device | str) -> "IdentityEmbedder":
        """The same network elsewhere; moves it in place."""
        return IdentityEmbedder(self.net.to(device))


@lru_cache(maxsize=2)
def load_identity_embedder(path: Path = WEIGHTS) -> IdentityEmbedder:
    """The embedder that comes with the package, or one trained by `scripts/recipes/identity_embedder.py`.

    Raises:
        HeadlabError: the file is missing or damaged.
    """
    from safetensors.torch import load_file

    net = IdentityNet()
    try:
        state = load_file(path)
        net.load_state_dict({name: x.float() if x.is_floating_point() else x for name, x in state.items()})
    except Exception as error:
        raise HeadlabError(
            f"the identity embedder's weights {path} cannot be read ({error}); install headlab again or train them anew"
        ) from error
    return IdentityEmbedder(net.eval().requires_grad_(False))
