"""`headlab evaluate geometry`: NPHM's table. Fields, PCA and a parametric model fitted to people they never saw."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


@dataclass(frozen=True)
class EvaluateGeometry:
    """Fit neural fields, principal components and a parametric model to points of unseen heads, and compare."""

    fields: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Trained fields (.safetensors, or folders of `headlab train nphm`): one row each. None: headlab's own."""
    source: str = "default"
    """Whose people: "default" (headlab's own head model), a head model's file or folder (ICT-FaceKit, FLAME), or a
    folder in NPHM's layout."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """JSON file for the table."""
    train: int = 80
    """People that principal components are made of: the source's first. Fields should know no others, either."""
    test: int = 20
    """People that are fitted: those after them."""
    expressions: tuple[int, ...] = (2, 5, 8, 11)
    """Of each test person, by their number in the source; none for the table of identities alone."""
    seed: int = 0
    """Of the people that are drawn from a head model."""
    view: Literal["full", "front"] = "full"
    """Points of the whole outer surface, or of what a camera in front of the face sees."""
    points: int = 5000
    """Of every cloud."""
    noise: float = 0.0
    """Standard deviation of the points, millimetres."""
    resolution: int = 128
    """Of the fields' grids."""
    components: tuple[int, int] = (79, 12)
    """Of the global and of each local principal component analysis."""
    parametric: bool = True
    """Also fit headlab's own head model."""

    def run(self) -> None:
        table = evaluate_geometry(self)
        print(format_table(table))


def evaluate_geometry(args: EvaluateGeometry) -> dict[str, Any]:
    """Make the table; write it where `out` says."""
    from ..geometry.errors import HeadlabError
    from ..geometry.files import write_json
    from ..geometry.models.default import load_default_head
    from ..geometry.sdf.default_fields import load_default_fields
    from ..geometry.sdf.field_files import load_fields
    from ..geometry.sdf.linear_heads import global_pca, local_pca
    from ..heads.metrics.geometry_table import TableConfig, geometry_table
    from ..heads.metrics.table_rows import FieldsRow, LinearRow, ParametricRow, TableRow

    if args.test < 1 or args.train < 2:
        raise HeadlabError("the table needs at least two people for the principal components and one to be tested")
    trained, tested = _people(args)
    rows: list[TableRow] = []
    for path in args.fields:
        loaded = load_fields(path)
        stem = path.name if path.is_dir() else path.stem
        rows.append(FieldsRow(f"{loaded.kind} ({stem})", loaded, args.resolution))
    if not args.fields:
        rows.append(FieldsRow("NPHM (default)", load_default_fields(), args.resolution))
    whole, part = args.components
    poses = 40 if args.expressions else 0
    rows.append(LinearRow("global PCA", global_pca(trained, whole, poses)))
    rows.append(LinearRow("local PCA", local_pca(trained, part, poses)))
    if args.parametric:
        rows.append(ParametricRow("default head model", load_default_head()))
    if args.expressions and tested.posed.shape[1]:
        without = [row.name for row in rows if isinstance(row, FieldsRow) and row.fields.expression is None]
        if without:
            raise HeadlabError(f"{without[0]} has no expression field; give --expressions nothing, or train one")
    config = TableConfig(args.points, args.noise, args.view, seed=args.seed + 7)
    table = geometry_table(rows, tested, config, _told)
    print()
    table["setting"] = {
        "source": args.source,
        "train": len(trained.canonical),
        "test": len(tested.canonical),
        "expressions": list(tested.pose_names),
        "view": args.view,
        "points": args.points,
        "noise_mm": args.noise,
        "fields": {row.name: dict(row.fields.facts) for row in rows if isinstance(row, FieldsRow)},
    }
    if args.out is not None:
        write_json(args.out, table)
    return table


def _people(args: EvaluateGeometry) -> tuple[Any, Any]:
    """Registered heads to train principal components on, and to test on."""
    from ..geometry.errors import HeadlabError
    from ..geometry.sdf.model_heads import HeadsConfig, draw_people
    from ..geometry.sdf.registered import registered_heads
    from .field_sources import field_source

    model = field_source(args.source)
    if isinstance(model, Path):
        from ..datasets.nphm import registered_folder

        everyone = registered_folder(model, args.expressions)
        if len(everyone.canonical) < args.train + args.test:
            raise HeadlabError(
                f"{model} holds {len(everyone.canonical)} people; {args.train} to train on and {args.test} to test on "
                "were asked for: lower --train or --test"
            )
        return everyone.some(slice(args.train)), everyone.some(slice(args.train, args.train + args.test))
    config = HeadsConfig(people=args.train + args.test, seed=args.seed)
    people = draw_people(model, config)
    if any(not 0 <= pose < config.expressions for pose in args.expressions):
        raise HeadlabError(f"expressions are numbered 0 to {config.expressions - 1}; got {args.expressions}")
    every = range(config.expressions) if args.expressions else ()
    trained = registered_heads(model, people[: args.train], list(every))
    return trained, registered_heads(model, people[args.train :], list(args.expressions))


def _told(row: str, stage: str, done: int) -> None:
    print(f"\r{row}: {stage}, {done} people", end="   ", flush=True)


def format_table(table: dict[str, Any]) -> str:
    """The table as text, millimetres."""
    lines = []
    for stage in ("identity", "expression"):
        for region in ("head", "face"):
            rows = {name: row[region] for name, row in table[stage].items() if region in row}
            if not rows:
                continue
            names = list(next(iter(rows.values())))
            lines.append(f"{stage}, {region}".ljust(34) + "".join(name.rjust(20) for name in names))
            for name, row in rows.items():
                lines.append(name.ljust(34) + "".join(f"{row[key]:.4f}".rjust(20) for key in names))
            lines.append("")
    for failure in table["failures"]:
        lines.append(f"failed: {failure['row']}, {failure['table']}, person {failure['person']}: {failure['error']}")
    return "\n".join(lines)
