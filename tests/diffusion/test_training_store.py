"""Any data set as training data: pictures, labels, balance, fits with maps drawn when they are needed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn_faces import drawn_faces
from small_diffusion import DENOISER, small_diffusion

from headlab.datasets.attached_fit import fit_told
from headlab.datasets.balance import Balance
from headlab.datasets.convert import convert
from headlab.datasets.kinds import DataSpec
from headlab.datasets.layouts import write_layout
from headlab.datasets.lmdb_diffusionrig import DiffusionRigLmdb
from headlab.datasets.records import Fault
from headlab.datasets.store_targets import LmdbTarget
from headlab.diffusion.attached_maps import AttachedMaps
from headlab.diffusion.rig_store import RigTarget
from headlab.diffusion.training import TrainingConfig, train
from headlab.diffusion.training_denoiser import DenoiserTask, DenoiserTaskConfig, DropoutConfig
from headlab.diffusion.training_store import StoreLatents, open_store_pictures
from headlab.geometry.camera import FRONTAL, Camera
from headlab.geometry.errors import HeadlabError
from headlab.heads.attached_fits import with_fits
from headlab.heads.head_fit import HeadFit
from headlab.scripts.train import TrainAutoencoder, TrainDenoiser


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    write_layout(folder / "a", "affectnet", drawn_faces(20))
    convert(DataSpec.parse(f"affectnet:{folder}/a").items(), LmdbTarget(folder / "l", (64,)))
    return folder


@pytest.fixture(scope="module")
def maps(default_head):
    return AttachedMaps("default", default_head)


@pytest.fixture(scope="module")
def fitted(root, default_head):
    """The store again; the first two pictures have fits."""
    code = default_head.neutral()
    middle = default_head.vertices(code)[default_head.regions["face"] > 0.5].mean(0)
    at = torch.tensor([0.0, 0.0, 0.5])
    K = torch.tensor([[120.0, 0, 48], [0, 120, 48], [0, 0, 1]])
    R = torch.tensor(FRONTAL)
    camera = Camera(K, R, at - R @ middle, (96, 96))
    codes = code.map(lambda value: value[None])
    for key in ("train/0", "train/1"):
        (root / "fits" / key).mkdir(parents=True)
        HeadFit("default", codes, (camera,), None, ("photo.jpg",)).save(root / "fits" / key / "head.npz")
    items = list(with_fits(DataSpec.parse(f"affectnet:{root}/a").items(), root / "fits"))
    convert(items, LmdbTarget(root / "f", (64,)))
    return items


def test_pictures_come_both_ways_round_with_their_labels(root):
    store = open_store_pictures(f"lmdb:{root}/l", 64)
    assert store.count == 40 and store.order.length == 40
    pair = store.load(torch.tensor([6, 7]))
    assert pair.shape == (2, 3, 64, 64) and torch.equal(pair[0].flip(-1), pair[1])
    assert pair.min() >= -1 and pair.max() <= 1
    table = open_store_pictures(f"affectnet:{root}/a", 64)
    assert torch.equal(table.labels.emotion, store.labels.emotion) and (table.labels.emotion >= 0).all()
    assert torch.allclose(table.labels.valence_arousal, store.labels.valence_arousal)
    with pytest.raises(HeadlabError, match="64 to 512"):
        open_store_pictures(f"lmdb:{root}/l", 32)


def test_balanced_samples_are_even_and_weights_enter_the_loss(root):
    even = open_store_pictures(f"lmdb:{root}/l", 64, balance=Balance("oversample"))
    drawn = even.order[np.arange(even.order.length)] // 2
    counts = np.bincount(even.labels.emotion.numpy()[drawn])
    assert set(counts) == {counts[0]}
    system = small_diffusion()
    config = DenoiserTaskConfig(system.config, DropoutConfig(*(0.0,) * 7), weighting="plain")
    losses = []
    for rule in ("none", "weights"):
        store = open_store_pictures(f"lmdb:{root}/l", 64, channels=4, balance=Balance(rule))
        small = StoreLatents(store, system.vae, system.config.denoiser.expressions)
        batch = small.load(torch.tensor([0, 3]))
        assert batch.given.emotion.tolist() == store.labels.emotion[[0, 1]].tolist()
        assert batch.latents.shape == (2, 3, 16, 16) and batch.given.capture is None
        assert batch.given.expression.isnan().all()
        losses.append((batch.weight, store.labels.weight))
    assert losses[0][0].tolist() == [1, 1] and losses[1][1].mean() == pytest.approx(1)
    task = DenoiserTask(config, system, small)
    assert task.order is small.order


def test_fits_are_attached_and_their_maps_drawn(fitted, root, maps):
    assert not any(isinstance(item, Fault) for item in fitted)
    store = open_store_pictures(f"lmdb:{root}/f", 64, channels=4)
    store.maps["default"] = maps
    assert sorted(store.labels.fits) == [0, 1]
    seen = store.conditions(torch.tensor([0, 1, 4]))
    assert seen.shape == (3, 11, 64, 64) and torch.equal(seen[0], seen[1]) and not seen[2].any()
    mask = seen[0, 10]
    columns = torch.where(mask > 0.5)[1]
    assert 0.15 < mask.mean() < 0.9 and abs(columns.float().mean() - 32) < 3  # the head is in the middle
    pictures = store.load(torch.tensor([0, 1, 5]))
    assert torch.equal(pictures[0], pictures[1])  # not mirrored: its fit is not, either
    assert torch.allclose(pictures[0, 3] / 2 + 0.5, seen[0, 9]) and (pictures[2, 3] == -1).all()
    normal = seen[0, 3:6][:, mask == 1]
    assert normal[2].mean() > 0.5  # towards the camera
    fit = store.fit(0)
    assert fit is not None and fit.camera.size == (64, 64)
    with pytest.raises(HeadlabError, match="fit again"):
        AttachedMaps("other", maps.model).conditions(fit, 64)


def test_maps_are_stored_as_diffusionrig_has_them(fitted, root, maps, tmp_path):
    report = convert(fitted, RigTarget(tmp_path, 64, maps=maps, part=3))
    assert report.written == 20  # taken up; those without a fit are named in the list
    store = DiffusionRigLmdb(tmp_path)
    assert len(store) == 2
    record = store[1]
    assert record.image.shape == record.normal.shape == (3, 64, 64)
    assert record.normal.abs().max() <= 1.01 and not record.albedo[:, 0, 0].any()
    text = (tmp_path / "items.jsonl").read_text()
    assert text.count("no fit to draw") == 18
    again = convert(fitted, RigTarget(tmp_path, 64, maps=maps))
    assert again.before == 2 and len(DiffusionRigLmdb(tmp_path)) == 2
    with pytest.raises(HeadlabError, match="no picture has a fit"):
        convert(fitted[2:4], RigTarget(tmp_path / "none", 64, maps=maps))


def test_fits_of_other_photos_are_named(root, default_head, tmp_path):
    (tmp_path / "train/2").mkdir(parents=True)
    (tmp_path / "train/2/head.npz").write_bytes(b"broken")
    items = list(with_fits(DataSpec.parse(f"affectnet:{root}/a").items(), tmp_path))
    assert [str(item.key) for item in items if isinstance(item, Fault)] == ["train/2"]
    with pytest.raises(HeadlabError, match="no folder"):
        list(with_fits([], tmp_path / "none"))
    told = fit_told("default", default_head.neutral(), Camera(torch.eye(3), torch.eye(3), torch.zeros(3), (96, 96)))
    assert told["size"] == [96, 96]


def test_the_commands_train_on_a_data_set(root, tmp_path):
    step = TrainingConfig(steps=2, batch=2, save_every=10, picture_every=10, cpu=True)
    first = TrainAutoencoder(
        None, tmp_path / "a", data=f"lmdb:{root}/l", widths=(8, 8, 16), latents=3, perceptual=0.0, training=step
    )
    first.run()
    TrainDenoiser(None, tmp_path / "d", data=f"lmdb:{root}/l", autoencoder=tmp_path / "a/weights", training=step).run()
    assert (tmp_path / "d/weights").is_dir()
    with pytest.raises(HeadlabError, match="--data KIND:PATH"):
        TrainAutoencoder(None, tmp_path / "b").run()
    with pytest.raises(HeadlabError, match="either"):
        TrainDenoiser(tmp_path, tmp_path / "b", data="lmdb:x").run()


def test_a_run_on_a_store_goes_on_as_if_it_had_not_stopped(root, tmp_path):
    def run(folder, steps):
        system = small_diffusion(denoiser=replace(DENOISER, size=64))
        store = open_store_pictures(f"lmdb:{root}/l", 64, channels=4, balance=Balance("oversample"))
        data = StoreLatents(store, system.vae, system.config.denoiser.expressions)
        rows = []
        config = TrainingConfig(
            steps=steps, batch=3, save_every=2, picture_every=99, decay="constant", warmup=1, cpu=True
        )
        train(DenoiserTask(DenoiserTaskConfig(system.config), system, data), config, folder, callback=rows.append)
        return [row["simple"] for row in rows]

    whole = run(tmp_path / "a", 4)
    assert run(tmp_path / "b", 2) == whole[:2] and run(tmp_path / "b", 4) == whole[2:]
