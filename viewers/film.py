"""Films: MP4 by FFmpeg's libraries, GIF by Pillow."""

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from PIL import Image

from ..datasets.video import write_video
from ..geometry.errors import HeadlabError
from ..geometry.files import atomic_path
from .canvas import Picture

#: A GIF's colours are chosen from this many of its first frames.
_SAMPLE = 8


def write_film(path: Path, pictures: Iterator[Picture], rate: float = 25.0) -> int:
    """Write pictures of one size, atomically; how many there were.

    Args:
        path: .mp4 or .gif.
        pictures: at least one.
        rate: a second; GIFs know hundredths of a second only.

    Raises:
        HeadlabError: another suffix, no pictures, or the file cannot be written.
    """
    first = next(pictures, None)
    if first is None:
        raise HeadlabError(f"{path} would be a film without pictures; name a head")
    pictures = chain([first], pictures)
    suffix = path.suffix.lower()
    if suffix == ".mp4":
        return write_video(path, pictures, rate)
    if suffix != ".gif":
        raise HeadlabError(f"{path} is no film's name; films are .mp4 or .gif")
    sample = list(islice(pictures, _SAMPLE))
    palette = _palette(sample)
    frames = [
        Image.fromarray(picture).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
        for picture in chain(sample, pictures)
    ]
    with atomic_path(path) as temporary:
        frames[0].save(
            temporary, "GIF", save_all=True, append_images=frames[1:], duration=max(20, round(1000 / rate)), loop=0
        )
    return len(frames)


def _palette(pictures: list[Picture]) -> Image.Image:
    """One palette for the whole film, so that colours do not flicker."""
    import numpy as np

    return Image.fromarray(np.concatenate(pictures, 1)).quantize(256, method=Image.Quantize.MEDIANCUT)
