"""State dicts into networks, whole or not at all: every missing name is told, and nothing is left at random."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from ...geometry.errors import HeadlabError

Network = TypeVar("Network", bound=nn.Module)


def assemble(build: Callable[[], Network], state: Mapping[str, Tensor], source: str, what: str) -> Network:
    """A network that holds exactly this state, in evaluation mode.

    Args:
        build: makes the network; it is called where parameters take no memory, so none can stay random.
        state: all of its parameters and buffers.
        source: file, for messages.
        what: the network in words, for messages.

    Raises:
        HeadlabError: names are missing (all are listed), unknown, or of another shape.
    """
    with torch.device("meta"):
        network = build()
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in state]
    if missing:
        raise HeadlabError(
            f"{source} lacks {len(missing)} of the {len(wanted)} parameters of {what}: {', '.join(missing)}; "
            "get it again, or give the checkpoint that has them"
        )
    if strange := [name for name in state if name not in wanted]:
        raise HeadlabError(f"{source} holds {len(strange)} parameters that {what} has no place for: {_some(strange)}")
    wrong = [
        f"{name} {tuple(state[name].shape)} in place of {tuple(value.shape)}"
        for name, value in wanted.items()
        if state[name].shape != value.shape
    ]
    if wrong:
        raise HeadlabError(f"{source} is of another size than {what}: {_some(wrong)}; give its configuration")
    whole = {
        name: state[name].to(wanted[name].dtype) if state[name].is_floating_point() else state[name] for name in wanted
    }
    network.load_state_dict(whole, assign=True)
    return network.eval()


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Name -> shape."""
    return {name: tuple(value.shape) for name, value in state.items()}


def part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What begins with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _some(items: list[str]) -> str:
    return ", ".join(items[:6]) + (f" and {len(items) - 6} more" if len(items) > 6 else "")
