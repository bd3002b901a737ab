"""EMOCA v2's losses on MediaPipe landmarks: 105 model points against 105 of MediaPipe's 478.

Pairs name points of the 478; `among_105` gives their places in the model's list.
"""

from jaxtyping import Float
from torch import Tensor

from .pair_distance import Pairs, pair_distances

#: MediaPipe index of each of the 105 points of mediapipe_landmark_embedding.npz: brows, eyes, nose, lips.
MEDIAPIPE_105: tuple[int, ...] = (
    *(276, 282, 283, 285, 293, 295, 296, 300, 334, 336, 46, 52, 53, 55, 63, 65, 66, 70, 105, 107),
    *(249, 263, 362, 373, 374, 380, 381, 382, 384, 385, 386, 387, 388, 390, 398, 466),
    *(7, 33, 133, 144, 145, 153, 154, 155, 157, 158, 159, 160, 161, 163, 173, 246),
    *(168, 6, 197, 195, 5, 4, 129, 98, 97, 2, 326, 327, 358),
    *(0, 13, 14, 17, 37, 39, 40, 61, 78, 80, 81, 82, 84, 87, 88, 91, 95, 146, 178, 181, 185, 191),
    *(267, 269, 270, 291, 308, 310, 311, 312, 314, 317, 318, 321, 324, 375, 402, 405, 409, 415),
)

_RIGHT_UPPER, _RIGHT_LOWER = (246, 161, 160, 159, 158, 157, 173), (7, 163, 144, 145, 153, 154, 155)
_LEFT_UPPER, _LEFT_LOWER = (398, 384, 385, 386, 387, 388, 466), (382, 381, 380, 374, 373, 390, 249)

#: Points of the upper and lower lids that lie above each other.
EYELIDS: Pairs = (
    *zip(_RIGHT_UPPER, _RIGHT_LOWER, strict=True),
    *zip(_LEFT_UPPER, _LEFT_LOWER, strict=True),
)

#: What upstream compares: it sorts the upper and the lower points, each by number, before it pairs them, so that
#: most pairs do not belong together, though no pair spans both eyes. Its published weights were trained with these.
UPSTREAM_EYELIDS: Pairs = tuple(
    zip(sorted(_RIGHT_UPPER + _LEFT_UPPER), sorted(_RIGHT_LOWER + _LEFT_LOWER), strict=True)
)

#: Upper and lower lip, outer line then inner line, from the right to the left.
LIPS: Pairs = (
    *((185, 146), (40, 91), (39, 181), (37, 84), (0, 17), (267, 314), (269, 405), (270, 321), (409, 375)),
    *((191, 95), (80, 88), (81, 178), (82, 87), (13, 14), (312, 317), (311, 402), (310, 318), (415, 324)),
)

#: Right and left corner of the mouth, inner and outer.
MOUTH_CORNERS: Pairs = ((78, 308), (61, 291))

_PLACE = {index: place for place, index in enumerate(MEDIAPIPE_105)}


def among_105(pairs: Pairs) -> Pairs:
    """The same pairs by their places in the list of 105."""
    return tuple((_PLACE[first], _PLACE[second]) for first, second in pairs)


def mediapipe_landmark_loss(
    predicted: Float[Tensor, "*batch 105 2"], target: Float[Tensor, "*batch 478 coords"]
) -> Float[Tensor, ""]:
    """Mean absolute difference of coordinates.

    Args:
        predicted: projected model landmarks.
        target: MediaPipe's points in the same unit; their depth is not used.
    """
    return (predicted - target[..., list(MEDIAPIPE_105), :2]).abs().mean()


def mediapipe_distance_loss(
    predicted: Float[Tensor, "*batch 105 2"], target: Float[Tensor, "*batch 478 coords"], pairs: Pairs
) -> Float[Tensor, ""]:
    """As `pair_distance_loss`.

    Args:
        predicted: projected model landmarks.
        target: MediaPipe's points.
        pairs: EYELIDS, UPSTREAM_EYELIDS, LIPS or MOUTH_CORNERS of this module.
    """
    ours, theirs = pair_distances(predicted, among_105(pairs)), pair_distances(target[..., :2], pairs)
    return (ours - theirs).abs().mean()
