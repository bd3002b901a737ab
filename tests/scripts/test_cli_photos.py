"""How well real photos are fitted: the bars that the project set itself, on some of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headlab.scripts.bench.photos import Args, main

pytestmark = pytest.mark.slow

#: Men and women, young and old, glasses, a hand before the face, smiles; and a turned head.
PHOTOS = ("p01.jpg", "p04.jpg", "p08.jpg", "p10.jpg", "p14.jpg", "multiview_a/view_0.jpg", "multiview_a/view_2.jpg")
PROFILE = 15.0  #: turned further than this (degrees) is no longer frontal


@pytest.fixture(scope="module")
def rows(shared: Path, tmp_path_factory) -> list[dict[str, Any]]:
    pytest.importorskip("onnxruntime")
    result = main(Args(shared / "data", tmp_path_factory.mktemp("bars") / "photos.json", only=PHOTOS))
    assert len(result["photos"]) == len(PHOTOS)
    return result["photos"]


def test_the_68_points_lie_where_mediapipe_sees_them(rows: list[dict[str, Any]]) -> None:
    assert np.mean([row["nme68"] for row in rows]) <= 0.025
    for row in rows:
        assert row["nme68"] <= (0.04 if abs(row["yaw_degrees"]) < PROFILE else 0.06), row


def test_mediapipe_finds_the_same_face_on_the_render(rows: list[dict[str, Any]]) -> None:
    assert all("render468" in row for row in rows)
    assert np.mean([row["render468"] for row in rows]) <= 0.04


def test_the_render_is_recognised_as_the_person(rows: list[dict[str, Any]]) -> None:
    assert np.mean([row["identity"] for row in rows]) >= 0.6
    assert min(row["identity"] for row in rows) >= 0.5
