"""Synthetic heads and pairs of them, from the shards that `headlab data synthesize` writes, as records."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from ..geometry.errors import HeadlabError
from .records import Fault, Labels, PictureRecord


@dataclass(frozen=True, eq=False)
class SyntheticRecord(PictureRecord):
    """One picture of a synthetic person."""

    number: int
    person: str
    pixels: UInt8[np.ndarray, "height width 3"]
    expression: int  #: index into EXPRESSIONS, -1: unknown
    valence_arousal: tuple[float, float]  #: NaN: unknown
    code: dict[str, Float[np.ndarray, "..."]]  #: fields of HeadCode
    landmarks: Float[np.ndarray, "68 2"] | None = None

    @property
    def labels(self) -> Labels:
        return Labels(self.expression, *self.valence_arousal, person=self.person)

    @property
    def points(self) -> Float[np.ndarray, "points 2"] | None:
        return self.landmarks

    def encoded(self) -> bytes:
        """The picture as PNG."""
        return cv2.imencode(".png", cv2.cvtColor(self.pixels, cv2.COLOR_RGB2BGR))[1].tobytes()

    def picture(self) -> Image.Image:
        return Image.fromarray(self.pixels)


def read_synthetic(root: Path | str) -> Iterator[SyntheticRecord | Fault]:
    """Pictures of all shards (single heads, then pairs), in order, a shard at a time.

    Raises:
        HeadlabError: no shards there.
    """
    root = Path(root)
    paths = [*sorted(root.glob("synthetic-*.safetensors")), *sorted(root.glob("pairs-*.safetensors"))]
    if not paths:
        raise HeadlabError(f"{root} holds no synthetic-*.safetensors or pairs-*.safetensors; `headlab data synthesize`")
    for path in paths:
        try:
            arrays = _shard(path)
        except Exception as error:
            yield Fault(path.name, "truncated shard", " ".join(str(error).split())[:120])
            continue
        faces = 2 if path.name.startswith("pairs") else 1
        for row, number in enumerate(arrays["index"].tolist()):
            for face in range(faces):
                yield _record(path, arrays, row, face if faces == 2 else None, number)


def _shard(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    arrays = load_file(path)
    for name in ("index", "person", "images", "emotion", "valence_arousal"):
        if name not in arrays:
            raise ValueError(f"it has no {name}")
    return arrays


def _record(path: Path, arrays: dict[str, np.ndarray], row: int, face: int | None, number: int) -> SyntheticRecord:
    at = (row,) if face is None else (row, face)
    code = {name.removeprefix("code."): value[at] for name, value in arrays.items() if name.startswith("code.")}
    points = arrays["landmarks"][at] if "landmarks" in arrays else None
    valence, arousal = arrays["valence_arousal"][at].tolist()
    return SyntheticRecord(
        f"{path.stem}/{number:08d}" + ("" if face is None else "ab"[face]),
        path,
        number,
        str(int(arrays["person"][row])),
        np.ascontiguousarray(arrays["images"][at].transpose(1, 2, 0)),
        int(arrays["emotion"][at]),
        (valence, arousal),
        code,
        None if points is None or len(points) != 68 else points,
    )
