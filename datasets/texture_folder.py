"""Folders of textures in a head model's layout: NAME.png with colours, and NAME_normal.png where there are normals."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from ..geometry.errors import HeadlabError
from .photo import read_photo

_KINDS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
_NORMAL = "_normal"


@dataclass(frozen=True)
class TextureFolder:
    """Textures that are read one at a time."""

    colours: tuple[Path, ...]
    normals: tuple[Path, ...]  #: one each, or none at all

    def __len__(self) -> int:
        return len(self.colours)

    def samples(self, size: int) -> Callable[[int], Float[Tensor, "chan size size"]]:
        """Sample number -> colours 0..1 and, where there are any, normals -1..1, as `build_pyramid` takes them."""

        def sample(i: int) -> Float[Tensor, "chan size size"]:
            maps = [_read(self.colours[i], size)]
            if self.normals:
                maps.append(_read(self.normals[i], size) * 2 - 1)
            return torch.cat(maps)

        return sample


def open_textures(folder: Path) -> TextureFolder:
    """Find the textures of a folder.

    Raises:
        HeadlabError: no such folder, fewer than two textures, or normals for some of them only.
    """
    if not folder.is_dir():
        raise HeadlabError(f"{folder} is no folder; name one with textures in it")
    pictures = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in _KINDS}
    names = [name for name in pictures if not name.endswith(_NORMAL)]
    lacking = [name for name in names if name + _NORMAL not in pictures]
    if len(names) < 2:
        raise HeadlabError(f"{folder} holds {len(names)} textures; at least two are needed, and dozens to be useful")
    if 0 < len(lacking) < len(names):
        raise HeadlabError(
            f"{folder}: {lacking[0]} has no {lacking[0]}{_NORMAL}.png, but others have; add or remove it"
        )
    normals = () if lacking else tuple(pictures[name + _NORMAL] for name in names)
    return TextureFolder(tuple(pictures[name] for name in names), normals)


def _read(path: Path, size: int) -> Float[Tensor, "3 size size"]:
    """A square picture at a size.

    Raises:
        HeadlabError: unreadable, or not square.
    """
    image = read_photo(path).image
    height, width = image.shape[-2:]
    if height != width:
        raise HeadlabError(f"{path} is {width} x {height} pixels; textures are square")
    if height == size:
        return image
    shrinks = height > size
    return interpolate(image[None], (size, size), mode="bilinear", align_corners=False, antialias=shrinks)[0]
