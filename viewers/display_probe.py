"""Can Open3D open a window here? Asked in a process of its own, since it aborts the process that it cannot serve."""

import ctypes
import os
import re
import subprocess
import sys
from importlib.util import find_spec

from ..geometry.errors import HeadlabError
from .graphics import Graphics

_INSTEAD = "or show the head in a browser: headlab view … --web"
_INSTALL = "pip install 'headlab[view]'"
#: Library that is missing -> Debian package that has it.
_PACKAGES = {
    "libusb-1.0": "libusb-1.0-0",
    "libGL.": "libgl1",
    "libEGL.": "libegl1",
    "libX11.": "libx11-6",
    "libudev.": "libudev1",
    "libgomp.": "libgomp1",
    "libvulkan.": "libvulkan1",
}
#: Opens a window; with the argument "opengl", by OpenGL.
_PROBE = """
import os, sys
try:
    import open3d
    from open3d.visualization import gui
except (ImportError, OSError) as error:
    print(f"import: {error}", file=sys.stderr)
    os._exit(3)
if "opengl" in sys.argv:
    from headlab.viewers.graphics import draw_with_opengl
    if not draw_with_opengl():
        os._exit(4)
gui.Application.instance.initialize()
gui.Application.instance.create_window("headlab", 64, 64)
sys.stdout.flush()
os._exit(0)
"""


def require_package(name: str) -> None:
    """Raises HeadlabError where an optional package is not installed, with the command that installs it."""
    if find_spec(name) is None:
        raise HeadlabError(f"{name} is not installed, and this view needs it: {_INSTALL}")


class DisplayProbe:
    """The question whether a window can be opened, asked in another process while this one does something else."""

    def __init__(self) -> None:
        """Ask.

        Raises:
            HeadlabError: Open3D is not installed, or there is no display.
        """
        require_package("open3d")
        if sys.platform.startswith("linux") and not _has_display():
            shown = os.environ.get("DISPLAY")
            reason = f"the display {shown} cannot be opened" if shown else "there is no display (DISPLAY is not set)"
            raise HeadlabError(f"cannot open a window: {reason}; log in with ssh -X or use xvfb-run, {_INSTEAD}")
        self._vulkan, self._opengl = self._asked(), self._asked("opengl")

    @staticmethod
    def _asked(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _PROBE, *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def graphics(self, timeout: float = 60.0) -> Graphics:
        """The answer. OpenGL where Vulkan is only software, or does not work.

        Args:
            timeout: how long to wait for it, seconds.

        Raises:
            HeadlabError: a library or the graphics driver is missing (the packages are named), or no answer came.
        """
        try:
            output, _ = self._vulkan.communicate(timeout=timeout)
            named = re.search(r"Selected physical device '([^']*)'", output)
            found = Graphics(named[1] if named else "")
            if self._vulkan.returncode == 0 and not found.soft:
                return found
            renderer, _ = self._opengl.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise HeadlabError(
                f"cannot open a window: Open3D did not answer within {timeout:g} s; start again, {_INSTEAD}"
            ) from error
        if self._opengl.returncode == 0:
            named = re.search(r"^\[[^]]*\], \[([^]]*)\]", renderer, re.MULTILINE)  # [vendor], [renderer], ...
            return Graphics(named[1] if named else "", opengl=True)
        if self._vulkan.returncode:
            raise HeadlabError(explain(self._vulkan.returncode, output))
        return found

    def __enter__(self) -> "DisplayProbe":
        return self

    def __exit__(self, *_: object) -> None:
        """An answer that nobody waits for any more is not waited for."""
        for process in (self._vulkan, self._opengl):
            with process:
                process.kill()


def explain(code: int, output: str) -> str:
    """One line about a probe that failed.

    Args:
        code: its exit status.
        output: what it printed.
    """
    if code == 3:
        reason = " ".join(output.rpartition("import: ")[2].split())
        packages = [package for library, package in _PACKAGES.items() if library in reason]
        remedy = f"install it with apt-get install {' '.join(packages)}" if packages else f"try {_INSTALL}"
        return f"cannot open a window: Open3D does not load ({reason}); {remedy}, {_INSTEAD}"
    if re.search(r"vulkan|vkcreate|vk[A-Z]", output, re.IGNORECASE):
        packages = "apt-get install libvulkan1 mesa-vulkan-drivers"
        return f"cannot open a window: there is no Vulkan driver; install one with {packages}, {_INSTEAD}"
    lines = output.strip().splitlines()
    reason = " ".join((lines[-1] if lines else f"exit status {code}").split())
    return f"cannot open a window: Open3D stopped ({reason}); {_INSTEAD.removeprefix('or ')}"


def _has_display() -> bool:
    if os.environ.get("WAYLAND_DISPLAY"):
        return True
    if not os.environ.get("DISPLAY"):
        return False
    try:
        x11 = ctypes.CDLL("libX11.so.6")
    except OSError:
        return True  # Open3D will say what is missing
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XOpenDisplay.argtypes = [ctypes.c_char_p]
    x11.XCloseDisplay.argtypes = [ctypes.c_void_p]
    display = x11.XOpenDisplay(None)
    if display:
        x11.XCloseDisplay(display)
    return bool(display)
