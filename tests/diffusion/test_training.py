"""The training loop: samples, averages, going on after a kill, and what goes wrong."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_diffusion import small_task
from torch import nn

from headlab.diffusion.training import TrainingConfig, samples_of, train
from headlab.diffusion.training_ema import Averages
from headlab.geometry.errors import HeadlabError


class Line:
    """Fit y = 2 x with one weight: a task whose steps can be followed by hand."""

    def __init__(self, start: float = 0.0):
        layer = nn.Linear(1, 1, bias=False)
        nn.init.constant_(layer.weight, start)
        self.networks: dict[str, nn.Module] = {"line": layer}
        self.players = {"line": ("line",)}
        self.count = 16
        self.x = torch.linspace(-1, 1, 16)[:, None]
        self.bad: int | None = None  # sample whose loss is no number
        self.full: int | None = None  # step at which memory ends

    def load(self, indices, device):
        return indices

    def losses(self, player, networks, batch, step, generator):
        if step == self.full:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory")
        x = self.x[batch]
        loss = (networks["line"](x) - 2 * x).square().mean()
        return {"fit": loss * (float("nan") if self.bad in batch.tolist() else 1)}

    def pictures(self, networks):
        return torch.full((3, 4, 4), 0.5)

    def export(self, networks, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "weight.json").write_text(json.dumps(networks["line"].weight.item()))


def config(**changes) -> TrainingConfig:
    values = {"steps": 12, "batch": 4, "rate": 0.05, "warmup": 1, "save_every": 4, "cpu": True, "log_every": 3}
    return TrainingConfig(**(values | changes))


def test_every_epoch_is_a_shuffle_of_everything():
    seen = torch.cat([samples_of(10, 4, place, 0) for place in range(5)])
    assert sorted(seen[:10].tolist()) == sorted(seen[10:].tolist()) == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()
    assert torch.equal(samples_of(10, 4, 3, 0), seen[12:16])
    assert not torch.equal(samples_of(10, 10, 0, 0), samples_of(10, 10, 0, 1))


def test_averages_follow_the_fixed_decay_rule():
    net = nn.BatchNorm1d(2)
    averages = Averages({"net": net}, 0.75)
    expected = net.state_dict()["weight"].clone()
    for step in range(3):
        with torch.no_grad():
            net.weight += 1 + step
        net.num_batches_tracked += 10
        averages.update({"net": net})
        expected = 0.75 * expected + 0.25 * net.weight.detach()
    kept = averages.networks["net"].state_dict()
    torch.testing.assert_close(kept["weight"], expected)
    counter = 0
    for source in (10, 20, 30):
        counter = int(0.75 * counter + 0.25 * source)  # whole numbers truncate
    assert int(kept["num_batches_tracked"]) == counter


def test_training_fits_records_and_returns_averages(tmp_path):
    rows, task = [], Line()
    averages = train(task, config(steps=60, average=0.8), tmp_path, {"what": "a line"}, rows.append)
    assert len(rows) == 60 and rows[-1]["fit"] < 0.2 * rows[0]["fit"]
    weight = averages["line"].weight.item()
    assert json.loads((tmp_path / "weights/weight.json").read_text()) == pytest.approx(weight)
    record = json.loads((tmp_path / "config.json").read_text())
    assert record["training"]["rate"] == 0.05 and record["task"] == {"what": "a line"} and "torch" in record["versions"]
    assert {"commit", "changed"} <= set(record["commit"] or {"commit": 0, "changed": 0})
    assert (tmp_path / "pictures/step-000060.png").is_file()
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert logged[0]["step"] == 3 and logged[0]["fit"] == pytest.approx(sum(r["fit"] for r in rows[:3]) / 3, abs=1e-5)


def test_accumulated_batches_make_the_step_of_a_large_one(tmp_path):
    weights = []
    for batch, accumulate in ((8, 1), (2, 4)):
        task = Line()
        train(task, config(steps=5, batch=batch, accumulate=accumulate), tmp_path / str(batch))
        weights.append(task.networks["line"].weight.item())
    assert weights[0] == pytest.approx(weights[1], abs=1e-5) and weights[0] != 0


def test_gradients_are_clipped_and_the_rate_falls(tmp_path):
    moved = []
    for decay in ("constant", "cosine"):
        task, weights = Line(), []

        def note(_, weight=task.networks["line"].weight, weights=weights):
            weights.append(weight.item())

        train(task, config(steps=20, decay=decay), tmp_path / decay, callback=note)
        moved.append(abs(weights[-1] - weights[-2]) / abs(weights[0]))
    assert moved[1] < 0.2 * moved[0]


@pytest.mark.parametrize("kind", ["line", "denoiser"])
def test_a_run_goes_on_to_the_same_losses(tmp_path, kind):
    def task():
        return Line() if kind == "line" else small_task()

    straight, first, second = [], [], []
    train(task(), config(steps=9, save_every=3), tmp_path / "straight", callback=straight.append)

    class Stop(Exception):
        pass

    def stop(row):
        first.append(row)
        if row["step"] == 5:
            raise Stop

    with pytest.raises(Stop):
        train(task(), config(steps=9, save_every=3), tmp_path / "broken", callback=stop)
    train(task(), config(steps=9, save_every=3), tmp_path / "broken", callback=second.append)
    assert second[0]["step"] == 4 and first + second[2:] == straight and second[:2] == straight[3:5]


KILLED = """
import os, signal
from small_diffusion import small_task
from pathlib import Path
from headlab.diffusion.training import TrainingConfig, train

def kill(row):
    print(row["step"], row["simple"].hex(), flush=True)
    if row["step"] == {step}:
        os.kill(os.getpid(), signal.SIGKILL)

config = TrainingConfig(steps=10, batch=4, rate=0.05, warmup=1, save_every=3, cpu=True, log_every=3)
train(small_task(), config, Path({folder!r}), callback=kill)
"""


def test_a_killed_run_goes_on_to_the_same_losses(tmp_path):
    step = random.Random().randint(4, 9)
    code = KILLED.format(step=step, folder=str(tmp_path / "killed"))
    environment = {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == -signal.SIGKILL, done.stderr
    before = [float.fromhex(line.split()[1]) for line in done.stdout.splitlines()]
    assert len(before) == step
    straight, after = [], []
    how = config(steps=10, save_every=3)
    threads = torch.get_num_threads()
    train(small_task(), how, tmp_path / "straight", callback=lambda row: straight.append(row["simple"]))
    train(small_task(), how, tmp_path / "killed", callback=lambda row: after.append((row["step"], row["simple"])))
    assert torch.get_num_threads() == threads
    assert before == straight[:step], f"killed at step {step}"
    assert after[0][0] == 3 * ((step - 1) // 3) + 1 or after[0][0] == 3 * (step // 3) + 1
    assert [loss for _, loss in after] == straight[int(after[0][0]) - 1 :], f"killed at step {step}"


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(tmp_path):
    task = Line()
    task.bad = int(samples_of(16, 4, 2, 0)[1])  # in the third step
    with pytest.raises(HeadlabError) as error:
        train(task, config(save_every=1), tmp_path)
    text = str(error.value)
    assert "step 3," in text and str(task.bad) in text and "step-0000002 is kept" in text and "\n" not in text
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir())[-1] == "step-0000002"


def test_memory_that_runs_out_suggests_flags(tmp_path):
    task = Line()
    task.full = 1
    with pytest.raises(HeadlabError, match=r"--training.batch 2 --training.accumulate 2, --training.precision bf16"):
        train(task, config(), tmp_path)


def test_a_checkpoint_of_other_networks_is_named(tmp_path):
    train(Line(), config(steps=1), tmp_path)
    other = Line()
    other.networks["line"] = nn.Linear(2, 2)
    with pytest.raises(HeadlabError, match="does not belong to these networks"):
        train(other, config(), tmp_path)


def test_trackers_that_are_missing_and_empty_batches_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(HeadlabError, match="wandb is not installed; pip install wandb"):
        train(Line(), config(trackers=("wandb",)), tmp_path)
    with pytest.raises(HeadlabError, match="at least 1"):
        train(Line(), config(batch=0), tmp_path)


def test_tensorboard_holds_what_the_log_holds(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(Line(), config(trackers=("tensorboard",)), tmp_path / "run")
    (events,) = tmp_path.rglob("events.out.tfevents.*")
    read = EventAccumulator(str(events.parent))
    read.Reload()
    rows = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    told = read.Scalars("fit")
    assert [x.step for x in told] == [row["step"] for row in rows] == [3, 6, 9, 12]
    assert [x.value for x in told] == pytest.approx([row["fit"] for row in rows], abs=1e-6)


def test_wandb_is_told_what_the_log_holds(tmp_path, monkeypatch):
    """Offline, without an account: the run's record is read back by wandb's own reader."""
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    for name, value in {"MODE": "offline", "DIR": str(tmp_path), "SILENT": "true"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    train(Line(), config(trackers=("wandb",)), tmp_path / "run")
    (record,) = tmp_path.rglob("run-*.wandb")
    store, told = DataStore(), []
    store.open_for_scan(str(record))
    while (data := store.scan_data()) is not None:
        one = wandb_internal_pb2.Record()
        one.ParseFromString(data)
        items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in one.history.item}
        told += [items["fit"]] if "fit" in items else []
    rows = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert told == pytest.approx([row["fit"] for row in rows], abs=1e-6)
