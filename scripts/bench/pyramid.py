"""Regional pyramid bases: numbers fitted to a small texture draw a large one of people held out, colours and normals.

    python -m headlab.scripts.bench.pyramid build/pyramid.json --sizes 512 2048

Samples: random colours of the default albedo model, with pores drawn at the highest resolution, stronger in some people
than in others, and the normals of these pores, which no small texture shows.
"""

import json
import os
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate


@dataclass(frozen=True)
class Args:
    """Measure texture pyramids."""

    out: Annotated[Path, tyro.conf.Positional]
    """JSON file to write."""
    sizes: tuple[int, ...] = (512, 2048)
    """Of the levels, pixels."""
    samples: int = 24
    held_out: int = 4
    pictures: Path | None = None
    """PNG of some: truth, drawn from numbers, mean."""


def main(args: Args) -> dict[str, Any]:
    from ...datasets.synthetic.textures import synthetic_textures
    from ...geometry.files import write_json, write_png
    from ...geometry.models.default import load_default_head
    from ...geometry.texture.pyramid import build_pyramid
    from ...geometry.texture.pyramid_fit import fit_pyramid
    from ...geometry.texture.unwrap import Unwrapped
    from ...geometry.texture.uv_raster import rasterize_uv

    torch.set_num_threads(1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    model, low, high = load_default_head(), min(args.sizes), max(args.sizes)
    sample = synthetic_textures(model, high, args.samples + args.held_out)
    inside = {size: rasterize_uv(model, size).mask[0] for size in (low, high)}
    rows, columns = [], []
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        pyramid = build_pyramid(model, sample, args.samples, Path(folder), args.sizes)
        built = time.process_time() - began
        disk = sum(path.stat().st_size for path in Path(folder).iterdir()) / 2**20
        for i in range(args.samples, args.samples + args.held_out):
            truth = sample(i)
            small = interpolate(truth[None], (low, low), mode="area")[0]
            began = time.process_time()
            fit = fit_pyramid(pyramid, Unwrapped(small[:3], inside[low].float()))
            fitted = time.process_time()
            drawn = fit.texture(pyramid, high)
            done = time.process_time()
            mean = pyramid.texture(torch.zeros_like(fit.codes), high)
            rows.append(
                {
                    "fit_s": fitted - began,
                    "draw_s": done - fitted,
                    "low_error": fit.error,
                    "low_error_of_mean": fit.error_of_mean,
                    "albedo_psnr": psnr(drawn[:3], truth[:3], inside[high]),
                    "albedo_psnr_of_mean": psnr(mean[:3], truth[:3], inside[high]),
                    "normals_psnr": psnr(drawn[3:], truth[3:], inside[high]),
                    "normals_psnr_of_mean": psnr(mean[3:], truth[3:], inside[high]),
                }
            )
            columns.append(torch.cat([truth[:3], drawn[:3], mean[:3]], -2))
    result = {
        "sizes": args.sizes,
        "samples": args.samples,
        "components": pyramid.components,
        "explained": pyramid.explained,
        "build_cpu_s": built,
        "disk_mb": disk,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "held_out": {key: float(np.mean([row[key] for row in rows])) for key in rows[0]},
        "load": os.getloadavg()[0],
    }
    write_json(args.out, result)
    print(json.dumps(result, indent=1))
    if args.pictures is not None:
        write_png(args.pictures, interpolate(torch.cat(columns, -1)[None].clamp(0, 1), scale_factor=256 / high)[0])
    return result


def psnr(a: Float[Tensor, "3 size size"], b: Float[Tensor, "3 size size"], inside: Bool[Tensor, "size size"]) -> float:
    """Over covered texels, dB."""
    return float(-10 * torch.log10((a - b).square().mean(0)[inside].mean()))


if __name__ == "__main__":
    main(tyro.cli(Args))
