"""What both viewers share: what was opened, what is shown, and what every slider, layer and button does.

A `Session` knows no window: front ends build widgets from `panel`, call `set`, `toggle`, `press`, `seek` and `tick`,
and show `picture`. Where something cannot be done, `message` says so; nothing raises for a user's click.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ..geometry.camera import Camera
from ..geometry.errors import HeadlabError
from ..geometry.files import write_png
from ..geometry.rodrigues import rotvec_to_rotmat
from ..heads.view.editor import Editor, Posed
from ..heads.view.lighting import LightEdit, edited_light
from ..heads.view.opened import Opened, OpenedHead, open_any
from ..heads.view.puppet import Puppeteer
from ..heads.view.saving import save_head
from ..heads.view.surface import Surface
from .canvas import Canvas, Picture
from .layers import Look, draw_layers
from .panel import OPACITY, STRENGTH, Panel, build_panel
from .photo_back import PhotoBack
from .shown import Shown, sort_out

#: Yaw of the camera, radians.
SIDES = {"front": 0.0, "left": math.pi / 2, "right": -math.pi / 2}
_FILES = {"picture": "view.png", "glb": "edited.glb", "npz": "edited.npz"}


class Session:
    """The state of a viewer."""

    def __init__(
        self,
        opened: Sequence[Opened],
        *,
        photo: Path | None = None,
        folder: Path = Path(),
        generator: torch.Generator | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.shown = sort_out(opened)
        self.folder = folder  #: where the save buttons write
        self.message = ""
        self.frame = 0
        self.playing = False
        self.version = 0  #: grows with everything that changes the picture
        self._clock = clock
        self._played = (0.0, 0.0)  # clock and time in the track when play was pressed
        head = self.shown.head
        self.editor: Editor | None = None
        if head is not None and head.model is not None:
            self.editor = Editor(head.model, head.fit.codes[0], generator=generator, clock=clock)
        self._puppeteer: Puppeteer | None = None
        self._view = {OPACITY.name: 1.0, STRENGTH.name: 1.0}
        self._photo = PhotoBack(head, photo) if head is not None else None
        self.panel = self._build_panel()
        self.on = {toggle.name: toggle.value for toggle in self.panel.toggles}
        self._posed: Posed | None = None
        self._head_surface: Surface | None = None
        self.orbit = self._home = self.shown.first_orbit()
        if head is not None and head.note:
            self.message = head.note
        if self.shown.second is not None:
            self._give(self.shown.second)

    # What users do

    def set(self, name: str, value: float) -> None:
        """Move a slider."""
        if name in self._view:
            self._view[name] = value
            if name == STRENGTH.name:
                self._transfer()
        elif self.editor is not None:
            self.editor.set(name, value)
        self._changed()

    def value(self, name: str) -> float:
        if name in self._view:
            return self._view[name]
        return self.editor.value(name) if self.editor is not None else 0.0

    def toggle(self, name: str, on: bool) -> None:
        """Show or hide a layer."""
        self.on[name] = on
        if name == "give":
            self._transfer()
        if name == "photo" and on and self._photo is not None and self._photo.picture(self.frame) is None:
            self.message = f"the photo of frame {self.frame} is not found; name it with --photo"
        self._changed()

    def press(self, name: str) -> None:
        """A button of `panel.edits` or `panel.views`."""
        if name in SIDES:
            self.orbit = (self._home if name == "front" else self.orbit).from_side(SIDES[name])
        elif self.editor is not None:
            if name in ("undo", "redo"):
                done = self.editor.undo() if name == "undo" else self.editor.redo()
                self.message = "" if done else f"nothing to {name}"
            else:
                edits: dict[str, Callable[[], None]] = {
                    "fitted": self.editor.as_fitted,
                    "neutral": self.editor.neutral,
                    "random": self.editor.random_expression,
                    "person": self.editor.random_person,
                }
                edits[name]()
        self._changed()

    def seek(self, frame: int) -> None:
        """Another frame of the track; the second head's track follows."""
        head = self.shown.head
        self.frame = max(0, min(self.panel.frames - 1, frame))
        if head is not None and self.editor is not None:
            self.editor.show(head.fit.codes[min(self.frame, head.frames - 1)])
        self._transfer()
        self._changed()

    def play(self, on: bool) -> None:
        self.playing = on and self.panel.frames > 1
        self._played = (self._clock(), self.shown.times[self.frame] if self.playing else 0.0)

    def tick(self) -> bool:
        """Move on while playing; whether another frame is shown now."""
        if not self.playing:
            return False
        times = self.shown.times
        length = times[-1] - times[0] + (times[-1] - times[-2])
        now = times[0] + (self._played[1] - times[0] + self._clock() - self._played[0]) % length
        frame = max(i for i, t in enumerate(times) if t <= now + 1e-6)
        if frame == self.frame:
            return False
        self.seek(frame)
        return True

    def drop(self, path: Path | str) -> bool:
        """A second head: from now on it gives its expression. False, and a message, where it cannot."""
        try:
            found = open_any(path)
            if not isinstance(found, OpenedHead):
                raise HeadlabError(f"{path} is no head; a second head is a folder of `headlab fit` or `headlab track`")
            self._give(found)
        except HeadlabError as error:
            self.message = str(error)
            return False
        return self._puppeteer is not None

    def save(self, what: str, path: Path | None = None, size: tuple[int, int] = (1080, 1080)) -> Path | None:
        """Save the picture, a GLB or an npz; a name that is free is chosen. None, and a message, where it fails."""
        path = path or _free(self.folder / _FILES[what])
        try:
            if what == "picture":
                picture = torch.from_numpy(self.picture(size, fine=True)).permute(2, 0, 1).float() / 255
                write_png(path, picture)
            else:
                assert self.shown.head is not None and self.editor is not None
                save_head(path, self.shown.head, self.editor, min(self.frame, self.shown.head.frames - 1))
        except HeadlabError as error:
            self.message = str(error)
            return None
        self.message = f"saved {path}"
        return path

    def drag(self, right: float, down: float, *, shift: bool = False) -> None:
        """The pointer was dragged, in shares of the picture's height."""
        self.orbit = self.orbit.moved(right, down) if shift else self.orbit.turned(4 * right, 4 * down)
        self._changed()

    def zoom(self, factor: float) -> None:
        self.orbit = self.orbit.zoomed(factor)
        self._changed()

    # What is to be seen

    def picture(self, size: tuple[int, int], camera: Camera | None = None, *, fine: bool = False) -> Picture:
        """The picture, as shown now.

        Args:
            size: (height, width), pixels.
            camera: from where; None: the session's own orbit. The photo's camera where the photo is shown.
            fine: twice the resolution, averaged: smooth edges, four times the work.
        """
        if fine:
            import cv2

            big = self.picture((2 * size[0], 2 * size[1]), None if camera is None else camera.resized(_doubled(size)))
            return cv2.resize(big, (size[1], size[0]), interpolation=cv2.INTER_AREA)
        back = None
        if self._photo is not None and self.on.get("photo"):
            back = self._photo.fitted(self.frame, size, self.orbit.zoom, self._pose().vertices.mean(0))
        if back is not None:
            canvas = Canvas(back.camera, back.picture)
        else:
            canvas = Canvas(camera or self.camera(size))
        self._draw(canvas)
        return canvas.pixels

    def camera(self, size: tuple[int, int]) -> Camera:
        """The orbit's camera; it keeps to the head where that is wished."""
        rotation, translation = self.place()
        return self.orbit.camera(size, rotation, translation)

    def place(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Rotation and translation of the frame the orbit is in: the head's own, or that of the first frame."""
        head = self.shown.head
        if head is None or head.model is None:
            return torch.eye(3), torch.zeros(3)
        code = head.fit.codes[0]
        if self.on.get("follow", True):
            posed = self._pose()
            return rotvec_to_rotmat(posed.rotation), posed.translation
        return rotvec_to_rotmat(code.rotation), code.translation

    def _draw(self, canvas: Canvas) -> None:
        shown, head = self.shown, self.shown.head
        light = edited_light(None, self.editor.edit.light if self.editor else LightEdit())
        posed = self._pose() if head is not None and head.model is not None else None
        surface = None if head is None else (head.surface if posed is None else self._head())
        draw_layers(canvas, shown, Look(self.on, light, self._view[OPACITY.name], posed, surface))

    def _pose(self) -> Posed:
        assert self.editor is not None
        if self._posed is None:
            self._posed = self.editor.posed()
        return self._posed

    def _head(self) -> Surface:
        assert self.shown.head is not None
        if self._head_surface is None:
            self._head_surface = self.shown.head.surface.moved(self._pose().vertices)
        return self._head_surface

    def _changed(self) -> None:
        self._posed = self._head_surface = None
        self.version += 1

    # The second head

    def _give(self, giver: OpenedHead) -> None:
        if self.editor is None:
            self.message = "there is no head with a model that could take an expression"
            return
        try:
            self._puppeteer = Puppeteer(giver)
        except HeadlabError as error:
            self.message = str(error)
            return
        self.shown = Shown(self.shown.head, self.shown.surface, self.shown.cloud, giver)
        self.panel = self._build_panel()
        self.on = {toggle.name: self.on.get(toggle.name, toggle.value) for toggle in self.panel.toggles}
        self.message = f"{giver.name} gives its expression"
        self._transfer()
        self._changed()

    def _transfer(self) -> None:
        head = self.shown.head
        if self._puppeteer is None or self.editor is None or head is None:
            return
        own = head.fit.codes[min(self.frame, head.frames - 1)]
        code = own.with_(shape=self.editor.edit.code.shape)
        try:
            if self.on.get("give", True):
                strength = self._view[STRENGTH.name]
                code = self._puppeteer.on(self.editor.model, head.fit, code, self.frame, strength)
            self.editor.put(code, "second head")
        except HeadlabError as error:
            self.message = str(error)
            self._puppeteer = None

    def _build_panel(self) -> Panel:
        controls = () if self.editor is None else self.editor.controls.values()
        return build_panel(
            controls,
            self.shown.toggles(),
            frames=self.shown.frames,
            head=self.editor is not None,
            second=self.shown.second is not None,
        )


def _doubled(size: tuple[int, int]) -> tuple[int, int]:
    return 2 * size[0], 2 * size[1]


def _free(path: Path) -> Path:
    """The path, or the first of path_2, path_3 … that is free."""
    for i in range(2, 10_000):
        if not path.exists():
            return path
        path = path.with_name(f"{path.stem.removesuffix(f'_{i - 1}')}_{i}{path.suffix}")
    return path
