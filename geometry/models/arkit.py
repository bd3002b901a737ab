"""The 52 face actions of Apple's ARKit (ARFaceAnchor.BlendShapeLocation), in the order MediaPipe also uses."""

ARKIT_ACTIONS = (
    "browDownLeft",
    "browDownRight",
    "browInnerUp",
    "browOuterUpLeft",
    "browOuterUpRight",
    "cheekPuff",
    "cheekSquintLeft",
    "cheekSquintRight",
    "eyeBlinkLeft",
    "eyeBlinkRight",
    "eyeLookDownLeft",
    "eyeLookDownRight",
    "eyeLookInLeft",
    "eyeLookInRight",
    "eyeLookOutLeft",
    "eyeLookOutRight",
    "eyeLookUpLeft",
    "eyeLookUpRight",
    "eyeSquintLeft",
    "eyeSquintRight",
    "eyeWideLeft",
    "eyeWideRight",
    "jawForward",
    "jawLeft",
    "jawOpen",
    "jawRight",
    "mouthClose",
    "mouthDimpleLeft",
    "mouthDimpleRight",
    "mouthFrownLeft",
    "mouthFrownRight",
    "mouthFunnel",
    "mouthLeft",
    "mouthLowerDownLeft",
    "mouthLowerDownRight",
    "mouthPressLeft",
    "mouthPressRight",
    "mouthPucker",
    "mouthRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthSmileLeft",
    "mouthSmileRight",
    "mouthStretchLeft",
    "mouthStretchRight",
    "mouthUpperUpLeft",
    "mouthUpperUpRight",
    "noseSneerLeft",
    "noseSneerRight",
    "tongueOut",
)

#: How strongly an action is used, as the scale of a prior on its weight 0..1: common ones (a smile, a blink) freely,
#: rare or unpleasant ones (lips rolled in, cheeks puffed) seldom. Actions not listed: 0.3. Gaze is left to the eye
#: joints, so the lids' share of it (eyeLook…) stays small.
_USE = {
    0.5: (
        *("browDown", "browInnerUp", "browOuterUp", "eyeBlink", "eyeSquint", "cheekSquint", "noseSneer", "jawOpen"),
        *("mouthSmile", "mouthStretch", "mouthUpperUp", "mouthLowerDown", "mouthPucker", "mouthFunnel"),
    ),
    0.15: (
        *("mouthPress", "mouthRoll", "mouthShrug", "mouthLeft", "mouthRight", "mouthDimple", "mouthClose"),
        *("mouthFrown", "jawLeft", "jawRight", "jawForward", "cheekPuff", "eyeWide", "tongueOut"),
    ),
    0.1: ("eyeLook",),
}


def action_std(name: str) -> float:
    """Prior scale of an action's weight."""
    return next((std for std, stems in _USE.items() if name.startswith(stems)), 0.3)
