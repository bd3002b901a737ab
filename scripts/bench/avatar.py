"""The RGB-D avatar mode on people held out: the edited capture against the true one, next to copying the input.

    python -m headlab.scripts.bench.avatar build/avatar.json

Each synthetic selfie is one person before one camera with two faces. The first, with the noise, steps and holes of a
depth sensor, is the capture; colour and depth of the second are the truth. In the avatar mode the denoiser starts from
fresh noise and is shown the capture's latent; the expression is told as maps of the head, as ψ or as a category.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from ...datasets.synthetic.pairs import EditPairBatch, depth_of, nearness
from .edit import HELD_OUT, mean_of, psnr


@dataclass(frozen=True)
class Args:
    """Measure the avatar mode."""

    out: Annotated[Path, tyro.conf.Positional]
    """JSON file to write."""
    model: Path | None = None
    """Diffusion model; by default the one that comes with headlab."""
    pairs: int = 64
    """Held-out selfies."""
    steps: int = 20
    pictures: Path | None = None
    """PNG of some: capture, avatar and truth, colour and depth."""


@torch.no_grad()
def main(args: Args) -> dict[str, Any]:
    from ...datasets.synthetic.pairs import EditPairs, PairConfig
    from ...diffusion.identity import load_shape_reader
    from ...geometry.files import write_json
    from ...geometry.models.default import load_default_head
    from ...heads.transfer_renderer import load_editor

    torch.set_num_threads(1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    began = time.process_time()
    editor = load_editor(args.model)
    diffusion = editor.diffusion
    generator = EditPairs(load_default_head(), PairConfig(size=diffusion.config.denoiser.size, seed=HELD_OUT))
    reader = load_shape_reader()
    rows: dict[str, list[dict[str, float]]] = {}
    for start in range(0, args.pairs, 16):
        pairs = generator.batch(range(start, min(start + 16, args.pairs)))
        capture = captured(pairs)
        truth = pairs.pictures()[:, 1] * 2 - 1
        made = {name: make() for name, make in editors(args, diffusion, pairs, capture, truth).items()}
        for name, pictures in {**made, "truth": truth}.items():
            rows.setdefault(name, []).extend(scores(pictures, truth, capture, pairs, reader))
        if start == 0 and args.pictures is not None:
            write_sheet(args.pictures, [capture, made["avatar"], truth])
    result = {
        "model": editor.name,
        "steps": args.steps,
        "pairs": args.pairs,
        "editors": {name: mean_of(each) for name, each in rows.items()},
        "cpu_s": time.process_time() - began,
        "load": os.getloadavg()[0],
    }
    write_json(args.out, result)
    print(json.dumps(result, indent=1), file=sys.stderr)
    return result


def captured(pairs: EditPairBatch) -> Float[Tensor, "batch 4 height width"]:
    """The first faces as a sensor tells them, holes filled, -1..1."""
    from ...datasets.synthetic.depth_noise import sensor_depth
    from ...heads.capture_depth import filled_nearness

    true = pairs.surface[:, 0].float()
    depth = depth_of(true, pairs.distance, 0.001)
    out = []
    for i in range(len(pairs)):
        rng = np.random.default_rng([HELD_OUT, int(pairs.index[i])])
        seen = torch.from_numpy(sensor_depth(depth[i].numpy(), rng))
        out.append(filled_nearness(nearness(seen, pairs.distance[i]), pairs.head[i, 0].float()))
    return torch.cat([pairs.images[:, 0].float() / 255, torch.stack(out)[:, None]], 1) * 2 - 1


def editors(
    args: Args, diffusion, pairs: EditPairBatch, capture: Tensor, truth: Tensor
) -> dict[str, Callable[[], Tensor]]:
    """By name; each makes the edited captures, -1..1."""
    from ...diffusion.edit import EditConfig, edit, reconstructed
    from ...diffusion.training_latents import PairLatents, encode_pairs

    data = PairLatents(pairs, encode_pairs(diffusion.vae, pairs, torch.zeros(len(pairs), dtype=torch.bool)))
    wanted = data.load(2 * torch.arange(len(pairs)) + 1).given
    before = replace(data.load(2 * torch.arange(len(pairs))).given, emotion=None, valence_arousal=None)
    avatar = EditConfig(steps=args.steps, start="noise", capture=True)

    def by(given, config: EditConfig = avatar) -> Callable[[], Tensor]:
        return lambda: edit(diffusion, capture, given, config, before)

    made: list[Tensor] = []

    def moved() -> Tensor:
        """Colours of the network; depth as measured, moved as the heads' surfaces are known to (true codes)."""
        from ...heads.capture_depth import moved_depth

        out = made[0].clone()
        head = [depth_of(pairs.head[:, k].float(), pairs.distance) for k in (0, 1)]
        seen = depth_of(capture[:, 3] / 2 + 0.5, pairs.distance)
        depth = torch.stack([moved_depth(*maps) for maps in zip(seen, *head, strict=True)])
        out[:, 3] = nearness(depth, pairs.distance) * 2 - 1
        return out

    def first() -> Tensor:
        made.append(by(wanted)())
        return made[0]

    return {
        "avatar": first,
        "avatar, depth moved with the head": moved,
        "avatar, nothing restored": by(wanted, replace(avatar, restore=False)),
        "avatar, dpm++ 10 steps": by(wanted, replace(avatar, method="dpm++", steps=10)),
        "avatar, maps alone": by(wanted.without("expression", "emotion", "valence_arousal")),
        "avatar, ψ alone": by(wanted.without("maps", "emotion", "valence_arousal")),
        "avatar, category alone": by(wanted.without("maps", "expression", "valence_arousal")),
        "capture's latent not shown": by(wanted, replace(avatar, capture=False)),
        "inversion": by(wanted, EditConfig(steps=args.steps)),
        "copy": lambda: capture,
        "autoencoder of the truth": lambda: reconstructed(diffusion, truth),
    }


def scores(
    pictures: Float[Tensor, "batch 4 height width"],
    truth: Float[Tensor, "batch 4 height width"],
    capture: Float[Tensor, "batch 4 height width"],
    pairs: EditPairBatch,
    reader: Any,
) -> list[dict[str, float]]:
    """Colour and depth against the truth, and how far β, as the regressor reads it, has moved from the capture's."""
    from skimage.metrics import structural_similarity

    colour, true, source = (x[:, :3].clamp(-1, 1) / 2 + 0.5 for x in (pictures, truth, capture))
    shapes = [reader.shapes(x) for x in (colour, source)]
    made, right = (depth_of(x[:, 3] / 2 + 0.5, pairs.distance) for x in (pictures, truth))
    face = pairs.mask[:, 1].float() / 255
    rows = []
    for i in range(len(pictures)):
        error = (colour[i] - true[i]).square().mean(0)
        similar = structural_similarity(
            colour[i].permute(1, 2, 0).numpy(), true[i].permute(1, 2, 0).numpy(), channel_axis=-1, data_range=1.0
        )
        drift = shapes[0][i] - shapes[1][i]
        head = (face[i] > 0.5) & (right[i] > 0)
        known = head & (made[i] > 0)
        off = (made[i] - right[i])[known]
        rows.append(
            {
                "psnr": psnr(error.mean()),
                "psnr_head": psnr((error * face[i]).sum() / face[i].sum()),
                "ssim": float(np.asarray(similar)),
                "depth_abs_rel": float((off.abs() / right[i][known]).mean()),
                "depth_rmse_mm": 1000 * float(off.square().mean().sqrt()),
                "depth_median_mm": 1000 * float(off.abs().median()),
                "depth_coverage": float(known.sum() / head.sum()),
                "beta_drift_mm": float((drift @ reader.gram @ drift).clamp(min=0).sqrt()),
            }
        )
    return rows


def write_sheet(path: Path, pictures: list[Tensor], people: int = 10) -> None:
    """Colour and depth in rows, twice enlarged."""
    from torch.nn.functional import interpolate

    from ...geometry.files import write_png

    rows = []
    for batch in pictures:
        picture = batch[:people] / 2 + 0.5
        rows += [picture[:, :3], picture[:, 3:].expand(-1, 3, -1, -1)]
    sheet = torch.cat([torch.cat(list(row), -1) for row in rows], -2).clamp(0, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, interpolate(sheet[None], scale_factor=2, mode="nearest")[0])


if __name__ == "__main__":
    main(tyro.cli(Args))
