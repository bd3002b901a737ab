"""Stores in DiffusionRig's layout (Ding et al., 2023): a picture and its three condition maps per number.

    key  b"image_000000"    -> PNG
    key  b"normal_000000"   -> a Python pickle of a float32 torch tensor (3, height, width)
         b"albedo_000000", b"rendered_000000"   likewise
    key  b"length"          -> decimal text
    file mean_shape.pkl beside data.mdb (optional): a pickled (1, 100) tensor, the person's FLAME shape

The pickles are read through an allow-list that lets in plain tensors only; plain .npy in their place is read, too.
Those written here hold one tensor each and nothing else, so DiffusionRig's own reader takes them.
"""

import io
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..geometry.errors import HeadlabError
from ..geometry.files import encode_image, write_bytes
from ..geometry.safe_pickle import BUILTIN_GLOBALS, TORCH_GLOBALS, Allowed, load_pickle
from .lmdb_store import LmdbReader, LmdbWriter

#: All that DiffusionRig's values need to name.
DIFFUSIONRIG_GLOBALS: Allowed = {
    **TORCH_GLOBALS,
    ("collections", "OrderedDict"): BUILTIN_GLOBALS["collections", "OrderedDict"],
}
_MEAN_SHAPE = "mean_shape.pkl"
_NPY = b"\x93NUMPY"
_MOST_PIXELS = 64_000_000


@dataclass(frozen=True)
class RigRecord:
    """One picture with its maps, in DiffusionRig's values."""

    image: Float[Tensor, "3 height width"]  #: sRGB 0..1
    rendered: Float[Tensor, "3 height width"]  #: albedo times light, not clamped; 0 where no head is
    normal: Float[Tensor, "3 height width"]  #: -1..1, not renormalised; 0 where no head is
    albedo: Float[Tensor, "3 height width"]  #: about 0..1, not clamped; 0 where no head is

    def conditions(self) -> Float[Tensor, "9 height width"]:
        """The nine channels that follow the noisy picture: rendered, normal, albedo."""
        return torch.cat([self.rendered, self.normal, self.albedo])


class DiffusionRigLmdb:
    """Records of a store by number."""

    def __init__(self, path: Path | str):
        """Args:
            path: folder of the store.

        Raises:
            HeadlabError: no such store, or of another layout.
        """
        self.reader = LmdbReader(path)
        self.path, self.count = self.reader.path, self.reader.length()
        if self.count and next(self.reader.keys(b"image_"), None) is None:
            raise HeadlabError(f"{path} has no keys like 'image_000000'; it is no store of DiffusionRig's layout")

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[RigRecord]:
        return (self[index] for index in range(self.count))

    def __getitem__(self, index: int) -> RigRecord:
        """Raises:
        UnsafePickleError: a value names anything but a tensor.
        HeadlabError: a value is missing or damaged, or the maps' size is not the picture's.
        """
        names = ("image", "rendered", "normal", "albedo")
        values = dict(zip(names, self.reader.get_many([_key(name, index) for name in names]), strict=True))
        missing = [name for name, value in values.items() if value is None]
        if missing:
            raise HeadlabError(f"{self.path}: number {index} has no {', '.join(missing)}; make the store again")
        image = self._picture(values.pop("image") or b"", index)
        maps = {
            name: read_tensor_pickle(value or b"", f"{self.path}:{_key(name, index).decode()}")
            for name, value in values.items()
        }
        for name, value in maps.items():
            if value.shape != image.shape:
                raise HeadlabError(
                    f"{self.path}: {name} of number {index} is {tuple(value.shape)}, its picture "
                    f"{tuple(image.shape)}; make the store again"
                )
        return RigRecord(image, **maps)

    def encoded_image(self, index: int) -> bytes | None:
        """The picture's PNG bytes, or None."""
        return self.reader.get(_key("image", index))

    def mean_shape(self) -> Float[Tensor, "1 coefficients"] | None:
        """The person's FLAME shape, where it lies beside the store.

        Raises:
            UnsafePickleError: the file names anything but a tensor.
            HeadlabError: it is damaged or something else.
        """
        path = self.path / _MEAN_SHAPE
        if not path.is_file():
            return None
        value = read_tensor_pickle(path.read_bytes(), str(path))
        if value.ndim != 2 or len(value) != 1:
            raise HeadlabError(f"{path} holds {tuple(value.shape)} numbers; a mean shape is (1, coefficients)")
        return value

    def _picture(self, data: bytes, index: int) -> Tensor:
        import numpy as np

        try:
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise ValueError(f"{image.width} x {image.height} pixels")
                levels = np.asarray(image.convert("RGB"))
        except Exception as error:
            raise HeadlabError(f"{self.path}: picture {index} is damaged ({error}); make the store again") from error
        return torch.from_numpy(levels.copy()).permute(2, 0, 1).float() / 255


def _key(name: str, index: int) -> bytes:
    return f"{name}_{index:06d}".encode()


def read_tensor_pickle(data: bytes, name: str) -> Float[Tensor, "..."]:
    """A pickled tensor (or a plain .npy), wherever it was saved from, as float32 on the CPU.

    Args:
        data: the pickle, or the .npy.
        name: what to call it in messages.

    Raises:
        UnsafePickleError: it names anything but a tensor.
        HeadlabError: it is damaged or holds something else.
    """
    value = _npy(data, name) if data.startswith(_NPY) else load_pickle(data, DIFFUSIONRIG_GLOBALS, name)
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise HeadlabError(f"{name} holds no tensor of numbers; DiffusionRig's stores hold float32 tensors")
    return value.float().contiguous()


def _npy(data: bytes, name: str) -> Tensor:
    import numpy as np

    try:
        return torch.from_numpy(np.load(io.BytesIO(data), allow_pickle=False))
    except (ValueError, EOFError, TypeError) as error:
        raise HeadlabError(f"{name} is damaged ({' '.join(str(error).split())[:100]}); make the store again") from error


def tensor_pickle(value: Float[Tensor, "..."]) -> bytes:
    """The pickle of one float32 tensor, as `pickle.dumps` writes it; holds no more than the tensor shows."""
    plain = value.detach().cpu().float().contiguous().clone()
    return pickle.dumps(plain, protocol=4)


def encode_record(
    record: RigRecord, index: int, encoded: Callable[[Tensor], bytes] = tensor_pickle
) -> dict[bytes, bytes]:
    """The four values of a record, by key; `encoded` makes those of the maps.

    Raises:
        HeadlabError: maps of another size than the picture, or values that are not numbers.
    """
    maps = {"rendered": record.rendered, "normal": record.normal, "albedo": record.albedo}
    for name, value in maps.items():
        if value.shape != record.image.shape or not bool(torch.isfinite(value).all()):
            raise HeadlabError(f"{name} of number {index} does not fit its picture or holds NaN; render it again")
    values = {_key("image", index): encode_image(record.image, "PNG")}
    return values | {_key(name, index): encoded(value) for name, value in maps.items()}


def write_diffusionrig(writer: LmdbWriter, records: Mapping[int, RigRecord], length: int) -> None:
    """Commit some records together with the store's new length; see `LmdbWriter.commit`.

    Args:
        writer: of the store.
        records: by number.
        length: number of records in the store after this.
    """
    values: dict[bytes, bytes] = {}
    for index, record in records.items():
        values |= encode_record(record, index)
    writer.commit(values, {b"length": str(length).encode()})


def write_mean_shape(folder: Path, shape: Float[Tensor, "1 coefficients"]) -> None:
    """Write mean_shape.pkl beside a store."""
    write_bytes(Path(folder) / _MEAN_SHAPE, tensor_pickle(shape))
