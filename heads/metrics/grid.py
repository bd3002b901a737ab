"""Factorial comparisons: a TOML file says which factors there are, and which commands make and measure each cell.

    title = "Which parts matter"
    [factors]
    data = ["small", "large"]
    encoder = ["resnet18", "resnet50"]
    target = ["landmarks", "regress"]

    [[stages]]
    name = "train"
    run = "headlab train denoiser pairs/{data} -o models/{data}-{encoder} --semantic {encoder}"
    makes = "models/{data}-{encoder}/weights"

    [[stages]]
    name = "edit"
    run = "python edit.py models/{data}-{encoder}/weights --fit {target} -o edited/{cell}"
    makes = "edited/{cell}"

    [measure]
    run = "headlab evaluate images photos edited/{cell} -o reports/{cell}"
    report = "reports/{cell}/report.json"
    metrics = { "CSIM" = "csim", "β drift" = "beta_drift_mm" }   # figure -> column of the report's rows
    smaller_is_better = ["β drift"]

A stage runs once for each combination of the factors its texts name ({cell} names all), and not at all where what it
makes is there: a stopped sweep goes on when started again. Commands run without a shell, in the TOML file's folder.
"""

import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from ...geometry.errors import HeadlabError

_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Stage:
    """A command and what it makes."""

    name: str
    run: str
    makes: str

    def factors(self, all_factors: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        """Those its texts depend on, in the grid's order."""
        named = set(_FIELD.findall(self.run + self.makes))
        return tuple(name for name in all_factors if name in named or "cell" in named)


@dataclass(frozen=True)
class Grid:
    """A comparison. Levels are texts."""

    title: str
    folder: Path  #: where commands run
    factors: Mapping[str, tuple[str, ...]]
    stages: tuple[Stage, ...]  #: the last one measures
    report: str
    metrics: Mapping[str, str]  #: figure's name -> column of the rows, "" where there is none
    smaller_is_better: frozenset[str]
    python: str = sys.executable

    def cells(self) -> Iterator[dict[str, str]]:
        """Every combination of levels."""
        for levels in product(*self.factors.values()):
            yield dict(zip(self.factors, levels, strict=True))

    def fill(self, text: str, levels: Mapping[str, str]) -> str:
        """Put levels in for names in braces."""
        return _FIELD.sub(lambda m: cell_name(levels) if m[1] == "cell" else levels[m[1]], text)

    def command(self, stage: Stage, levels: Mapping[str, str]) -> list[str]:
        """Words of a command; a leading `python` is the interpreter in use, `headlab` its command line."""
        words = [self.fill(word, levels) for word in shlex.split(stage.run)]
        if words[0] == "python":
            return [self.python, *words[1:]]
        if words[0] == "headlab":
            return [self.python, "-m", "headlab.scripts.cli", *words[1:]]
        return words


def cell_name(levels: Mapping[str, str]) -> str:
    """A file name for a combination of levels."""
    return "_".join(re.sub(r"[^\w.-]+", "-", level) for level in levels.values())


def read_grid(path: Path) -> Grid:
    """Read and check a grid.

    Raises:
        HeadlabError: no TOML, something is missing, or a text names what is no factor.
    """
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib  # type: ignore[import-not-found, no-redef]
    try:
        data: dict[str, Any] = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise HeadlabError(f"{path} cannot be read as a grid ({error})") from error
    factors = {name: tuple(map(str, levels)) for name, levels in _need(data, "factors", dict, path).items()}
    measure = _need(data, "measure", dict, path)
    metrics = _need(measure, "metrics", (dict, list), path)
    metrics = dict.fromkeys(metrics, "") if isinstance(metrics, list) else {k: str(v) for k, v in metrics.items()}
    report = _need(measure, "report", str, path)
    stages = [
        Stage(_need(s, "name", str, path), _need(s, "run", str, path), _need(s, "makes", str, path))
        for s in data.get("stages", [])
    ]
    stages.append(Stage("measure", _need(measure, "run", str, path), report))
    for name, levels in factors.items():
        if len(levels) < 1 or len(set(levels)) != len(levels) or name == "cell":
            raise HeadlabError(f"{path}: the factor {name} needs levels, each once, and another name than cell")
    for stage in stages:
        unknown = sorted(set(_FIELD.findall(stage.run + stage.makes)) - set(factors) - {"cell"})
        if unknown:
            raise HeadlabError(f"{path}: stage {stage.name} names {{{unknown[0]}}}, which is no factor")
    grid = Grid(
        str(data.get("title", Path(path).stem)),
        Path(path).absolute().parent,
        factors,
        tuple(stages),
        report,
        metrics,
        frozenset(map(str, measure.get("smaller_is_better", []))),
    )
    cells = [cell_name(levels) for levels in grid.cells()]
    if len(set(cells)) != len(cells):
        raise HeadlabError(f"{path}: two cells would have one file name; let levels differ in letters and digits")
    return grid


def _need(data: Mapping[str, Any], name: str, kind: Any, path: Path) -> Any:
    if name not in data or not isinstance(data[name], kind) or not data[name]:
        raise HeadlabError(f"{path} has no {name}; see the example in `headlab evaluate grid --help`")
    return data[name]
