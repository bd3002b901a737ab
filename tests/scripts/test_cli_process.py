"""The installed `headlab` command as its users start it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from skimage.data import astronaut

from headlab.heads.head_fit import HeadFit

#: Runs `headlab`, and stops for half a minute when it comes to a function, saying so by a file.
HALTING = """
import signal, sys, time
from pathlib import Path
import importlib

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born deaf to it
marker, where, *arguments = sys.argv[1:]
module, name = where.split(":")
module = importlib.import_module(module)

def halt(*_, **__):
    Path(marker).touch()
    time.sleep(30)
    raise RuntimeError("nobody interrupted")

setattr(module, name, halt)
from headlab.scripts.cli import main
main(arguments)
"""


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(astronaut()).save(path)
    return path


def headlab() -> str:
    command = Path(sys.executable).with_name("headlab")
    assert command.is_file(), "install the package: pip install --no-build-isolation -e ."
    return str(command)


@pytest.mark.slow
def test_the_command_fits_a_photo(photo: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [headlab(), "fit", photo.name, "-o", "out"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "open out/index.html" in done.stdout
    assert done.stderr.strip() == ""  # the networks under MediaPipe keep their notes to themselves
    assert HeadFit.load(tmp_path / "out/head.npz").sources == ("photo.png",)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photo.png"]


def test_wrong_input_is_one_line_and_exit_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [headlab(), "fit", "absent.jpg", "-o", "out"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.strip() == "headlab: absent.jpg does not exist; check the name"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "where", ["headlab.heads.fit:refine_photometric", "headlab.scripts.write_fit:write_index_html"]
)
def test_ctrl_c_leaves_no_half_file(photo: Path, tmp_path: Path, where: str) -> None:
    """After the landmarks, and while the last file is being written."""
    marker, out = tmp_path / "marker", tmp_path / "a" / "out"
    arguments = ["fit", str(photo), "-o", str(out), "--texture-size", "64"]
    process = subprocess.Popen(
        [sys.executable, "-c", HALTING, str(marker), where, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )
    try:
        for _ in range(1200):
            if marker.exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        assert marker.exists(), process.communicate()
        process.send_signal(signal.SIGINT)
        out_text, error = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, error
    assert error.strip() == "headlab: interrupted; nothing half-written was left" and out_text == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["marker", "photo.png"]
