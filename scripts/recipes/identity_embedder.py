"""Train the identity embedder on synthetic people: two pictures of one person belong together, all others apart.

    python -m headlab.scripts.recipes.identity_embedder build/synthetic build/identity.safetensors --minutes 8

Shards are those of `default_regressor` (two pictures of each person). The loss is CosFace's margin (Wang et al. 2018)
over the people of a batch in place of a table of classes: for picture i of the first half and picture j of the second,

    L = -log softmax_j (s (cos_ij - m [i = j])),   and the same with rows and columns exchanged.
"""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate

from ...datasets.synthetic import read_shard
from ...geometry.regress.default_crop import CROP
from ...geometry.regress.identity_net import IdentityNet
from .averaging import cosine_rate, follow
from .default_regressor import save_checkpoint


@dataclass(frozen=True)
class Args:
    """Train the identity embedder."""

    shards: Annotated[Path, tyro.conf.Positional]
    """Folder of training pictures, two of each person."""
    out: Annotated[Path, tyro.conf.Positional]
    """Checkpoint to write, safetensors."""
    steps: int = 20000
    minutes: float = math.inf
    pairs: int = 96
    """People per step, two pictures each."""
    rate: float = 2e-3
    scale: float = 20.0
    """s of the loss."""
    margin: float = 0.15
    """m of the loss."""
    held: int = 512
    """People of the last shard that are only tested on."""
    seed: int = 0
    device: str = "cpu"
    half: bool = True
    """Run the network in bfloat16."""
    every: int = 200
    """Steps between checkpoints and lines of the log."""


def main(args: Args) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    paths = sorted(args.shards.glob("synthetic-*.safetensors"))
    images = torch.cat([read_shard(path).images for path in paths])
    images, held = images[: -2 * args.held], images[-2 * args.held :]
    net = IdentityNet().to(args.device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=args.rate, weight_decay=0.02)
    average = {name: value.detach().clone() for name, value in net.state_dict().items()}
    kind = torch.device(args.device).type
    start, step, done, total = time.monotonic(), 0, 0.0, 0.0
    while done < 1:
        done = max(step / args.steps, (time.monotonic() - start) / 60 / args.minutes)
        rate = cosine_rate(args.rate, step, done, warmup=200)
        for group in optimizer.param_groups:
            group["lr"] = rate
        first = 2 * torch.randint(len(images) // 2, (args.pairs,))
        pictures = vary(images[torch.cat([first, first + 1])].to(args.device).float() / 255)
        with torch.autocast(kind, torch.bfloat16, enabled=args.half):
            vectors = net(pictures.contiguous(memory_format=torch.channels_last))
        loss = pair_loss(*vectors.chunk(2), scale=args.scale, margin=args.margin)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        total += float(loss.detach())
        follow(average, net, step)
        if step % args.every == 0 or done >= 1:
            probe = IdentityNet().to(args.device)
            probe.load_state_dict(average)
            row = {
                "step": step,
                "minutes": round((time.monotonic() - start) / 60, 2),
                "loss": round(total / (step % args.every or args.every), 4),
                **{name: round(x, 4) for name, x in verification(probe.eval(), held, args.device).items()},
            }
            print(json.dumps(row), flush=True)
            total = 0.0
            facts = {"steps": step, "pictures": len(images), "seed": args.seed, "batch": 2 * args.pairs}
            save_checkpoint(args.out, average, facts)


def pair_loss(
    a: Float[Tensor, "people dims"], b: Float[Tensor, "people dims"], *, scale: float, margin: float
) -> Float[Tensor, ""]:
    """The loss of this module's docstring; row i of both shows person i."""
    logits = scale * (a @ b.mT - margin * torch.eye(len(a), device=a.device))
    own = torch.arange(len(a), device=a.device)
    return (cross_entropy(logits, own) + cross_entropy(logits.mT, own)) / 2


def vary(pictures: Float[Tensor, "batch 3 side side"], mirror: bool = True) -> Float[Tensor, "batch 3 side side"]:
    """Mirrored, brighter or darker, and as a coarser picture made larger again: the network shall not mind."""
    if mirror:
        flip = torch.rand(len(pictures), 1, 1, 1, device=pictures.device) < 0.5
        pictures = torch.where(flip, pictures.flip(-1), pictures)
    pictures = (pictures * torch.empty_like(pictures[:, :, :1, :1]).uniform_(0.85, 1.15)).clamp(0, 1)
    coarse = int(torch.randint(40, CROP, ()))
    part = pictures[::3]
    small = interpolate(part, size=(coarse, coarse), mode="bilinear", antialias=True)
    pictures = pictures.clone()
    pictures[::3] = interpolate(small, size=(CROP, CROP), mode="bilinear")
    return pictures


@torch.inference_mode()
def verification(
    net: IdentityNet, images: Float[Tensor, "pictures 3 side side"] | Tensor, device: str
) -> dict[str, float]:
    """Pictures 2 k and 2 k + 1 show one person, all others another one: mean cosines and the equal error rate."""
    vectors = torch.cat([net(part.to(device).float() / 255) for part in images.split(128)])
    cosine = (vectors[::2] @ vectors[1::2].mT).cpu()
    same = cosine.diagonal()
    other = cosine[~torch.eye(len(cosine), dtype=torch.bool)]
    marks = torch.linspace(-1, 1, 2001)
    missed = torch.searchsorted(same.sort().values, marks).double() / len(same)
    let_in = 1 - torch.searchsorted(other.sort().values, marks).double() / len(other)
    at = int((missed - let_in).abs().argmin())
    best = cosine.argmax(1) == torch.arange(len(cosine))
    return {
        "same": float(same.mean()),
        "other": float(other.mean()),
        "equal_error": float((missed[at] + let_in[at]) / 2),
        "threshold": float(marks[at]),
        "first_of_all": float(best.double().mean()),
    }


if __name__ == "__main__":
    main(tyro.cli(Args))
