"""Camera trajectories as Open3D writes them: JSON of class PinholeCameraTrajectory, and the older .log.

A pose is the world -> camera matrix ("extrinsic"), stored column by column; in .log files its inverse, row by row.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.camera import Camera
from ..geometry.errors import HeadlabError
from ..geometry.files import write_json
from ..geometry.rgbd.register import camera_from

_NAMES = ("trajectory.json", "camera_trajectory.json", "camera.json", "trajectory.log")
_MOST_BYTES = 200_000_000


@dataclass(frozen=True)
class Pose:
    """One frame's camera."""

    T_camera_world: Float[Tensor, "4 4"]  #: float64, metres
    K: Float[Tensor, "3 3"] | None  #: pixels
    size: tuple[int, int] | None  #: (height, width)

    def camera(self, size: tuple[int, int] | None) -> Camera | None:
        """The camera, where its intrinsics are known."""
        wanted = self.size or size
        return None if self.K is None or wanted is None else camera_from(self.K, wanted, self.T_camera_world)


def find_trajectory(folder: Path) -> list[Pose] | None:
    """The poses beside a folder's frames, if there is a file of them."""
    for name in _NAMES:
        path = folder / name
        if path.is_file() and (path.suffix == ".log" or "Trajectory" in path.read_text("utf-8", "replace")[:4000]):
            return read_trajectory(path)
    return None


def read_trajectory(path: Path) -> list[Pose]:
    """Poses of all frames.

    Raises:
        HeadlabError: the file is missing, damaged or something else.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise HeadlabError(f"{path} is larger than any trajectory; check the file")
        text = path.read_text(encoding="utf-8")
        poses = _from_log(text) if path.suffix == ".log" else _from_json(text)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise HeadlabError(f"{path} is no camera trajectory as Open3D writes it ({error}); write it again") from error
    if not poses or not all(bool(pose.T_camera_world.isfinite().all()) for pose in poses):
        raise HeadlabError(f"{path} holds no poses, or some that are not numbers; write it again")
    return poses


def write_trajectory(path: Path, cameras: list[Camera]) -> None:
    """Write cameras as Open3D's PinholeCameraTrajectory, atomically."""
    rows = []
    for camera in cameras:
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3], pose[:3, 3] = camera.R.double(), camera.t.double()
        height, width = camera.size
        intrinsic = {"width": width, "height": height, "intrinsic_matrix": camera.K.double().mT.flatten().tolist()}
        rows.append(
            {
                "class_name": "PinholeCameraParameters",
                "extrinsic": pose.mT.flatten().tolist(),
                "intrinsic": intrinsic,
                "version_major": 1,
                "version_minor": 0,
            }
        )
    value = {"class_name": "PinholeCameraTrajectory", "parameters": rows, "version_major": 1, "version_minor": 0}
    write_json(path, value)


def _from_json(text: str) -> list[Pose]:
    data = json.loads(text)
    poses = []
    for row in data["parameters"]:
        pose = torch.tensor([float(x) for x in row["extrinsic"]], dtype=torch.float64).reshape(4, 4).mT.contiguous()
        inner = row["intrinsic"]
        K = torch.tensor([float(x) for x in inner["intrinsic_matrix"]], dtype=torch.float64).reshape(3, 3).mT
        poses.append(Pose(pose, K.contiguous(), (int(inner["height"]), int(inner["width"]))))
    return poses


def _from_log(text: str) -> list[Pose]:
    lines = [line.split() for line in text.splitlines() if line.strip()]
    poses = []
    for start in range(0, len(lines) - 4, 5):
        rows = [[float(x) for x in line] for line in lines[start + 1 : start + 5]]
        matrix = torch.tensor(rows, dtype=torch.float64).reshape(4, 4)
        poses.append(Pose(torch.linalg.inv(matrix), None, None))
    return poses
