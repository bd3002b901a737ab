"""One texture for ICT-FaceKit, whose coordinates fill eight unit squares (UDIM) and some of them twice.

The face keeps three quarters of the side; the rest goes round it in cells of a quarter:

    +------------------+------+
    |                  | gums |
    |                  +------+
    |       face       |teeth |
    |                  +------+
    |                  | film |
    +------+------+----+-+----+
    | head |L eye | R eye|lash|      (v = 0 at the bottom)
    +------+------+------+----+
"""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from .ict_topology import piece_names, piece_of_polygon

#: Piece -> (left, bottom, side) of its unit square in the atlas.
_Q, _T = 0.25, 0.25 / 3
_CELLS = {
    "face": (0.0, _Q, 3 * _Q),
    "head_neck": (0.0, 0.0, _Q),
    "mouth_socket": (0.0, 0.0, _Q),
    "eye_socket_left": (0.0, 0.0, _Q),
    "eye_socket_right": (0.0, 0.0, _Q),
    "eyeball_left": (_Q, 0.0, _Q),
    "eyeball_right": (2 * _Q, 0.0, _Q),
    "eyelashes_left": (3 * _Q, 0.0, _Q),
    "eyelashes_right": (3 * _Q, 0.0, _Q),
    "lacrimal_left": (3 * _Q, _Q, _T),
    "lacrimal_right": (3 * _Q + _T, _Q, _T),
    "eye_blend_left": (3 * _Q, _Q + _T, _T),
    "eye_blend_right": (3 * _Q + _T, _Q + _T, _T),
    "eye_occlusion_left": (3 * _Q, _Q + 2 * _T, _T),
    "eye_occlusion_right": (3 * _Q + _T, _Q + 2 * _T, _T),
    "teeth": (3 * _Q, 2 * _Q, _Q),
    "gums_tongue": (3 * _Q, 3 * _Q, _Q),
}


def pack_uvs(
    uvs: Float[ndarray, "texcoords 2"], uv_polygons: Int[ndarray, "polygons 4"]
) -> tuple[Float[ndarray, "packed 2"], Int[ndarray, "polygons 4"]]:
    """Move every piece's unit square to its cell. Coordinates that pieces share are doubled.

    The polygons of the sclera and the iris of one eye lie over one another upstream too; they stay so.
    """
    piece = piece_of_polygon()
    present = uv_polygons >= 0
    keys = np.where(present, uv_polygons * len(_CELLS) + piece[:, None], -1)
    unique, inverse = np.unique(keys[present], return_inverse=True)
    cells = np.array([_CELLS[name] for name in piece_names()])[unique % len(_CELLS)]
    old = uvs[unique // len(_CELLS)]
    packed = old - np.floor(old)
    polygons = np.full_like(uv_polygons, -1)
    polygons[present] = inverse.ravel()
    return cells[:, :2] + packed * cells[:, 2:], polygons
