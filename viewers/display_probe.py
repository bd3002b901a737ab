"""Can Open3D open a window here? Asked in a process of its own, since it aborts the process that it cannot serve."""

import ctypes
import os
import re
import subprocess
import sys
from importlib.util import find_spec

from ..geometry.errors import HeadlabError

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
_PROBE = """
import os, sys
try:
    import open3d
    from open3d.visualization import gui
except (ImportError, OSError) as error:
    print(f"import: {error}", file=sys.stderr)
    os._exit(3)
gui.Application.instance.initialize()
gui.Application.instance.create_window("headlab", 64, 64)
sys.stdout.flush()
os._exit(0)
"""


def require_package(name: str) -> None:
    """Raises HeadlabError where an optional package is not installed, with the command that installs it."""
    if find_spec(name) is None:
        raise HeadlabError(f"{name} is not installed, and this view needs it: {_INSTALL}")


def probe_display(timeout: float = 60.0) -> str:
    """Find out whether a window can be opened.

    Returns:
        The name of what will draw it, such as "llvmpipe (LLVM 15.0.6, 256 bits)"; empty where it is not told.

    Raises:
        HeadlabError: Open3D is not installed, a library or the graphics driver is missing (the packages are named), or
            there is no display.
    """
    require_package("open3d")
    if sys.platform.startswith("linux") and not _has_display():
        shown = os.environ.get("DISPLAY")
        reason = f"the display {shown} cannot be opened" if shown else "there is no display (DISPLAY is not set)"
        raise HeadlabError(f"cannot open a window: {reason}; log in with ssh -X or use xvfb-run, {_INSTEAD}")
    try:
        done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise HeadlabError(
            f"cannot open a window: Open3D did not answer within {timeout:g} s; start again, {_INSTEAD}"
        ) from error
    output = done.stdout + done.stderr
    if done.returncode:
        raise HeadlabError(explain(done.returncode, output))
    device = re.search(r"Selected physical device '([^']*)'", output)
    return device[1] if device else ""


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
