"""Every reader reads its data set's exact layout, as a stream, and names what is wrong."""

import json

import numpy as np
import pytest
from drawn_faces import drawn_faces

from headlab.datasets.affectnet import read_affectnet
from headlab.datasets.celeba_hq import read_celeba_hq
from headlab.datasets.ffhq import read_ffhq
from headlab.datasets.json_stream import json_members
from headlab.datasets.kinds import DataSpec
from headlab.datasets.label_table import label_table
from headlab.datasets.layouts import save_label, write_layout
from headlab.datasets.npy_scalar import NumberReader, parse_npy
from headlab.datasets.picture_folders import read_albums
from headlab.datasets.records import Fault, FaultReport, usable
from headlab.datasets.vhap import read_vhap
from headlab.datasets.video import write_video
from headlab.datasets.video_records import read_videos
from headlab.geometry.camera import Camera
from headlab.geometry.errors import HeadlabError

FACES = drawn_faces(10)


def faults(items) -> dict[str, str]:
    return {item.key: item.kind for item in items if isinstance(item, Fault)}


@pytest.mark.parametrize("layout", ["affectnet", "affectnet-csv"])
def test_affectnet_gives_back_what_was_written(tmp_path, layout):
    write_layout(tmp_path, layout, FACES)
    records = list(read_affectnet(tmp_path, "train"))
    given = [face for i, face in enumerate(FACES) if i % 5 != 4]
    assert [r.expression for r in records] == [f.expression for f in given]
    for record, face in zip(records, given, strict=True):
        assert record.valence == pytest.approx(face.valence, abs=1e-5) and record.split == "train"
        assert record.landmarks == pytest.approx(face.points, abs=0.02)
        assert np.abs(np.asarray(record.picture(), float) - face.pixels).mean() < 8
    assert len(list(read_affectnet(tmp_path))) == 10
    table = label_table(DataSpec.parse(f"affectnet:{tmp_path}"))
    everything = list(read_affectnet(tmp_path))
    assert table.keys == [r.key for r in everything]
    assert table.expression.tolist() == [r.expression for r in everything]
    assert table.valence == pytest.approx(np.array([r.valence for r in everything]), abs=1e-6)
    assert table.splits == {"train": 8, "val": 2}


def test_affectnet_names_bad_items_and_loses_no_other(tmp_path):
    write_layout(tmp_path, "affectnet", FACES)
    train = tmp_path / "train_set"
    (train / "annotations/1_val.npy").unlink()
    save_label(train / "annotations/2_exp.npy", 11)
    save_label(train / "annotations/3_aro.npy", 1.5)
    (train / "annotations/4_exp.npy").write_bytes(b"broken")
    (train / "images/5.png").write_bytes((train / "images/5.jpg").read_bytes())
    save_label(train / "annotations/6_exp.npy", 9)  # Uncertain
    save_label(train / "annotations/6_val.npy", -2)
    save_label(train / "annotations/6_aro.npy", -2)
    items = list(read_affectnet(tmp_path, "train"))
    assert faults(items) == {
        "train/1": "missing annotation",
        "train/2": "label out of range",
        "train/3": "label out of range",
        "train/4": "missing annotation",
        "train/5": "duplicate index",
    }
    assert [i.key for i in items if not isinstance(i, Fault)] == ["train/0", "train/7"]
    (uncertain,) = [i for i in read_affectnet(tmp_path, "train", only_usable=False) if i.key == "train/6"]
    assert uncertain.expression == 9 and np.isnan(uncertain.valence)
    table = label_table(DataSpec.parse(f"affectnet:{tmp_path}?split=train"))
    assert table.keys == ["train/0", "train/7"] and table.faults.total == 5
    report = FaultReport()
    assert len(list(usable(items, "skip", report))) == 2 and report.total == 5
    assert "train/2" in "\n".join(report.lines())
    with pytest.raises(HeadlabError, match=r"train/1.*1_val\.npy"):
        list(usable(items, "stop"))
    with pytest.raises(HeadlabError, match="train/"):
        label_table(DataSpec.parse(f"affectnet:{tmp_path}?split=train"), "stop")


def test_affectnets_table_names_bad_lines(tmp_path):
    write_layout(tmp_path, "affectnet-csv", FACES)
    lines = (tmp_path / "training.csv").read_text().splitlines()
    lines[2] = lines[2].rsplit(",", 2)[0]  # valence and arousal are missing
    lines[4] = lines[1]
    lines[5] = "../../etc/passwd,0,0,1,1,,1,0.5,0.5"
    (tmp_path / "training.csv").write_text("\n".join(lines) + "\n")
    kinds = sorted(faults(read_affectnet(tmp_path, "train")).values())
    assert kinds == ["duplicate index", "missing annotation", "missing picture"]
    table = label_table(DataSpec.parse(f"affectnet:{tmp_path}?split=train"))
    assert table.faults.counts["duplicate index"] == table.faults.counts["missing annotation"] == 1


def test_numbers_of_small_files_are_numpys(tmp_path):
    values = [3, -2, 0.25, np.float32(0.1), "7", "-0.0281", np.array([5]), np.array([[2.5]])]
    for i, value in enumerate(values):
        np.save(tmp_path / f"{i}.npy", np.array(value), allow_pickle=False)
    with NumberReader(tmp_path) as reader:
        assert [reader.read(f"{i}.npy") for i in range(8)] == [float(np.asarray(v).reshape(-1)[0]) for v in values]
        assert np.isnan(reader.read_all(["0.npy", "none.npy"])).tolist() == [False, True]
    np.save(tmp_path / "o.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="plain numbers"):
        parse_npy((tmp_path / "o.npy").read_bytes())


def test_ffhq_in_all_views_with_and_without_its_table(tmp_path):
    write_layout(tmp_path, "ffhq", FACES)
    aligned, wild = list(read_ffhq(tmp_path)), list(read_ffhq(tmp_path, "wild"))
    assert [r.number for r in aligned] == list(range(10)) and aligned[4].split == "val"
    assert wild[3].landmarks == pytest.approx(FACES[3].points, abs=0.01) and wild[3].quad.shape == (4, 2)
    assert np.array_equal(np.asarray(wild[3].picture()), FACES[3].pixels)
    assert len(list(read_ffhq(tmp_path, split="val"))) == 2
    assert next(iter(read_ffhq(tmp_path, "thumbnail"))).picture().size == (128, 128)
    (tmp_path / "ffhq-dataset-v2.json").unlink()
    assert [r.number for r in read_ffhq(tmp_path, "wild")] == list(range(10))
    (tmp_path / "images1024x1024/00000/00003.jpg").write_bytes(b"")
    assert faults(read_ffhq(tmp_path)) == {"ffhq/00003": "duplicate index"}
    with pytest.raises(HeadlabError, match="tells the split"):
        list(read_ffhq(tmp_path, split="val"))


def test_ffhqs_table_is_read_as_a_stream(tmp_path):
    table = {str(i): {"text": "x" * 5000, "list": [1.5, {"a": "}]"}], "n": i} for i in range(300)}
    path = tmp_path / "t.json"
    path.write_text(json.dumps(table))
    assert dict(json_members(path)) == table
    path.write_bytes(path.read_bytes()[:-3])
    members = json_members(path)
    assert next(members)[0] == "0"
    with pytest.raises(HeadlabError, match="cut short"):
        list(members)
    write_layout(tmp_path / "f", "ffhq", FACES[:3])
    cut = tmp_path / "f/ffhq-dataset-v2.json"
    cut.write_bytes(cut.read_bytes()[:-200])
    items = list(read_ffhq(tmp_path / "f"))
    assert [i.key for i in items] == ["ffhq/00000", "ffhq/00001", "ffhq-dataset-v2.json"] and isinstance(
        items[2], Fault
    )


def test_celeba_hq_attributes_pose_and_split(tmp_path):
    write_layout(tmp_path, "celeba-hq", FACES)
    records = list(read_celeba_hq(tmp_path))
    assert len(records) == 10 and len(records[0].attributes) == 40
    smiling = [bool(r.attributes[r.names.index("Smiling")]) for r in records]
    assert smiling == [face.expression == 1 for face in FACES]
    assert records[2].pose == (-18.0, -8.0, -3.0)
    assert [r.split for r in records[3:6]] == ["train", "val", "train"]
    assert len(list(read_celeba_hq(tmp_path, "val"))) == 2
    path = tmp_path / "CelebAMask-HQ-attribute-anno.txt"
    lines = path.read_text().splitlines()
    lines[3], lines[5] = lines[3][:-2], lines[5].replace("-1", "7", 1)
    path.write_text("\n".join(lines) + "\n")
    assert faults(read_celeba_hq(tmp_path)) == {"celeba/1": "missing annotation", "celeba/3": "label out of range"}


def test_albums_are_people_or_expressions(tmp_path):
    write_layout(tmp_path / "a", "album", FACES)
    records = list(read_albums(tmp_path / "a"))
    assert len(records) == 10 and {r.labels.person for r in records} == {f"person_{i}" for i in range(4)}
    write_layout(tmp_path / "c", "classes", FACES)
    assert sorted(r.labels.expression for r in read_albums(tmp_path / "c", classes=True)) == sorted(
        f.expression for f in FACES
    )
    (tmp_path / "c/Happy").rename(tmp_path / "c/odd")
    assert set(faults(read_albums(tmp_path / "c", classes=True)).values()) == {"missing annotation"}


def test_videos_give_frames_and_go_on_after_a_damaged_one(tmp_path):
    write_video(tmp_path / "one.mp4", iter([face.pixels for face in FACES]), 10)
    (tmp_path / "two.mp4").write_bytes(b"nothing")
    items = list(read_videos(tmp_path, every=3))
    assert [getattr(i, "frame", None) for i in items] == [0, 3, 6, 9, None]
    assert faults(items) == {"two.mp4": "unreadable"}
    assert items[1].time == pytest.approx(0.3, abs=1e-3) and items[0].pixels.shape == (96, 96, 3)


def test_vhap_cameras_look_at_the_head(tmp_path):
    write_layout(tmp_path / "seq", "vhap", FACES[:6])
    records = list(read_vhap(tmp_path))
    assert len(records) == 6 and records[0].person == "seq"
    assert len(list(read_vhap(tmp_path / "seq", "train"))) == 4
    import torch

    for record in records[:2]:
        T = torch.from_numpy(record.T_camera_world)
        camera = Camera(torch.from_numpy(record.K), T[:3, :3], T[:3, 3], record.size)
        points = torch.tensor([[0.0, 0, 0], [0, 0.05, 0]], dtype=torch.float64)
        seen = camera.project(points)
        assert seen[0].tolist() == pytest.approx([48, 48])  # the origin in the middle,
        assert seen[1, 1] < seen[0, 1]  # and up is up
    assert records[0].mask().shape == (96, 96) and records[0].parameters()["expr"].shape == (1, 100)
    table = json.loads((tmp_path / "seq/transforms.json").read_text())
    table["frames"][1]["file_path"] = "../../outside.png"
    del table["frames"][2]["fl_x"]
    table["frames"][3] = table["frames"][0]
    (tmp_path / "seq/transforms.json").write_text(json.dumps(table))
    assert sorted(faults(read_vhap(tmp_path)).values()) == [
        "duplicate index",
        "missing annotation",
        "missing annotation",
    ]


@pytest.mark.parametrize(
    "text, said",
    [
        ("nothing", "KIND:PATH"),
        ("affectnet:", "no path"),
        ("affectnet:/nowhere", "does not exist"),
        ("affectnet:/?split=odd", "train|val"),
        ("wds:/nowhere", "no .tar files"),
    ],
)
def test_wrong_names_are_explained(text, said):
    with pytest.raises(HeadlabError) as error:
        list(DataSpec.parse(text).items())
    assert said in str(error.value)


def test_folders_of_something_else_are_refused(tmp_path):
    for kind in (
        "affectnet",
        "ffhq",
        "celeba-hq",
        "album",
        "classes",
        "video",
        "vhap",
        "synthetic",
        "lmdb",
        "rig",
        "wds",
    ):
        with pytest.raises(HeadlabError, match=str(tmp_path)):
            list(DataSpec.parse(f"{kind}:{tmp_path}").items())
