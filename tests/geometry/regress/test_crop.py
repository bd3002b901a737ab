"""Crops against upstream's, pixel by pixel."""

import numpy as np
import pytest
import torch
from skimage.transform import AffineTransform
from skimage.transform import warp as skimage_warp

from headlab.geometry.errors import HeadlabError
from headlab.geometry.regress.crop import CropTransform, FaceSquare
from headlab.geometry.regress.sampling import warp

#: The stored crops are rounded to 16 bits.
ROUNDED = 0.6 / 65535


def transforms(golden) -> dict[str, CropTransform]:
    data = golden("image_crop")
    height, width = data["image"].shape[:2]
    left, top, right, bottom = (data["bbox_box"] + 0.5).tolist()  # indices -> positions
    return {
        "kpt_centre": FaceSquare.from_landmarks(data["kpt_centre_kpt68"] + 0.5).transform(),
        "kpt_over_the_border": FaceSquare.from_landmarks(data["kpt_over_the_border_kpt68"] + 0.5).transform(),
        "bbox": FaceSquare.from_box((left, top, right, bottom)).transform(),
        "no_face": FaceSquare.without_face((height, width), swapped=True).transform(),
        "nocrop": CropTransform.of_whole((height, width)),
    }


def photo(golden) -> torch.Tensor:
    return golden("image_crop")["image"].permute(2, 0, 1).float() / 255


@pytest.mark.parametrize("case", ["kpt_centre", "kpt_over_the_border", "bbox", "no_face", "nocrop"])
def test_crops(golden, case: str) -> None:
    data, transform = golden("image_crop"), transforms(golden)[case]
    assert torch.allclose(transform.matrix, data[f"{case}_tform"].double(), rtol=1e-6, atol=1e-6)
    crop = transform.crop(photo(golden))
    if case == "nocrop":
        assert float((crop[:, 100] - data["nocrop_row100"]).abs().max()) < 1e-6
        return
    assert float((crop[:, 100] - data[f"{case}_crop_row100"]).abs().max()) < 1e-6
    assert float((crop[:, ::2, ::2] - data[f"{case}_crop_stride2"] / 65535).abs().max()) < ROUNDED
    assert float((crop.double().mean((1, 2)) - data[f"{case}_mean"]).abs().max()) < 1e-6


def test_emoca_video_crop(golden) -> None:
    data = golden("image_crop")
    points = data["kpt_centre_kpt68"] + 0.5
    size, x, y = data["emoca_size_centre"].tolist()
    square = FaceSquare.from_landmarks(points)
    assert square.centre == pytest.approx((x, y), abs=1e-9)
    assert square.side == int(size * 1.25)
    crop = square.transform().crop(photo(golden), 3)
    assert float((crop[:, 100] - data["emoca_video_row100"]).abs().max()) < 1e-6
    assert float((crop[:, ::2, ::2] - data["emoca_video_crop_order3_stride2"] / 65535).abs().max()) < ROUNDED
    moved = square.transform().to_crop(points) - 0.5
    assert torch.allclose(moved, data["emoca_video_landmarks"], atol=1e-9)


def test_points_in_the_photo(golden) -> None:
    data, transform = golden("image_crop"), transforms(golden)["kpt_centre"]
    height, width = data["image"].shape[:2]
    ours = transform.ndc_to_photo(data["points"], upstream=True)
    scale = ours.new_tensor([2 / width, 2 / height, 1])
    assert torch.allclose(ours * scale - ours.new_tensor([1, 1, 0]), data["points_in_original"], atol=1e-6)
    # Ours differs by upstream's half pixels, (photo pixels per crop pixel - 1) / 2.
    shift = (1 - 1 / transform.scale) / 2
    aligned = transform.ndc_to_photo(data["points"])
    assert torch.allclose((aligned - ours)[..., :2], torch.tensor(shift), atol=1e-4)


@pytest.mark.parametrize("case", ["kpt_centre", "nocrop"])
def test_points_there_and_back(golden, case: str) -> None:
    transform = transforms(golden)[case]
    points = torch.rand(3, 7, 2, dtype=torch.float64) * 300
    assert torch.allclose(transform.to_photo(transform.to_crop(points)), points, atol=1e-9)


def test_a_crop_pixel_shows_the_place_it_came_from() -> None:
    """A picture whose value is its own position, so that the crop tells where each pixel was taken."""
    y, x = torch.meshgrid(torch.arange(200.0) + 0.5, torch.arange(300.0) + 0.5, indexing="ij")
    ramp = torch.stack([x, y, torch.zeros_like(x)]).double() / 1000
    transform = FaceSquare((140.2, 97.4), 120).transform()
    crop = transform.crop(ramp) * 1000
    centres = torch.tensor([[[10.5, 30.5], [200.5, 101.5]]], dtype=torch.float64)
    expected = transform.to_photo(centres)[0]
    for (u, v), place in zip(centres[0].tolist(), expected, strict=True):
        assert torch.allclose(crop[:2, int(v), int(u)], place, atol=1e-9)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("low", [0.0, 0.3])
def test_warp_is_scikit_images(order, low: float) -> None:
    image = low + (1 - low) * np.random.default_rng(0).random((40, 50, 3))
    inverse = AffineTransform(rotation=0.3, scale=(0.7, 0.7), translation=(-6, 5))
    theirs = skimage_warp(image, inverse, output_shape=(60, 70), order=order)
    ours = warp(torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(inverse.params), (60, 70), order)
    assert np.abs(ours.permute(1, 2, 0).numpy() - theirs).max() < 1e-9


@pytest.mark.parametrize("order", [1, 3])
def test_crop_is_differentiable(order) -> None:
    torch.manual_seed(0)
    image = 0.4 + 0.2 * torch.rand(3, 12, 12, dtype=torch.float64)
    image[:, 0, 0], image[:, 0, 1] = 0.0, 1.0  # the range, so that nothing near it is clamped
    transform = FaceSquare((6.3, 6.1), 8).transform(9)
    assert torch.autograd.gradcheck(lambda x: transform.crop(x, order), (image.requires_grad_(),))


def test_whole_image_square() -> None:
    """Not swapped, it is centred on the photo."""
    assert FaceSquare.without_face((300, 200)).centre == (99.5, 149.5)
    square = CropTransform.of_whole((200, 200), 100)
    assert torch.allclose(square.matrix[:2, :2], torch.eye(2, dtype=torch.float64) * 99 / 199)


def test_bad_faces_are_refused() -> None:
    with pytest.raises(HeadlabError, match="not finite"):
        FaceSquare.from_landmarks(torch.full((68, 2), torch.nan))
    with pytest.raises(HeadlabError, match=r"only 0\.0 pixels"):
        FaceSquare.from_landmarks(torch.ones(68, 2))
