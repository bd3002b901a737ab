"""The rows of the remade NPHM table and the heads they are tried on (nphm_table.py says what is in each table)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ...geometry.models.default import load_default_head
from ...geometry.models.head_model import HeadModel
from ...geometry.sdf.field_files import load_fields
from ...geometry.sdf.latent_fit import LatentFitConfig
from ...geometry.sdf.linear_fit import LinearFitConfig
from ...geometry.sdf.linear_heads import global_pca, local_pca
from ...geometry.sdf.model_heads import Person
from ...geometry.sdf.registered import RegisteredHeads, registered_heads
from ...heads.metrics.geometry_table import TableConfig
from ...heads.metrics.table_rows import FieldsRow, LinearRow, ParametricRow, TableRow
from .nphm_edited import EditConfig, edited_heads
from .nphm_training import TRAINED

Row = Literal["nphm", "nphm_small", "npm", "global", "local", "parametric"]
Table = Literal["identity", "front", "edited", "expression"]
NAMES: Mapping[Row, str] = {
    "nphm": "NPHM",
    "nphm_small": "NPHM, small",
    "npm": "NPM",
    "global": "global PCA",
    "local": "local PCA",
    "parametric": "parametric (default head)",
}

#: Rows that are fields; each has a run of its name.
RUNS: tuple[Row, ...] = ("nphm", "nphm_small", "npm")

#: Rounds of the linear fit up to σ = 0.75 mm; then it goes down to the last σ, and three rounds stay there.
_ROUNDS = (0.02, 0.012, 0.008, 0.005, 0.003)


@dataclass(frozen=True)
class Settings:
    """What the rows are set to; numbers that were chosen were chosen by nphm_validation.py."""

    components: tuple[int, int] = (79, 40)
    """Of the global and of each local principal component analysis."""
    expression_components: int = 40
    last_sigma: float = 0.0007
    """Of the linear fit, field units (250 mm)."""
    evidence: float = 20000.0
    """Points that count as independent when fields are fitted."""
    own: float = 6.0
    """How far each number of a latent may go its own way, standard deviations of the training people's."""
    last_noise: float = 0.0007
    """σ at the end of the fields' fit, field units."""
    expressions: tuple[int, ...] = (2, 8)
    """Of each test person, fitted together: numbers of the script."""
    points: int = 5000
    """Of every cloud."""
    seed: int = 0


def linear_config(last_sigma: float) -> LinearFitConfig:
    """The linear fit, down to another σ."""
    return LinearFitConfig(noise=(*_ROUNDS, *(max(last_sigma, sigma) for sigma in (0.002, 0.001)), *[last_sigma] * 3))


def made_row(
    row: Row, settings: Settings, runs: Path, model: HeadModel, people: Sequence[Person], *, expressions: bool
) -> TableRow:
    """A row, ready to be fitted.

    Args:
        row: which.
        settings: numbers.
        runs: folder of the trained fields.
        model: ICT-FaceKit.
        people: its draws; the first eighty are what linear rows are made of.
        expressions: whether it shall fit posed heads, too.
    """
    if row in RUNS:
        noise = LatentFitConfig().noise[0], settings.last_noise
        whole = LatentFitConfig(evidence=settings.evidence, own=settings.own, noise=noise)
        posed = replace(whole, steps=200, points=400)
        return FieldsRow(NAMES[row], load_fields(runs / row), identity_fit=whole, expression_fit=posed)
    if row == "parametric":
        return ParametricRow(NAMES[row], load_default_head())
    heads: RegisteredHeads = registered_heads(model, people[:TRAINED], range(20) if expressions else [])
    pca, count = (global_pca, settings.components[0]) if row == "global" else (local_pca, settings.components[1])
    return LinearRow(NAMES[row], pca(heads, count, settings.expression_components), linear_config(settings.last_sigma))


def tested_head(settings: Settings, table: Table, model: HeadModel, person: Person, number: int) -> RegisteredHeads:
    """What the rows are fitted to and judged by."""
    one = registered_heads(model, [person], list(settings.expressions) if table == "expression" else [])
    return edited_heads(one, EditConfig(), settings.seed + number) if table == "edited" else one


def table_config(settings: Settings, table: Table, number: int) -> TableConfig:
    """Clouds and measures of one person."""
    view = "front" if table == "front" else "full"
    return TableConfig(settings.points, view=view, seed=settings.seed + 7 + number)


@cache
def facts_of(run: Path) -> Mapping[str, Any]:
    """What a run's fields say about themselves."""
    return load_fields(run).facts
