"""Reading pickles without running them."""

import io
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

from headlab.geometry.errors import HeadlabError
from headlab.geometry.safe_pickle import (
    ARRAY_GLOBALS,
    CHUMPY_GLOBALS,
    SCIPY_GLOBALS,
    TORCH_GLOBALS,
    UnsafePickleError,
    load_object_npy,
    load_pickle,
    load_torch,
)

FLAME = {**ARRAY_GLOBALS, **SCIPY_GLOBALS, **CHUMPY_GLOBALS}
TABLES = {**ARRAY_GLOBALS, **TORCH_GLOBALS}


class Opens:
    """Makes a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "a")


class Loads:
    """A torch storage whose nested stream is chosen freely."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self):
        return torch.storage._load_from_bytes, (self.data,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_survive(protocol: int) -> None:
    shared = np.arange(6, dtype=">i4").reshape(2, 3)
    value = {
        "c": shared,
        "again": shared,
        "fortran": np.asfortranarray(np.random.default_rng(0).random((4, 5))),
        "bool": np.array([True, False]),
        "text": np.array(["a", "bcd"]),
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.float32(1.5),
        "objects": np.array([{"x": 1}, None], dtype=object),
        "nested": OrderedDict(a=[1, (2.5, "three"), {4, 5}], b=b"bytes"),
    }
    back = load_pickle(pickle.dumps(value, protocol=protocol), ARRAY_GLOBALS)
    assert list(back) == list(value)
    for key in ("c", "fortran", "bool", "text", "empty", "objects"):
        assert back[key].shape == value[key].shape
        assert (back[key] == value[key]).all()
    assert back["c"] is back["again"]
    assert back["scalar"] == 1.5
    assert back["nested"] == value["nested"]
    assert type(back["nested"]) is OrderedDict


@pytest.mark.parametrize("kind", [scipy.sparse.csc_matrix, scipy.sparse.csr_matrix])
def test_sparse_becomes_dense(kind) -> None:
    dense = np.random.default_rng(1).random((5, 7)) * (np.random.default_rng(2).random((5, 7)) < 0.3)
    assert np.array_equal(load_pickle(pickle.dumps(kind(dense)), {**ARRAY_GLOBALS, **SCIPY_GLOBALS}), dense)


def test_flame_like_equals_its_plain_arrays(shared: Path) -> None:
    folder = shared / "parity/geometry"
    data = load_pickle(folder / "flame_like.pkl", FLAME)
    expected = np.load(folder / "flame_like_expected.npz")
    for key in ("f", "v_template", "shapedirs", "posedirs", "J_regressor", "J", "weights", "kintree_table"):
        assert np.array_equal(data[key], expected[key]), key
    assert data["bs_style"] == "lbs"


def test_landmark_tables_equal_their_plain_arrays(shared: Path) -> None:
    folder = shared / "parity/geometry"
    data = load_object_npy(folder / "landmark_embedding.npy", TABLES)[()]
    expected = np.load(folder / "landmark_embedding_expected.npz")
    assert set(data) == set(expected.files)
    for key in expected.files:
        assert np.array_equal(np.asarray(data[key]), expected[key]), key
    assert isinstance(data["dynamic_lmk_faces_idx"], torch.Tensor)


def test_malicious_flame_is_refused(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsafePickleError, match=r"io\.open") as caught:
        load_pickle(shared / "parity/geometry/malicious.pkl", FLAME)
    assert (caught.value.module, caught.value.name) == ("io", "open")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("legacy", [True, False])
def test_malicious_stream_nested_in_landmark_table_is_refused(tmp_path: Path, legacy: bool) -> None:
    target = tmp_path / "PWNED"
    stream = io.BytesIO()
    torch.save(Opens(target), stream, _use_new_zipfile_serialization=not legacy)
    bare = pickle.dumps(Opens(target), protocol=2)
    for i, nested in enumerate((stream.getvalue(), bare)):
        file = tmp_path / f"landmark_embedding{i}.npy"
        np.save(file, np.array({"static_lmk_faces_idx": Loads(nested)}, dtype=object), allow_pickle=True)
        # The file does harm when read as others read it: otherwise the test would show nothing.
        with pytest.raises((UnsafePickleError, HeadlabError)) as caught:
            load_object_npy(file, TABLES)
        assert "open" in str(caught.value)
        assert not target.exists()
    pickle.loads(bare).close()
    assert target.exists()


def test_torch_files(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save({"E_flame": {"a": torch.arange(3.0)}}, file)
    assert torch.equal(load_torch(file)["E_flame"]["a"], torch.arange(3.0))
    torch.save(Opens(tmp_path / "PWNED"), file)
    with pytest.raises(UnsafePickleError, match=r"io\.open") as caught:
        load_torch(file)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "PWNED").exists()
    file.write_bytes(b"no torch file")
    with pytest.raises(HeadlabError, match="damaged or no torch file"):
        load_torch(file)
    with pytest.raises(HeadlabError, match="not there"):
        load_torch(tmp_path / "missing.pt")


@pytest.mark.parametrize(
    "stream",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"c__builtin__\neval\n(S'1'\ntR.",
        b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.",
        b"(S'true'\nios\nsystem\n.",
        b"cnumpy.core.multiarray\n_reconstruct.__globals__\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.",
        b"cnumpy\nload\n(S'x'\ntR.",
    ],
)
def test_other_globals_are_refused(stream: bytes) -> None:
    with pytest.raises(UnsafePickleError):
        load_pickle(stream, {**FLAME, **TORCH_GLOBALS})


def test_classes_cannot_be_altered() -> None:
    # BUILD on a class with a state of slots would set attributes on it.
    stream = b"\x80\x02cnumpy\nndarray\n(N}X\x07\x00\x00\x00resolvecnumpy\ndtype\nstb."
    with pytest.raises(HeadlabError):
        load_pickle(stream, ARRAY_GLOBALS)
    assert load_pickle(pickle.dumps(np.arange(3)), ARRAY_GLOBALS).tolist() == [0, 1, 2]


def test_chumpy_expressions_are_named() -> None:
    with pytest.raises(UnsafePickleError, match=r"chumpy\.reordering\.Select, which is a chumpy expression"):
        load_pickle(b"cchumpy.reordering\nSelect\n.", FLAME)


@pytest.mark.parametrize("keep", [0, 1, 10, 200, 1000])
def test_truncated(keep: int) -> None:
    data = pickle.dumps({"a": np.arange(1000), "b": [1, 2, 3]}, protocol=2)
    with pytest.raises(HeadlabError, match="damaged") as caught:
        load_pickle(data[:keep], ARRAY_GLOBALS, "model.pkl")
    assert "\n" not in str(caught.value)


def test_wrong_sizes_are_damage() -> None:
    data = pickle.dumps(np.arange(4, dtype=np.int64), protocol=2)
    assert data.count(b"K\x04") == 1
    with pytest.raises(HeadlabError, match="damaged"):
        load_pickle(data.replace(b"K\x04", b"K\x05"), ARRAY_GLOBALS)
    deep = b"(" * 1 + b"]" * 1 + b"(]" * 20000 + b"t" * 20000 + b"."
    with pytest.raises(HeadlabError):
        load_pickle(deep, ARRAY_GLOBALS)


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(HeadlabError, match="cannot be read"):
        load_pickle(tmp_path / "missing.pkl", ARRAY_GLOBALS)
    text = tmp_path / "text.npy"
    text.write_text("hello")
    with pytest.raises(HeadlabError, match=r"no \.npy"):
        load_object_npy(text, ARRAY_GLOBALS)
    np.save(text, np.arange(4))
    assert load_object_npy(text, ARRAY_GLOBALS).tolist() == [0, 1, 2, 3]
