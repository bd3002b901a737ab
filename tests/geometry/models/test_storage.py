"""Head models in files: whole round trips, and files that are something else."""

import os
import pickle
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from synthetic import tiny_head

from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.head_model import DynamicContour, HeadModel
from headlab.geometry.models.storage import read_model, write_model


@pytest.fixture(scope="module")
def model() -> HeadModel:
    """A model in which every optional field is set."""
    tiny = tiny_head(4, rings=6, pose_basis=True)
    count = len(tiny.template)
    return replace(
        tiny,
        uvs=torch.rand(count, 2, generator=torch.Generator().manual_seed(0)),
        uv_faces=tiny.faces.flip(1),
        contour=DynamicContour(torch.arange(79 * 17).reshape(79, 17) % 50, torch.rand(79, 17, 3)),
        regions={"face": tiny.template[:, 2] > 0, "left_eye": tiny.template[:, 0] > 0.05},
        part_names=("skin", "eyes"),
        face_parts=torch.arange(len(tiny.faces)) % 2,
        joints_follow_expression=True,
    )


def assert_same(a, b, where: str = "model") -> None:
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b), where
    elif is_dataclass(a):
        assert type(a) is type(b), where
        for f in fields(a):
            assert_same(getattr(a, f.name), getattr(b, f.name), f"{where}.{f.name}")
    elif isinstance(a, dict):
        assert set(a) == set(b), where
        for key in a:
            assert_same(a[key], b[key], f"{where}[{key}]")
    else:
        assert a == b, where


def test_every_field_comes_back(model: HeadModel, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "model.safetensors"
    write_model(model, path)
    assert_same(model, read_model(path))
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]


def test_absent_parts_stay_absent(tmp_path: Path) -> None:
    bare = replace(tiny_head(2, rings=4), landmarks={}, expression_bounds=None, expression_std=None)
    write_model(bare, tmp_path / "m")
    assert_same(bare, read_model(tmp_path / "m"))


def test_others_may_read_it_as_the_umask_allows(model: HeadModel, tmp_path: Path) -> None:
    """A cache shared between users must not be private to whoever built it."""
    umask = os.umask(0o022)
    try:
        write_model(model, tmp_path / "m")
    finally:
        os.umask(umask)
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o644


def test_a_failed_write_leaves_the_old_file(model: HeadModel, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "m"
    write_model(model, path)
    old = path.read_bytes()

    def full(self: Path, data: bytes):
        with self.open("wb") as file:
            file.write(data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(HeadlabError, match="No space"):
        write_model(model, path)
    assert path.read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 1


def test_interrupting_a_write_leaves_nothing(model: HeadModel, tmp_path: Path, monkeypatch) -> None:
    def interrupted(self: Path, data: bytes):
        self.touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_model(model, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_refused(model: HeadModel, tmp_path: Path) -> None:
    path = tmp_path / "m"
    write_model(model, path)
    whole = path.read_bytes()
    bad = {
        "empty": b"",
        "truncated": whole[: len(whole) // 2],
        "short": whole[:5],
        "text": b"hello, this is no model",
        "pickle": pickle.dumps({"template": 1}),
        "zeros": bytes(2000),
    }
    for name, data in bad.items():
        path.write_bytes(data)
        with pytest.raises(ValueError, match="not a head model"):
            read_model(path)
        assert path.exists(), name
    with pytest.raises(ValueError, match="not a head model"):
        read_model(tmp_path / "absent")


def test_foreign_safetensors_and_other_versions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="not a head model"):
        read_model(path)
    save_file({"x": torch.zeros(1)}, path, metadata={"headlab": '{"format": "headlab.model/999"}'})
    with pytest.raises(ValueError, match=r"headlab.model/999, this version reads headlab.model/1"):
        read_model(path)


def test_a_model_that_misses_a_tensor_is_refused(model: HeadModel, tmp_path: Path) -> None:
    from safetensors import safe_open

    path = tmp_path / "m"
    write_model(model, path)
    with safe_open(path, framework="pt") as file:
        meta, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    del tensors["template"]
    save_file(tensors, path, metadata=meta)
    with pytest.raises(ValueError, match="not a head model"):
        read_model(path)
