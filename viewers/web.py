"""The web viewer: the same panel in any browser, over SSH too.

Pictures are drawn here and sent as JPEG, one per browser from where that browser looks; 30 to 60 kB each, about what
the vertices alone would take. Sliders and layers are shared by all browsers, the point of view is each one's own.
"""

import errno
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import roma
import torch

from ..geometry.camera import Camera
from ..geometry.errors import HeadlabError
from ..geometry.files import encode_image
from ..heads.view.controls import Control
from .display_probe import require_package
from .session import SIDES, Session

#: Longest side of a picture while something moves, and at rest, pixels.
_MOVING, _STILL = 720, 1280
_REST, _PAUSE = 0.25, 0.012  # seconds


@dataclass(eq=False)
class _Client:
    """A browser: what it was last sent."""

    handle: Any
    version: int = -1
    looked: float = 0.0  #: when its point of view last changed
    drawn: float = -1.0
    fine: bool = False


def check_port(host: str, port: int) -> None:
    """Raises HeadlabError where a port cannot be used; otherwise another one would be taken without a word."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            number = getattr(error, "errno", None)
            reason = "it is in use" if number == errno.EADDRINUSE else " ".join(str(error).split())
            raise HeadlabError(f"port {port} of {host} cannot be used: {reason}; name another with --port") from error


class WebViewer:
    """Serves a session until `close`."""

    def __init__(self, session: Session, *, host: str = "127.0.0.1", port: int = 8080, title: str = "headlab") -> None:
        require_package("viser")
        check_port(host, port)
        import viser

        self.session = session
        self.drawn: list[float] = []  #: when pictures were sent, seconds; the last thousand
        self._lock = threading.RLock()
        self._clients: dict[int, _Client] = {}
        self._sliders: dict[str, Any] = {}
        self._closed = threading.Event()
        self._server = viser.ViserServer(host=host, port=port, label=title, verbose=False)
        self._server.scene.set_up_direction("+y")
        self._server.gui.configure_theme(control_width="large", show_logo=False)
        self._server.gui.main_panel.dock_right()
        self.url = f"http://{host}:{self._server.get_port()}"
        self._folder = self._server.gui.add_folder(title)
        with self._folder:
            self._build_panel()
        self._server.on_client_connect(self._connected)
        self._server.on_client_disconnect(self._gone)
        self._thread = threading.Thread(target=self._loop, name="headlab-web", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until `close`, or Ctrl-C."""
        while not self._closed.wait(0.5):
            pass

    def close(self) -> None:
        self._closed.set()
        self._thread.join(timeout=10)
        self._server.stop()

    # Building

    def _build_panel(self) -> None:
        gui, panel, session = self._server.gui, self.session.panel, self.session
        self._status = gui.add_markdown(session.message)
        sides = {action.label: action.name for action in panel.views}
        gui.add_button_group("From", tuple(sides)).on_click(
            lambda event: self._look(event.client, SIDES[sides[event.target.value]])
        )
        for toggle in panel.toggles:
            box = gui.add_checkbox(toggle.label, session.on[toggle.name], hint=toggle.hint or None)
            box.on_update(self._toggled(toggle.name, box))
        self._seek: Any = None
        if panel.frames > 1:
            play = gui.add_checkbox("Play", False)
            play.on_update(lambda _: self._do(lambda: session.play(play.value)))
            self._seek = gui.add_slider("Frame", 0, panel.frames - 1, 1, session.frame)
            self._seek.on_update(self._sought)
        edits = {action.label: action.name for action in panel.edits}
        for start in range(0, len(edits), 3):
            group = gui.add_button_group("Edit" if start == 0 else " ", tuple(edits)[start : start + 3])
            group.on_click(lambda event: self._press(edits[event.target.value]))
        for action in panel.saves:
            gui.add_button(action.label, hint=action.hint or None).on_click(self._saved(action.name))
        if panel.transfer:
            upload = gui.add_upload_button("Second head ...", mime_type=".npz", hint="its expression, live")
            upload.on_upload(self._uploaded(upload))
        if len(panel.groups) > 1:
            search = gui.add_text("Find a slider", "")
            search.on_update(lambda _: self._search(search.value))
        self._groups: list[tuple[Any, list[str]]] = []
        for group in panel.groups:
            folder = gui.add_folder(group.title, expand_by_default=group.open)
            with folder:
                for control in group.controls:
                    self._add_slider(control)
            self._groups.append((folder, [control.name for control in group.controls]))

    def _add_slider(self, control: Control) -> None:
        low, high, value = control.low, control.high, self.session.value(control.name)
        slider = self._server.gui.add_slider(
            control.label + (f" {control.unit}" if control.unit else ""),
            low,
            high,
            (high - low) / 200,
            min(max(value, low), high),
            hint=control.name,
        )
        self._sliders[control.name] = slider
        slider.on_update(self._moved(control.name, slider))

    # What users do; viser calls these from threads of its own

    def _do(self, action: Callable[[], object]) -> None:
        with self._lock:
            action()
            self._status.content = self.session.message

    def _moved(self, name: str, slider: Any) -> Callable[[Any], None]:
        def moved(event: Any) -> None:
            # Sliders that were set from here come without a client.
            if event.client is not None:
                self._do(lambda: self.session.set(name, slider.value))

        return moved

    def _toggled(self, name: str, box: Any) -> Callable[[Any], None]:
        return lambda _: self._do(lambda: self.session.toggle(name, box.value))

    def _sought(self, event: Any) -> None:
        if event.client is not None:
            self._do(lambda: self.session.seek(int(self._seek.value)))
            self.show_values()

    def _press(self, name: str) -> None:
        self._do(lambda: self.session.press(name))
        self.show_values()

    def _saved(self, name: str) -> Callable[[Any], None]:
        def save(event: Any) -> None:
            import tempfile

            with tempfile.TemporaryDirectory() as folder, self._lock:
                if name == "picture":
                    client = self._clients[event.client.client_id]
                    picture = self._picture(client, fine=True, longest=_STILL)
                    image = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
                    event.client.send_file_download("view.png", encode_image(image, "PNG"))
                    return
                path = self.session.save(name, Path(folder) / f"edited.{name}")
                self._status.content = self.session.message if path is None else ""
                if path is not None:
                    event.client.send_file_download(path.name, path.read_bytes())

        return save

    def _uploaded(self, upload: Any) -> Callable[[Any], None]:
        def dropped(_: Any) -> None:
            import tempfile

            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "second.npz"
                path.write_bytes(upload.value.content)
                with self._lock:
                    if self.session.drop(path):
                        self.session.message = f"{Path(upload.value.name).name} gives its expression"
                        self._rebuild()
                    self._status.content = self.session.message

        return dropped

    def _rebuild(self) -> None:
        """The panel anew: a second head brings widgets of its own."""
        self._folder.remove()
        self._sliders.clear()
        self._folder = self._server.gui.add_folder("headlab")
        with self._folder:
            self._build_panel()

    def _search(self, text: str) -> None:
        found = self.session.panel.found(text)
        for folder, names in self._groups:
            folder.visible = any(name in found for name in names)
            for name in names:
                self._sliders[name].visible = name in found

    # Browsers

    def _connected(self, client: Any) -> None:
        with self._lock:
            self._clients[client.client_id] = _Client(client)
        self._look(client, 0.35)
        client.camera.on_update(lambda _: self._turned(client.client_id))

    def _gone(self, client: Any) -> None:
        with self._lock:
            self._clients.pop(client.client_id, None)

    def _turned(self, number: int) -> None:
        with self._lock:
            if number in self._clients:
                self._clients[number].looked = time.monotonic()

    def _look(self, client: Any, yaw: float) -> None:
        """Bring a browser's camera before the head."""
        with self._lock:
            orbit = self.session.orbit.from_side(yaw)
        centre = np.array(orbit.target)
        height, width = max(client.camera.image_height, 1), max(client.camera.image_width, 1)
        away = orbit.distance * max(1.0, 0.7 * height / width)
        with client.atomic():
            client.camera.up_direction = (0.0, 1.0, 0.0)
            client.camera.position = centre - orbit.axes[2].numpy() * away
            client.camera.look_at = centre
            client.camera.fov = orbit.view
        self._turned(client.client_id)

    def show_values(self) -> None:
        """Every slider where the session has it."""
        with self._lock:
            for name, slider in self._sliders.items():
                value = min(max(self.session.value(name), slider.min), slider.max)
                if abs(slider.value - value) > 1e-6:
                    slider.value = value
            if self._seek is not None and self._seek.value != self.session.frame:
                self._seek.value = self.session.frame

    def _loop(self) -> None:
        """Draws for every browser whatever has changed for it, and once more, finely, when all is quiet."""
        quiet_since = time.monotonic()
        while not self._closed.is_set():
            drew = False
            with self._lock:
                if self.session.tick():
                    self.show_values()
                for client in list(self._clients.values()):
                    drew |= self._serve(client, time.monotonic() - quiet_since > _REST)
            if drew:
                quiet_since = time.monotonic()
            self._closed.wait(_PAUSE)

    def _serve(self, client: _Client, quiet: bool) -> bool:
        moved = client.version != self.session.version or client.looked > client.drawn
        if not moved and (client.fine or not quiet):
            return False
        if client.handle.client_id not in self._server.get_clients():
            return False  # it has just gone
        client.version, client.drawn, client.fine = self.session.version, time.monotonic(), not moved
        picture = self._picture(client, fine=client.fine, longest=_STILL if client.fine else _MOVING)
        client.handle.scene.set_background_image(picture, format="jpeg", jpeg_quality=92 if client.fine else 80)
        self.drawn.append(time.perf_counter())
        del self.drawn[:-1000]
        return moved

    def _picture(self, client: _Client, *, fine: bool, longest: int) -> np.ndarray:
        seen = client.handle.camera
        height, width = max(seen.image_height, 16), max(seen.image_width, 16)
        scale = min(1.0, longest / max(height, width))
        size = (max(16, round(height * scale)), max(16, round(width * scale)))
        return self.session.picture(size, self._camera(seen, size), fine=fine)

    def _camera(self, seen: Any, size: tuple[int, int]) -> Camera:
        """A browser's camera; where the view follows the head, in the head's own frame."""
        # viser: quaternion w, x, y, z from camera (x right, y down, z forward) to world.
        w, x, y, z = (float(v) for v in seen.wxyz)
        turn = roma.unitquat_to_rotmat(torch.tensor([x, y, z, w], dtype=torch.float64))
        position = torch.from_numpy(np.array(seen.position, dtype=np.float64))
        focal = size[0] / 2 / float(np.tan(seen.fov / 2))
        K = torch.tensor([[focal, 0, size[1] / 2], [0, focal, size[0] / 2], [0, 0, 1]], dtype=torch.float64)
        R = turn.mT
        t = -R @ position
        rotation, translation = self.session.place()
        R = R @ rotation.double().mT
        return Camera(K.float(), R.float(), (t - R @ translation.double()).float(), size)


def show_web(session: Session, title: str, *, host: str = "127.0.0.1", port: int = 8080) -> None:
    """Serve until Ctrl-C.

    Raises:
        HeadlabError: viser is not installed, or the port cannot be used.
    """
    viewer = WebViewer(session, host=host, port=port, title=title)
    print(f"open {viewer.url}; Ctrl-C ends it", flush=True)
    if host in ("127.0.0.1", "localhost"):
        print(f"from another machine: ssh -L {port}:{host}:{port} THIS_MACHINE, then the same address", flush=True)
    try:
        viewer.wait()
    except KeyboardInterrupt:
        pass
    finally:
        viewer.close()
