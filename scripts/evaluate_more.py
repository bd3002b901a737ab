"""`headlab evaluate depth`, `scan`, `study`, `answers`, `grid`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from .evaluate_images import Common, finish, prepare, progress


@dataclass(frozen=True)
class EvaluateDepth:
    """Depth maps of the same names in two folders: AbsRel, RMSE, shares within 1.25, 1.25², 1.25³."""

    reference: Annotated[Path, tyro.conf.Positional]
    """Folder of 16-bit PNGs, the truth."""
    made: Annotated[Path, tyro.conf.Positional]
    """Folder of 16-bit PNGs."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the report."""
    unit: float = 0.001
    """Metres of one count; 0.001: millimetres. 0 is no depth."""
    common: Annotated[Common, tyro.conf.OmitArgPrefixes] = field(default_factory=Common)

    def run(self) -> None:
        from ..heads.metrics.depth import evaluate_depth

        prepare(self.out, self.common)
        finish(evaluate_depth(self.reference, self.made, self.unit), self.out, self.common)


@dataclass(frozen=True)
class EvaluateScan:
    """How near fitted heads are to a scan: NoW's scan-to-mesh distance of the neutral face."""

    scan: Annotated[Path, tyro.conf.Positional]
    """Scan: .ply, .obj, .stl or .npz of headlab."""
    head: Annotated[Path, tyro.conf.Positional]
    """head.npz of `headlab fit`; its expression is left out."""
    landmarks: Annotated[Path, tyro.conf.Positional]
    """Seven landmarks on the scan, one `x y z` per line, in its unit: outer and inner corner of the right eye, inner
    and outer corner of the left, base of the nose, right and left corner of the mouth (iBUG's 36, 39, 42, 45, 33, 48
    and 54)."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the report."""
    millimetres: float = 1.0
    """Of one unit of the scan."""
    scaled: bool = False
    """Also fit a scale (NoW's first protocol); by default sizes count."""
    common: Annotated[Common, tyro.conf.OmitArgPrefixes] = field(default_factory=Common)

    def run(self) -> None:
        from ..heads.metrics.scan_report import evaluate_scan

        prepare(self.out, self.common)
        report = evaluate_scan(self.scan, self.head, self.landmarks, millimetres=self.millimetres, scaled=self.scaled)
        finish(report, self.out, self.common)


@dataclass(frozen=True)
class MakeStudy:
    """Write a user study: one page that compares methods in pairs and asks which emotion is shown. Needs no server."""

    results: Annotated[Path, tyro.conf.Positional]
    """One folder per method, pictures of one item under one name; NAME@happy.png is also asked about by emotion."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for index.html and its pictures."""
    question: str = "Which picture shows the same person more convincingly?"
    """Asked above two pictures."""
    reference: str | None = None
    """Method shown above both, as the original."""
    most: int = 40
    """Questions of each kind."""
    seed: int = 0
    """Of their choice."""
    overwrite: bool = False
    """Write into a folder that already holds files."""

    def run(self) -> None:
        from ..heads.metrics.study import make_study
        from ..heads.output_folder import output_folder

        with output_folder(self.out, self.overwrite) as folder:
            study = make_study(
                self.results,
                folder,
                question=self.question,
                reference=self.reference,
                most=self.most,
                seed=self.seed,
            )
        print(f"{len(study.pairs)} pairs, {len(study.emotions)} emotions: {self.out / 'index.html'}")


@dataclass(frozen=True)
class ReadAnswers:
    """Analyse the answers of a user study: win rates, Bradley-Terry strengths, emotions seen."""

    answers: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """CSV files that visitors saved."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the report."""
    common: Annotated[Common, tyro.conf.OmitArgPrefixes] = field(default_factory=Common)

    def run(self) -> None:
        from ..heads.metrics.study import analyse

        prepare(self.out, self.common)
        finish(analyse(self.answers), self.out, self.common)


@dataclass(frozen=True)
class EvaluateGrid:
    """Run a factorial comparison and say which factors matter.

    The TOML file names factors, stages (commands) and what to measure; the docs of headlab.heads.metrics.grid show one.
    Stages whose results are there are not run again.
    """

    grid: Annotated[Path, tyro.conf.Positional]
    """The TOML file; commands run in its folder."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the report."""
    only_report: bool = False
    """Run nothing: report what is there."""
    common: Annotated[Common, tyro.conf.OmitArgPrefixes] = field(default_factory=Common)

    def run(self) -> None:
        from ..heads.metrics.grid import read_grid
        from ..heads.metrics.grid_report import grid_report
        from ..heads.metrics.grid_run import run_grid

        prepare(self.out, self.common)
        grid = read_grid(self.grid)
        ran = None if self.only_report else run_grid(grid, say=progress)
        finish(grid_report(grid, ran), self.out, self.common)
