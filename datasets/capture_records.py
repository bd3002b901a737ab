"""RGB-D selfies and NPHM's scans as records of `headlab data`; their own readers are rgbd_selfie.py and nphm.py."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..geometry.errors import HeadlabError
from ..geometry.frame import Frame
from .nphm import NphmScan, nphm_scans
from .records import Fault, Labels, PictureRecord
from .rgbd_selfie import SelfieLabel, SelfiePerson, open_selfies, read_label
from .synthetic.expressions import EMOTIONS
from .va_picture import encode_png


@dataclass(frozen=True, eq=False)
class RgbdRecord(PictureRecord):
    """One RGB-D capture of a person."""

    person: SelfiePerson
    index: int  #: of the frame in the person's captures
    label: SelfieLabel

    @property
    def labels(self) -> Labels:
        valence, arousal = self.label.valence_arousal or (float("nan"), float("nan"))
        return Labels(self.label.emotion, valence, arousal, self.person.name)

    def frame(self) -> Frame:
        """Colour, depth in metres, mask and camera.

        Raises:
            HeadlabError: it cannot be read.
        """
        return self.person.sequence.read(self.index)

    def picture(self) -> Image.Image:
        image = self.frame().image
        return Image.fromarray((image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())

    def encoded(self) -> bytes:
        """The picture as PNG."""
        return encode_png(np.asarray(self.picture()))


@dataclass(frozen=True, eq=False)
class NphmRecord(PictureRecord):
    """One expression of one subject; it has a surface and no picture."""

    scan: NphmScan

    @property
    def labels(self) -> Labels:
        return Labels(person=self.scan.subject)

    def picture(self) -> Image.Image:
        raise HeadlabError(f"{self.path} is a surface and no picture; `headlab train nphm` reads such sets")

    def looked(self) -> tuple[tuple[int, int], Image.Image | None]:
        """(vertices, triangles) in place of a picture's size."""
        vertices, faces = self.scan.mesh("registration")
        return (len(vertices), len(faces)), None


def read_rgbd(root: Path | str) -> Iterator[RgbdRecord | Fault]:
    """Captures, person by person.

    Raises:
        HeadlabError: no captures there.
    """
    for person in open_selfies(Path(root)):
        for index, name in enumerate(person.frames):
            key = f"{person.name}/{name}"
            try:
                label = read_label(person, name, EMOTIONS)
            except HeadlabError as error:
                yield Fault(key, "label out of range", str(error))
                continue
            yield RgbdRecord(key, person.sequence.path, person, index, label)


def read_nphm(root: Path | str) -> Iterator[NphmRecord | Fault]:
    """Registered scans, subject by subject.

    Raises:
        HeadlabError: none there.
    """
    for subject, scans in nphm_scans(Path(root)).items():
        for expression, scan in scans.items():
            yield NphmRecord(f"{subject}/{expression}", scan.folder / "registration.ply", scan)
