"""What a fit tells about itself: seconds per stage, landmark errors, faces found, versions."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..geometry.camera import Camera
from ..geometry.code import HeadCode
from ..geometry.frame import Frame
from ..geometry.landmarks import IBUG68, FaceLandmarks
from ..geometry.landmarks.ibug68 import OUTER_EYE_CORNERS
from ..geometry.models.flame_landmarks import flame_landmarks
from ..geometry.models.head_model import HeadModel

Progress = Callable[[str], None]


class Stages:
    """Names and times the stages of a piece of work: `with stages("texture"): ...`."""

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._progress(name)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 4)


def landmark_error(model: HeadModel, code: HeadCode, camera: Camera, points: Float[Tensor, "478 2"]) -> float:
    """Mean distance of the model's 68 landmarks from the detected ones, in units of the outer-eye distance."""
    if model.contour is not None:
        placed = flame_landmarks(model, code).landmarks2d
    else:
        placed = model.landmarks3d(model.vertices(code), "68")
    right, left = OUTER_EYE_CORNERS
    eyes = (points[right] - points[left]).norm()
    return float((camera.project(placed) - points[list(IBUG68)]).norm(dim=-1).mean() / eyes)


def source_names(frames: Sequence[Frame]) -> tuple[str, ...]:
    """File names of photos, or their numbers."""
    return tuple(frame.source.name if frame.source else f"photo {i}" for i, frame in enumerate(frames))


def fit_report(
    model: HeadModel,
    name: str,
    frames: Sequence[Frame],
    found: Sequence[tuple[FaceLandmarks, list[FaceLandmarks]]],
    face: int,
    codes: HeadCode,
    cameras: Sequence[Camera],
    seconds: dict[str, float],
) -> dict[str, Any]:
    """The part of report.json that every method has.

    Args:
        model: head model.
        name: its id.
        frames: the photos.
        found: per photo, the face that was fitted and all faces.
        face: number of the fitted face.
        codes: the result, leading axis over photos.
        cameras: one per photo.
        seconds: per stage.
    """
    errors = [landmark_error(model, codes[i], cameras[i], chosen.points) for i, (chosen, _) in enumerate(found)]
    photos = [
        {
            "source": str(frame.source),
            "size": list(frame.size),
            "landmark_nme": round(errors[i], 5),
            "focal_pixels": round(float(cameras[i].K[0, 0]), 1),
            "face": face,
            "faces": [
                {"box": [round(x, 1) for x in one.box], "confidence": round(one.confidence, 3)} for one in found[i][1]
            ],
        }
        for i, frame in enumerate(frames)
    ]
    return {
        "landmark_nme": round(sum(errors) / len(errors), 5),
        "model": name,
        "license": model.license.name,
        "commercial_use": model.license.commercial,
        "photos": photos,
        "seconds": seconds,
        "versions": {package: version(package) for package in ("headlab", "torch", "mediapipe", "numpy", "anny")},
    }
