"""Golden data of the authors' networks, and networks filled with the stand-in weights behind it."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deterministic_weights import state_for
from torch import Tensor

from headlab.geometry.regress.weights import load_network
from headlab.geometry.sdf.expression import ExpressionConfig, ExpressionField
from headlab.geometry.sdf.identity import IdentityConfig, IdentityField
from headlab.geometry.sdf.mlp import DeepSDF


@cache
def described(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "keys_and_shapes.json").read_text())["networks"]


def state(folder: Path, name: str) -> Mapping[str, Tensor]:
    network = described(folder)[name]
    gains = network["gains"]
    return {key: value * np.float32(gains.get(key, 1)) for key, value in state_for(network["shapes"]).items()}


@cache
def golden(folder: Path, name: str) -> dict[str, Tensor]:
    with np.load(folder / f"{name}.npz") as file:
        return {key: torch.from_numpy(np.array(file[key])) for key in file.files}


def identity(folder: Path) -> IdentityField:
    anchors = golden(folder, "nphm_identity")["anchors_mean"]
    return load_network(lambda: IdentityField(IdentityConfig(), anchors), state(folder, "identity"), "stand-in")


def expression(folder: Path, mode: str) -> ExpressionField:
    config = ExpressionConfig(mode)
    return load_network(lambda: ExpressionField(config), state(folder, f"expression_{mode}"), "stand-in")


def npm(folder: Path, name: str, latent: int, out: int) -> DeepSDF:
    return load_network(lambda: DeepSDF(latent, 1024, 8, out), state(folder, name), "stand-in")
