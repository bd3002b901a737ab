"""Where the photo is that a head was fitted to."""

from pathlib import Path

from .head_fit import HeadFit


def photo_candidates(fit: HeadFit, index: int, fitted: Path) -> list[Path]:
    """Places to look for a photo, likeliest first: beside the fit, where it was then, one folder up.

    Args:
        fit: what was fitted.
        index: which of its photos.
        fitted: the file that holds the fit.
    """
    listed = fit.report.get("photos", [])
    recorded = [Path(str(listed[index].get("source")))] if index < len(listed) else []
    name = fit.sources[index]
    return [fitted.parent / name, *recorded, fitted.absolute().parent.parent / name]
