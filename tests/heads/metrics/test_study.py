"""Studies: the page's contents, and the statistics of made-up answers with a known truth."""

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from headlab.geometry.errors import HeadlabError
from headlab.geometry.files import write_png
from headlab.heads.metrics.study import COLUMNS, analyse, bradley_terry, make_study


@pytest.fixture
def results(tmp_path):
    for method, grey in (("ours", 0.2), ("theirs", 0.5), ("original", 0.8)):
        (tmp_path / "results" / method).mkdir(parents=True)
        for item in ("anna@happy", "ben@sad", "carl"):
            write_png(tmp_path / "results" / method / f"{item}.png", torch.full((3, 16, 16), grey))
    return tmp_path / "results"


def test_a_study_hides_the_methods(results, tmp_path):
    (out := tmp_path / "study").mkdir()
    (results.parent / "nothing" / "ours").mkdir(parents=True)
    study = make_study(results, out, reference="original")
    assert study.methods == ("ours", "theirs")
    assert len(study.pairs) == 3 and len(study.emotions) == 4
    data = json.loads((out / "study.json").read_text())
    for source in data["sources"].values():
        assert (out / source).is_file() and not {"ours", "theirs"} & set(source.replace("/", " ").split())
    assert "anna@happy|original" in data["sources"]
    with pytest.raises(HeadlabError, match="at least two"):
        make_study(results.parent / "nothing", out)
    with pytest.raises(HeadlabError, match="no folder nobody"):
        make_study(results, out, reference="nobody")


def answers(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return path


def test_bradley_terry_finds_the_strengths():
    rng = np.random.default_rng(0)
    true = np.array([0.5, 0.3, 0.2])
    wins = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            if i < j:
                won = rng.binomial(4000, true[i] / (true[i] + true[j]))
                wins[i, j], wins[j, i] = won, 4000 - won
    assert np.allclose(bradley_terry(wins), true, atol=0.02)
    # Two methods: the strength is the win rate.
    assert np.allclose(bradley_terry(np.array([[0.0, 30], [10, 0]]), prior=0.0), [0.75, 0.25], atol=1e-6)


def test_answers_become_rates(tmp_path):
    rng = np.random.default_rng(1)
    rows = []
    for visitor in range(20):
        for item in range(10):
            left, right = rng.permutation(["good", "poor"])
            better = "left" if left == "good" else "right"
            choice = better if rng.random() < 0.8 else {"left": "right", "right": "left"}[better]
            rows.append((f"v{visitor}", "pair", item, left, right, choice, 2.0))
        rows.append((f"v{visitor}", "emotion", 0, "good", "happy", "happy" if visitor % 4 else "sad", 3.0))
    report = analyse([answers(tmp_path / "a.csv", rows[:110]), answers(tmp_path / "b.csv", rows[110:])])
    figure = {f.name: f for f in report.figures}
    assert figure["good: win rate"].value == pytest.approx(0.8, abs=0.07)
    span = figure["good: Bradley-Terry"]
    assert span.low < 0.8 < span.high and span.high - span.low < 0.2
    assert figure["good: emotion recognised"].value == pytest.approx(0.75)
    assert report.pictures["Bradley-Terry strengths"].startswith(b"\x89PNG")
    with pytest.raises(HeadlabError, match="no answer file"):
        (tmp_path / "x.csv").write_text("a,b\n1,2\n")
        analyse([tmp_path / "x.csv"])
    with pytest.raises(HeadlabError, match="no answers"):
        analyse([answers(tmp_path / "none.csv", [])])


_DRIVE = """
const { chromium } = require("playwright-core");
const [program, url] = process.argv.slice(1);
(async () => {
  const browser = await chromium.launch({ executablePath: program, args: ["--no-sandbox"] });
  const page = await browser.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  await page.goto(url);
  await page.locator("#pictures img").first().waitFor();
  const loaded = await page.evaluate(() => [...document.images].every((i) => i.complete ? i.naturalWidth > 0 : true));
  const kinds = [];
  await page.locator("#pictures button").first().click();
  await page.reload();  // what was answered is kept
  const kept = await page.evaluate(() => study.state.answers.length);
  while (!(await page.evaluate(() => document.body.dataset.done))) {
    const pair = await page.locator("#pictures button").count();
    kinds.push(pair ? "pair" : "emotion");
    if (pair) await page.keyboard.press("ArrowRight");
    else await page.locator("#choices button", { hasText: "happy" }).click();
  }
  const csv = await page.evaluate(() => study.csv());
  console.log(JSON.stringify({ errors, loaded, kept, kinds, csv }));
  await browser.close();
})().catch((error) => { console.error(error); process.exit(1); });
"""


@pytest.mark.slow
def test_a_visitor_answers_in_a_browser(results, tmp_path):
    node_modules = Path(os.environ.get("HEADLAB_NODE_MODULES", "build/node_modules"))
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    chromium = os.environ.get("HEADLAB_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if chromium is None or not (node_modules / "playwright-core").is_dir():
        pytest.skip("no Chromium or no playwright-core")
    (out := tmp_path / "study").mkdir()
    make_study(results, out, reference="original")
    done = subprocess.run(
        ["node", "-e", _DRIVE, chromium, (out / "index.html").as_uri()],
        env={**os.environ, "NODE_PATH": str(node_modules.resolve())},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    heard = json.loads(done.stdout)
    assert heard["errors"] == [] and heard["loaded"] and heard["kept"] == 1
    assert sorted(heard["kinds"]) == ["emotion"] * 4 + ["pair"] * 2
    (tmp_path / "answers.csv").write_text(heard["csv"])
    report = analyse([tmp_path / "answers.csv"])
    assert report.settings["answers"] == 7 and report.settings["visitors"] == 1
    assert report.value("ours: win rate") + report.value("theirs: win rate") == 1
