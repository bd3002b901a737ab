"""Stores: the authors' layouts byte for byte, nothing lost when the map or the disk is full, safe values."""

import errno
import io
import os
import pickle
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch
from drawn_faces import drawn_face
from PIL import Image

from headlab.datasets.lmdb_diffae import CELEBA, FFHQ, DiffaeLayout, DiffaeLmdb, encode_diffae, write_diffae
from headlab.datasets.lmdb_diffusionrig import (
    DiffusionRigLmdb,
    RigRecord,
    read_tensor_pickle,
    tensor_pickle,
    write_diffusionrig,
    write_mean_shape,
)
from headlab.datasets.lmdb_store import LmdbReader, LmdbWriter
from headlab.datasets.store_records import LmdbPictures, read_lmdb
from headlab.geometry.errors import HeadlabError
from headlab.geometry.safe_pickle import UnsafePickleError


def picture(width: int = 150, height: int = 120) -> Image.Image:
    return Image.fromarray(drawn_face(0, 150).pixels).resize((width, height))


def authors_bytes(image: Image.Image, size: int) -> bytes:
    """What DiffAE's converter stores, written out anew: resize the shorter side, crop the middle, JPEG 100."""
    w, h = image.size
    image = image.resize((size, int(size * h / w)) if w < h else (int(size * w / h), size), Image.Resampling.LANCZOS)
    w, h = image.size
    left, top = round((w - size) / 2.0), round((h - size) / 2.0)
    image = image.crop((left, top, left + size, top + size))
    buffer = io.BytesIO()
    image.save(buffer, format="jpeg", quality=100)
    return buffer.getvalue()


@pytest.mark.parametrize("width, height", [(150, 120), (90, 131), (64, 64), (400, 300)])
def test_pictures_are_encoded_as_diffae_does(width, height):
    image = picture(width, height)
    assert encode_diffae(image, DiffaeLayout(64)) == authors_bytes(image, 64)


def test_diffaes_store_byte_for_byte(tmp_path):
    values = [encode_diffae(picture(150 + i, 120)) for i in range(3)]
    with LmdbWriter(tmp_path / "ours") as writer:
        write_diffae(writer, dict(enumerate(values)), FFHQ, 3)
    with lmdb.open(str(tmp_path / "theirs"), map_size=1 << 26) as env, env.begin(write=True) as transaction:
        for i, value in enumerate(values):
            transaction.put(f"256-{str(i).zfill(5)}".encode(), value)
        transaction.put(b"length", b"3")

    def everything(path: Path) -> dict[bytes, bytes]:
        with lmdb.open(str(path), readonly=True, lock=False) as env, env.begin() as transaction:
            return dict(transaction.cursor())

    assert everything(tmp_path / "ours") == everything(tmp_path / "theirs")
    store = DiffaeLmdb(tmp_path / "theirs")
    assert len(store) == 3 and store[1] == values[1] and store.layout.size == 256
    assert list(store.indices()) == [0, 1, 2]


def test_other_layouts_and_several_sizes(tmp_path):
    with LmdbWriter(tmp_path) as writer:
        write_diffae(writer, {0: encode_diffae(picture(), DiffaeLayout(64))}, DiffaeLayout(64), 1)
        write_diffae(writer, {0: encode_diffae(picture(), DiffaeLayout(128))}, DiffaeLayout(128), 1)
        write_diffae(writer, {0: encode_diffae(picture(), CELEBA)}, CELEBA, 1)
        assert writer.get(b"None-0000000")[:4] == b"RIFF"
    assert Image.open(io.BytesIO(DiffaeLmdb(tmp_path)[0])).size == (128, 128)
    assert Image.open(io.BytesIO(DiffaeLmdb(tmp_path, 64)[0])).size == (64, 64)
    with pytest.raises(HeadlabError, match="64, 128"):
        DiffaeLmdb(tmp_path, 256)


def test_two_items_of_one_index_are_refused_and_nothing_is_written(tmp_path):
    with LmdbWriter(tmp_path) as writer:
        write_diffae(writer, {0: b"a", 1: b"b"}, FFHQ, 2)
        with pytest.raises(HeadlabError, match="256-00001"):
            write_diffae(writer, {2: b"c", 1: b"d"}, FFHQ, 4)
        assert writer.get(b"256-00002") is None and writer.get(b"length") == b"2"


def test_a_full_map_grows_and_a_limit_stops_with_all_that_was_committed(tmp_path):
    block = os.urandom(1 << 20)
    with LmdbWriter(tmp_path / "a") as writer:
        writer._env.set_mapsize(1 << 21)
        for i in range(6):
            write_diffae(writer, {i: block}, FFHQ, i + 1)
    assert DiffaeLmdb(tmp_path / "a")[5] == block
    with LmdbWriter(tmp_path / "b", most_bytes=3 << 20) as writer:
        with pytest.raises(HeadlabError, match="is full at 3 MB"):
            for i in range(6):
                write_diffae(writer, {i: block}, FFHQ, i + 1)
        done = int(writer.get(b"length"))
    assert 0 < done < 6 and len(DiffaeLmdb(tmp_path / "b")) == done
    with LmdbWriter(tmp_path / "b") as writer:  # and goes on without the limit
        for i in range(done, 6):
            write_diffae(writer, {i: block}, FFHQ, i + 1)
    assert DiffaeLmdb(tmp_path / "b")[5] == block


def test_no_space_left_is_said(tmp_path, monkeypatch):
    with LmdbWriter(tmp_path) as writer:

        class Full:
            def begin(self, write=False):
                raise lmdb.Error(f"mdb_txn_commit: {os.strerror(errno.ENOSPC)}")

        real, writer._env = writer._env, Full()
        with pytest.raises(HeadlabError, match="no space left"):
            writer.commit({b"a": b"b"})
        writer._env = real


def test_a_second_writer_is_refused(tmp_path):
    with LmdbWriter(tmp_path), pytest.raises(HeadlabError, match="another process"):
        LmdbWriter(tmp_path)


def test_readers_survive_a_fork_and_name_damage(tmp_path):
    with LmdbWriter(tmp_path / "s") as writer:
        write_diffae(writer, {0: b"a", 2: b"c"}, FFHQ, 3)
    reader = LmdbPictures(tmp_path / "s")
    assert reader.encoded([0, 1, 2]) == [b"a", None, b"c"]
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if reader.encoded([2]) == [b"c"] else 1)
        except BaseException:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert [getattr(item, "kind", None) for item in read_lmdb(tmp_path / "s")] == [None, "missing picture", None]
    (tmp_path / "d").mkdir()
    (tmp_path / "d/data.mdb").write_bytes(b"x" * 9000)
    with pytest.raises(HeadlabError, match="damaged"):
        LmdbReader(tmp_path / "d")
    with LmdbWriter(tmp_path / "e") as writer:
        writer.commit({b"length": b"many"})
    with pytest.raises(HeadlabError, match="no count"):
        DiffaeLmdb(tmp_path / "e")


def record(seed: int = 0) -> RigRecord:
    generator = torch.Generator().manual_seed(seed)
    image = (torch.rand(3, 8, 8, generator=generator) * 255).round() / 255
    return RigRecord(image, *(torch.randn(3, 8, 8, generator=generator) for _ in range(3)))


def test_diffusionrigs_store_is_read_and_written(tmp_path):
    with LmdbWriter(tmp_path / "ours") as writer:
        write_diffusionrig(writer, {0: record(0), 1: record(1)}, 2)
    write_mean_shape(tmp_path / "ours", torch.ones(1, 100))
    raw = LmdbReader(tmp_path / "ours")
    assert torch.equal(pickle.loads(raw.get(b"normal_000001")), record(1).normal)  # as its authors read it
    with lmdb.open(str(tmp_path / "theirs"), map_size=1 << 26) as env, env.begin(write=True) as transaction:
        for name in ("image", "normal", "albedo", "rendered"):
            value = getattr(record(), name)
            key = f"{name}_{str(0).zfill(6)}".encode()
            if name == "image":
                buffer = io.BytesIO()
                Image.fromarray((value * 255).round().byte().permute(1, 2, 0).numpy()).save(buffer, "PNG")
                transaction.put(key, buffer.getvalue())
            else:
                transaction.put(key, pickle.dumps(value))
        transaction.put(b"length", b"1")
    for folder in ("ours", "theirs"):
        read = DiffusionRigLmdb(tmp_path / folder)[0]
        for name in ("image", "normal", "albedo", "rendered"):
            assert torch.allclose(getattr(read, name), getattr(record(), name), atol=1e-6)
        assert torch.equal(read.conditions()[3:6], record().normal)
    assert DiffusionRigLmdb(tmp_path / "ours").mean_shape().shape == (1, 100)
    assert DiffusionRigLmdb(tmp_path / "theirs").mean_shape() is None


class Bomb:
    def __reduce__(self):
        return os.system, ("true",)


def test_malicious_and_damaged_values_are_refused(tmp_path):
    with pytest.raises(UnsafePickleError, match="system"):
        read_tensor_pickle(pickle.dumps(Bomb()), "value")
    with pytest.raises(HeadlabError):
        read_tensor_pickle(pickle.dumps(torch.ones(3))[:-20], "value")
    with pytest.raises(HeadlabError, match="no tensor"):
        read_tensor_pickle(pickle.dumps([1, 2]), "value")
    whole = torch.arange(1000.0)
    assert len(tensor_pickle(whole[:3])) < 1500  # nothing of the rest is stored
    with LmdbWriter(tmp_path) as writer:
        write_diffusionrig(writer, {0: record()}, 2)
    with pytest.raises(HeadlabError, match="number 1 has no image"):
        DiffusionRigLmdb(tmp_path)[1]
    with LmdbWriter(tmp_path / "n") as writer, pytest.raises(HeadlabError, match="NaN"):
        broken = record()
        write_diffusionrig(writer, {0: RigRecord(broken.image, broken.rendered / 0, broken.normal, broken.albedo)}, 1)


def test_values_saved_by_numpy_of_another_kind_are_refused():
    with pytest.raises(UnsafePickleError):
        read_tensor_pickle(pickle.dumps(np.ones(3)), "value")
