"""DetailAssets: the maps that DECA ships beside its weights (its folder `data/`), in texture space."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import HeadlabError, MissingAssetError
from ..safe_pickle import ARRAY_GLOBALS, load_object_npy
from ..trees import map_tensors
from .checkpoints import DECA_PAGE

#: Side of DECA's texture space, texels.
UV_SIZE = 256


@dataclass(frozen=True)
class DenseTemplate:
    """DECA's dense mesh (texture_data_256.npy): one vertex per texel of the face, placed on the coarse mesh."""

    texels: Int[Tensor, "dense 2"]  #: row, column in texture space
    corners: Int[Tensor, "dense 3"]  #: coarse vertices of the face each lies on
    weights: Float[Tensor, "dense 3"]  #: barycentric
    faces: Int[Tensor, "tris 3"]  #: of the dense mesh, as in the file


@dataclass(frozen=True)
class DetailAssets:
    """Maps in texture space; row 0 at v = 1."""

    mask: Float[Tensor, "size size"]  #: uv_face_eye_mask: 1 where DECA adds detail
    fixed_displacement: Float[Tensor, "size size"]  #: metres along the coarse normal, the same for all heads
    dense: DenseTemplate | None = None

    def to(self, device: torch.device | str) -> "DetailAssets":
        return map_tensors(self, lambda value: value.to(device))


def load_detail_assets(
    folder: Path,
    *,
    mask: str = "uv_face_eye_mask.png",
    displacement: str = "fixed_displacement_256.npy",
    dense: str = "texture_data_256.npy",
) -> DetailAssets:
    """Read DECA's `data/` folder.

    Args:
        folder: where the files lie.
        mask: picture whose red channel is the mask.
        displacement: plain array.
        dense: the dense mesh; may be absent.

    Raises:
        MissingAssetError: mask or displacement is not there.
        HeadlabError: a file is damaged or of another size.
    """
    for name in (mask, displacement):
        if not (folder / name).is_file():
            raise MissingAssetError(
                f"{folder / name} is not there: DECA's detail maps come with its code (non-commercial licence), in the "
                f"folder data/; get it at {DECA_PAGE}"
            )
    try:
        fixed = np.load(folder / displacement, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise HeadlabError(f"{folder / displacement} is no plain array ({error}); get it again") from error
    if fixed.shape != (UV_SIZE, UV_SIZE) or fixed.dtype.kind != "f":
        raise HeadlabError(f"{folder / displacement} is {fixed.dtype} {fixed.shape}, not a {UV_SIZE} x {UV_SIZE} map")
    template = read_dense_template(folder / dense) if (folder / dense).is_file() else None
    return DetailAssets(_read_mask(folder / mask), torch.from_numpy(fixed.astype(np.float32)), template)


def read_dense_template(path: Path) -> DenseTemplate:
    """Read texture_data_256.npy (a pickle inside an .npy, read without running it).

    Raises:
        UnsafePickleError: it names what such a file does not need.
        HeadlabError: it is damaged or something else.
    """
    data = load_object_npy(path, ARRAY_GLOBALS)
    data = data[()] if isinstance(data, np.ndarray) and data.ndim == 0 else None
    try:
        if not isinstance(data, dict):
            raise ValueError("not a dict of tables")
        pixels = np.asarray(data["valid_pixel_ids"]).astype(np.int64)
        places = [np.asarray(data[key])[pixels].astype(np.int64) for key in ("y_coords", "x_coords")]
        corners = np.asarray(data["valid_pixel_3d_faces"]).astype(np.int64).reshape(len(pixels), 3)
        weights = np.asarray(data["valid_pixel_b_coords"]).astype(np.float32).reshape(len(pixels), 3)
        faces = np.asarray(data["f"]).astype(np.int64).reshape(-1, 3)
        size = int(data["img_size"])
        if size != UV_SIZE or min(map(np.min, places)) < 0 or max(map(np.max, places)) >= size:
            raise ValueError(f"texels outside of {UV_SIZE} x {UV_SIZE}")
        if faces.min() < 0 or faces.max() >= len(pixels) or corners.min() < 0:
            raise ValueError("faces name vertices that are not there")
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise HeadlabError(f"{path} is no dense mesh of DECA ({error}); get texture_data_256.npy again") from error
    tensors = (np.stack(places, -1), corners, weights, faces)
    return DenseTemplate(*(torch.from_numpy(value) for value in tensors))


def _read_mask(path: Path) -> Float[Tensor, "size size"]:
    """Red channel of a picture, 0..1, every n-th pixel of larger ones (nearest neighbour, as upstream)."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if picture.width % UV_SIZE or picture.size != (picture.width,) * 2 or picture.width > 16 * UV_SIZE:
                raise HeadlabError(f"{path} is {picture.size[0]} x {picture.size[1]}, not a multiple of {UV_SIZE}")
            red = np.asarray(picture.convert("RGB"))[..., 0]
    except (OSError, ValueError, SyntaxError) as error:
        raise HeadlabError(f"{path} is no picture or a damaged one ({error}); get it again") from error
    step = red.shape[0] // UV_SIZE
    return torch.from_numpy(red[::step, ::step].astype(np.float32) / 255)
