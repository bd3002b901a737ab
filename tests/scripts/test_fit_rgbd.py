"""`headlab fit --rgbd`: the files it writes, hair on them, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from headlab.datasets.depth_map import write_depth
from headlab.geometry.errors import HeadlabError
from headlab.heads.head_fit import HeadFit
from headlab.scripts.fit import Fit, fit


def capture(shared: Path, folder: Path, numbers: tuple[str, ...]) -> Path:
    folder.mkdir()
    for number in numbers:
        for kind in ("color", "depth"):
            shutil.copy(shared / f"data/rgbd/subject_a/{number}_{kind}.png", folder)
    shutil.copy(shared / "data/rgbd/subject_a/intrinsics.txt", folder)
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder


@pytest.mark.slow
def test_all_files_with_one_bad_frame(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = capture(shared, tmp_path / "in", ("0001", "0003"))
    write_depth(folder / "0003_depth.png", torch.zeros(480, 640))
    options = Fit(photos=(), out=tmp_path / "out", rgbd=folder, photometric=False, texture_size=256, hair="short")
    report = fit(options)
    assert report["method"] == "rgbd" and report["hair"] == "short"
    assert "0003_color.png was left out" in capsys.readouterr().err
    names = {file.name for file in options.out.iterdir()}
    assert names >= {
        "head.npz", "head.glb", "head.ply", "head.obj", "albedo.png", "overlay.png", "render.png", "turntable.png",
        "report.json", "index.html", "fused.ply",
    }  # fmt: skip
    written = json.loads((options.out / "report.json").read_text())
    assert written["rgbd"]["skipped_frames"].keys() == {"0003_color.png"}
    assert {"landmarks", "fusion", "geometry", "texture", "total"} <= written["seconds"].keys()
    assert "usemtl hair" in (options.out / "head.obj").read_text()
    head = HeadFit.load(options.out / "head.npz")
    assert head.model == "default" and len(head.cameras) == 1


def test_what_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for options, said in (
        (Fit(photos=(Path("a.jpg"),), out=out, rgbd=tmp_path), "exclude each other"),
        (Fit(photos=(), out=out), "--rgbd"),
        (Fit(photos=(), out=out, rgbd=tmp_path, method="auto"), "only by optimise"),
        (Fit(photos=(), out=out, rgbd=tmp_path, hair="mullet"), "no hair style is called mullet"),
        (Fit(photos=(), out=out, rgbd=tmp_path / "nothing"), "does not exist"),
        (Fit(photos=(), out=out, rgbd=tmp_path), "no RGB-D capture headlab knows"),
    ):
        with pytest.raises(HeadlabError, match=said):
            fit(options)
    assert not out.exists()
