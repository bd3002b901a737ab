"""Does the DECA-specific identity loss keep the person in 3D when diffusion changes the expression?

    python -m headlab.scripts.bench.ablation BASE PAIRS HELD build/ablation --reader build/reader.safetensors

One base denoiser is trained on with L_simple alone, + L_PR, + L_TID, + L_id_DECA, and all of them: the same number of
steps, the same pictures, noise and times, several seeds. Held-out people, whose true edit is known, are then edited
(their expression replaced by the pair's other one), and judged: see `ablation_measure`. Drift of β is read by the
regressor of the training, and by readers that no training saw: a network of another seed and architecture
(`recipes/reader_regressor`) and a fit to landmarks.

The maps show somebody else's head with the wanted expression (`ablation_drivers`), in the identity losses and in the
judged edits: what it draws of itself into the edit is drift. With `--tuning.no-drivers` they show the person's own head
and the identity losses see the samples of L_simple; with `--tuning.no-capture`, too, the denoiser does not see the
photo's latent, only z and the maps (DiffusionRig's way). Settings are chosen on one folder of held-out pairs and
reported on another.

Every run leaves a file in the output folder and is not made again; several processes may share out arms and seeds.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from safetensors.torch import load_file, save
from torch import Tensor

from ...diffusion.bundle import LatentDiffusion, load_latent_diffusion
from ...diffusion.denoiser import Denoiser, Given
from ...diffusion.edit import restored
from ...diffusion.identity import DefaultShapeReader, ShapeReader, face_gram, load_embedder
from ...diffusion.training_data import load_pairs
from ...diffusion.training_driven import DrivenPairs, driven_edits
from ...diffusion.training_latents import PairLatents
from ...geometry.files import write_bytes, write_json
from ...geometry.models.default import load_default_head
from ...geometry.regress.default_net import SHAPES
from ...geometry.regress.default_regressor import WEIGHTS, load_default_regressor
from ..recipes.reader_regressor import load_reader
from .ablation_figures import plot, sheet, slug
from .ablation_measure import Judges, LandmarkReader, MobileFace, SteadyReader, drifts, measure
from .ablation_training import ARMS, Tuning, data_of, decoded, driven_pairs, latents_of, prior_pictures, told, tune

#: Shares of the photo in the pictures that stand for copying.
MIXTURES = (0.25, 0.5)


@dataclass(frozen=True)
class Args:
    """Train the arms and judge them."""

    base: Annotated[Path, tyro.conf.Positional]
    """Folder of the latent diffusion model to begin with."""
    pairs: Annotated[Path, tyro.conf.Positional]
    """Folder of pairs to train on."""
    held: Annotated[Path, tyro.conf.Positional]
    """Folder of pairs of other people to judge by."""
    out: Annotated[Path, tyro.conf.Positional]
    """Folder for runs, pictures and result.json."""
    regressor: Path | None = None
    """Checkpoint of recipes/default_regressor that the training reads β with; the package's where None."""
    reader: Path | None = None
    """Checkpoint of recipes/reader_regressor, a judge of drift."""
    data: Path | None = None
    """Folder with models/identity_mobileface_v2.onnx, a judge of likeness."""
    arms: tuple[str, ...] = ARMS
    seeds: tuple[int, ...] = (0, 1, 2)
    shards: int = 2
    """Of the training pairs to use."""
    edits: int = 96
    """Held-out pairs to edit."""
    steps: int = 10
    """Of sampling (DPM-Solver++)."""
    fitted: bool = False
    """Find β by optimisation as well, one for all edits of a person."""
    figure: Path | None = None
    """JPEG to draw of some edits."""
    plot: Path | None = None
    """PNG to draw of drift against ψ error."""
    tuning: Tuning = field(default_factory=Tuning)


def main(args: Args) -> dict[str, Any]:
    torch.set_num_threads(1)
    base = load_latent_diffusion(args.base)
    held = load_pairs(args.held)[: args.edits]
    bench = Bench(args, base, held)
    done = {name: bench.once(name, make) for name, make in bench.references().items()}
    for seed in args.seeds:
        for arm in args.arms:
            done[f"{arm} {seed}"] = bench.once(f"{arm} {seed}", lambda a=arm, s=seed: bench.edited(bench.arm(a, s)))
    result = summary(done, args)
    write_json(args.out / "result.json", result)
    if args.figure is not None:
        some = range(0, args.edits, max(1, args.edits // 6))[:6]
        sheet(args.out, args.figure, args.arms, args.seeds[0], some)
    if args.plot is not None:
        plot(result, args.plot, args.arms)
    return result


class Bench:
    """Pictures of every row, and what the judges say."""

    def __init__(self, args: Args, base: LatentDiffusion, held):
        self.args, self.base, self.held = args, base, held
        args.out.mkdir(parents=True, exist_ok=True)
        model = load_default_head()
        regressor = load_default_regressor(args.regressor or WEIGHTS)
        self.reader = DefaultShapeReader(regressor, face_gram(model, SHAPES))
        single: dict[str, ShapeReader] = {"training": self.reader}
        second = None if args.reader is None else load_reader(args.reader, model)
        if second is not None:
            single["unseen"] = second
        self.readers = single | {f"{name}_steady": SteadyReader(reader) for name, reader in single.items()}
        face = MobileFace(args.data / "models/identity_mobileface_v2.onnx", model, held) if args.data else None
        self.judges = Judges(self.readers, self.reader, load_embedder(), face, second)
        self.model, edits = model, 2 * torch.arange(len(held)) + 1
        data = shown = data_of(base, held)
        if args.tuning.drivers:
            data, shown = driven_pairs(base, model, held)
        self.own = told(data, edits, args.tuning.capture)
        self.given = told(shown, edits, args.tuning.capture)
        self.latents = data.latents[:, 1].float()
        self._data = self._prior = None

    def references(self) -> dict[str, Any]:
        """Rows that need no training."""
        source, truth = (self.held.images[:, k].float() / 255 for k in (0, 1))
        blind = self.given.without("maps", "capture", "person", "expression")
        drivers = self.args.tuning.drivers
        return {
            "true edit": lambda: truth,
            "true edit through the autoencoder": lambda: decoded(self.base, self.latents),
            "copy of the photo": lambda: source,
            "no conditions": lambda: decoded(self.base, self._latents(self.base.denoiser, blind)),
            "base": lambda: self.edited(self.base.denoiser),
            **({"base, the person's own maps": lambda: self.edited(self.base.denoiser, self.own)} if drivers else {}),
            **{f"base, {part:.0%} photo": lambda p=part: self._mixture(source, p) for part in MIXTURES if drivers},
        }

    def _latents(self, denoiser: Denoiser, given: Given) -> Tensor:
        return latents_of(self.base, denoiser, given, self.args.steps, 11)

    def _mixture(self, source: Tensor, part: float) -> Tensor:
        """The base's edits faded into the photos: what copying alone can do for β, and does to ψ."""
        return torch.lerp(load_file(self.args.out / "base.safetensors")["pictures"].float() / 255, source, part)

    def edited(self, denoiser: Denoiser, given: Given | None = None) -> Tensor:
        """Sampled and decoded; where the photo's latent is seen, the photo's own detail is given back."""
        given = self.given if given is None else given
        pictures = decoded(self.base, self._latents(denoiser, given))
        if given.capture is None or given.person is None:
            return pictures
        own = decoded(self.base, given.capture) * 2 - 1
        return (restored(pictures * 2 - 1, own, given.person) / 2 + 0.5).clamp(0, 1)

    def arm(self, arm: str, seed: int) -> Denoiser:
        args = self.args
        if self._data is None:
            pairs = load_pairs(args.pairs, args.shards)
            if args.tuning.drivers:
                own, other = driven_pairs(self.base, self.model, pairs[: args.tuning.pairs])
                self._data, plain = DrivenPairs(own, other, self._driven_edits(other)), own
            else:
                self._data = plain = data_of(self.base, pairs)
            self._prior = prior_pictures(self.base, plain, args.tuning)
        assert self._prior is not None
        reader, embedder = self.reader, load_embedder()
        folder = args.out / "runs" / f"{slug(arm)}-{seed}"
        return tune(self.base, arm, self._data, self._prior, reader, embedder, args.tuning, seed, folder)

    def _driven_edits(self, driven: PairLatents) -> Tensor:
        """The base model's, made once."""
        kept = self.args.out / "driven_edits.safetensors"
        if not kept.is_file():
            write_bytes(kept, save({"latents": driven_edits(self.base, driven, self.args.steps).half()}))
        return load_file(kept)["latents"]

    def once(self, name: str, make: Callable[[], Tensor]) -> dict[str, list[float | None]]:
        """Make and measure a row, or take what is kept of it; pictures are judged as files hold them, in 8 bits."""
        kept = self.args.out / f"{slug(name)}.safetensors"
        if not kept.is_file():
            write_bytes(kept, save({"pictures": (make() * 255).round().to(torch.uint8).contiguous()}))
        pictures = load_file(kept)["pictures"].float() / 255
        path = kept.with_suffix(".json")
        rows = json.loads(path.read_text()) if path.is_file() else {}
        if not {f"drift_{reader}" for reader in self.judges.readers} <= set(rows):
            rows |= _plain(measure(pictures, self.held, self.judges))
        if self.args.fitted and "drift_fit" not in rows:
            rows |= _plain(self._fits(pictures))
        write_json(path, rows)
        print(json.dumps({"row": name, **{key: round(x, 4) for key, x in _means(rows).items()}}), flush=True)
        return rows

    def _fits(self, pictures: Tensor) -> dict[str, Tensor]:
        """Drift by optimisation, a number per person; NaN where the detector finds too few faces."""
        from ...geometry.landmarks import open_detector

        people = self.held.person
        with open_detector("solutions") as detector:
            reader = LandmarkReader(self.model, detector)
            kept = self.args.out / "fits.npz"
            if not kept.is_file():
                own = [reader.shapes(self.held.images[:, k].float() / 255, people).numpy() for k in (0, 1)]
                np.savez(kept, source=own[0], truth=own[1])
            own = np.load(kept)
            codes = reader.shapes(pictures, people)
        return drifts("fit", reader.gram, codes, torch.from_numpy(own["source"]), torch.from_numpy(own["truth"]))


def summary(rows: Mapping[str, Mapping[str, list[float | None]]], args: Args) -> dict[str, Any]:
    """Means and standard errors: of arms over seeds, of the other rows over pictures. And the verdict."""
    table: dict[str, Any] = {}
    for name in [r for r in rows if r.rsplit(" ", 1)[0] not in args.arms]:
        table[name] = {key: _mean_error(np.array(x, float)) for key, x in rows[name].items()}
    seeds: dict[str, dict[str, list[float]]] = {}
    for arm in args.arms:
        runs = [_means(rows[f"{arm} {seed}"]) for seed in args.seeds]
        seeds[arm] = {key: [run[key] for run in runs] for key in runs[0]}
        table[arm] = {key: _mean_error(np.array(x)) for key, x in seeds[arm].items()}
    result: dict[str, Any] = {"edits": args.edits, "seeds": len(args.seeds), "sampling_steps": args.steps}
    result |= {"tuning": asdict(args.tuning), "table": table, "by_seed": seeds}
    pairs = [(a, b) for b in ("+ L_id_DECA", "+ L_id_DECA, ψ held") for a in ("+ L_TID", "+ L_TID, ψ held", "L_simple")]
    for other, arm in pairs:
        if {other, arm} <= set(args.arms):
            before, after = seeds[other], seeds[arm]
            result[f"fall_from_{other.removeprefix('+ ')}_to_{arm.removeprefix('+ ')}"] = {
                key: _mean_error(1 - np.array(after[key]) / np.array(before[key]))
                for key in after
                if key.startswith(("drift", "excess", "psi"))
            }
    return result


def markdown(result: dict[str, Any]) -> str:
    """The table, for people."""
    keys = ["psnr", "ssim", "psi_error", "psi_error_unseen", "cosine"]
    some = next(iter(result["table"].values()))
    keys += [key for key in some if key.startswith(("cosine_", "drift", "excess", "systematic"))]
    lines = ["| | " + " | ".join(keys) + " |", "| --- " * (len(keys) + 1) + "|"]
    for name, row in result["table"].items():
        cells = [f"{row[key][0]:.3f} ± {row[key][1]:.3f}" if key in row else "" for key in keys]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _plain(numbers: Mapping[str, Tensor]) -> dict[str, list[float | None]]:
    """For JSON, which knows no NaN."""
    return {key: [round(x, 6) if math.isfinite(x) else None for x in value.tolist()] for key, value in numbers.items()}


def _means(rows: Mapping[str, list[float | None]]) -> dict[str, float]:
    return {key: float(np.nanmean(np.array(x, float))) for key, x in rows.items()}


def _mean_error(values: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error, without NaN."""
    good = values[np.isfinite(values)]
    return round(float(good.mean()), 5), round(float(good.std(ddof=1) / np.sqrt(len(good))), 5) if len(
        good
    ) > 1 else 0.0


if __name__ == "__main__":
    print(markdown(main(tyro.cli(Args))))
