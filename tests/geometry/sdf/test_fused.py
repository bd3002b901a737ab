"""The fused Triton kernels: by Triton's interpreter on the CPU against the plain ensemble; and compiled for CUDA."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
import torch

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

from headlab.geometry.sdf.culled import culled_sdf
from headlab.geometry.sdf.fast import FastIdentity
from headlab.geometry.sdf.fused import available
from headlab.geometry.sdf.fused_identity import FusedIdentity, fast_surface
from headlab.geometry.sdf.identity import IdentityConfig, IdentityField
from headlab.geometry.sdf.layout import EnsembleLayout

#: Triton's interpreter, about itself.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning")


@pytest.fixture(autouse=True, scope="module")
def interpreter() -> Iterator[None]:
    """The kernels made for the interpreter, and without the type checks that are put around every other function.

    conftest.py asks for the interpreter before anything imports Triton, whose own functions are made for it then.
    """
    name = "headlab.geometry.sdf.fused_kernels"
    parent = importlib.import_module("headlab.geometry.sdf")
    loader = SourceFileLoader(name, str(Path(parent.__path__[0]) / "fused_kernels.py"))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    with pytest.MonkeyPatch.context() as patch:
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, name, module)
        loader.exec_module(module)
        yield


def small_field() -> tuple[IdentityField, torch.Tensor]:
    torch.manual_seed(0)
    layout = EnsembleLayout(anchors=9, pairs=3, latent_global=8, latent_local=4)
    field = IdentityField(IdentityConfig(layout, 40, 4, 16), torch.rand(9, 3) * 0.6 - 0.3)
    return field, torch.randn(2, layout.latent)


@pytest.mark.parametrize("outside", [False, True])
def test_values_and_all_first_derivatives(outside: bool) -> None:
    field, latent = small_field()
    latent.requires_grad_()
    points = (torch.rand(2, 60, 3) - 0.5).requires_grad_()
    weight = torch.linspace(-1, 1, 120).view(2, 60)

    def run(fused: bool) -> list[torch.Tensor]:
        sdf = culled_sdf(field.folded(latent, outside), points, 1e-4, fused=fused)
        return [sdf.detach(), *torch.autograd.grad((sdf * weight).sum(), [points, latent, *field.parameters()])]

    for ours, plain in zip(run(True), run(False), strict=True):
        torch.testing.assert_close(ours, plain, atol=2e-6, rtol=1e-5)


def test_second_derivatives_are_refused() -> None:
    field, latent = small_field()
    points = (torch.rand(2, 5, 3) - 0.5).requires_grad_()
    sdf = culled_sdf(field.folded(latent), points, fused=True)
    (slope,) = torch.autograd.grad(sdf.sum(), points, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.square().sum().backward()


def test_the_surface_is_that_of_the_native_module() -> None:
    field, latent = small_field()
    head = field.requires_grad_(False).folded(latent[0])
    fused, fast = FusedIdentity.of(head), FastIdentity.of(head)
    points = torch.cat([torch.rand(150, 3) - 0.5, torch.tensor([[3.0, 0, 0], [0, -2.0, 2.0]])])
    value, slope = fused.value_and_gradient(points)
    expected, expected_slope = fast.value_and_gradient(points)
    torch.testing.assert_close(value, expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(slope, expected_slope, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(fused.value(points), expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(fused.steady_value(points), fast.steady_value(points), atol=2e-5, rtol=1e-4)


def test_no_point_is_no_trouble_and_the_cpu_takes_the_native_module() -> None:
    field, latent = small_field()
    head = field.requires_grad_(False).folded(latent[0])
    assert culled_sdf(head, torch.zeros(0, 3), fused=True).shape == (0,)
    assert isinstance(fast_surface(head), FastIdentity)
    assert not available(torch.zeros(1))


_COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
sys.path.insert(0, sys.argv[1])
import fused_kernels as kernels
kinds = {"row_ptr": "*i64", "block_ptr": "*i32", "start_ptr": "*i32", "pairs": "i32", "sets": "i32", "rows": "i32"}
sizes = {"LAYERS": 4, "KEPT": 4, "SKIP": 2, "W": 256, "BLOCK": 64, "TILE": 32}
for kernel in (kernels.forward_kernel, kernels.backward_kernel, kernels.weight_kernel):
    names = kernel.arg_names
    signature = {n: "constexpr" if n in sizes else kinds.get(n, "*fp32") for n in names}
    source = ASTSource(kernel, signature, {(names.index(n),): v for n, v in sizes.items() if n in names})
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    assert compiled.metadata.shared < 100_000 and ".visible .entry" in compiled.asm["ptx"]
"""


@pytest.mark.slow
def test_kernels_compile_for_cuda(tmp_path: Path) -> None:
    """To PTX for compute capability 9.0, at the released sizes; no GPU is needed for that."""
    folder = Path(importlib.import_module("headlab.geometry.sdf").__path__[0])
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", _COMPILE, str(folder)], check=True, env=environment)
