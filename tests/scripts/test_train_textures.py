"""`headlab train textures`, of a user's pictures and of synthetic ones."""

from pathlib import Path

import pytest
import torch

from headlab.datasets.texture_folder import open_textures
from headlab.geometry.errors import HeadlabError
from headlab.geometry.files import write_png
from headlab.geometry.texture.pyramid import TexturePyramid
from headlab.geometry.texture.pyramid_regions import NAMES
from headlab.scripts.train_textures import TrainTextures, train_textures


def write_textures(folder: Path, count: int, normals: bool = True) -> torch.Tensor:
    folder.mkdir()
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    pictures = torch.nn.functional.interpolate(coarse, (64, 64), mode="bilinear")
    for i, picture in enumerate(pictures):
        write_png(folder / f"{i}.png", picture)
        if normals:
            write_png(folder / f"{i}_normal.png", picture.flip(0))
    return pictures


def test_pictures_of_a_folder(tmp_path: Path, capsys) -> None:
    pictures = write_textures(tmp_path / "textures", 4)
    TrainTextures(str(tmp_path / "textures"), tmp_path / "out", sizes=(32, 64), variance=1.0).run()
    assert "32, 64 pixels" in capsys.readouterr().out
    pyramid = TexturePyramid.load(tmp_path / "out")
    assert pyramid.samples == 4 and pyramid.channels == 6 and pyramid.components == (3,) * len(NAMES)
    mean = pyramid.texture(torch.zeros(len(NAMES), 3), 64)
    torch.testing.assert_close(mean[:3], pictures.mean(0), atol=6e-3, rtol=0)
    torch.testing.assert_close(mean[3:], 2 * pictures.flip(1).mean(0) - 1, atol=1.2e-2, rtol=0)


def test_synthetic_ones(tmp_path: Path) -> None:
    pyramid = train_textures(TrainTextures("synthetic:3", tmp_path / "out", sizes=(32,)))
    assert pyramid.samples == 3 and pyramid.sizes == (32,)


def test_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(HeadlabError, match="no number of textures"):
        train_textures(TrainTextures("synthetic:many", out))
    with pytest.raises(HeadlabError, match="is no folder"):
        train_textures(TrainTextures(str(tmp_path / "nowhere"), out))
    with pytest.raises(HeadlabError, match="from 16 pixels on"):
        train_textures(TrainTextures("synthetic:3", out, sizes=(8,)))
    write_textures(tmp_path / "some", 3)
    (tmp_path / "some" / "1_normal.png").unlink()
    with pytest.raises(HeadlabError, match="1 has no 1_normal"):
        open_textures(tmp_path / "some")
    write_textures(tmp_path / "one", 1, normals=False)
    with pytest.raises(HeadlabError, match="holds 1 textures"):
        open_textures(tmp_path / "one")
    write_png(tmp_path / "one" / "wide.png", torch.rand(3, 8, 16))
    with pytest.raises(HeadlabError, match="textures are square"):
        open_textures(tmp_path / "one").samples(16)(1)
