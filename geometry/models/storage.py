"""HeadModel <-> one safetensors file. No pickles; written under a temporary name and renamed."""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ..files import atomic_path
from .head_model import DynamicContour, HeadModel, LandmarkEmbedding, License

_TENSORS = (
    *("template", "shape_basis", "expression_basis", "faces", "joint_regressor", "skin_weights", "pose_basis"),
    *("uvs", "uv_faces", "face_parts", "expression_bounds", "expression_std"),
)
_FORMAT = "headlab.model/1"


def write_model(model: HeadModel, path: Path) -> None:
    """Save a head model; the folder is made if need be.

    Raises:
        OSError: the folder cannot be made.
        HeadlabError: it may not be written, or the disk is full.
    """
    tensors: dict[str, Tensor] = {name: getattr(model, name) for name in _TENSORS if getattr(model, name) is not None}
    for name, embedding in model.landmarks.items():
        tensors[f"landmarks.{name}.faces"], tensors[f"landmarks.{name}.weights"] = embedding.faces, embedding.weights
    for name, mask in model.regions.items():
        tensors[f"regions.{name}"] = mask
    if model.contour is not None:
        tensors["contour.faces"], tensors["contour.weights"] = model.contour.faces, model.contour.weights
    meta = {
        "format": _FORMAT,
        "name": model.name,
        "expression_names": model.expression_names,
        "parents": model.parents,
        "joint_names": model.joint_names,
        "part_names": model.part_names,
        "joints_follow_expression": model.joints_follow_expression,
        "license": [model.license.name, model.license.commercial, model.license.url],
    }
    data = save({k: v.contiguous() for k, v in tensors.items()}, metadata={"headlab": json.dumps(meta)})
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def read_model(path: Path) -> HeadModel:
    """Load what `write_model` saved.

    Raises:
        ValueError: the file is damaged or not a head model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            meta: dict[str, Any] = json.loads((file.metadata() or {})["headlab"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except Exception as error:
        raise ValueError(f"{path} is not a head model saved by headlab: {error}") from error
    if meta.get("format") != _FORMAT:
        raise ValueError(f"{path} has format {meta.get('format')}, this version reads {_FORMAT}")
    try:
        return _assembled(meta, tensors)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{path} is not a head model saved by headlab: it misses {error}") from error


def _assembled(meta: dict[str, Any], tensors: dict[str, Tensor]) -> HeadModel:
    landmarks = {
        name.split(".")[1]: LandmarkEmbedding(tensor, tensors[name.replace(".faces", ".weights")])
        for name, tensor in tensors.items()
        if name.startswith("landmarks.") and name.endswith(".faces")
    }
    contour = (
        DynamicContour(tensors["contour.faces"], tensors["contour.weights"]) if "contour.faces" in tensors else None
    )
    return HeadModel(
        **{name: tensors[name] for name in _TENSORS if name in tensors},
        name=meta["name"],
        expression_names=tuple(meta["expression_names"]),
        parents=tuple(meta["parents"]),
        joint_names=tuple(meta["joint_names"]),
        part_names=tuple(meta["part_names"]),
        joints_follow_expression=meta.get("joints_follow_expression", False),
        license=License(*meta["license"]),
        landmarks=landmarks,
        contour=contour,
        regions={k.removeprefix("regions."): v for k, v in tensors.items() if k.startswith("regions.")},
    )
