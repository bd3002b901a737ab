"""Editing one head: values by control, neutral, random, undo, another head's expression."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ...geometry.code import HeadCode
from ...geometry.models.head_model import HeadModel
from .controls import Control, Edit, controls_of
from .lighting import LightEdit, edited_light

#: Steps that can be taken back; moves of one control within this many seconds are one step.
_STEPS, _TOGETHER = 200, 0.7


@dataclass(frozen=True, eq=False)
class Posed:
    """An edited head, ready to be drawn."""

    vertices: Float[Tensor, "verts 3"]  #: world, metres
    light: Float[Tensor, "9 3"]
    rotation: Float[Tensor, "3"]  #: the head's own, axis-angle
    translation: Float[Tensor, "3"]


class Editor:
    """One person's head and what was done to it.

    `show` moves on to another frame of a track without a step to undo; whatever `set` and the buttons change is one.
    """

    def __init__(
        self,
        model: HeadModel,
        fitted: HeadCode,
        *,
        generator: torch.Generator | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = model
        self.controls: dict[str, Control] = {control.name: control for control in controls_of(model)}
        self.fitted = fitted
        self.edit = Edit(fitted)
        self._generator = generator or torch.Generator()
        self._clock = clock
        self._past: list[Edit] = []
        self._future: list[Edit] = []
        self._last: tuple[str, float] = ("", 0.0)

    def value(self, name: str) -> float:
        return self.controls[name].read(self.edit)

    def values(self) -> dict[str, float]:
        """All values as shown."""
        return {name: control.read(self.edit) for name, control in self.controls.items()}

    def set(self, name: str, value: float) -> None:
        """Move one control; out of its range it stops at the end."""
        now = self._clock()
        self._step(self.controls[name].write(self.edit, value), name, now)

    def show(self, fitted: HeadCode) -> None:
        """Another frame: pose and expression are the frame's, an edited identity and light stay."""
        code = self.edit.code
        changed = not torch.equal(code.shape, self.fitted.shape)
        self.fitted = fitted
        self.edit = replace(self.edit, code=fitted.with_(shape=code.shape) if changed else fitted)

    def neutral(self) -> None:
        """No expression, eyes ahead; the person, the place and the light stay."""
        code, zero = self.edit.code, torch.zeros_like
        rest = code.with_(
            expression=zero(code.expression), neck=zero(code.neck), jaw=zero(code.jaw), eyes=zero(code.eyes)
        )
        self._step(replace(self.edit, code=rest))

    def as_fitted(self) -> None:
        self._step(Edit(self.fitted, LightEdit()))

    def random_expression(self) -> None:
        """A few actions at random, left and right mostly together, as faces do."""
        code = self.edit.code
        named = [c for c in self.controls.values() if c.field == "expression"]
        stems: dict[str, list[Control]] = {}
        for control in named:
            stem = control.name.removesuffix("Left").removesuffix("Right").removesuffix("_L").removesuffix("_R")
            stems.setdefault(stem, []).append(control)
        expression = torch.zeros_like(code.expression)
        order = torch.randperm(len(stems), generator=self._generator)[:6].tolist()
        groups = list(stems.values())
        for chosen in order:
            strength = float(torch.rand((), generator=self._generator))
            for control in groups[chosen]:
                share = strength * (0.75 + 0.25 * float(torch.rand((), generator=self._generator)))
                # Named actions go from 0 up; coefficients with a sign go both ways, half as far.
                signed = control.low < -0.5 * control.high
                sense = control.low / 2 + share * (control.high - control.low) / 2 if signed else share * control.high
                expression[control.places[0]] = sense
        self._step(replace(self.edit, code=code.with_(expression=expression, jaw=torch.zeros_like(code.jaw))))

    def random_person(self) -> None:
        """Another identity, as likely as the model's own people (β standard normal, later modes less)."""
        code = self.edit.code
        shape = torch.randn(code.shape.shape, generator=self._generator)
        self._step(replace(self.edit, code=code.with_(shape=shape.clamp(-2.5, 2.5))))

    def put(self, code: HeadCode, name: str = "code") -> None:
        """Another code as a whole; calls of one name in quick succession are one step."""
        self._step(replace(self.edit, code=code), name, self._clock())

    def undo(self) -> bool:
        """Take back one step; False where there is none."""
        return self._travel(self._past, self._future)

    def redo(self) -> bool:
        return self._travel(self._future, self._past)

    def posed(self) -> Posed:
        """The head as it is now."""
        code = self.edit.code
        with torch.inference_mode():
            light = edited_light(code.light, self.edit.light)
            return Posed(self.model.vertices(code), light, code.rotation, code.translation)

    def _step(self, edit: Edit, name: str = "", now: float = 0.0) -> None:
        same = name != "" and name == self._last[0] and now - self._last[1] < _TOGETHER
        if not same:
            self._past.append(self.edit)
            del self._past[:-_STEPS]
        self._future.clear()
        self._last = (name, now)
        self.edit = edit

    def _travel(self, source: list[Edit], sink: list[Edit]) -> bool:
        if not source:
            return False
        sink.append(self.edit)
        self.edit = source.pop()
        self._last = ("", 0.0)
        return True
