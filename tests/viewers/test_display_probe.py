"""No display, no driver, no library, no package: one line each, with the remedy and the browser as another way."""

import subprocess
import sys

import pytest

from headlab.geometry.errors import HeadlabError
from headlab.viewers import display_probe
from headlab.viewers.display_probe import explain, probe_display

NO_DRIVER = """FEngine resolved backend: Vulkan
terminate called after throwing an instance of 'utils::PostconditionPanic'
in createVkInstance:939
reason: Unable to create Vulkan instance. error=-9
"""
NO_LIBRARY = "import: libusb-1.0.so.0: cannot open shared object file: No such file or directory\n"


@pytest.fixture
def no_display(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="X11")
def test_no_display(no_display, monkeypatch):
    monkeypatch.setattr(display_probe, "find_spec", lambda name: object())
    with pytest.raises(HeadlabError, match=r"no display \(DISPLAY is not set\).*xvfb-run.*headlab view … --web"):
        probe_display()
    monkeypatch.setenv("DISPLAY", ":8123")
    with pytest.raises(HeadlabError, match=r"the display :8123 cannot be opened.*--web"):
        probe_display()


def test_open3d_is_not_installed(monkeypatch):
    monkeypatch.setattr(display_probe, "find_spec", lambda name: None)
    with pytest.raises(HeadlabError, match=r"open3d is not installed.*pip install 'headlab\[view\]'"):
        probe_display()


@pytest.mark.parametrize(
    ("code", "output", "words"),
    [
        (-6, NO_DRIVER, "no Vulkan driver; install one with apt-get install libvulkan1 mesa-vulkan-drivers"),
        (3, NO_LIBRARY, "does not load (libusb-1.0.so.0: cannot open shared object file: No such file or directory); "
         "install it with apt-get install libusb-1.0-0,"),
        (3, "import: libEGL.so.1: no, libGL.so.1: no", "apt-get install libgl1 libegl1,"),
        (3, "import: something else", "try pip install 'headlab[view]',"),
        (-11, "one\nlast words\n", "Open3D stopped (last words)"),
        (-11, "", "Open3D stopped (exit status -11)"),
    ],
)  # fmt: skip
def test_every_failure_has_its_remedy(code, output, words):
    line = explain(code, output)
    assert words in line and "--web" in line and "\n" not in line


def test_a_probe_that_dies_is_told_and_one_that_hangs_too(monkeypatch):
    monkeypatch.setattr(display_probe, "find_spec", lambda name: object())
    monkeypatch.setattr(display_probe, "_has_display", lambda: True)
    monkeypatch.setattr(display_probe, "_PROBE", f"import os, sys; sys.stderr.write({NO_DRIVER!r}); os.abort()")
    with pytest.raises(HeadlabError, match="no Vulkan driver"):
        probe_display()
    monkeypatch.setattr(display_probe, "_PROBE", "print(\"Selected physical device 'some card' from 1\")")
    assert probe_display() == "some card"
    monkeypatch.setattr(
        display_probe.subprocess,
        "run",
        lambda *_, **options: (_ for _ in ()).throw(subprocess.TimeoutExpired("probe", options["timeout"])),
    )
    with pytest.raises(HeadlabError, match="did not answer within 60 s"):
        probe_display()
