"""Record3D's .r3d (TrueDepth and LiDAR of iPhones): a zip of `metadata` (JSON) and rgbd/N.jpg, N.depth, N.conf.

Depth is float32 metres (NaN: none) compressed by LZFSE, of the picture's view but often fewer pixels; confidence is a
byte 0, 1, 2. K is stored column by column, for the picture's size.
"""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..geometry.camera import Camera
from ..geometry.errors import HeadlabError
from ..geometry.files import atomic_path, encode_image
from ..geometry.frame import Frame
from ..geometry.rgbd.register import camera_from
from .lzfse import LzfseError, decompress, store
from .rgbd_intrinsics import checked_camera
from .rgbd_sequence import RgbdSequence, check_depth

_MOST_BYTES = 64 << 20  # of one member, unpacked
_EDGE = 0.03  # metres; enlarged depth is not interpolated across larger steps


def open_record3d(path: Path) -> RgbdSequence:
    """Open a recording; frames are unpacked when they are read.

    Raises:
        HeadlabError: no .r3d, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            meta = json.loads(_member(archive, "metadata", members))
        indices = sorted(int(Path(name).stem) for name in members if name.startswith("rgbd/") and name.endswith(".jpg"))
        K = torch.tensor([float(x) for x in meta["K"]], dtype=torch.float64).reshape(3, 3).mT.contiguous()
        size = (int(meta["h"]), int(meta["w"]))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise HeadlabError(f"{path} is no Record3D recording, or damaged ({reason}); export it again") from error
    if not indices:
        raise HeadlabError(f"{path} holds no frames; record it again")
    camera = checked_camera(K, size, path)
    names = tuple(f"{path.name} frame {i}" for i in indices)
    return RgbdSequence(path, names, _loader(path, indices, meta, camera), camera)


def _loader(path: Path, indices: list[int], meta: dict[str, Any], camera: Camera) -> Callable[[int], Frame]:
    def load(index: int) -> Frame:
        number, name = indices[index], f"{path.name} frame {indices[index]}"
        try:
            with zipfile.ZipFile(path) as archive:
                members = {info.filename: info for info in archive.infolist()}
                picture = _member(archive, f"rgbd/{number}.jpg", members)
                packed = _member(archive, f"rgbd/{number}.depth", members)
            with Image.open(io.BytesIO(picture), formats=("JPEG", "PNG")) as image:
                if (image.height, image.width) != camera.size:
                    raise HeadlabError(
                        f"{name} has {image.width} x {image.height} pixels, the recording says "
                        f"{camera.size[1]} x {camera.size[0]}; export it again"
                    )
                pixels = np.asarray(image.convert("RGB"))
            raw = decompress(packed, _MOST_BYTES)
        except HeadlabError:
            raise
        except (OSError, KeyError, zipfile.BadZipFile, LzfseError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:120]
            raise HeadlabError(f"{name} cannot be read ({reason}); it is left out where others can") from error
        depth = enlarged(_depth(raw, meta, camera.size, name), camera.size)
        check_depth(depth, name, 1.0)
        rate = float(meta.get("fps") or 30)
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous().float() / 255
        own = _own_camera(meta, index, camera)
        return Frame(image, depth=depth, camera=own, time=number / rate, source=path.with_name(f"{path.stem}_{number}"))

    return load


def _own_camera(meta: dict[str, Any], index: int, camera: Camera) -> Camera:
    """Intrinsics change from frame to frame as the lens focuses."""
    rows = meta.get("perFrameIntrinsicCoeffs")
    try:
        fx, fy, cx, cy = (float(x) for x in rows[index][:4])  # type: ignore[index]
    except (TypeError, IndexError, ValueError, KeyError):
        return camera
    K = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)
    return camera_from(K, camera.size) if bool(K.isfinite().all()) and min(fx, fy) > 1 else camera


def _depth(raw: bytes, meta: dict[str, Any], size: tuple[int, int], name: str) -> Float[Tensor, "height width"]:
    count = len(raw) // 4
    if "dw" in meta and "dh" in meta:
        shape = (int(meta["dh"]), int(meta["dw"]))
    else:  # older recordings: the picture's shape, in fewer pixels
        width = round((count * size[1] / size[0]) ** 0.5)
        shape = (count // max(width, 1), width)
    if shape[0] * shape[1] * 4 != len(raw) or not count:
        raise HeadlabError(f"{name}: {len(raw)} bytes of depth do not fit {shape[1]} x {shape[0]} pixels; export again")
    values = np.frombuffer(raw, "<f4").reshape(shape).astype(np.float32)
    return torch.from_numpy(np.where(np.isfinite(values) & (values > 0), values, 0).copy())


def enlarged(depth: Float[Tensor, "rows columns"], size: tuple[int, int]) -> Float[Tensor, "height width"]:
    """Depth at a larger picture's size: interpolated within surfaces, the nearest pixel at edges and holes."""
    if tuple(depth.shape) == tuple(size):
        return depth
    from torch.nn.functional import interpolate, max_pool2d

    near = interpolate(depth[None, None], size, mode="nearest-exact")[0, 0]
    smooth = interpolate(depth[None, None], size, mode="bilinear", align_corners=False)[0, 0]
    high = max_pool2d(depth[None, None], 3, 1, 1)
    low = -max_pool2d(-depth[None, None], 3, 1, 1)
    flat = ((high - low < _EDGE) & (low > 0)).float()
    whole = interpolate(flat, size, mode="nearest-exact")[0, 0] > 0
    return torch.where(whole, smooth, near)


def write_record3d(path: Path, frames: list[Frame]) -> None:
    """Write frames as .r3d, atomically. Depth is stored in uncompressed LZFSE blocks, exactly; pictures as JPEG.

    Raises:
        HeadlabError: no frames, or one without depth or camera, or of another size.
    """
    if not frames or any(f.depth is None or f.camera is None or f.size != frames[0].size for f in frames):
        raise HeadlabError("a Record3D file needs frames of one size, each with depth and intrinsics")
    height, width = frames[0].size
    cameras = [frame.camera for frame in frames if frame.camera is not None]
    coefficients = [[float(c.K[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2))] for c in cameras]
    meta = {
        "w": width,
        "h": height,
        "dw": width,
        "dh": height,
        "fps": 30,
        "K": cameras[0].K.double().mT.flatten().tolist(),
        "perFrameIntrinsicCoeffs": coefficients,
    }
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("metadata", json.dumps(meta))
        for i, frame in enumerate(frames):
            assert frame.depth is not None
            archive.writestr(f"rgbd/{i}.jpg", encode_image(frame.image, "JPEG", 98))
            archive.writestr(f"rgbd/{i}.depth", store(frame.depth.float().numpy().astype("<f4").tobytes()))


def _member(archive: zipfile.ZipFile, name: str, members: dict[str, zipfile.ZipInfo]) -> bytes:
    if name not in members:
        raise KeyError(f"{name} is missing")
    if members[name].file_size > _MOST_BYTES:
        raise ValueError(f"{name} is too large")
    return archive.read(name)
