"""Sweeps: what runs, what is skipped, and whether planted effects are found."""

import json

import pytest

from headlab.geometry.errors import HeadlabError
from headlab.heads.metrics.grid import read_grid
from headlab.heads.metrics.grid_report import grid_report
from headlab.heads.metrics.grid_run import run_grid

_TRAIN = """
import sys, pathlib
p = pathlib.Path(sys.argv[1])
p.write_text(p.stem)
open('log', 'a').write(p.stem + '\\n')
"""
_MEASURE = """
import json, pathlib, random, sys
data, encoder, fitter = sys.argv[1:4]
if fitter == 'broken': sys.exit('no such fitter')
random.seed(0)
rows = [{'picture': f'{i}.png', 'csim': 0.5 + 0.2 * (data == 'large') + random.random() * 0.1} for i in range(12)]
mean = sum(r['csim'] for r in rows) / len(rows)
card = {'name': 'net', 'weights': 'abc', 'sees': 'all'}
report = {'figures': [{'name': 'CSIM', 'value': mean, 'network': card}], 'rows': rows}
out = pathlib.Path(sys.argv[4]); out.parent.mkdir(parents=True, exist_ok=True); out.write_text(json.dumps(report))
"""


def write_grid(folder, fitters='["landmarks", "regress"]', extra=""):
    (folder / "train.py").write_text(_TRAIN)
    (folder / "measure.py").write_text(_MEASURE)
    (folder / "grid.toml").write_text(
        f"""
title = "what matters"
[factors]
data = ["small", "large"]
encoder = ["resnet18", "resnet50"]
fitter = {fitters}
[[stages]]
name = "train"
run = "python train.py models/{{data}}-{{encoder}}.txt"
makes = "models/{{data}}-{{encoder}}.txt"
[measure]
run = "python measure.py {{data}} {{encoder}} {{fitter}} 'reports/{{cell}}/report.json'"
report = "reports/{{cell}}/report.json"
metrics = {{ "CSIM" = "csim" }}
{extra}
"""
    )
    return folder / "grid.toml"


def test_a_sweep_runs_once_and_finds_the_effect(tmp_path):
    grid = read_grid(write_grid(tmp_path))
    ran = run_grid(grid)
    assert (ran.done, ran.skipped, ran.failed) == (4 + 8, 0, {})
    assert sorted((tmp_path / "log").read_text().split()) == sorted(
        f"{d}-{e}" for d in ("small", "large") for e in ("resnet18", "resnet50")
    )
    # Stopped and started again: only what is missing.
    (tmp_path / "reports/small_resnet18_regress/report.json").unlink()
    again = run_grid(grid)
    assert (again.done, again.skipped) == (1, 11)
    report = grid_report(grid, again)
    assert len(report.figures) == 8 and all(f.low < f.value < f.high for f in report.figures)
    effects = {row["factor"]: row for row in report.rows}
    assert effects["data"]["difference"] == pytest.approx(-0.2)
    assert effects["data"]["better"] == "large" and effects["data"]["p"] < 0.001 and effects["data"]["pairs"] == 12
    assert effects["encoder"]["p"] == 1 and effects["encoder"]["better"] == "none"
    assert "CSIM by cell" in report.pictures
    names = {path.name for path in report.write(tmp_path / "out")}
    assert {"report.html", "report.json", "figures.csv", "csim_by_cell.png"} <= names
    assert json.loads((tmp_path / "out/report.json").read_text())["settings"]["measured"] == 8


def test_a_broken_cell_does_not_stop_the_others(tmp_path):
    grid = read_grid(write_grid(tmp_path, fitters='["landmarks", "broken"]'))
    ran = run_grid(grid)
    assert ran.done == 4 + 4 and len(ran.failed) == 4
    assert all("no such fitter" in reason for reason in ran.failed.values())
    report = grid_report(grid, ran)
    assert report.settings["measured"] == 4 and len(report.missing) == 4


def test_mistakes_are_named(tmp_path):
    with pytest.raises(HeadlabError, match=r"names \{colour\}, which is no factor"):
        path = write_grid(tmp_path)
        path.write_text(path.read_text().replace("{fitter} '", "{colour} '"))
        read_grid(path)
    with pytest.raises(HeadlabError, match="needs levels"):
        read_grid(write_grid(tmp_path, fitters='["a", "a"]'))
    with pytest.raises(HeadlabError, match="has no factors"):
        (tmp_path / "empty.toml").write_text("title = 'x'\n")
        read_grid(tmp_path / "empty.toml")
    with pytest.raises(HeadlabError, match="one file name"):
        read_grid(write_grid(tmp_path, fitters='["a b", "a/b"]'))
    with pytest.raises(HeadlabError, match="no cell"):
        grid_report(read_grid(write_grid(tmp_path)))
