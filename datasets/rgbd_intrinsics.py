"""Intrinsics beside a folder's frames: intrinsics.txt, Open3D's camera_intrinsic.json, a depth camera of its own."""

import json
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.camera import Camera
from ..geometry.errors import HeadlabError
from ..geometry.files import write_json, write_text
from ..geometry.rgbd.register import camera_from


def write_intrinsics(folder: Path, camera: Camera) -> None:
    """intrinsics.txt of ours and camera_intrinsic.json as Open3D reads it."""
    K, (height, width) = camera.K.double(), camera.size
    values = {"width": width, "height": height, "fx": K[0, 0], "fy": K[1, 1], "cx": K[0, 2], "cy": K[1, 2]}
    lines = ["# pinhole, pixels; depth is registered to colour"]
    lines += [f"{name} {float(value):.10g}" for name, value in values.items()]
    write_text(folder / "intrinsics.txt", "\n".join([*lines, "depth_scale_m 0.001"]) + "\n")
    matrix = K.mT.flatten().tolist()  # column by column
    write_json(folder / "camera_intrinsic.json", {"width": width, "height": height, "intrinsic_matrix": matrix})


def read_intrinsics_text(path: Path) -> tuple[Camera, float | None]:
    """Lines "name value", or nine numbers of a matrix row by row; width and height are then twice the centre.

    Raises:
        HeadlabError: fx, fy, cx or cy are missing or make no sense.
    """
    values: dict[str, float] = {}
    numbers: list[float] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split("#")[0].replace("=", " ").replace(":", " ").replace(",", " ").split()
        try:
            if len(words) == 2 and not _number(words[0]):
                values[words[0].lower()] = float(words[1])
            else:
                numbers += [float(word) for word in words]
        except ValueError:
            continue
    if len(numbers) >= 9 and "fx" not in values:
        values |= {"fx": numbers[0], "cx": numbers[2], "fy": numbers[4], "cy": numbers[5]}
    try:
        K = _matrix(values["fx"], values.get("fy", values["fx"]), values["cx"], values["cy"])
        size = (
            round(values.get("height", 2 * values["cy"])),
            round(values.get("width", 2 * values["cx"])),
        )
    except KeyError as error:
        raise HeadlabError(f"{path} lacks {error.args[0]}; it needs lines fx, fy, cx, cy, width, height") from error
    return checked_camera(K, size, path), values.get("depth_scale_m") or values.get("depth_scale")


def read_intrinsics_json(path: Path) -> Camera:
    """Open3D's: width, height, intrinsic_matrix (9 numbers, column by column).

    Raises:
        HeadlabError: something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        matrix = torch.tensor([float(x) for x in data["intrinsic_matrix"]], dtype=torch.float64).reshape(3, 3).mT
        size = (int(data["height"]), int(data["width"]))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise HeadlabError(
            f"{path} is no camera file ({error}); expected width, height and intrinsic_matrix as Open3D writes them"
        ) from error
    return checked_camera(matrix.contiguous(), size, path)


def checked_camera(K: Float[Tensor, "3 3"], size: tuple[int, int], path: Path) -> Camera:
    """A camera whose numbers make sense.

    Raises:
        HeadlabError: they do not.
    """
    height, width = size
    fx, fy, cx, cy = float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])
    sane = bool(K.isfinite().all()) and 0 < height <= 32768 and 0 < width <= 32768
    if not (sane and fx > 1 and fy > 1 and -width < cx < 2 * width and -height < cy < 2 * height):
        raise HeadlabError(
            f"{path}: the intrinsics make no sense (fx {fx:g}, fy {fy:g}, cx {cx:g}, cy {cy:g} for "
            f"{width} x {height} pixels); correct them"
        )
    return camera_from(K, size)


def _matrix(fx: float, fy: float, cx: float, cy: float) -> Float[Tensor, "3 3"]:
    return torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)


def _number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def read_depth_camera(folder: Path) -> Camera | None:
    """The depth camera where it is not the colour camera; the colour camera is the world's origin."""
    if not (folder / "depth_intrinsics.txt").is_file():
        return None
    camera, _ = read_intrinsics_text(folder / "depth_intrinsics.txt")
    pose = folder / "depth_to_color.txt"
    if not pose.is_file():
        return camera
    try:
        numbers = [float(word) for word in pose.read_text(encoding="utf-8").replace(",", " ").split()]
        T_color_depth = torch.tensor(numbers, dtype=torch.float64).reshape(4, 4)
        return camera_from(camera.K, camera.size, torch.linalg.inv(T_color_depth))
    except (ValueError, RuntimeError) as error:
        raise HeadlabError(f"{pose} is no 4 x 4 matrix of a rigid motion ({error}); correct it") from error
