"""RGB-D selfies on disk: who is in them, how frames are labelled, and what is wrong with bad ones."""

import json
from pathlib import Path

import pytest
import torch

from headlab.datasets.depth_map import write_depth
from headlab.datasets.rgbd_folder import write_rgbd_folder
from headlab.datasets.rgbd_selfie import frame_name, is_selfies, open_selfies, read_label, read_records
from headlab.datasets.rgbd_selfie_crops import SelfieCrops, read_crops, write_crops
from headlab.geometry.camera import Camera
from headlab.geometry.errors import HeadlabError
from headlab.geometry.frame import Frame

CLASSES = ("neutral", "happy", "sad")


def write_person(folder: Path, count: int = 2, **labels: object) -> None:
    folder.mkdir(parents=True)
    camera = Camera.frontal(50.0, (24, 32))
    image = torch.rand(3, 24, 32, generator=torch.Generator().manual_seed(count))
    frames = [Frame(image, depth=torch.full((24, 32), 0.5 + 0.1 * i), camera=camera) for i in range(count)]
    write_rgbd_folder(folder, frames)
    if labels:
        (folder / "expressions.json").write_text(json.dumps(labels))


def test_people_frames_and_labels(tmp_path: Path) -> None:
    write_person(tmp_path / "ann", 3, **{"0001": "Happy", "0002": "va:0.5,-0.25", "0003": {"jawOpen": 0.4}})
    write_person(tmp_path / "bob", 1)
    (tmp_path / "notes").mkdir()
    assert is_selfies(tmp_path) and is_selfies(tmp_path / "bob") and not is_selfies(tmp_path / "notes")
    people = open_selfies(tmp_path)
    assert [person.name for person in people] == ["ann", "bob"]
    assert people[0].frames == ("0001", "0002", "0003")
    records = list(read_records(people, CLASSES))
    assert [(r.person, r.name) for r in records] == [("ann", "0001"), ("ann", "0002"), ("ann", "0003"), ("bob", "0001")]
    assert [r.label.emotion for r in records] == [1, -1, -1, -1]
    assert records[1].label.valence_arousal == (0.5, -0.25) and records[2].label.actions == {"jawOpen": 0.4}
    depth = records[1].frame.depth
    assert depth is not None and float(depth[3, 3]) == pytest.approx(0.6, abs=1e-3)
    assert records[0].frame.camera is not None and float(records[0].frame.camera.K[0, 0]) == 50
    alone = people[0].one(2)
    assert len(alone) == 1 and float(alone.read(0).depth[0, 0]) == pytest.approx(0.7, abs=1e-3)
    assert [person.name for person in open_selfies(tmp_path / "bob")] == ["bob"]


def test_frame_names() -> None:
    names = {"0001_color.png": "0001", "rgb_17.jpg": "17", "a/7.png": "7", "image.png": "image", "x.color.3.png": "x.3"}
    assert {name: frame_name(name) for name in names} == names


def test_an_unreadable_frame_is_left_out_or_raises(tmp_path: Path) -> None:
    write_person(tmp_path / "ann", 3)
    write_depth(tmp_path / "ann" / "0002_depth.png", torch.zeros(24, 32))
    skipped: list[str] = []
    records = list(read_records(open_selfies(tmp_path), CLASSES, skipped))
    assert [r.name for r in records] == ["0001", "0003"]
    assert len(skipped) == 1 and skipped[0].startswith("ann/0002") and "0 everywhere" in skipped[0]
    with pytest.raises(HeadlabError, match="0 everywhere"):
        list(read_records(open_selfies(tmp_path), CLASSES))


def test_refused(tmp_path: Path) -> None:
    with pytest.raises(HeadlabError, match="is no folder"):
        open_selfies(tmp_path / "nowhere")
    with pytest.raises(HeadlabError, match="holds no RGB-D captures"):
        open_selfies(tmp_path)
    wrong = {"0001": "furious", "0002": "va:1", "0003": {"jawOpen": "wide"}, "0004": 7, "0005": "va:2,0"}
    write_person(tmp_path / "ann", 5, **wrong)
    person = open_selfies(tmp_path)[0]
    messages = ("expected one of neutral", "written va:", "no number", "expected one of", "from -1 to 1")
    for name, message in zip(person.frames, messages, strict=True):
        with pytest.raises(HeadlabError, match=message):
            read_label(person, name, CLASSES)
    (tmp_path / "ann" / "expressions.json").write_text("[1]")
    with pytest.raises(HeadlabError, match="no JSON object"):
        open_selfies(tmp_path)


def some_crops(people: tuple[int, ...] = (0, 0, 0, 1, 2, 2), size: int = 8, expressions: int = 5) -> SelfieCrops:
    count, generator = len(people), torch.Generator().manual_seed(0)
    return SelfieCrops(
        person=torch.tensor(people),
        images=torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8),
        near=torch.rand(count, size, size, generator=generator).half(),
        maps=torch.rand(count, 11, size, size, generator=generator).half(),
        expression=torch.rand(count, expressions, generator=generator),
        emotion=torch.arange(count) % 8,
        valence_arousal=torch.full((count, 2), float("nan")),
        names=tuple(f"p{person}/{i}" for i, person in enumerate(people)),
        skipped=("p3/0: no face",),
    )


def test_crops_on_disk_and_their_pairs(tmp_path: Path) -> None:
    crops = some_crops()
    write_crops(crops, tmp_path / "crops.safetensors", "made of nothing")
    back, told = read_crops(tmp_path / "crops.safetensors")
    assert told == "made of nothing" and back.names == crops.names and back.skipped == crops.skipped
    for name in ("person", "images", "near", "maps", "expression", "emotion"):
        assert torch.equal(getattr(back, name), getattr(crops, name))
    pairs = {tuple(pair) for pair in crops.pairs().tolist()}
    assert pairs == {(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (3, 3), (4, 5), (5, 4)}
    (tmp_path / "bad").write_bytes(b"no")
    with pytest.raises(HeadlabError, match="no crops of selfies"):
        read_crops(tmp_path / "bad")
