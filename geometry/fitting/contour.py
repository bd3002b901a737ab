"""Sliding contour: where the outline points of a face lie on a turned head.

Many detectors put outline points of the averted cheek on its visible silhouette, which is not where they lie on the
frontal face. Zhu, Lei, Yan, Yi & Li (CVPR 2015, "High-Fidelity Pose and Expression Normalization") let each of them
march along a level line of the mesh to the line's extreme point. Here: from each outline landmark a surface line runs
inwards (level between nose root and lower lip, radially above and below). The point marches along it for as long as
that brings it further *out* in the image, across the detected outline. While the landmark faces the camera every step
inwards is a step back, so it stays; once it is averted it stops exactly at the silhouette. Both cases meet where the
landmark itself is the silhouette, so points never jump. A hump beyond a dip (the nose behind the cheek) is not reached.

MediaPipe's face mesh keeps its hidden points in their place on the head instead: on real photos turned by 25 to 55
degrees, sliding them doubles the error of the 68 points. So by default a photo's outline slides only where that
explains it better than staying.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ..models.head_model import HeadModel, LandmarkEmbedding
from .landmark_layout import LandmarkLayout

#: Spacing of candidates, metres, and the part of the way to the mid line that lines run.
SPACING, REACH, MAX_LENGTH = 0.002, 0.8, 0.07


@dataclass(frozen=True, eq=False)
class ContourLines:
    """Candidates of each outline point: row 0 of each line is the landmark itself."""

    embedding: LandmarkEmbedding  #: all candidates, line after line
    rows: np.ndarray  #: (lines, steps) into the embedding; a short line repeats its last candidate

    @classmethod
    def build(cls, model: HeadModel, layout: LandmarkLayout) -> "ContourLines":
        """Trace the lines on the mean head."""
        walker = _Walker(model)
        embedding = model.landmarks[layout.name]
        landmarks = model.landmarks3d(model.template, layout.name).detach().cpu().numpy().astype(np.float64)
        top, bottom = (landmarks[i] for i in layout.medial)
        faces, weights, rows = [], [], []
        for index in layout.contour:
            start = landmarks[index]
            target = np.array([0.5 * (top[0] + bottom[0]), np.clip(start[1], bottom[1], top[1]), start[2]])
            line = walker.line(int(embedding.faces[index]), embedding.weights[index].numpy(), target - start)
            rows.append(np.arange(len(line)) + len(faces))
            faces.extend(face for face, _ in line)
            weights.extend(weight for _, weight in line)
        steps = max(len(row) for row in rows)
        table = np.stack([np.pad(row, (0, steps - len(row)), mode="edge") for row in rows])
        dtype = embedding.weights.dtype
        return cls(LandmarkEmbedding(torch.tensor(faces), torch.tensor(np.stack(weights), dtype=dtype)), table)

    def march(self, projected: np.ndarray, outward: np.ndarray, tolerance: float) -> np.ndarray:
        """Choose a candidate per line.

        Args:
            projected: all candidates in the image (candidates, 2), pixels.
            outward: unit vectors across the outline, out of the face (lines, 2).
            tolerance: a dip this deep ends the march, pixels.

        Returns:
            rows of the embedding (lines,).
        """
        extent = (projected[self.rows] * outward[:, None]).sum(-1)
        best = np.maximum.accumulate(extent, 1)
        ended = np.logical_or.accumulate(extent < best - tolerance, 1)
        step = np.where(ended, -np.inf, extent).argmax(1)
        return self.rows[np.arange(len(step)), step]


def outward_normals(outline: np.ndarray, closed: bool, centre: np.ndarray) -> np.ndarray:
    """Unit normals of a detected outline (points, 2), out of the face whose centre is given."""
    if closed:
        tangent = np.roll(outline, -1, 0) - np.roll(outline, 1, 0)
    else:
        tangent = np.gradient(outline, axis=0)
    normal = np.stack([tangent[:, 1], -tangent[:, 0]], -1)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    # the walk around a face has one sense, so one vote decides, even where the outline folds over itself
    return normal * np.sign(((outline - centre) * normal).sum() or 1.0)


class _Walker:
    """Walks straight lines over the skin of the mean head."""

    def __init__(self, model: HeadModel):
        self.vertices = model.template.detach().cpu().numpy().astype(np.float64)
        self.faces = model.faces.cpu().numpy()
        skin = np.ones(len(self.faces), bool)
        if model.face_parts is not None and "skin" in model.part_names:
            skin = model.face_parts.cpu().numpy() == model.part_names.index("skin")
        self.across: dict[tuple[int, int], list[int]] = {}
        for face in np.flatnonzero(skin):
            a, b, c = self.faces[face]
            for edge in ((a, b), (b, c), (c, a)):
                self.across.setdefault((min(edge), max(edge)), []).append(int(face))

    def line(self, face: int, weights: np.ndarray, inward: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Evenly spaced (face, barycentric weights) from a point inwards, within the plane of `inward` and Z."""
        weights = weights.astype(np.float64)
        here = weights @ self.vertices[self.faces[face]]
        reach = np.linalg.norm(inward) * REACH
        inward = inward / max(float(np.linalg.norm(inward)), 1e-9)
        normal = np.cross(inward, (0.0, 0.0, 1.0))
        origin, samples, left, entered = here, [(face, weights)], SPACING, None
        travelled = 0.0
        while True:
            exits = self._exits(face, normal, origin, entered)
            if not exits:
                return samples
            edge, leave = max(exits, key=lambda item: item[1] @ self.vertices[self.faces[face]] @ inward)
            there = leave @ self.vertices[self.faces[face]]
            if entered is None and (there - here) @ inward <= 0:
                return samples
            length = float(np.linalg.norm(there - here))
            while left <= length:
                share = left / length
                samples.append((face, (1 - share) * weights + share * leave))
                left += SPACING
            left, travelled = left - length, travelled + length
            if travelled > MAX_LENGTH or (there - origin) @ inward > reach:
                return samples
            beyond = [other for other in self.across.get(edge, ()) if other != face]
            if len(beyond) != 1:  # the rim of the skin
                return samples
            by_vertex = dict(zip(self.faces[face].tolist(), leave, strict=True))
            face, entered, here = beyond[0], edge, there
            weights = np.array([by_vertex.get(vertex, 0.0) for vertex in self.faces[face].tolist()])

    def _exits(self, face, normal, origin, entered) -> list[tuple[tuple[int, int], np.ndarray]]:
        """Edges where the plane leaves a face, with the barycentric weights of the crossing."""
        corners = self.faces[face]
        side = (self.vertices[corners] - origin) @ normal
        side = np.where(side == 0, 1e-12, side)
        exits = []
        for a, b in ((0, 1), (1, 2), (2, 0)):
            edge = (int(min(corners[a], corners[b])), int(max(corners[a], corners[b])))
            if edge != entered and (side[a] > 0) != (side[b] > 0):
                crossing = np.zeros(3)
                crossing[b] = side[a] / (side[a] - side[b])
                crossing[a] = 1 - crossing[b]
                exits.append((edge, crossing))
        return exits
