"""FLAME's albedo models against DECA's FLAMETex."""

from pathlib import Path

import numpy as np
import pytest
import torch

from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.flame_texture import load_flame_texture


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "parity/geometry/flame_texture.npz") as file:
        return dict(file)


@pytest.mark.parametrize("kind", ["bfm", "flame"])
def test_tiny(shared: Path, golden, kind: str) -> None:
    texture = load_flame_texture(shared / f"parity/geometry/flame_texture_tiny_{kind}.npz")
    albedo = texture.albedo(torch.from_numpy(golden["texcode"]))
    expected = golden[f"tiny_{kind}_texture"]
    assert np.abs(albedo.numpy() - expected).max() < 2e-6 * np.abs(expected).max()
    one = texture.albedo(torch.from_numpy(golden["texcode"][0, :7]))
    assert torch.allclose(one, texture.mean + texture.basis[..., :7] @ torch.from_numpy(golden["texcode"][0, :7]))


@pytest.mark.slow
@pytest.mark.parametrize("compressed", [False, True])
def test_full_size(tmp_path: Path, golden, compressed: bool) -> None:
    random = np.random.RandomState(909)
    mean = random.rand(786432).astype(np.float32)
    basis = np.full((786432, 199), 1e6, np.float32)
    basis[:, :50] = (random.standard_normal((786432, 50)) * 0.01).astype(np.float32)
    if compressed:
        basis = basis[:, :60]
    path = tmp_path / "FLAME_albedo_from_BFM.npz"
    (np.savez_compressed if compressed else np.savez)(path, MU=mean, PC=basis)
    del basis
    albedo = load_flame_texture(path).albedo(torch.from_numpy(golden["texcode"])).numpy()
    path.unlink()
    assert albedo.shape == (3, 3, 256, 256)
    assert np.abs(albedo[..., ::8, ::8] - golden["full_bfm_texture_stride8"]).max() < 2e-6
    assert np.abs(albedo[:, :, 3] - golden["full_bfm_texture_row3"]).max() < 2e-6
    assert np.abs(albedo.astype(np.float64).mean((2, 3)) - golden["full_bfm_mean"]).max() < 1e-6
    assert np.abs(albedo.astype(np.float64).std((2, 3)) - golden["full_bfm_std"]).max() < 1e-6


def test_wrong_files(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(HeadlabError, match="no FLAME texture model"):
        load_flame_texture(tmp_path / "missing.npz")
    with pytest.raises(HeadlabError, match="not MU and PC"):
        load_flame_texture(shared / "parity/geometry/flame_forward.npz")
    whole = (shared / "parity/geometry/flame_texture_tiny_bfm.npz").read_bytes()
    (tmp_path / "short.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(HeadlabError, match="no FLAME texture model"):
        load_flame_texture(tmp_path / "short.npz")
    np.savez(tmp_path / "odd.npz", MU=np.zeros(10), PC=np.zeros((10, 199)))
    with pytest.raises(HeadlabError, match="no square RGB picture"):
        load_flame_texture(tmp_path / "odd.npz")
    np.savez(tmp_path / "objects.npz", MU=np.array([{}], dtype=object), PC=np.zeros((1, 199)))
    with pytest.raises(HeadlabError, match="no FLAME texture model"):
        load_flame_texture(tmp_path / "objects.npz")
