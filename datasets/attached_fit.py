"""A head's fit kept with its picture: the code, the camera and the model's name, as JSON beside the labels.

    {"points": [[x, y], ...], "fit": {"model": "...", "code": {"shape": [...], ...}, "K": ..., "R": ..., "t": ...}}

When a picture is cut out or resized, landmarks and camera go with it. Condition maps are rendered from this when they
are wanted (`diffusion/training_store.py`), or stored (`lmdb_diffusionrig.py`). Imports no torch until a fit is read.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from ..geometry.errors import HeadlabError

if TYPE_CHECKING:
    from ..geometry.camera import Camera
    from ..geometry.code import HeadCode

Told = dict[str, Any]
_DIGITS = 6


@dataclass(frozen=True)
class AttachedFit:
    """What was fitted to one picture."""

    model: str  #: name of the head model
    code: "HeadCode"  #: no batch axes
    camera: "Camera"  #: of the stored picture


def fit_told(model: str, code: "HeadCode", camera: "Camera") -> Told:
    """A fit to a picture, as JSON.

    Raises:
        HeadlabError: it has batch axes, or values that are not numbers.
    """
    arrays = {name: value.detach().cpu().double().numpy() for name, value in code.arrays().items()}
    told: Told = {"model": model, "code": {name: _rounded(value) for name, value in arrays.items()}}
    for name in ("K", "R", "t"):
        told[name] = _rounded(getattr(camera, name).detach().cpu().double().numpy())
    told["size"] = list(camera.size)
    if arrays["shape"].ndim != 1:
        raise HeadlabError("a picture has one fit; take one head of the batch")
    return told


def _rounded(value: np.ndarray) -> list:
    if not np.isfinite(value).all():
        raise HeadlabError("this fit holds NaN or infinity; fit the picture again")
    return np.round(value, _DIGITS).tolist()


def read_fit(told: Told) -> AttachedFit | None:
    """The fit among what is told of a picture; None where there is none.

    Raises:
        HeadlabError: it is damaged.
    """
    fit = told.get("fit")
    if fit is None:
        return None
    import torch

    from ..geometry.camera import Camera
    from ..geometry.code import HeadCode

    try:
        code = HeadCode(**{name: torch.tensor(value, dtype=torch.float32) for name, value in fit["code"].items()})
        K, R, t = (torch.tensor(fit[name], dtype=torch.float32) for name in ("K", "R", "t"))
        height, width = (int(v) for v in fit["size"])
        return AttachedFit(str(fit["model"]), code, Camera(K, R, t, (height, width)))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise HeadlabError(
            f"the fit attached to {told.get('key', 'a picture')} is damaged ({error}); fit it again"
        ) from error


def moved(told: Told, matrix: Float[np.ndarray, "2 3"], size: int) -> Told:
    """What is told of a picture, once it is cut out by a similarity.

    Args:
        told: of the picture as it was.
        matrix: pixels of it -> pixels of the cut.
        size: side of the cut, pixels.
    """
    told = dict(told)
    if "points" in told:
        points = np.asarray(told["points"], float) @ matrix[:, :2].T + matrix[:, 2]
        told["points"] = np.round(points, 3).tolist()
    if "fit" in told:
        told["fit"] = _moved_fit(told["fit"], matrix, size)
    # VHAP's cameras
    if "K" in told and "T_camera_world" in told:
        K, T = np.asarray(told["K"], float), np.asarray(told["T_camera_world"], float)
        K, turn = _moved_camera(K, matrix)
        told |= {"K": _rounded(K), "T_camera_world": _rounded(np.block([[turn @ T[:3]], [T[3:]]]))}
    return told


def _moved_fit(fit: Told, matrix: np.ndarray, size: int) -> Told:
    K, turn = _moved_camera(np.asarray(fit["K"], float), matrix)
    R, t = turn @ np.asarray(fit["R"], float), turn @ np.asarray(fit["t"], float)
    return {**fit, "K": _rounded(K), "R": _rounded(R), "t": _rounded(t), "size": [size, size]}


def _moved_camera(K: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """K and a turn about the optical axis, whose product with the old camera shows the cut picture.

    A similarity [sQ | d] after K = [[f, 0, c]] is [[s f, 0, sQ c + d]] after Q, if pixels are square.
    """
    scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    turn = np.eye(3)
    turn[:2, :2] = matrix[:, :2] / scale
    moved_K = K.copy()
    moved_K[:2, :2] *= scale
    moved_K[:2, 2] = matrix[:, :2] @ K[:2, 2] + matrix[:, 2]
    return moved_K, turn
