"""RGB-D pictures as depth cameras' data sets have them: NAME_depth.png, NAME_color.png, intrinsics.txt."""

from pathlib import Path

import torch

from ...datasets.depth_map import read_depth
from ...datasets.photo import read_photo
from ...geometry.camera import FRONTAL, Camera
from ...geometry.errors import HeadlabError
from ...geometry.rgbd.cloud import PointCloud, cloud_from_depth

_DEPTH, _COLORS = ("_depth_fused", "_depth"), ("_color", "_rgb")


def is_depth_picture(path: Path) -> bool:
    return path.suffix.lower() in (".png", ".tif", ".tiff") and path.stem.endswith(_DEPTH)


def read_rgbd(path: Path, camera: Camera | None = None) -> PointCloud:
    """The coloured points of a depth picture.

    Args:
        path: NAME_depth.png, 16 bits, millimetres; NAME_color.png beside it is used where it has the same size.
        camera: of the picture; None: intrinsics.txt beside it (lines "fx 536.6", fy, cx, cy).

    Raises:
        HeadlabError: no depth, a damaged file, or no camera.
    """
    depth = read_depth(path)
    camera = camera or _camera(path, (int(depth.shape[0]), int(depth.shape[1])))
    stem = next(path.stem.removesuffix(end) for end in _DEPTH if path.stem.endswith(end))
    color = next((p for end in _COLORS if (p := path.with_name(f"{stem}{end}.png")).is_file()), None)
    image = None if color is None else read_photo(color).image
    if image is not None and image.shape[-2:] != depth.shape:
        image = None
    cloud = cloud_from_depth(depth, camera, image).known()
    if len(cloud.points) == 0:
        raise HeadlabError(f"{path} has no depth anywhere; give another frame")
    return PointCloud(cloud.points.float(), cloud.colors)


def _camera(path: Path, size: tuple[int, int]) -> Camera:
    file = path.with_name("intrinsics.txt")
    expected = "expected lines fx, fy, cx and cy with their pixels"
    try:
        lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
        values = {line[0]: float(line[1]) for line in lines if len(line) == 2 and not line[0].startswith("#")}
        fx, fy, cx, cy = (values[name] for name in ("fx", "fy", "cx", "cy"))
    except (OSError, ValueError, KeyError) as error:
        raise HeadlabError(
            f"{file}, which tells the camera of {path.name}, cannot be read ({error}); {expected}"
        ) from error
    K = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    return Camera(K, torch.tensor(FRONTAL), torch.zeros(3), size)
