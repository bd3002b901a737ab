"""The compiled modules: which one serves a tensor, and what their status codes mean."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.utils.dlpack import to_dlpack  # pyright: ignore[reportPrivateImportUsage]

from ..errors import HeadlabError

BUILD = "pip install --no-build-isolation -e ."


class RasterError(HeadlabError, ValueError):
    """Input the rasteriser cannot use."""


_MESSAGES = {
    1: "faces hold an index outside 0..verts-1; use vertex indices, and rows of three -1 for padding",
    2: "points or vertices hold NaN or infinity; check the camera and the vertices first",
    3: "the raster names a face that the given faces do not have; pass the faces that were rasterised",
    4: "not enough memory for this picture; lower the size or the batch",
    5: "the mesh has no faces; a closest point needs at least one",
}


def passing_capsules(module: ModuleType) -> ModuleType:
    """The module with functions that hand their tensors over as DLPack capsules.

    Torch makes those in 0.2 microseconds; nanobind, given tensors, asks `Tensor.__dlpack__`, which takes ten times as
    long and refuses tensors that require gradients, so that it tries again in a slower way.
    """
    wrapped = ModuleType(module.__name__)
    for name, value in vars(module).items():
        if not name.startswith("_"):
            setattr(wrapped, name, _passing_capsules(value) if callable(value) else value)
    return wrapped


def _passing_capsules(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        return function(*[to_dlpack(a) if isinstance(a, Tensor) else a for a in args])

    return call


def module_for(tensor: Tensor) -> ModuleType:
    """The native module of the tensor's device.

    Raises:
        RasterError: that module was not built, or there is none for the device.
    """
    return _load(tensor.device.type)


@cache
def _load(kind: str) -> ModuleType:
    if kind == "cuda":
        return import_module(".cuda", __package__)
    if kind != "cpu":
        raise RasterError(f"no rasteriser for device {kind!r} in this build; move the tensors to the CPU")
    try:
        return passing_capsules(import_module(".._native", __package__))
    except ImportError as error:
        raise RasterError(f"headlab's compiled module is missing ({error}); build it with: {BUILD}") from error


def check(status: int) -> None:
    """Raise what a native call reports."""
    if status:
        raise RasterError(_MESSAGES[status])


def check_values(points: Tensor, faces: Tensor) -> None:
    """What the native calls check themselves, for backends that do not: raises for bad indices, NaN and infinity."""
    inside = ((faces >= 0) & (faces < points.shape[-2])).all(-1)
    if not bool((inside | (faces == -1).all(-1)).all()):
        check(1)
    if not bool(points.isfinite().all()):
        check(2)


def threads() -> int:
    """Threads a call may use: torch's own setting."""
    return torch.get_num_threads()
