"""The panel as viser's widgets. viser calls what users do from threads of its own: all of it happens under one lock."""

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..geometry.files import encode_image
from ..heads.view.controls import Control
from .canvas import Picture
from .glide import Glide
from .session import SIDES, Session


class WebPanel:
    """Widgets that hand every event to a session."""

    def __init__(
        self,
        server: Any,
        session: Session,
        title: str,
        lock: threading.RLock,
        look: Callable[[Any, float], None],
        picture: Callable[[Any], Picture],
    ) -> None:
        """Build it.

        Args:
            server: viser's.
            session: what the widgets act on.
            title: over the panel.
            lock: held whenever the session is used.
            look: turns a browser's camera to a yaw, radians.
            picture: what a browser sees now, fine.
        """
        self.session, self.sliders = session, dict[str, Any]()
        self._server, self._title, self._lock, self._look, self._picture = server, title, lock, look, picture
        self._glide = Glide()
        self._groups: list[tuple[Any, list[str]]] = []
        self._build()

    def tick(self) -> None:
        """Move on: a track that plays, sliders on their way. Under the lock."""
        for name, value in self._glide.step().items():
            self.session.set(name, value)
        if self.session.tick():
            self.show_values()

    def show_values(self) -> None:
        """Every slider where the session has it."""
        with self._lock:
            for name, slider in self.sliders.items():
                value = min(max(self.session.value(name), slider.min), slider.max)
                if abs(slider.value - value) > 1e-6:
                    slider.value = value
            if self._seek is not None and self._seek.value != self.session.frame:
                self._seek.value = self.session.frame

    def rebuild(self) -> None:
        """The panel anew: a second head brings widgets of its own."""
        self._folder.remove()
        self.sliders.clear()
        self._build()

    def search(self, text: str) -> None:
        """Show the sliders that have all words of a text."""
        found = self.session.panel.found(text)
        for folder, names in self._groups:
            folder.visible = any(name in found for name in names)
            for name in names:
                self.sliders[name].visible = name in found

    # Building

    def _build(self) -> None:
        self._folder = self._server.gui.add_folder(self._title)
        with self._folder:
            self._add_status_and_layers()
            self._add_player()
            self._add_buttons()
            self._add_groups()

    def _add_status_and_layers(self) -> None:
        gui, panel, session = self._server.gui, self.session.panel, self.session
        self._status = gui.add_markdown(session.message)
        sides = {action.label: action.name for action in panel.views}
        gui.add_button_group("From", tuple(sides)).on_click(
            lambda event: self._look(event.client, SIDES[sides[event.target.value]])
        )
        for toggle in panel.toggles:
            box = gui.add_checkbox(toggle.label, session.on[toggle.name], hint=toggle.hint or None)
            box.on_update(self._toggled(toggle.name, box))

    def _add_player(self) -> None:
        gui, session = self._server.gui, self.session
        self._seek: Any = None
        if session.panel.frames > 1:
            play = gui.add_checkbox("Play", session.playing)
            play.on_update(lambda _: self._do(lambda: session.play(play.value)))
            self._seek = gui.add_slider("Frame", 0, session.panel.frames - 1, 1, session.frame)
            self._seek.on_update(self._sought)

    def _add_buttons(self) -> None:
        gui, panel = self._server.gui, self.session.panel
        edits = {action.label: action.name for action in panel.edits}
        for start in range(0, len(edits), 3):
            group = gui.add_button_group("Edit" if start == 0 else " ", tuple(edits)[start : start + 3])
            group.on_click(lambda event: self._press(edits[event.target.value]))
        for action in panel.saves:
            gui.add_button(action.label, hint=action.hint or None).on_click(self._saved(action.name))
        if panel.transfer:
            upload = gui.add_upload_button("Second head ...", mime_type=".npz", hint="its expression, live")
            upload.on_upload(self._uploaded(upload))

    def _add_groups(self) -> None:
        gui, panel = self._server.gui, self.session.panel
        if len(panel.groups) > 1:
            search = gui.add_text("Find a slider", "")
            search.on_update(lambda _: self.search(search.value))
        self._groups.clear()
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
        self.sliders[control.name] = slider
        slider.on_update(self._moved(control.name, slider))

    # What users do

    def _do(self, action: Callable[[], object]) -> None:
        with self._lock:
            for name, value in self._glide.finish().items():
                self.session.set(name, value)
            action()
            self._status.content = self.session.message

    def _moved(self, name: str, slider: Any) -> Callable[[Any], None]:
        def moved(event: Any) -> None:
            # Sliders that were set from here come without a client.
            if event.client is not None:
                with self._lock:
                    self._glide.send(name, self.session.value(name), slider.value)

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
            with tempfile.TemporaryDirectory() as folder, self._lock:
                self._do(lambda: None)
                if name == "picture":
                    image = torch.from_numpy(self._picture(event.client)).permute(2, 0, 1).float() / 255
                    event.client.send_file_download("view.png", encode_image(image, "PNG"))
                    return
                path = self.session.save(name, Path(folder) / f"edited.{name}")
                self._status.content = self.session.message if path is None else ""
                if path is not None:
                    event.client.send_file_download(path.name, path.read_bytes())

        return save

    def _uploaded(self, upload: Any) -> Callable[[Any], None]:
        def dropped(_: Any) -> None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "second.npz"
                path.write_bytes(upload.value.content)
                with self._lock:
                    if self.session.drop(path):
                        self.session.message = f"{Path(upload.value.name).name} gives its expression"
                        self.rebuild()
                    self._status.content = self.session.message

        return dropped
