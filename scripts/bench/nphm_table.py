"""The table of the NPHM paper, remade on ICT-FaceKit: 80 people are trained on, 20 others fitted and compared.

    python -m headlab.scripts.bench.nphm_training ICT build/nphm_table --kind nphm (and --kind npm; 16 minutes each)
    python -m headlab.scripts.bench.nphm_table ICT build/nphm_table --output scripts/bench/results/nphm_table.json

Rows: NPHM, NPM, global PCA, local PCA, and a parametric model of other heads (the default one). Every row sees the same
points, in the same frame, and nothing else; none knows which point belongs to which vertex. Components and the firmness
of the priors come from nphm_validation.py, which does not look at the test people.

    identity      5,000 points of the whole canonical head
    front         those that a camera in front of the face sees
    edited        as identity, of the same heads with bumps and dents that no mixture of ICT's modes is (nphm_edited.py)
    expression    clouds of some expressions of a person, fitted together

A run may take some rows and some people only (--rows, --people): what it finds is kept beside the fields and
the table is made of all there is, so that long tables can be made in pieces.
"""

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from ...geometry.files import plain, write_json
from ...geometry.models.head_model import HeadModel
from ...geometry.models.ict import load_ict
from ...geometry.sdf.model_heads import HeadsConfig, Person, draw_people
from ...heads.metrics.geometry_table import geometry_table
from ...heads.metrics.table_rows import TableRow
from .nphm_edited import EditConfig
from .nphm_rows import NAMES, RUNS, Row, Settings, Table, facts_of, made_row, table_config, tested_head
from .nphm_training import TESTED, TRAINED

_TABLES: tuple[Table, ...] = ("identity", "front", "edited", "expression")


@dataclass(frozen=True)
class Args:
    """Make the table, or some of it."""

    ict: Annotated[Path, tyro.conf.Positional]
    """ICT-FaceKit: folder or npz."""
    runs: Annotated[Path, tyro.conf.Positional]
    """Folder of the trained fields; pieces of the table are kept in it."""
    output: Path | None = None
    """JSON file for the table; printed where absent."""
    rows: tuple[Row, ...] = tuple(NAMES)
    """Fields only where their runs are."""
    people: tuple[int, int] = (0, TESTED)
    """First and last (excluded) of the twenty test people."""
    tables: tuple[Table, ...] = _TABLES
    settings: Settings = field(default_factory=Settings)


def main(args: Args) -> None:
    torch.set_num_threads(1)
    model = load_ict(args.ict)
    people = draw_people(model, HeadsConfig(TRAINED + TESTED, seed=args.settings.seed))
    for row in _present(args):
        made: TableRow | None = None
        for number in range(*args.people):
            for table in args.tables:
                if row in args.rows and _piece(args, row, table, number) is None:
                    posed = "expression" in args.tables
                    made = made or made_row(row, args.settings, args.runs, model, people, expressions=posed)
                    _measure(args, row, made, table, model, people[TRAINED + number], number)
    table = gathered(args)
    if args.output is None:
        print(json.dumps(table, indent=2))
    else:
        write_json(args.output, table)


def _present(args: Args) -> list[Row]:
    return [row for row in NAMES if row not in RUNS or (args.runs / row / "fields.safetensors").is_file()]


def _measure(args: Args, row: Row, made: TableRow, table: Table, model: HeadModel, person: Person, number: int) -> None:
    one = tested_head(args.settings, table, model, person, number)
    started = time.process_time()
    found = geometry_table([made], one, table_config(args.settings, table, number))
    seconds = round(time.process_time() - started, 2)
    score = found["expression" if table == "expression" else "identity"].get(NAMES[row])
    path = _path(args, row, table, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        path, {"score": score, "failures": found["failures"], "cpu_s": seconds, "setting": _setting(args, row, table)}
    )
    print(row, table, number, seconds, score and {k: round(v["chamfer_l1"], 4) for k, v in score.items()}, flush=True)


def _setting(args: Args, row: Row, table: Table) -> dict[str, Any]:
    """All that a piece depends on beside its person."""
    chosen = args.settings
    out: dict[str, Any] = {"points": chosen.points, "seed": chosen.seed}
    if table == "expression":
        out["expressions"] = chosen.expressions
    if table == "edited":
        out["edits"] = asdict(EditConfig())
    if row in RUNS:
        out |= {"evidence": chosen.evidence, "own": chosen.own, "last_noise": chosen.last_noise}
        out["steps"] = facts_of(args.runs / row)["identity_steps"]
    elif row != "parametric":
        out |= {"components": chosen.components[row == "local"], "last_sigma": chosen.last_sigma}
        if table == "expression":
            out["expression_components"] = chosen.expression_components
    return plain(out)


def _path(args: Args, row: Row, table: Table, number: int) -> Path:
    return args.runs / "table" / f"{row}-{table}-{number:02d}.json"


def _piece(args: Args, row: Row, table: Table, number: int) -> dict[str, Any] | None:
    """What was found with these settings, if it was."""
    path = _path(args, row, table, number)
    piece = json.loads(path.read_text()) if path.is_file() else None
    return piece if piece is not None and piece.get("setting") == _setting(args, row, table) else None


def gathered(args: Args) -> dict[str, Any]:
    """All pieces there are: means over people, how they spread, and each person's Chamfer distance."""
    out: dict[str, Any] = {**{table: {} for table in _TABLES}, "failures": []}
    for row in _present(args):
        for table in _TABLES:
            every = {number: _piece(args, row, table, number) for number in range(TESTED)}
            pieces = {number: piece for number, piece in every.items() if piece is not None}
            out["failures"] += [failure for piece in pieces.values() for failure in piece["failures"]]
            found = {number: piece["score"] for number, piece in pieces.items() if piece["score"] is not None}
            if not found:
                continue
            scores = list(found.values())
            measures: dict[str, Any] = {
                region: {
                    measure: {
                        "mean": float(np.mean([one[region][measure] for one in scores])),
                        "sd": float(np.std([one[region][measure] for one in scores])),
                    }
                    for measure in scores[0][region]
                }
                for region in scores[0]
            }
            for region in scores[0]:
                measures[region]["each"] = {n: round(one[region]["chamfer_l1"], 4) for n, one in found.items()}
            out[table][NAMES[row]] = measures | {
                "people": len(found),
                "cpu_s_per_person": float(np.mean([piece["cpu_s"] for piece in pieces.values()])),
            }
    out["setting"] = {
        "trained_people": TRAINED,
        "test_people": TESTED,
        "expressions_trained": 20,
        "unit": "mm; distances from points to triangles",
        "edits": asdict(EditConfig()),
        "budget": {row: _budget(args.runs / row) for row in _present(args) if row in RUNS},
        "machine": {"cores": os.cpu_count(), "torch": torch.__version__},
        "rows": asdict(args.settings),
    }
    return out


def _budget(run: Path) -> dict[str, Any]:
    facts = facts_of(run)
    return {name: facts[name] for name in facts if name.endswith(("_steps", "_cpu_s")) or name == "begun"}


if __name__ == "__main__":
    main(tyro.cli(Args))
