"""Depth maps: millimetres there and back, what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from headlab.datasets.depth_map import read_depth, write_depth
from headlab.geometry.errors import HeadlabError


def test_millimetres_there_and_back(tmp_path: Path) -> None:
    depth = torch.rand(5, 7, generator=torch.Generator().manual_seed(0)) * 3 + 0.2
    depth[0, 0], depth[1, 1], depth[2, 2] = 0, 70.0, -1.0
    write_depth(tmp_path / "d.png", depth)
    back = read_depth(tmp_path / "d.png")
    assert back[0, 0] == back[1, 1] == back[2, 2] == 0
    known = back > 0
    assert known.sum() == 32
    torch.testing.assert_close(back[known], depth[known], atol=5.1e-4, rtol=0)


def test_what_depth_cameras_write(shared: Path) -> None:
    depth = read_depth(next((shared / "data/rgbd/subject_a").glob("*_depth.png")))
    assert depth.shape == (480, 640)
    assert 0.5 < float(depth[depth > 0].median()) < 5


@pytest.mark.parametrize("kind", ["missing", "text", "colour", "grey"])
def test_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "d.png"
    if kind == "text":
        path.write_text("no picture")
    elif kind != "missing":
        shape = (4, 4, 3) if kind == "colour" else (4, 4)
        Image.fromarray(np.zeros(shape, np.uint8)).save(path)
    with pytest.raises(HeadlabError) as error:
        read_depth(path)
    assert "\n" not in str(error.value)
