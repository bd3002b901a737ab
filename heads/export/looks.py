"""How the parts of a head look when no texture says: plain colours and gloss, chosen by the part's name."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Look:
    """A plain material."""

    color: tuple[float, float, float]  #: sRGB 0..1
    roughness: float  #: 0 mirror .. 1 chalk, as glTF defines it


#: The first row whose word occurs in the part's name holds.
_LOOKS = (
    ("lash", Look((0.10, 0.08, 0.07), 0.8)),
    ("brow", Look((0.16, 0.12, 0.10), 0.8)),
    ("eye", Look((0.90, 0.89, 0.87), 0.15)),
    ("teeth", Look((0.88, 0.85, 0.78), 0.30)),
    ("gum", Look((0.70, 0.40, 0.38), 0.40)),
    ("tongue", Look((0.72, 0.38, 0.37), 0.45)),
    ("mouth", Look((0.55, 0.27, 0.26), 0.50)),
    ("", Look((0.80, 0.62, 0.53), 0.60)),
)


def look_of(part: str) -> Look:
    """The plain look of a part: eyes white and glossy, teeth ivory, anything unknown like skin."""
    return next(look for word, look in _LOOKS if word in part.lower())


def linear(color: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """sRGB 0..1 -> linear light 0..1 (IEC 61966-2-1)."""
    color = np.clip(color, 0.0, 1.0)
    return np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
