"""The web viewer: the same panel in any browser, over SSH too.

Pictures are drawn here and sent as JPEG, one per browser from where that browser looks; about 20 kB each while
something moves, less than the vertices alone would take. Sliders and layers are shared by all browsers, the point of
view is each one's own.
"""

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..geometry.camera import Camera
from .canvas import Picture
from .display_probe import require_package
from .session import Session
from .web_panel import WebPanel
from .web_port import check_port

#: Longest side of a picture while something moves, and at rest, pixels.
_MOVING, _STILL = 600, 1280
_REST, _PAUSE = 0.25, 0.005  # seconds


@dataclass(eq=False)
class _Client:
    """A browser: what it was last sent."""

    handle: Any
    version: int = -1
    looked: float = 0.0  #: when its point of view last changed
    drawn: float = -1.0
    fine: bool = False


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
        self._closed = threading.Event()
        self._server = viser.ViserServer(host=host, port=port, label=title, verbose=False)
        self._server.scene.set_up_direction("+y")
        self._server.gui.configure_theme(control_width="large", show_logo=False)
        self._server.gui.main_panel.dock_right()
        self.url = f"http://{host}:{self._server.get_port()}"
        self.panel = WebPanel(self._server, session, title, self._lock, self._look, self._fine)
        self._server.on_client_connect(self._connected)
        self._server.on_client_disconnect(self._gone)
        self._thread = threading.Thread(target=self._loop, name="headlab-web", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until `close`, or Ctrl-C."""
        while not self._closed.wait(0.5):
            pass

    def locked(self) -> threading.RLock:
        """To be held while the session is used from elsewhere."""
        return self._lock

    def close(self) -> None:
        self._closed.set()
        self._thread.join(timeout=10)
        self._server.stop()

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

    def _loop(self) -> None:
        """Draws for every browser whatever has changed for it, and once more, finely, when all is quiet."""
        quiet_since = time.monotonic()
        while not self._closed.is_set():
            drew = False
            with self._lock:
                self.panel.tick()
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

    def _fine(self, handle: Any) -> Picture:
        return self._picture(self._clients[handle.client_id], fine=True, longest=_STILL)

    def _picture(self, client: _Client, *, fine: bool, longest: int) -> Picture:
        seen = client.handle.camera
        height, width = max(seen.image_height, 16), max(seen.image_width, 16)
        scale = min(1.0, longest / max(height, width))
        size = (max(16, round(height * scale)), max(16, round(width * scale)))
        return self.session.picture(size, self._camera(seen, size), fine=fine)

    def _camera(self, seen: Any, size: tuple[int, int]) -> Camera:
        """A browser's camera; where the view follows the head, in the head's own frame."""
        from viser.transforms import SO3

        # viser: quaternion w, x, y, z from camera (x right, y down, z forward) to world.
        turn = torch.from_numpy(SO3(np.array(seen.wxyz, dtype=np.float64)).as_matrix())
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
