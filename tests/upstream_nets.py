"""The reduced published networks that golden numbers were made with, filled with stand-in weights."""

import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deterministic_weights import state_for

from headlab.diffusion.upstream.diffae import DiffAE, DiffAEConfig
from headlab.diffusion.upstream.diffusionrig import DiffusionRig, DiffusionRigConfig
from headlab.diffusion.upstream.loading import assemble, shapes_of
from headlab.diffusion.upstream.unet import UNetConfig

#: Forwards of full-size networks and every sample of the loops: minutes of processor time.
FULL = os.environ.get("HEADLAB_FULL_PARITY") == "1"
full_size = pytest.mark.skipif(not FULL, reason="full-size networks: set HEADLAB_FULL_PARITY=1")


class Golden:
    """An npz of golden numbers as tensors, with the json beside it."""

    def __init__(self, shared: Path, name: str):
        self.path = shared / "parity/diffusion" / f"{name}.npz"
        self.arrays = np.load(self.path)
        about = self.path.with_suffix(".json")
        self.about: dict[str, Any] = json.loads(about.read_text()) if about.is_file() else {}

    def __getitem__(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[name])

    def __contains__(self, name: str) -> bool:
        return name in self.arrays.files


def small_rig_config(dropout: float = 0.1, encoder: Any = "resnet18", **changes: Any) -> DiffusionRigConfig:
    """64 pixels, 32 channels."""
    sizes = {"size": 64, "channels": 32, "multipliers": (1, 2, 3, 4), "time": 128, "dropout": dropout}
    return DiffusionRigConfig(UNetConfig(**(sizes | changes)), encoder)


def filled(build: Any, prefix: str = "") -> Any:
    """A network filled by the rule."""
    with torch.device("meta"):
        shapes = shapes_of(build().state_dict())
    return assemble(build, state_for(shapes, prefix), "stand-in weights", "the network")


def filled_rig(config: DiffusionRigConfig) -> DiffusionRig:
    return filled(lambda: DiffusionRig(config))


def small_diffae_config(multipliers: Any, stages: Any, attention: int, **changes: Any) -> DiffAEConfig:
    """64 pixels, 32 channels, codes of 64 numbers."""
    sizes = {"size": 64, "inputs": 3, "channels": 32, "multipliers": tuple(multipliers), "attention": (attention,)}
    sizes |= {"time": 64, "code": 64, "code_shift": False, "nested_time": True}
    return DiffAEConfig(UNetConfig(**(sizes | changes)), None if stages is None else tuple(stages))


def filled_diffae(config: DiffAEConfig) -> DiffAE:
    """Filled; layers with two names hold the second one's numbers."""
    with torch.device("meta"):
        shapes = shapes_of(DiffAE(config).state_dict())
    state = state_for({k: v for k, v in shapes.items() if ".linear_emb." not in k})
    state |= {k: state[k.replace(".linear_emb.", ".cond_layers.1.")] for k in shapes if ".linear_emb." in k}
    from headlab.diffusion.upstream.diffae_files import tie_aliases

    return tie_aliases(assemble(lambda: DiffAE(config), state, "stand-in weights", "the network"))


def sha256_of(state: dict[str, torch.Tensor]) -> str:
    """Over names and raw bytes, in order."""
    digest = hashlib.sha256()
    for name, value in state.items():
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def counted_noise():
    """The noise of the eta > 0 and ancestral runs: the k-th call's is a function of k."""
    calls = iter(range(10**6))

    def fresh(like: torch.Tensor, shape: Any = None) -> torch.Tensor:
        return normal(f"noise.step.{next(calls)}", shape or tuple(like.shape))

    return fresh


def normal(name: str, shape: Any) -> torch.Tensor:
    """A standard normal that follows from a name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


@functools.lru_cache(maxsize=1)
def template_a() -> DiffAE:
    """The golden autoencoder `a`: ffhq128's names."""
    return filled_diffae(small_diffae_config((1, 1, 2, 3, 4), (1, 1, 2, 3, 4, 4), 8))


class Malicious:
    """Runs something when it is unpickled."""

    def __reduce__(self):
        return eval, ("1/0",)


@torch.no_grad()
def check_trace(network, golden, name, run, separator="."):
    """Every block's output against the golden trace, in order of execution."""
    seen = []

    def hook(module, inputs, output):
        flat = output.double().flatten()
        numbers = [flat.mean(), flat.std(), flat.abs().max(), *flat[:4]]
        seen.append([float(x) for x in numbers])

    names = golden.arrays[f"{name}{separator}trace_names"].tolist()
    handles = [network.get_submodule(part).register_forward_hook(hook) for part in names]
    run()
    for handle in handles:
        handle.remove()
    assert len(seen) == len(names)
    np.testing.assert_allclose(seen, golden.arrays[f"{name}{separator}trace"], atol=1e-3, rtol=1e-4)
