"""`headlab transfer --target rgbd:FOLDER`: which frame, what is refused, and a real capture end to end."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from headlab.datasets.rgbd_folder import write_rgbd_folder
from headlab.datasets.rgbd_selfie import open_selfies
from headlab.geometry.camera import Camera
from headlab.geometry.errors import HeadlabError
from headlab.geometry.frame import Frame
from headlab.heads.head_fit import HeadFit
from headlab.scripts.train_selfies import selfie_data
from headlab.scripts.transfer import Transfer, transfer_command
from headlab.scripts.transfer_capture import chosen, is_capture


@pytest.fixture
def people(tmp_path: Path) -> Path:
    for name, count in (("ann", 2), ("bob", 1)):
        (tmp_path / name).mkdir()
        frames = [Frame(torch.rand(3, 40, 40), depth=torch.ones(40, 40), camera=Camera.frontal(40.0, (40, 40)))] * count
        write_rgbd_folder(tmp_path / name, frames)
    return tmp_path


def test_the_frame_is_chosen_by_name(people: Path, tmp_path: Path) -> None:
    found = open_selfies(people)
    assert chosen(found, None) == (found[0], 0)
    assert chosen(found, "0002") == (found[0], 1) and chosen(found, "bob/0001") == (found[1], 0)
    with pytest.raises(HeadlabError, match="2 captures are called 0001; name one such as ann/0001"):
        chosen(found, "0001")
    assert is_capture(people) and is_capture(Path("rgbd:anything")) and not is_capture(people / "nothing")
    assert not is_capture(tmp_path / "ann" / "0001_color.png")


def test_refused(people: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(HeadlabError, match="leave out --depth"):
        transfer_command(Transfer(("happy",), people, out, depth=people / "ann" / "0001_depth.png"))
    with pytest.raises(HeadlabError, match="no face"):
        transfer_command(Transfer(("happy",), Path(f"rgbd:{people}"), out, frame="0002"))
    with pytest.raises(HeadlabError, match="rgbd:FOLDER, not"):
        selfie_data("ftp:x", None, tmp_path / "kept")
    assert not out.exists()


@pytest.mark.slow
def test_a_real_capture(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data/rgbd/subject_a"
    out = tmp_path / "out"
    report = transfer_command(Transfer(("happy",), Path(f"rgbd:{folder}"), out, frame="0005", texture_size=256))
    assert report["renderer"] == "mesh" and report["target"] == "subject_a/0005"
    assert json.loads((out / "report.json").read_text())["heads"][0]["points"] > 3000
    before = np.asarray(Image.open(folder / "0005_color.png").convert("RGB")).astype(int)
    after = np.asarray(Image.open(out / "edited.png")).astype(int)
    assert before.shape == after.shape and (before == after).all(-1).mean() > 0.95  # the face is small
    was, now = (
        np.asarray(Image.open(path)).astype(int) for path in (folder / "0005_depth.png", out / "edited_depth.png")
    )
    moved = np.abs(now - was)[(now > 0) & (was > 0)]
    assert 0 < (moved > 1).mean() < 0.05 and moved.max() < 120  # millimetres
    cloud = trimesh.load(out / "cloud.ply").vertices
    assert np.ptp(cloud, axis=0).max() < 0.4 and 1.0 < -cloud[:, 2].mean() < 1.6
    head = HeadFit.load(out / "head.npz")
    smile = report["heads"][0]
    assert smile["face_distance"] < 0.004 and head.codes.shape.shape[0] == 1
    assert {path.name for path in out.iterdir()} >= {"edited.ply", "head.glb", "head.obj", "strip.png"}
