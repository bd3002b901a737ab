"""Fixtures every test may use."""

import os
import shutil
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data and golden numbers beside the checkout; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "parity").is_dir():
        pytest.skip("the data folder ../shared is not here")
    return folder


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device a test should pass on."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """Folder of npm packages (gltf-validator, playwright-core): $HEADLAB_NODE_MODULES or build/node_modules."""
    default = Path(__file__).resolve().parents[1] / "build" / "node_modules"
    folder = Path(os.environ.get("HEADLAB_NODE_MODULES", default))
    if shutil.which("node") is None or not folder.is_dir():
        pytest.skip(f"node or {folder} is missing: npm install --prefix build gltf-validator playwright-core")
    return folder
