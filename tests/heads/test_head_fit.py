"""head.npz: whole round trips, no pickles, and files that are something else."""

import json
import os
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch

from headlab.geometry.camera import Camera
from headlab.geometry.code import HeadCode
from headlab.geometry.errors import HeadlabError
from headlab.heads.head_fit import HeadFit


@pytest.fixture
def fit() -> HeadFit:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(2, *shape, generator=generator)

    code = HeadCode(random(5), random(4), random(3), random(3), random(3), random(2, 3), random(3))
    code = code.with_(albedo=random(7), light=random(9, 3))
    cameras = (Camera.frontal(500.0, (40, 60)), Camera.frontal(321.5, (30, 20), torch.float64))
    levels = torch.randint(0, 256, (3, 8, 8), generator=generator).float() / 255
    return HeadFit("default", code, cameras, levels, ("a.jpg", "bÄ 2.png"), {"landmark_nme": 0.01, "seconds": {"x": 1}})


def edited(path: Path, **changes) -> None:
    """Rewrite the npz with some arrays changed or (None) left out."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files} | changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


def test_everything_comes_back(fit: HeadFit, tmp_path: Path) -> None:
    path = tmp_path / "head.npz"
    fit.save(path)
    back = HeadFit.load(path)
    assert (back.model, back.sources, back.report) == (fit.model, fit.sources, fit.report)
    assert set(back.codes.arrays()) == set(fit.codes.arrays())
    for name, value in fit.codes.arrays().items():
        assert torch.equal(back.codes.arrays()[name], value), name
    for mine, other in zip(fit.cameras, back.cameras, strict=True):
        assert other.size == mine.size and other.K.dtype == mine.K.dtype
        assert all(torch.equal(getattr(other, name), getattr(mine, name)) for name in ("K", "R", "t"))
    assert torch.equal(back.albedo, fit.albedo)
    assert list(tmp_path.iterdir()) == [path]


def test_the_texture_is_kept_to_8_bits(fit: HeadFit, tmp_path: Path) -> None:
    wild = torch.linspace(-0.5, 1.5, 3 * 64).reshape(3, 8, 8)
    replace(fit, albedo=wild).save(tmp_path / "head.npz")
    back = HeadFit.load(tmp_path / "head.npz").albedo
    torch.testing.assert_close(back, wild.clamp(0, 1), atol=0.5 / 255 + 1e-6, rtol=0)


def test_a_head_without_a_texture_comes_back_without(fit: HeadFit, tmp_path: Path) -> None:
    replace(fit, albedo=None).save(tmp_path / "head.npz")
    assert HeadFit.load(tmp_path / "head.npz").albedo is None


def test_the_file_holds_plain_arrays_only(fit: HeadFit, tmp_path: Path) -> None:
    """Readable without allowing pickles, and the permissions are the user's usual ones."""
    path = tmp_path / "head.npz"
    umask = os.umask(0o027)
    try:
        fit.save(path)
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o640
    with np.load(path, allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
        assert json.loads(str(file["meta"]))["format"] == "headlab.fit/1"


def test_a_pickle_inside_is_not_run(fit: HeadFit, tmp_path: Path) -> None:
    path, trap = tmp_path / "head.npz", tmp_path / "PWNED"

    class Bomb:
        def __reduce__(self):
            return Path.touch, (trap,)

    fit.save(path)
    bomb = np.empty(1, object)
    bomb[0] = Bomb()
    for name in ("albedo", "code.shape", "meta", "extra"):
        with np.load(path) as file:
            arrays = {key: file[key] for key in file.files}
        spoilt = tmp_path / "spoilt.npz"
        np.savez(spoilt, **{**arrays, name: bomb})
        with pytest.raises(HeadlabError, match="not a head fitted by headlab"):
            HeadFit.load(spoilt)
    assert not trap.exists()


def test_other_files_are_refused_in_one_line(fit: HeadFit, tmp_path: Path) -> None:
    path = tmp_path / "head.npz"
    fit.save(path)
    whole = path.read_bytes()
    array, zipped = BytesIO(), BytesIO()
    np.save(array, np.zeros(3))
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("meta.npy", "no array")
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 0xFF
    bad = {
        "empty": b"",
        "start": whole[:3],
        "half": whole[: len(whole) // 2],
        "all but the end": whole[:-5],
        "flipped bit": bytes(flipped),
        "text": b"hello",
        "one array": array.getvalue(),
        "another zip": zipped.getvalue(),
        "zeros": bytes(500),
    }
    for name, data in bad.items():
        path.write_bytes(data)
        with pytest.raises(HeadlabError, match=r"expected the head\.npz") as caught:
            HeadFit.load(path)
        assert "\n" not in str(caught.value), name


@pytest.mark.parametrize(
    "changes",
    [
        {"meta": None},
        {"meta": np.array("not json")},
        {"meta": np.array("[]")},
        {"code.shape": None},
        {"code.nose": np.zeros(3)},
        {"camera1.K": None},
        {"camera0.size": np.zeros(0)},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_missing_and_foreign_arrays_are_refused(fit: HeadFit, tmp_path: Path, changes: dict) -> None:
    path = tmp_path / "head.npz"
    fit.save(path)
    edited(path, **changes)
    with pytest.raises(HeadlabError, match="not a head fitted by headlab"):
        HeadFit.load(path)


def test_other_versions_are_named(fit: HeadFit, tmp_path: Path) -> None:
    path = tmp_path / "head.npz"
    fit.save(path)
    edited(path, meta=np.array(json.dumps({"format": "headlab.fit/99", "model": "m", "sources": [], "report": {}})))
    with pytest.raises(HeadlabError, match=r"format headlab.fit/99, this version reads headlab.fit/1"):
        HeadFit.load(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.npz", tmp_path):
        with pytest.raises(HeadlabError, match=str(path)):
            HeadFit.load(path)


def test_saving_where_nothing_can_be_saved_is_one_line(fit: HeadFit, tmp_path: Path) -> None:
    with pytest.raises(HeadlabError, match="cannot write"):
        fit.save(tmp_path / "absent" / "head.npz")
