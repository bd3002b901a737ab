"""Crops: the way there and back, resampling, bounds."""

import numpy as np
import pytest
import torch

from headlab.geometry.landmarks.crops import Square, cut, shrink, to_bytes, to_image, upright


def blobs(points: np.ndarray, size: int, sigma: float) -> np.ndarray:
    """White discs at points (pixel centres at +0.5) on black."""
    y, x = np.mgrid[0:size, 0:size] + 0.5
    hills = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2)) for px, py in points]
    return np.repeat((255 * np.sum(hills, 0)).clip(0, 255).astype(np.uint8)[..., None], 3, -1)


def centroid(picture: np.ndarray) -> np.ndarray:
    grey = picture[..., 0].astype(np.float64)
    y, x = np.mgrid[0 : grey.shape[0], 0 : grey.shape[1]] + 0.5
    return np.array([(x * grey).sum(), (y * grey).sum()]) / grey.sum()


@pytest.mark.parametrize("side", [60.0, 190.0, 300.0, 900.0])  # enlarged, about as is, reduced, reduced by areas
@pytest.mark.parametrize("roll", [0.0, 0.4, 3.0])
def test_a_blob_comes_back_to_where_it_was(side: float, roll: float) -> None:
    where = np.array([[512.3, 498.7]])
    picture = blobs(where, 1024, side / 20)
    square = Square(500.0, 510.0, side, roll)
    found = to_image(centroid(cut(picture, square, 192))[None], square, 192)
    assert np.abs(found - where).max() < side / 192 * 0.1 + 0.02


def test_reducing_averages() -> None:
    noise = np.random.default_rng(0).integers(0, 2, (1200, 1200, 1), dtype=np.uint8).repeat(3, -1) * 255
    crop = cut(noise, Square(600.0, 600.0, 1000.0), 100)
    assert abs(crop.mean() - 127.5) < 2 and crop.std() < 30  # plain sampling would leave about 127


def test_outside_is_black_and_far_away_is_fine() -> None:
    white = np.full((50, 80, 3), 255, np.uint8)
    for side in (60.0, 5000.0):
        assert cut(white, Square(-5 * side, 0.0, side), 64).max() == 0
    half = cut(white, Square(0.0, 25.0, 40.0), 64)
    assert half[:, :31].max() == 0 and half[:, 33:].min() == 255
    speck = cut(white, Square(40.0, 25.0, 1000.0), 64)
    assert 0 < speck.max() and speck[:28].max() == 0


def test_depth_changes_scale_with_the_crop() -> None:
    points = np.array([[96.0, 96.0, 10.0]])
    assert to_image(points, Square(5.0, 7.0, 384.0, 0.3), 192).tolist() == [[5.0, 7.0, 20.0]]


def test_upright_follows_the_eye_line() -> None:
    mesh = np.zeros((478, 3))
    rng = np.random.default_rng(0)
    mesh[:, :2] = rng.uniform([-40, -60], [40, 60], (478, 2))
    mesh[33, :2], mesh[263, :2] = [-30, -20], [30, -20]
    mesh[0, :2], mesh[1, :2], mesh[2, :2], mesh[3, :2] = [-40, 0], [40, 0], [0, -60], [0, 60]
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    mesh[:, :2] = mesh[:, :2] @ turn.T + [300, 200]
    square = upright(mesh, 1.5)
    assert (square.x, square.y, square.side, square.roll) == pytest.approx((300, 200, 180, angle))
    assert (square.grown(2.0).side, square.turned(0.1).roll) == pytest.approx((360, 0.8))


def test_bytes_are_rounded_and_clipped() -> None:
    image = torch.tensor([-0.2, 0.0, 0.4 / 255, 0.6 / 255, 100 / 255, 1.0, 1.3]).expand(3, 1, 7)
    assert to_bytes(image)[0, :, 0].tolist() == [0, 0, 0, 1, 100, 255, 255]
    coloured = torch.tensor([1.0, 0.5, 0.0]).reshape(3, 1, 1)
    assert to_bytes(coloured).tolist() == [[[255, 128, 0]]]


@pytest.mark.parametrize("bad", [torch.zeros(3, 0, 5), torch.full((3, 2, 2), 200.0), torch.full((3, 2, 2), torch.nan)])
def test_senseless_images_are_refused(bad: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="image"):
        to_bytes(bad)


def test_shrink_keeps_small_pictures_and_shape() -> None:
    picture = np.zeros((30, 40, 3), np.uint8)
    assert shrink(picture, 40) is picture
    assert shrink(np.zeros((300, 2000, 3), np.uint8), 1000).shape == (150, 1000, 3)
    assert shrink(np.zeros((1, 5000, 3), np.uint8), 1000).shape == (1, 1000, 3)
    # averaged: a checkerboard turns grey
    checker = np.indices((200, 200)).sum(0, dtype=np.uint8)[..., None].repeat(3, -1) % 2 * 255
    assert abs(int(shrink(checker, 100)[50, 50, 0]) - 127) < 2
