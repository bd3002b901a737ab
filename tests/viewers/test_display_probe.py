"""No display, no driver, no library, no package: one line each, with the remedy and the browser as another way."""

import sys

import pytest

from headlab.geometry.errors import HeadlabError
from headlab.viewers import display_probe
from headlab.viewers.display_probe import DisplayProbe, explain
from headlab.viewers.graphics import Graphics

NO_DRIVER = """FEngine resolved backend: Vulkan
terminate called after throwing an instance of 'utils::PostconditionPanic'
in createVkInstance:939
reason: Unable to create Vulkan instance. error=-9
"""
NO_LIBRARY = "import: libusb-1.0.so.0: cannot open shared object file: No such file or directory\n"


def probe_display(timeout: float = 60.0) -> Graphics:
    with DisplayProbe() as probe:
        return probe.graphics(timeout)


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
    assert probe_display() == Graphics("some card")
    monkeypatch.setattr(display_probe, "_PROBE", "import time; time.sleep(60)")
    with pytest.raises(HeadlabError, match=r"did not answer within 0\.2 s"):
        probe_display(0.2)


def test_a_probe_that_nobody_waits_for_is_ended(monkeypatch):
    monkeypatch.setattr(display_probe, "find_spec", lambda name: object())
    monkeypatch.setattr(display_probe, "_has_display", lambda: True)
    monkeypatch.setattr(display_probe, "_PROBE", "import time; time.sleep(60)")
    with pytest.raises(HeadlabError, match="cannot open"), DisplayProbe() as probe:
        raise HeadlabError("cannot open x")
    assert probe._vulkan.poll() is not None and probe._opengl.poll() is not None


def test_opengl_is_taken_where_vulkan_is_software_or_missing(monkeypatch):
    monkeypatch.setattr(display_probe, "find_spec", lambda name: object())
    monkeypatch.setattr(display_probe, "_has_display", lambda: True)
    soft = "llvmpipe (LLVM 15.0.6, 256 bits)"
    by_opengl = f'print("[Mesa/X.org], [{soft}], [4.5 (Core Profile) Mesa], [4.50]")'
    vulkan = f"print(\"Selected physical device '{soft}' from 1\")"
    either = "import sys\nif 'opengl' in sys.argv: {}\nelse: {}"
    monkeypatch.setattr(display_probe, "_PROBE", either.format(by_opengl, vulkan))
    assert probe_display() == Graphics(soft, opengl=True) and probe_display().soft
    monkeypatch.setattr(display_probe, "_PROBE", either.format(by_opengl, "sys.exit(1)"))
    assert probe_display() == Graphics(soft, opengl=True)
    monkeypatch.setattr(display_probe, "_PROBE", either.format("sys.exit(4)", vulkan))
    assert probe_display() == Graphics(soft)
