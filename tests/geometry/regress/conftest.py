"""Golden data, and networks filled with the stand-in weights it was made with."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from deterministic_weights import state_for
from torch import Tensor

from headlab.geometry.models.flame import load_flame
from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.regress.assets import DetailAssets, load_detail_assets
from headlab.geometry.regress.detail_decoder import DetailDecoder
from headlab.geometry.regress.encoder import CodeEncoder
from headlab.geometry.regress.weights import load_network

FILES = {
    "E_flame": "deca_coarse_encoder",
    "E_detail": "deca_detail_encoder",
    "D_detail": "deca_detail_decoder",
    "E_expression": "emoca_expression_encoder",
}


@pytest.fixture(scope="session")
def parity(shared: Path) -> Path:
    return shared / "parity/geometry"


@pytest.fixture(scope="session")
def golden(parity: Path) -> Callable[[str], dict[str, Tensor]]:
    """The arrays of a golden file as tensors."""

    @cache
    def read(name: str) -> dict[str, Tensor]:
        with np.load(parity / f"{name}.npz", allow_pickle=False) as file:
            return {
                key: torch.from_numpy(file[key].astype(np.int32) if file[key].dtype == np.uint16 else file[key])
                for key in file.files
            }

    return read


@pytest.fixture(scope="session")
def state(parity: Path) -> Callable[..., dict[str, Tensor]]:
    """Stand-in weights of a section; `outputs` changes the length of an encoder's output."""

    @cache
    def make(section: str, outputs: int | None = None) -> dict[str, Tensor]:
        text = (parity / f"{FILES[section]}.json").read_text()
        shapes = {key: value[0] for key, value in json.loads(text)["state_dict"].items()}
        if outputs is not None:
            shapes |= {"layers.2.weight": [outputs, 1024], "layers.2.bias": [outputs]}
        return state_for(shapes, f"{section}.")

    return make


@pytest.fixture(scope="session")
def encoder(state) -> Callable[..., CodeEncoder]:
    @cache
    def make(section: str, outputs: int) -> CodeEncoder:
        return load_network(lambda: CodeEncoder(outputs), state(section, outputs), section)

    return make


@pytest.fixture(scope="session")
def decoder(state) -> DetailDecoder:
    return load_network(DetailDecoder, state("D_detail"), "D_detail")


@pytest.fixture(scope="session")
def images() -> Tensor:
    """The two seeded pictures all networks were run on."""
    random = np.random.RandomState(11)
    low = np.kron(random.rand(2, 3, 14, 14), np.ones((1, 1, 16, 16)))
    fine = random.rand(2, 3, 224, 224)
    return torch.from_numpy((0.75 * low + 0.25 * fine).astype(np.float32))


@pytest.fixture(scope="session")
def flame(parity: Path) -> HeadModel:
    return load_flame(
        parity / "flame_like.pkl",
        landmark_embedding=parity / "landmark_embedding.npy",
        mediapipe_embedding=parity / "mediapipe_landmark_embedding.npz",
        uv=parity / "decode_assets/head_template.obj",
    )


@pytest.fixture(scope="session")
def assets(parity: Path) -> DetailAssets:
    return load_detail_assets(parity / "decode_assets")


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference over the largest value: how the golden data asks to be compared."""
    return float((ours.detach() - theirs).abs().max() / theirs.abs().max())
