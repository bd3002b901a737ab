"""Point clouds and coloured meshes (.ply, .pcd) as RGB-D frames, and back.

Organised clouds (PCD's WIDTH x HEIGHT; PLY's obj_info num_cols, num_rows) keep their pixels: depth comes back exactly,
and the intrinsics follow from the points. Others are drawn through a virtual camera at their origin, with holes
completed. Points are in camera axes (x right, y down, z forward), or with y up and z back, which is told by z < 0.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from jaxtyping import Float, Int
from torch import Tensor

from ..geometry.camera import Camera
from ..geometry.errors import HeadlabError
from ..geometry.files import write_bytes
from ..geometry.frame import Frame
from ..geometry.rgbd.cloud import PointCloud, cloud_from_depth, depth_from_cloud
from ..geometry.rgbd.holes import complete_picture
from ..geometry.rgbd.register import camera_from
from ..geometry.rgbd.render import DepthPicture, render_mesh
from ..geometry.rgbd.splat import render_points
from .pcd import read_pcd, write_pcd
from .rgbd_sequence import RgbdSequence, check_depth

_VIRTUAL = (480, 640)  # size of the camera that draws unorganised clouds
_MOST_POINTS = 50_000_000
_NOTE = "no pixel grid: drawn through a virtual camera at the cloud's origin"


def open_cloud(path: Path) -> RgbdSequence:
    """A cloud or mesh as a sequence of one frame.

    Raises:
        HeadlabError: damaged, empty, or around its own origin rather than before it.
    """
    cloud, faces = read_cloud(path)
    cloud = _before(cloud, path)
    notes: tuple[str, ...] = ()
    if cloud.grid is not None and (camera := camera_of_grid(cloud)) is not None:
        image = None if cloud.colors is None else cloud.colors.mT.reshape(3, *cloud.grid)
        picture = DepthPicture(depth_from_cloud(cloud, camera), image, torch.ones(cloud.grid))
    else:
        camera, notes = _virtual_camera(cloud.known(), path), (f"{path.name}: {_NOTE}",)
        if len(faces):
            picture = render_mesh(cloud.points, faces, camera, cloud.colors)
        else:
            picture = complete_picture(render_points(cloud, camera))
    check_depth(picture.depth, path.name, 1.0)
    if picture.image is None:
        raise HeadlabError(f"{path} has no colours; a face cannot be found without: export it with vertex colours")
    frame = Frame(picture.image.nan_to_num(0).clamp(0, 1).contiguous(), depth=picture.depth, camera=camera, source=path)
    return RgbdSequence(path, (path.name,), lambda index: frame, camera, notes)


def read_cloud(path: Path) -> tuple[PointCloud, Int[Tensor, "faces 3"]]:
    """Points (metres as stored) and faces, of which a cloud has none.

    Raises:
        HeadlabError: damaged, empty, too large.
    """
    if path.suffix.lower() == ".pcd":
        return read_pcd(path), torch.zeros(0, 3, dtype=torch.long)
    try:
        data = path.read_bytes()
        grid = _ply_grid(data)
        loaded: Any = trimesh.load(io.BytesIO(data), file_type="ply", process=False)
        vertices = np.asarray(loaded.vertices, np.float64)
        faces = np.asarray(getattr(loaded, "faces", np.zeros((0, 3))), np.int64).reshape(-1, 3)
        colors = _ply_colors(loaded, len(vertices))
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise HeadlabError(f"{path} cannot be read as PLY ({reason}); export it again") from error
    if not len(vertices) or len(vertices) > _MOST_POINTS:
        raise HeadlabError(f"{path} holds {len(vertices)} points; 1 to {_MOST_POINTS} can be read")
    if grid is not None and grid[0] * grid[1] != len(vertices):
        grid = None
    points = torch.from_numpy(np.array(vertices))
    if grid is not None:  # where nothing was measured, PLY has the origin or NaN
        points = torch.where((points == 0).all(1, keepdim=True), torch.nan, points)
    return PointCloud(points, colors, grid=grid), torch.from_numpy(np.array(faces))


def write_cloud(path: Path, frame: Frame) -> None:
    """Write a frame as an organised cloud, .ply or .pcd by the path's ending, in camera axes, atomically.

    Raises:
        HeadlabError: it has no depth or no camera.
    """
    if frame.depth is None or frame.camera is None:
        raise HeadlabError(f"{path.name} needs depth and intrinsics; give intrinsics.txt or --focal")
    centred = Camera(frame.camera.K, torch.eye(3).to(frame.camera.K), torch.zeros(3).to(frame.camera.K), frame.size)
    cloud = cloud_from_depth(frame.depth, centred, frame.image)
    if path.suffix.lower() == ".pcd":
        write_pcd(path, cloud)
    else:
        write_bytes(path, ply_bytes(cloud))


def ply_bytes(cloud: PointCloud) -> bytes:
    """A binary PLY; points that are not there are NaN."""
    fields = [("x", "<f4"), ("y", "<f4"), ("z", "<f4")]
    names = ["property float x", "property float y", "property float z"]
    if cloud.colors is not None:
        fields += [("red", "u1"), ("green", "u1"), ("blue", "u1")]
        names += [f"property uchar {name}" for name in ("red", "green", "blue")]
    rows = np.zeros(len(cloud.points), np.dtype(fields))
    for i, axis in enumerate("xyz"):
        rows[axis] = cloud.points[:, i].numpy()
    if cloud.colors is not None:
        levels = (cloud.colors.clamp(0, 1) * 255).round().byte().numpy()
        for i, name in enumerate(("red", "green", "blue")):
            rows[name] = levels[:, i]
    head = ["ply", "format binary_little_endian 1.0", "comment headlab: metres, x right, y down, z forward"]
    if cloud.grid is not None:
        head += [f"obj_info num_cols {cloud.grid[1]}", f"obj_info num_rows {cloud.grid[0]}"]
    head += [f"element vertex {len(rows)}", *names, "end_header"]
    return ("\n".join(head) + "\n").encode() + rows.tobytes()


def camera_of_grid(cloud: PointCloud) -> Camera | None:
    """Intrinsics of the camera that measured an organised cloud; None where its rows and columns are no such grid."""
    assert cloud.grid is not None
    height, width = cloud.grid
    points = cloud.points.double().reshape(height, width, 3)
    known = points.isfinite().all(-1) & (points[..., 2] > 0)
    if int(known.sum()) < 16:
        return None
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) + 0.5 for n in (height, width)), indexing="ij")
    values = []
    for axis, pixel in ((0, x), (1, y)):
        slope = points[..., axis][known] / points[..., 2][known]
        design = torch.stack([slope, torch.ones_like(slope)], 1)
        gram = design.mT @ design
        if float(torch.linalg.det(gram)) < 1e-9:
            return None
        focal, centre = torch.linalg.solve(gram, design.mT @ pixel[known]).tolist()
        if float((design @ design.new_tensor([focal, centre]) - pixel[known]).abs().max()) > 0.1 or focal < 1:
            return None
        values.append((focal, centre))
    (fx, cx), (fy, cy) = values
    K = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)
    return camera_from(K, cloud.grid)


def _before(cloud: PointCloud, path: Path) -> PointCloud:
    """The cloud in camera axes."""
    z = cloud.points[:, 2][cloud.valid]
    if not len(z):
        raise HeadlabError(f"{path} holds no points; export it again")
    if float(z.min()) > 0:
        return cloud
    if float(z.max()) < 0:  # y up, looking along -z
        return PointCloud(cloud.points * cloud.points.new_tensor([1, -1, -1]), cloud.colors, None, cloud.grid)
    # Around its own origin, as scans are: y up, the face along +z. Looked at from 0.6 m before its middle.
    known = cloud.points[cloud.valid]
    extent = float((known.amax(0) - known.amin(0)).max())
    if not 0.05 < extent < 3:
        raise HeadlabError(
            f"{path} is {extent:.3g} units large around its origin; a head in metres, or points before a camera at the "
            "origin, are expected: scale it"
        )
    middle = (known.amax(0) + known.amin(0)) / 2
    moved = (cloud.points - middle) * cloud.points.new_tensor([1, -1, -1]) + cloud.points.new_tensor([0, 0, 0.6])
    moved[:, 2] += max(0.0, extent - 0.6)
    return PointCloud(moved, cloud.colors, None, None)


def _virtual_camera(cloud: PointCloud, path: Path) -> Camera:
    """A camera at the origin that sees the cloud, about a point to a pixel."""
    height, width = _VIRTUAL
    slope = cloud.points[:, :2] / cloud.points[:, 2:]
    low, high = (torch.quantile(slope[:: max(1, len(slope) // 100_000)].double(), q, dim=0) for q in (0.005, 0.995))
    span = (high - low).clamp(min=1e-6)
    focal = 0.95 * float(torch.minimum(width / span[0], height / span[1]))
    centre = (low + high) / 2
    cx, cy = width / 2 - focal * float(centre[0]), height / 2 - focal * float(centre[1])
    if not np.isfinite([focal, cx, cy]).all():
        raise HeadlabError(f"{path} holds points that no camera can show; export it again")
    return camera_from(torch.tensor([[focal, 0, cx], [0, focal, cy], [0, 0, 1]], dtype=torch.float64), _VIRTUAL)


def _ply_grid(data: bytes) -> tuple[int, int] | None:
    head = data[:4000].split(b"end_header")[0].decode("ascii", "replace").split()
    found = {key: head[head.index(key) + 1] for key in ("num_rows", "num_cols") if key in head[:-1]}
    try:
        return int(found["num_rows"]), int(found["num_cols"])
    except (KeyError, ValueError):
        return None


def _ply_colors(loaded, count: int) -> Float[Tensor, "n 3"] | None:
    colors = getattr(getattr(loaded, "visual", None), "vertex_colors", None)
    if colors is None:
        colors = getattr(loaded, "colors", None)
    kind = getattr(getattr(loaded, "visual", None), "kind", "vertex")
    if colors is None or len(colors) != count or kind is None:
        return None
    return torch.from_numpy(np.asarray(colors)[:, :3].astype(np.float32) / 255)
