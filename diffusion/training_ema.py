"""Moving averages of weights by the fixed-decay rule: target <- d target + (1 - d) source, from a copy, no warm-up."""

import copy

import torch
from torch import nn


class Averages:
    """Averaged copies of networks. Whole numbers (counters) are truncated, as DiffAE's rule has it."""

    def __init__(self, networks: dict[str, nn.Module], decay: float):
        self.decay = decay
        self.networks = {name: copy.deepcopy(net).eval().requires_grad_(False) for name, net in networks.items()}

    @torch.no_grad()
    def update(self, networks: dict[str, nn.Module]) -> None:
        """After every optimiser step."""
        for name, target in self.networks.items():
            source = networks[name].state_dict()
            for key, value in target.state_dict().items():
                if value.is_floating_point():
                    value.mul_(self.decay).add_(source[key].to(value), alpha=1 - self.decay)
                else:
                    value.copy_(self.decay * value.double() + (1 - self.decay) * source[key].to(value.device).double())

    def state_dict(self) -> dict:
        return {name: net.state_dict() for name, net in self.networks.items()}

    def load_state_dict(self, state: dict) -> None:
        for name, net in self.networks.items():
            net.load_state_dict(state[name])
