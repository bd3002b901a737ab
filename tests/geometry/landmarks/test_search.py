"""Where detectors look again, and what counts as one face."""

import numpy as np
import pytest
import torch

from headlab.geometry.landmarks.face_landmarks import FaceLandmarks
from headlab.geometry.landmarks.search import distinct, overlap, rounds


@pytest.mark.parametrize(("height", "width"), [(900, 900), (731, 1024), (3000, 500), (200, 6000)])
def test_every_small_face_lies_whole_in_some_tile(height: int, width: int) -> None:
    *_, finest = rounds(height, width)
    side = finest[0].side
    face = side * (1 - 2 / 3)  # tiles step by two thirds
    rng = np.random.default_rng(0)
    for _ in range(200):
        x, y = rng.uniform([face / 2] * 2, [max(width - face / 2, face), max(height - face / 2, face)])
        assert any(
            abs(t.x - x) <= (t.side - face) / 2 + 1e-6 and (abs(t.y - y) <= (t.side - face) / 2 + 1e-6) for t in finest
        )


def test_search_is_bounded() -> None:
    assert sum(len(windows) for windows in rounds(100, 100)) == 3  # too small to tile: only turned
    assert sum(len(windows) for windows in rounds(10000, 10000)) < 300


def face(x: float, y: float, size: float, confidence: float) -> FaceLandmarks:
    corners = torch.tensor([[-0.5, -0.5], [0.5, 0.5]]).repeat(239, 1) * size
    return FaceLandmarks(corners + torch.tensor([x, y]), torch.zeros(478), confidence)


def test_one_find_per_face_largest_first() -> None:
    small, large = face(0, 0, 10, 0.9), face(100, 0, 30, 0.5)
    again = face(102, 1, 28, 0.8)
    kept = distinct([small, large, again])
    assert kept == [again, small] and kept[0] is again  # the more trusted find of the large face
    assert distinct([]) == []


def test_overlap() -> None:
    assert overlap((0.0, 0.0, 2.0, 2.0), (1.0, 0.0, 3.0, 2.0)) == pytest.approx(1 / 3)
    assert (
        overlap((0.0, 0.0, 1.0, 1.0), (1.0, 1.0, 2.0, 2.0)) == 0
        and overlap((0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)) == 0
    )
    assert overlap((0.0, 0.0, 4.0, 4.0), (0.0, 0.0, 4.0, 4.0)) == 1


def test_size_and_box() -> None:
    one = face(50, 20, 10, 1.0)
    assert one.box == (45, 15, 55, 25) and one.size == pytest.approx(10)
