"""What the rows of the remade NPHM table are set to, chosen without its twenty test people.

    python -m headlab.scripts.bench.nphm_validation ICT --output scripts/bench/results/nphm_validation.json \
        --fields build/nphm_table/nphm

    linear    components and the last σ of the fit: models of the first 64 of the 80 people, fitted to others of these
    fields    how firmly the prior holds the latents: fitted to people drawn after the hundred (no fields were trained
              on fewer than the eighty); the settings are few and go into every field's row alike
    growth    global components made of more and more people, on those same people: ICT's people are draws of a linear
              model of 100 modes, so that from a hundred people on principal components are exact
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro

from ...geometry.files import write_json
from ...geometry.models.head_model import HeadModel
from ...geometry.models.ict import load_ict
from ...geometry.sdf.field_files import load_fields
from ...geometry.sdf.latent_fit import LatentFitConfig
from ...geometry.sdf.linear_heads import global_pca, local_pca
from ...geometry.sdf.model_heads import HeadsConfig, draw_people
from ...geometry.sdf.registered import RegisteredHeads, registered_heads
from ...heads.metrics.geometry_table import TableConfig, geometry_table
from ...heads.metrics.table_rows import FieldsRow, LinearRow, TableRow
from .nphm_rows import linear_config
from .nphm_training import TESTED, TRAINED

#: Of the eighty: models are made of these, and chosen by some of the others.
_MADE_OF = 64


@dataclass(frozen=True)
class Args:
    """Choose the rows' settings."""

    ict: Annotated[Path, tyro.conf.Positional]
    """ICT-FaceKit: folder or npz."""
    output: Path
    """JSON file; parts that it holds already stay."""
    parts: tuple[Literal["linear", "fields", "growth"], ...] = ("linear", "fields", "growth")
    fields: Path | None = None
    """Run of trained fields, for that part."""
    people: int = 2
    """To fit to."""
    whole: tuple[int, ...] = (32, 63)
    """Components of the global analysis."""
    part: tuple[int, ...] = (12, 24, 40)
    """Of each local one."""
    ends: tuple[float, ...] = (0.002, 0.0007)
    """Last σ of the linear fit, field units (250 mm)."""
    evidence: tuple[float, ...] = (3000.0, 20000.0, 60000.0)
    """Points that count as independent when fields are fitted."""
    own: tuple[float, ...] = (1.0, 3.0, 6.0)
    """How far each number of a latent may go its own way."""


def main(args: Args) -> None:
    torch.set_num_threads(1)
    model = load_ict(args.ict)
    out: dict[str, Any] = json.loads(args.output.read_text()) if args.output.is_file() else {}
    if "linear" in args.parts:
        out["linear"] = _linear(args, model)
        write_json(args.output, out)
    if "growth" in args.parts:
        out["growth"] = _growth(args, model)
        write_json(args.output, out)
    if "fields" in args.parts and args.fields is not None:
        out["fields"] = _fields(args, args.fields, model)
        write_json(args.output, out)


def _linear(args: Args, model: HeadModel) -> dict[str, Any]:
    people = registered_heads(model, draw_people(model, HeadsConfig(TRAINED)), [])
    made_of, judged = people.some(slice(_MADE_OF)), people.some(slice(_MADE_OF, _MADE_OF + args.people))
    out: dict[str, Any] = {}
    for kind, numbers, make in (("global", args.whole, global_pca), ("local", args.part, local_pca)):
        models = {number: make(made_of, number, 0) for number in numbers}
        rows = [LinearRow(f"{kind} {number}", found) for number, found in models.items()]
        scores = {number: _score(row, judged) for number, row in zip(numbers, rows, strict=True)}
        best = min(scores, key=lambda number: scores[number]["head"])
        ends = {end: _score(LinearRow(kind, models[best], linear_config(end)), judged) for end in args.ends}
        chosen = min(ends, key=lambda end: ends[end]["head"])
        out[kind] = {"components": scores, "chosen": best, "last_sigma": ends, "chosen_sigma": chosen}
    return out | {"made_of": _MADE_OF, "judged_by": args.people}


def _growth(args: Args, model: HeadModel) -> dict[str, Any]:
    fresh = TRAINED + TESTED
    people = draw_people(model, HeadsConfig(fresh + args.people + 40))
    judged = registered_heads(model, people[fresh : fresh + args.people], [])
    # The twenty test people are left out here, too.
    known = registered_heads(model, people[:TRAINED] + people[fresh + args.people :], [])
    out = {}
    for count in (20, 40, 60, 80, 100, 120):
        row = LinearRow("global", global_pca(known.some(slice(count)), count - 1, 0), linear_config(args.ends[-1]))
        out[count] = _score(row, judged)
    return out


def _fields(args: Args, run: Path, model: HeadModel) -> dict[str, Any]:
    fresh = TRAINED + TESTED
    people = draw_people(model, HeadsConfig(fresh + args.people))[fresh:]
    judged, fields = registered_heads(model, people, []), load_fields(run)
    out: dict[str, Any] = {"facts": {k: v for k, v in fields.facts.items() if k != "config"}, "scores": []}
    for own in args.own:
        for evidence in args.evidence:
            row = FieldsRow("fields", fields, identity_fit=LatentFitConfig(evidence=evidence, own=own))
            out["scores"].append({"evidence": evidence, "own": own, **_score(row, judged)})
    return out


def _score(row: TableRow, judged: RegisteredHeads) -> dict[str, float]:
    """Chamfer L1 of some people, millimetres, and what it cost."""
    started = time.process_time()
    found = geometry_table([row], judged, TableConfig())["identity"][row.name]
    seconds = (time.process_time() - started) / len(judged.canonical)
    out = {region: round(float(np.float64(found[region]["chamfer_l1"])), 4) for region in ("head", "face")}
    print(row.name, out, round(seconds, 1), flush=True)
    return out | {"cpu_s_per_person": round(seconds, 2)}


if __name__ == "__main__":
    main(tyro.cli(Args))
