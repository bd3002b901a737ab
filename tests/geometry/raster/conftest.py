"""Scenes for the rasteriser's tests."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from headlab.geometry.raster import cuda
from headlab.geometry.raster.native import passing_capsules

from . import cuda_on_cpu

Scene = tuple[Tensor, Tensor, tuple[int, int]]


def from_ndc(verts: Tensor, size: tuple[int, int], perspective: bool) -> Tensor:
    """(V, 3) PyTorch3D coordinates (x left, y up, shorter side -1..1) -> our homogeneous points (1, V, 4)."""
    height, width = size
    rx, ry = max(1.0, width / height), max(1.0, height / width)
    u, v, z = (rx - verts[:, 0]) * width / (2 * rx), (ry - verts[:, 1]) * height / (2 * ry), verts[:, 2]
    w = z if perspective else torch.ones_like(z)
    return torch.stack([u * w, v * w, z, w], -1)[None]


@pytest.fixture(scope="session")
def golden(shared: Path) -> Callable[[str], dict[str, np.ndarray]]:
    """Reads one file of parity/raster."""

    def read(name: str) -> dict[str, np.ndarray]:
        with np.load(shared / "parity" / "raster" / f"{name}.npz") as file:
            return {key: file[key] for key in file.files}

    return read


def sphere(rows: int, columns: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Closed unit sphere."""
    theta = torch.linspace(0, torch.pi, rows + 1, dtype=dtype)[1:-1, None]
    phi = torch.arange(columns, dtype=dtype) * (2 * torch.pi / columns)
    ring = torch.stack([theta.sin() * phi.cos(), theta.cos().expand(-1, columns), theta.sin() * phi.sin()], -1).reshape(
        -1, 3
    )
    poles = torch.tensor([[0.0, 1, 0], [0, -1, 0]], dtype=dtype)
    north, south = len(ring), len(ring) + 1
    faces = []
    for j in range(columns):
        k = (j + 1) % columns
        faces.append((north, k, j))
        faces.append((south, (rows - 2) * columns + j, (rows - 2) * columns + k))
        for i in range(rows - 2):
            a, b, c, d = i * columns + j, i * columns + k, (i + 1) * columns + j, (i + 1) * columns + k
            faces += [(a, b, c), (b, d, c)]
    return torch.cat([ring, poles]), torch.tensor(faces, dtype=torch.int32)


@pytest.fixture
def ball() -> Scene:
    """A sphere before a pinhole camera, off the pixel grid; float64."""
    verts, faces = sphere(12, 17)
    x, y, z = (verts @ verts.new_tensor([[0.9, 0.1, 0.3], [-0.2, 0.95, 0.1], [-0.3, -0.1, 0.9]])).unbind(-1)
    z = z + 3.5
    points = torch.stack([60 * x + 24.3 * z, 60 * y + 20.6 * z, z, z], -1)
    return points[None], faces, (40, 48)


def random_soup(count: int, seed: int, size: tuple[int, int], scale: float, dtype: torch.dtype) -> Scene:
    """Unconnected triangles with different w, some partly outside the picture or across the near plane."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    centre = torch.rand(count, 1, 2, generator=generator, dtype=dtype) * torch.tensor([width, height], dtype=dtype)
    pixels = centre + torch.randn(count, 3, 2, generator=generator, dtype=dtype) * scale
    depth = (
        1.5
        + torch.rand(count, 3, 1, generator=generator, dtype=dtype)
        - 1.52 * (torch.rand(count, 3, 1, generator=generator, dtype=dtype) < 0.05)
    )
    points = torch.cat([pixels * depth, depth, depth], -1).reshape(1, -1, 4)
    return points, torch.arange(3 * count, dtype=torch.int32).reshape(-1, 3), size


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """`_cuda` built for host memory."""
    return cuda_on_cpu.build(tmp_path_factory.mktemp("emulated"))


@pytest.fixture
def driver(emulated: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """geometry/raster/cuda.py on host memory."""
    module = passing_capsules(emulated)
    monkeypatch.setattr(cuda, "_module", lambda: module)
    monkeypatch.setattr(cuda, "_stream", lambda tensor: 0)
    return cuda
