"""Atomic writing: what is there afterwards, and what is not."""

import errno
import json
import os
import stat

import numpy as np
import pytest
import torch
from PIL import Image

from headlab.geometry.errors import HeadlabError
from headlab.geometry.files import atomic_path, encode_image, write_bytes, write_json, write_png, write_text


def test_replaces_only_at_the_end(tmp_path):
    path = tmp_path / "head.ply"
    path.write_text("old")
    with atomic_path(path) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".ply"
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["head.ply"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError, SystemExit])
def test_interruption_leaves_nothing(tmp_path, stop):
    path = tmp_path / "head.glb"
    with pytest.raises(stop), atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise stop
    assert os.listdir(tmp_path) == []


def test_full_disk_is_one_line(tmp_path):
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "head.glb"
    path.write_text("old")
    with pytest.raises(HeadlabError, match="No space left") as caught, atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        full()
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["head.glb"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_really_full_device(tmp_path):
    with pytest.raises(HeadlabError, match="No space left"), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.unlink()
        temporary.symlink_to("/dev/full")
        temporary.write_bytes(b"x" * 10)
    assert os.listdir(tmp_path) == []


def test_missing_folder_and_folder_in_the_way(tmp_path):
    with pytest.raises(HeadlabError, match="No such file or directory"):
        write_text(tmp_path / "nowhere" / "a.txt", "")
    with pytest.raises(HeadlabError, match="directory"):
        write_text(tmp_path, "")
    (tmp_path / "taken").mkdir()
    with pytest.raises(HeadlabError, match="directory"):
        write_text(tmp_path / "taken", "")
    assert os.listdir(tmp_path) == ["taken"]


def test_read_only_folder(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(HeadlabError, match="Permission denied"):
        write_bytes(tmp_path / "a", b"")


def test_errors_about_other_files_pass_through(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        (tmp_path / "input.txt").read_text()
    assert os.listdir(tmp_path) == []


def test_usual_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_json_is_strict(tmp_path):
    value = {
        "nme": np.float32(0.5),
        "bad": float("nan"),
        "list": torch.arange(2),
        3: (tmp_path, True, None, "ä</script>"),
    }
    write_json(tmp_path / "report.json", value)
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    found = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert found == {"nme": 0.5, "bad": None, "list": [0, 1], "3": [str(tmp_path), True, None, "ä</script>"]}


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_round_trip(tmp_path, channels):
    levels = torch.randint(0, 256, (channels, 5, 7), generator=torch.Generator().manual_seed(0))
    write_png(tmp_path / "a.png", levels / 255)
    found = np.asarray(Image.open(tmp_path / "a.png")).reshape(5, 7, channels)
    np.testing.assert_array_equal(found, levels.permute(1, 2, 0).numpy())


def test_image_values_are_clamped():
    assert encode_image(torch.full((3, 2, 2), 1.5), "PNG") == encode_image(torch.ones(3, 2, 2), "PNG")


@pytest.mark.parametrize("image", [torch.zeros(2, 4, 4), torch.zeros(3, 0, 4), torch.full((3, 2, 2), float("nan"))])
def test_senseless_pictures(tmp_path, image):
    with pytest.raises(ValueError, match="picture"):
        write_png(tmp_path / "x.png", image)
    assert not list(tmp_path.iterdir())
