"""The table of the NPHM paper, remade on ICT-FaceKit: 80 people are trained on, 20 others fitted and compared.

    python -m headlab.scripts.bench.nphm_training ICT build/nphm_table --kind nphm (and --kind npm; 16 minutes each)
    python -m headlab.scripts.bench.nphm_table ICT build/nphm_table --output scripts/bench/results/nphm_table.json

Rows: NPHM, NPM, global PCA, local PCA, and a parametric model of other heads (the default one). Every row sees the same
points. A run may take some rows and some people only (--rows, --people): what it finds is kept beside the fields and
the table is made of all there is, so that long tables can be made in pieces.
"""

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro

from ...geometry.files import write_json
from ...geometry.models.default import load_default_head
from ...geometry.models.head_model import HeadModel
from ...geometry.models.ict import load_ict
from ...geometry.sdf.field_files import load_fields
from ...geometry.sdf.linear_heads import global_pca, local_pca
from ...geometry.sdf.model_heads import HeadsConfig, draw_people
from ...geometry.sdf.registered import RegisteredHeads, registered_heads
from ...heads.metrics.geometry_table import TableConfig, geometry_table
from ...heads.metrics.table_rows import FieldsRow, LinearRow, ParametricRow, TableRow
from .nphm_training import TESTED, TRAINED

Row = Literal["nphm", "npm", "global", "local", "parametric"]
NAMES = {
    "nphm": "NPHM",
    "npm": "NPM",
    "global": "global PCA",
    "local": "local PCA",
    "parametric": "parametric (default head)",
}


@dataclass(frozen=True)
class Args:
    """Make the table, or some of it."""

    ict: Annotated[Path, tyro.conf.Positional]
    """ICT-FaceKit: folder or npz."""
    runs: Annotated[Path, tyro.conf.Positional]
    """Folder of the trained fields; pieces of the table are kept in it."""
    output: Path | None = None
    """JSON file for the table; printed where absent."""
    rows: tuple[Row, ...] = ("nphm", "npm", "global", "local", "parametric")
    people: tuple[int, int] = (0, TESTED)
    """First and last (excluded) of the twenty test people."""
    tables: tuple[Literal["identity", "expression"], ...] = ("identity", "expression")
    expressions: tuple[int, ...] = (2, 8)
    """Of each person, fitted together: numbers of the script."""
    components: tuple[int, int] = (79, 24)
    """Of the global and of each local principal component analysis."""
    expression_components: int = 40
    points: int = 5000
    seed: int = 0


def main(args: Args) -> None:
    torch.set_num_threads(1)
    model = load_ict(args.ict)
    people = draw_people(model, HeadsConfig(TRAINED + TESTED, seed=args.seed))
    poses = list(args.expressions) if "expression" in args.tables else []
    for row in args.rows:
        made: TableRow | None = None
        for number in range(*args.people):
            for table in args.tables:
                piece = args.runs / "table" / f"{row}-{table}-{number:02d}.json"
                if piece.is_file():
                    continue
                made = made or _row(row, args, model, people)
                one = registered_heads(model, [people[TRAINED + number]], poses if table == "expression" else [])
                started = time.process_time()
                found = geometry_table([made], one, TableConfig(args.points, seed=args.seed + 7 + number))
                found["cpu_s"] = round(time.process_time() - started, 2)
                piece.parent.mkdir(parents=True, exist_ok=True)
                write_json(piece, {name: found[name] for name in (table, "failures", "cpu_s")})
                print(row, table, number, found["cpu_s"], flush=True)
    table = gathered(args)
    if args.output is None:
        print(json.dumps(table, indent=2))
    else:
        write_json(args.output, table)


def gathered(args: Args) -> dict[str, Any]:
    """All pieces there are: means over people, and how they spread."""
    out: dict[str, Any] = {"identity": {}, "expression": {}, "failures": []}
    for row, name in NAMES.items():
        for table in ("identity", "expression"):
            pieces = [
                json.loads(path.read_text()) for path in sorted((args.runs / "table").glob(f"{row}-{table}-*.json"))
            ]
            found = [piece[table][NAMES[row]] for piece in pieces if NAMES[row] in piece[table]]
            out["failures"] += [failure for piece in pieces for failure in piece["failures"]]
            if not found:
                continue
            out[table][name] = {
                region: {
                    measure: {
                        "mean": float(np.mean([one[region][measure] for one in found])),
                        "sd": float(np.std([one[region][measure] for one in found])),
                    }
                    for measure in found[0][region]
                }
                for region in found[0]
            }
            out[table][name]["people"] = len(found)
            out[table][name]["cpu_s_per_person"] = float(np.mean([piece["cpu_s"] for piece in pieces]))
    out["setting"] = {
        "trained_people": TRAINED,
        "test_people": TESTED,
        "expressions_trained": 20,
        "expressions_tested": list(args.expressions),
        "points_per_cloud": args.points,
        "unit": "mm; distances from points to triangles",
        "components": {"global": args.components[0], "each of 39 local": args.components[1]},
        "budget": {kind: _budget(args.runs / kind) for kind in ("nphm", "npm")},
        "machine": {"cores": os.cpu_count(), "torch": torch.__version__},
        "args": {k: v for k, v in asdict(args).items() if k not in ("ict", "runs", "output")},
    }
    return out


def _budget(run: Path) -> dict[str, Any] | None:
    if not (run / "fields.safetensors").is_file():
        return None
    facts = load_fields(run).facts
    return {name: facts[name] for name in facts if name.endswith(("_steps", "_cpu_s"))}


def _row(row: Row, args: Args, model: HeadModel, people: list) -> TableRow:
    if row in ("nphm", "npm"):
        return FieldsRow(NAMES[row], load_fields(args.runs / row))
    if row == "parametric":
        return ParametricRow(NAMES[row], load_default_head())
    heads: RegisteredHeads = registered_heads(model, people[:TRAINED], range(20) if "expression" in args.tables else [])
    if row == "global":
        return LinearRow(NAMES[row], global_pca(heads, args.components[0], args.expression_components))
    return LinearRow(NAMES[row], local_pca(heads, args.components[1], args.expression_components))


if __name__ == "__main__":
    main(tyro.cli(Args))
