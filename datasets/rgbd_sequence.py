"""RgbdSequence: colour frames with depth, whatever they are stored in. Readers: `open_rgbd` finds the right one.

folder of PNG16 + colour (`rgbd_folder`)   Record3D .r3d (`rgbd_record3d`)   .bag, .mkv (`rgbd_open3d`)
point clouds .ply, .pcd (`rgbd_cloud_files`)
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from ..geometry.camera import Camera
from ..geometry.errors import HeadlabError
from ..geometry.frame import Frame

#: What cameras measure indoors, metres: medians outside mean a wrong unit.
PLAUSIBLE = (0.1, 20.0)
#: Metres per count of depth cameras and data sets.
UNITS = {0.001: "millimetres", 1.0: "metres", 0.0001: "tenths of a millimetre", 0.0002: "1/5000 m (TUM)", 0.01: "cm"}
_MOST_FRAMES = 20_000


@dataclass(frozen=True)
class RgbdSequence:
    """Frames that are read one at a time. A value: reading changes nothing."""

    path: Path
    names: tuple[str, ...]  #: of the frames, for messages
    load: Callable[[int], Frame] = field(repr=False)  #: image, depth in metres, camera, source, time of one frame
    camera: Camera | None  #: intrinsics (and pose where known) of the colour pictures; None: not in the files
    notes: tuple[str, ...] = ()  #: what was odd about the files, one line each
    scale: float | int = 1.0  #: metres per stored count that the depth was read with

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> Frame:
        """One frame; its depth has the picture's size, its camera is set unless the intrinsics are unknown.

        Raises:
            HeadlabError: this frame cannot be read; others may well be.
        """
        frame = self.load(index)
        if frame.depth is None:
            raise HeadlabError(f"{self.names[index]} has no depth")
        if frame.camera is None and self.camera is not None:
            frame = frame.with_(camera=self.camera)
        if frame.camera is not None and frame.camera.size != frame.size:
            raise HeadlabError(
                f"{self.names[index]} has {frame.size[1]} x {frame.size[0]} pixels, the intrinsics are for "
                f"{frame.camera.size[1]} x {frame.camera.size[0]}; correct the intrinsics file"
            )
        return frame

    def with_camera(self, camera: Camera) -> "RgbdSequence":
        """The same frames with other intrinsics."""

        def load(index: int) -> Frame:
            return self.load(index).with_(camera=camera)

        return replace(self, load=load, camera=camera)


def open_rgbd(path: Path | str, *, depth_scale: float | int | None = None) -> RgbdSequence:
    """Find out what a path holds and open it.

    Args:
        path: a folder, or a file ending in .r3d, .bag, .mkv, .ply or .pcd.
        depth_scale: metres per count of 16-bit depth pictures; None: what the files say, or 0.001.

    Raises:
        HeadlabError: nothing there, nothing headlab knows, or damaged.
    """
    path = Path(path)
    if not path.exists():
        raise HeadlabError(f"{path} does not exist; name a folder of colour and depth pictures, or a recording")
    if depth_scale is not None and not 0 < depth_scale <= 1:
        raise HeadlabError(f"--depth-scale is metres per count, above 0 and at most 1, not {depth_scale:g}")
    kind = rgbd_kind(path)
    if kind == "folder":
        from .rgbd_folder import open_folder

        sequence = open_folder(path, depth_scale)
    elif kind == "r3d":
        from .rgbd_record3d import open_record3d

        sequence = open_record3d(path)
    elif kind in ("bag", "mkv"):
        from .rgbd_open3d import open_recording

        sequence = open_recording(path)
    elif kind == "cloud":
        from .rgbd_clouds import open_cloud

        sequence = open_cloud(path)
    else:
        raise HeadlabError(
            f"{path} is no RGB-D capture headlab knows; give a folder of colour and 16-bit depth pictures, or a file "
            "ending in .r3d, .bag, .mkv, .ply or .pcd"
        )
    if len(sequence) > _MOST_FRAMES:
        raise HeadlabError(f"{path} has {len(sequence)} frames; at most {_MOST_FRAMES} are read: cut it")
    return sequence


def rgbd_kind(path: Path) -> str | None:
    """folder, r3d, bag, mkv or cloud; None for anything else. Only names are looked at, but for folders."""
    if path.is_dir():
        from .rgbd_folder import looks_like_rgbd

        return "folder" if looks_like_rgbd(path) else None
    kinds = {".r3d": "r3d", ".bag": "bag", ".mkv": "mkv", ".ply": "cloud", ".pcd": "cloud"}
    return kinds.get(path.suffix.lower())


def check_depth(depth: Float[Tensor, "height width"], name: str, scale: float | int) -> None:
    """Refuse depth that no camera measures.

    Args:
        depth: metres, 0 = none.
        name: of the frame.
        scale: metres per count it was read with.

    Raises:
        HeadlabError: it is empty, or of another unit.
    """
    known = depth[depth > 0]
    if not len(known):
        raise HeadlabError(f"{name}: the depth is 0 everywhere; nothing was measured, take another frame or recording")
    middle = float(known.median())
    if PLAUSIBLE[0] <= middle <= PLAUSIBLE[1]:
        return
    counts = middle / scale
    fits = [unit for unit in UNITS if PLAUSIBLE[0] <= counts * unit <= 5 and unit != scale]
    hint = f"; the counts look like {UNITS[fits[0]]}: give --depth-scale {fits[0]:g}" if fits else ""
    raise HeadlabError(
        f"{name}: the median depth is {middle:.4g} m at {scale:g} m per count, which no camera measures of a person"
        f"{hint or '; give the right --depth-scale (metres per count)'}"
    )


def check_registered(depth: Float[Tensor, "rows columns"], size: tuple[int, int], name: str) -> None:
    """Refuse depth of another size than its picture.

    Raises:
        HeadlabError: it was not registered to the colour.
    """
    rows, columns = depth.shape
    if (rows, columns) != size:
        raise HeadlabError(
            f"{name}: the depth has {columns} x {rows} pixels, the colour {size[1]} x {size[0]}; register it to the "
            "colour first: add the depth camera's depth_intrinsics.txt (and depth_to_color.txt)"
        )
