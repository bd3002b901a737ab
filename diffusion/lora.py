"""Low-rank adapters (Hu et al. 2022) on a denoiser's UNet, by peft."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from ..geometry.errors import HeadlabError
from ..geometry.files import write_bytes

#: What is adapted: attention, feed-forward, the convolutions of the residual blocks.
LORA_LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2", "conv1", "conv2", "time_emb_proj")


def add_lora(network: nn.Module, rank: int, layers: Sequence[str] = LORA_LAYERS) -> None:
    """Put adapters beside some layers, in place; they alone are trained, and start without effect.

    Raises:
        HeadlabError: a rank below 1, or there are adapters already.
    """
    from peft import LoraConfig, inject_adapter_in_model

    if rank < 1:
        raise HeadlabError(f"a LoRA has a rank of at least 1, not {rank}")
    if has_lora(network):
        raise HeadlabError("this network has adapters already; merge them first")
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(layers))
    inject_adapter_in_model(config, network)


def has_lora(network: nn.Module) -> bool:
    """Whether there are adapters."""
    return any(".lora_A." in name for name, _ in network.named_parameters())


def merge_lora(network: nn.Module) -> None:
    """Add the adapters to the weights and take them away, in place: the network is one like any other again."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in [(n, m) for n, m in network.named_modules() if isinstance(m, BaseTunerLayer)]:
        layer.merge()
        parent, _, leaf = name.rpartition(".")
        setattr(network.get_submodule(parent), leaf, layer.get_base_layer())


def save_lora(network: nn.Module, path: Path) -> None:
    """Write the adapters alone, safetensors.

    Raises:
        HeadlabError: there are none.
    """
    from safetensors.torch import save

    state = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items() if ".lora_" in k}
    if not state:
        raise HeadlabError("this network has no adapters; add some with add_lora")
    write_bytes(path, save(state))


def load_lora(network: nn.Module, path: Path) -> None:
    """Read what `save_lora` wrote into a network without adapters.

    Raises:
        HeadlabError: it is damaged, or belongs to another network.
    """
    from safetensors.torch import load_file

    try:
        state = load_file(path)
        ranks = {value.shape[0] for name, value in state.items() if ".lora_A." in name}
        present = {name.split(".lora_")[0] for name in state}
        add_lora(network, ranks.pop(), [part for part in LORA_LAYERS if any(n.endswith("." + part) for n in present)])
        if unknown := network.load_state_dict(state, strict=False).unexpected_keys:
            raise ValueError(f"{unknown[0]} has no place")
    except HeadlabError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise HeadlabError(f"{path} holds no adapters of this network ({reason}); use its own base model") from error
