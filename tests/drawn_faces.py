"""Drawn faces with landmarks: pictures for data sets in tests, made in a millisecond."""

import cv2
import numpy as np

from headlab.datasets.layouts import Sketch


def face_points(centre: tuple[float, float], scale: float, turn: float = 0.0) -> np.ndarray:
    """68 landmarks of a plain face, pixels."""
    jaw = [(-np.cos(t), 0.2 + np.sin(t)) for t in np.linspace(0, np.pi, 17)]
    brows = [(s * x, -0.5) for s, xs in ((-1, (0.7, 0.6, 0.5, 0.4, 0.3)), (1, (0.3, 0.4, 0.5, 0.6, 0.7))) for x in xs]
    nose = [(0, y) for y in (-0.3, -0.15, 0.0, 0.15)] + [(x, 0.25) for x in (-0.15, -0.07, 0, 0.07, 0.15)]
    ring = [(-0.15, 0), (-0.07, -0.06), (0.07, -0.06), (0.15, 0), (0.07, 0.06), (-0.07, 0.06)]
    eyes = [(s * 0.45 + x, -0.3 + y) for s in (-1, 1) for x, y in ring]
    mouth = [(0.35 * -np.cos(t), 0.6 - 0.12 * np.sin(t)) for t in np.linspace(0, np.pi, 7)]
    mouth += [(0.35 * np.cos(t), 0.6 + 0.15 * np.sin(t)) for t in np.linspace(0, np.pi, 7)[1:-1]]
    inner = [(0.25 * -np.cos(t), 0.6) for t in np.linspace(0, np.pi, 8)]
    points = np.array(jaw + brows + nose + eyes + mouth + inner, float)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return points @ rotation.T * scale + np.array(centre)


def drawn_face(number: int, size: int = 96) -> Sketch:
    """One face; every number another picture."""
    chance = np.random.default_rng(number)
    points = face_points((size * chance.uniform(0.45, 0.55), size * 0.5), size * 0.28, chance.uniform(-0.2, 0.2))
    pixels = cv2.resize(chance.integers(0, 255, (6, 6, 3), dtype=np.uint8), (size, size), interpolation=cv2.INTER_CUBIC)
    skin = tuple(int(v) for v in chance.integers(120, 230, 3))
    cv2.fillConvexPoly(pixels, np.rint(points[:17]).astype(np.int32), skin)
    for first, last in ((36, 42), (42, 48), (48, 60)):
        cv2.fillPoly(pixels, [np.rint(points[first:last]).astype(np.int32)], (30, 20, 40))
    va = chance.uniform(-0.9, 0.9, 2)
    return Sketch(pixels, points, number % 8, float(va[0]), float(va[1]), str(number // 3))


def drawn_faces(count: int, size: int = 96) -> list[Sketch]:
    return [drawn_face(i, size) for i in range(count)]
