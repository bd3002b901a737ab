"""NeRSemble sequences as VHAP exports them (Qian, "VHAP", 2024; Kirschstein et al., "NeRSemble", 2023).

    transforms.json, transforms_{train,val,test}.json   cameras and files of every frame, NeRF's convention
    images/00000_00.png   fg_masks/00000_00.png   flame_param/00000.npz   canonical_flame_param.npz

Several exports in subfolders are read one after another. Cameras come out in OpenCV's convention.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from ..geometry.errors import HeadlabError
from .picture_codec import decode_strict
from .records import Fault, Labels, PictureRecord

#: Arrays that a frame's FLAME parameters may hold, with one row each (shape and static_offset are of the whole person).
PARAMETERS = (
    "translation",
    "rotation",
    "neck_pose",
    "jaw_pose",
    "eyes_pose",
    "shape",
    "expr",
    "static_offset",
    "dynamic_offset",
)


@dataclass(frozen=True, eq=False)
class VhapRecord(PictureRecord):
    """One camera's picture of one moment."""

    timestep: int
    camera: str  #: name
    K: Float[np.ndarray, "3 3"]  #: pixels
    T_camera_world: Float[np.ndarray, "4 4"]  #: world to camera; x right, y down, z forward
    size: tuple[int, int]  #: (height, width)
    split: str
    person: str  #: name of the export's folder
    mask_path: Path | None = None
    parameters_path: Path | None = None

    @property
    def labels(self) -> Labels:
        return Labels(person=self.person, split=self.split)

    def mask(self) -> Float[np.ndarray, "height width"] | None:
        """How much of each pixel is foreground, 0..1.

        Raises:
            HeadlabError: the file is missing or damaged.
        """
        if self.mask_path is None:
            return None
        image = decode_strict(_bytes(self.mask_path), str(self.mask_path)).convert("L")
        return np.asarray(image, np.float32) / 255

    def picture(self) -> Image.Image:
        image = super().picture()
        if (image.height, image.width) != self.size:
            raise HeadlabError(
                f"{self.path} is {image.width} x {image.height} pixels, its camera {self.size[1]} x {self.size[0]}; "
                "export the sequence again"
            )
        return image

    def parameters(self) -> dict[str, Float[np.ndarray, "..."]]:
        """FLAME's parameters of this moment, by VHAP's names: radians, metres.

        Raises:
            HeadlabError: the file is missing or damaged.
        """
        if self.parameters_path is None:
            raise HeadlabError(f"{self.key} has no FLAME parameters; export the sequence with them")
        try:
            with np.load(self.parameters_path, allow_pickle=False) as arrays:
                found = {name: arrays[name].astype(np.float32) for name in PARAMETERS if name in arrays}
        except Exception as error:
            raise HeadlabError(f"{self.parameters_path} is missing or damaged ({error}); export again") from error
        if not all(np.isfinite(value).all() for value in found.values()):
            raise HeadlabError(f"{self.parameters_path} holds NaN or infinity; track the sequence again")
        return found

    def told(self) -> dict[str, Any]:
        return super().told() | {
            "timestep": self.timestep,
            "camera": self.camera,
            "K": self.K.tolist(),
            "T_camera_world": self.T_camera_world.tolist(),
        }


def read_vhap(root: Path | str, split: str | None = None) -> Iterator[VhapRecord | Fault]:
    """Pictures in the order of the export's table.

    Args:
        root: an export, or a folder of exports.
        split: "train", "val" or "test"; all frames of transforms.json where None.

    Raises:
        HeadlabError: no export there.
    """
    root = Path(root)
    name = "transforms.json" if split is None else f"transforms_{split}.json"
    if (root / name).is_file():
        exports = [root]
    elif root.is_dir():
        exports = sorted(path for path in root.iterdir() if (path / name).is_file())
    else:
        exports = []
    if not exports:
        raise HeadlabError(f"{root} holds no {name}; name a VHAP export, or a folder of them")
    for export in exports:
        yield from _read_export(export, name, split or "")


def _read_export(export: Path, name: str, split: str) -> Iterator[VhapRecord | Fault]:
    try:
        table = json.loads((export / name).read_bytes())
        frames = table["frames"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield Fault(f"{export.name}/{name}", "missing annotation", f"damaged ({type(error).__name__})")
        return
    seen: set[str] = set()
    for number, frame in enumerate(frames):
        key = f"{export.name}/frame {number}"
        try:
            key = f"{export.name}/{Path(frame['file_path']).stem}"
            record = _record(export, key, {**table, **frame}, split)
        except (KeyError, TypeError, ValueError) as error:
            yield Fault(key, "missing annotation", f"{name}, frame {number}: {error}")
            continue
        if key in seen:
            yield Fault(key, "duplicate index", f"{name} has it twice")
            continue
        seen.add(key)
        yield record


def _record(export: Path, key: str, frame: dict[str, Any], split: str) -> VhapRecord:
    T_world_camera = np.array(frame["transform_matrix"], np.float64).reshape(4, 4)
    if not np.isfinite(T_world_camera).all():
        raise ValueError("its camera is not finite")
    T_world_camera[:3, 1:3] *= -1  # NeRF's cameras look along -z with y up, OpenCV's along z with y down
    K = np.array([[frame["fl_x"], 0, frame["cx"]], [0, frame["fl_y"], frame["cy"]], [0, 0, 1]], np.float64)

    def inside(field: str) -> Path | None:
        if not frame.get(field):
            return None
        path = (export / frame[field]).resolve()
        # The union of several sequences lies beside them and points to its neighbours.
        if not path.is_relative_to(export.parent.resolve()):
            raise ValueError(f"{field} leaves the folder")
        return path

    path = inside("file_path")
    assert path is not None
    return VhapRecord(
        key,
        path,
        int(frame["timestep_index"]),
        str(frame.get("camera_id", frame.get("camera_index", ""))),
        K,
        np.linalg.inv(T_world_camera),
        (int(frame["h"]), int(frame["w"])),
        split,
        export.name,
        inside("fg_mask_path"),
        inside("flame_param_path"),
    )


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise HeadlabError(f"{path} cannot be read ({error.strerror}); export again") from error
