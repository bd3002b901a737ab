"""How a local ensemble is laid out: anchors, mirrored pairs, weight sets, and the parts of an identity latent."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class EnsembleLayout:
    """Numbers of NPHM's ensemble (Giebenhain et al., "Learning Neural Parametric Head Models", 2023, section 3.1).

    The first 2 · pairs anchors are mirror images of each other, (0, 1), (2, 3) and so on, the even one on the
    subject's right (x < 0); the others lie on the mid plane. One more member, the last, has no anchor: the background.
    Both members of a pair share one set of weights; the odd one sees mirrored coordinates.
    """

    anchors: int = 39
    pairs: int = 16
    latent_global: int = 64
    latent_local: int = 32

    @property
    def members(self) -> int:
        return self.anchors + 1

    @property
    def sets(self) -> int:
        """Sets of weights."""
        return self.members - self.pairs

    @property
    def latent(self) -> int:
        """Length of an identity latent: the global part, then each member's own in order."""
        return self.latent_global + self.members * self.latent_local

    def set_of_member(self) -> Int[Tensor, "members"]:
        """Which weights each member uses."""
        member = torch.arange(self.members)
        return torch.where(member < 2 * self.pairs, member // 2, member - self.pairs)

    def mirrored(self) -> Bool[Tensor, "members"]:
        """Members that see x with its sign turned."""
        member = torch.arange(self.members)
        return (member < 2 * self.pairs) & (member % 2 == 1)

    def split(
        self, latent: Float[Tensor, "*batch latent"]
    ) -> tuple[Float[Tensor, "*batch glob"], Float[Tensor, "*batch members loc"]]:
        """The global part and the members' own parts of a latent.

        Raises:
            ValueError: the latent has another length.
        """
        if latent.shape[-1] != self.latent:
            raise ValueError(f"an identity latent has {self.latent} numbers here, not {latent.shape[-1]}")
        own = latent[..., self.latent_global :].unflatten(-1, (self.members, self.latent_local))
        return latent[..., : self.latent_global], own
