"""Facial landmarks: MediaPipe's 478 points in photos, and the subsets other models use.

`open_detector` loads a detector, its `detect` returns `FaceLandmarks`; `ibug68` and `mesh478` name the points.
"""

from .face_landmarks import FaceLandmarks as FaceLandmarks
from .face_landmarks import LandmarkDetector as LandmarkDetector
from .ibug68 import IBUG68 as IBUG68
from .open_detector import open_detector as open_detector
