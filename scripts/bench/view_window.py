"""Run by `view` on a display of its own: a window, a mouse that drags a slider, and an eye on the screen."""

import ctypes
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_SECONDS, _MOVES = 5.0, 1000


class _Image(ctypes.Structure):
    """The beginning of Xlib's XImage."""

    _fields_ = [
        ("width", ctypes.c_int),
        ("height", ctypes.c_int),
        ("xoffset", ctypes.c_int),
        ("format", ctypes.c_int),
        ("data", ctypes.POINTER(ctypes.c_ubyte)),
    ]


class Eye:
    """A few pixels of the screen, as another program sees them; cheap enough to look hundreds of times a second."""

    def __init__(self, display: str | None = None) -> None:
        x = ctypes.CDLL("libX11.so.6")
        x.XOpenDisplay.restype, x.XOpenDisplay.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
        x.XDefaultRootWindow.restype, x.XDefaultRootWindow.argtypes = ctypes.c_ulong, [ctypes.c_void_p]
        x.XGetImage.restype = ctypes.POINTER(_Image)
        x.XGetImage.argtypes = [ctypes.c_void_p, ctypes.c_ulong, *[ctypes.c_int] * 2, *[ctypes.c_uint] * 2]
        x.XGetImage.argtypes += [ctypes.c_ulong, ctypes.c_int]
        x.XDestroyImage.argtypes = [ctypes.POINTER(_Image)]
        self._x, self._display = x, x.XOpenDisplay(None if display is None else display.encode())
        self._root = x.XDefaultRootWindow(self._display)

    def look(self, x: int, y: int, width: int = 40, height: int = 8) -> bytes:
        image = self._x.XGetImage(self._display, self._root, x, y, width, height, 0xFFFFFFFF, 2)
        pixels = bytes(image.contents.data[: 4 * width * height])
        self._x.XDestroyImage(image)
        return pixels


def best_rate(times: Sequence[float]) -> float:
    """Events a second over the middle of a drag: the slow beginning and the end at rest are left out."""
    if len(times) < 20:
        return 0.0
    kept = times[len(times) // 5 : -max(1, len(times) // 10)]
    return (len(kept) - 1) / (kept[-1] - kept[0])


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def dragged(x: int, y: int, width: int, seconds: float, watch: Callable[[], None]) -> None:
    """Drag from side to side, about a hundred moves a second, and watch meanwhile."""
    words = ["mousemove", str(x + width // 2), str(y), "mousedown", "1"]
    steps = round(seconds / 0.01)
    for i in range(steps):
        share = 0.5 + 0.4 * (abs((i * 2) % 200 - 100) / 50 - 1)
        words += ["mousemove", str(x + round(share * width)), str(y), "sleep", "0.008"]
    mouse = subprocess.Popen(["xdotool", *words, "mouseup", "1"])
    while mouse.poll() is None:
        watch()
        time.sleep(0.003)


def measure(window: Any, place: tuple[int, int, int, int], spot: tuple[int, int]) -> dict[str, Any]:
    """Drag the slider at a place for some seconds, look at a spot of the screen."""
    eye, seen, changes = Eye(), [b""], []

    def watch() -> None:
        pixels = eye.look(*spot)
        if pixels != seen[0]:
            seen[0] = pixels
            changes.append(time.perf_counter())

    x, y, width, height = place
    dragged(x, y + height // 2, width, 1.5, watch)  # everything is compiled and cached now
    changes.clear()
    drawn, cpu, start = len(window.drawn), time.process_time(), time.perf_counter()
    dragged(x, y + height // 2, width, _SECONDS, watch)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    gaps = sorted(b - a for a, b in itertools.pairwise(changes)) or [float("inf")]
    return {
        "screen_changes_per_s": round(len(changes) / wall, 1),
        "pictures_per_s": round((len(window.drawn) - drawn) / wall, 1),
        "frame_ms_median": round(1000 * gaps[len(gaps) // 2], 1),
        "frame_ms_95": round(1000 * gaps[int(0.95 * (len(gaps) - 1))], 1),
        "cpu_ms_per_change": round(1000 * cpu / max(1, len(changes)), 1),
    }


def moves(window: Any, session: Any, names: list[str], count: int) -> None:
    """Move sliders in the window's thread, waiting for it every tenth time; the window draws in between."""
    for i in range(count):
        done = threading.Event()

        def move(i: int = i, done: threading.Event = done) -> None:
            session.set(names[i % len(names)], i % 7 / 9)
            done.set()

        window.post(move)
        if i % 10 == 9:
            done.wait(30)


def run_window(track: str) -> None:
    from ...heads.view.opened import open_any
    from ...viewers.display_probe import DisplayProbe
    from ...viewers.session import Session
    from ...viewers.window import Window, good_size

    session = Session([open_any(track)])
    with DisplayProbe() as probe:
        graphics = probe.graphics()
    size = good_size(graphics)
    window = Window(session, size=size, opengl=graphics.opengl)

    def drive() -> None:
        while not window._fine:
            time.sleep(0.05)
        frame = window._window.os_frame
        spot = (frame.x + round(0.29 * frame.width), frame.y + round(0.66 * frame.height))  # lips and chin
        result = measure(window, window.slider_place("jawOpen"), spot)
        names = sorted(session.panel.found("mouth"))
        moves(window, session, names, 250)  # the history is full now
        before = resident_mb()
        moves(window, session, names, _MOVES)
        result["window"] = f"{size[0]}x{size[1]}"
        result["drawn_by"] = ("OpenGL, " if graphics.opengl else "Vulkan, ") + graphics.device
        result["memory_growth_mb_1000_moves"] = round(resident_mb() - before, 1)
        _tell(result)

    threading.Thread(target=drive, daemon=True).start()
    window.run()


def run_scene(track: str) -> None:
    """The same head in Open3D's own scene widget, moved by the same slider."""
    import numpy as np
    import open3d as o3d
    from open3d.visualization import gui, rendering

    from ...heads.view.editor import Editor
    from ...heads.view.opened import OpenedHead, open_any
    from ...viewers.graphics import Graphics
    from ...viewers.window import good_size

    head = open_any(track)
    assert isinstance(head, OpenedHead) and head.model is not None
    editor = Editor(head.model, head.model.neutral())
    app = gui.Application.instance
    app.initialize()
    window = app.create_window("scene", *good_size(Graphics("llvmpipe")))
    scene = gui.SceneWidget()
    scene.scene = rendering.Open3DScene(window.renderer)
    scene.scene.view.set_post_processing(False)
    scene.scene.show_skybox(False)
    scene.scene.set_background([1, 1, 1, 1])
    material = rendering.MaterialRecord()
    material.shader = "defaultLit"
    mesh = o3d.geometry.TriangleMesh()
    mesh.triangles = o3d.utility.Vector3iVector(head.model.faces.numpy().astype(np.int32))
    slider = gui.Slider(gui.Slider.DOUBLE)
    slider.set_limits(0, 1)
    drawn: list[float] = []

    def show(value: Any) -> None:
        editor.set("jawOpen", float(value))
        mesh.vertices = o3d.utility.Vector3dVector(editor.posed().vertices.double().numpy())
        mesh.compute_vertex_normals()
        scene.scene.remove_geometry("head")
        scene.scene.add_geometry("head", mesh, material)
        drawn.append(time.perf_counter())

    def layout(_: Any) -> None:
        area = window.content_rect
        scene.frame = gui.Rect(area.x, area.y, area.width - 340, area.height)
        slider.frame = gui.Rect(area.get_right() - 330, area.y + 300, 300, 24)

    slider.set_on_value_changed(show)
    window.add_child(scene)
    window.add_child(slider)
    window.set_on_layout(layout)
    show(0.0)
    scene.setup_camera(30, mesh.get_axis_aligned_bounding_box(), [0, 0, 0])

    class Drawn:
        pass

    counter: Any = Drawn()
    counter.drawn = drawn

    def drive() -> None:
        time.sleep(4)
        frame = window.os_frame
        place = (frame.x + slider.frame.x, frame.y + slider.frame.y, 300, 24)
        _tell(measure(counter, place, (frame.x + (frame.width - 340) // 2 - 20, frame.y + round(0.66 * frame.height))))

    threading.Thread(target=drive, daemon=True).start()
    app.run()


def _tell(result: dict[str, Any]) -> None:
    print("RESULT" + json.dumps(result), flush=True)
    os._exit(0)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    {"window": run_window, "scene": run_scene}[sys.argv[1]](sys.argv[2])
