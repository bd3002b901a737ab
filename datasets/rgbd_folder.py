"""Folders of colour pictures and 16-bit depth pictures.

Known layouts: `NNNN_color.png` beside `NNNN_depth.png` (also rgb, colour, image; an optional NNNN_mask.png), or the
subfolders color|colour|rgb|image(s) and depth (Open3D, TUM, ScanNet). Intrinsics: `intrinsics.txt` (lines "fx 536.6",
or a 3 x 3 matrix), `camera_intrinsic.json`/`intrinsic.json` (Open3D), or a camera trajectory
(`rgbd_trajectory`). Depth of a camera of its own is registered to the colour on reading where
`depth_intrinsics.txt` says what that camera is, and `depth_to_color.txt` (a 4 x 4 matrix, metres) where it stands.
Also read: LDM3D's packing (`NNNN_ldm3d.png` beside the colour) and 16-bit RGBA with depth in alpha (`NNNN_rgbd.png`).
"""

import re
from collections.abc import Callable
from pathlib import Path

from ..geometry.camera import Camera
from ..geometry.errors import HeadlabError
from ..geometry.files import write_png
from ..geometry.frame import Frame
from ..geometry.rgbd.register import register_depth
from .depth_map import read_depth, write_depth
from .photo import read_photo
from .rgbd_intrinsics import read_depth_camera, read_intrinsics_json, read_intrinsics_text, write_intrinsics
from .rgbd_packed import read_four_channels, read_packed
from .rgbd_sequence import RgbdSequence, check_depth, check_registered
from .rgbd_trajectory import Pose, find_trajectory

_COLOUR = ("color", "colour", "rgb", "image", "images")
_PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"}
_DEPTHS = {".png", ".tif", ".tiff"}
_DEPTH_WORDS = ("depth", "ldm3d", "rgbd")


def looks_like_rgbd(folder: Path) -> bool:
    """Whether a folder holds depth pictures under a name that is known."""
    return (folder / "depth").is_dir() or any(_word(file) in _DEPTH_WORDS for file in folder.iterdir())


def open_folder(folder: Path, depth_scale: float | int | None = None) -> RgbdSequence:
    """Pair colour and depth pictures by the numbers in their names.

    Args:
        folder: see the module.
        depth_scale: metres per count; None: what intrinsics.txt says, or 0.001.

    Raises:
        HeadlabError: no pictures, or not one depth for each colour.
    """
    colours, depths, masks = _files(folder)
    if not colours or not depths:
        missing = "colour" if not colours else "depth"
        raise HeadlabError(
            f"{folder} holds no {missing} pictures; expected NNNN_color.png beside NNNN_depth.png, or the subfolders "
            "color and depth"
        )
    if len(colours) != len(depths):
        lone = sorted(set(colours) ^ set(depths))[:3]
        hint = f" (without partner: {', '.join(lone)})" if lone else ""
        raise HeadlabError(
            f"{folder} holds {len(colours)} colour and {len(depths)} depth pictures{hint}; there must be one depth "
            "picture for each colour picture: remove those without partner"
        )
    pairs: list[tuple[Path, Path, Path | None]]
    if set(colours) == set(depths):
        keys = sorted(colours, key=_order)
        pairs = [(colours[key], depths[key], masks.get(key)) for key in keys]
    else:  # named by time stamps of their own: in order
        sets = (sorted(colours, key=_order), sorted(depths, key=_order))
        pairs = [(colours[a], depths[b], None) for a, b in zip(*sets, strict=True)]
    camera, said, poses = _read_cameras(folder)
    scale = depth_scale or said or 0.001
    if poses is not None and len(poses) != len(pairs):
        raise HeadlabError(
            f"{folder} holds {len(pairs)} frames but a trajectory of {len(poses)} poses; correct the trajectory file"
        )
    names = tuple(pair[0].name for pair in pairs)
    depth_camera = read_depth_camera(folder)
    return RgbdSequence(folder, names, _loader(pairs, scale, poses, camera, depth_camera), camera, scale=scale)


def _loader(
    pairs: list[tuple[Path, Path, Path | None]],
    scale: float,
    poses: list[Pose] | None,
    colour_camera: Camera | None,
    depth_camera: Camera | None,
) -> Callable[[int], Frame]:
    def load(index: int) -> Frame:
        colour, depth, mask = pairs[index]
        if colour == depth:
            image, metres = read_four_channels(colour)
            frame = Frame(image, source=colour)
        else:
            frame = read_photo(colour)
            metres = read_packed(depth) if _word(depth) == "ldm3d" else read_depth(depth)
        metres = metres * (1000 * scale)
        check_depth(metres, depth.name, scale)
        if depth_camera is not None:
            if colour_camera is None:
                raise HeadlabError("depth_intrinsics.txt is there, but not the colour camera's intrinsics.txt; add it")
            metres = register_depth(metres, depth_camera, colour_camera).depth
        check_registered(metres, frame.size, depth.name)
        cut = None if mask is None else read_photo(mask).image.amax(0)
        cut = cut if cut is not None and tuple(cut.shape) == frame.size else frame.mask
        camera = None if poses is None else poses[index].camera(frame.size)
        return frame.with_(depth=metres, mask=cut, camera=camera, source=colour)

    return load


def write_rgbd_folder(
    folder: Path, frames: list[Frame], *, subfolders: bool = False, names: list[str] | None = None
) -> None:
    """Write frames as PNG16 + colour, with intrinsics.txt (of the first frame) where they are known.

    Args:
        folder: an existing folder.
        frames: with depth.
        subfolders: color/ and depth/ (what Open3D reads) rather than NNNN_color.png.
        names: stems; 0001, 0002, ... where absent.

    Raises:
        HeadlabError: a frame has no depth, or a file cannot be written.
    """
    if subfolders:
        for name in ("color", "depth"):
            (folder / name).mkdir(exist_ok=True)
    for i, frame in enumerate(frames):
        if frame.depth is None:
            raise HeadlabError(f"frame {i + 1} has no depth to write")
        stem = names[i] if names else f"{i + 1:04d}"
        colour, depth = f"{stem}_color.png", f"{stem}_depth.png"
        if subfolders:
            colour, depth = f"color/{stem}.png", f"depth/{stem}.png"
        write_png(folder / colour, frame.image)
        write_depth(folder / depth, frame.depth)
    camera = frames[0].camera if frames else None
    if camera is not None:
        write_intrinsics(folder, camera)


def _files(folder: Path) -> tuple[dict[str, Path], dict[str, Path], dict[str, Path]]:
    """Colour, depth and mask pictures by their key."""
    colour_folder = next((folder / name for name in _COLOUR if (folder / name).is_dir()), None)
    if (folder / "depth").is_dir():
        if colour_folder is None:
            return {}, {"": folder / "depth"}, {}
        masks = folder / "mask"
        return (
            _in(colour_folder, _PICTURES),
            _in(folder / "depth", _DEPTHS),
            _in(masks, _PICTURES) if masks.is_dir() else {},
        )
    colours, depths, masks = {}, {}, {}
    for file in sorted(folder.iterdir()):
        word = _word(file)
        if word in _COLOUR and file.suffix.lower() in _PICTURES:
            colours[_key(file)] = file
        elif word in _DEPTH_WORDS and file.suffix.lower() in _DEPTHS:
            depths[_key(file)] = file
            if word == "rgbd":
                colours[_key(file)] = file
        elif word == "mask":
            masks[_key(file)] = file
    return colours, depths, masks


def _in(folder: Path, suffixes: set[str]) -> dict[str, Path]:
    return {f.stem: f for f in folder.iterdir() if f.suffix.lower() in suffixes and not f.name.startswith(".")}


def _word(file: Path) -> str:
    """ "0001_depth.png" -> "depth"; also "depth_0001.png" and "0001.depth.png"; fused depth is another word."""
    parts = [part for part in re.split(r"[._\-\s]", file.stem.lower()) if part]
    words = [part for part in parts if not part.isdigit()]
    return words[0] if len(words) == 1 else "_".join(words)


def _key(file: Path) -> str:
    return re.sub(r"(color|colour|rgbd|rgb|images?|depth|ldm3d|mask)", "", file.stem.lower()).strip("._- ")


def _order(key: str) -> list[tuple[int, str]]:
    return [(int(s), "") if s.isdigit() else (-1, s) for s in re.split(r"(\d+)", key)]


def _read_cameras(folder: Path) -> tuple[Camera | None, float | None, list[Pose] | None]:
    """Intrinsics, metres per count and poses, as far as files tell."""
    poses = find_trajectory(folder)
    for name in ("camera_intrinsic.json", "intrinsic.json", "intrinsics.json", "camera.json"):
        if (folder / name).is_file() and not (folder / "intrinsics.txt").is_file():
            return read_intrinsics_json(folder / name), None, poses
    if (folder / "intrinsics.txt").is_file():
        camera, scale = read_intrinsics_text(folder / "intrinsics.txt")
        return camera, scale, poses
    return (poses[0].camera(None) if poses else None), None, poses
