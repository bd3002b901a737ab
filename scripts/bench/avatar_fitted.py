"""Capture and expression -> edited RGB-D -> fitted head, as `headlab transfer` does it, on people held out.

    python -m headlab.scripts.bench.avatar_fitted build/avatar.json

The captures are synthetic selfies of 256 pixels with a depth sensor's noise and holes. Nothing is known of the head but
what the fit to colour and depth finds; the wanted expression is the true ψ of the other picture. Results are added to
those of `scripts/bench/avatar.py` under "fitted".
"""

import json
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from ...datasets.synthetic.pairs import EditPairBatch, depth_of
from .edit import HELD_OUT, mean_of, psnr

#: A copy has no head, and the capture's β.
NOTHING = {"head_mm": float("nan"), "beta_drift_mm": 0.0}


@dataclass(frozen=True)
class Args:
    """Measure the avatar command."""

    out: Annotated[Path, tyro.conf.Positional]
    """JSON file to add to."""
    people: int = 12
    """Held-out people; those whose face is not found are counted."""
    size: int = 256
    """Side of the captures, pixels."""
    pictures: Path | None = None
    """PNG of some: capture, results, truth."""


def main(args: Args) -> dict[str, Any]:
    from ...datasets.synthetic.pairs import EditPairs, PairConfig
    from ...diffusion.bundle import load_default_diffusion
    from ...geometry.errors import HeadlabError
    from ...geometry.files import write_json, write_png
    from ...geometry.landmarks import open_detector
    from ...geometry.models.default import load_default_head
    from ...heads.avatar import edit_capture
    from ...heads.fit import FitTools
    from ...heads.selfie_crops import fit_selfie
    from ...heads.transfer import Source, TransferConfig, transferred_code

    torch.set_num_threads(1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    model = load_default_head()
    generator = EditPairs(model, PairConfig(size=args.size, supersampling=1, seed=HELD_OUT))
    tools = FitTools.build("default", model, 512)
    rows: dict[str, list[dict[str, float]]] = {}
    failed, columns, began = [], [], time.process_time()
    with open_detector("solutions") as detector:
        for k in range(args.people):
            pairs = generator.batch([2 * k])  # one pair of each person
            truth, depth = pairs.images[0, 1].float() / 255, true_depth(pairs, 1)
            try:
                target = fit_selfie(tools, selfie(pairs), 0, detector)
                source = Source("other", pairs.codes.expression[0, 1])
                code = transferred_code(model, source, target, TransferConfig(eyes=False))
                made = {
                    name: edit_capture(model, diffusion, target, code, source, detector)
                    for name, diffusion in (("mesh", None), ("diffusion", load_default_diffusion()))
                }
            except HeadlabError as error:
                failed.append(f"{k}: {error}")
                continue
            seen = target.frame.depth
            assert seen is not None
            mask = pairs.mask[0, 1] > 127
            rows.setdefault("copy", []).append(score(target.frame.image, seen, truth, depth, mask) | NOTHING)
            for name, avatar in made.items():
                row = score(avatar.image, avatar.depth, truth, depth, mask)
                true = model.vertices(pairs.codes[0, 1])[model.regions["face"]]
                own = model.vertices(avatar.fit.code)[model.regions["face"]]
                row |= {
                    "head_mm": 1000 * float((own - true).norm(dim=-1).mean()),
                    "beta_drift_mm": avatar.beta_drift_mm,
                }
                rows.setdefault(name, []).append(row)
            if len(columns) < 6:
                shown = [target.frame.image, made["mesh"].image, made["diffusion"].image, truth]
                columns.append(torch.cat(shown, -2))
    told = {
        "people": args.people,
        "failed": failed,
        "size": args.size,
        "editors": {name: mean_of(each) for name, each in rows.items()},
        "cpu_s": time.process_time() - began,
        "load": os.getloadavg()[0],
    }
    result: dict[str, Any] = json.loads(args.out.read_text()) if args.out.is_file() else {}
    write_json(args.out, result | {"fitted": told})
    print(json.dumps(told, indent=1), file=sys.stderr)
    if args.pictures is not None and columns:
        write_png(args.pictures, torch.cat(columns, -1))
    return told


def true_depth(pairs: EditPairBatch, face: int) -> Float[Tensor, "height width"]:
    """Metres, 0 = none."""
    return depth_of(pairs.surface[0, face].float(), pairs.distance[0], 0.001)


def selfie(pairs: EditPairBatch):
    """The first picture as a capture of one frame."""
    from ...datasets.rgbd_selfie import SelfiePerson
    from ...datasets.rgbd_sequence import RgbdSequence
    from ...datasets.synthetic.depth_noise import sensor_depth
    from ...geometry.frame import Frame

    rng = np.random.default_rng([HELD_OUT, int(pairs.index[0])])
    depth = torch.from_numpy(sensor_depth(true_depth(pairs, 0).numpy(), rng))
    camera = replace(pairs.camera, K=pairs.camera.K[0], R=pairs.camera.R[0], t=pairs.camera.t[0])
    frame = Frame(pairs.images[0, 0].float() / 255, depth=depth, camera=camera, source=Path("0001_color.png"))
    return SelfiePerson("synthetic", RgbdSequence(Path("synthetic"), ("0001_color.png",), lambda _: frame, camera), {})


def score(
    image: Float[Tensor, "3 height width"],
    depth: Float[Tensor, "height width"],
    truth: Float[Tensor, "3 height width"],
    right: Float[Tensor, "height width"],
    mask: Tensor,
) -> dict[str, float]:
    """Colour and depth against the truth."""
    from skimage.metrics import structural_similarity

    error = (image - truth).square().mean(0)
    similar = structural_similarity(
        image.permute(1, 2, 0).numpy(), truth.permute(1, 2, 0).numpy(), channel_axis=-1, data_range=1.0
    )
    head = mask & (right > 0)
    known = head & (depth > 0)
    off = (depth - right)[known]
    return {
        "psnr": psnr(error.mean()),
        "psnr_head": psnr(error[mask].mean()),
        "ssim": float(np.asarray(similar)),
        "depth_abs_rel": float((off.abs() / right[known]).mean()),
        "depth_rmse_mm": 1000 * float(off.square().mean().sqrt()),
        "depth_coverage": float(known.sum() / head.sum()),
    }


if __name__ == "__main__":
    main(tyro.cli(Args))
