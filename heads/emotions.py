"""Expressions by name and by feeling: the eight AffectNet categories and valence-arousal points, as ARKit actions.

The categories (Mollahosseini et al., "AffectNet", 2017) are built from the action units that Ekman and Friesen found
for each emotion (EMFACS; Friesen and Ekman 1983; FACS Investigator's Guide 2002):

    happy 6+12     sad 1+4+15     surprise 1+2+5B+26     fear 1+2+4+5+7+20+26
    anger 4+5+7+23     disgust 9+15+16     contempt R12A+R14A     neutral none

each action unit being one or a few of ARKit's actions (`ACTION_UNITS`). Intensities A..E are `INTENSITY`; units without
a letter are at D, except those that would look staged (`_CATEGORIES` gives every one).
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.errors import HeadlabError

#: FACS intensities as weights: trace, slight, pronounced, severe, maximum.
INTENSITY = {"A": 0.15, "B": 0.35, "C": 0.55, "D": 0.8, "E": 1.0}

#: ARKit actions that make up each action unit, and how strongly. "L" and "R" variants follow from a name ending in *.
ACTION_UNITS: Mapping[int, Mapping[str, float]] = MappingProxyType(
    {
        1: {"browInnerUp": 1.0},
        2: {"browOuterUp*": 1.0},
        4: {"browDown*": 1.0},
        5: {"eyeWide*": 1.0},
        6: {"cheekSquint*": 1.0, "eyeSquint*": 0.3},
        7: {"eyeSquint*": 1.0},
        9: {"noseSneer*": 1.0, "mouthUpperUp*": 0.3},
        12: {"mouthSmile*": 1.0},
        14: {"mouthDimple*": 1.0},
        15: {"mouthFrown*": 1.0},
        16: {"mouthLowerDown*": 0.7},
        20: {"mouthStretch*": 1.0},
        23: {"mouthPress*": 0.8, "mouthRollLower": 0.3, "mouthRollUpper": 0.3},
        26: {"jawOpen": 0.5},
    }
)

#: Action unit -> intensity; a trailing R means the right side alone.
_CATEGORIES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "neutral": {},
        "happy": {"6": "D", "12": "D"},
        "sad": {"1": "D", "4": "C", "15": "D"},
        "surprise": {"1": "D", "2": "D", "5": "B", "26": "D"},
        "fear": {"1": "D", "2": "C", "4": "C", "5": "D", "7": "B", "20": "D", "26": "B"},
        "disgust": {"9": "D", "15": "C", "16": "C"},
        "anger": {"4": "D", "5": "C", "7": "C", "23": "D"},
        "contempt": {"12R": "B", "14R": "D"},
    }
)

#: AffectNet's order.
CATEGORIES = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
_ALIASES = {"happiness": "happy", "sadness": "sad", "surprised": "surprise", "disgusted": "disgust", "angry": "anger"}

#: Where the categories lie on the circle of valence and arousal, degrees from pleasure (0) to arousal (90), after
#: Russell's circumplex ("A circumplex model of affect", 1980); contempt has no agreed place. "calm" and "sleepy" stand
#: for the circle's lower half, which the categories leave empty.
ANGLES: Mapping[str, float] = MappingProxyType(
    {
        "happy": 25.0,
        "surprise": 70.0,
        "fear": 110.0,
        "anger": 135.0,
        "disgust": 160.0,
        "sad": 205.0,
        "sleepy": 270.0,
        "calm": 320.0,
    }
)
_QUIET = {
    "sleepy": {"eyeBlinkLeft": 0.5, "eyeBlinkRight": 0.5, "browInnerUp": 0.2},
    "calm": {"mouthSmileLeft": 0.3, "mouthSmileRight": 0.3, "eyeBlinkLeft": 0.2, "eyeBlinkRight": 0.2},
}


def is_category(name: str) -> bool:
    """Whether a word names one of the eight categories."""
    return name.lower() in CATEGORIES or name.lower() in _ALIASES


def category_index(name: str) -> int:
    """Number of a category in AffectNet's order.

    Raises:
        HeadlabError: no such category.
    """
    key = _ALIASES.get(name.lower(), name.lower())
    if key not in CATEGORIES:
        raise HeadlabError(f"no expression is called {name}; the categories are {', '.join(CATEGORIES)}")
    return CATEGORIES.index(key)


def category(name: str, strength: float = 1.0) -> dict[str, float]:
    """The ARKit actions of an AffectNet category.

    Args:
        name: one of `CATEGORIES`, in any case.
        strength: 1 as documented above, 0 neutral; weights stay within 0..1.

    Raises:
        HeadlabError: no such category.
    """
    weights: dict[str, float] = {}
    for unit, letter in _CATEGORIES[CATEGORIES[category_index(name)]].items():
        sides = ("Right",) if unit.endswith("R") else ("Left", "Right")
        for action, share in ACTION_UNITS[int(unit.rstrip("R"))].items():
            for name in [action[:-1] + side for side in sides] if action.endswith("*") else [action]:
                # Units that share an action do not add up: the muscle is one.
                weights[name] = max(weights.get(name, 0.0), INTENSITY[letter] * share)
    return {action: min(1.0, max(0.0, strength * weight)) for action, weight in weights.items()}


def valence_arousal(valence: float, arousal: float) -> dict[str, float]:
    """The ARKit actions of a feeling.

    The rule: the point's direction lies between two neighbours of `ANGLES`, whose actions are mixed in proportion to
    the angle; its distance from the origin (at most 1) scales them. So the origin is neutral and all is continuous.

    Args:
        valence: displeasure -1 to pleasure 1.
        arousal: sleepiness -1 to arousal 1.

    Raises:
        HeadlabError: outside -1..1.
    """
    if not (abs(valence) <= 1 and abs(arousal) <= 1):
        raise HeadlabError(f"valence and arousal are from -1 to 1, not {valence:g},{arousal:g}")
    strength = min(1.0, math.hypot(valence, arousal))
    angle = math.degrees(math.atan2(arousal, valence)) % 360
    names = list(ANGLES)
    after = next((i for i, name in enumerate(names) if ANGLES[name] > angle), 0)
    low, high = names[after - 1], names[after]
    span = (ANGLES[high] - ANGLES[low]) % 360
    share = ((angle - ANGLES[low]) % 360) / span
    out: dict[str, float] = {}
    for name, weight in ((low, 1 - share), (high, share)):
        for action, value in (_QUIET[name] if name in _QUIET else category(name)).items():
            out[action] = out.get(action, 0.0) + strength * weight * value
    return out


def expression_of(actions: Mapping[str, float], names: tuple[str, ...], model: str = "") -> Float[Tensor, "expr"]:
    """Expression code ψ of a model whose expressions are ARKit actions.

    Args:
        actions: weights by name; others are 0.
        names: the model's `expression_names`.
        model: the model's name, for the error.

    Raises:
        HeadlabError: the model lacks an action that is asked for.
    """
    missing = sorted(name for name, weight in actions.items() if name not in names and weight)
    if missing:
        raise HeadlabError(
            f"the head model {model or 'given'} has no action {missing[0]}; use the default model, "
            "whose actions are ARKit's 52 (jawOpen, mouthSmileLeft, ...)"
        )
    return torch.tensor([float(actions.get(name, 0.0)) for name in names])
