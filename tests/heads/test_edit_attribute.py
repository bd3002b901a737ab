"""`headlab train classifier` and `headlab edit-attribute` with a tiny autoencoder: files in, files out, refusals."""

import csv
import json

import pytest
import torch
from upstream_nets import filled_diffae, small_diffae_config

from headlab.diffusion.upstream.classifier import AFFECTNET, LatentClassifier, load_classifier
from headlab.diffusion.upstream.diffae_edit import DiffAEEditor
from headlab.diffusion.upstream.diffae_files import LatentStatistics, load_latents, save_diffae
from headlab.diffusion.upstream.labelled import labelled_faces
from headlab.geometry.errors import HeadlabError, MissingAssetError
from headlab.geometry.files import write_png
from headlab.heads.edit_attribute import AttributeEditConfig, edit_crop
from headlab.scripts.edit_attribute import EditAttribute, edit_attribute_command
from headlab.scripts.train_classifier import TrainClassifier, classifier_command

SIZE = 32


@pytest.fixture(scope="module")
def network():
    return filled_diffae(small_diffae_config((1, 1), (1, 1, 1), 16, size=SIZE, blocks=1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, network):
    """A checkpoint, and pictures with labels: two pictures, each under noise."""
    root = tmp_path_factory.mktemp("attributes")
    save_diffae(network, root / "last.ckpt")
    rows = []
    generator = torch.Generator().manual_seed(0)
    two = 0.9 * torch.rand(2, 3, 40, 48, generator=generator)
    for i in range(24):
        other = i % 2
        picture = two[other] + 0.04 * torch.rand(3, 40, 48, generator=generator)
        write_png(root / f"{i}.png", picture)
        rows.append((f"{i}.png", "Happy" if other else "Sad", other, 1 - other))
    for name, columns in (("one.csv", ("file", "label")), ("many.csv", ("file", "Other", "First"))):
        with (root / name).open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(columns)
            table.writerows([row[:2] if len(columns) == 2 else (row[0], *row[2:]) for row in rows])
    return root


@pytest.mark.parametrize("table", ["one.csv", "many.csv"])
def test_train_and_edit(folder, tmp_path, table):
    """The classifier tells the two apart, and moving along its row moves the code's probability that way."""
    options = TrainClassifier(
        str(folder / table),
        tmp_path / "cls",
        folder / "last.ckpt",
        epochs=120.0,
        rate=1e-2,
        held_out=0.25,
        encode_batch=5,
    )
    report = classifier_command(options)
    assert report["faces"] == 24 and report["trained_on"] == 18 and "epochs" in report["budget"]
    assert report["samples"] == report["steps"] * 32
    assert report["loss"] == ("softmax" if table == "one.csv" else "bce")
    assert report["balance"] == ("sampling" if table == "one.csv" else "none")
    assert min(report["recall"].values()) > 0.9
    classifier = load_classifier(tmp_path / "cls/classifier.safetensors")
    wanted = ("Happy", "Sad") if table == "one.csv" else ("Other", "First")
    assert classifier.names == wanted
    _, codes = load_latents(tmp_path / "cls/latent.pkl")
    assert codes is not None and codes.shape == (24, 64)
    edit = EditAttribute(
        folder / "0.png",
        tmp_path / "edit",
        (wanted[0],),
        (0.8,),
        folder / "last.ckpt",
        tmp_path / "cls/classifier.safetensors",
        aligned=True,
        invert_steps=5,
        decode_steps=5,
    )
    told = edit_attribute_command(edit)
    was, now = (told["probability"][when][wanted[0]] for when in ("before", "after"))
    assert now > 0.95 and now > was + 0.1
    from headlab.datasets.photo import read_photo

    assert read_photo(tmp_path / "edit/edited.png").image.shape == (3, 40, 40)
    assert read_photo(tmp_path / "edit/strip.png").image.shape == (3, SIZE, 3 * SIZE)
    assert json.loads((tmp_path / "edit/report.json").read_text())["amounts"] == {wanted[0]: 0.8}
    edit.__class__(**{**edit.__dict__, "overwrite": True}).run()


def test_a_photo_is_edited_in_its_crop(folder, tmp_path, network, astronaut, detector):
    """Through the face's alignment, into the photo; outside the crop it stays bit by bit."""
    from headlab.datasets.photo import read_photo

    names = ("Smiling", "Young")
    weight = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    statistics = LatentStatistics(torch.zeros(64), torch.ones(64))
    LatentClassifier(names, weight, torch.zeros(2), statistics).save(tmp_path / "c.safetensors")
    write_png(tmp_path / "photo.png", astronaut)
    options = EditAttribute(
        tmp_path / "photo.png",
        tmp_path / "out",
        names,
        (0.3, -0.2),
        folder / "last.ckpt",
        tmp_path / "c.safetensors",
        invert_steps=5,
        decode_steps=5,
    )
    edit_attribute_command(options)
    edited, photo = (read_photo(tmp_path / name).image for name in ("out/edited.png", "photo.png"))
    changed = (edited != photo).any(0)
    assert edited.shape == photo.shape and 0.02 < float(changed.float().mean()) < 0.6
    rows, columns = changed.any(1).nonzero()[:, 0], changed.any(0).nonzero()[:, 0]
    assert rows[0] > 5 and columns[0] > 60 and columns[-1] < 420  # about the face, in the upper middle
    with pytest.raises(HeadlabError, match="knows no 'Tall'"):
        edit_attribute_command(
            EditAttribute(**{**options.__dict__, "attribute": ("Tall",), "amount": (0.1,), "out": tmp_path / "x"})
        )
    with pytest.raises(HeadlabError, match="one amount, or one each"):
        edit_attribute_command(EditAttribute(**{**options.__dict__, "amount": (1.0, 2.0, 3.0), "out": tmp_path / "x"}))
    other = LatentClassifier(("a",), torch.randn(1, 8), torch.zeros(1), LatentStatistics(torch.zeros(8), torch.ones(8)))
    with pytest.raises(HeadlabError, match="codes of 8 numbers"):
        edit_crop(DiffAEEditor(network), other, torch.rand(3, SIZE, SIZE), {"a": 1.0})
    with pytest.raises(HeadlabError, match="crops of 32 pixels"):
        edit_crop(DiffAEEditor(network), other, torch.rand(3, 16, 16), {"a": 1.0})


def test_no_change_is_the_reconstruction(network):
    classifier = LatentClassifier(
        ("a",), torch.ones(1, 64), torch.zeros(1), LatentStatistics(torch.zeros(64), torch.ones(64))
    )
    crop = torch.rand(3, SIZE, SIZE)
    made = edit_crop(DiffAEEditor(network), classifier, crop, {"a": 0.0}, AttributeEditConfig(5, 5))
    torch.testing.assert_close(made.after, made.reconstructed, atol=1e-5, rtol=0)
    assert made.was == pytest.approx(made.now)


def test_what_is_missing_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADLAB_ASSETS", str(tmp_path / "assets"))
    with pytest.raises(MissingAssetError, match="DiffAE autoencoder, 256 pixels"):
        edit_attribute_command(EditAttribute(folder / "0.png", tmp_path / "out", ("Smiling",)))
    with pytest.raises(MissingAssetError, match="classifier of DiffAE"):
        edit_attribute_command(
            EditAttribute(folder / "0.png", tmp_path / "out", ("Smiling",), autoencoder=folder / "last.ckpt")
        )
    assert not (tmp_path / "out").exists()


def test_tables_of_labels(folder, tmp_path):
    faces = labelled_faces(str(folder / "one.csv"), SIZE)
    assert faces.single and faces.names == ("Happy", "Sad") and faces.counts() == {"Happy": 12, "Sad": 12}
    assert faces.load(torch.tensor([0, 1])).shape == (2, 3, SIZE, SIZE)
    many = labelled_faces(str(folder / "many.csv"), SIZE)
    assert not many.single and many.labels.sum().item() == 24
    for text, message in (
        ("file,label\n", "no table of labels"),
        ("file,label\n../x.png,a\n", "leads out"),
        ("file,label\nnone.png,a\n", "is not there"),
        ("file,A,B\nx.png,1,2\n", "1 .yes. and 0"),
    ):
        (tmp_path / "t.csv").write_text(text)
        write_png(tmp_path / "x.png", torch.zeros(3, 4, 4))
        with pytest.raises(HeadlabError, match=message):
            labelled_faces(str(tmp_path / "t.csv"), SIZE)


def test_affectnet_and_celeba_hq_in_their_layouts(tmp_path):
    """Sets written in the published layouts: labels, counts, crops by landmarks."""
    import numpy as np

    from headlab.datasets.layouts import Sketch, write_layout

    chance = np.random.default_rng(0)
    turn = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    points = np.stack([30 + 14 * np.cos(turn), 30 + 16 * np.sin(turn)], 1).astype(np.float32)
    points[36:42], points[42:48] = [24, 26], [36, 26]
    points[48], points[54] = [26, 38], [34, 38]
    sketches = [
        Sketch(chance.integers(0, 255, (64, 60, 3), np.uint8).astype(np.uint8), points, expression=i % 8)
        for i in range(20)
    ]
    write_layout(tmp_path / "affectnet", "affectnet", sketches)
    faces = labelled_faces(f"affectnet:{tmp_path / 'affectnet'}?split=train", SIZE)
    assert faces.names == AFFECTNET and faces.count == 16 and sum(faces.counts().values()) == 16
    aligned, whole = (
        faces.load(torch.tensor([0])),
        labelled_faces(f"affectnet:{tmp_path / 'affectnet'}?split=train", SIZE, aligned=True).load(torch.tensor([0])),
    )
    assert aligned.shape == (1, 3, SIZE, SIZE) and float((aligned - whole).abs().mean()) > 0.05
    write_layout(tmp_path / "celeba", "celeba-hq", sketches)
    faces = labelled_faces(f"celeba-hq:{tmp_path / 'celeba'}", SIZE)
    assert not faces.single and len(faces.names) == 40 and faces.labels.shape == (faces.count, 40)
