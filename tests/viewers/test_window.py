"""The Open3D window for real: under Xvfb with software Vulkan, its slider dragged by the mouse."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

_CHILD = """
import json, os, subprocess, sys, threading, time
from pathlib import Path

import torch
from PIL import Image, ImageGrab

torch.set_num_threads(1)
from viewed import head, model
from headlab.heads.view import opened
from headlab.viewers.display_probe import DisplayProbe
from headlab.viewers.session import Session
from headlab.viewers.window import Window

folder = Path(sys.argv[1])
opened.load_model = lambda name: model()
head(seed=30).fit.save(folder / "second.npz")
session = Session([head(frames=3)], folder=folder, generator=torch.Generator().manual_seed(0))
with DisplayProbe() as probe:
    graphics = probe.graphics()
heard = {"opengl": graphics.opengl, "device": graphics.device}
window = Window(session, size=(800, 600), opengl=graphics.opengl)

def until(condition, what):
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.02)

def settled():
    # The fine picture is the last one after a change.
    until(lambda: window._fine and window._version == session.version, "a fine picture")

def shoot(name):
    settled()
    # What was handed over is on the screen when two shots in a row agree and differ from the last one.
    last = None
    for _ in range(200):
        time.sleep(0.05)
        picture = ImageGrab.grab(xdisplay=os.environ["DISPLAY"])
        data = picture.tobytes()
        drawn = len(picture.getcolors(1 << 24)) > 500  # more than widgets on an empty view
        if drawn and data == last and data not in shots:
            break
        last = data
    shots.append(data)
    picture.save(folder / f"{name}.png")

def mouse(*words):
    subprocess.run(["xdotool", *map(str, words)], check=True, timeout=30)

def drive():
    try:
        shoot("opened")
        area, view = window._window.os_frame, window._view.frame
        heard["view"] = [area.x + view.x, area.y + view.y, view.width, view.height]
        Image.fromarray(session.picture((view.height, view.width), fine=True)).save(folder / "expected.png")
        x, y, width, height = window.slider_place("jawOpen")
        heard["slider"] = [x, y, width, height]
        mouse("mousemove", x + width // 2, y + height // 2)
        mouse("mousedown", 1)
        before = session.version
        for share in (0.6, 0.7, 0.8, 0.9):
            mouse("mousemove", x + round(share * width), y + height // 2)
            time.sleep(0.05)
        until(lambda: session.value("jawOpen") > 1.5, "the slider to move")
        mouse("mouseup", 1)
        heard["value"] = session.value("jawOpen")
        heard["versions"] = session.version - before
        shoot("jaw")
        area = window._window.os_frame
        mouse("mousemove", area.x + 200, area.y + 300, "mousedown", 1)
        mouse("mousemove", area.x + 260, area.y + 300)
        yaw = session.orbit.yaw
        mouse("mousemove", area.x + 300, area.y + 300)
        until(lambda: session.orbit.yaw != yaw or session.orbit.yaw < 0.3, "the head to turn")
        mouse("mouseup", 1)
        heard["yaw"] = session.orbit.yaw
        shoot("turned")
        window.post(lambda: (session.press("neutral"), window.show_values()))
        until(lambda: session.value("jawOpen") == 0.0, "neutral")
        shoot("neutral")
        heard["thumb"] = window._rows["jawOpen"].slider.double_value
        window.post(lambda: window._search("blink left"))
        until(lambda: not window._rows["jawOpen"].row.visible, "the search")
        heard["found"] = [name for name, row in window._rows.items() if row.row.visible]
        window.post(lambda: window._search(""))
        session.play(True)
        until(lambda: session.frame == 2, "the track to play")
        session.play(False)
        window.post(lambda: window.drop(folder / "second.npz"))
        until(lambda: "view.strength" in window._rows, "the second head")
        heard["given"] = session.message
    except BaseException as error:
        heard["error"] = repr(error)
    finally:
        print("HEARD" + json.dumps(heard), flush=True)
        window.close()

shots = []
threading.Thread(target=drive, daemon=True).start()
window.run()
print("CLOSED", flush=True)
os._exit(0)  # the driver of software Vulkan may crash while Python takes the modules down
"""


def _needs() -> str:
    missing = [f"the program {name}" for name in ("Xvfb", "xdotool") if shutil.which(name) is None]
    missing += ["open3d (pip install 'headlab[view]')"] if find_spec("open3d") is None else []
    drivers = [*Path("/usr/share/vulkan/icd.d").glob("*.json"), *Path("/etc/vulkan/icd.d").glob("*.json")]
    missing += [] if drivers else ["a Vulkan driver (mesa-vulkan-drivers)"]
    return ", ".join(missing)


@pytest.mark.slow
def test_the_window_under_the_mouse(tmp_path):
    if _needs():
        pytest.skip(f"missing: {_needs()}; apt-get install xvfb xdotool libvulkan1 mesa-vulkan-drivers")
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "1000x760x24", "-nolisten", "tcp"],
        pass_fds=[write],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        os.close(write)
        with os.fdopen(read) as pipe:
            display = ":" + pipe.readline().strip()
            done = subprocess.run(
                [sys.executable, "-c", _CHILD, str(tmp_path)],
                env={**os.environ, "DISPLAY": display, "PYTHONPATH": str(Path(__file__).parents[1])},
                capture_output=True,
                text=True,
                timeout=300,
            )
    finally:
        server.terminate()
        server.wait(timeout=30)
    output = done.stdout + done.stderr
    assert "HEARD" in done.stdout and "CLOSED" in done.stdout, output[-2000:]
    heard = json.loads(done.stdout.rpartition("HEARD")[2].splitlines()[0])
    assert "error" not in heard, heard
    assert heard["value"] > 1.5 and heard["versions"] >= 1 and heard["yaw"] < 0.3 and heard["thumb"] == 0.0
    assert heard["given"].endswith("gives its expression")
    assert heard["found"] == ["eyeBlinkLeft"]
    seen = {name: _pixels(tmp_path / f"{name}.png") for name in ("opened", "jaw", "turned", "neutral")}
    x, _, _, _ = heard["slider"]
    left, top, columns, rows = heard["view"]
    shown = seen["opened"][top : top + rows, left : left + columns]
    assert np.abs(shown - _pixels(tmp_path / "expected.png")).mean() < 1  # the right way up, nothing scaled
    views = {name: pixels[:, : x - 220] for name, pixels in seen.items()}
    assert len(np.unique(views["opened"].reshape(-1, 3), axis=0)) > 500  # not blank
    for first, second in (("opened", "jaw"), ("jaw", "turned"), ("turned", "neutral")):
        assert _changed(views[first], views[second]) > 0.01, (first, second)
    assert _changed(seen["opened"][:, x:], seen["jaw"][:, x:]) > 0.0005  # the slider's thumb


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def _changed(a: np.ndarray, b: np.ndarray) -> float:
    return float((np.abs(a - b).max(-1) > 8).mean())
