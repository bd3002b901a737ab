"""The networks bundled in MediaPipe's wheel: two face finders and the 478-point mesh.

`mp.solutions.face_mesh` ties a finder to the mesh and hides the mesh's score. Here the mesh runs by itself on
crops of our choosing, as the graph node "FaceLandmarkCpu", and its score comes out.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from .crops import Picture, Square, to_image
from .quiet import quiet

#: Side of the mesh network's input, pixels.
MESH_PIXELS = 192

_MESH_GRAPH = """
input_stream: "image"
input_stream: "square"
input_side_packet: "attention"
output_stream: "landmarks"
node {
  calculator: "FaceLandmarkCpu"
  input_stream: "IMAGE:image"
  input_stream: "ROI:square"
  input_side_packet: "WITH_ATTENTION:attention"
  output_stream: "LANDMARKS:landmarks"
}
"""
_PRESENCE = "facelandmarkcpu__face_presence_score"


@dataclass(frozen=True)
class Find:
    """A place where a finder sees a face."""

    square: Square  #: upright by the eyes, 1.5 times the found box: what the mesh wants to look at
    keypoints: Float[np.ndarray, "4 2"]  #: right eye, left eye, nose tip, mouth; pixels
    score: float  #: 0..1
    finder: str  #: which network saw it: "full range" or "short range"

    def scaled(self, factor: float) -> "Find":
        """The same place in a picture `factor` times as large."""
        square = Square(self.square.x * factor, self.square.y * factor, self.square.side * factor, self.square.roll)
        return replace(self, square=square, keypoints=self.keypoints * factor)

    def through(self, window: Square, pixels: int) -> "Find":
        """From pixels of the crop `cut(picture, window, pixels)` to pixels of the picture."""
        ((x, y),) = to_image(np.array([[self.square.x, self.square.y]]), window, pixels).tolist()
        square = Square(x, y, self.square.side * window.side / pixels, self.square.roll + window.roll)
        return replace(self, square=square, keypoints=to_image(self.keypoints, window, pixels))


class SolutionsNetworks:
    """Face finders and mesh, loaded once. Not thread-safe."""

    def __init__(self, min_score: float = 0.5) -> None:
        """Load and warm up.

        Args:
            min_score: the finders drop what they believe in less.
        """
        with quiet():
            from mediapipe.framework.formats import rect_pb2
            from mediapipe.python.solution_base import SolutionBase
            from mediapipe.python.solutions.face_detection import FaceDetection

            self._finders: dict[str, Any] = {
                "full range": FaceDetection(min_score, 1),
                "short range": FaceDetection(min_score, 0),
            }
            self._mesh: Any = SolutionBase(
                graph_config=_MESH_GRAPH, side_inputs={"attention": True}, outputs=["landmarks", _PRESENCE]
            )
            rect: Any = rect_pb2  # its classes are made at run time
            self._whole = rect.NormalizedRect(x_center=0.5, y_center=0.5, width=1.0, height=1.0, rotation=0.0)
            blank = np.zeros((MESH_PIXELS, MESH_PIXELS, 3), np.uint8)
            self.find(blank)
            self.mesh(blank)

    def find(self, picture: Picture) -> list[Find]:
        """What the full-range and the short-range finder see; one face may come twice."""
        height, width = picture.shape[:2]
        found = []
        for name, finder in self._finders.items():
            for detection in finder.process(picture).detections or ():
                location = detection.location_data
                box = location.relative_bounding_box
                points = np.array([(p.x * width, p.y * height) for p in location.relative_keypoints[:4]])
                side = 1.5 * max(box.width * width, box.height * height)
                x, y = (box.xmin + box.width / 2) * width, (box.ymin + box.height / 2) * height
                right, left = points[:2]
                roll = float(np.arctan2(left[1] - right[1], left[0] - right[0]))
                if side > 0:
                    found.append(Find(Square(x, y, side, roll), points, float(detection.score[0]), name))
        return found

    def mesh(self, crop: Picture) -> tuple[Float[np.ndarray, "478 3"] | None, float]:
        """Points in pixels of a square crop, z in the same scale, and the score; no points below a score of 0.5."""
        out = self._mesh.process({"image": np.ascontiguousarray(crop), "square": self._whole})
        score = float(getattr(out, _PRESENCE) or 0.0)
        if out.landmarks is None:
            return None, score
        points = np.array([(p.x, p.y, p.z) for p in out.landmarks.landmark])
        return points * crop.shape[0], score

    @property
    def closed(self) -> bool:
        return self._mesh is None

    def close(self) -> None:
        """Free the graphs. Safe to call twice."""
        while self._finders:
            self._finders.popitem()[1].close()
        if self._mesh is not None:
            self._mesh.close()
            self._mesh = None
