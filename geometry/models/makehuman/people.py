"""Random plausible heads from MakeHuman's controls.

A head is the base mesh, plus the macro targets mixed for its age, sex, ancestry and weight (macro.json's rule: a
target named after several traits is weighted by the product of theirs), plus face controls in -1..1, each with a
target for either sign. Controls of the left and right side move together up to a small difference.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from .source import MakeHuman, Target

_FACE_FOLDERS = ("head", "forehead", "eyebrows", "eyes", "nose", "cheek", "mouth", "chin", "ears", "neck")
#: Controls that move the whole head or body, or leave the range of people.
_EXCLUDED = ("head-trans", "neck-trans", "ear-shape-pointed", "ear-shape-triangle", "head-angle", "measure-neck-height")
#: Suffixes of the two directions of a control: negative, positive.
_OPPOSITES = (
    ("-decr", "-incr"),
    ("-down", "-up"),
    ("-in", "-out"),
    ("-backward", "-forward"),
    ("-concave", "-convex"),
    ("-compress", "-uncompress"),
)
#: Standard deviation of the sliders by folder. Over the face, samples then spread about as real people do (measured
#: against ICT-FaceKit's scans); few skulls differ as much as MakeHuman's sliders allow.
_CONTROL_STD = {
    **{"head": 0.07, "forehead": 0.07, "neck": 0.15, "ears": 0.25},
    **{"chin": 0.15, "nose": 0.17, "mouth": 0.17, "cheek": 0.22, "eyes": 0.22, "eyebrows": 0.2},
}
#: Mean of the sliders that are not 0 on average. MakeHuman's heads are narrow, their eyes close together; so moved, the
#: averages over both sexes are those of adults: head 150 mm broad and 192 mm long, pupils 63 mm apart, mouth 49 mm
#: wide, nasion to chin 118 mm (Zhuang & Bradtmiller, "Head-and-face anthropometric survey of U.S. respirator users",
#: Journal of Occupational and Environmental Hygiene 2005).
_CONTROL_MEAN = {
    "head-scale-horiz-decr-incr": 0.25,
    "head-scale-vert-decr-incr": 0.13,
    "eye-trans-in-out": 0.3,
    "eye-height2-decr-incr": 0.15,
    "mouth-scale-horiz-decr-incr": 0.1,
    "nose-scale-depth-decr-incr": 0.15,
}
_ASYMMETRY_STD = 0.06  # of one side against the other, of the asym targets, and of shifts of nose and mouth sideways
_AGES = ("child", "young", "old")
_RACES = ("african", "asian", "caucasian")


@dataclass(frozen=True)
class Control:
    """A slider in -1..1: targets of its negative and positive ends, for one side or for the middle."""

    name: str
    std: float
    negative: Target | None
    positive: Target | None


def face_controls(source: MakeHuman) -> list[Control]:
    """The face and head sliders; left and right ones apart, named l-... and r-..."""
    targets: dict[str, Target] = {}
    stds: dict[str, float] = {}
    for folder in _FACE_FOLDERS:
        found = source.targets(folder)
        targets.update(found)
        stds.update(dict.fromkeys(found, _CONTROL_STD[folder]))
    controls = []
    for name in sorted(targets):
        bare = name.removeprefix("l-").removeprefix("r-")
        if bare.startswith(_EXCLUDED):
            continue
        sideways = name == bare and "-trans-" in name and name.endswith(("-in", "-out"))
        std = _ASYMMETRY_STD if sideways else stds[name]
        low, high = next(((a, b) for a, b in _OPPOSITES if name.endswith((a, b))), ("", ""))
        if low and name.endswith(high):
            stem = name.removesuffix(high)
            controls.append(Control(stem + low + high, std, targets.get(stem + low), targets[name]))
        elif not low or name.removesuffix(low) + high not in targets:
            controls.append(Control(name, std, None, targets[name]))
    return controls


def sample_heads(
    source: MakeHuman,
    kept: Int[ndarray, "verts"],
    count: int,
    rng: np.random.Generator,
) -> Float[ndarray, "count verts 3"]:
    """Draw heads; `kept` picks body vertices. Decimetres, not aligned."""
    controls = face_controls(source)
    values = _control_values(controls, count, rng)
    weights, rows = [], []
    for column, control in enumerate(controls):
        for target, weight in ((control.positive, values[:, column]), (control.negative, -values[:, column])):
            if target is not None:
                rows.append(target)
                weights.append(np.clip(weight, 0, 1))
    for target in source.targets("asym").values():
        rows.append(target)
        weights.append(np.clip(rng.normal(0, 2 * _ASYMMETRY_STD, count), 0, 1))
    macro = source.targets("macrodetails")
    for name, weight in _macro_weights(count, rng).items():
        if name in macro:
            rows.append(macro[name])
            weights.append(weight)
    basis = np.stack([dense(target, kept, len(source.mesh.vertices)).ravel() for target in rows]).astype(np.float32)
    offsets = np.stack(weights, 1).astype(np.float32) @ basis
    return source.mesh.vertices[kept] + offsets.reshape(count, len(kept), 3).astype(float)


def dense(target: Target, kept: Int[ndarray, "verts"], count: int) -> Float[ndarray, "verts 3"]:
    """A target's offsets at the kept vertices."""
    full = np.zeros((count, 3))
    full[target.indices] = target.offsets
    return full[kept]


def _control_values(controls: list[Control], count: int, rng: np.random.Generator) -> Float[ndarray, "count controls"]:
    """Truncated normal sliders, nearly equal on both sides."""
    shared: dict[str, Float[ndarray, "count"]] = {}
    columns = []
    for control in controls:
        sided = control.name.startswith(("l-", "r-"))
        key = control.name[2:] if sided else control.name
        if key not in shared:
            shared[key] = rng.normal(_CONTROL_MEAN.get(key, 0.0), control.std, count)
        own = rng.normal(0, _ASYMMETRY_STD, count) if sided else 0.0
        columns.append(np.clip(shared[key] + own, -1, 1))
    return np.stack(columns, 1)


def _macro_weights(count: int, rng: np.random.Generator) -> dict[str, Float[ndarray, "count"]]:
    """Weights of the macro targets for random people: mostly adults, some older children; ancestries mixed."""
    male = rng.beta(0.8, 0.8, count)
    # MakeHuman's age axis: child 0.1875, young 0.5, old 1.0.
    age = np.where(rng.random(count) < 0.06, rng.uniform(0.3, 0.5, count), 0.5 + 0.45 * rng.beta(1.1, 1.7, count))
    child = np.clip((0.5 - age) / (0.5 - 0.1875), 0, 1)
    old = np.clip((age - 0.5) / 0.5, 0, 1)
    ages = dict(zip(_AGES, (child, 1 - child - old, old), strict=True))
    sexes = {"female": 1 - male, "male": male}
    races = dict(zip(_RACES, rng.dirichlet([0.5] * 3, count).T, strict=True))
    thirds = {kind: _three_way(np.clip(rng.normal(0.5, 0.2, count), 0, 1), kind) for kind in ("muscle", "weight")}
    out = {}
    for (sex, a), (years, b) in product(sexes.items(), ages.items()):
        for race, c in races.items():
            out[f"{race}-{sex}-{years}"] = a * b * c
        for (muscle, c), (weight, d) in product(thirds["muscle"].items(), thirds["weight"].items()):
            out[f"universal-{sex}-{years}-{muscle}-{weight}"] = a * b * c * d
    return out


def _three_way(value: Float[ndarray, "count"], kind: str) -> dict[str, Float[ndarray, "count"]]:
    low, high = np.clip(1 - 2 * value, 0, 1), np.clip(2 * value - 1, 0, 1)
    return {f"min{kind}": low, f"average{kind}": 1 - low - high, f"max{kind}": high}
