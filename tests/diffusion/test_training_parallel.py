"""Training on two processes makes the steps of one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = str(Path(__file__).with_name("parallel_run.py"))


def call(folder: Path, *words: str, launched: bool = False) -> list[dict]:
    command = [sys.executable]
    if launched:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        # accelerate calls several processes on one machine so; the run itself says that it is on the CPU
        command += ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
        command += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", port]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command += [SCRIPT, str(folder), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "rows.json").read_text())


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> tuple[Path, list[dict]]:
    """Four steps of one process that accumulates two batches."""
    folder = tmp_path_factory.mktemp("one")
    return folder, call(folder, "4", "2")


def largest_difference(a: Path, b: Path) -> float:
    """Of the averaged parameters; running statistics are means over processes, and follow another path."""
    first, second = load_file(a / "end.safetensors"), load_file(b / "end.safetensors")
    assert first.keys() == second.keys()
    names = [k for k in first if not k.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    return max((first[k].double() - second[k].double()).abs().max().item() for k in names)


@pytest.mark.slow
def test_two_processes_equal_one_that_accumulates(one, tmp_path):
    two = call(tmp_path, "4", "1", launched=True)
    assert [row["step"] for row in two] == [1, 2, 3, 4]
    for a, b in zip(one[1], two, strict=True):
        assert b["simple"] == pytest.approx(a["simple"], abs=1e-5)
    assert largest_difference(one[0], tmp_path) < 1e-5
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(log) == 4  # the main process alone writes


@pytest.mark.slow
def test_split_over_processes_it_is_the_same_and_goes_on(one, tmp_path):
    rest = call(tmp_path, "shard")  # the second run takes up the checkpoint of step 3
    assert [row["step"] for row in rest] == [4]
    assert rest[-1]["simple"] == pytest.approx(one[1][-1]["simple"], abs=1e-5)
    assert largest_difference(one[0], tmp_path) < 1e-5


def test_gradients_and_buffers_stay_as_they_are_on_one_process():
    from headlab.diffusion.training_parallel import average_buffers, average_gradients, averaged

    net = torch.nn.BatchNorm1d(3)
    net(torch.randn(4, 3)).sum().backward()
    before = [p.grad.clone() for p in net.parameters()]
    average_gradients(net.parameters())
    average_buffers([net])
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), before, strict=True))
    assert averaged({"loss": 2.0}, torch.device("cpu")) == {"loss": 2.0}
