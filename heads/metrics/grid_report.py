"""What a grid found: every cell with intervals, the effect of each factor, and whether it could be chance."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ...geometry.errors import HeadlabError
from .bootstrap import mean_interval, paired_test
from .grid import Grid, cell_name
from .grid_run import Ran
from .networks import NetworkCard
from .plots import ranking
from .report import Missing, Report


@dataclass(frozen=True)
class Cell:
    """One combination's report."""

    levels: Mapping[str, str]
    figures: Mapping[str, float]
    networks: Mapping[str, NetworkCard | None]
    rows: Mapping[str, Mapping[str, float]]  #: metric -> picture -> value


def read_cells(grid: Grid) -> list[Cell]:
    """Reports of the cells that have one."""
    cells = []
    for levels in grid.cells():
        path = grid.folder / grid.fill(grid.report, levels)
        if not path.is_file():
            continue
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            figures = {f["name"]: float(f["value"]) for f in data["figures"]}
            networks = {f["name"]: NetworkCard(**f["network"]) if f["network"] else None for f in data["figures"]}
            rows = {
                metric: {
                    row["picture"]: float(row[column]) for row in data["rows"] if row.get(column) not in (None, "")
                }
                for metric, column in grid.metrics.items()
                if column
            }
        except (ValueError, KeyError, TypeError) as error:
            raise HeadlabError(f"{path} is no report of `headlab evaluate` ({error})") from error
        cells.append(Cell(levels, figures, networks, rows))
    return cells


def grid_report(grid: Grid, ran: Ran | None = None) -> Report:
    """Figures: each metric in each cell. Rows: effects of factors with paired tests. Pictures: cells ranked.

    The effect of a factor compares two of its levels over all cells that differ in nothing else: picture by picture
    where the reports have rows (means over those cells first), else cell by cell.

    Raises:
        HeadlabError: no cell has a report.
    """
    cells = read_cells(grid)
    if not cells:
        raise HeadlabError(f"no cell of {grid.title} has a report ({grid.report}); run it without --only-report")
    report = Report(grid.title)
    total = len(list(grid.cells()))
    report.settings = {"factors": dict(grid.factors), "cells": total, "measured": len(cells)}
    for label, reason in (ran.failed if ran else {}).items():
        report.missing.append(Missing(label, reason, "mend it and start the sweep again"))
    for metric in grid.metrics:
        have = [cell for cell in cells if metric in cell.figures]
        if not have:
            report.missing.append(Missing(metric, "no report has it", "check the names under [measure]"))
            continue
        spans = [_span(cell, metric) for cell in have]
        for cell, (low, high) in zip(have, spans, strict=True):
            count = len(cell.rows.get(metric, {})) or None
            name = f"{metric} @ {cell_name(cell.levels)}"
            report.add(name, cell.figures[metric], "", cell.networks[metric], count, low, high)
        best_first = sorted(
            range(len(have)), key=lambda i: have[i].figures[metric], reverse=metric not in grid.smaller_is_better
        )
        report.pictures[f"{metric} by cell"] = ranking(
            [cell_name(have[i].levels) for i in best_first],
            [have[i].figures[metric] for i in best_first],
            [spans[i] for i in best_first],
            metric,
            grid.title,
        )
        report.rows += _effects(grid, have, metric)
    return report


def _span(cell: Cell, metric: str) -> tuple[float, float]:
    values = np.array(list(cell.rows.get(metric, {}).values()))
    return mean_interval(values) if len(values) else (cell.figures[metric], cell.figures[metric])


def _effects(grid: Grid, cells: list[Cell], metric: str) -> list[dict]:
    out = []
    for factor, levels in grid.factors.items():
        for a, b in combinations(levels, 2):
            partners = _partners(cells, factor, a, b)
            if not partners:
                continue
            first, second, unit = _paired_values(partners, metric)
            low, high = mean_interval(first - second)
            difference = float((first - second).mean())
            better = (difference < 0) == (metric in grid.smaller_is_better)
            out.append(
                {
                    "metric": metric,
                    "factor": factor,
                    "first": a,
                    "second": b,
                    "mean_first": float(first.mean()),
                    "mean_second": float(second.mean()),
                    "difference": difference,
                    "low": low,
                    "high": high,
                    "p": paired_test(first, second),
                    "better": "none" if difference == 0 else a if better else b,
                    "pairs": len(first),
                    "of": unit,
                }
            )
    return out


def _partners(cells: list[Cell], factor: str, a: str, b: str) -> list[tuple[Cell, Cell]]:
    """Cells that differ in one factor only."""
    by_levels = {tuple(sorted(cell.levels.items())): cell for cell in cells}
    pairs = []
    for cell in cells:
        if cell.levels[factor] == a:
            other = by_levels.get(tuple(sorted({**cell.levels, factor: b}.items())))
            if other is not None:
                pairs.append((cell, other))
    return pairs


def _paired_values(partners: list[tuple[Cell, Cell]], metric: str) -> tuple[np.ndarray, np.ndarray, str]:
    common = set.intersection(*(set(c.rows.get(metric, {})) for pair in partners for c in pair))
    if len(common) >= 2:
        names = sorted(common)
        sides = [
            np.array([np.mean([pair[side].rows[metric][name] for pair in partners]) for name in names])
            for side in (0, 1)
        ]
        return sides[0], sides[1], "pictures"
    sides = [np.array([pair[side].figures[metric] for pair in partners]) for side in (0, 1)]
    return sides[0], sides[1], "cells"
