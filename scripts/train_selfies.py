"""RGB-D selfies for `headlab train denoiser --data rgbd:FOLDER`."""

from pathlib import Path
from typing import Any

PREFIX = "rgbd:"


def selfie_data(text: str, system: Any, kept: Path, progress=print) -> Any:
    """`SelfieLatents` of a folder of captures. The crops are kept in a file, and made anew when captures change.

    Args:
        text: rgbd:FOLDER.
        system: the latent diffusion that is trained.
        kept: the file.
        progress: called with a line per capture.

    Raises:
        HeadlabError: no such data, no captures, or none that can be used.
    """
    from ..datasets.rgbd_selfie import open_selfies
    from ..datasets.rgbd_selfie_crops import read_crops, write_crops
    from ..diffusion.training_selfies import SelfieLatents
    from ..geometry.errors import HeadlabError
    from ..geometry.landmarks import open_detector
    from ..geometry.models.default import load_default_head
    from ..heads.assets import find_asset
    from ..heads.fit import FitTools
    from ..heads.selfie_crops import selfie_crops

    if not text.startswith(PREFIX):
        raise HeadlabError(f"--data is rgbd:FOLDER, not {text}; name a folder of pairs without --data")
    folder = Path(text.removeprefix(PREFIX))
    people = open_selfies(folder)
    sizes = system.config.denoiser
    told = f"{_fingerprint(folder)} {sizes.size} {sizes.expressions}"
    if kept.is_file():
        crops, was = read_crops(kept)
        if was == told:
            return SelfieLatents.of(system, crops)
    tools = FitTools.build("default", load_default_head(), 256)
    with open_detector("auto", find_asset("face_landmarker")) as detector:
        crops = selfie_crops(tools, people, detector, sizes.size, sizes.expressions, progress)
    for line in crops.skipped:
        progress(f"left out {line}")
    write_crops(crops, kept, told)
    return SelfieLatents.of(system, crops)


def _fingerprint(folder: Path) -> str:
    """Changes when a file of the folder does."""
    import hashlib

    digest = hashlib.sha256()
    for path in sorted(x for x in folder.rglob("*") if x.is_file()):
        stat = path.stat()
        digest.update(f"{path.relative_to(folder)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
