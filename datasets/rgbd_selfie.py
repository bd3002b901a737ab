"""RGB-D selfies: captures of one or several people with expression labels, for training and editing.

    FOLDER                 a capture of one person, as `open_rgbd` takes it, or a folder of such, one per person
      PERSON/…               colour and depth pictures, intrinsics; or PERSON.r3d, .bag, .mkv
      PERSON/expressions.json    optional: {"0001": "happy", "0002": "va:0.6,0.4", "0003": {"jawOpen": 0.4}}

The labels of a recording that is one file lie beside it, in PERSON.json.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..geometry.camera import Camera
from ..geometry.code import HeadCode
from ..geometry.errors import HeadlabError
from ..geometry.frame import Frame
from .rgbd_sequence import RgbdSequence, open_rgbd, rgbd_kind

_RECORDINGS = ("r3d", "bag", "mkv")
_WORDS = re.compile(r"(?:^|[._\- ])(?:colou?r|rgb|images?)(?=$|[._\- ])")


@dataclass(frozen=True)
class SelfieLabel:
    """An expression as a person named it."""

    emotion: int = -1  #: index into AffectNet's classes; -1: not named
    valence_arousal: tuple[float, float] | None = None  #: -1..1
    actions: dict[str, float] = field(default_factory=dict)  #: weights of the head model's actions


@dataclass(frozen=True)
class SelfiePerson:
    """The captures of one person; frames are read one at a time."""

    name: str
    sequence: RgbdSequence
    labels: dict[str, Any]  #: as in the file, by frame name

    @property
    def frames(self) -> tuple[str, ...]:
        """Names of the frames: "0001" for 0001_color.png."""
        return tuple(frame_name(name) for name in self.sequence.names)

    def one(self, index: int) -> RgbdSequence:
        """A sequence of one frame alone."""
        return replace(self.sequence, names=(self.sequence.names[index],), load=lambda _: self.sequence.load(index))


@dataclass(frozen=True)
class SelfieRecord:
    """One capture of one person with all that is known about it."""

    person: str
    name: str
    frame: Frame  #: image, depth (metres), mask, camera; landmarks where they are known
    label: SelfieLabel
    code: HeadCode | None = None  #: the fitted head, where it has been fitted
    camera: Camera | None = None  #: of the fit


def is_selfies(path: Path) -> bool:
    """Whether a folder holds captures (of one person or several). Nothing is opened."""
    return path.is_dir() and (_is_capture(path) or any(_is_capture(x) for x in sorted(path.iterdir())))


def open_selfies(folder: Path) -> list[SelfiePerson]:
    """All people of a folder, sorted by name.

    Raises:
        HeadlabError: no such folder, no captures in it, or one that cannot be opened.
    """
    if _is_capture(folder):
        found = [folder]
    elif folder.is_dir():
        found = sorted(path for path in folder.iterdir() if _is_capture(path))
    else:
        raise HeadlabError(f"{folder} is no folder; name one with RGB-D captures in it, one folder per person")
    if not found:
        raise HeadlabError(
            f"{folder} holds no RGB-D captures; expected NNNN_color.png and NNNN_depth.png, or color/ and depth/, "
            "in it or in a folder per person"
        )
    return [SelfiePerson(path.stem if path.is_file() else path.name, open_rgbd(path), _labels(path)) for path in found]


def read_records(
    people: Sequence[SelfiePerson], classes: tuple[str, ...], skipped: list[str] | None = None
) -> Iterator[SelfieRecord]:
    """Records of all captures, one by one; `code` and `camera` are left to fitting.

    Args:
        people: from `open_selfies`.
        classes: names of the expression classes, in AffectNet's order.
        skipped: frames that cannot be read are named here and left out; None: they raise.

    Raises:
        HeadlabError: a wrong label; a frame that cannot be read where `skipped` is None.
    """
    for person in people:
        for index, name in enumerate(person.frames):
            label = read_label(person, name, classes)
            try:
                frame = person.sequence.read(index)
            except HeadlabError as error:
                if skipped is None:
                    raise
                skipped.append(f"{person.name}/{name}: {error}")
                continue
            yield SelfieRecord(person.name, name, frame, label)


def read_label(person: SelfiePerson, name: str, classes: tuple[str, ...]) -> SelfieLabel:
    """The label of a frame.

    Raises:
        HeadlabError: neither a class, nor a valence-arousal point, nor weights of actions.
    """
    label, where = person.labels.get(name), f"the label of {person.name}/{name}"
    if label is None:
        return SelfieLabel()
    if isinstance(label, dict):
        if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in label.values()):
            raise HeadlabError(f"{where} has a weight that is no number; expected {{'jawOpen': 0.4}}")
        return SelfieLabel(actions={str(action): float(value) for action, value in label.items()})
    if isinstance(label, str) and label.lower() in classes:
        return SelfieLabel(classes.index(label.lower()))
    if isinstance(label, str) and label.startswith("va:"):
        try:
            valence, arousal = (float(x) for x in label[3:].split(","))
        except ValueError as error:
            raise HeadlabError(f"{where} is {label!r}; a feeling is written va:0.6,0.4") from error
        if not (abs(valence) <= 1 and abs(arousal) <= 1):
            raise HeadlabError(f"{where} is {label!r}; valence and arousal go from -1 to 1")
        return SelfieLabel(valence_arousal=(valence, arousal))
    raise HeadlabError(f"{where} is {label!r}; expected one of {', '.join(classes)}, va:0.6,0.4 or weights of actions")


def frame_name(name: str) -> str:
    """ "0001_color.png" -> "0001"; a name that is nothing but a word stays."""
    stem = Path(name).stem
    return _WORDS.sub("", stem).strip("._- ") or stem


def _is_capture(path: Path) -> bool:
    kind = rgbd_kind(path)
    return kind == "folder" or kind in _RECORDINGS


def _labels(path: Path) -> dict[str, Any]:
    file = path / "expressions.json" if path.is_dir() else path.with_suffix(".json")
    if not file.is_file():
        return {}
    try:
        labels = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HeadlabError(f"{file} cannot be read as JSON ({error}); expected {{'0001': 'happy'}}") from error
    if not isinstance(labels, dict):
        raise HeadlabError(f"{file} holds no JSON object; expected {{'0001': 'happy'}}")
    return labels
