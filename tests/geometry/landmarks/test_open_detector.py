"""Choosing a detector, its errors, and its silence."""

import os
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
import torch

from headlab.geometry.errors import HeadlabError, MissingAssetError
from headlab.geometry.landmarks import LandmarkDetector, open_detector
from headlab.geometry.landmarks.quiet import quiet


def test_auto_needs_no_file() -> None:
    with open_detector() as detector:
        assert detector.name == "solutions" and isinstance(detector, LandmarkDetector)
        assert detector.detect(torch.zeros(3, 8, 8)) == []
    detector.close()
    with pytest.raises(ValueError, match="closed"):
        detector.detect(torch.zeros(3, 8, 8))


def test_auto_with_a_file_is_tasks(shared: Path) -> None:
    with open_detector(task_file=shared / "data/face_landmarker.task") as detector:
        assert detector.name == "tasks"
    detector.close()
    with pytest.raises(ValueError, match="closed"):
        detector.detect(torch.zeros(3, 8, 8))


def test_missing_file_names_the_command(tmp_path: Path) -> None:
    for file in (None, tmp_path / "face_landmarker.task"):
        with pytest.raises(MissingAssetError, match="headlab assets add face_landmarker") as caught:
            open_detector("tasks", file)
        assert "Apache" in str(caught.value) and "https://" in str(caught.value) and "\n" not in str(caught.value)


def test_newer_mediapipe_without_solutions(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[open_detector.__module__]
    monkeypatch.setattr(module, "has_solutions", lambda: False)
    for name in ("auto", "solutions"):
        with pytest.raises(MissingAssetError, match="headlab assets add face_landmarker"):
            open_detector(name)


def test_wrong_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.task").write_text("not a model")
    (tmp_path / "empty.task").touch()
    with zipfile.ZipFile(tmp_path / "zip.task", "w") as archive:
        archive.writestr("face_detector.tflite", b"nonsense")
    for name in ("text.task", "empty.task", "zip.task"):
        with pytest.raises(HeadlabError, match="not a MediaPipe face landmarker") as caught:
            open_detector("tasks", tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_damaged_file(shared: Path, tmp_path: Path) -> None:
    whole = (shared / "data/face_landmarker.task").read_bytes()
    (tmp_path / "cut.task").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(HeadlabError, match="damaged"):
        open_detector("tasks", tmp_path / "cut.task")


def test_unknown_name() -> None:
    with pytest.raises((ValueError, TypeError)):  # the type checker of the tests is faster
        open_detector("dlib")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["solutions", "tasks"])
def test_nothing_is_printed(name: str, shared: Path) -> None:
    """In a fresh interpreter with warnings as errors: loading and detecting leave both streams empty."""
    code = (
        "import sys, torch\n"
        "from headlab.geometry.landmarks import open_detector\n"
        "from headlab.datasets.photo import read_photo\n"
        "photo, task = sys.argv[1:]\n"
        f"with open_detector({name!r}, task if {name!r} == 'tasks' else None) as d:\n"
        "    assert len(d.detect(read_photo(photo).image)) == 2\n"
        "    assert not d.detect(torch.rand(3, 300, 300))\n"
    )
    files = [str(shared / "data/photos/p10.jpg"), str(shared / "data/face_landmarker.task")]
    done = subprocess.run([sys.executable, "-W", "error", "-c", code, *files], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_quiet_gives_everything_back(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), quiet():
        os.write(2, b"unseen")
        warnings.warn("unheard", UserWarning, stacklevel=1)
        with quiet():
            os.write(2, b"unseen")
        os.write(2, b"unseen")
        raise KeyError
    os.write(2, b"seen")
    assert capfd.readouterr().err == "seen"
    with pytest.raises(UserWarning):
        warnings.warn("heard", UserWarning, stacklevel=1)


def test_importing_loads_no_mediapipe() -> None:
    code = "import sys, headlab.geometry.landmarks, headlab.datasets.photo; assert 'mediapipe' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
