"""What upstream's README says of ICT-FaceKit's mesh: which vertices and polygons belong to what."""

import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray

VERTICES, POLYGONS = 26719, 26384

#: Name -> first vertex, first polygon. They lie one after the other.
_PIECES = (
    ("face", 0, 0),
    ("head_neck", 9409, 9230),
    ("mouth_socket", 11248, 11144),
    ("eye_socket_left", 13294, 13226),
    ("eye_socket_right", 13678, 13630),
    ("gums_tongue", 14062, 14034),
    ("teeth", 17039, 17006),
    ("eyeball_left", 21451, 21496),
    ("eyeball_right", 23021, 23094),
    ("lacrimal_left", 24591, 24692),
    ("lacrimal_right", 24795, 24855),
    ("eye_blend_left", 24999, 25018),
    ("eye_blend_right", 25023, 25033),
    ("eye_occlusion_left", 25047, 25048),
    ("eye_occlusion_right", 25199, 25176),
    ("eyelashes_left", 25351, 25304),
    ("eyelashes_right", 26035, 25844),
)

#: Parts of pieces, by vertices.
_WITHIN = {
    "narrow_face": (0, 6706),
    "sclera_left": (21451, 22221),
    "sclera_right": (23021, 23791),
    "upper_teeth": (17039, 19247),
    "lower_teeth": (19247, 21451),
}
_LOWER_TEETH_POLYGON = 19250

#: Parts of the head model: what is drawn with a material of its own.
PARTS = (
    "skin",
    "mouth",
    "gums and tongue",
    "upper_teeth",
    "lower_teeth",
    "left_eye",
    "right_eye",
    "lashes",
)

_PART_OF_PIECE = {
    "face": "skin",
    "head_neck": "skin",
    "mouth_socket": "mouth",
    "eye_socket_left": "skin",
    "eye_socket_right": "skin",
    "gums_tongue": "gums and tongue",
    "teeth": "upper_teeth",
    "eyeball_left": "left_eye",
    "eyeball_right": "right_eye",
    "eyelashes_left": "lashes",
    "eyelashes_right": "lashes",
}


def vertex_regions() -> dict[str, Bool[ndarray, "verts"]]:
    """Masks over vertices: every piece, and "narrow_face", "sclera_left", "lower_teeth" and the like."""
    ends = [first for _, first, _ in _PIECES[1:]] + [VERTICES]
    ranges = {name: (first, end) for (name, first, _), end in zip(_PIECES, ends, strict=True)} | _WITHIN
    index = np.arange(VERTICES)
    return {name: (index >= first) & (index < end) for name, (first, end) in ranges.items()}


def piece_of_polygon() -> Int[ndarray, "polygons"]:
    """Which of `piece_names` each polygon belongs to."""
    starts = [first for _, _, first in _PIECES]
    return np.searchsorted(starts, np.arange(POLYGONS), side="right") - 1


def piece_names() -> tuple[str, ...]:
    return tuple(name for name, _, _ in _PIECES)


def part_of_polygon() -> Int[ndarray, "polygons"]:
    """Which of `PARTS` each polygon belongs to; -1 for the clear films over the eyes.

    Lacrimal fluid, blend and occlusion meshes need a shader that sees through them; drawn plainly they hide the eyes.
    """
    of_piece = np.array([PARTS.index(_PART_OF_PIECE[name]) if name in _PART_OF_PIECE else -1 for name in piece_names()])
    parts = of_piece[piece_of_polygon()]
    lower = (parts == PARTS.index("upper_teeth")) & (np.arange(POLYGONS) >= _LOWER_TEETH_POLYGON)
    parts[lower] = PARTS.index("lower_teeth")
    return parts
