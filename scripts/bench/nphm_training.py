"""The fields of the remade NPHM table: NPHM and NPM, trained on the same 80 ICT people for the same processor time.

    python -m headlab.scripts.bench.nphm_training ../shared/data/ict_facekit.npz build/nphm_table --kind nphm

Both are smaller than the released networks, so that a processor core trains them in a quarter of an hour; whatever is
not the field itself (data, losses, schedule, start of the latents) is the same for both.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from ...geometry.models.ict import load_ict
from ...geometry.sdf.model_heads import HeadsConfig, model_training_set
from ...geometry.sdf.presets import small_fields
from ...geometry.sdf.train_fields import train_fields

#: People whose number is below are trained on; the next twenty are tested on.
TRAINED = 80
TESTED = 20


@dataclass(frozen=True)
class Args:
    """Train one kind of fields for the table."""

    ict: Annotated[Path, tyro.conf.Positional]
    """ICT-FaceKit: folder or npz."""
    out: Annotated[Path, tyro.conf.Positional]
    """Folder of the runs; each kind has its own in it."""
    kind: Literal["nphm", "npm"] = "nphm"
    identity_minutes: float = 12.0
    """Of processor time."""
    expression_minutes: float = 4.0
    seed: int = 0


def main(args: Args) -> None:
    torch.set_num_threads(1)
    config = HeadsConfig(people=TRAINED, seed=args.seed)
    data = model_training_set(load_ict(args.ict), config)

    def tell(stage: str, step: int, row: dict[str, float]) -> None:
        if step % 200 == 0:
            print(json.dumps({"stage": stage, "step": step, **{k: round(v, 5) for k, v in row.items()}}), flush=True)

    args.out.mkdir(parents=True, exist_ok=True)
    train_fields(
        data, small_fields(args.kind, args.identity_minutes, args.expression_minutes), args.out / args.kind, tell
    )


if __name__ == "__main__":
    main(tyro.cli(Args))
