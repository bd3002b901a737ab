"""Albums: photos of one person, read, checked and fitted with one identity.

folder or files ──> faces (`album_people` checks that they are one person's) ──> `fit_photos` ──> a PhotoHead per photo
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from ..datasets.photo import read_photo
from ..diffusion.identity import Embedder, ShapeReader
from ..geometry.errors import HeadlabError
from ..geometry.frame import Frame
from ..geometry.landmarks import FaceLandmarks
from ..geometry.regress.default_crop import CROP, UprightSquare
from .album_people import check_one_person, face_distances
from .fit import fit_photos
from .transfer import PhotoHead
from .transfer_source import Workshop

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".avif", ".jp2"}
FEWEST, MOST = 2, 200


@dataclass(frozen=True, eq=False)
class Album:
    """One person's photos, all of one fit: shared identity, an expression, pose, light and camera each."""

    heads: tuple[PhotoHead, ...]
    skipped: dict[str, str] = field(default_factory=dict)  #: photos that could not be used, and why
    distance: float = 0.0  #: how far apart its two farthest groups of faces are (`album_people`)

    def __len__(self) -> int:
        return len(self.heads)


def album_files(paths: Sequence[Path]) -> list[Path]:
    """The images that files and folders stand for, folders in the order of their names.

    Raises:
        HeadlabError: something is missing; fewer than two images, or too many.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
        elif path.exists():
            files.append(path)
        else:
            raise HeadlabError(f"{path} is not there; name photos of one person, or a folder of them")
    if len(files) < FEWEST:
        raise HeadlabError(
            f"an album needs at least {FEWEST} photos of the person, about 20 is best; found {len(files)}: "
            "one photo does not tell what of it is the person and what the moment"
        )
    if len(files) > MOST:
        raise HeadlabError(f"an album may hold {MOST} photos, found {len(files)}; choose about 20 that differ")
    return files


def read_album(
    paths: Sequence[Path],
    workshop: Workshop,
    reader: ShapeReader,
    embedder: Embedder,
    *,
    anyone: bool = False,
) -> Album:
    """Read photos, find the person, and fit.

    Where a photo shows several faces, the one most like those of the other photos is taken.

    Args:
        paths: files or folders.
        workshop: for fitting.
        reader: of face shape.
        embedder: of likeness.
        anyone: do not check that it is one person.

    Raises:
        HeadlabError: fewer than two photos show a face, or they show two people.
    """
    frames: list[Frame] = []
    faces: list[list[FaceLandmarks]] = []
    skipped: dict[str, str] = {}
    for path in album_files(paths):
        workshop.progress(f"looking at {path.name}")
        try:
            frame = read_photo(path)
        except HeadlabError as error:
            skipped[path.name] = str(error)
            continue
        found = workshop.detector.detect(frame.image)
        if found:
            frames.append(frame)
            faces.append(found)
        else:
            skipped[path.name] = "no face found"
    if len(frames) < FEWEST:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(skipped.items())[:3])
        raise HeadlabError(
            f"only {len(frames)} photos of the album show a face ({why}); it needs at least {FEWEST}, about 20 is best"
        )
    chosen, distances = choose_faces(frames, faces, reader, embedder)
    names = [frame.source.name if frame.source else f"photo {i}" for i, frame in enumerate(frames)]
    distance = 0.0
    if not anyone:
        distance = check_one_person(names, distances).between
    workshop.progress(f"fitting {len(frames)} photos")
    known = _Known({id(frame.image): face for frame, face in zip(frames, chosen, strict=True)})
    fit = fit_photos(workshop.tools, frames, known, replace(workshop.config, face=0), workshop.progress)
    heads = [
        PhotoHead(frame.with_(landmarks=face), fit, i)
        for i, (frame, face) in enumerate(zip(frames, chosen, strict=True))
    ]
    return Album(tuple(heads), skipped, distance)


def choose_faces(
    frames: Sequence[Frame], faces: Sequence[Sequence[FaceLandmarks]], reader: ShapeReader, embedder: Embedder
) -> tuple[list[FaceLandmarks], torch.Tensor]:
    """One face per photo, and the distances between them: where there are several, the one nearest to all others."""
    everyone = [(i, face) for i, found in enumerate(faces) for face in found]
    squares = [UprightSquare.from_landmarks(face.points[None]) for _, face in everyone]
    crops = torch.cat([s.cut(frames[i].image[None], CROP) for s, (i, _) in zip(squares, everyone, strict=True)])
    distances = face_distances(crops, reader, embedder)
    photo = torch.tensor([i for i, _ in everyone])
    chosen: list[int] = []
    for i in range(len(frames)):
        own = (photo == i).nonzero()[:, 0]
        # To each other photo, its nearest face counts.
        far = [
            torch.stack([distances[k][photo == j].amin() for j in range(len(frames)) if j != i]).median() for k in own
        ]
        chosen.append(int(own[int(torch.stack(far).argmin())]))
    index = torch.tensor(chosen)
    return [everyone[k][1] for k in chosen], distances[index][:, index]


class _Known:
    """A detector of what has been detected already."""

    name = "known"

    def __init__(self, faces: dict[int, FaceLandmarks]):
        self.faces = faces

    def detect(self, image: torch.Tensor) -> list[FaceLandmarks]:
        return [self.faces[id(image)]]

    def close(self) -> None: ...

    def __enter__(self) -> "_Known":
        return self

    def __exit__(self, kind, error, trace) -> None: ...
