"""Hair styles: a few numbers each. Users add their own as JSON files in the assets folder's `hair/`.

    {"hairline": 0.7, "thickness": 0.02, "length": 0.12, "colour": [0.3, 0.2, 0.1]}

named by the file. Lengths are in metres on a head whose outer eye corners are 94 mm apart, and scale with the head.
"""

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ...geometry.errors import HeadlabError
from ..assets import assets_folder

_MOST_BYTES = 10_000


@dataclass(frozen=True)
class HairStyle:
    """A procedural style. Ranges are checked by `find_style`."""

    name: str
    hairline: float = 0.72  #: angle above the ears' level where hair begins on the forehead, radians, 0.3..2
    thickness: float = 0.014  #: of the cap over the scalp, 0.001..0.12
    top: float = 0.006  #: added on the crown, 0..0.1
    length: float = 0.0  #: of what falls at the sides and back from the temples, 0..0.6; 0: none
    flare: float = 0.0  #: how much wider it is at its end, -0.3..1
    opening: float = 1.4  #: where it begins beside the face, radians from the front, 0.6..2.6
    fringe: float = 0.0  #: how far hair hangs over the forehead, 0..0.1
    bun: float = 0.0  #: radius of a knot at the back, 0..0.08
    curl: float = 0.0  #: size of curls, 0..0.02
    colour: tuple[float, float, float] | None = None  #: sRGB 0..1; None: that of the fitted scalp


#: The smallest and largest sensible value of each number.
_RANGES = {
    "hairline": (0.3, 2.0),
    "thickness": (0.001, 0.12),
    "top": (0.0, 0.1),
    "length": (0.0, 0.6),
    "flare": (-0.3, 1.0),
    "opening": (0.6, 2.6),
    "fringe": (0.0, 0.1),
    "bun": (0.0, 0.08),
    "curl": (0.0, 0.02),
}

BUILT_IN = {
    style.name: style
    for style in (
        HairStyle("buzz", thickness=0.004, top=0.001),
        HairStyle("short"),
        HairStyle("quiff", hairline=0.8, thickness=0.01, top=0.028),
        HairStyle("fringe", thickness=0.014, fringe=0.035),
        HairStyle("bob", thickness=0.016, length=0.13, flare=0.06, fringe=0.03),
        HairStyle("long", hairline=0.78, thickness=0.014, length=0.27, flare=0.2),
        HairStyle("curly", hairline=0.7, thickness=0.034, top=0.014, length=0.07, flare=0.1, curl=0.006),
        HairStyle("afro", hairline=0.66, thickness=0.05, top=0.012, curl=0.004),
        HairStyle("bun", hairline=0.74, thickness=0.007, top=0.003, bun=0.034),
    )
}


def styles_folder() -> Path:
    """Where users' styles lie: `hair` in the assets folder."""
    return assets_folder() / "hair"


def list_styles() -> dict[str, HairStyle]:
    """All styles by name: the built-in ones, and the user's, which may replace them.

    Raises:
        HeadlabError: a user's file is no style.
    """
    folder = styles_folder()
    own = {file.stem: read_style(file) for file in sorted(folder.glob("*.json"))} if folder.is_dir() else {}
    return BUILT_IN | own


def find_style(name: str) -> HairStyle:
    """A style by name, or by the path of its JSON file.

    Raises:
        HeadlabError: there is none of that name, or the file is no style.
    """
    if name.lower().endswith(".json"):
        return read_style(Path(name))
    styles = list_styles()
    if name not in styles:
        raise HeadlabError(
            f"no hair style is called {name}; there are none, {', '.join(styles)}, and JSON files in {styles_folder()}"
        )
    return styles[name]


def read_style(path: Path) -> HairStyle:
    """A style from its file.

    Raises:
        HeadlabError: missing, no JSON, unknown names, or numbers out of range.
    """
    known = {field.name for field in fields(HairStyle)} - {"name"}
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise HeadlabError(f"{path} is too large for a hair style; it has at most {len(known)} numbers")
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HeadlabError(f"{path} is no hair style ({error}); write JSON such as {example()}") from error
    if not isinstance(data, dict) or not set(data) <= known:
        odd = ", ".join(sorted(set(data) - known)) if isinstance(data, dict) else "something else"
        raise HeadlabError(f"{path} is no hair style: it holds {odd}; known are {', '.join(sorted(known))}")
    numbers: dict[str, float] = {}
    for name, (low, high) in _RANGES.items():
        if name not in data:
            continue
        value = data[name]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise HeadlabError(f"{path}: {name} must be a number from {low:g} to {high:g}, not {value}")
        numbers[name] = float(value)
    colour = data.get("colour")
    if colour is not None:
        good = isinstance(colour, list) and len(colour) == 3
        good = good and all(isinstance(c, (int, float)) and math.isfinite(c) and 0 <= c <= 1 for c in colour)
        if not good:
            raise HeadlabError(f"{path}: colour must be three numbers 0..1, red, green, blue, not {colour}")
        colour = (float(colour[0]), float(colour[1]), float(colour[2]))
    return HairStyle(path.stem, colour=colour, **numbers)


def example() -> str:
    """A style as JSON."""
    return json.dumps({k: v for k, v in asdict(BUILT_IN["short"]).items() if k not in ("name", "colour")})
