"""Controls: the numbers of a head a person may move, each with its words, region, range and unit."""

import math
import re
from dataclasses import dataclass, field, replace

from ...geometry.code import HeadCode
from ...geometry.models.head_model import HeadModel
from .lighting import LightEdit

_DEGREE = 180 / math.pi
#: Regions of expressions by the beginnings of their names; the first that fits holds.
_REGIONS = (
    ("Brows", r"brow"),
    ("Eyes and lids", r"eye|lid"),
    ("Jaw", r"jaw"),
    ("Mouth and lips", r"mouth|lip"),
    ("Cheeks", r"cheek"),
    ("Nose", r"nose"),
    ("Tongue", r"tongue"),
    ("Expression ψ", r""),
)
#: Without names of their own, coefficients come in blocks of this many.
_BLOCK = 20


@dataclass(frozen=True)
class Edit:
    """One head as it is edited: its code, and what is done to its light."""

    code: HeadCode
    light: LightEdit = field(default_factory=LightEdit)


@dataclass(frozen=True)
class Control:
    """One number. It is stored in the field's own unit (radians) and shown in `unit`."""

    name: str  #: "beta.0", "jawOpen", "pose.nod", "light.turn"
    label: str
    region: str
    field: str  #: of `HeadCode`, or "light." and a field of `LightEdit`
    places: tuple[tuple[int, ...], ...]  #: where in the field; several move together
    low: float
    high: float
    unit: str = ""
    scale: float = 1.0  #: shown = stored * scale
    rest: float = 0.0  #: where double click and "neutral" bring it

    @property
    def words(self) -> str:
        """What a search looks in."""
        return f"{self.name} {self.label} {self.region}".lower()

    def read(self, edit: Edit) -> float:
        """The value as shown."""
        if self.field.startswith("light."):
            return getattr(edit.light, self.field[6:]) * self.scale
        values = getattr(edit.code, self.field)
        return sum(float(values[place]) for place in self.places) / len(self.places) * self.scale

    def write(self, edit: Edit, value: float) -> Edit:
        """The edit with another value, as shown; clamped to the control's range."""
        stored = min(max(float(value), self.low), self.high) / self.scale
        if self.field.startswith("light."):
            return replace(edit, light=replace(edit.light, **{self.field[6:]: stored}))
        values = getattr(edit.code, self.field).clone()
        for place in self.places:
            values[place] = stored
        return replace(edit, code=edit.code.with_(**{self.field: values}))


def controls_of(model: HeadModel) -> tuple[Control, ...]:
    """All controls of a head model: ψ by region, β, pose of neck, jaw and eyes, light."""
    return (*_expressions(model), *_poses(model), *_lights(), *_shapes(model))


def spoken(name: str) -> str:
    """ "mouthSmile_L" -> "Mouth smile left"."""
    sided = re.sub(r"_R$", " right", re.sub(r"_L$", " left", name))
    words = re.sub(r"([a-z])([A-Z0-9])", r"\1 \2", re.sub(r"[_.]+", " ", sided)).lower().strip()
    return words[:1].upper() + words[1:]


def _expressions(model: HeadModel) -> list[Control]:
    found = []
    for k, name in enumerate(model.expression_names[: model.expressions]):
        region = next(title for title, start in _REGIONS if re.match(start, name, re.IGNORECASE))
        if model.expression_bounds is not None:
            low, high = (float(x) for x in model.expression_bounds[k])
        else:
            spread = 3.0 if model.expression_std is None else 3 * float(model.expression_std[k])
            low, high = -spread, spread
        found.append(Control(name, spoken(name), region, "expression", ((k,),), low, high))
    order = [title for title, _ in _REGIONS]
    return sorted(found, key=lambda control: order.index(control.region))


def _shapes(model: HeadModel) -> list[Control]:
    blocks = range(0, model.shapes, _BLOCK)
    titles = {b: f"Identity β {b + 1} to {min(b + _BLOCK, model.shapes)}" for b in blocks}
    return [
        Control(f"beta.{k}", f"β {k + 1}", titles[k // _BLOCK * _BLOCK], "shape", ((k,),), -3.0, 3.0)
        for k in range(model.shapes)
    ]


def _poses(model: HeadModel) -> list[Control]:
    joints = set(model.joint_names)
    rows = [
        ("neck", "pose.nod", "Nod", "neck", ((0,),), 35),
        ("neck", "pose.turn", "Turn", "neck", ((1,),), 50),
        ("neck", "pose.tilt", "Tilt", "neck", ((2,),), 25),
        ("jaw", "pose.jaw", "Jaw drop", "jaw", ((0,),), 25),
        ("jaw", "pose.jawSide", "Jaw sideways", "jaw", ((1,),), 10),
        ("left_eye", "pose.lookDown", "Look down", "eyes", ((0, 0), (1, 0)), 30),
        ("left_eye", "pose.lookLeft", "Look to its left", "eyes", ((0, 1), (1, 1)), 40),
        ("left_eye", "pose.leftEyeLeft", "Left eye alone", "eyes", ((0, 1),), 40),
        ("right_eye", "pose.rightEyeLeft", "Right eye alone", "eyes", ((1, 1),), 40),
    ]
    regions = {"neck": "Neck", "jaw": "Jaw", "left_eye": "Eyes and lids", "right_eye": "Eyes and lids"}
    return [
        Control(name, label, regions[joint], where, places, float(-limit), float(limit), "°", _DEGREE)
        for joint, name, label, where, places, limit in rows
        if joint in joints
    ]


def _lights() -> list[Control]:
    def light(name: str, label: str, low: float, high: float, unit: str = "", scale: float = 1.0, rest: float = 0.0):
        return Control(f"light.{name}", label, "Light", f"light.{name}", (), low, high, unit, scale, rest)

    return [
        light("turn", "Turn", -180.0, 180.0, "°", _DEGREE),
        light("rise", "Raise", -90.0, 90.0, "°", _DEGREE),
        light("brightness", "Brightness", 0.0, 2.0, rest=1.0),
        light("warmth", "Warmth", -1.0, 1.0),
    ]
