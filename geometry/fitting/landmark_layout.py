"""LandmarkLayout: what the points of a landmark set mean to the solver."""

from dataclasses import dataclass

import numpy as np

from ..errors import HeadlabError
from ..landmarks.ibug68 import IBUG68, OUTER_EYE_CORNERS
from ..landmarks.mesh478 import FACE_OVAL
from ..models.head_model import HeadModel


@dataclass(frozen=True)
class LandmarkLayout:
    """A landmark set: indices below count within the set."""

    name: str  #: key of `HeadModel.landmarks`
    detector: tuple[int, ...]  #: its points among MediaPipe's 478
    contour: tuple[int, ...]  #: points on the outline of the face, in order along it
    closed: bool  #: the outline is a loop
    medial: tuple[int, int]  #: points on the mid line between which contour lines run level: nose root, lower lip
    outer_eyes: tuple[int, int]  #: outer corners
    ibug68: tuple[int, ...]  #: the 68 points that errors are measured on

    def of(self, landmarks: np.ndarray) -> np.ndarray:
        """This set's points out of (…, 478, 2)."""
        return landmarks[..., list(self.detector), :]


MEDIAPIPE = LandmarkLayout("478", tuple(range(478)), FACE_OVAL, True, (168, 17), OUTER_EYE_CORNERS, IBUG68)
IBUG = LandmarkLayout("68", IBUG68, tuple(range(17)), False, (27, 57), (36, 45), tuple(range(68)))


def layout_for(model: HeadModel) -> LandmarkLayout:
    """The largest landmark set the model has.

    Raises:
        HeadlabError: it has neither the 478 nor the 68.
    """
    for layout in (MEDIAPIPE, IBUG):
        if layout.name in model.landmarks:
            return layout
    raise HeadlabError(
        f"{model.name} has no 478- or 68-point landmark embedding (only {sorted(model.landmarks)}), so it cannot be "
        "fitted to photos; load it together with its landmark file, or fit the default head and convert"
    )
