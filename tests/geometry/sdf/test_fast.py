"""The fast evaluations against the dense one."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import nphm
import numpy as np
import pytest
import torch

from headlab.geometry.sdf.blend import member_weights
from headlab.geometry.sdf.culled import culled_sdf
from headlab.geometry.sdf.fast import TOLERANCE, FastIdentity
from headlab.geometry.sdf.fast_network import FastNetwork
from headlab.geometry.sdf.frame import BOX
from headlab.geometry.sdf.identity import FoldedIdentity, IdentityConfig, IdentityField
from headlab.geometry.sdf.layout import EnsembleLayout
from headlab.geometry.sdf.mlp import DeepSDF


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "parity" / "nphm"


def small_field(seed: int = 0) -> tuple[IdentityField, torch.Tensor]:
    """A field of ten members about a head-sized box, and a latent."""
    torch.manual_seed(seed)
    layout = EnsembleLayout(anchors=9, pairs=3, latent_global=8, latent_local=4)
    anchors = torch.rand(9, 3) * 0.6 - 0.3
    field = IdentityField(IdentityConfig(layout, 40, 4, 16), anchors).requires_grad_(False)
    return field, torch.randn(layout.latent)


@pytest.mark.parametrize("row", [0, 1])
def test_fast_identity_has_the_authors_values(folder: Path, row: int) -> None:
    golden, field = nphm.golden(folder, "nphm_identity"), nphm.identity(folder)
    fast = FastIdentity.of(field.folded(golden["latent"][row, 0]))
    points = golden["xyz"][row]
    value, gradient = fast.value_and_gradient(points)
    assert float((value - golden["sdf_train_f64"][row]).abs().max()) < 2e-6
    assert float((fast.value(points) - golden["sdf_train_f64"][row]).abs().max()) < 2e-6
    apart = gradient - golden["grad_train_f64"][row].float()
    # On an anchor (points 0-38) the authors take the norm's gradient as 0, as is done here.
    assert float(apart.abs().max()) < 3e-4


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("tolerance", [TOLERANCE, 1e-4, 1e-2])
def test_leaving_members_out_is_bounded(tolerance: float, outside: bool) -> None:
    field, latent = small_field()
    head = field.folded(latent, background_outside=outside)
    fast = FastIdentity.of(head)
    low, high = torch.tensor(BOX)
    points = low + (high - low) * torch.rand(20000, 3, generator=torch.Generator().manual_seed(3))
    exact = field.double()(points.double(), latent.double(), background_outside=outside)
    assert float((fast.value(points, tolerance) - exact).abs().max()) < tolerance + 4e-7


def test_gradient_is_that_of_autograd() -> None:
    field, latent = small_field()
    fast = FastIdentity.of(field.folded(latent))
    points = (torch.rand(500, 3) - 0.5).requires_grad_()
    sdf = field(points, latent)
    (gradient,) = torch.autograd.grad(sdf.sum(), points)
    value, ours = fast.value_and_gradient(points.detach())
    torch.testing.assert_close(value, sdf.detach(), atol=2e-6, rtol=0)
    torch.testing.assert_close(ours, gradient, atol=2e-4, rtol=1e-4)


def test_the_steady_value_does_not_fade() -> None:
    field, latent = small_field()
    head = field.folded(latent)
    fast = FastIdentity.of(head)
    far = torch.tensor([[3.0, 0, 0], [0, -2.0, 2.0]])
    near = head.anchors[:3] + 0.02
    assert float(fast.value(far).abs().max()) < 0.01
    background = field.double()(far.double(), latent.double()) * (
        1 + 1e-6 / member_weights(far.double(), head.anchors.double()).sum(-1)
    )
    torch.testing.assert_close(fast.steady_value(far), background.float(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(fast.steady_value(near), fast.value(near), atol=1e-5, rtol=1e-5)
    assert torch.equal(fast.steady_value(far).sign(), fast.value(far).sign())


def test_threads_do_not_change_the_result() -> None:
    field, latent = small_field()
    fast = FastIdentity.of(field.folded(latent))
    points = torch.rand(70000, 3) - 0.5
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = fast.value(points)
        torch.set_num_threads(2)
        two = fast.value(points)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(one, two, atol=1e-7, rtol=0)


#: Runs one network by the instruction set named in the environment, with numpy alone: importing torch takes seconds.
_BY_HAND = """
import importlib.util, sys
import numpy as np
spec = importlib.util.spec_from_file_location("_native", sys.argv[1])
native = importlib.util.module_from_spec(spec)
spec.loader.exec_module(native)
draws = np.random.default_rng(0)
sizes = [(3, 36), (36, 17), (20, 36), (36, 1)]
weights = [(draws.standard_normal((1, a, b)) / a**0.5).astype(np.float32) for a, b in sizes]
biases = [draws.standard_normal((1, b)).astype(np.float32) for _, b in sizes]
points = draws.standard_normal((101, 3)).astype(np.float32)
out, slope = np.empty((101, 1), np.float32), np.empty((101, 3), np.float32)
assert native.FieldMlp(weights, biases, 2).run(points, 1, out, slope) == 0
np.savez(sys.argv[2], *weights, *biases, points=points, out=out, slope=slope)
"""


@pytest.mark.parametrize("simd", ["scalar", "avx2", "avx512"])
def test_every_instruction_set_has_the_same_values(simd: str, tmp_path: Path) -> None:
    native = import_module("headlab.geometry._native").__file__
    assert native is not None
    path = tmp_path / "out.npz"
    command = [sys.executable, "-c", _BY_HAND, native, str(path)]
    subprocess.run(command, check=True, env={**os.environ, "HEADLAB_SIMD": simd})
    with np.load(path) as file:
        data = {name: torch.from_numpy(file[name]).double() for name in file.files}
    weights, biases = ([data[f"arr_{i}"][0] for i in range(first, first + 4)] for first in (0, 4))
    points = data["points"].requires_grad_()
    hidden = points
    for depth in range(3):
        hidden = torch.cat([hidden, points], -1) if depth == 2 else hidden
        hidden = torch.log2(1 + torch.exp2(hidden @ weights[depth] + biases[depth]))
    value = hidden @ weights[3] + biases[3]
    (slope,) = torch.autograd.grad(value.sum(), points)
    torch.testing.assert_close(data["out"], value.detach(), atol=3e-6, rtol=0)
    torch.testing.assert_close(data["slope"], slope, atol=3e-6, rtol=0)


def test_fast_network_has_the_networks_values() -> None:
    torch.manual_seed(0)
    network, latent = DeepSDF(20, 64, 6), torch.randn(20)
    fast = FastNetwork.of(network.folded([(slice(3, 23), latent)]))
    points = torch.randn(1300, 3).requires_grad_()
    sdf = network(points, latent).squeeze(-1)
    (gradient,) = torch.autograd.grad(sdf.sum(), points)
    value, ours = fast.value_and_gradient(points.detach())
    torch.testing.assert_close(value, sdf.detach(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ours, gradient, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="one head at a time"):
        FastNetwork.of(network.folded([(slice(3, 23), latent[None])]))


@pytest.mark.parametrize("share", [0.0, 1e-5])
def test_culled_field_has_all_gradients(share: float) -> None:
    field, _ = small_field()
    field.double().requires_grad_(True)
    generator = torch.Generator().manual_seed(2)
    latent = torch.randn(3, field.layout.latent, generator=generator, dtype=torch.float64, requires_grad=True)
    points = (torch.rand(3, 40, 3, generator=generator, dtype=torch.float64) - 0.5).requires_grad_()

    def gradients(culled: bool) -> list[torch.Tensor]:
        sdf = culled_sdf(field.folded(latent), points, share) if culled else field(points, latent)
        (slope,) = torch.autograd.grad(sdf.sum(), points, create_graph=True)
        loss = sdf.abs().mean() + (slope.norm(dim=-1) - 1).square().mean()
        return [sdf.detach(), slope.detach(), *torch.autograd.grad(loss, [latent, *field.parameters()])]

    limit = 1e-12 if share == 0 else 2e-3
    for ours, dense in zip(gradients(True), gradients(False), strict=True):
        assert float((ours - dense).abs().max()) <= limit * max(1.0, float(dense.abs().max()))


def test_culled_field_with_the_background_outside_and_without_batch() -> None:
    field, latent = small_field()
    points = torch.rand(50, 3) - 0.5
    head: FoldedIdentity = field.folded(latent, background_outside=True)
    dense = field(points, latent, background_outside=True)
    torch.testing.assert_close(culled_sdf(head, points, 0.0), dense, atol=1e-6, rtol=0)
