"""Who is in the picture: what stays the same in all pictures of one person."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Person:
    """One person. Colours are sRGB 0..1, lengths metres."""

    shape: np.ndarray  #: (shape,) β
    albedo: np.ndarray  #: (comps,)
    hairline: float  #: angle above the ears' level at which hair begins on the forehead, radians; large: bald
    hair_thickness: float
    hair_length: float  #: 0: ends at the nape, 1: to the shoulders and below
    hair_colour: np.ndarray  #: (3,)
    beard: float  #: 0..1, density
    glasses: float  #: 0: none, 1: with rims, 2: sunglasses
    glasses_shape: np.ndarray  #: (4,) half width, half height, roundness exponent, rim thickness
    glasses_colour: np.ndarray  #: (3,)


_HAIR_COLOURS = np.array(
    [[0.07, 0.06, 0.06], [0.2, 0.13, 0.09], [0.36, 0.24, 0.15], [0.68, 0.52, 0.32], [0.6, 0.6, 0.6], [0.45, 0.2, 0.1]]
)
_HAIR_SHARES = (0.32, 0.27, 0.18, 0.12, 0.08, 0.03)


def draw_person(rng: np.random.Generator, shapes: int, albedos: int) -> Person:
    """Draw a person; β and the albedo code are unit Gaussians, as the models' own scaling has it."""
    bald = rng.random() < 0.12
    hairline = rng.uniform(1.25, 1.9) if bald else rng.normal(0.72, 0.1)
    long_hair = not bald and rng.random() < 0.45
    tone = _HAIR_COLOURS[rng.choice(len(_HAIR_COLOURS), p=_HAIR_SHARES)]
    bearded = rng.random() < 0.3 and not long_hair
    glasses = rng.choice((0.0, 1.0, 2.0), p=(0.76, 0.2, 0.04))
    return Person(
        shape=rng.normal(size=shapes),
        albedo=rng.normal(size=albedos),
        hairline=float(hairline),
        hair_thickness=float(rng.uniform(0.001, 0.006) if bald else rng.uniform(0.004, 0.03)),
        hair_length=float(rng.uniform(0.2, 1.0)) if long_hair else 0.0,
        hair_colour=(tone * rng.uniform(0.7, 1.3) + rng.normal(0, 0.02, 3)).clip(0.02, 0.95),
        beard=float(rng.uniform(0.2, 1.0)) if bearded else 0.0,
        glasses=float(glasses),
        glasses_shape=np.array(
            [rng.uniform(0.022, 0.028), rng.uniform(0.014, 0.023), rng.uniform(2, 4), rng.uniform(0.0008, 0.0025)]
        ),
        glasses_colour=rng.choice(np.array([[0.03, 0.03, 0.03], [0.25, 0.15, 0.08], [0.6, 0.55, 0.4]]))
        + rng.uniform(0, 0.1, 3),
    )
