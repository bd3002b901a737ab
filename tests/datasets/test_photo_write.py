"""write_png and the atomic replacement below it."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from headlab.datasets.atomic import replacing
from headlab.datasets.photo import read_photo
from headlab.datasets.picture import write_png
from headlab.geometry.errors import HeadlabError


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_round_trip(tmp_path: Path, channels: int) -> None:
    image = torch.randint(0, 256, (channels, 5, 7), generator=torch.Generator().manual_seed(0)) / 255
    write_png(tmp_path / "a.png", image)
    frame = read_photo(tmp_path / "a.png")
    if channels == 4:
        assert frame.mask is not None
        assert torch.allclose(frame.mask, image[3])
        assert torch.allclose(frame.image, image[:3] * image[3] + 1 - image[3], atol=1e-6)
    else:
        assert torch.allclose(frame.image, image.expand(3, 5, 7), atol=1e-6)
    assert os.listdir(tmp_path) == ["a.png"]


def test_rounds_and_clips(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", torch.tensor([-1.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 2.0]).expand(3, 1, 5))
    with Image.open(tmp_path / "a.png") as picture:
        assert [picture.getpixel((x, 0))[0] for x in range(5)] == [0, 0, 1, 255, 255]  # type: ignore[index]


@pytest.mark.parametrize("image", [torch.zeros(2, 4, 4), torch.zeros(3, 0, 4), torch.full((3, 2, 2), torch.nan)])
def test_senseless_pictures(tmp_path: Path, image: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="picture"):
        write_png(tmp_path / "a.png", image)
    assert not list(tmp_path.iterdir())


def test_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]
    with replacing(target) as temporary:
        assert temporary.suffix == ".txt" and temporary.parent == tmp_path
        temporary.write_text("new")
    assert target.read_text() == "new" and os.listdir(tmp_path) == ["a.txt"]


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(HeadlabError, match="choose a folder"):
        write_png(tmp_path / "no" / "a.png", torch.zeros(3, 2, 2))


def test_permissions_are_ordinary(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", torch.zeros(3, 2, 2))
    (tmp_path / "b").write_text("")
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "b").stat().st_mode
