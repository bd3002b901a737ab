"""How the picture is taken: pose, lens, crop, light."""

import math
from dataclasses import dataclass

import numpy as np

#: Real spherical harmonics in the order of `sh_basis`, with the factor pi that DECA's constant term leaves out.
_CONSTANTS = np.array([math.pi * 0.282095, *[0.488603] * 3, *[1.092548] * 3, 0.546274, 0.315392])


@dataclass(frozen=True)
class Scene:
    """One exposure. Angles in radians."""

    yaw: float
    pitch: float
    roll: float
    distance: float  #: from the camera to the face, metres
    crop_turn: float  #: faults of the crop: turn, log size, shift in parts of its side
    crop_log_size: float
    crop_shift: np.ndarray  #: (2,)
    light: np.ndarray  #: (9, 3)
    key: np.ndarray  #: (3,) direction towards the main light
    gloss: float
    clothes: np.ndarray  #: (3,)
    strands: np.ndarray  #: (3, 4) waves in hair: direction and phase


def draw_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene: half of the faces look at the camera, the others anywhere within 60 degrees."""
    facing = rng.random() < 0.5
    yaw = rng.normal(0, 12) if facing else rng.uniform(-60, 60)
    pitch = rng.normal(0, 7) if facing else rng.normal(0, 14)
    key = _direction(rng)
    warm = rng.normal(0, 0.08)
    tint = np.array([1 + warm, 1.0, 1 - warm])
    light = np.zeros((9, 3))
    light[0] = rng.uniform(0.25, 0.8) / 0.282095 * (1 + rng.normal(0, 0.03, 3))
    light += rng.uniform(0.1, 1.0) * _lobe(key)[:, None] * tint
    if rng.random() < 0.5:
        light += rng.uniform(0, 0.6) * _lobe(_direction(rng))[:, None] * (1 + rng.normal(0, 0.15, 3))
    light *= rng.uniform(0.8, 1.1) / max(0.45, float(light[0].mean() * 0.282095 + 0.3 * abs(light[3]).mean()))
    return Scene(
        yaw=math.radians(float(np.clip(yaw, -60, 60))),
        pitch=math.radians(float(np.clip(pitch, -35, 35))),
        roll=math.radians(float(rng.normal(0, 10))),
        distance=float(np.exp(rng.uniform(math.log(0.35), math.log(2.5)))),
        crop_turn=float(rng.normal(0, 0.07)),
        crop_log_size=float(rng.normal(0, 0.06)),
        crop_shift=rng.normal(0, 0.03, 2),
        light=light,
        key=key,
        gloss=float(rng.uniform(0, 0.35)) * float(rng.random() < 0.7),
        clothes=rng.uniform(0.03, 0.9, 3),
        strands=np.concatenate([rng.normal(0, (260, 90, 260), (3, 3)), rng.uniform(0, 2 * math.pi, (3, 1))], 1),
    )


def _direction(rng: np.random.Generator) -> np.ndarray:
    """Somewhere before or beside the face, rather above."""
    d = np.array([rng.normal(0, 0.9), rng.normal(0.4, 0.5), abs(rng.normal(0.5, 0.5)) + 0.05])
    return d / np.linalg.norm(d)


def _lobe(d: np.ndarray) -> np.ndarray:
    """Light coefficients (9,) of a distant lamp that lights a surface turned to it with 1."""
    x, y, z = d
    return _CONSTANTS * np.array([1, x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1])
