"""Expressions as people make them: eight emotions, speech, blinks, gaze and odd grimaces, in ARKit's actions.

Label: the emotion drawn (AffectNet's eight classes and order). Valence and arousal, by rule: the emotion's anchor on
the circumplex (Russell 1980) times its intensity; an intensity below 0.1 is neutral. Speech and blinks do not count.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: AffectNet's classes in its order (Mollahosseini et al. 2017).
EMOTIONS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")

#: (valence, arousal) at full intensity, -1..1.
ANCHORS = np.array(
    [[0, 0], [0.85, 0.35], [-0.75, -0.35], [0.2, 0.85], [-0.6, 0.75], [-0.7, 0.4], [-0.6, 0.7], [-0.5, 0.15]]
)

#: Actions at full intensity. A name without a side stands for both; ">" marks the stronger side of a lopsided face.
_PRESETS: dict[str, dict[str, float]] = {
    "neutral": {},
    "happiness": {"mouthSmile": 0.9, "cheekSquint": 0.7, "eyeSquint": 0.45, "mouthUpperUp": 0.35, "mouthDimple": 0.3},
    "sadness": {"mouthFrown": 0.7, "browInnerUp": 0.8, "mouthShrugLower": 0.4, "eyeSquint": 0.25, "eyeBlink": 0.15},
    "surprise": {"browInnerUp": 0.9, "browOuterUp": 0.8, "eyeWide": 0.8, "jawOpen": 0.6, "mouthFunnel": 0.2},
    "fear": {"browInnerUp": 0.9, "browDown": 0.25, "eyeWide": 0.9, "mouthStretch": 0.7, "jawOpen": 0.3},
    "disgust": {"noseSneer": 0.9, "mouthUpperUp": 0.6, "browDown": 0.5, "cheekSquint": 0.4, "mouthFrown": 0.3},
    "anger": {"browDown": 0.95, "eyeSquint": 0.4, "noseSneer": 0.4, "mouthPress": 0.7, "mouthFrown": 0.35},
    "contempt": {">mouthSmile": 0.6, ">mouthDimple": 0.7, "mouthPress": 0.25, ">browOuterUp": 0.2},
}
_SPEECH = ("jawOpen", "mouthFunnel", "mouthPucker", "mouthLowerDown", "mouthUpperUp", "mouthRollLower", "mouthStretch")
_SPEECH_LIMIT = (0.7, 0.7, 0.8, 0.7, 0.4, 0.4, 0.4)


@dataclass(frozen=True)
class ExpressionDraw:
    """One face."""

    psi: np.ndarray  #: (expr,)
    eyes: np.ndarray  #: (2, 3) axis-angle, left and right
    emotion: int  #: index into EMOTIONS; -1 where the model has no ARKit actions
    valence_arousal: np.ndarray  #: (2,), NaN where the emotion is -1


def draw_expression(rng: np.random.Generator, names: Sequence[str], std: np.ndarray) -> ExpressionDraw:
    """Draw an expression for a model with these actions.

    Models without ARKit's names get independent Gaussian coefficients and no label.

    Args:
        rng: source of chance.
        names: the model's `expression_names`.
        std: (expr,) scale of its coefficients, used for the unlabelled kind.
    """
    place = {name: i for i, name in enumerate(names)}
    gaze = rng.normal(0, (0.12, 0.22)).clip((-0.35, -0.55), (0.35, 0.55))  # down, to the subject's left; radians
    vergence = rng.uniform(0, 0.06)
    eyes = np.array([[gaze[0], gaze[1] - vergence, 0], [gaze[0], gaze[1] + vergence, 0]])
    if "jawOpen" not in place:
        psi = rng.normal(0, 0.7, len(names)) * std
        return ExpressionDraw(psi, eyes, -1, np.full(2, np.nan))
    psi = np.zeros(len(names))

    def add(name: str, amount: float, tilt: float) -> None:
        """Both sides, the left one (1 + tilt) and the right one (1 - tilt) times."""
        if name in place:
            psi[place[name]] += amount
            return
        for side, factor in (("Left", 1 + tilt), ("Right", 1 - tilt)):
            if name + side in place:
                psi[place[name + side]] += amount * factor

    emotion = int(rng.integers(len(EMOTIONS)))
    intensity = float(rng.beta(1.3, 1.2)) if emotion else 0.0
    if intensity < 0.1:
        emotion, intensity = 0, 0.0
    lopsided = float(rng.choice((-1.0, 1.0)))
    for name, amount in _PRESETS[EMOTIONS[emotion]].items():
        tilt = lopsided * rng.uniform(0.7, 1.0) if name[0] == ">" else rng.normal(0, 0.12)
        add(name.removeprefix(">"), amount * intensity * rng.uniform(0.6, 1.3), tilt)
    if rng.random() < 0.4:
        amounts = rng.beta(0.7, 1.6, len(_SPEECH)) * _SPEECH_LIMIT
        for name, amount in zip(_SPEECH, amounts, strict=True):
            add(name, float(amount), rng.normal(0, 0.08))
    if rng.random() < 0.35:  # odd movements, each side for itself
        for i in rng.choice(len(names), 5, replace=False):
            if names[i] != "tongueOut":
                psi[i] += rng.beta(1, 2)
    if rng.random() < 0.14:
        add("eyeBlink", rng.uniform(0.3, 1.0), rng.normal(0, 0.05))
    if rng.random() < 0.03:
        add("tongueOut", rng.uniform(0.3, 1.0), 0.0)
    for name, amount in (("Down", gaze[0]), ("Up", -gaze[0])):
        add(f"eyeLook{name}", max(0.0, amount) / 0.5, 0.0)
    outwards = max(0.0, gaze[1]) / 0.6, max(0.0, -gaze[1]) / 0.6
    for name, left, right in (("Out", *outwards), ("In", *outwards[::-1])):
        for side, amount in (("Left", left), ("Right", right)):
            if f"eyeLook{name}{side}" in place:
                psi[place[f"eyeLook{name}{side}"]] += amount
    return ExpressionDraw(psi.clip(0, 1), eyes, emotion, ANCHORS[emotion] * intensity)
