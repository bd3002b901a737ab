"""Trains a small denoiser with whatever processes it was launched with; writes losses and weights.

[accelerate launch ...] parallel_run.py FOLDER STEPS ACCUMULATE
parallel_run.py FOLDER shard      two processes of its own, split: 3 steps, then a new run that goes on to 4
"""

import json
import os
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from safetensors.torch import save_file
from small_diffusion import small_task

from headlab.diffusion.training import TrainingConfig, train


def run(folder: Path, steps: int, accumulate: int, shard: bool = False) -> None:
    torch.set_num_threads(1)
    config = TrainingConfig(
        steps=steps,
        batch=2,
        accumulate=accumulate,
        rate=1e-3,
        warmup=1,
        decay="constant",
        average=0.5,
        save_every=3,
        cpu=True,
        log_every=1,
        shard=shard,
    )
    rows: list[dict] = []
    networks = train(small_task(), config, folder, callback=rows.append)
    if int(os.environ.get("RANK", 0)) == 0:
        (folder / "rows.json").write_text(json.dumps(rows))
        weights = {k: v.contiguous() for k, v in networks["denoiser"].state_dict().items()}
        save_file(weights, folder / "end.safetensors")


def forked(folder: Path, steps: int) -> None:
    """Two processes without the cost of importing everything twice."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(2):
        child = os.fork()
        if child == 0:
            told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
            os.environ.update({k: str(v) for k, v in told.items()}, MASTER_ADDR="127.0.0.1")
            try:
                run(folder, steps, 1, shard=True)
                os._exit(0)
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]


if __name__ == "__main__":
    if sys.argv[2] == "shard":
        forked(Path(sys.argv[1]), 3)
        forked(Path(sys.argv[1]), 4)
    else:
        run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
