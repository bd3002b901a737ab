"""The folder layout of VHAP and NeRSemble, which Gaussian-avatar and NeRF trainers read.

    transforms.json                 every frame: camera (OpenGL camera-to-world, metres), picture, parameters
    transforms_train/val/test.json  likewise; the last tenth of the frames is for testing
    canonical_flame_param.npz       the person, expressionless, mouth open
    flame_param/00000.npz …         translation, rotation, neck_pose, jaw_pose, eyes_pose, expr (a row each), shape
    images/00000_00.png …           the frames

Where the model is FLAME the parameters are VHAP's (`code_formats.to_vhap`), 300 + 100 numbers. Of other models the
names and shapes are the same, but the lengths of `shape` and `expr` and their meaning are the model's own: every
transforms file says in `model` which it is, and only for FLAME does a frame's `flame_param_path` exist; of others it is
called `head_param_path` and the folder `head_param`. The world is moved so that the head's mean translation is zero, as
VHAP does, since trainers expect the scene around the origin.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ...geometry.camera import Camera
from ...geometry.code import HeadCode
from ...geometry.code_formats import camera_to_world_gl, to_vhap
from ...geometry.files import write_bytes, write_json
from ...geometry.models.head_model import HeadModel

#: VHAP's canonical head has its mouth open by this angle, radians.
_OPEN_JAW = 0.3
#: The last part of the frames, kept from training.
_TEST_PART = 0.1


def write_vhap(
    folder: Path,
    model: HeadModel,
    model_name: str,
    codes: HeadCode,
    cameras: tuple[Camera, ...],
    times: Float[np.ndarray, "frames"],
    seen: Iterable[bool],
    pictures: Iterable[UInt8[np.ndarray, "_ _ 3"]] = (),
) -> None:
    """Write a track into a folder.

    Args:
        folder: made if need be.
        model: head model.
        model_name: its id, e.g. "flame2023".
        codes: a frame axis; one person.
        cameras: one per frame.
        times: seconds.
        seen: whether a frame showed the face; said in each frame as `tracked`.
        pictures: the frames, 8-bit RGB; none to leave `images` out.

    Raises:
        HeadlabError: the codes are of several persons, or nothing can be written.
    """
    flame = is_flame(model)
    kind = "flame_param" if flame else "head_param"
    (folder / kind).mkdir(parents=True, exist_ok=True)
    shift = codes.translation.mean(0)
    codes = codes.with_(translation=codes.translation - shift)
    cameras = tuple(replace(camera, t=camera.t + camera.R @ shift.to(camera.t)) for camera in cameras)
    params = to_vhap(codes) if flame else _layout(codes)
    frames = []
    for i, (camera, time, tracked) in enumerate(zip(cameras, times, seen, strict=True)):
        row = {name: value if name == "shape" else value[i : i + 1] for name, value in params.items()}
        _write_npz(folder / kind / f"{i:05d}.npz", row)
        frames.append(
            {
                "timestep_index": i,
                "timestep_index_original": i,
                "timestep_id": f"{i:05d}",
                "camera_index": 0,
                "camera_id": "00",
                "time": float(time),
                "tracked": bool(tracked),
                **_lens(camera),
                "transform_matrix": camera_to_world_gl(camera.to(dtype=torch.float64)).tolist(),
                "file_path": f"images/{i:05d}_00.png",
                f"{kind}_path": f"{kind}/{i:05d}.npz",
            }
        )
    still = {name: value if name == "shape" else torch.zeros_like(value[:1]) for name, value in params.items()}
    still["jaw_pose"] = still["jaw_pose"] + still["jaw_pose"].new_tensor([_OPEN_JAW, 0.0, 0.0])
    _write_npz(folder / f"canonical_{kind}.npz", still)

    train = max(1, len(frames) - round(len(frames) * _TEST_PART))
    for suffix, part in (("", frames), ("_train", frames[:train]), ("_val", frames[train:]), ("_test", frames[train:])):
        write_json(folder / f"transforms{suffix}.json", _document(model_name, model, part, cameras[0]))
    _write_pictures(folder / "images", pictures)


def is_flame(model: HeadModel) -> bool:
    """Whether ψ and β are FLAME's: its joints, names of its components, correctives."""
    return model.joints_follow_expression and model.expression_names[:1] == ("expression000",) and model.shapes <= 300


def _layout(codes: HeadCode) -> dict[str, Tensor]:
    """VHAP's names for another model's parameters."""
    return {
        "translation": codes.translation,
        "rotation": codes.rotation,
        "neck_pose": codes.neck,
        "jaw_pose": codes.jaw,
        "eyes_pose": codes.eyes.flatten(-2),
        "shape": codes.shape[0],
        "expr": codes.expression,
    }


def _lens(camera: Camera) -> dict[str, float | int]:
    height, width = camera.size
    fx, fy, cx, cy = (float(camera.K[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return {
        "cx": cx,
        "cy": cy,
        "fl_x": fx,
        "fl_y": fy,
        "h": height,
        "w": width,
        "camera_angle_x": 2 * math.atan(width / (2 * fx)),
        "camera_angle_y": 2 * math.atan(height / (2 * fy)),
    }


def _document(model_name: str, model: HeadModel, frames: list[dict[str, Any]], camera: Camera) -> dict[str, Any]:
    return {
        "model": model_name,
        "model_license": model.license.name,
        "expression_names": None if is_flame(model) else list(model.expression_names),
        **_lens(camera),
        "frames": frames,
        "timestep_indices": [frame["timestep_index"] for frame in frames],
        "camera_indices": [0],
    }


def _write_pictures(folder: Path, pictures: Iterable[UInt8[np.ndarray, "_ _ 3"]]) -> None:
    import cv2

    for i, picture in enumerate(pictures):
        folder.mkdir(exist_ok=True)
        # Quick and a little larger: compression would take longer than tracking.
        done, data = cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        assert done
        write_bytes(folder / f"{i:05d}_00.png", data.tobytes())


def _write_npz(path: Path, arrays: dict[str, Tensor]) -> None:
    buffer = BytesIO()
    np.savez(buffer, **{name: value.detach().cpu().numpy() for name, value in arrays.items()})
    write_bytes(path, buffer.getvalue())
