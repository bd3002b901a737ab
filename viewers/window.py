"""The Open3D window: the panel's widgets beside a picture that our own rasteriser draws.

The picture is an image widget that our rasteriser fills, rather than Open3D's scene: a machine without a graphics card
then only copies its pixels (`scripts/bench/view.py` measures both), and what is shown is what is saved. Nothing is
drawn that has not changed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..heads.view.controls import Control
from .graphics import Graphics, draw_with_opengl
from .session import Session

#: Pixels: a window for graphics cards, and one that a software driver still fills thirty times a second.
_SIZE, _SOFT_SIZE = (1280, 820), (800, 520)
#: Width of the panel, ems.
_PANEL = 21
#: Seconds without a change after which the picture is drawn with smooth edges.
_REST = 0.25
#: Seconds between two pictures at least; with longer ones pictures miss the frames that the driver gets to show.
_PACE = 0.008


@dataclass(eq=False)
class _Row:
    control: Control
    row: Any
    slider: Any


class Window:
    """One window. Open3D allows one application in a process."""

    def __init__(
        self, session: Session, title: str = "headlab", size: tuple[int, int] = _SIZE, *, opengl: bool = False
    ) -> None:
        """Open it.

        Args:
            session: what it shows.
            title: of the window.
            size: width and height, pixels.
            opengl: draw with OpenGL rather than Vulkan (see `graphics`).
        """
        import open3d as o3d
        from open3d.visualization import gui

        self.session = session
        self.drawn: list[float] = []  #: when pictures were handed over, seconds; the last thousand
        self._o3d, self._gui, self._opengl = o3d, gui, opengl and draw_with_opengl()
        self._app = gui.Application.instance
        self._app.initialize()
        self._window = self._app.create_window(title, *size)
        self._em = self._window.theme.font_size
        self._rows: dict[str, _Row] = {}
        self._groups: list[tuple[Any, list[str]]] = []
        self._view = gui.ImageWidget(self._image(np.zeros((16, 16, 3), np.uint8)))
        self._view.set_on_mouse(self._mouse)
        self._status = gui.Label("")
        self._panel = self._build_panel()
        for child in (self._view, self._panel, self._status):
            self._window.add_child(child)
        self._window.set_on_layout(self._layout)
        self._window.set_on_key(self._key)
        self._window.set_on_tick_event(self._tick)
        self._version, self._fine, self._size = -1, False, (0, 0)
        self._changed_at, self._drawn_at, self._pointer = 0.0, 0.0, (0, 0)

    def run(self) -> None:
        """Until the window is closed."""
        self._app.run()

    def post(self, function: Callable[[], None]) -> None:
        """Run something in the window's thread."""
        self._app.post_to_main_thread(self._window, function)

    def close(self) -> None:
        self.post(self._window.close)

    def slider_place(self, name: str) -> tuple[int, int, int, int]:
        """(x, y, width, height) of a slider on the screen, pixels: where the mouse finds it."""
        window, frame = self._window.os_frame, self._rows[name].slider.frame
        return window.x + frame.x, window.y + frame.y, frame.width, frame.height

    # Building

    def _build_panel(self) -> Any:
        gui, em, panel = self._gui, self._em, self.session.panel
        spacing = round(0.25 * em)
        root = gui.ScrollableVert(spacing, gui.Margins(*(round(0.5 * em),) * 4))
        self._buttons(root, panel.views)
        for start in range(0, len(panel.toggles), 2):
            row = gui.Horiz(spacing)
            for toggle in panel.toggles[start : start + 2]:
                box = gui.Checkbox(toggle.label)
                box.checked = self.session.on[toggle.name]
                box.tooltip = toggle.hint
                box.set_on_checked(self._toggled(toggle.name))
                row.add_child(box)
            root.add_child(row)
        if panel.frames > 1:
            root.add_child(self._player(panel.frames))
        self._buttons(root, panel.edits)
        self._buttons(root, panel.saves)
        if panel.transfer:
            button = gui.Button("Second head ...")
            button.tooltip = "its expression goes to this head, live"
            button.set_on_clicked(self._ask_second)
            root.add_child(button)
        if len(panel.groups) > 1:
            search = gui.TextEdit()
            search.placeholder_text = "Find a slider"
            search.set_on_text_changed(self._search)
            root.add_child(search)
        for group in panel.groups:
            box = gui.CollapsableVert(_typed(group.title), spacing, gui.Margins(round(0.3 * em), 0, 0, 0))
            box.set_is_open(group.open)
            for control in group.controls:
                box.add_child(self._slider(control))
            root.add_child(box)
            self._groups.append((box, [control.name for control in group.controls]))
        return root

    def _buttons(self, root: Any, actions: tuple) -> None:
        gui = self._gui
        for start in range(0, len(actions), 3):
            row = gui.Horiz(round(0.25 * self._em))
            for action in actions[start : start + 3]:
                button = gui.Button(action.label)
                button.horizontal_padding_em = button.vertical_padding_em = 0.25
                button.tooltip = action.hint
                button.set_on_clicked(self._pressed(action.name))
                row.add_child(button)
            root.add_child(row)

    def _slider(self, control: Control) -> Any:
        gui = self._gui
        row = gui.Horiz(round(0.25 * self._em))
        label = gui.Vert(0)
        label.preferred_width = round(0.42 * _PANEL * self._em)
        label.add_child(gui.Label(_typed(control.label + (f" {control.unit}" if control.unit else ""))))
        slider = gui.Slider(gui.Slider.DOUBLE)
        slider.set_limits(control.low, control.high)
        slider.double_value = self.session.value(control.name)
        slider.set_on_value_changed(lambda value: self._moved(control.name, value))
        row.add_child(label)
        row.add_child(slider)
        self._rows[control.name] = _Row(control, row, slider)
        return row

    def _player(self, frames: int) -> Any:
        gui = self._gui
        row = gui.Horiz(round(0.25 * self._em))
        self._play = gui.Button("Play")
        self._play.toggleable = True
        self._play.horizontal_padding_em = self._play.vertical_padding_em = 0.25
        self._play.set_on_clicked(lambda: self.session.play(self._play.is_on))
        self._seek = gui.Slider(gui.Slider.INT)
        self._seek.set_limits(0, frames - 1)
        self._seek.set_on_value_changed(self._sought)
        row.add_child(self._play)
        row.add_child(self._seek)
        return row

    # What users do

    def _moved(self, name: str, value: float) -> None:
        self.session.set(name, value)
        self._window.post_redraw()

    def _sought(self, value: float) -> None:
        self.session.seek(round(value))
        self.show_values()

    def _toggled(self, name: str) -> Callable[[bool], None]:
        return lambda on: self.session.toggle(name, on)

    def _pressed(self, name: str) -> Callable[[], None]:
        def press() -> None:
            if name in ("picture", "glb", "npz"):
                self.session.save(name, size=self._size)
            else:
                self.session.press(name)
                self.show_values()

        return press

    def _search(self, text: str) -> None:
        found = self.session.panel.found(text)
        opened = {group.title: group.open for group in self.session.panel.groups}
        for (box, names), group in zip(self._groups, self.session.panel.groups, strict=True):
            for name in names:
                self._rows[name].row.visible = name in found
            box.visible = any(name in found for name in names)
            box.set_is_open(bool(text.strip()) or opened[group.title])
        self._window.set_needs_layout()

    def _ask_second(self) -> None:
        dialog = self._gui.FileDialog(self._gui.FileDialog.OPEN, "A second head", self._window.theme)
        dialog.add_filter(".npz", "head.npz or track.npz")
        dialog.set_path(str(self.session.folder.absolute()))
        dialog.set_on_cancel(self._window.close_dialog)
        dialog.set_on_done(self._second)
        self._window.show_dialog(dialog)

    def _second(self, path: str) -> None:
        self._window.close_dialog()
        self.drop(Path(path))

    def drop(self, path: Path) -> None:
        """A second head; the panel gains its slider, its switch and, for a track, the play bar."""
        if not self.session.drop(path):
            return
        old, self._rows, self._groups = self._panel, {}, []
        self._panel = self._build_panel()
        # Widgets cannot be taken away from a window: the old panel stays, unseen.
        old.visible = False
        self._window.add_child(self._panel)
        self._window.set_needs_layout()

    def _mouse(self, event: Any) -> Any:
        gui, kind = self._gui, self._gui.MouseEvent.Type
        height = max(1, self._view.frame.height)
        if event.type == kind.BUTTON_DOWN:
            self._pointer = (event.x, event.y)
        elif event.type == kind.DRAG:
            right, down = (event.x - self._pointer[0]) / height, (event.y - self._pointer[1]) / height
            self._pointer = (event.x, event.y)
            shift = event.is_modifier_down(gui.KeyModifier.SHIFT) or event.is_button_down(gui.MouseButton.RIGHT)
            self.session.drag(right, down, shift=bool(shift))
        elif event.type == kind.WHEEL:
            self.session.zoom(float(np.exp(0.1 * event.wheel_dy)))
        else:
            return gui.ImageWidget.EventCallbackResult.IGNORED
        return gui.ImageWidget.EventCallbackResult.CONSUMED  # the widget keeps the pointer while it is dragged

    def _key(self, event: Any) -> bool:
        """Home brings the first view back; letters belong to the search box."""
        gui = self._gui
        if event.type != gui.KeyEvent.Type.DOWN or event.key != gui.KeyName.HOME:
            return False
        self.session.press("front")
        return True

    # Showing

    def show_values(self) -> None:
        """Every slider where the session has it."""
        for name, row in self._rows.items():
            row.slider.double_value = self.session.value(name)

    def _tick(self) -> bool:
        """Called by Open3D about a hundred times a second: draws once per change."""
        session = self.session
        if session.tick():
            self._seek.int_value = session.frame
            self.show_values()
        if self._status.text != session.message:
            self._status.text = session.message
            self._window.set_needs_layout()
        frame = self._view.frame
        size = (max(16, frame.height), max(16, frame.width))
        now = time.monotonic()
        if now - self._drawn_at < _PACE:
            return False
        if session.version != self._version or size != self._size:
            self._version, self._size, self._fine, self._changed_at = session.version, size, False, now
        elif self._fine or now - self._changed_at < _REST:
            return False
        else:
            self._fine = True
        self._drawn_at = now
        self._view.update_image(self._image(session.picture(size, fine=self._fine)))
        self.drawn.append(time.perf_counter())
        del self.drawn[:-1000]
        return True

    def _image(self, picture: np.ndarray) -> Any:
        # By OpenGL, Open3D's image widget shows the last row at the top.
        return self._o3d.geometry.Image(np.ascontiguousarray(picture[::-1] if self._opengl else picture))

    def _layout(self, _context: Any) -> None:
        area, width = self._window.content_rect, round(_PANEL * self._em)
        low = round(1.6 * self._em) if self.session.message else 0
        rect = self._gui.Rect
        self._view.frame = rect(area.x, area.y, max(16, area.width - width), max(16, area.height - low))
        self._panel.frame = rect(area.get_right() - width, area.y, width, area.height - low)
        self._status.frame = rect(area.x, area.get_bottom() - low, area.width, low)


def _typed(text: str) -> str:
    """Open3D's font has no Greek."""
    return text.replace("β", "beta").replace("ψ", "psi")


def good_size(graphics: Graphics) -> tuple[int, int]:
    """Width and height of a new window, pixels, for what will draw it."""
    return _SOFT_SIZE if graphics.soft else _SIZE


def show_window(session: Session, title: str, graphics: Graphics) -> None:
    """Open the window and return when it is closed.

    Args:
        session: what to show.
        title: of the window.
        graphics: what `DisplayProbe` found: ask it before, since Open3D aborts where it cannot open a window.
    """
    Window(session, title, good_size(graphics), opengl=graphics.opengl).run()
