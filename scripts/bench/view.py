"""How fast the viewers are: frames while a slider is dragged, memory over a thousand moves, seconds to open things.

    python -m headlab.scripts.bench.view --output scripts/bench/results/view.json

`canvas` is the picture alone: one slider moved, head decoded, drawn. `window` is the Open3D window on a display of its
own (Xvfb, software Vulkan), a slider dragged by the X server's own mouse: pictures handed over a second, changes of the
screen a second as another program sees them, CPU seconds per change, threads of the software driver included. `scene`
is the same head in Open3D's own scene widget, for comparison. `web` is viser in headless Chromium (WebGL by
SwiftShader), the slider dragged by the browser's mouse. Wall times mean little on a busy machine: the load is noted.
"""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from ...geometry.camera import Camera
from ...geometry.code import HeadCode
from ...geometry.files import write_json
from ...geometry.models.default import load_default_head
from ...heads.head_fit import HeadFit
from ...heads.view.opened import open_any
from ...viewers.session import Session
from . import view_window

_VIEW = (560, 524)  # the view's part of the window, pixels
_WEB = """
const { chromium } = require("playwright-core");
const [program, url] = process.argv.slice(1);
(async () => {
  const flags = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"];
  const browser = await chromium.launch({ executablePath: program, args: flags });
  const page = await browser.newPage({ viewport: { width: 1080, height: 680 } });
  await page.goto(url);
  const label = page.locator("label", { hasText: /^Jaw open$/ }).first();
  await label.waitFor({ timeout: 60000 });
  const row = label.locator("xpath=ancestor::div[contains(@class,'mantine-Flex-root')][1]");
  const track = row.locator(".mantine-Slider-trackContainer");
  await track.scrollIntoViewIfNeeded();
  await page.waitForTimeout(2000);
  const box = await track.boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.mouse.down();
  const start = Date.now();
  for (let i = 0; Date.now() - start < 5000; i++) {
    await page.mouse.move(box.x + box.width * (0.5 + 0.45 * Math.sin(i / 15)), box.y + box.height / 2);
    await page.waitForTimeout(8);
  }
  await page.mouse.up();
  console.log("dragged");
  await new Promise((done) => process.stdin.on("end", done).resume());
  await browser.close();
})().catch((error) => { console.error(error); process.exit(1); });
"""


@dataclass(frozen=True)
class Bench:
    """Measure the viewers."""

    output: Path | None = None
    """JSON file for the results."""
    track: Path | None = None
    """A folder of `headlab track`; a made-up one of 110 frames where absent."""
    only: tuple[str, ...] = ()
    """Some of open, canvas, memory, window, scene, web; all where absent."""
    node_modules: Path = Path("build/node_modules")
    """Where playwright-core is, for the web viewer."""


def main(options: Bench) -> dict[str, Any]:
    torch.set_num_threads(1)
    result: dict[str, Any] = {"machine": {"cores": os.cpu_count(), "python": platform.python_version()}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        track = options.track or _made_up_track(folder / "track")
        sections: dict[str, Callable[[], Any]] = {
            "open": lambda: _opening(folder, track),
            "canvas": lambda: _canvas(track),
            "memory": lambda: _memory(track),
            "window": lambda: _on_screen(track, "window"),
            "scene": lambda: _on_screen(track, "scene"),
            "web": lambda: _web(track, options.node_modules.absolute()),
        }
        for title, measure in sections.items():
            if options.only and title not in options.only:
                continue
            load = os.getloadavg()[0]
            result[title] = {**measure(), "load": round(load, 2)}
            print(title, json.dumps(result[title]), flush=True)
    if options.output is not None:
        write_json(options.output, result)
    return result


def _made_up_track(folder: Path) -> Path:
    """110 frames of the default head, moving."""
    model, generator = load_default_head(), torch.Generator().manual_seed(0)
    count = 110
    phase = torch.linspace(0, 6, count)[:, None] + torch.rand(model.expressions, generator=generator) * 6
    code = model.neutral((count,))
    one = torch.randn(model.shapes, generator=generator).clamp(-2, 2)
    fields = {
        **code.arrays(),
        "shape": one.expand(count, -1).clone(),
        "expression": 0.25 * (phase.sin() + 1) / 2,
        "rotation": torch.stack([0.2 * phase[:, 0].sin(), 0.5 * phase[:, 1].sin(), phase[:, 0] * 0], -1),
        "translation": torch.tensor([0.0, 0.0, -0.7]).expand(count, 3).clone(),
    }
    camera = Camera.frontal(860.0, (512, 512))
    albedo = torch.rand(3, 64, 64, generator=generator)
    albedo = torch.nn.functional.interpolate(albedo[None], (1024, 1024), mode="bicubic")[0].clamp(0, 1)
    folder.mkdir()
    report = {"times": [i / 25 for i in range(count)]}
    names = tuple(f"{i:04d}" for i in range(count))
    HeadFit("default", HeadCode(**fields), (camera,) * count, albedo, names, report).save(folder / "track.npz")
    return folder


def _opening(folder: Path, track: Path) -> dict[str, Any]:
    """Seconds from naming a path to the first picture, models and modules loaded before; and from nothing."""
    import trimesh
    from skimage.measure import marching_cubes

    load_default_head()
    axis = np.linspace(-1.05, 1.05, 256, dtype=np.float32)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij", sparse=True)
    field = np.sqrt((x / 0.72) ** 2 + (y / 0.98) ** 2 + (z / 0.85) ** 2) - 1
    field = field + 0.02 * np.sin(17 * x) * np.sin(15 * y) * np.sin(13 * z)
    vertices, faces, _, _ = marching_cubes(field, 0.0, spacing=(2.1 / 255,) * 3)
    trimesh.Trimesh(vertices * 0.12, faces[:, ::-1], process=False).export(folder / "nphm.ply")
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300_000, 3))
    points *= 0.1 / np.linalg.norm(points, axis=1, keepdims=True)
    colors = rng.integers(0, 255, (300_000, 4), dtype=np.uint8)
    trimesh.PointCloud(points, colors).export(folder / "cloud.ply")
    paths = {"track_110_frames": track, "nphm_256": folder / "nphm.ply", "cloud_300k": folder / "cloud.ply"}
    seconds = {}
    for name, path in paths.items():
        start, cpu = time.perf_counter(), time.process_time()
        session = Session([open_any(path)])
        session.picture(_VIEW)
        seconds[name] = {"wall_s": _round(time.perf_counter() - start), "cpu_s": _round(time.process_time() - cpu)}
        start, cpu = time.perf_counter(), time.process_time()
        for _ in range(20):
            session.drag(0.01, 0.0)
            session.picture(_VIEW)
        seconds[name]["turned_wall_ms"] = _round(50 * (time.perf_counter() - start))
        seconds[name]["turned_cpu_ms"] = _round(50 * (time.process_time() - cpu))
    for name, path in paths.items():
        start, cpu = time.perf_counter(), sum(os.times()[2:4])
        code = "import sys, headlab.scripts.cli; from headlab.scripts.view import View; from pathlib import Path; "
        code += "View((Path(sys.argv[1]),), out=Path(sys.argv[2]), figure=sys.argv[3]).run()"
        if name == "cloud_300k":  # has no figure: the picture is drawn instead
            code = "import sys, headlab.scripts.cli; from headlab.heads.view.opened import open_any; "
            code += f"from headlab.viewers.session import Session; Session([open_any(sys.argv[1])]).picture({_VIEW})"
        arguments = [str(path), str(folder / "figure.png"), "sheet"]
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.DEVNULL)
        seconds[name]["new_process_wall_s"] = _round(time.perf_counter() - start)
        seconds[name]["new_process_cpu_s"] = _round(sum(os.times()[2:4]) - cpu)
        seconds[name]["window_wall_s"] = _window_opens(path)
    seconds["nphm_256"]["vertices"], seconds["nphm_256"]["faces"] = len(vertices), len(faces)
    return seconds


def _window_opens(path: Path) -> float | None:
    """Seconds from the command to its picture on the screen; None without Xvfb."""
    if shutil.which("Xvfb") is None:
        return None
    with _screen() as display:
        eye, start = view_window.Eye(display), time.perf_counter()
        command = [sys.executable, "-m", "headlab.scripts.cli", "view", str(path)]
        environment = {**os.environ, "DISPLAY": display}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while process.poll() is None and time.perf_counter() - start < 60:
                pixels = eye.look(450, 370, 60, 60)  # in the middle of the view
                if len({pixels[i : i + 3] for i in range(0, len(pixels), 4)}) > 20:
                    return _round(time.perf_counter() - start)
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait()
    raise RuntimeError(f"headlab view {path} showed nothing within 60 s")


def _canvas(track: Path) -> dict[str, Any]:
    session = Session([open_any(track)])
    sizes = {"524x560": _VIEW, "1080x1080": (1080, 1080)}
    out: dict[str, Any] = {}
    for name, size in sizes.items():
        walls, cpu = [], time.process_time()
        for i in range(80):
            start = time.perf_counter()
            session.set("jawOpen", (i % 20) / 20)
            session.picture(size)
            walls.append(1000 * (time.perf_counter() - start))
        out[name] = {
            "wall_ms_median": _round(statistics.median(walls)),
            "wall_ms_95": _round(sorted(walls)[75]),
            "cpu_ms": _round(1000 * (time.process_time() - cpu) / 80),
        }
    return out


def _memory(track: Path) -> dict[str, Any]:
    """Resident megabytes over 1 000 slider moves, a picture each, after 250 that fill the history."""
    session, seen = Session([open_any(track)], clock=_ticks()), []
    names = list(session.editor.controls) if session.editor else []
    for i in range(1250):
        control = names[i % len(names)]
        session.set(control, 0.3 * (i % 7) / 7)
        session.picture((320, 320))
        if i in (249, 749, 1249):
            seen.append(_round(view_window.resident_mb()))
    return {"after_250": seen[0], "after_750": seen[1], "after_1250": seen[2], "growth_mb": _round(seen[2] - seen[0])}


def _ticks() -> Callable[[], float]:
    now = iter(range(0, 10_000_000, 10))
    return lambda: float(next(now))  # every move is a step to undo


@contextmanager
def _screen() -> Iterator[str]:
    """A display of our own."""
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "1300x800x24", "-nolisten", "tcp"],
        pass_fds=[write],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    try:
        with os.fdopen(read) as pipe:
            yield ":" + pipe.readline().strip()
    finally:
        server.terminate()
        server.wait()


def _on_screen(track: Path, which: str) -> dict[str, Any]:
    if shutil.which("Xvfb") is None or shutil.which("xdotool") is None:
        return {"skipped": "Xvfb or xdotool is missing"}
    with _screen() as display:
        command = [sys.executable, "-m", view_window.__name__, which, str(track)]
        environment = {**os.environ, "DISPLAY": display}
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            return {"failed": "not done within 300 s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    return json.loads(lines[-1][6:]) if lines else {"failed": (done.stdout + done.stderr)[-500:]}


def _web(track: Path, node_modules: Path) -> dict[str, Any]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None or not (node_modules / "playwright-core").is_dir():
        return {"skipped": "Chromium or playwright-core is missing"}
    from ...viewers.web import WebViewer

    viewer = WebViewer(Session([open_any(track)]), port=0)
    try:
        command = ["node", "-e", _WEB, program, viewer.url]
        environment = {**os.environ, "NODE_PATH": str(node_modules)}
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as browser:
            assert browser.stdin is not None and browser.stdout is not None
            if not browser.stdout.readline():
                return {"failed": f"the browser stopped: exit status {browser.wait()}"}
            drawn = list(viewer.drawn)
            names = sorted(viewer.session.panel.found("mouth"))
            _moved(viewer, names, 250)  # the history is full now
            before = view_window.resident_mb()
            _moved(viewer, names, 1000)
            growth = view_window.resident_mb() - before
            browser.stdin.close()
    finally:
        viewer.close()
    return {
        "pictures_per_s_sent": _round(view_window.best_rate(drawn)),
        "pictures": len(drawn),
        "memory_growth_mb_1000_moves": _round(growth),
    }


def _moved(viewer: Any, names: list[str], count: int) -> None:
    """Move sliders, as fast as a hand drags; the viewer draws and sends meanwhile."""
    for i in range(count):
        with viewer.locked():
            viewer.session.set(names[i % len(names)], i % 7 / 9)
        time.sleep(0.01)


def _round(value: float) -> float:
    return float(f"{value:.3g}")


if __name__ == "__main__":
    main(tyro.cli(Bench))
