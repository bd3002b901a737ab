"""CSV of ARKit's 52 curves with Live Link Face's columns, as its recordings have them and Unreal and Blender import it.

    Timecode, BlendShapeCount (61), the 52 curves in Live Link Face's order, HeadYaw, HeadPitch, HeadRoll,
    LeftEyeYaw, LeftEyePitch, LeftEyeRoll, RightEyeYaw, RightEyePitch, RightEyeRoll

Timecode is hours:minutes:seconds:frames.thousandths of a frame. Curves are 0..1. Angles are radians, of the rotation
about +Y by yaw, then about the turned +X by pitch, then +Z by roll (R = Ry Rx Rz): yaw is positive towards the
subject's left, pitch downwards, roll towards the subject's right shoulder.
"""

import csv
import io
import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...geometry.code import HeadCode
from ...geometry.code_formats import arkit_weights
from ...geometry.errors import HeadlabError
from ...geometry.files import write_text
from ...geometry.models.arkit import ARKIT_ACTIONS
from ...geometry.models.head_model import HeadModel
from ...geometry.rodrigues import rotvec_to_rotmat

_EYE = ("Blink", "LookDown", "LookIn", "LookOut", "LookUp", "Squint", "Wide")
#: Live Link Face's order of the 52.
COLUMNS: tuple[str, ...] = (
    *(f"Eye{action}{side}" for side in ("Left", "Right") for action in _EYE),
    *("JawForward", "JawRight", "JawLeft", "JawOpen"),
    *("MouthClose", "MouthFunnel", "MouthPucker", "MouthRight", "MouthLeft"),
    *(f"Mouth{action}{side}" for action in ("Smile", "Frown", "Dimple", "Stretch") for side in ("Left", "Right")),
    *("MouthRollLower", "MouthRollUpper", "MouthShrugLower", "MouthShrugUpper"),
    *(f"Mouth{action}{side}" for action in ("Press", "LowerDown", "UpperUp") for side in ("Left", "Right")),
    *("BrowDownLeft", "BrowDownRight", "BrowInnerUp", "BrowOuterUpLeft", "BrowOuterUpRight"),
    *("CheekPuff", "CheekSquintLeft", "CheekSquintRight", "NoseSneerLeft", "NoseSneerRight", "TongueOut"),
)
ANGLES = tuple(f"{part}{angle}" for part in ("Head", "LeftEye", "RightEye") for angle in ("Yaw", "Pitch", "Roll"))
_ORDER = [ARKIT_ACTIONS.index(name[0].lower() + name[1:]) for name in COLUMNS]


def write_arkit_csv(
    path: Path, model: HeadModel, codes: HeadCode, times: Float[np.ndarray, "frames"], rate: float | int
) -> None:
    """Write a track's curves, atomically.

    Args:
        path: the file.
        model: its ψ carries ARKit's names.
        codes: a frame axis.
        times: seconds.
        rate: frames per second that the timecode counts in.

    Raises:
        HeadlabError: ψ has none of ARKit's names, or the file cannot be written.
    """
    curves = arkit_weights(model, codes).double().clamp(0, 1)[:, _ORDER]
    rotations = torch.cat([codes.rotation[:, None], codes.eyes], 1).double()
    values = torch.cat([curves, yaw_pitch_roll(rotations).flatten(1)], 1).numpy()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["Timecode", "BlendShapeCount", *COLUMNS, *ANGLES])
    for time, row in zip(times, values, strict=True):
        writer.writerow([timecode(float(time), rate), len(row), *(f"{value:.6f}" for value in row)])
    write_text(path, text.getvalue())


def read_arkit_csv(path: Path) -> tuple[list[str], Float[np.ndarray, "frames 52"]]:
    """Timecodes and curves of a Live Link Face recording, the curves in the order of `ARKIT_ACTIONS`.

    Columns are found by name, whatever their case and order; missing curves are 0.

    Raises:
        HeadlabError: the file cannot be read, or is something else.
    """
    try:
        rows = list(csv.reader(io.StringIO(path.read_text("utf-8-sig"))))
        places = {name.strip().lower(): i for i, name in enumerate(rows[0])}
        found = [places.get(name.lower()) for name in ARKIT_ACTIONS]
        if "timecode" not in places or all(place is None for place in found):
            raise ValueError("no Timecode or none of the 52 curves among its columns")
        body = [row for row in rows[1:] if row]
        values = [[0.0 if place is None else float(row[place]) for place in found] for row in body]
        if not np.isfinite(values).all():
            raise ValueError("values that are no finite numbers")
        return [row[places["timecode"]] for row in body], np.array(values).reshape(len(body), len(found))
    except (OSError, UnicodeDecodeError, ValueError, IndexError, csv.Error) as error:
        reason = " ".join(str(error).split())[:120]
        raise HeadlabError(f"{path} is not a CSV of ARKit curves ({reason}); export one from Live Link Face") from error


def timecode(seconds: float, rate: float | int) -> str:
    """hours:minutes:seconds:frames.thousandths."""
    whole = math.floor(seconds + 1e-9)
    thousandths = math.floor((seconds - whole) * rate * 1000 + 0.5)
    if thousandths >= math.ceil(rate) * 1000:
        whole, thousandths = whole + 1, 0
    frame, part = divmod(max(thousandths, 0), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}:{frame:02d}.{part:03d}"


def yaw_pitch_roll(vectors: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Axis-angle -> yaw, pitch, roll in radians, R = Ry(yaw) Rx(pitch) Rz(roll)."""
    R = rotvec_to_rotmat(vectors)
    pitch = torch.asin((-R[..., 1, 2]).clamp(-1, 1))
    yaw = torch.atan2(R[..., 0, 2], R[..., 2, 2])
    roll = torch.atan2(R[..., 1, 0], R[..., 1, 1])
    return torch.stack([yaw, pitch, roll], -1)
