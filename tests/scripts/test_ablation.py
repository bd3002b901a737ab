"""The ablation's machinery on a tiny untrained system: every arm runs, goes on where it stopped, and adds up."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from headlab.datasets.synthetic.pairs import EditPairs, PairConfig
from headlab.datasets.synthetic.pairs_shards import write_pairs
from headlab.diffusion.autoencoder import AutoencoderConfig, build_autoencoder
from headlab.diffusion.bundle import DiffusionConfig, LatentDiffusion
from headlab.diffusion.denoiser import DenoiserConfig
from headlab.diffusion.schedule import ScheduleConfig
from headlab.diffusion.semantic_encoder import SemanticConfig
from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.default import load_default_head
from headlab.scripts.bench.ablation import Args, main, markdown, summary
from headlab.scripts.bench.ablation_drivers import driven, drivers
from headlab.scripts.bench.ablation_measure import SteadyReader, drifts, ssim, systematic
from headlab.scripts.bench.ablation_training import ARMS, Tuning
from headlab.scripts.recipes.reader_regressor import ReaderNet, load_reader


def _tiny_system(folder: Path) -> None:
    torch.manual_seed(0)
    vae = build_autoencoder(AutoencoderConfig(widths=(8, 8, 16), latents=4, groups=4))
    denoiser = DenoiserConfig(
        latents=4,
        widths=(16, 16, 16),
        groups=4,
        heads=2,
        tokens=16,
        condition_width=8,
        semantic=SemanticConfig(width=8, size=16),
    )
    LatentDiffusion.build(vae, DiffusionConfig(denoiser, ScheduleConfig("cosine", prediction="v"))).save(folder)


@pytest.mark.slow
def test_every_arm(tmp_path: Path) -> None:
    _tiny_system(tmp_path / "base")
    heads = EditPairs(load_default_head(), PairConfig(supersampling=1))
    for number, name in enumerate(("pairs", "held")):
        list(write_pairs(heads, tmp_path / name, range(number, number + 1), shard=4, batch=4))
    tuning = Tuning(steps=2, batch=2, prior_pictures=3)
    paths = tmp_path / "base", tmp_path / "pairs", tmp_path / "held", tmp_path / "out"
    args = Args(*paths, seeds=(0,), shards=1, figure=tmp_path / "figure.jpg", edits=4, steps=2, tuning=tuning)
    result = main(args)
    assert set(ARMS) < set(result["table"])
    row = result["table"]
    assert row["true edit"]["psnr"][0] > row["copy of the photo"]["psnr"][0] > row["no conditions"]["psnr"][0]
    assert row["copy of the photo"]["drift_training"][0] == 0 and row["true edit"]["excess_training"][0] == 0
    assert row["copy of the photo"]["cosine"][0] == pytest.approx(1, abs=1e-5)
    assert row["base, 50% photo"]["drift_training"][0] < row["base"]["drift_training"][0]
    folders = (
        "L_simple",
        "plus-L_PR",
        "plus-L_TID",
        "plus-L_TID-psi-held",
        "plus-L_id_DECA",
        "plus-L_id_DECA-psi-held",
        "all",
    )
    logs = [(tmp_path / f"out/runs/{name}-0/log.jsonl").read_text().splitlines()[-1] for name in folders]
    told = [set(json.loads(line)) - {"step", "seconds", "simple"} for line in logs]
    held = {"shape", "expression"}
    assert told == [
        set(),
        {"prior"},
        {"triplet"},
        {"triplet", "expression"},
        {"shape"},
        held,
        {"prior", "triplet"} | held,
    ]
    written = (tmp_path / "out/L_simple-0.safetensors").stat().st_mtime_ns
    assert (tmp_path / "figure.jpg").stat().st_size > 1000
    assert main(args) == result  # nothing is made again
    assert (tmp_path / "out/L_simple-0.safetensors").stat().st_mtime_ns == written
    assert markdown(result).count("\n") == 1 + len(result["table"])


def test_summary() -> None:
    """Falls are of the seeds' means, seed by seed; NaN (no face found) does not count."""
    rows = {"true edit": {"drift_a": [1.0, 3.0, None]}}
    rows |= {f"+ L_TID {s}": {"drift_a": [2.0 + s, 2.0 + s]} for s in (0, 1)}
    rows |= {f"+ L_id_DECA {s}": {"drift_a": [1.0, 1.0]} for s in (0, 1)}
    args = Args(*[Path(".")] * 4, arms=("+ L_TID", "+ L_id_DECA"), seeds=(0, 1))
    result = summary(rows, args)
    assert result["table"]["true edit"]["drift_a"] == (2.0, 1.0)
    assert result["table"]["+ L_TID"]["drift_a"] == (2.5, 0.5)
    fall, error = result["fall_from_L_TID_to_L_id_DECA"]["drift_a"]
    assert fall == pytest.approx((0.5 + 2 / 3) / 2, abs=1e-4) and error == pytest.approx(1 / 12, abs=1e-4)


def test_measures() -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(2, 3, 32, 32, generator=generator)
    np.testing.assert_allclose(ssim(pictures, pictures), 1, atol=1e-6)
    assert float(ssim(pictures, pictures.roll(1, 0)).max()) < 0.5
    codes = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 2.0]])
    got = drifts("x", torch.diag(torch.tensor([1.0, 4.0])), *codes)
    assert float(got["drift_x"]) == pytest.approx(3) and float(got["excess_x"]) == pytest.approx(4)


def test_systematic_excess_has_no_bias_by_noise() -> None:
    """A person's common excess of (3, 0) under noise of unit variance: 9, and not 9 + 2 / n."""
    generator = torch.Generator().manual_seed(0)
    person = torch.arange(500).repeat_interleave(4)
    excess = torch.randn(2000, 2, generator=generator) + torch.tensor([3.0, 0.0])
    got = systematic(excess, person, torch.eye(2))
    assert int(got.isfinite().sum()) == 500 and bool(got[::4].isfinite().all())
    assert float(got.nanmean()) == pytest.approx(9, abs=0.4)
    two = systematic(torch.tensor([[1.0, 0.0], [0.0, 2.0], [7.0, 7.0]]), torch.tensor([5, 5, 6]), torch.eye(2))
    assert float(two[0]) == 0 and bool(two[1:].isnan().all())  # at right angles; one picture tells nothing


def test_a_steady_reader_reads_a_flat_picture_as_its_reader_does() -> None:
    @dataclass(frozen=True)
    class Middle:
        gram: torch.Tensor = field(default_factory=lambda: torch.eye(3))

        def shapes(self, pictures: torch.Tensor) -> torch.Tensor:
            return pictures[..., 40:56, 40:56].mean((-2, -1))

    ramp = torch.linspace(0, 1, 64).expand(2, 3, 64, 64)
    steady, plain = SteadyReader(Middle()), Middle()
    torch.testing.assert_close(steady.shapes(0 * ramp + 0.3), torch.full((2, 3), 0.3))
    moved = steady.shapes(ramp)
    assert torch.equal(moved, steady.shapes(ramp)) and float((moved - plain.shapes(ramp)).abs().max()) < 0.5


def test_drivers_lend_their_shape_and_nothing_else() -> None:
    model = load_default_head()
    pairs = EditPairs(model, PairConfig(size=32, seed=3)).batch(range(6))
    index = drivers(pairs)
    assert bool((pairs.person[index] != pairs.person).all())
    assert len(pairs.person[index].unique()) == 3  # each person drives one other
    same = driven(model, pairs, pairs.codes.shape[:, 0], chunk=4)
    for name in ("normal", "albedo", "head", "mask"):
        torch.testing.assert_close(getattr(same, name), getattr(pairs, name))
    other = driven(model, pairs, pairs.codes.shape[index, 0])
    assert torch.equal(other.images, pairs.images) and torch.equal(other.codes.shape, pairs.codes.shape)
    changed = (other.normal.float() - pairs.normal.float()).abs().mean((1, 2, 3, 4))
    assert float(changed.min()) > 1 and float((other.mask.float() - pairs.mask.float()).abs().mean()) < 40
    with pytest.raises(HeadlabError, match="two people"):
        drivers(pairs[:2])


def test_second_reader(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = load_default_head()
    net = ReaderNet(model.expressions)
    save_file(net.state_dict(), tmp_path / "reader.safetensors")
    reader = load_reader(tmp_path / "reader.safetensors", model)
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    shape = reader.shapes(pictures)
    shape.square().sum().backward()
    assert shape.shape[1] == len(reader.gram) and pictures.grad is not None
    assert all(p.grad is None for p in reader.net.parameters())
    psi = reader.expressions(pictures)
    assert psi.shape == (2, model.expressions) and bool(((psi > 0) & (psi < 1)).all())
