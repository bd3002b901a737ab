"""Evaluation commands end to end: real photos, and what goes wrong with folders."""

import json

import numpy as np
import pytest
import torch

from headlab.diffusion.upstream.iresnet import IResNet
from headlab.geometry.errors import HeadlabError
from headlab.geometry.files import write_png
from headlab.heads.metrics.chosen import load_networks
from headlab.heads.metrics.depth import evaluate_depth
from headlab.heads.metrics.emotions_of import evaluate_emotion
from headlab.heads.metrics.images import evaluate_images
from headlab.heads.metrics.iresnet import iresnet_from
from headlab.heads.metrics.network_files import NetworkFiles
from headlab.heads.metrics.people import evaluate_people, people_of


@pytest.fixture(scope="module")
def portraits(tmp_path_factory):
    """The astronaut, smaller, in two folders: as she is, and blurred; and a picture without a face."""
    from skimage.data import astronaut
    from torch.nn.functional import avg_pool2d

    folder = tmp_path_factory.mktemp("portraits")
    image = avg_pool2d(torch.from_numpy(astronaut()).permute(2, 0, 1)[None].float() / 255, 2)[0]
    blurred = avg_pool2d(image[None], 5, 1, 2, count_include_pad=False)[0]
    for side in ("before", "after"):
        (folder / side).mkdir()
    write_png(folder / "before/anna.png", image)
    write_png(folder / "after/anna.png", blurred)
    write_png(folder / "before/wall.png", torch.full((3, 64, 64), 0.5))
    write_png(folder / "after/wall.png", torch.full((3, 64, 60), 0.5))
    write_png(folder / "before/alone.png", image)
    return folder


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADLAB_ASSETS", str(tmp_path_factory.mktemp("assets")))
        yield load_networks(NetworkFiles())


@pytest.mark.slow
def test_images_before_and_after(portraits, networks, tmp_path):
    report = evaluate_images(portraits / "before", portraits / "after", networks)
    assert report.value("PSNR") > 20 and 0.5 < report.value("SSIM") < 1
    assert 0.3 < report.value("CSIM") < 1 and 0 < report.value("β drift") < 5
    names = {figure.name for figure in report.figures}
    assert not {"FID", "LPIPS", "CMMD", "IS"} & names  # never under another network's name
    missing = {m.name: m.command for m in report.missing}
    assert "--inception FILE" in missing["FID, rFID, IS"]
    assert any("of different sizes" in reason for reason in report.excluded)
    assert report.excluded["in one folder only: no pair (counted in the sets)"] == ["alone"]
    assert "wall.png" in report.excluded["no face found in one of the two: no identity, emotion"]
    report.write(tmp_path / "out")
    data = json.loads((tmp_path / "out/report.json").read_text())
    csim = next(f for f in data["figures"] if f["name"] == "CSIM")
    assert csim["network"]["name"] == "headlab identity" and len(csim["network"]["weights"]) == 12
    assert "headlab identity" in (tmp_path / "out/report.html").read_text()


@pytest.mark.slow
def test_one_person_has_no_error_rate(portraits, networks, tmp_path):
    (tmp_path / "anna").mkdir()
    for name in ("anna", "alone"):
        (tmp_path / "anna" / f"{name}.png").write_bytes((portraits / "before" / f"{name}.png").read_bytes())
    report = evaluate_people(tmp_path, networks)
    assert any("pictures of one person only" in m.why for m in report.missing)
    with pytest.raises(HeadlabError, match="lies in no person's folder"):
        people_of(tmp_path / "anna")


@pytest.mark.slow
def test_emotions_against_labels(portraits, networks, tmp_path):
    (tmp_path / "labels.csv").write_text("file,expression,valence,arousal\nanna.png,happy,0.8,0.3\nwall.png,1,0,0\n")
    report = evaluate_emotion(portraits / "before", tmp_path / "labels.csv", networks)
    assert report.value("expression accuracy") == 1  # she smiles
    assert report.excluded == {"no face found": ["wall.png"]}
    (tmp_path / "bad.csv").write_text("file,valence\nanna.png,3\n")
    with pytest.raises(HeadlabError, match=r"line 2: valence '3' is not within"):
        evaluate_emotion(portraits / "before", tmp_path / "bad.csv", networks)


def test_depth_folders(tmp_path):
    import cv2

    for side, depth in (("true", 1000), ("got", 1100)):
        (tmp_path / side).mkdir()
        cv2.imwrite(str(tmp_path / side / "a.png"), np.full((4, 4), depth, np.uint16))
        write_png(tmp_path / side / "grey.png", torch.zeros(3, 4, 4))
    report = evaluate_depth(tmp_path / "true", tmp_path / "got", 0.001)
    assert report.value("abs_rel") == pytest.approx(0.1) and report.value("rmse") == pytest.approx(0.1)
    assert report.excluded == {"no 16-bit PNG of one channel": ["grey.png"]}


def test_iresnet_reads_its_authors_keys():
    torch.manual_seed(0)
    trunk, qs = IResNet(18).eval(), torch.nn.Linear(512, 1)
    state = {f"module.{name}": value for name, value in trunk.state_dict().items()}
    state |= {f"module.qs.{name}": value for name, value in qs.state_dict().items()}
    faces = torch.rand(2, 3, 112, 112)
    with torch.inference_mode():
        vectors, quality = iresnet_from(state)(faces)
        assert torch.equal(vectors, trunk(faces)) and torch.equal(quality, qs(vectors)[:, 0])
    assert iresnet_from({n: v for n, v in state.items() if "qs" not in n})(faces)[1] is None
    with pytest.raises(HeadlabError, match=r"layer2\.1\.conv1\.weight"):
        iresnet_from({n: v for n, v in state.items() if "layer2.1.conv1" not in n})
    with pytest.raises(HeadlabError, match="no IResNet"):
        iresnet_from({"fc.weight": torch.zeros(1)})


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(HeadlabError, match="is not there"):
        load_networks(NetworkFiles(identity=tmp_path / "no.onnx"))
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(HeadlabError, match="no ONNX network"):
        load_networks(NetworkFiles(identity=tmp_path / "broken.onnx"))


@pytest.mark.slow
def test_the_portraits_at_hand(shared):
    """Genuine and impostor scores as data/README.md states them: same >= 0.37, different <= 0.23."""
    from headlab.heads.metrics.people import evaluate_people

    photos = shared / "data/photos"
    networks = load_networks(NetworkFiles(identity=shared / "data/models/identity_mobileface_v2.onnx"))
    assert networks.identity.card.sees.endswith("0..255")
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "people.csv"
        rows = "p05.jpg,B\np06.jpg,B\np07.jpg,O\np08.jpg,O\np01.jpg,S\n"
        table.write_text("file,person\n" + rows)
        report = evaluate_people(photos, networks, labels=table)
    assert report.value("EER") == 0 and report.value("FMR1000") == 0
    assert report.value("genuine CSIM") >= 0.37 and report.value("impostor CSIM") <= 0.23
    assert report.value("rank 1") == 1
