"""A steadier identity for a trained default regressor: its last linear map of β, anew and in closed form.

    python -m headlab.scripts.recipes.default_readout build/regressor.safetensors build/steady.safetensors

Over pictures of people that the network was not trained on, the map M from features f to β minimises

    E |M f - β|²   while   E |M (f - person's mean)|²  is at most a given part of  E |M (person's mean - mean of all)|²

(Wiener's filter, held to a value of Fisher's criterion). With S the features' covariance, W that within one person and
C that of β and features, the minimum is M = a C (S + steadiness W)⁻¹ for some steadiness, the same for every metric of
faces: directions of β are shrunk the more, the more of what is read there changes with expression, pose and light.
Criterion and shrinking do not depend on the amplitude a, so it is what makes the first term least. Features are the
means of a crop's and its mirror image's, as `DefaultRegressor` reads them.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from ...datasets.synthetic import SyntheticConfig, SyntheticHeads, read_shard, write_shards
from ...geometry.models.default import load_default_head
from ...geometry.models.head_model import HeadModel
from ...geometry.regress.default_crop import CROP
from ...geometry.regress.default_net import SHAPES, DefaultNet
from ...geometry.regress.default_regressor import load_default_regressor
from .checkpoint import save_checkpoint
from .default_losses import HeadLosses, LossWeights

#: Weights that `--steadiness` is chosen from.
STEADINESSES = (0.0, 1.0, 3.0, 5.0, 10.0, 30.0, 100.0)


@dataclass(frozen=True)
class Args:
    """Compute the readout of identity anew."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Of `default_regressor`."""
    out: Annotated[Path, tyro.conf.Positional]
    """Checkpoint to write; may be the same."""
    steadiness: float = 30.0
    """How much what changes within one person is shrunk."""
    people: int = 8192
    """Two pictures each, made where missing."""
    pictures: Path = Path("build/readout")
    """Folder for them."""
    seed: int = 2
    """Of these people; other than training's."""


@dataclass(frozen=True)
class Moments:
    """What pictures say about features f and β: all that the closed form needs. In double precision."""

    feature: Float[Tensor, "f"]  #: mean
    shape: Float[Tensor, "s"]  #: mean
    total: Float[Tensor, "f f"]  #: covariance of f
    within: Float[Tensor, "f f"]  #: covariance of f about each person's own mean, unbiased
    cross: Float[Tensor, "s f"]  #: covariance of β and f

    @classmethod
    def of(cls, features: Float[Tensor, "people pictures f"], shape: Float[Tensor, "people s"]) -> "Moments":
        """Two or more pictures of each person."""
        features, shape = features.double(), shape.double()
        people, pictures, _ = features.shape
        own = features.mean(1)
        mean, shape_mean = own.mean(0), shape.mean(0)
        spread = (features - own[:, None]).flatten(0, 1)
        moved = (features - mean).flatten(0, 1)
        return cls(
            mean,
            shape_mean,
            moved.mT @ moved / len(moved),
            spread.mT @ spread / (people * (pictures - 1)),
            (shape - shape_mean).mT @ (own - mean) / people,
        )

    def readout(
        self, steadiness: float, metric: Float[Tensor, "s s"], ridge: float = 1e-3
    ) -> tuple[Float[Tensor, "s f"], Float[Tensor, "s"]]:
        """The best linear map and its offset, β = M f + b.

        Args:
            steadiness: see the top of this file.
            metric: Gram matrix of β in which the error is measured.
            ridge: added to the features' covariance, relative to their mean variance; keeps M small enough for half
                precision where features are nearly dependent.
        """
        matrix = self.total + steadiness * self.within
        matrix = matrix + ridge * self.total.diagonal().mean() * torch.eye(len(matrix), dtype=matrix.dtype)
        map_ = torch.linalg.solve(matrix, self.cross.mT).mT
        weighted = metric.double() @ map_
        map_ = map_ * ((weighted * self.cross).sum() / (weighted * (map_ @ self.total)).sum())
        return map_, self.shape - map_ @ self.feature


def features_of(net: DefaultNet, images: Float[Tensor, "n 3 96 96"]) -> Float[Tensor, "n f"]:
    """Means of crops' features and their mirror images'."""
    with torch.inference_mode():
        both = net.features(torch.cat([images, images.flip(-1)]).contiguous(memory_format=torch.channels_last))
    return both.unflatten(0, (2, -1)).mean(0)


def read_people(net: DefaultNet, shards: list[Path]) -> tuple[Float[Tensor, "people 2 f"], Float[Tensor, "people s"]]:
    """Features of two pictures of each person, and the person's leading β."""
    features, shapes = [], []
    for path in shards:
        batch = read_shard(path)
        features += [features_of(net, part.float() / 255) for part in batch.images.split(128)]
        shapes.append(batch.codes.shape[::2, :SHAPES])
    return torch.cat(features).unflatten(0, (-1, 2)), torch.cat(shapes)


def folded(state: dict[str, Tensor], map_: Float[Tensor, "s f"], offset: Float[Tensor, "s"]) -> dict[str, Tensor]:
    """Weights whose rows of β are these."""
    weight, bias = state["out.weight"].clone(), state["out.bias"].clone()
    weight[: len(map_)], bias[: len(map_)] = map_.to(weight), offset.to(bias)
    return state | {"out.weight": weight, "out.bias": bias}


def fold_readout(checkpoint: Path, out: Path, pictures: Path, seed: int, people: int, steadiness: float) -> None:
    """Read a checkpoint, compute its readout and write it; arguments as in `Args`."""
    model = load_default_head()
    net = load_default_regressor(checkpoint).net
    features, shape = read_people(net, make_people(model, pictures, seed, people))
    map_, offset = Moments.of(features, shape).readout(steadiness, face_metric(model))
    with safe_open(checkpoint, "pt") as file:
        facts = dict(file.metadata() or {})
    facts |= {"steadiness": f"{steadiness:g}", "readout_people": str(len(features))}
    save_checkpoint(out, folded(load_file(checkpoint), map_, offset), facts)
    print(json.dumps({"readout": str(out), **facts}), flush=True)


def face_metric(model: HeadModel) -> Float[Tensor, "s s"]:
    """β -> mean squared distance of the face's vertices, mm², size and place held down."""
    return HeadLosses(model, SHAPES, torch.ones(9, 3), LossWeights()).shape_gram


def make_people(model: HeadModel, folder: Path, seed: int, people: int) -> list[Path]:
    """Shards of 512 people with two pictures each, at least one."""
    heads = SyntheticHeads(model, SyntheticConfig(size=CROP, seed=seed, pictures_per_person=2, maps=False))
    return list(write_shards(heads, folder, range(max(1, people // 512)), batch=32))


def main(args: Args) -> None:
    torch.set_num_threads(1)
    fold_readout(args.checkpoint, args.out, args.pictures, args.seed, args.people, args.steadiness)


if __name__ == "__main__":
    main(tyro.cli(Args))
