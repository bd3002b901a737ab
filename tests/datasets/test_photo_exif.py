"""Focal length from EXIF."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from headlab.datasets.exif import focal_pixels
from headlab.datasets.photo import read_photo

EQUIVALENT, LENGTH, DENSITY, UNIT, WIDTH, HEIGHT = 0xA405, 0x920A, 0xA20E, 0xA210, 0xA002, 0xA003


def test_equivalent_focal_length_by_the_diagonal() -> None:
    # 3:2 is film's own shape: 50 mm on 36 x 24 mm is 50/36 of the width, held either way.
    assert focal_pixels({EQUIVALENT: 50}, (3600, 2400)) == pytest.approx(5000)
    assert focal_pixels({EQUIVALENT: 50}, (2400, 3600)) == pytest.approx(5000)
    # A phone's 26 mm on 4:3: a diagonal field of view of 2 atan(21.63 / 26).
    angle = 2 * math.atan(math.hypot(36, 24) / 2 / 26)
    focal = focal_pixels({EQUIVALENT: 26}, (4032, 3024))
    assert focal is not None and 2 * math.atan(2520 / focal) == pytest.approx(angle)


@pytest.mark.parametrize(("unit", "millimetres"), [(2, 25.4), (3, 10.0), (4, 1.0), (5, 1e-3), (None, 25.4)])
def test_sensor_density(unit: int | None, millimetres: float) -> None:
    # 24 mm wide sensor with 6000 pixels: 250 pixels per mm.
    tags = {LENGTH: IFDRational(35), DENSITY: 250 * millimetres, WIDTH: 6000, HEIGHT: 4000}
    tags |= {UNIT: unit} if unit else {}
    assert focal_pixels(tags, (6000, 4000)) == pytest.approx(35 * 250)
    assert focal_pixels(tags, (1500, 1000)) == pytest.approx(35 * 250 / 4)  # resized since
    assert focal_pixels(tags, (1000, 1500)) == pytest.approx(35 * 250 / 4)  # and stored turned


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {EQUIVALENT: 0},
        {EQUIVALENT: "wide"},
        {EQUIVALENT: -3},
        {EQUIVALENT: 60000},
        {LENGTH: IFDRational(5)},
        {LENGTH: IFDRational(0, 0), DENSITY: 1000},
        {LENGTH: 5, DENSITY: 1000, UNIT: 9},
        {EQUIVALENT: 50, WIDTH: 4000, HEIGHT: 3000},  # not the shape of the picture: cropped
    ],
)
def test_unknown_or_senseless(tags: dict) -> None:
    assert focal_pixels(tags, (1000, 1000)) is None


@pytest.mark.parametrize("orientation", [1, 6])
def test_from_a_file(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.get_ifd(0x8769)[EQUIVALENT] = 50
    Image.fromarray(np.zeros((24, 36, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    frame = read_photo(tmp_path / "a.jpg")
    assert frame.focal == pytest.approx(50)
    assert frame.size == ((24, 36) if orientation == 1 else (36, 24))
