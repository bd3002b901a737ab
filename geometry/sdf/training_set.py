"""What fields are trained on, wherever it comes from: heads in their canonical expression, and how each is posed.

Sources make it: `model_heads.py` from any morphable model, `datasets/nphm.py` from a folder of registered scans.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import HeadlabError
from .anchors import FieldFrame
from .sampling import Correspondences, SurfaceSamples


@dataclass(frozen=True)
class PoseSamples:
    """One head in one expression."""

    head: int  #: which of the heads
    name: str
    points: Correspondences


@dataclass(frozen=True)
class TrainingSet:
    """Heads and their poses, in the fields' frame and unit."""

    heads: tuple[SurfaceSamples, ...]
    names: tuple[str, ...]  #: of the heads
    poses: tuple[PoseSamples, ...]
    frame: FieldFrame
    canonical: Mapping[str, float] = field(default_factory=dict)  #: expression weights of the canonical head
    source: str = ""

    def check(self) -> None:
        """Raises:
        HeadlabError: there are no heads, some are empty, their anchors differ in number, or a pose has no head.
        """
        if not self.heads:
            raise HeadlabError("there are no heads to train on; give the samples of at least one")
        wanted = tuple(self.heads[0].anchors.shape)
        for name, head in zip(self.names, self.heads, strict=True):
            if tuple(head.anchors.shape) != wanted or min(len(head.face), len(head.rest)) == 0:
                raise HeadlabError(
                    f"head {name} has anchors {tuple(head.anchors.shape)}, {len(head.face)} points of the face and "
                    f"{len(head.rest)} others; {wanted} and some of both are needed"
                )
        for pose in self.poses:
            if not 0 <= pose.head < len(self.heads) or len(pose.points.neutral) == 0:
                raise HeadlabError(f"expression {pose.name} has no points or belongs to no head; make the set again")

    def mean_anchors(self) -> Float[Tensor, "anchors 3"]:
        """Where anchors lie on average: what an identity field starts from."""
        return torch.stack([head.anchors for head in self.heads]).mean(0)
