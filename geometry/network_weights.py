"""Putting tensors of a checkpoint into a network: every key, every shape, nothing left at random."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .errors import HeadlabError

Network = TypeVar("Network", bound=nn.Module)

#: Keys named in a message before the rest is only counted.
_NAMED = 3


def load_network(build: Callable[[], Network], state: Mapping[str, Any], source: str) -> Network:
    """Build a network and fill it, in evaluation mode and without gradients to its parameters.

    The authors' own loader skips what is missing or misshapen and leaves those layers random; this one refuses.

    Args:
        build: makes the network.
        state: its tensors by the authors' names.
        source: where they come from, for messages.

    Raises:
        HeadlabError: keys are missing, unexpected or misshapen, or a tensor holds NaN or infinity.
    """
    with torch.device("meta"):
        network = build()
    expected = network.state_dict()
    wrong = []
    for what, keys in (
        ("missing", [key for key in expected if key not in state]),
        ("unexpected", [key for key in state if key not in expected]),
        ("no tensor", [key for key in expected if key in state and not isinstance(state[key], Tensor)]),
    ):
        if keys:
            wrong.append(f"{what}: {_listed(keys)}")
    tensors = {key: state[key] for key in expected if isinstance(state.get(key), Tensor)}
    shapes = [
        f"{key} {tuple(value.shape)}, not {tuple(expected[key].shape)}"
        for key, value in tensors.items()
        if value.shape != expected[key].shape
    ]
    if shapes:
        wrong.append(f"misshapen: {_listed(shapes)}")
    spoiled = [key for key, value in tensors.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if spoiled:
        wrong.append(f"not finite: {_listed(spoiled)}")
    if wrong:
        raise HeadlabError(f"{source} does not fit this network ({'; '.join(wrong)}); get the authors' file again")
    values = {key: value.to(expected[key].dtype).contiguous() for key, value in tensors.items()}
    network.load_state_dict(values, assign=True)
    return network.eval().requires_grad_(False)


def _listed(names: list[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
