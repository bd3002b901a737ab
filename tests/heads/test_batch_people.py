"""Photos gathered into people, and heads of more photos than are solved together."""

from pathlib import Path

import numpy as np
import pytest
import torch

from headlab.geometry.camera import Camera
from headlab.geometry.code import HeadCode
from headlab.geometry.errors import HeadlabError
from headlab.geometry.frame import Frame
from headlab.geometry.landmarks import FaceLandmarks
from headlab.heads import batch_people
from headlab.heads.album_people import COSINE_SCALE, SHAPE_SCALE, TWO_PEOPLE, split
from headlab.heads.batch_items import Item
from headlab.heads.batch_people import people_of, person_items, with_more_photos
from headlab.heads.fit import FitConfig
from headlab.heads.head_fit import HeadFit


def faces(people: int, photos: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shapes and vectors of people well apart, mixed, and whose each is."""
    rng = np.random.default_rng(seed)
    owner = rng.permutation(np.repeat(np.arange(people), photos))
    shapes = rng.normal(0, 2, (people, 20))[owner] + rng.normal(0, 0.03, (len(owner), 20))
    vectors = rng.normal(0, 1, (people, 64))[owner] + rng.normal(0, 0.2, (len(owner), 64))
    return shapes, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), owner


@pytest.mark.parametrize(("people", "photos"), [(1, 1), (1, 7), (9, 1), (12, 5)])
def test_people_are_found(people: int, photos: int) -> None:
    shapes, vectors, owner = faces(people, photos)
    groups = people_of(shapes, vectors)
    assert sorted(i for group in groups for i in group) == list(range(len(owner)))
    assert all(len(set(owner[group])) == 1 for group in groups) and len(groups) == people
    firsts = [min(group) for group in groups]
    assert firsts == sorted(firsts)


def test_distances_are_those_of_albums() -> None:
    """Two groups are parted exactly where `album_people.split` finds two people."""
    shapes, vectors, owner = faces(2, 6, 3)
    for closer in (1.0, 0.02):
        near = shapes * closer
        apart = np.linalg.norm(near[:, None] - near[None], axis=-1) / SHAPE_SCALE
        turned = np.where(owner[:, None] == 0, vectors, vectors) if closer == 1 else np.tile(vectors[:1], (12, 1))
        distances = torch.from_numpy((apart + (1 - turned @ turned.T) / COSINE_SCALE) / 2)
        assert (len(people_of(near, turned)) == 2) == (split(distances).between > TWO_PEOPLE) == (closer == 1)


def test_too_many_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_people, "MOST_FACES", 10)
    with pytest.raises(HeadlabError, match="11 faces are too many"):
        people_of(np.zeros((11, 3)), np.ones((11, 3)))
    assert people_of(np.zeros((0, 3)), np.ones((0, 3))) == []


def test_items_know_their_photos() -> None:
    a, b, c = (Item(f"/in/{name}", name, "photo", (f"/in/{name}",)) for name in "abc")
    first, second = person_items([[b, a], [c]])
    assert (first.name, first.kind, first.paths) == ("person_00001", "person", ("/in/b", "/in/a"))
    assert person_items([[a, b]])[0].key == first.key != second.key  # the same people, in whatever order
    assert person_items([[a, b, c]])[0].key != first.key


class Known:
    """A detector that knows what is in each picture; nothing in dark ones."""

    name = "known"

    def __init__(self, points: dict[int, torch.Tensor]) -> None:
        self.points = points

    def detect(self, image: torch.Tensor) -> list[FaceLandmarks]:
        points = self.points.get(id(image))
        return [] if points is None else [FaceLandmarks(points, torch.zeros(478), 1.0)]

    def close(self) -> None: ...

    def __enter__(self) -> "Known":
        return self

    def __exit__(self, kind, error, trace) -> None: ...


def test_more_photos_keep_the_identity(fit_tools) -> None:
    """Poses and expressions are found, β and albedo are the person's to the last bit, strangers' photos are named."""
    model = fit_tools.model
    g = torch.Generator().manual_seed(1)
    person = 0.7 * torch.randn(model.shapes, generator=g)
    neutral = model.neutral((3,))
    codes = neutral.with_(
        shape=person.expand(3, -1).clone(),
        rotation=torch.tensor([[0.0, 0.3, 0.0], [0.1, -0.2, 0.05], [0.0, 0.0, 0.2]]),
        translation=torch.tensor([[0.0, 0.0, -0.8]]).expand(3, 3),
        albedo=torch.arange(5.0).expand(3, 5).clone(),
        light=torch.rand(3, 9, 3, generator=g),
    )
    camera = Camera.frontal(700.0, (480, 640))
    points = [camera.project(model.landmarks3d(model.vertices(codes[i]), "478")) for i in range(3)]
    frames = [Frame(torch.rand(3, 480, 640, generator=g), focal=700.0, source=Path(f"{i}.jpg")) for i in range(4)]
    detector = Known({id(frame.image): mark for frame, mark in zip(frames, points, strict=False)})
    head = HeadFit("default", codes[:1], (camera,), None, ("0.jpg",), {"photos": [{}]})
    more, dropped = with_more_photos(fit_tools, head, iter(frames[1:]), detector, FitConfig())
    assert list(dropped) == ["3.jpg"] and more.sources == ("0.jpg", "1.jpg", "2.jpg") and len(more.cameras) == 3
    assert bool((more.codes.shape == person).all()) and bool((more.codes.albedo == codes.albedo[0]).all())
    assert len(more.report["photos"]) == 3 and more.report["photos"][2]["landmark_nme"] < 0.01
    for i in (1, 2):
        found = model.landmarks3d(model.vertices(more.codes[i]), "478")
        assert float((camera.project(found) - points[i]).norm(dim=-1).mean()) < 1.0
    assert isinstance(more.codes, HeadCode)
    assert with_more_photos(fit_tools, head, iter([]), detector, FitConfig())[0] is head
