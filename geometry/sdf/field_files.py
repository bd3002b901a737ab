"""Our own file of trained fields: one safetensors file with the networks, the latents, the anchors and all sizes.

    identity.*  expression.*   the networks' tensors by the authors' names
    mean_anchors               (NPHM) what the authors keep beside their code
    identity_latents, expression_latents, frame_offset
    header["headlab_fields"]   JSON: format, sizes, canonical expression, facts

Half precision where asked for: tensors become float32 again when they are read. Nothing in the file is ever run.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import HeadlabError, MissingAssetError
from ..files import write_bytes
from ..network_weights import load_network
from .anchors import FieldFrame
from .expression import ExpressionConfig, ExpressionField
from .head_fields import HeadFields
from .identity import IdentityConfig, IdentityField
from .layout import EnsembleLayout
from .mlp import DeepSDF

_KEY = "headlab_fields"
_FORMAT = 1


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of a single network (NPM's)."""

    latent: int = 512  #: length of all that is given beside the point
    hidden: int = 1024
    layers: int = 8
    out: Literal[1, 3] = 1

    def build(self) -> DeepSDF:
        return DeepSDF(self.latent, self.hidden, self.layers, self.out)


def save_fields(path: Path, fields: HeadFields, *, half: bool = False) -> None:
    """Write fields atomically.

    Args:
        path: `.safetensors`.
        half: networks and latents in half precision: half the size, about 5e-4 of each number.

    Raises:
        HeadlabError: the file cannot be written, or a tensor is not finite (nothing is written then).
    """
    header: dict[str, Any] = {
        "format": _FORMAT,
        "identity": _described(fields.identity),
        "expression": None if fields.expression is None else _described(fields.expression),
        "canonical": dict(fields.canonical),
        "facts": dict(fields.facts),
    }
    small = {"identity_latents": fields.identity_latents, "expression_latents": fields.expression_latents}
    small |= {f"identity.{name}": value for name, value in fields.identity.state_dict().items()}
    if fields.expression is not None:
        small |= {f"expression.{name}": value for name, value in fields.expression.state_dict().items()}
    exact = {"frame_offset": fields.frame.offset}
    if isinstance(fields.identity, IdentityField):
        exact["mean_anchors"] = fields.identity.mean_anchors
    tensors = {name: value.half() if half else value for name, value in small.items()} | exact
    bad = [name for name, value in tensors.items() if not bool(value.isfinite().all())]
    if bad:
        raise HeadlabError(f"{', '.join(bad[:3])} hold NaN or infinity: {path} was not written; train again")
    ready = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_bytes(path, save(ready, {_KEY: json.dumps(header, sort_keys=True)}))


def load_fields(path: Path) -> HeadFields:
    """Read fields, in evaluation mode, without gradients to their parameters.

    Args:
        path: a file of `save_fields`, or a folder that holds `fields.safetensors` (a training run).

    Raises:
        MissingAssetError: it is not there.
        HeadlabError: it is damaged or something else.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "fields.safetensors"
    if not path.is_file():
        raise MissingAssetError(f"{path} is not there: expected trained fields; train some with `headlab train nphm`")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get(_KEY, "null"))
            tensors: dict[str, Tensor] = {name: file.get_tensor(name).float() for name in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise HeadlabError(f"{path} is no safetensors file or a damaged one ({error}); get it again") from error
    if not isinstance(header, Mapping) or header.get("format") != _FORMAT:
        raise HeadlabError(f"{path} holds no headlab fields of format {_FORMAT}; train with this version of headlab")
    try:
        return _assembled(header, tensors, str(path))
    except (KeyError, TypeError, ValueError) as error:
        raise HeadlabError(f"{path} is damaged: its header and its tensors disagree ({error}); get it again") from error


def _assembled(header: Mapping[str, Any], tensors: Mapping[str, Tensor], source: str) -> HeadFields:
    def part(prefix: str) -> dict[str, Tensor]:
        return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}

    identity = _built(header["identity"], part("identity."), tensors.get("mean_anchors"), source)
    told = header["expression"]
    expression = None if told is None else _built(told, part("expression."), None, source)
    if isinstance(identity, ExpressionField) or isinstance(expression, IdentityField):
        raise ValueError("the networks are exchanged")
    fields = HeadFields(
        identity,
        expression,
        tensors["identity_latents"],
        tensors["expression_latents"],
        FieldFrame(tensors["frame_offset"]),
        dict(header["canonical"]),
        dict(header["facts"]),
    )
    sizes = {"identity": fields.identity_size, "expression": fields.expression_size}
    for name, wanted in sizes.items():
        latents = tensors[f"{name}_latents"]
        if latents.shape[-1] != wanted or not bool(latents.isfinite().all()):
            raise ValueError(f"{name} latents {tuple(latents.shape)}, {wanted} numbers each expected")
    if len(fields.identity_latents) == 0:
        raise ValueError("no identity latents")
    return fields


def _described(network: IdentityField | ExpressionField | DeepSDF) -> dict[str, Any]:
    if isinstance(network, DeepSDF):
        first, last = network.linear(0), network.linear(network.depth - 1)
        narrower = network.free + network.latent if network.depth - 1 == 2 else 0
        out: Any = last.out_features
        config = NetworkConfig(network.latent, first.out_features + narrower, network.depth - 1, out)
        return {"kind": "network", **asdict(config)}
    return {"kind": "ensemble" if isinstance(network, IdentityField) else "deformation", **asdict(network.config)}


def _built(
    told: Mapping[str, Any], state: Mapping[str, Tensor], anchors: Tensor | None, source: str
) -> IdentityField | ExpressionField | DeepSDF:
    sizes = {name: value for name, value in told.items() if name not in ("kind", "layout")}
    if told["kind"] == "network":
        return load_network(NetworkConfig(**sizes).build, state, source)
    layout = EnsembleLayout(**told["layout"])
    if told["kind"] == "deformation":
        return load_network(lambda: ExpressionField(ExpressionConfig(layout=layout, **sizes)), state, source)
    if anchors is None:
        raise ValueError("no mean_anchors")
    network = load_network(
        lambda: IdentityField(IdentityConfig(layout, **sizes), torch.zeros_like(anchors)), state, source
    )
    network.mean_anchors = anchors
    return network
