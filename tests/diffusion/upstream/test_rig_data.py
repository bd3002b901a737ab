"""Stores of photos and buffers: the authors' pickles, ours without, and what is refused."""

import io
import pickle

import lmdb
import numpy as np
import pytest
import torch
from upstream_nets import Malicious

from headlab.datasets.lmdb_diffusionrig import RigRecord
from headlab.datasets.lmdb_store import close_reader
from headlab.diffusion.training import train
from headlab.diffusion.upstream.diffusionrig_data import RigDatabase, write_rig_database
from headlab.geometry.errors import HeadlabError
from headlab.geometry.files import encode_image
from headlab.geometry.safe_pickle import UnsafePickleError
from headlab.scripts.train_diffusionrig import TrainDiffusionRig


def records(count: int, size: int = 16) -> list[RigRecord]:
    generator = torch.Generator().manual_seed(0)
    photos = (torch.rand(count, 3, size, size, generator=generator) * 255).round() / 255
    maps = torch.randn(count, 3, 3, size, size, generator=generator)
    return [RigRecord(photo, *three) for photo, three in zip(photos, maps, strict=True)]


def published(path, items, spoiled=None):
    """As create_data.py writes it."""
    with lmdb.open(str(path), map_size=1 << 26) as environment, environment.begin(write=True) as transaction:
        for i, record in enumerate(items):
            transaction.put(f"image_{i:06d}".encode(), encode_image(record.image, "PNG"))
            for name in ("rendered", "normal", "albedo"):
                value = getattr(record, name) if (name, i) != spoiled else Malicious()
                transaction.put(f"{name}_{i:06d}".encode(), pickle.dumps(value))
        transaction.put(b"length", str(len(items)).encode())
    return path


@pytest.mark.parametrize("ours", [False, True])
def test_both_kinds_of_stores_give_the_same(tmp_path, ours):
    items = records(3)
    path = tmp_path / "store"
    if ours:
        assert write_rig_database(path, iter(items)) == 3
        with lmdb.open(str(path), readonly=True, lock=False) as environment, environment.begin() as transaction:
            value = transaction.get(b"normal_000001")
        assert np.array_equal(np.load(io.BytesIO(value), allow_pickle=False), items[1].normal.numpy())
        with pytest.raises(HeadlabError, match="holds a store already"):
            write_rig_database(path, items)
    else:
        published(path, items)
    data = RigDatabase(path)
    assert data.count == 3
    batch = data.load(torch.tensor([2, 0]))
    torch.testing.assert_close(batch.photo, torch.stack([items[2].image, items[0].image]) * 2 - 1, atol=1e-6, rtol=0)
    assert torch.equal(batch.buffers[0], torch.cat([items[2].rendered, items[2].normal, items[2].albedo]))
    close_reader(path)


def test_bad_stores(tmp_path):
    path = published(tmp_path / "malicious", records(2), ("albedo", 1))
    data = RigDatabase(path)
    data.load(torch.tensor([0]))
    with pytest.raises(UnsafePickleError, match="eval"):
        data.load(torch.tensor([1]))
    close_reader(path)
    with pytest.raises(HeadlabError, match=r"no data\.mdb"):
        RigDatabase(tmp_path / "none")
    with pytest.raises(HeadlabError, match="no photos to write"):
        write_rig_database(tmp_path / "empty", [])
    (tmp_path / "cut").mkdir()
    whole = (path / "data.mdb").read_bytes()
    (tmp_path / "cut/data.mdb").write_bytes(whole[:50])
    with pytest.raises(HeadlabError, match="damaged"):
        RigDatabase(tmp_path / "cut")
    big, small = records(1, 16), records(1, 8)
    write_rig_database(tmp_path / "sizes", [*big, *small])
    with pytest.raises(HeadlabError, match="several sizes"):
        RigDatabase(tmp_path / "sizes").load(torch.tensor([0, 1]))


def test_the_command_trains_both_stages(tmp_path, capsys):
    """A tiny network, through the command's own settings."""
    from dataclasses import replace

    from upstream_nets import small_rig_config

    from headlab.diffusion.upstream.diffusionrig import DiffusionRig, load_diffusionrig, save_diffusionrig
    from headlab.diffusion.upstream.diffusionrig_training import DiffusionRigTask, published_training

    write_rig_database(tmp_path / "store", records(4, 32))
    network = DiffusionRig(small_rig_config(size=32, multipliers=(1, 1), attention=(16,), blocks=1))
    config = replace(published_training(1), steps=2, batch=2, cpu=True, log_every=1)
    train(DiffusionRigTask(network, RigDatabase(tmp_path / "store")), config, tmp_path / "one")
    start = tmp_path / "one/weights/model.pt"
    before = load_diffusionrig(start)
    command = TrainDiffusionRig(tmp_path / "store", tmp_path / "two", 2, start, steps=2, batch=2, cpu=True)
    assert command.config().rate == 1e-5 and TrainDiffusionRig(start, start).config().steps == 50_000
    command.run()
    after = load_diffusionrig(tmp_path / "two/weights/model.pt")
    same = {k: torch.equal(v, after.state_dict()[k]) for k, v in before.state_dict().items()}
    assert all(same[k] for k in same if k.startswith("encoder.") and "running" not in k and "tracked" not in k)
    assert not same["encoder.bn1.running_mean"] and not same["denoisingUNet.out.2.weight"]
    assert "2 steps, 4 samples, 1.00 epochs of 4 photos" in capsys.readouterr().out
    with pytest.raises(HeadlabError, match=r"--start model\.pt"):
        TrainDiffusionRig(tmp_path / "store", tmp_path / "three", 2).network()
    with pytest.raises(HeadlabError, match="no layout of 100 pixels"):
        TrainDiffusionRig(tmp_path / "store", tmp_path / "three", size=100).network()
    fresh = TrainDiffusionRig(tmp_path / "store", tmp_path / "three", size=64, channels=32).network()
    assert fresh.config.unet.multipliers == (1, 2, 3, 4)
    save_diffusionrig(fresh, tmp_path / "fresh.pt")
    assert load_diffusionrig(tmp_path / "fresh.pt").config == fresh.config
    close_reader(tmp_path / "store")
