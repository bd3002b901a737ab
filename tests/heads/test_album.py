"""Albums: what is read, who is told apart, what is refused."""

from pathlib import Path

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from headlab.datasets.photo import read_photo
from headlab.diffusion.identity import load_embedder, load_shape_reader
from headlab.geometry.errors import HeadlabError
from headlab.geometry.files import write_png
from headlab.geometry.landmarks import FaceLandmarks
from headlab.geometry.models.head_model import HeadModel
from headlab.heads.album import album_files, choose_faces, read_album
from headlab.heads.album_people import TWO_PEOPLE, check_one_person, face_distances, split
from headlab.heads.fit import FitConfig
from headlab.heads.transfer_source import Workshop


def _two_groups(first: int, second: int, within: float, between: float) -> Float[Tensor, "n n"]:
    group = torch.tensor([0] * first + [1] * second)
    distances = torch.where(group[:, None] == group[None], within, between)
    return distances.fill_diagonal_(0.0)


def test_groups_are_found_and_named() -> None:
    names = [f"{i}.jpg" for i in range(6)]
    people = split(_two_groups(4, 2, 0.4, 1.6))
    assert people.groups == ((0, 1, 2, 3), (4, 5)) and people.several
    assert people.between == pytest.approx(1.6) and people.within == pytest.approx(0.4)
    with pytest.raises(HeadlabError, match=r"two people: 4.jpg, 5.jpg differ from the other 4 photos") as error:
        check_one_person(names, _two_groups(4, 2, 0.4, 1.6))
    assert "\n" not in str(error.value) and "--anyone" in str(error.value)
    with pytest.raises(HeadlabError, match=r"5.jpg differs from the other 5"):
        check_one_person(names, _two_groups(5, 1, 0.4, 1.6))
    assert not check_one_person(names, _two_groups(4, 2, 0.3, 0.7)).several
    assert not split(torch.full((3, 3), 0.2).fill_diagonal_(0.0)).several
    assert split(torch.tensor([[0.0, 3.0], [3.0, 0.0]])).several


@pytest.mark.slow
def test_synthetic_people_are_told_apart(default_head: HeadModel) -> None:
    """Pictures that no network was trained on: several of a person, and one of somebody else among them."""
    from headlab.datasets.synthetic import SyntheticConfig, SyntheticHeads

    config = SyntheticConfig(96, seed=77, pictures_per_person=6, maps=False)
    images = SyntheticHeads(default_head, config).batch(range(24)).images.float() / 255
    distances = face_distances(images, load_shape_reader(), load_embedder())
    assert (distances.diagonal().abs() < 1e-3).all() and torch.allclose(distances, distances.mT)
    person = torch.arange(24) // 6
    same = person[:, None] == person[None]
    others = distances[~same]
    own = distances[same & ~torch.eye(24, dtype=torch.bool)]
    assert own.mean() < 0.75 * others.mean()


@pytest.mark.slow
def test_real_people_are_told_apart(shared: Path, detector) -> None:
    """Frames of one man; the same with an astronaut's portrait among them."""
    photos = shared / "data/photos"
    own = [photos / "video_a" / f"f{i:04d}.jpg" for i in (0, 40, 80)]
    frames = [read_photo(path) for path in (*own, photos / "p03.jpg")]
    faces = [detector.detect(frame.image) for frame in frames]
    _, distances = choose_faces(frames, faces, load_shape_reader(), load_embedder())
    names = [path.name for path in (*own, photos / "p03.jpg")]
    assert check_one_person(names[:3], distances[:3, :3]).between < 0.9 * TWO_PEOPLE
    with pytest.raises(HeadlabError, match=r"two people: p03\.jpg differs"):
        check_one_person(names, distances)


def test_files_and_folders(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "notes.txt", "c.JPEG"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in album_files([tmp_path])] == ["a.jpg", "b.png", "c.JPEG"]
    assert album_files([tmp_path / "b.png", tmp_path / "a.jpg"])[0].name == "b.png"
    with pytest.raises(HeadlabError, match="at least 2 photos"):
        album_files([tmp_path / "a.jpg"])
    with pytest.raises(HeadlabError, match="is not there"):
        album_files([tmp_path / "x.jpg", tmp_path / "a.jpg"])
    for i in range(201):
        (tmp_path / f"{i}.png").write_bytes(b"")
    with pytest.raises(HeadlabError, match="may hold 200 photos"):
        album_files([tmp_path])


class _Scripted:
    """A detector that knows where faces are by the photo's first pixel."""

    name = "scripted"

    def __init__(self, faces: dict[int, list[FaceLandmarks]]):
        self.faces = faces

    def detect(self, image: Float[Tensor, "3 height width"]) -> list[FaceLandmarks]:
        return self.faces[round(float(image[0, 0, 0]) * 255)]

    def close(self) -> None: ...

    def __enter__(self) -> "_Scripted":
        return self

    def __exit__(self, kind, error, trace) -> None: ...


class _Colour:
    """Identity is a colour: the mean of the crop."""

    gram = 1e4 * torch.eye(3)

    def shapes(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3"]:
        return pictures.mean((-2, -1))

    def vectors(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3"]:
        return torch.nn.functional.normalize(self.shapes(pictures), dim=-1)


def _face(astronaut_points: Float[Tensor, "478 2"], left: float) -> FaceLandmarks:
    low, high = astronaut_points.amin(0), astronaut_points.amax(0)
    points = (astronaut_points - low) / (high - low).amax() * 40 + torch.tensor([left, 10.0])
    return FaceLandmarks(points, torch.zeros(478), 1.0)


def test_of_several_faces_the_one_that_fits_is_taken(tmp_path: Path, default_head: HeadModel) -> None:
    points = default_head.landmarks3d(default_head.template, "478")[:, :2] * torch.tensor([1.0, -1.0])
    red, green = torch.tensor([0.8, 0.2, 0.2]), torch.tensor([0.2, 0.8, 0.2])
    left, right = _face(points, 10.0), _face(points, 75.0)
    faces = {1: [left], 2: [left, right], 3: [], 4: [left]}
    for number, (a, b) in {1: (red, red), 2: (green, red), 3: (red, red), 4: (red, red)}.items():
        image = torch.cat([a[:, None, None].expand(3, 60, 62), b[:, None, None].expand(3, 60, 62)], -1).clone()
        image[0, 0, 0] = number / 255
        write_png(tmp_path / f"{number}.png", image)
    (tmp_path / "9.png").write_text("no picture")
    workshop = Workshop("default", _Scripted(faces), FitConfig(photometric=False), 64)
    reader = _Colour()
    album = read_album([tmp_path], workshop, reader, reader)
    assert len(album) == 3 and album.skipped["3.png"] == "no face found" and "9.png" in album.skipped
    taken = [head.frame.landmarks for head in album.heads]
    assert taken[0] is left and taken[1] is right
    shapes = album.heads[0].fit.codes.shape
    assert torch.equal(shapes[0], shapes[2]) and [head.index for head in album.heads] == [0, 1, 2]
    faces[2] = [left]
    with pytest.raises(HeadlabError, match=r"two people: 2\.png differs"):
        read_album([tmp_path], workshop, reader, reader)
    assert read_album([tmp_path], workshop, reader, reader, anyone=True).distance == 0
    faces[1] = faces[4] = []
    with pytest.raises(HeadlabError, match="only 1 photos of the album show a face"):
        read_album([tmp_path], workshop, reader, reader)
