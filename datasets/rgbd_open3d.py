"""RealSense .bag and Azure Kinect .mkv, through Open3D where it is installed.

Open3D may abort a process that lacks its system libraries, so a child process unpacks the recording into a temporary
folder of PNG16 + colour, which then is read like any other.

    python -m headlab.datasets.rgbd_open3d RECORDING FOLDER
"""

import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from ..geometry.errors import HeadlabError
from .rgbd_sequence import RgbdSequence

_SECONDS = 1800


def open_recording(path: Path) -> RgbdSequence:
    """Unpack a recording; its frames live as long as the sequence.

    Raises:
        HeadlabError: Open3D is missing or fails, or the recording is damaged.
    """
    if find_spec("open3d") is None:
        raise HeadlabError(f"{path} needs Open3D to be read; run `pip install open3d`, or convert it to PNG elsewhere")
    if path.stat().st_size == 0:
        raise HeadlabError(f"{path} is empty (0 bytes); get a whole copy of it")
    folder = tempfile.TemporaryDirectory(prefix="headlab-")
    command = [sys.executable, "-m", __name__, str(path.absolute()), folder.name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        folder.cleanup()
        raise HeadlabError(f"{path} took longer than {_SECONDS} s to unpack; cut the recording") from error
    if done.returncode:
        folder.cleanup()
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = " ".join(lines[-1].split())[:160] if lines else f"it ended with code {done.returncode}"
        raise HeadlabError(f"{path} cannot be read through Open3D ({reason}); check that the recording is whole")
    from .rgbd_folder import open_folder

    scale = None
    said = Path(folder.name) / "depth_scale.json"
    if said.is_file():
        scale = json.loads(said.read_text())["metres_per_count"]
    sequence = open_folder(Path(folder.name), scale)
    names = tuple(f"{path.name} {name}" for name in sequence.names)

    def load(index: int):
        assert folder is not None  # keeps the folder until the sequence is gone
        return sequence.load(index)

    return RgbdSequence(path, names, load, sequence.camera, sequence.notes, sequence.scale)


def unpack(path: Path, folder: Path) -> int:
    """In the child process: write color/, depth/, the intrinsics and the unit. Returns the number of frames."""
    count = _unpack_bag(path, folder) if path.suffix.lower() == ".bag" else _unpack_mkv(path, folder)
    if not count:
        raise SystemExit("it holds no frames with colour and depth")
    return count


def _unpack_bag(path: Path, folder: Path) -> int:
    import open3d as o3d

    reader = o3d.t.io.RSBagReader.create(path)
    reader.save_frames(str(folder))  # color/*.jpg and depth/*.png, aligned, and intrinsic.json
    said = json.loads((folder / "intrinsic.json").read_text())
    scale = float(said.get("depth_scale", 1000.0))  # counts per metre
    (folder / "depth_scale.json").write_text(json.dumps({"metres_per_count": 1 / scale}))
    return len(list((folder / "color").iterdir()))


def _unpack_mkv(path: Path, folder: Path) -> int:
    import open3d as o3d

    reader = o3d.io.AzureKinectMKVReader()
    reader.open(str(path))
    if not reader.is_opened():
        raise SystemExit("it is no Azure Kinect recording, or the k4a library is missing")
    for name in ("color", "depth"):
        (folder / name).mkdir()
    o3d.io.write_azure_kinect_mkv_metadata(folder / "camera_intrinsic.json", reader.get_metadata())
    count = 0
    while not reader.is_eof():
        frame = reader.next_frame()
        if frame is None:
            continue
        o3d.io.write_image(folder / "color" / f"{count:05d}.png", frame.color)
        o3d.io.write_image(folder / "depth" / f"{count:05d}.png", frame.depth)
        count += 1
    reader.close()
    return count


if __name__ == "__main__":
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
