"""Editing expressions by diffusion: against the truth on held-out synthetic people, and among real photos.

    python -m headlab.scripts.bench.edit build/edit.json --data ../shared/data

Synthetic: both pictures of each pair are known, so the edit of one into the other is compared with the truth, next to
editors that know less: a copy of the photo, the same networks without conditions, without the photo's latent, and the
mesh with the true codes; and to the autoencoder alone, the most that latent editing can reach. Readings are those of
the default regressor and identity embedder. Real: the renderers of `headlab transfer`, and a personalised model, by a
face recognition network and MediaPipe's blend-shape scores.
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

from ...datasets.synthetic.pairs import FARTHER, NEARER, EditPairBatch

#: People of another seed than those of training.
HELD_OUT = 1_000_003
#: Measured on the first sixteen pairs alone.
VARIANTS = (
    "edit, maps alone",
    "edit, guidance 2",
    "edit, 10 steps",
    "edit, latent shown",
    "edit, fresh noise, latent shown, dpm++ 10 steps",
)


@dataclass(frozen=True)
class Args:
    """Measure edits."""

    out: Annotated[Path, tyro.conf.Positional]
    """JSON file to write."""
    data: Path | None = None
    """Folder with photos/, models/ and face_landmarker.task (see its README); without it only synthetic people."""
    model: Path | None = None
    """Diffusion model; by default the one that comes with headlab."""
    personal: tuple[str, ...] = ()
    """Personalised models of persons in the photos, as PREFIX=FOLDER: photos/PREFIX... are edited with FOLDER, too."""
    pairs: int = 32
    """Held-out pairs."""
    photos: tuple[str, ...] = (*(f"p{i:02d}.jpg" for i in range(1, 12)), "multiview_a/view_0.jpg", "video_a/f0000.jpg")
    """Photos to edit."""
    fits: Path | None = None
    """Folder where fits of the photos are kept between runs."""
    pictures: Path | None = None
    """Folder for contact sheets."""
    strip: Path | None = None
    """JPEG for the README: photo, render of the wanted head, edit, truth, edited depth of some people."""
    steps: int = 20
    threads: int = 2
    """Of torch, for the timings."""


def main(args: Args) -> dict[str, Any]:
    from ...geometry.files import write_json
    from ...heads.transfer_renderer import load_editor

    torch.set_num_threads(1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    editor = load_editor(args.model)
    result: dict[str, Any] = {"model": editor.name, "steps": args.steps, "load": os.getloadavg()[0]}
    result["synthetic"] = synthetic(args, editor.diffusion)
    write_json(args.out, result)
    if args.data is not None:
        from .edit_photos import photos

        result["photos"] = photos(args, editor)
        write_json(args.out, result)
    return result


@torch.no_grad()
def synthetic(args: Args, diffusion) -> dict[str, Any]:
    """Every editor on the same pairs."""
    from ...datasets.synthetic.pairs import EditPairs, PairConfig
    from ...diffusion.identity import load_embedder, load_shape_reader
    from ...diffusion.training_latents import PairLatents, encode_pairs
    from ...geometry.models.default import load_default_head

    model = load_default_head()
    size = diffusion.config.denoiser.size
    generator = EditPairs(model, PairConfig(size=size, seed=HELD_OUT))
    reader, embedder = load_shape_reader(), load_embedder()
    rows: dict[str, list[dict[str, float]]] = {}
    sheets = []
    for start in range(0, args.pairs, 16):
        pairs = generator.batch(range(start, min(start + 16, args.pairs)))
        # Depth as a fit to a photo knows it: the bare head's.
        data = PairLatents(pairs, encode_pairs(diffusion.vae, pairs, torch.ones(len(pairs), dtype=torch.bool)))
        wanted = data.load(2 * torch.arange(len(pairs)) + 1).given  # the second face, from the first
        before = replace(data.load(2 * torch.arange(len(pairs))).given, emotion=None, valence_arousal=None)
        both = pairs.pictures(bare=True) * 2 - 1
        photo, truth = both[:, 0], both[:, 1]
        if not diffusion.depth:
            photo, truth = photo[:, :3], truth[:, :3]
        elif diffusion.vae.config["in_channels"] != 4:
            raise SystemExit("this benchmark knows models of 3 and 4 channels")
        known = editors(args, model, generator, diffusion, pairs, photo, truth, wanted, before)
        made = {name: make() for name, make in known.items() if start == 0 or name not in VARIANTS}
        for name, pictures in {**made, "truth": truth}.items():
            rows.setdefault(name, []).extend(scores(pictures, truth, photo, pairs, reader, embedder))
        if start == 0 and args.strip is not None:
            write_strip(args.strip, photo, wanted.maps, made["edit"], truth)
        if start == 0:
            shown = [photo, truth, *made.values()]
            sheets = [torch.cat(list(x[:12, :3] / 2 + 0.5), -1) for x in shown]
    out: dict[str, Any] = {
        "pairs": args.pairs,
        "editors": {name: mean_of(each) for name, each in rows.items()},
        "editors, first 16 pairs": {name: mean_of(each[:16]) for name, each in rows.items()},
        "inversion": inversion(args, diffusion, generator),
        "speed": speed(args, diffusion, generator),
    }
    if args.pictures is not None and sheets:
        from ...geometry.files import write_png

        args.pictures.mkdir(parents=True, exist_ok=True)
        write_png(args.pictures / "synthetic.png", torch.cat(sheets, -2))
    print(json.dumps(out, indent=1), file=sys.stderr)
    return out


def mean_of(rows: list[dict[str, float]]) -> dict[str, float]:
    """Of every score, and how many there are."""
    means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    return {"pairs": len(rows), **means}


def write_strip(path: Path, photo: Tensor, maps: Tensor, edited: Tensor, truth: Tensor, people: int = 8) -> None:
    """Five rows of pictures, twice enlarged."""
    from torch.nn.functional import interpolate

    from ...geometry.files import encode_image, write_bytes

    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [photo[:, :3] / 2 + 0.5, maps[:, :3], edited[:, :3] / 2 + 0.5, truth[:, :3] / 2 + 0.5]
    if edited.shape[1] == 4:
        rows.append((edited[:, 3:] / 2 + 0.5).expand(-1, 3, -1, -1))
    picture = torch.cat([torch.cat(list(row[:people]), -1) for row in rows], -2).clamp(0, 1)
    large = interpolate(picture[None], scale_factor=2, mode="bicubic", align_corners=False)[0]
    write_bytes(path, encode_image(large.clamp(0, 1), "JPEG", 78))


def editors(
    args: Args, model, generator, diffusion, pairs: EditPairBatch, photo: Tensor, truth: Tensor, wanted, before
) -> dict[str, Callable[[], Tensor]]:
    """By name; each makes the edited pictures, -1..1."""
    from ...diffusion.edit import EditConfig, edit, reconstructed

    config = EditConfig(steps=args.steps)
    maps_only = wanted.without("expression", "emotion", "valence_arousal")
    fresh = replace(config, start="noise", capture=True)

    def by(given, config: EditConfig) -> Callable[[], Tensor]:
        return lambda: edit(diffusion, photo, given, config, before)

    return {
        "edit": by(wanted, config),
        "edit, nothing restored": by(wanted, replace(config, restore=False)),
        "edit, maps alone": by(maps_only, config),
        "edit, guidance 2": by(wanted, replace(config, guidance=2.0)),
        "edit, 10 steps": by(wanted, EditConfig(10)),
        "edit, latent shown": by(wanted, replace(config, capture=True)),
        "edit, fresh noise, latent shown": by(wanted, fresh),
        "edit, fresh noise, latent shown, dpm++ 10 steps": by(wanted, replace(fresh, steps=10, method="dpm++")),
        "mesh, true codes": lambda: meshed(model, generator, pairs, photo),
        "copy": lambda: photo,
        "without conditions": by(maps_only.without("maps"), fresh),
        "autoencoder of the truth": lambda: reconstructed(diffusion, truth),
    }


def scores(
    pictures: Float[Tensor, "batch chan height width"],
    truth: Float[Tensor, "batch chan height width"],
    photo: Float[Tensor, "batch chan height width"],
    pairs: EditPairBatch,
    reader: Any,
    embedder: Any,
) -> list[dict[str, float]]:
    """How near edits (-1..1) are to the true ones, and to the person in the photo."""
    from skimage.metrics import structural_similarity

    from ...diffusion.identity import resized
    from ...geometry.regress.default_crop import CROP

    colour, true, source = (x[:, :3].clamp(-1, 1) / 2 + 0.5 for x in (pictures, truth, photo))
    face = pairs.mask[:, 1].float() / 255
    numbers = [reader.regressor.numbers(resized(x, CROP)) for x in (colour, true, source)]
    vectors = [embedder.vectors(x) for x in (colour, true, source)]
    psi = pairs.codes.expression[:, 1]
    rows = []
    for i in range(len(pictures)):
        error = (colour[i] - true[i]).square().mean(0)
        drift = numbers[0].shape[i] - numbers[2].shape[i]
        similar = structural_similarity(
            colour[i].permute(1, 2, 0).numpy(), true[i].permute(1, 2, 0).numpy(), channel_axis=-1, data_range=1.0
        )
        row = {
            "psnr": psnr(error.mean()),
            "psnr_head": psnr((error * face[i]).sum() / face[i].sum()),
            "ssim": float(np.asarray(similar)),
            "psi_error": float((numbers[0].expression[i] - psi[i]).abs().mean()),
            "psi_error_of_reading": float((numbers[0].expression[i] - numbers[1].expression[i]).abs().mean()),
            "beta_drift_mm": float((drift @ reader.gram @ drift).clamp(min=0).sqrt()),
            "identity_cosine": float(vectors[0][i] @ vectors[2][i]),
            "identity_cosine_truth": float(vectors[0][i] @ vectors[1][i]),
            "depth_error_mm": float("nan"),
        }
        if pictures.shape[1] == 4:
            near, right = pictures[i, 3] / 2 + 0.5, truth[i, 3] / 2 + 0.5
            inside = (face[i] > 0.99) & (right > 0.02)
            row["depth_error_mm"] = float((near - right).abs()[inside].mean()) * 1000 * (FARTHER + NEARER)
        rows.append(row)
    return rows


def meshed(model, generator, pairs: EditPairBatch, photo: Tensor) -> Tensor:
    """The mesh renderer, told the true codes and skin; depth drawn."""
    from ...datasets.synthetic.pairs import nearness
    from ...geometry.raster import rasterize
    from ...heads.transfer_composite import composite

    out = []
    for i in range(len(pairs)):
        camera = replace(pairs.camera, K=pairs.camera.K[i], R=pairs.camera.R[i], t=pairs.camera.t[i])
        old, new = (pairs.codes[i, k] for k in (0, 1))
        albedo = generator.heads.albedo.texture(new.albedo).clamp(0, 1)
        colour = composite(model, photo[i, :3] / 2 + 0.5, camera, old, new, albedo)
        depth = rasterize(camera.to_homogeneous(model.vertices(new))[None], model.faces, camera.size).depth[0]
        parts = [colour] if photo.shape[1] == 3 else [colour, nearness(depth, pairs.distance[i])[None]]
        out.append(torch.cat(parts) * 2 - 1)
    return torch.stack(out)


@torch.no_grad()
def inversion(args: Args, diffusion, generator, count: int = 16) -> dict[str, float]:
    """Pictures inverted and sampled again without any edit, against the pictures, next to the autoencoder's own."""
    from ...diffusion.edit import EditConfig, edit, reconstructed
    from ...diffusion.training_latents import PairLatents, encode_pairs

    pairs = generator.batch(range(10_000, 10_000 + count))
    data = PairLatents(pairs, encode_pairs(diffusion.vae, pairs, torch.ones(count, dtype=torch.bool)))
    given = data.load(2 * torch.arange(count)).given
    picture = (pairs.pictures(bare=True)[:, 0] * 2 - 1)[:, : diffusion.vae.config["in_channels"]]
    config = EditConfig(steps=args.steps, exact=False, restore=False)
    made = {
        "autoencoder": reconstructed(diffusion, picture),
        "inversion": edit(diffusion, picture, given, config, given),
        "inversion, latent shown": edit(diffusion, picture, given, replace(config, capture=True), given),
        "inversion, exact": edit(diffusion, picture, given, replace(config, exact=True), given),
    }

    def mean(x: Tensor) -> float:
        return float(
            np.mean([psnr((a - b).square().mean() / 4) for a, b in zip(x[:, :3], picture[:, :3], strict=True)])
        )

    return {name: mean(x) for name, x in made.items()}


@torch.no_grad()
def speed(args: Args, diffusion, generator) -> dict[str, float]:
    """One edit of one crop, the best of three; wall and CPU seconds."""
    torch.set_num_threads(args.threads)
    from ...diffusion.edit import EditConfig, edit
    from ...diffusion.training_latents import PairLatents, encode_pairs

    pairs = generator.batch(range(1))
    given = (
        PairLatents(pairs, encode_pairs(diffusion.vae, pairs, torch.ones(1, dtype=torch.bool)))
        .load(torch.ones(1, dtype=torch.long))
        .given
    )
    picture = (pairs.pictures(bare=True)[:, 0] * 2 - 1)[:, : diffusion.vae.config["in_channels"]]
    out: dict[str, float] = {"load": os.getloadavg()[0], "threads": args.threads}
    for name, config in (
        ("edit", EditConfig(steps=args.steps)),
        ("edit with guidance", EditConfig(steps=args.steps, guidance=2.0)),
        ("edit from fresh noise", EditConfig(steps=args.steps, start="noise", capture=True)),
    ):
        wall, cpu = [], []
        for _ in range(3):
            began = time.perf_counter(), time.process_time()
            edit(diffusion, picture, given, config, given)
            wall.append(time.perf_counter() - began[0])
            cpu.append(time.process_time() - began[1])
        out[f"{name}, wall s"], out[f"{name}, cpu s"] = min(wall), min(cpu)
    torch.set_num_threads(1)
    return out


def psnr(error: Tensor) -> float:
    """Of a mean squared error of colours 0..1, dB."""
    return float(-10 * torch.log10(error.clamp(min=1e-10)))


if __name__ == "__main__":
    main(tyro.cli(Args))
