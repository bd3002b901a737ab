"""Index sets of MediaPipe's face mesh: 468 surface points, then five per iris (centre and four on the rim).

Right and left are the subject's. The sets follow MediaPipe's published connection lists.
"""

import numpy as np
from jaxtyping import Float

#: Face outline, closed, from the middle of the forehead over the left cheek, chin and right cheek.
FACE_OVAL: tuple[int, ...] = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)

#: Closed rings of the eyes: lower lid from the outer to the inner corner, then the upper lid back.
RIGHT_EYE: tuple[int, ...] = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE: tuple[int, ...] = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)

#: Brows: lower edge from the outer end inwards, then the upper edge likewise.
RIGHT_BROW: tuple[int, ...] = (46, 53, 52, 65, 55, 70, 63, 105, 66, 107)
LEFT_BROW: tuple[int, ...] = (276, 283, 282, 295, 285, 300, 293, 334, 296, 336)

#: Closed rings of the lips, from the right corner: lower lip to the left corner, then the upper lip back.
OUTER_LIPS: tuple[int, ...] = (
    *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375),
    *(291, 409, 270, 269, 267, 0, 37, 39, 40, 185),
)
INNER_LIPS: tuple[int, ...] = (
    *(78, 95, 88, 178, 87, 14, 317, 402, 318, 324),
    *(308, 415, 310, 311, 312, 13, 82, 81, 80, 191),
)

#: Iris centre, then its rim.
RIGHT_IRIS: tuple[int, ...] = (468, 469, 470, 471, 472)
LEFT_IRIS: tuple[int, ...] = (473, 474, 475, 476, 477)
IRISES: tuple[int, ...] = RIGHT_IRIS + LEFT_IRIS

#: Points on the plane of symmetry.
MIDLINE: tuple[int, ...] = (
    *(0, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19),
    *(94, 151, 152, 164, 168, 175, 195, 197, 199, 200),
)


def _mirror() -> tuple[int, ...]:
    # The mesh numbers its right half and midline up to 247 and its left half from 248 on, in the same order.
    partner = list(range(478))
    right = [i for i in range(248) if i not in MIDLINE] + [468, 469, 470, 471, 472]
    left = [*range(248, 468), 473, 476, 475, 474, 477]
    for a, b in zip(right, left, strict=True):
        partner[a], partner[b] = b, a
    return tuple(partner)


#: The point that takes each point's place in a mirrored face.
MIRROR: tuple[int, ...] = _mirror()


def mirrored(mesh: Float[np.ndarray, "478 3"], width: float | int) -> Float[np.ndarray, "478 3"]:
    """Points of the picture's mirror image from those of a picture `width` pixels wide: x turned, sides swapped."""
    return (mesh * [-1, 1, 1] + [width, 0, 0])[list(MIRROR)]
