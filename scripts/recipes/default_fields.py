"""Train the neural head fields that come with headlab on heads of the default model, and write their model card.

    python -m headlab.scripts.recipes.default_fields build/default_fields --install

Everything follows from the seed and the numbers of steps. About twenty minutes of one processor core.
"""

import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import Annotated, Any

import torch
import tyro

from ...geometry.files import write_text
from ...geometry.models.default import load_default_head
from ...geometry.sdf.default_fields import WEIGHTS
from ...geometry.sdf.field_files import load_fields, save_fields
from ...geometry.sdf.head_fields import HeadFields
from ...geometry.sdf.model_heads import HeadsConfig, draw_people, model_training_set
from ...geometry.sdf.presets import small_fields
from ...geometry.sdf.registered import registered_heads
from ...geometry.sdf.train_fields import train_fields
from ...heads.metrics.geometry_table import TableConfig, geometry_table
from ...heads.metrics.table_rows import FieldsRow


@dataclass(frozen=True)
class Args:
    """Train the default fields."""

    out: Annotated[Path, tyro.conf.Positional]
    """Folder of the run; started again with it, the training goes on."""
    people: int = 120
    """Drawn from the default head model's prior."""
    steps: int = 10_000
    """Of the identity field."""
    expression_steps: int = 12_000
    held_out: int = 5
    """People that are fitted for the card."""
    seed: int = 0
    install: bool = False
    """Write the fields, in half precision, and their card into the package."""


def main(args: Args) -> None:
    torch.set_num_threads(1)
    model = load_default_head()
    heads = HeadsConfig(args.people, pose_points=2000, seed=args.seed)
    config = small_fields("nphm", math.inf, math.inf)
    loops = [
        replace(training.loop, steps=steps, seed=args.seed)
        for training, steps in (
            (config.identity_training, args.steps),
            (config.expression_training, args.expression_steps),
        )
    ]
    config = replace(
        config,
        identity_training=replace(config.identity_training, loop=loops[0]),
        expression_training=replace(config.expression_training, loop=loops[1]),
    )

    def tell(stage: str, step: int, row: dict[str, float]) -> None:
        if step % 200 == 0:
            print(json.dumps({"stage": stage, "step": step, **{k: round(v, 5) for k, v in row.items()}}), flush=True)

    fields = train_fields(model_training_set(model, heads), config, args.out, tell)
    fields = replace(fields, facts={**fields.facts, "seed": args.seed})
    small = args.out / "default_fields.safetensors"
    save_fields(small, fields, half=True)
    measured = measure(load_fields(small), args)
    card = model_card(fields, measured, small.stat().st_size, args)
    write_text(args.out / "README.md", card)
    print(card)
    if args.install:
        WEIGHTS.parent.mkdir(exist_ok=True)
        save_fields(WEIGHTS, fields, half=True)
        write_text(WEIGHTS.with_name("README.md"), card)


def measure(fields: HeadFields, args: Args) -> dict[str, Any]:
    """Fit people that were not trained on: the shipped file, not the one of the training."""
    model = load_default_head()
    people = draw_people(model, HeadsConfig(args.people + args.held_out, seed=args.seed))[args.people :]
    started = time.process_time()
    table = geometry_table(
        [FieldsRow("default fields", fields)], registered_heads(model, people, [2, 8]), TableConfig()
    )
    return {**table, "cpu_s": time.process_time() - started}


def model_card(fields: HeadFields, measured: dict[str, Any], size: int, args: Args) -> str:
    """The text beside the weights."""
    facts, config = fields.facts, fields.facts["config"]
    of, posing = config["identity"], config["expression"]
    layout = of["layout"]
    rows = []
    for table in ("identity", "expression"):
        for region, row in measured[table].get("default fields", {}).items():
            values = " | ".join(f"{value:.3f}" for value in row.values())
            rows.append(f"| {table}, {region} | {values} |")
    words = {
        "SIZE": f"{size / 1e6:.1f}",
        "IDENTITY_WEIGHTS": f"{_millions(fields.identity):.2f}",
        "EXPRESSION_WEIGHTS": f"{_millions(fields.expression):.2f}",
        "MEMBERS": f"{layout['anchors']} anchors, members of {of['layers']} layers of {of['hidden']} units",
        "LATENTS": f"{layout['latent_global']} + {layout['anchors'] + 1} x {layout['latent_local']}",
        "DEFORMATION": f"{posing['layers']} layers of {posing['hidden']} units, latents of {posing['latent']}",
        "PEOPLE": str(facts["heads"]),
        "POSES": str(facts["poses"]),
        "SEED": str(args.seed),
        "IDENTITY_STEPS": str(facts["identity_steps"]),
        "IDENTITY_MINUTES": f"{facts['identity_cpu_s'] / 60:.1f}",
        "EXPRESSION_STEPS": str(facts["expression_steps"]),
        "EXPRESSION_MINUTES": f"{facts['expression_cpu_s'] / 60:.1f}",
        "HELD": str(args.held_out),
        "ROWS": "\n".join(rows),
        "OPEN": f"{fields.canonical.get('jawOpen', math.nan):.1f}",
    }
    return Template(_CARD).substitute(words)


def _millions(network: torch.nn.Module | None) -> float:
    return 0.0 if network is None else sum(p.numel() for p in network.parameters()) / 1e6


_CARD = """# Default head fields: model card

| file | what |
| --- | --- |
| `default_fields.safetensors` | $SIZE MB, half precision: identity ensemble ($IDENTITY_WEIGHTS million weights), \
forward deformation ($EXPRESSION_WEIGHTS million), latents of the training heads, mean anchors, sizes |

Code: `../head_fields.py`, `../field_files.py`; `load_default_fields()` in `../default_fields.py` reads them. The frame
is NPHM's (one unit is 250 mm of FLAME); `HeadFields.frame` leads to the default head model's metres. Smaller than the
released configuration: $MEMBERS, latents of $LATENTS;
deformation of $DEFORMATION. The anchors are our own.

## Data and recipe

- Only heads of the default model, which is made from MakeHuman's CC0 data: $PEOPLE people drawn from its prior (seed
  $SEED), $POSES posed heads (20 scripted expressions of ARKit's actions each). No scan and no photo was used, and
  nothing of the NPHM dataset.
- The authors' losses and weights. Identity: $IDENTITY_STEPS steps of 6 heads, $IDENTITY_MINUTES minutes of one
  processor core; expression: $EXPRESSION_STEPS steps of 8 posed heads, $EXPRESSION_MINUTES minutes. Cosine decay;
  latents start from the principal components of the heads' anchors.
- Again: `python -m headlab.scripts.recipes.default_fields build/default_fields`; all numbers above are its defaults.

## Measured

$HELD held-out people of the same model, fitted to 5,000 points each with the shipped file, millimetres. "Expression":
two expressions of each person, fitted together. Distances are from points to the other surface's triangles.

| | Chamfer L1 | normal consistency | F-score 1 mm | F-score 1.5 mm |
| --- | --- | --- | --- | --- |
$ROWS

## Limits

- What the default model cannot show, these fields have not seen: hair, beards, glasses, wrinkles, children.
- The canonical head has its mouth open (jawOpen $OPEN). Teeth and tongue are no part of the surface.
- Expressions are those of the script and what lies between them.
"""


if __name__ == "__main__":
    main(tyro.cli(Args))
