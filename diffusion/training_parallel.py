"""Training on several processes, which `accelerate launch` starts: gradients, buffers and logs are averaged over them.

    every process: its own batch ──> gradients ──> mean over processes ──> the same step everywhere

Batches are numbered over all processes, and noise follows from a batch's number; so P processes with batches of B make
the same steps as one process with batches of B that accumulates P of them. Networks are not wrapped: a loss may call
them several times, or leave parts of them out, as losses of latent diffusion do.

With `shard`, each process keeps a part of parameters, gradients and optimiser state only (FSDP: Zhao et al. 2023, and
torch's `fully_shard`), for networks of Stable Diffusion's size; then torch averages the gradients itself.
"""

import copy
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from ..geometry.errors import HeadlabError

#: Parameters that a block has at least, so that gathering it alone pays.
_BLOCK = 1_000_000


def processes() -> int:
    """How many take part."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """The mean over all processes; where one has no gradient it counts as 0."""
    if processes() == 1:
        return
    wanted = [p for p in parameters if p.requires_grad]
    for group in {(p.dtype, p.device): None for p in wanted}:
        members = [p for p in wanted if (p.dtype, p.device) == group]
        has = torch.tensor([p.grad is not None for p in members], dtype=torch.float32, device=group[1])
        dist.all_reduce(has)
        used = [p for p, count in zip(members, has.tolist(), strict=True) if count]
        if not used:
            continue
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in used])
        dist.all_reduce(flat)
        flat /= processes()
        for p, grad in zip(used, flat.split([p.numel() for p in used]), strict=True):
            p.grad = grad.view_as(p).clone()


@torch.no_grad()
def average_buffers(networks: Iterable[nn.Module]) -> None:
    """Running statistics (BatchNorm's) become their mean over all processes."""
    if processes() == 1:
        return
    buffers = [b for net in networks for b in net.buffers() if b.is_floating_point() and b.numel()]
    for dtype in {b.dtype for b in buffers}:
        members = [b for b in buffers if b.dtype == dtype]
        flat = torch.cat([b.flatten() for b in members])
        dist.all_reduce(flat)
        flat /= processes()
        for b, value in zip(members, flat.split([b.numel() for b in members]), strict=True):
            b.copy_(value.view_as(b))


def averaged(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """Numbers by name, their means over all processes; each process has the same names."""
    if processes() == 1 or not values:
        return values
    flat: Float[Tensor, "values"] = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    dist.all_reduce(flat)
    return dict(zip(values, (flat / processes()).tolist(), strict=True))


def shard(network: nn.Module, precision: str = "no") -> nn.Module:
    """Split a network over all processes, in place: every large block by itself, and the rest.

    Args:
        network: on its device.
        precision: "no" or "bf16": what gathered parameters are computed with.

    Raises:
        HeadlabError: another precision.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    if precision not in ("no", "bf16"):
        raise HeadlabError(f"--training.shard does not go with --training.precision {precision}; say bf16, or no")
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16 if precision == "bf16" else None)
    for block in _blocks(network):
        fully_shard(block, mp_policy=policy)
    # Everything is called through forward() of the whole; what lies in no block is gathered there.
    fully_shard(network, mp_policy=policy)
    return network


def _blocks(network: nn.Module) -> list[nn.Module]:
    """The members of the network's lists of blocks that are large; of nested ones the outer ones."""
    found: list[nn.Module] = []
    for child in network.children():
        members = list(child) if isinstance(child, nn.ModuleList) else []
        large = [m for m in members if sum(p.numel() for p in m.parameters()) >= _BLOCK and _called(m)]
        found += large
        if not large:
            found += _blocks(child)
    return found


def _called(module: nn.Module) -> bool:
    """Whether a module has a forward of its own (lists have not)."""
    return type(module).forward is not nn.Module.forward and not isinstance(module, nn.ModuleList)


def whole(network: nn.Module, empty: nn.Module) -> nn.Module:
    """A copy of a split network that is not split. All processes must call this.

    Args:
        network: split by `shard`.
        empty: a network of the same kind, not split; its weights are replaced.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    empty.load_state_dict(get_model_state_dict(network, options=StateDictOptions(full_state_dict=True)))
    return empty


class ShardedState:
    """Weights and optimisers of split networks, for accelerate's checkpoints: whole, so that any number can go on."""

    def __init__(
        self,
        networks: dict[str, nn.Module],
        optimizers: dict[str, Any] | None = None,
        players: dict[str, tuple[str, ...]] | None = None,
    ):
        self.networks, self.optimizers, self.players = networks, optimizers or {}, players or {}

    def _pairs(self) -> list[tuple[str, nn.Module, Any]]:
        pairs = []
        for player, optimizer in self.optimizers.items():
            inner = getattr(optimizer, "optimizer", optimizer)
            owned = nn.ModuleDict({name: self.networks[name] for name in self.players[player]})
            pairs.append((player, owned, inner))
        return pairs

    def state_dict(self) -> dict[str, Any]:
        import torch.distributed.checkpoint.state_dict as states

        options = states.StateDictOptions(full_state_dict=True, cpu_offload=True)
        networks = {name: states.get_model_state_dict(net, options=options) for name, net in self.networks.items()}
        moments = {name: states.get_optimizer_state_dict(net, o, options=options) for name, net, o in self._pairs()}
        return {"networks": networks, "optimizers": moments}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        import torch.distributed.checkpoint.state_dict as states

        options = states.StateDictOptions(full_state_dict=True)
        for name, network in self.networks.items():
            states.set_model_state_dict(network, state["networks"][name], options=options)
        for name, network, optimizer in self._pairs():
            states.set_optimizer_state_dict(network, optimizer, state["optimizers"][name], options=options)


def unsplit_copy(network: nn.Module) -> nn.Module:
    """A copy on the CPU, in evaluation mode, without gradients."""
    return copy.deepcopy(network).cpu().eval().requires_grad_(False)
