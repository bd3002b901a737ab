"""Pictures to be measured: read from a folder one at a time, with the face in each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from ...geometry.errors import HeadlabError
from ...geometry.landmarks.face_landmarks import FaceLandmarks, LandmarkDetector

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Portrait:
    """A picture and its largest face."""

    path: Path
    image: Float[Tensor, "3 height width"]  #: sRGB, 0..1
    face: FaceLandmarks | None  #: None: none was found

    @property
    def points(self) -> Float[Tensor, "478 2"]:
        """MediaPipe's landmarks, pixels; there must be a face."""
        assert self.face is not None
        return self.face.points


def list_pictures(folder: Path) -> list[Path]:
    """Pictures in a folder and the folders in it, sorted.

    Raises:
        HeadlabError: no folder, or no pictures in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise HeadlabError(f"{folder} is no folder; name a folder of pictures")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise HeadlabError(f"{folder} holds no pictures ({', '.join(SUFFIXES)})")
    return found


def pairs_by_name(first: Path, second: Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Pictures of two folders with the same path below them, whatever the suffix.

    Returns:
        the pairs, and the names that only one of the two has.

    Raises:
        HeadlabError: a folder is empty, or two pictures of one differ only in their suffix.
    """
    sides: list[dict[str, Path]] = []
    for folder in (first, second):
        named: dict[str, Path] = {}
        for path in list_pictures(folder):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in named:
                raise HeadlabError(f"{named[name]} and {path} have one name; give each picture its own")
            named[name] = path
        sides.append(named)
    both = sorted(set(sides[0]) & set(sides[1]))
    return [(sides[0][name], sides[1][name]) for name in both], sorted(set(sides[0]) ^ set(sides[1]))


def read_portraits(paths: Sequence[Path], detector: LandmarkDetector | None) -> Iterator[Portrait | HeadlabError]:
    """Each picture with its largest face, in order; for one that cannot be read, why.

    Args:
        paths: picture files.
        detector: None: faces are not looked for.
    """
    from ...datasets.photo import read_photo

    for path in paths:
        try:
            image = read_photo(path).image
        except HeadlabError as error:
            yield error
            continue
        faces = [] if detector is None else detector.detect(image)
        yield Portrait(path, image, max(faces, key=lambda face: face.size) if faces else None)
