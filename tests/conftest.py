"""Fixtures every test may use."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

# Triton's kernels run on the CPU where there is no GPU; it reads this when it is imported.
if shutil.which("nvidia-smi") is None:
    os.environ.setdefault("TRITON_INTERPRET", "1")

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from headlab.geometry.landmarks import LandmarkDetector, open_detector
from headlab.geometry.models.default import load_default_head
from headlab.geometry.models.head_model import HeadModel


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


@pytest.fixture(scope="session")
def default_head() -> HeadModel:
    """The default head, from the cache where there is one."""
    return load_default_head()


@pytest.fixture(scope="session")
def detector() -> Iterator[LandmarkDetector]:
    """MediaPipe's networks from its wheel."""
    with open_detector("solutions") as opened:
        yield opened


@pytest.fixture(scope="session")
def astronaut() -> Float[Tensor, "3 512 512"]:
    """A photo of a face (NASA, public domain), sRGB 0..1."""
    from skimage.data import astronaut

    return torch.from_numpy(astronaut()).permute(2, 0, 1).float() / 255


@pytest.fixture(scope="session")
def fit_tools(default_head: HeadModel):
    """The default head prepared for fitting, with a texture small enough for tests."""
    from headlab.heads.fit import FitTools

    return FitTools.build("default", default_head, texture_size=256)
