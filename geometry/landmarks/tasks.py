"""TasksDetector: landmarks and 52 blend-shape scores from MediaPipe's newer `face_landmarker.task`.

MediaPipe shows the whole chain as one call, so everything here is done by calling it on the right pictures: the
whole one, then each face cut out upright: plain, mirrored, from further away, and turned. A face is one that all of
these find in the same place. Large faces keep the points of the first call; small ones take the mean of the plain
and the mirrored one, enlarged, which halves the error of faces under 40 pixels.
"""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import HeadlabError, MissingAssetError
from .crops import Picture, Square, cut, shrink, to_bytes, to_image, upright
from .face_landmarks import FaceLandmarks
from .mesh478 import mirrored
from .quiet import quiet
from .search import distinct, rounds

MISSING_TASK_FILE = (
    "face_landmarker.task is not here: MediaPipe's landmark networks (Apache-2.0), "
    "https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker; "
    "add it with `headlab assets add face_landmarker.task`"
)

#: Longest side of the picture in the first glance; side of searched windows and of cut-out faces, pixels.
_GLANCE, _WINDOW = 1024, 384
#: The closer looks at a face: cut-out side over face size, extra turn in radians, mirrored or not.
_PLAIN, _MIRRORED = (2.3, 0.0, False), (1.9, 0.0, True)
_FURTHER = ((3.2, 0.0, False), (2.1, 0.3, True))
#: Faces at least so large in the first glance keep its points; more is asked if the full picture shows more.
_LARGE, _LARGE_WHEN_SHRUNK = 100.0, 170.0
#: Likewise only if closer looks move its points by no more than this, over face size.
_LARGEST_MOVE = 0.012
#: A face smaller than this part of the picture may have company that the glance missed.
_COMPANY = 0.25
#: Smallest face worth a second look, pixels.
_SMALLEST_FACE = 12.0
#: Mean distance of the other looks' points from the plain one's, over face size: faces 0.004-0.013, near profile
#: up to 0.021, dogs from 0.026 on if they are seen four times at all.
_LARGEST_DISAGREEMENT = 0.0233

Mesh = Float[np.ndarray, "478 3"]


@dataclass(frozen=True)
class _Find:
    mesh: Mesh  #: pixels
    scores: Float[np.ndarray, "52"]
    score_names: tuple[str, ...]


class TasksDetector:
    """478 landmarks and 52 blend-shape scores per face from a `face_landmarker.task`. Not thread-safe."""

    name = "tasks"

    def __init__(self, task_file: Path, max_faces: int = 10) -> None:
        """Load and warm up.

        Args:
            task_file: MediaPipe's `face_landmarker.task`.
            max_faces: most faces found in one glance.

        Raises:
            MissingAssetError: the file is not there.
            HeadlabError: the file is something else, or damaged.
        """
        if not task_file.is_file():
            raise MissingAssetError(f"{task_file} is missing; {MISSING_TASK_FILE}")
        with quiet():
            import mediapipe as mp
            from mediapipe.tasks import python as tasks
            from mediapipe.tasks.python import vision

            options = vision.FaceLandmarkerOptions(
                base_options=tasks.BaseOptions(model_asset_buffer=task_file.read_bytes()),
                num_faces=max_faces,
                output_face_blendshapes=True,
            )
            try:
                self._landmarker: Any = vision.FaceLandmarker.create_from_options(options)
            except (ValueError, RuntimeError, OSError) as error:
                raise HeadlabError(
                    f"{task_file} is not a MediaPipe face landmarker, or is damaged: "
                    f"{' '.join(str(error).split())[:120]}; get it anew with `headlab assets add face_landmarker.task`"
                ) from error
            self._to_image = lambda picture: mp.Image(image_format=mp.ImageFormat.SRGB, data=picture)
            self._run(np.zeros((64, 64, 3), np.uint8))

    def detect(self, image: Float[Tensor, "3 height width"]) -> list[FaceLandmarks]:
        """All faces of an RGB image in 0..1, the largest first; empty where there is none.

        Raises:
            ValueError: the image is empty or not in 0..1, or the detector is closed.
        """
        if self._landmarker is None:
            raise ValueError("this detector is closed; open another")
        picture = to_bytes(image)
        height, width = picture.shape[:2]
        glance = shrink(picture, _GLANCE)
        scale = width / glance.shape[1]
        large = scale * (_LARGE_WHEN_SHRUNK if scale > 1 else _LARGE)
        faces: list[FaceLandmarks] = []
        for find in self._run(glance):
            faces += self._checked(picture, _Find(find.mesh * scale, find.scores, find.score_names), large)
        rest = list(rounds(height, width))
        if faces:  # look once more, in the coarsest tiles, if others may have been too small for the glance
            alone = max(face.size for face in faces) > _COMPANY * max(height, width)
            rest = [] if alone else rest[1:2]
        for windows in rest:
            self._search(picture, windows, faces)
            if faces:
                break
        return distinct(faces)

    def follow(self, picture: Picture, last: FaceLandmarks) -> FaceLandmarks | None:
        """A face of the frame before, in the next frame of a video, by one look where it was; None where it is not.

        Args:
            picture: the next frame, 8-bit RGB.
            last: the face where it is expected.
        """
        mesh = torch.cat([last.points, last.depth[:, None]], 1).double().numpy()
        if upright(mesh, 1.0).side < _SMALLEST_FACE:
            return None
        found = self._look(picture, mesh, _PLAIN)
        return None if found is None else _landmarks(found, last.confidence)

    def glance(self, picture: Picture) -> list[FaceLandmarks]:
        """Faces that one look at the whole picture shows, unchecked; the largest first."""
        small = shrink(picture, _GLANCE // 2)
        scale = picture.shape[1] / small.shape[1]
        finds = [_Find(f.mesh * scale, f.scores, f.score_names) for f in self._run(small)]
        return distinct([_landmarks(find, 1.0) for find in finds])

    def _search(self, picture: Picture, windows: list[Square], faces: list[FaceLandmarks]) -> None:
        """Add the faces in some windows to those known already."""
        for window in windows:
            for find in self._run(cut(picture, window, _WINDOW)):
                mesh = to_image(find.mesh, window, _WINDOW)
                x, y = mesh[:, :2].mean(0).tolist()
                if not any(face.contains(x, y) for face in faces):
                    faces += self._checked(picture, _Find(mesh, find.scores, find.score_names), float("inf"))

    def _run(self, picture: Picture) -> list[_Find]:
        height, width = picture.shape[:2]
        result = self._landmarker.detect(self._to_image(np.ascontiguousarray(picture)))
        finds = []
        for points, shapes in zip(result.face_landmarks, result.face_blendshapes, strict=True):
            mesh = np.array([(p.x, p.y, p.z) for p in points]) * [width, height, width]
            names = tuple(str(s.category_name) for s in shapes)
            finds.append(_Find(mesh, np.array([s.score for s in shapes]), names))
        return finds

    def _checked(self, picture: Picture, find: _Find, large: float) -> list[FaceLandmarks]:
        """The find as a face, or nothing where closer looks do not agree on one."""
        size = upright(find.mesh, 1.0).side
        if size < _SMALLEST_FACE:
            return []
        plain = self._look(picture, find.mesh, _PLAIN)
        if plain is None:
            return []
        looks = [self._look(picture, plain.mesh, look) for look in (_MIRRORED, *_FURTHER)]
        found = [look for look in looks if look is not None]
        if len(found) < len(looks):
            return []
        apart = np.mean([np.linalg.norm((plain.mesh - look.mesh)[:, :2], axis=1).mean() for look in found]) / size
        if apart > _LARGEST_DISAGREEMENT:
            return []
        flipped = found[0]
        mean = _Find((plain.mesh + flipped.mesh) / 2, plain.scores, plain.score_names)
        moved = np.linalg.norm((find.mesh - mean.mesh)[:, :2], axis=1).mean() / size
        best = find if size >= large and moved <= _LARGEST_MOVE else mean
        return [_landmarks(best, 1 - 0.5 * float(apart) / _LARGEST_DISAGREEMENT)]

    def _look(self, picture: Picture, mesh: Mesh, look: tuple[float, float, bool]) -> _Find | None:
        """The face cut out upright and found again: the find nearest to where it was."""
        grow, turn, flip = look
        window = upright(mesh, grow).turned(turn)
        crop = cut(picture, window, _WINDOW)
        best, nearest = None, window.side / grow / 2
        for find in self._run(crop[:, ::-1] if flip else crop):
            points = mirrored(find.mesh, _WINDOW) if flip else find.mesh
            again = to_image(points, window, _WINDOW)
            distance = float(np.linalg.norm((again - mesh)[:, :2], axis=1).mean())
            if distance < nearest:
                best, nearest = _Find(again, find.scores, find.score_names), distance
        return best

    def close(self) -> None:
        """Free the networks. Safe to call twice."""
        if self._landmarker is not None:
            self._landmarker.close()
            self._landmarker = None

    def __enter__(self) -> "TasksDetector":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _landmarks(find: _Find, confidence: float) -> FaceLandmarks:
    mesh, scores = torch.from_numpy(find.mesh).float(), torch.from_numpy(find.scores).float()
    return FaceLandmarks(mesh[:, :2].contiguous(), mesh[:, 2].contiguous(), confidence, scores, find.score_names)
