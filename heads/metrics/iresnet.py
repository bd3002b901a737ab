"""IResNet, the trunk of ArcFace and CR-FIQA under their authors' key names; weights by the user.

CR-FIQA (Boutros et al. 2023) puts one linear layer on the embedding: how well the picture would do in recognition.
Faces of 112 pixels on the five-point template, RGB -1..1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn

from ...diffusion.upstream.iresnet import DEPTHS, IResNet
from ...geometry.errors import HeadlabError
from .faces import Portrait
from .networks import NetworkCard, digest, read_state


@dataclass(frozen=True)
class QualityNet:
    """Faces -> embedding of 512, and a quality where the weights have that layer."""

    trunk: IResNet
    qs: nn.Linear | None

    def __call__(
        self, faces: Float[Tensor, "batch 3 112 112"]
    ) -> tuple[Float[Tensor, "batch 512"], Float[Tensor, "batch"] | None]:
        vectors = self.trunk(faces)
        return vectors, None if self.qs is None else self.qs(vectors)[:, 0]


def iresnet_from(state: dict[str, Tensor]) -> QualityNet:
    """Build the network a state dict belongs to: its depth and whether it tells quality are read off the keys.

    Raises:
        HeadlabError: no IResNet, or keys are missing; all are named.
    """
    state = {name.removeprefix("module."): value for name, value in state.items()}
    blocks = tuple(
        1 + max([int(n.split(".")[1]) for n in state if n.startswith(f"layer{i}.")] or [-1]) for i in range(1, 5)
    )
    depth = next((depth for depth, known in DEPTHS.items() if known == blocks), None)
    if depth is None or "features.weight" not in state:
        raise HeadlabError("this is no IResNet (ArcFace's or CR-FIQA's backbone of 18, 34, 50 or 100 layers)")
    trunk, qs = IResNet(depth), nn.Linear(512, 1) if "qs.weight" in state else None
    wanted = trunk.state_dict() | ({} if qs is None else {f"qs.{n}": v for n, v in qs.state_dict().items()})
    missing = [n for n in wanted if n not in state and not n.endswith("num_batches_tracked")]
    if missing:
        raise HeadlabError(f"the IResNet's weights lack {', '.join(missing)}; get the file again")
    trunk.load_state_dict({n: state.get(n, v) for n, v in trunk.state_dict().items()})
    if qs is not None:
        qs.load_state_dict({n: state[f"qs.{n}"] for n in qs.state_dict()})
        qs.requires_grad_(False)
    return QualityNet(trunk.eval().requires_grad_(False), qs)


@dataclass(frozen=True)
class IResNetIdentity:
    """Embeddings, and qualities where there are any."""

    net: QualityNet
    card: NetworkCard
    needs_face: bool = True

    @classmethod
    def load(cls, path: Path) -> "IResNetIdentity":
        net = iresnet_from(read_state(path))
        return cls(net, NetworkCard(path.stem, digest(path), "five-point template, 112 px, RGB -1..1"))

    def features(self, portraits: Sequence[Portrait]) -> Float[ndarray, "n 512"]:
        return self._run(portraits)[0]

    def quality(self, portraits: Sequence[Portrait]) -> Float[ndarray, "n"]:
        """CR-FIQA's score per face; higher is better, no fixed range.

        Raises:
            HeadlabError: the weights are a recognition network's alone.
        """
        quality = self._run(portraits)[1]
        if quality is None:
            raise HeadlabError(f"{self.card.name} tells no quality (no layer qs); add CR-FIQA's weights")
        return quality

    def _run(self, portraits: Sequence[Portrait]) -> tuple[ndarray, ndarray | None]:
        from ...datasets.aligned_crop import aligned_crop

        with torch.inference_mode():
            out = [self.net(2 * aligned_crop(p.image, p.points)[None] - 1) for p in portraits]
        quality = None if self.net.qs is None else np.concatenate([q.numpy() for _, q in out if q is not None])
        return np.concatenate([v.numpy() for v, _ in out]), quality
