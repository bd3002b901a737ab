"""`headlab fit` from its arguments to its files and exit code, in this process."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut, coffee

from headlab.geometry.models.head_model import HeadModel
from headlab.heads.fit import FitTools
from headlab.heads.head_fit import HeadFit
from headlab.scripts.cli import main

#: DESIGN.md, section 7; head.mtl belongs to head.obj.
FILES = {
    *("head.npz", "head.glb", "head.ply", "head.obj", "head.mtl", "albedo.png", "overlay.png", "render.png"),
    *("turntable.png", "report.json", "index.html"),
}


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(fit_tools: FitTools, monkeypatch, capsys) -> Run:
    """Run `headlab` with arguments; the prepared default head is made once for all tests."""
    monkeypatch.setattr(FitTools, "build", lambda name, model, size: fit_tools)

    def runner(*arguments: str | Path | float) -> Outcome:
        capsys.readouterr()
        code: int | str | None = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return Outcome(int(code or 0), captured.out, captured.err)

    return runner


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("photos")


@pytest.fixture(scope="module")
def photo(folder: Path) -> Path:
    path = folder / "astronaut.png"
    Image.fromarray(astronaut()).save(path)
    return path


@pytest.fixture(scope="module")
def fitted(photo: Path, fit_tools: FitTools, tmp_path_factory) -> HeadFit:
    """The photo fitted by landmarks alone."""
    from headlab.scripts.fit import Fit, fit

    out = tmp_path_factory.mktemp("fitted") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FitTools, "build", lambda name, model, size: fit_tools)
        fit(Fit((photo,), out, photometric=False))
    return HeadFit.load(out / "head.npz")


def refused(outcome: Outcome, pattern: str, code: int = 2) -> None:
    """One line that says what is wrong, no traceback."""
    assert outcome.code == code, outcome
    lines = outcome.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("headlab: "), outcome.err
    assert re.search(pattern, lines[0]), lines[0]
    assert outcome.out == ""


def landmarks(head: HeadFit, model: HeadModel) -> torch.Tensor:
    vertices = model.vertices(head.codes[0])
    return head.cameras[0].project(model.landmarks3d(vertices, "68"))


def test_a_photo_becomes_exactly_the_promised_files(run: Run, photo: Path, tmp_path: Path, default_head) -> None:
    out = tmp_path / "new" / "out"
    outcome = run("fit", photo, "-o", out)
    assert outcome.code == 0, outcome.err
    assert {path.name for path in out.iterdir()} == FILES
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert "astronaut.png" in outcome.out and str(out / "index.html") in outcome.out

    head = HeadFit.load(out / "head.npz")
    report = json.loads((out / "report.json").read_text())
    assert report["model"] == head.model == "default"
    assert report["landmark_nme"] == head.report["landmark_nme"] < 0.02
    stages = {"landmarks", "geometry", "photometric", "texture", "output", "total"}
    assert set(report["seconds"]) == stages and report["seconds"]["total"] > report["seconds"]["output"]

    with Image.open(out / "render.png") as picture:
        assert picture.size == (512, 512) and picture.mode == "RGB"
        render = np.asarray(picture)
    assert (render[:5] == 0).all() and (render[:, :5] == 0).all()  # black around
    points = landmarks(head, default_head).long().clamp(0, 511)
    assert (render[points[:, 1], points[:, 0]].max(-1) > 20).mean() > 0.9  # the head where the face is
    with Image.open(out / "albedo.png") as picture:
        assert picture.size == (256, 256)
    page = (out / "index.html").read_text()
    assert page.count("<figure") == 3 and "astronaut.png" in page
    assert "map_Kd albedo.png" in (out / "head.mtl").read_text()


def test_a_photo_is_fitted_by_the_bundled_network(run: Run, photo: Path, tmp_path: Path) -> None:
    assert run("fit", photo, "-o", tmp_path / "read", "--method", "regress").code == 0
    assert {path.name for path in (tmp_path / "read").iterdir()} == FILES
    report = json.loads((tmp_path / "read" / "report.json").read_text())
    assert report["method"] == "regress" and report["landmark_nme"] < 0.1
    assert {"network", "texture"} <= set(report["seconds"]) and "geometry" not in report["seconds"]

    assert run("fit", photo, "-o", tmp_path / "auto", "--method", "auto").code == 0
    report = json.loads((tmp_path / "auto" / "report.json").read_text())
    assert report["method"] == "auto" and report["landmark_nme"] < 0.02


def test_an_existing_folder_is_kept_unless_told_otherwise(run: Run, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "report.json").write_text("old")
    refused(run("fit", photo, "-o", tmp_path), "already holds files; add --overwrite")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "report.json"]

    assert run("fit", photo, "-o", tmp_path, "--overwrite", "--no-photometric").code == 0
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"notes.txt"}
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert json.loads((tmp_path / "report.json").read_text())["model"] == "default"


def test_a_file_in_the_way_is_named(run: Run, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    refused(run("fit", photo, "-o", tmp_path / "out"), "out is a file")
    refused(run("fit", photo, "-o", tmp_path / "out" / "sub"), "out is a file")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_picture_without_a_face_writes_nothing(run: Run, tmp_path: Path) -> None:
    picture = tmp_path / "coffee.png"
    Image.fromarray(coffee()).save(picture)
    refused(run("fit", picture, "-o", tmp_path / "a" / "out"), r"coffee.png: no face found; use a photo")
    assert [path.name for path in tmp_path.iterdir()] == ["coffee.png"]


def test_dogs_have_no_face(run: Run, shared: Path, tmp_path: Path) -> None:
    refused(run("fit", shared / "data/photos/p13.jpg", "-o", tmp_path / "out"), "p13.jpg: no face found")
    assert list(tmp_path.iterdir()) == []


def test_tiny_faces_are_found_or_refused_cleanly(run: Run, shared: Path, tmp_path: Path) -> None:
    outcome = run("fit", shared / "data/photos/p12.jpg", "-o", tmp_path / "out", "--no-photometric")
    if outcome.code == 0:
        assert json.loads((tmp_path / "out/report.json").read_text())["landmark_nme"] < 0.05
    else:
        refused(outcome, "p12.jpg: no face found")
        assert list(tmp_path.iterdir()) == []


def bad_files(folder: Path) -> dict[str, tuple[bytes, str]]:
    """Contents, and what the message says."""
    jpeg = folder / "whole.jpg"
    Image.fromarray(astronaut()).save(jpeg)
    png = folder / "whole.png"
    Image.fromarray(astronaut()).save(png)
    huge = bytearray(png.read_bytes())
    import zlib

    huge[16:24] = (40_000).to_bytes(4, "big") * 2  # IHDR: width, height
    huge[29:33] = zlib.crc32(bytes(huge[12:29])).to_bytes(4, "big")
    return {
        "truncated.jpg": (jpeg.read_bytes()[:20_000], "damaged"),
        "truncated.png": (png.read_bytes()[:20_000], "damaged"),
        "empty.jpg": (b"", "is empty"),
        "text.jpg": (b"this is no picture\n" * 20, "not an image"),
        "huge.png": (bytes(huge), "40000 x 40000 pixels, more than 100 megapixels"),
    }


@pytest.mark.parametrize("name", ["truncated.jpg", "truncated.png", "empty.jpg", "text.jpg", "huge.png"])
def test_files_that_are_no_photos_are_named(run: Run, tmp_path: Path, folder: Path, name: str) -> None:
    content, message = bad_files(folder)[name]
    (tmp_path / name).write_bytes(content)
    refused(run("fit", tmp_path / name, "-o", tmp_path / "out"), f"{name} .*{message}")
    assert not (tmp_path / "out").exists()


def test_missing_files_and_folders_are_named(run: Run, photo: Path, tmp_path: Path) -> None:
    refused(run("fit", tmp_path / "absent.jpg", "-o", tmp_path / "out"), "absent.jpg does not exist")
    refused(run("fit", tmp_path, "-o", tmp_path / "out"), "is a folder")
    refused(run("fit", photo, tmp_path / "second.jpg", "-o", tmp_path / "out"), "second.jpg does not exist")
    assert list(tmp_path.iterdir()) == []


def grey(image: np.ndarray, path: Path) -> None:
    Image.fromarray(image).convert("L").save(path)


def alpha(image: np.ndarray, path: Path) -> None:
    opacity = np.full(image.shape[:2], 255, np.uint8)
    opacity[:, :40] = 0
    Image.fromarray(np.dstack([image, opacity])).save(path)


def cmyk(image: np.ndarray, path: Path) -> None:
    Image.fromarray(image).convert("CMYK").save(path, quality=95)


def sixteen(image: np.ndarray, path: Path) -> None:
    cv2.imwrite(str(path), image[..., ::-1].astype(np.uint16) * 257)


def sixteen_grey(image: np.ndarray, path: Path) -> None:
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.uint16) * 257)


@pytest.mark.parametrize(
    ("write", "suffix"),
    [(grey, "png"), (alpha, "png"), (cmyk, "jpg"), (sixteen, "png"), (sixteen_grey, "png")],
    ids=["grey", "alpha", "CMYK", "16 bit", "16 bit grey"],
)
def test_every_ordinary_kind_of_image_is_fitted(
    run: Run, tmp_path: Path, fitted: HeadFit, default_head: HeadModel, write: Callable, suffix: str
) -> None:
    path, out = tmp_path / f"photo.{suffix}", tmp_path / "out"
    write(astronaut(), path)
    outcome = run("fit", path, "-o", out, "--no-photometric")
    assert outcome.code == 0, outcome.err
    expected, found = (landmarks(head, default_head) for head in (fitted, HeadFit.load(out / "head.npz")))
    eyes = (expected[36] - expected[45]).norm()
    assert (found - expected).norm(dim=1).mean() < 0.04 * eyes


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, 1), (8, 3)])
def test_a_photo_turned_by_exif_is_fitted_like_the_upright_one(
    run: Run, tmp_path: Path, fitted: HeadFit, orientation: int, turns: int
) -> None:
    """Stored turned, with a tag that says so, without loss: the same head."""
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(np.ascontiguousarray(np.rot90(astronaut(), turns))).save(path, exif=exif)
    assert run("fit", path, "-o", tmp_path / "out", "--no-photometric").code == 0
    head = HeadFit.load(tmp_path / "out/head.npz")
    torch.testing.assert_close(head.codes.shape, fitted.codes.shape, atol=1e-4, rtol=0)
    torch.testing.assert_close(head.codes.rotation, fitted.codes.rotation, atol=1e-5, rtol=0)


def test_the_focal_length_given_is_the_cameras(run: Run, photo: Path, tmp_path: Path) -> None:
    assert run("fit", photo, "-o", tmp_path / "out", "--focal", 900, "--no-photometric").code == 0
    head = HeadFit.load(tmp_path / "out/head.npz")
    assert float(head.cameras[0].K[0, 0]) == pytest.approx(900, rel=1e-5)
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["photos"][0]["focal_from"] == "option"
    for wrong in ("0", "-3", "nan"):
        refused(run("fit", photo, "-o", tmp_path / "other", f"--focal={wrong}"), "focal length must be a positive")


def test_faces_that_are_not_there_are_named(run: Run, photo: Path, tmp_path: Path) -> None:
    refused(run("fit", photo, "-o", tmp_path / "out", "--face", 5), "asked for face 5, but only 1 found")
    refused(run("fit", photo, "-o", tmp_path / "out", "--face=-1"), "no face -1")
    assert list(tmp_path.iterdir()) == []


def test_unknown_and_missing_models_are_named(run: Run, photo: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HEADLAB_ASSETS", str(tmp_path / "assets"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    out = tmp_path / "out"
    refused(
        run("fit", photo, "-o", out, "--model", "flame1999"), "no head model is called flame1999; known are default"
    )
    outcome = run("fit", photo, "-o", out, "--model", "flame2020")
    refused(outcome, r"generic_model\.pkl|FLAME")
    assert "https://flame.is.tue.mpg.de" in outcome.err and "headlab assets add" in outcome.err
    assert not out.exists()


def test_wrong_options_are_refused(run: Run, photo: Path, tmp_path: Path) -> None:
    refused(run("fit", "-o", tmp_path / "out"), "no photo given")
    for size in (0, -5, 10**9):
        refused(run("fit", photo, "-o", tmp_path / "out", f"--texture-size={size}"), "--texture-size takes 64 to 8192")
    for arguments in (["fit", photo], ["fit", photo, "-o", tmp_path, "--focal", "long"], ["paint"], []):
        outcome = run(*arguments)
        assert outcome.code == 2 and "Traceback" not in outcome.err + outcome.out


def test_help_is_no_error(run: Run) -> None:
    outcome = run("fit", "--help")
    assert outcome.code == 0 and "--overwrite" in outcome.out


def test_our_own_mistakes_are_one_line_and_exit_1(run: Run, photo: Path, tmp_path: Path, monkeypatch) -> None:
    def broken(*_, **__):
        raise RuntimeError("the first line\nand another")

    monkeypatch.setattr("headlab.heads.fit.fit_photos", broken)
    refused(run("fit", photo, "-o", tmp_path / "out"), "RuntimeError: the first line and another; this is a bug", 1)
    with pytest.raises(RuntimeError, match="the first line"):
        main(["fit", str(photo), "-o", str(tmp_path / "out"), "--debug"])
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_while_writing_leaves_nothing(run: Run, photo: Path, tmp_path: Path, monkeypatch) -> None:
    def broken(*_, **__):
        raise RuntimeError("late")

    monkeypatch.setattr("headlab.scripts.write_fit.write_index_html", broken)
    refused(run("fit", photo, "-o", tmp_path / "a/out", "--no-photometric"), "RuntimeError: late", 1)
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback_of_wrong_input_too(tmp_path: Path) -> None:
    from headlab.geometry.errors import HeadlabError

    with pytest.raises(HeadlabError, match="does not exist"):
        main(["fit", "absent.jpg", "-o", str(tmp_path / "out"), "--debug"])


def test_two_photos_of_one_person_share_the_identity(run: Run, photo: Path, tmp_path: Path) -> None:
    """The same photo at half the size, taken together with the whole one."""
    small = tmp_path / "small.png"
    Image.fromarray(astronaut()).resize((256, 256), Image.Resampling.BOX).save(small)
    out = tmp_path / "out"
    outcome = run("fit", photo, small, "-o", out, "--no-photometric")
    assert outcome.code == 0, outcome.err
    assert {path.name for path in out.iterdir()} == FILES | {"overlay_2.png", "render_2.png"}
    head = HeadFit.load(out / "head.npz")
    assert head.sources == ("astronaut.png", "small.png")
    assert torch.equal(head.codes.shape[0], head.codes.shape[1])
    assert [camera.size for camera in head.cameras] == [(512, 512), (256, 256)]
    with Image.open(out / "render_2.png") as picture:
        assert picture.size == (256, 256)


def test_several_views_share_the_identity(run: Run, shared: Path, tmp_path: Path) -> None:
    views = [tmp_path / f"view_{i}.jpg" for i in range(2)]
    shutil.copy(shared / "data/photos/multiview_a/view_0.jpg", views[0])
    with Image.open(shared / "data/photos/multiview_a/view_1.jpg") as picture:
        picture.reduce(2).save(views[1], quality=95)
    outcome = run("fit", *views, "-o", tmp_path / "out", "--no-photometric")
    assert outcome.code == 0, outcome.err
    head = HeadFit.load(tmp_path / "out/head.npz")
    assert torch.equal(head.codes.shape[0], head.codes.shape[1])
    assert not torch.equal(head.codes.rotation[0], head.codes.rotation[1])
    assert head.report["landmark_nme"] < 0.03
