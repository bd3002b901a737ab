"""NPHM's table: every row fits itself to points of people it has not seen, and is compared with their true surface.

    identity      a cloud of the canonical head; every person
    expression    clouds of some expressions of a person at once; every person and expression

A row that fails on a head is said and counted, and the others go on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ...geometry.errors import HeadlabError
from ...geometry.sdf.metrics import SurfaceComparison
from ...geometry.sdf.registered import RegisteredHeads
from ...geometry.sdf.sampling import LOWEST, seen_from
from .surface_score import MILLIMETRES, HeadSurface, draw_points, mean_rows, score_surface
from .table_rows import TableRow


@dataclass(frozen=True)
class TableConfig:
    """What is fitted to and how it is judged."""

    points: int = 5000
    """Of every cloud, front and back together, as the authors' test views hold."""
    noise: float = 0.0
    """Standard deviation of the clouds' points, millimetres."""
    view: Literal["full", "front"] = "full"
    """Points of the whole outer surface, or of what a camera in front of the face sees."""
    samples: int = 20000
    """Points drawn on each surface for the comparison."""
    thresholds: tuple[float, ...] = (1.0, 1.5)
    """Of the F-score, millimetres."""
    seed: int = 7


def geometry_table(
    rows: Sequence[TableRow],
    people: RegisteredHeads,
    config: TableConfig,
    callback: Callable[[str, str, int], None] | None = None,
) -> dict[str, Any]:
    """Fit and compare.

    Args:
        rows: see table_rows.py.
        people: test people, registered; expressions where there shall be that table.
        config: clouds and measures.
        callback: told the row, "identity" or "expression", and how many people are done.

    Returns:
        {"identity": {row: {"head": measures, "face": measures}}, "expression": ..., "failures": [...]}.

    Raises:
        HeadlabError: no people or no rows.
    """
    if not rows or len(people.canonical) == 0:
        raise HeadlabError("the table needs at least one row and one person; give fields and test people")
    out: dict[str, Any] = {"identity": {}, "expression": {}, "failures": []}
    stages = ["identity"] + (["expression"] if people.posed.shape[1] else [])
    scores: dict[tuple[str, str], list[dict[str, SurfaceComparison]]] = {}
    for stage in stages:
        for number in range(len(people.canonical)):
            truths, clouds = _task(people, number, stage, config)
            for row in rows:
                try:
                    found = [row.canonical(clouds[0])] if stage == "identity" else row.posed(clouds)
                    scored = _scored(found, truths, number, config)
                except HeadlabError as error:
                    out["failures"].append({"row": row.name, "table": stage, "person": number, "error": str(error)})
                else:
                    scores.setdefault((stage, row.name), []).extend(scored)
                if callback is not None:
                    callback(row.name, stage, number + 1)
    for (stage, name), found in scores.items():
        out[stage][name] = mean_rows(found, config.thresholds)
    return out


def _task(
    people: RegisteredHeads, number: int, stage: str, config: TableConfig
) -> tuple[list[HeadSurface], list[Float[Tensor, "_ 3"]]]:
    """One person's true surfaces, and the clouds of them."""
    shapes = people.canonical[number : number + 1] if stage == "identity" else people.posed[number]
    truths = [HeadSurface(vertices, people.faces, people.on_face).outer() for vertices in shapes]
    draws = torch.Generator().manual_seed(config.seed * 1_000_003 + number)
    return truths, [observed_points(truth, config, draws) for truth in truths]


def _scored(
    found: Sequence[HeadSurface], truths: Sequence[HeadSurface], number: int, config: TableConfig
) -> list[dict[str, SurfaceComparison]]:
    draws = torch.Generator().manual_seed(config.seed * 1_000_003 + number + 500_000)
    pairs = zip(found, truths, strict=True)
    return [score_surface(surface.outer(), truth, draws, config.samples) for surface, truth in pairs]


def observed_points(surface: HeadSurface, config: TableConfig, generator: torch.Generator) -> Float[Tensor, "n 3"]:
    """What is fitted to: points of the outer surface, or of what the front view shows of it."""
    if config.view == "front":
        seen = seen_from(surface.vertices, surface.faces, torch.tensor([0.0, 0.0, 1.0]))
        surface = HeadSurface(surface.vertices, surface.faces[seen])
    points = draw_points(surface, config.points, LOWEST, generator).points
    return points + config.noise / MILLIMETRES * torch.randn(points.shape, generator=generator)
