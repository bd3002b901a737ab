"""The fields of the remade NPHM table: NPHM and NPM, trained on the same 80 ICT people for the same processor time.

    python -m headlab.scripts.bench.nphm_training ../shared/data/ict_facekit.npz build/nphm_table --kind nphm

Both are smaller than the released networks, so that a processor core trains them in a quarter of an hour; whatever is
not the field itself (data, losses, schedule, start of the latents) is the same for both. `--size wide` is NPHM's for a
longer training, and may grow out of small fields (`--begun`). A run that was ended goes on where it was; other minutes
then stretch its schedule.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from ...geometry.models.ict import load_ict
from ...geometry.sdf.field_files import load_fields
from ...geometry.sdf.identity import IdentityConfig
from ...geometry.sdf.layout import EnsembleLayout
from ...geometry.sdf.model_heads import HeadsConfig, model_training_set
from ...geometry.sdf.presets import small_fields
from ...geometry.sdf.train_fields import FieldsConfig, train_fields

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
    size: Literal["small", "wide"] = "small"
    """Of NPHM's ensemble: 64 units and local latents of 16, or 96 and 32."""
    begun: Path | None = None
    """Small fields of the same people that the wide ones grow out of."""
    people: int = TRAINED
    """Fewer leave the others of the eighty to validate with."""
    identity_minutes: float = 12.0
    """Of processor time."""
    expression_minutes: float = 4.0
    """Likewise; 0: there shall be no expression field."""
    seed: int = 0


def main(args: Args) -> None:
    torch.set_num_threads(1)
    config = HeadsConfig(args.people, 20 if args.expression_minutes > 0 else 0, seed=args.seed)
    data = model_training_set(load_ict(args.ict), config)

    def tell(stage: str, step: int, row: dict[str, float]) -> None:
        if step % 200 == 0:
            print(json.dumps({"stage": stage, "step": step, **{k: round(v, 5) for k, v in row.items()}}), flush=True)

    args.out.mkdir(parents=True, exist_ok=True)
    train_fields(
        data, _recipe(args), args.out / args.kind, tell, None if args.begun is None else load_fields(args.begun)
    )


def _recipe(args: Args) -> FieldsConfig:
    small = small_fields(args.kind, args.identity_minutes, args.expression_minutes)
    if args.size == "small" or args.kind == "npm":
        return small
    training = small.identity_training
    return replace(
        small,
        identity=IdentityConfig(EnsembleLayout(latent_global=32, latent_local=32), hidden=96, anchor_hidden=64),
        identity_training=replace(
            training,
            # The released weight is 2: a short training then leaves smooth heads a tenth of a millimetre off.
            weights=replace(training.weights, surf_sdf=6.0),
            loop=replace(training.loop, rate=3e-3 if args.begun is None else 2e-3, save_every=250),
        ),
    )


if __name__ == "__main__":
    main(tyro.cli(Args))
