"""SolutionsDetector: landmarks from the networks in MediaPipe's wheel, with nothing downloaded.

    finders on the whole picture ──> mesh on an upright crop of the full-size picture ──> mesh on four views of it
    (turned a little either way, each also mirrored), averaged ──> is it a face?

Averaging the views brings the 68 points about a tenth closer to those of the newer Tasks network than one look
does. How far the views disagree, and whether the finders see the same eyes, nose and mouth in the upright crop,
tell faces from dogs and curtains far better than any single score.
"""

from types import TracebackType

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .crops import Picture, Square, cut, shrink, to_bytes, to_image, upright
from .face_landmarks import FaceLandmarks
from .mesh478 import mirrored
from .search import distinct, rounds
from .solutions_networks import MESH_PIXELS, Find, SolutionsNetworks

#: Longest side of the picture in the first glance, and side of a searched window, pixels.
_GLANCE, _WINDOW = 1024, 384
#: Crop side over face size, for the mesh and for the second look of the finders; the latter's pixels.
_MESH_GROW, _CHECK_GROW, _CHECK_PIXELS = 1.45, 2.3, 256
#: The views are turned by this much either way, radians.
_TURN = 0.08
#: Smallest face worth meshing, pixels.
_SMALLEST_FACE = 12.0
#: Mean distance of the views from their mean, over face size: faces 0.003-0.007, dogs from 0.0105 on. Up to this
#: there is no doubt; beyond (near profile, half hidden, blurred) the mesh is asked more.
_CLEAR_SPREAD = 0.0085
#: In doubt, the mesh looks from nearer, further and beside: (growth, shift right, shift down), shifts over crop side.
#: Mean distance of these added to the spread: faces up to 0.031, dogs from 0.029 on if one finder sees them, from
#: 0.033 on if both do.
_DOUBTFUL = (
    *((0.86, 0.0, 0.0), (1.17, 0.0, 0.0)),
    *((1.0, 0.06, 0.0), (1.0, -0.06, 0.0), (1.0, 0.0, 0.06), (1.0, 0.0, -0.06)),
)
_LIMIT_ONE, _LIMIT_BOTH, _SURE = 0.028, 0.0315, 0.6
#: Distance of the finders' keypoints from the mesh's, over face size: real 0.02-0.09, false mostly over 0.13.
_LARGEST_DISAGREEMENT = 0.12
#: Mesh points whose mean stands for each keypoint: right eye, left eye, nose tip, mouth.
_KEYPOINTS = ((33, 133, 159, 145), (263, 362, 386, 374), (1, 4), (13, 14))

Mesh = Float[np.ndarray, "478 3"]


class SolutionsDetector:
    """478 landmarks per face from MediaPipe's bundled networks. Loads them once; not thread-safe."""

    name = "solutions"

    def __init__(self) -> None:
        self._networks = SolutionsNetworks()

    def detect(self, image: Float[Tensor, "3 height width"]) -> list[FaceLandmarks]:
        """All faces of an RGB image in 0..1, the largest first; empty where there is none.

        Raises:
            ValueError: the image is empty or not in 0..1, or the detector is closed.
        """
        if self._networks.closed:
            raise ValueError("this detector is closed; open another")
        picture = to_bytes(image)
        height, width = picture.shape[:2]
        glance = shrink(picture, _GLANCE)
        faces = self._examine(picture, [find.scaled(width / glance.shape[1]) for find in self._networks.find(glance)])
        for windows in rounds(height, width):
            if faces:
                break
            for window in windows:
                finds = self._networks.find(cut(picture, window, _WINDOW))
                faces += self._examine(picture, [find.through(window, _WINDOW) for find in finds])
        return distinct(faces)

    def follow(self, picture: Picture, last: FaceLandmarks) -> FaceLandmarks | None:
        """A face of the frame before, in the next frame of a video: two views where it was, in a quarter of the time.

        Args:
            picture: the next frame, 8-bit RGB.
            last: the face where it is expected.

        Returns:
            The face; None where the mesh does not see one, or the views disagree.
        """
        square = upright(torch.cat([last.points, last.depth[:, None]], 1).double().numpy(), _MESH_GROW)
        if square.side / _MESH_GROW < _SMALLEST_FACE:
            return None
        found = self._views(picture, square, ((-_TURN, False), (_TURN, True)))
        if found is None:
            return None
        views, presence = found
        mean = np.mean(views, 0)
        spread = np.linalg.norm((np.stack(views) - mean)[..., :2], axis=-1).mean() * _MESH_GROW / square.side
        if spread > _LIMIT_ONE:
            return None
        tensor = torch.from_numpy(mean).float()
        return FaceLandmarks(tensor[:, :2].contiguous(), tensor[:, 2].contiguous(), presence)

    def glance(self, picture: Picture) -> list[FaceLandmarks]:
        """Faces that the finders see in the whole picture, by one quick look each, unchecked; the largest first."""
        small = shrink(picture, _GLANCE // 2)
        faces: list[FaceLandmarks] = []
        for find in self._networks.find(small):
            find = find.scaled(picture.shape[1] / small.shape[1])
            if any(face.contains(find.square.x, find.square.y) for face in faces):
                continue
            found = self._views(picture, find.square, ((0.0, False),))
            if found is not None:
                tensor = torch.from_numpy(found[0][0]).float()
                faces.append(FaceLandmarks(tensor[:, :2].contiguous(), tensor[:, 2].contiguous(), find.score))
        return distinct(faces)

    def _views(
        self, picture: Picture, square: Square, turns: tuple[tuple[float, bool], ...]
    ) -> tuple[list[Mesh], float] | None:
        """The mesh by some views of a square (turn, mirrored or not), and the least of their scores."""
        views: list[Mesh] = []
        presence = 1.0
        for turn, flip in turns:
            view = square.turned(turn)
            crop = cut(picture, view, MESH_PIXELS)
            points, score = self._networks.mesh(crop[:, ::-1] if flip else crop)
            if points is None:
                return None
            views.append(to_image(mirrored(points, MESH_PIXELS) if flip else points, view, MESH_PIXELS))
            presence = min(presence, score)
        return views, presence

    def _examine(self, picture: Picture, finds: list[Find]) -> list[FaceLandmarks]:
        """The finds that are faces. The best find of each place goes first; the others only if it fails."""
        faces: list[FaceLandmarks] = []
        for find in sorted(finds, key=lambda f: -f.score):
            if any(face.contains(find.square.x, find.square.y) for face in faces):
                continue
            face = self._face(picture, find)
            if face is not None:
                faces.append(face)
        return faces

    def _face(self, picture: Picture, find: Find) -> FaceLandmarks | None:
        points, _ = self._networks.mesh(cut(picture, find.square, MESH_PIXELS))
        if points is None:
            return None
        square = upright(to_image(points, find.square, MESH_PIXELS), _MESH_GROW)
        size = square.side / _MESH_GROW
        if size < _SMALLEST_FACE:
            return None
        views: list[Mesh] = []
        presence = 1.0
        for view in (square.turned(-_TURN), square.turned(_TURN)):
            crop = cut(picture, view, MESH_PIXELS)
            for flip in (False, True):
                points, score = self._networks.mesh(crop[:, ::-1] if flip else crop)
                if points is None:
                    return None
                views.append(to_image(mirrored(points, MESH_PIXELS) if flip else points, view, MESH_PIXELS))
                presence = min(presence, score)
        mean = np.mean(views, 0)
        spread = np.linalg.norm((np.stack(views) - mean)[..., :2], axis=-1).mean() / size
        seen = self._seen_again(picture, mean, size)
        if not seen:
            return None
        if spread > _CLEAR_SPREAD:
            both = len(seen) > 1 and min(seen) >= _SURE
            if spread + self._wander(picture, mean, square) > (_LIMIT_BOTH if both else _LIMIT_ONE):
                return None
        confidence = presence * sum(seen) / 2
        tensor = torch.from_numpy(mean).float()
        return FaceLandmarks(tensor[:, :2].contiguous(), tensor[:, 2].contiguous(), confidence)

    def _seen_again(self, picture: Picture, mesh: Mesh, size: float) -> list[float]:
        """Scores of the finders that see the mesh's eyes, nose and mouth in the upright face."""
        window = upright(mesh, _CHECK_GROW)
        expected = np.stack([mesh[list(group), :2].mean(0) for group in _KEYPOINTS])
        scores: dict[str, float] = {}
        for find in self._networks.find(cut(picture, window, _CHECK_PIXELS)):
            keypoints = find.through(window, _CHECK_PIXELS).keypoints
            if np.linalg.norm(keypoints - expected, axis=1).mean() / size <= _LARGEST_DISAGREEMENT:
                scores[find.finder] = max(find.score, scores.get(find.finder, 0.0))
        return list(scores.values())

    def _wander(self, picture: Picture, mean: Mesh, square: Square) -> float:
        """How far points move, over face size, when the mesh looks from nearer, further and beside."""
        distances = []
        for grow, right, down in _DOUBTFUL:
            view = square.grown(grow).shifted(right * square.side, down * square.side)
            points, _ = self._networks.mesh(cut(picture, view, MESH_PIXELS))
            if points is None:
                return float("inf")
            away = (to_image(points, view, MESH_PIXELS) - mean)[:, :2]
            distances.append(np.linalg.norm(away, axis=1).mean())
        return float(np.mean(distances)) * _MESH_GROW / square.side

    def close(self) -> None:
        """Free the networks. Safe to call twice."""
        self._networks.close()

    def __enter__(self) -> "SolutionsDetector":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
