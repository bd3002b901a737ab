"""`headlab convert` for RGB-D: any capture -> pictures, recordings, clouds, meshes, or depth packed for diffusion.

Sources: folders (PNG16 + colour, LDM3D's packing, 16-bit RGBA), .r3d, .bag, .mkv, .ply, .pcd. Targets: png16, open3d
(color/, depth/, trajectory.json), r3d, ply, pcd (organised clouds), surface (meshes), ldm3d, rgba16. Captures of
several frames become a folder, except r3d.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..geometry.errors import HeadlabError
from .convert import Conversion

if TYPE_CHECKING:
    from ..datasets.rgbd_sequence import RgbdSequence
    from ..geometry.frame import Frame
    from .convert import Convert

_KIND = "RGB-D capture"
_FILES = {"ply": ".ply", "pcd": ".pcd", "surface": ".ply"}  #: targets that are a file per frame


def capture_kind(path: Path) -> str | None:
    """What `source_kind` calls a path that holds RGB-D frames; None for anything else."""
    from ..datasets.rgbd_sequence import rgbd_kind

    return None if rgbd_kind(path) is None else _KIND


def convert_rgbd(options: "Convert", target: str) -> str:
    """Convert a capture; frames that cannot be read are left out and named.

    Args:
        options: source, out, overwrite, depth_scale, focal, fill.
        target: see the module.

    Returns:
        One line about what was written.

    Raises:
        HeadlabError: nothing can be read, intrinsics are missing, or the output is in the way.
    """
    from ..datasets.rgbd_record3d import write_record3d
    from ..datasets.rgbd_sequence import open_rgbd
    from ..heads.output_folder import output_folder

    sequence = _with_intrinsics(open_rgbd(options.source, depth_scale=options.depth_scale), options.focal)
    skipped: dict[str, str] = {}
    frames = list(_frames(sequence, options.fill, skipped))
    if not frames:
        name, reason = next(iter(skipped.items()))
        raise HeadlabError(f"{options.source}: none of its {len(sequence)} frames can be read; {name}: {reason}")
    out = options.out or _beside(options.source, target, len(frames))
    if target == "r3d" or (target in _FILES and len(frames) == 1):
        if out.exists() and not options.overwrite:
            raise HeadlabError(f"{out} is there already; add --overwrite, or name another file with -o")
        if target == "r3d":
            write_record3d(out, frames)
        else:
            _write_frame(target, out, frames[0])
    else:
        with output_folder(out, options.overwrite) as folder:
            _write_folder(target, folder, frames)
    left = "".join(f"; {name} was left out: {reason}" for name, reason in list(skipped.items())[:3])
    return f"{out}: {len(frames)} of {len(sequence)} frames as {target}{left}"


def _frames(sequence: "RgbdSequence", fill: bool, skipped: dict[str, str]) -> "Iterator[Frame]":
    from ..geometry.rgbd.holes import complete_depth

    for i in range(len(sequence)):
        try:
            frame = sequence.read(i)
        except HeadlabError as error:
            skipped[sequence.names[i]] = str(error)
            continue
        if fill and frame.depth is not None:
            frame = frame.with_(depth=complete_depth(frame.depth, frame.image).depth)
        yield frame


def _with_intrinsics(sequence: "RgbdSequence", focal: float | None) -> "RgbdSequence":
    import torch

    from ..geometry.rgbd.register import camera_from

    if focal is None:
        return sequence
    if not focal > 0:
        raise HeadlabError(f"the focal length must be a positive number of pixels, not {focal:g}; or leave it out")
    height, width = sequence.load(0).size
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float64)
    return sequence.with_camera(camera_from(K, (height, width)))


def _beside(source: Path, target: str, frames: int) -> Path:
    if target == "r3d":
        return source.with_name(f"{source.stem}_converted.r3d")
    if target in _FILES and frames == 1:
        return source.with_name(f"{source.stem}_{target}{_FILES[target]}")
    return source.with_name(f"{source.stem}_{target}")


def _write_folder(target: str, folder: Path, frames: "list[Frame]") -> None:
    from ..datasets.rgbd_folder import write_rgbd_folder
    from ..datasets.rgbd_intrinsics import write_intrinsics
    from ..datasets.rgbd_trajectory import write_trajectory

    cameras = [frame.camera for frame in frames if frame.camera is not None]
    if target in ("png16", "open3d"):
        write_rgbd_folder(folder, frames, subfolders=target == "open3d")
        if target == "open3d" and len(cameras) == len(frames):
            write_trajectory(folder / "trajectory.json", cameras)
        return
    for i, frame in enumerate(frames):
        _write_frame(target, folder / f"{i + 1:04d}{_FILES.get(target, '.png')}", frame)
    if target not in _FILES and cameras:
        write_intrinsics(folder, cameras[0])


def _write_frame(target: str, path: Path, frame: "Frame") -> None:
    from ..datasets.rgbd_clouds import write_cloud
    from ..datasets.rgbd_packed import write_four_channels, write_packed
    from ..geometry.files import write_png
    from ..heads.export.depth_ply import write_depth_ply

    assert frame.depth is not None
    if target in ("ply", "pcd", "surface") and frame.camera is None:
        raise HeadlabError(
            f"{path.name} needs intrinsics, which the capture lacks; add intrinsics.txt (fx, fy, cx, cy, width, "
            "height), or give --focal"
        )
    if target in ("ply", "pcd"):
        write_cloud(path.with_suffix("." + target), frame)
    elif target == "surface":
        assert frame.camera is not None
        write_depth_ply(path, frame.image, frame.depth, frame.camera)
    elif target == "ldm3d":
        write_png(path.with_name(f"{path.stem}_color.png"), frame.image)
        write_packed(path.with_name(f"{path.stem}_ldm3d.png"), frame.depth)
    else:
        write_four_channels(path.with_name(f"{path.stem}_rgbd.png"), frame.image, frame.depth)


def _row(target: str) -> Conversion:
    make: Callable[[Convert], str] = lambda options: convert_rgbd(options, target)  # noqa: E731
    return Conversion(_KIND, target, make)


#: The rows `convert.py` looks in.
RGBD_CONVERSIONS = tuple(_row(t) for t in ("png16", "open3d", "r3d", "ply", "pcd", "surface", "ldm3d", "rgba16"))
