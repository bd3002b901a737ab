"""Train the default regressor on synthetic people.

    python -m headlab.scripts.recipes.default_regressor build/synthetic build/regressor.safetensors --steps 20000

Shards come from `--generate` processes beside the training (or an earlier run) and are used as they appear; the
learning rate falls over the steps or over the minutes, whichever end first. A checkpoint is written every few hundred
steps; after the last one the readout of identity is computed anew (`default_readout`). Runs on CUDA with
`--device cuda`.
"""

import json
import math
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import pad

from ...datasets.synthetic import SyntheticBatch, SyntheticConfig, SyntheticHeads, read_shard, write_shards
from ...geometry.models.default import load_default_head
from ...geometry.regress.default_crop import CROP
from ...geometry.regress.default_decode import numbers_of_heads
from ...geometry.regress.default_net import SHAPES, DefaultNet, HeadNumbers
from ...geometry.regress.default_regressor import probe_head
from .averaging import cosine_rate, follow
from .checkpoint import save_checkpoint as save_checkpoint
from .default_losses import HeadLosses, LossWeights
from .default_readout import fold_readout

#: Pictures are cut up to so many pixels off the middle.
_SHIFT = 5


@dataclass(frozen=True)
class Args:
    """Train the default regressor."""

    shards: Annotated[Path, tyro.conf.Positional]
    """Folder of training pictures, two of each person."""
    out: Annotated[Path, tyro.conf.Positional]
    """Checkpoint to write, safetensors."""
    start: Path | None = None
    """Checkpoint to begin with."""
    steps: int = 20000
    minutes: float = math.inf
    pairs: int = 32
    """People per step, two pictures each."""
    rate: float = 2e-3
    seed: int = 0
    device: str = "cpu"
    half: bool = True
    """Run the network in bfloat16."""
    threads: int = 1
    generate: int = 0
    """Processes that make pictures meanwhile."""
    people: int = 200_000
    """Where generation stops."""
    every: int = 500
    """Steps between checkpoints and lines of the log."""
    steadiness: float = 30.0
    """Of the readout of identity that is computed at the end, see `default_readout`."""
    readout: int = 8192
    """People that it is computed from; 0: left as trained."""
    weights: LossWeights = field(default_factory=LossWeights)


class Pictures:
    """Shards read so far, in memory."""

    def __init__(self, folder: Path):
        self.folder, self.seen = folder, set()
        self.images: list[Tensor] = []
        self.numbers: list[HeadNumbers] = []
        self.landmarks: list[Tensor] = []

    def refresh(self, model) -> int:
        """Read new shards; the number of all pictures."""
        for path in sorted(set(self.folder.glob("synthetic-*.safetensors")) - self.seen):
            batch = read_shard(path)
            self.seen.add(path)
            self.images.append(batch.images)
            self.numbers.append(truth(model, batch))
            self.landmarks.append(batch.landmarks / batch.camera.size[0])
        return sum(map(len, self.images))

    def draw(self, pairs: int, device: str) -> tuple[Tensor, HeadNumbers, Tensor]:
        """Random people, two pictures each, from a few random shards."""
        images, numbers, landmarks = [], [], []
        for part in torch.randint(len(self.images), (4,)).tolist():
            first = 2 * torch.randint(len(self.images[part]) // 2, (pairs // 4,))
            index = torch.stack([first, first + 1], 1).reshape(-1)
            images.append(self.images[part][index])
            numbers.append(self.numbers[part][index])
            landmarks.append(self.landmarks[part][index])
        names = vars(numbers[0])
        joined = HeadNumbers(**{n: torch.cat([getattr(v, n) for v in numbers]).to(device) for n in names})
        return torch.cat(images).to(device).float() / 255, joined, torch.cat(landmarks).to(device)


def disturbed(
    images: Float[Tensor, "n 3 side side"], numbers: HeadNumbers, landmarks: Float[Tensor, "n points 2"]
) -> tuple[Float[Tensor, "n 3 side side"], HeadNumbers, Float[Tensor, "n points 2"]]:
    """Pictures of other exposure and contrast, cut a few pixels off; landmarks in parts of the side."""
    count, side = len(images), images.shape[-1]
    one = (count, 1, 1, 1)
    images = (images * torch.empty(one, device=images.device).uniform_(0.75, 1.25)).clamp(1e-4, 1)
    images = images ** torch.empty(one, device=images.device).uniform_(0.85, 1.18)
    framed = pad(images, (_SHIFT,) * 4, mode="replicate")
    moves = torch.randint(-_SHIFT, _SHIFT + 1, (4, 2))  # each for a quarter of the pictures: cutting stays cheap
    part = -(-count // 4)
    cut = [
        framed[k * part : (k + 1) * part, :, _SHIFT - y : _SHIFT - y + side, _SHIFT - x : _SHIFT - x + side]
        for k, (x, y) in enumerate(moves.tolist())
    ]
    moved = (moves.to(images) / side).repeat_interleave(part, 0)[:count]
    return torch.cat(cut), replace(numbers, offset=numbers.offset + moved), landmarks + moved[:, None]


def truth(model, batch: SyntheticBatch) -> HeadNumbers:
    """What the network should say."""
    return numbers_of_heads(model, batch.codes, batch.camera, SHAPES)


def generate(folder: Path, seed: int, part: int, parts: int, people: int) -> None:
    """One generator process: every parts-th shard of 512 people."""
    torch.set_num_threads(1)
    config = SyntheticConfig(size=CROP, seed=seed, pictures_per_person=2, maps=False)
    heads = SyntheticHeads(load_default_head(), config)
    for _ in write_shards(heads, folder, range(part, people // 512, parts), batch=32):
        pass


def main(args: Args) -> None:
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = load_default_head()
    helpers = [_helper(args, part) for part in range(args.generate)]
    try:
        _train(args, model)
    finally:
        for helper in helpers:
            helper.terminate()
    if args.readout:
        fold_readout(args.out, args.out, args.shards / "readout", args.seed + 2, args.readout, args.steadiness)


def _train(args: Args, model) -> None:
    pictures = Pictures(args.shards)
    while not pictures.refresh(model):
        time.sleep(5)
    light = torch.cat([numbers.light for numbers in pictures.numbers])
    net = DefaultNet(model.expressions, pictures.numbers[0].albedo.shape[-1])
    net.light_mean.copy_(light.mean(0))
    net.light_std.copy_(light.std(0))
    if args.start is not None:
        state = {
            name: value.float() if value.is_floating_point() else value for name, value in load_file(args.start).items()
        }
        state.pop("probe", None)
        net.load_state_dict(state)
    net = net.to(args.device)
    losses = HeadLosses(model, SHAPES, net.light_std, args.weights).to(args.device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=args.rate, weight_decay=0.02)
    average = {name: value.detach().clone() for name, value in net.state_dict().items()}
    start, sums = time.monotonic(), {}
    step = count = done = 0
    while done < 1:
        done = max(step / args.steps, (time.monotonic() - start) / 60 / args.minutes)
        rate = cosine_rate(args.rate, step, done, warmup=300)
        for group in optimizer.param_groups:
            group["lr"] = rate
        if step % 50 == 0:
            count = pictures.refresh(model)
        images, want, landmarks = pictures.draw(args.pairs, args.device)
        images, want, landmarks = disturbed(images, want, landmarks)
        with torch.autocast(torch.device(args.device).type, torch.bfloat16, enabled=args.half):
            features, found = net.features_and_points(images.contiguous(memory_format=torch.channels_last))
            got = net.numbers(features)
        terms = losses(got, want, landmarks, found)
        loss = sum(terms.values(), torch.zeros((), device=args.device))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 20.0)
        optimizer.step()
        step += 1
        follow(average, net, step)
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        if step % args.every == 0 or done >= 1:
            means = {name: round(value / (step % args.every or args.every), 3) for name, value in sums.items()}
            row = {"step": step, "minutes": (time.monotonic() - start) / 60, "pictures": count, **means}
            print(json.dumps(row), flush=True)
            sums = {}
            facts = {"steps": step, "pictures": count, "seed": args.seed, "batch": 2 * args.pairs}
            save_checkpoint(args.out, average | {"probe": probe_head(model)}, facts)


def _helper(args: Args, part: int) -> subprocess.Popen:
    call = (
        f"from pathlib import Path; from {__package__}.default_regressor import generate; "
        f"generate(Path({str(args.shards)!r}), {args.seed + 1}, {part}, {args.generate}, {args.people})"
    )
    return subprocess.Popen([sys.executable, "-c", call])


if __name__ == "__main__":
    main(tyro.cli(Args))
