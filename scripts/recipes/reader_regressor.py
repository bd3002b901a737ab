"""Train a second reader of β and ψ that has nothing in common with the default regressor but its data.

    python -m headlab.scripts.recipes.reader_regressor build/synthetic build/reader.safetensors --minutes 20

A loss that reads identity with one network can be fooled by that network; edits are therefore also judged by this
one, which no training ever sees. It is not shipped. It differs from the default regressor in its trunk (patches, then
plain convolutions without shortcuts, pooled by their largest values), its outputs (β, ψ, 68 landmarks), its losses and
its seed.
"""

import json
import math
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import torch
import tyro
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import silu, smooth_l1_loss

from ...diffusion.identity import face_gram, resized
from ...geometry.errors import HeadlabError
from ...geometry.landmarks.ibug68 import IBUG68
from ...geometry.models.default import load_default_head
from ...geometry.models.head_model import HeadModel
from ...geometry.regress.default_crop import CROP
from ...geometry.regress.default_net import SHAPES
from .averaging import cosine_rate, follow
from .default_regressor import Pictures, save_checkpoint
from .identity_embedder import vary

_WIDTHS = (48, 96, 192, 320)


@dataclass(frozen=True)
class Args:
    """Train the second reader."""

    shards: Annotated[Path, tyro.conf.Positional]
    """Folder of training pictures, two of each person."""
    out: Annotated[Path, tyro.conf.Positional]
    """Checkpoint to write, safetensors."""
    steps: int = 20000
    minutes: float = math.inf
    pairs: int = 32
    """People per step, two pictures each."""
    rate: float = 1.5e-3
    same_face: float = 0.5
    """Weight of the difference between one person's two readings, beside the error of each."""
    seed: int = 77
    device: str = "cpu"
    half: bool = True
    """Run the network in bfloat16."""
    every: int = 200
    """Steps between checkpoints and lines of the log."""


class ReaderNet(nn.Module):
    """Crop -> β, ψ, landmarks."""

    def __init__(self, expressions: int, shapes: int = SHAPES):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, _WIDTHS[0], 6, 4, 1, bias=False), nn.BatchNorm2d(_WIDTHS[0]), nn.SiLU()]
        for before, width in pairwise(_WIDTHS):
            layers += [nn.Conv2d(before, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.SiLU(), nn.MaxPool2d(2)]
        self.trunk = nn.Sequential(*layers)
        self.hidden = nn.Linear(9 * _WIDTHS[-1], 320)
        self.sizes = (shapes, expressions, 2 * len(IBUG68))
        self.out = nn.Linear(320, sum(self.sizes))

    def forward(
        self, crops: Float[Tensor, "batch 3 96 96"]
    ) -> tuple[Float[Tensor, "batch shape"], Float[Tensor, "batch expr"], Float[Tensor, "batch 68 2"]]:
        """β, ψ in 0..1, landmarks in parts of the crop's side."""
        x = silu(self.hidden(self.trunk(crops * 2 - 1).flatten(1)))
        shape, expression, points = self.out(x).float().split(self.sizes, -1)
        return shape, torch.sigmoid(expression - 2), 0.5 + 0.3 * points.unflatten(-1, (-1, 2))


@dataclass(frozen=True)
class SecondReader:
    """A `ShapeReader` that also reads ψ."""

    net: ReaderNet
    gram: Float[Tensor, "shape shape"]

    def shapes(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch shape"]:
        return self.net(resized(pictures, CROP))[0]

    def expressions(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch expr"]:
        return self.net(resized(pictures, CROP))[1]


def load_reader(path: Path, model: HeadModel | None = None) -> SecondReader:
    """Read a checkpoint of this recipe.

    Raises:
        HeadlabError: the file is missing or something else.
    """
    model = model or load_default_head()
    net = ReaderNet(model.expressions)
    try:
        state = load_file(path)
        net.load_state_dict({name: x.float() if x.is_floating_point() else x for name, x in state.items()})
    except Exception as error:
        raise HeadlabError(f"{path} is no checkpoint of reader_regressor ({error}); train one with it") from error
    return SecondReader(net.eval().requires_grad_(False), face_gram(model, SHAPES))


def main(args: Args) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    model = load_default_head()
    pictures = Pictures(args.shards)
    count = pictures.refresh(model)
    gram = face_gram(model, SHAPES).to(args.device)
    face = model.regions["face"] | model.regions["lips"] | model.regions["eyelids"]
    moves = 1000 * model.expression_basis[face]
    moves_gram = (torch.einsum("vce,vcf->ef", moves, moves) / len(moves)).to(args.device)
    net = ReaderNet(model.expressions).to(args.device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=args.rate, weight_decay=0.02)
    average = {name: value.detach().clone() for name, value in net.state_dict().items()}
    start, step, done, sums = time.monotonic(), 0, 0.0, {}
    while done < 1:
        done = max(step / args.steps, (time.monotonic() - start) / 60 / args.minutes)
        for group in optimizer.param_groups:
            group["lr"] = cosine_rate(args.rate, step, done, warmup=200)
        images, want, landmarks = pictures.draw(args.pairs, args.device)
        with torch.autocast(torch.device(args.device).type, torch.bfloat16, enabled=args.half):
            shape, expression, points = net(vary(images, mirror=False).contiguous(memory_format=torch.channels_last))
        wrong, psi = shape - want.shape, expression - want.expression
        partner = shape.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
        targets = landmarks[:, list(IBUG68)] if landmarks.shape[1] == 478 else landmarks
        terms = {
            "shape": 2 * ((wrong @ gram) * wrong).sum(-1).mean(),
            "same_face": args.same_face * (((shape - partner) @ gram) * (shape - partner)).sum(-1).mean(),
            "expression": 0.5 * ((psi @ moves_gram) * psi).sum(-1).mean(),
            "actions": 8 * smooth_l1_loss(expression, want.expression, beta=0.2),
            "landmarks": 50 * (points - targets).abs().mean(),
        }
        optimizer.zero_grad()
        sum(terms.values(), torch.zeros((), device=args.device)).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 20.0)
        optimizer.step()
        step += 1
        follow(average, net, step)
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        if step % args.every == 0 or done >= 1:
            means = {name: round(value / (step % args.every or args.every), 3) for name, value in sums.items()}
            minutes = round((time.monotonic() - start) / 60, 2)
            print(json.dumps({"step": step, "minutes": minutes, "pictures": count, **means}), flush=True)
            sums = {}
            facts = {"steps": step, "pictures": count, "seed": args.seed, "batch": 2 * args.pairs}
            save_checkpoint(args.out, average, facts)
            count = pictures.refresh(model)


if __name__ == "__main__":
    main(tyro.cli(Args))
