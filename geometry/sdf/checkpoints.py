"""Reading the authors' checkpoints: networks and latent codes of NPHM and NPM, without running the files.

A checkpoint is EXPERIMENT/checkpoints/checkpoint_epoch_N.tar, a torch file whatever its name says. Sizes are read off
the tensors' shapes, so that no configuration file is needed. Latents are rows of a codebook that rescales a row longer
than 1 when it is looked up; `latents` are rescaled already.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import HeadlabError, MissingAssetError
from ..network_weights import load_network
from ..safe_pickle import load_torch
from .expression import ExpressionConfig, ExpressionField, Mode
from .identity import IdentityConfig, IdentityField
from .layout import EnsembleLayout
from .mlp import DeepSDF

PAGE = "https://simongiebenhain.github.io/NPHM"

#: Longest a latent may be.
_LONGEST = 1.0


@dataclass(frozen=True)
class SdfCheckpoint:
    """What one file holds."""

    source: str
    epoch: int
    state: Mapping[str, Tensor]
    latents: Float[Tensor, "_ latent"] | None  #: of the training heads
    validation_latents: Float[Tensor, "_ latent"] | None


def find_checkpoint(path: Path, epoch: int | None = None) -> Path:
    """The file of an experiment: of the given epoch, or the latest.

    Args:
        path: a checkpoint, its folder, or the experiment's.

    Raises:
        MissingAssetError: there is none.
    """
    if path.is_file():
        return path
    found = {
        int(match[1]): file
        for folder in (path / "checkpoints", path)
        for file in sorted(folder.glob("checkpoint_epoch_*.tar"))
        if (match := re.fullmatch(r"checkpoint_epoch_(\d+)\.tar", file.name))
    }
    if not found or (epoch is not None and epoch not in found):
        wanted = f"checkpoint_epoch_{'N' if epoch is None else epoch}.tar"
        raise MissingAssetError(
            f"{path} holds no {wanted}: expected NPHM's weights, non-commercial licence; get them at {PAGE}"
        )
    return found[max(found) if epoch is None else epoch]


def read_checkpoint(path: Path, epoch: int | None = None) -> SdfCheckpoint:
    """Read a checkpoint as weights only.

    Raises:
        MissingAssetError: it is not there.
        UnsafePickleError: it names something else than tensors.
        HeadlabError: it is damaged or something else.
    """
    path = find_checkpoint(path, epoch)
    data = load_torch(path)
    state = data.get("decoder_state_dict") if isinstance(data, Mapping) else None
    if not isinstance(state, Mapping):
        held = ", ".join(map(str, list(data)[:6])) if isinstance(data, Mapping) else type(data).__name__
        raise HeadlabError(f"{path} is no NPHM checkpoint: decoder_state_dict expected, {held} found; get it at {PAGE}")
    number = data.get("epoch", -1)
    return SdfCheckpoint(
        str(path),
        number if isinstance(number, int) else -1,
        dict(state),
        _codebook(path, data.get("latent_codes_state_dict")),
        _codebook(path, data.get("latent_codes_val_state_dict")),
    )


def _codebook(path: Path, state: Any) -> Tensor | None:
    weight = state.get("weight") if isinstance(state, Mapping) else None
    if weight is None:
        return None
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not bool(weight.isfinite().all()):
        raise HeadlabError(f"{path} has latent codes that are no table of numbers; get it again at {PAGE}")
    return shortened(weight.float())


def shortened(latents: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch latent"]:
    """Latents no longer than 1, as the codebook gives them (torch's embedding with max_norm)."""
    length = torch.linalg.vector_norm(latents, dim=-1, keepdim=True)
    return torch.where(length > _LONGEST, latents * (_LONGEST / (length + 1e-7)), latents)


def identity_config(checkpoint: SdfCheckpoint) -> IdentityConfig:
    """Sizes of an NPHM identity network, read off its tensors.

    Raises:
        HeadlabError: it is no such network.
    """
    shapes = _shapes(checkpoint)
    try:
        depth = sum(re.fullmatch(r"ensembled_deep_sdf\.lin\d+\.weight", key) is not None for key in shapes)
        sets, hidden, inputs = shapes["ensembled_deep_sdf.lin0.weight"]
        anchor_hidden, latent_global = shapes["mlp_pos.0.weight"]
        anchors = shapes["mlp_pos.4.bias"][0] // 3
    except (KeyError, ValueError, IndexError) as error:
        raise _wrong(checkpoint, "an NPHM identity network") from error
    layout = EnsembleLayout(anchors, anchors + 1 - sets, latent_global, inputs - 3 - latent_global)
    if depth < 3 or layout.pairs < 0 or 2 * layout.pairs > anchors or layout.latent_local < 0:
        raise _wrong(checkpoint, "an NPHM identity network")
    return IdentityConfig(layout, hidden, depth - 1, anchor_hidden)


def identity_field(checkpoint: SdfCheckpoint, mean_anchors: Float[Tensor, "anchors 3"]) -> IdentityField:
    """The identity network of a checkpoint, in evaluation mode.

    Args:
        mean_anchors: the table that its authors keep beside their code (`assets/anchors_39.npy`).

    Raises:
        HeadlabError: it is no such network, its tensors do not fit, or the table has another length.
    """
    config = identity_config(checkpoint)
    if tuple(mean_anchors.shape) != (config.layout.anchors, 3):
        raise HeadlabError(
            f"{checkpoint.source} has {config.layout.anchors} anchors, the table {tuple(mean_anchors.shape)}; "
            "give the anchors_*.npy that belongs to it"
        )
    field = load_network(lambda: IdentityField(config, mean_anchors), checkpoint.state, checkpoint.source)
    return field


def expression_field(checkpoint: SdfCheckpoint, layout: EnsembleLayout | None = None) -> ExpressionField:
    """The NPHM expression network of a checkpoint, in evaluation mode; its mode is read off its tensors.

    Args:
        layout: of the identity network it was trained with; the released one where absent.

    Raises:
        HeadlabError: it is no such network, or its tensors do not fit.
    """
    layout = layout or EnsembleLayout()
    shapes = _shapes(checkpoint)
    prefix = "defDeepSDF."
    try:
        hidden, inputs = shapes[prefix + "lin0.weight"]
    except (KeyError, ValueError) as error:
        raise _wrong(checkpoint, "an NPHM expression network") from error
    layers = sum(re.fullmatch(r"defDeepSDF\.lin\d+\.weight", key) is not None for key in shapes) - 1
    extra: dict[str, int] = {}
    mode: Mode
    if "compressor.0.weight" in shapes:
        mode, known = "compress", shapes["compressor.0.weight"][0]
        extra = {"code": known}
    elif "global_combiner.2.weight" in shapes:
        mode, (known, wide) = "GNN", shapes["global_combiner.2.weight"]
        extra = {"combined": known, "combiner_hidden": wide, "combiner": shapes["local_combiner.2.weight"][0]}
    else:
        # Told by what the identity takes of the input: 0, z_glob, or z_glob and one local latent, beside 200 of z_ex.
        rest = inputs - 3 - ExpressionConfig().latent
        modes: dict[int, Mode] = {
            0: "expr_only",
            layout.latent_global: "glob_only",
            layout.latent_global + layout.latent_local: "interpolate",
        }
        if rest not in modes:
            raise _wrong(checkpoint, "an NPHM expression network with 200 numbers of expression")
        mode, known = modes[rest], rest
    config = ExpressionConfig(mode, layout, inputs - 3 - known, hidden=hidden, layers=layers, **extra)
    return load_network(lambda: ExpressionField(config), checkpoint.state, checkpoint.source)


def npm_field(checkpoint: SdfCheckpoint) -> DeepSDF:
    """NPM's identity (one output) or deformation (three), in evaluation mode.

    Raises:
        HeadlabError: it is no such network, or its tensors do not fit.
    """
    shapes = _shapes(checkpoint)
    try:
        hidden, inputs = shapes["lin0.weight"]
        layers = sum(re.fullmatch(r"lin\d+\.weight", key) is not None for key in shapes) - 1
        out = shapes[f"lin{layers}.bias"][0]
    except (KeyError, ValueError, IndexError) as error:
        raise _wrong(checkpoint, "an NPM network") from error
    return load_network(lambda: DeepSDF(inputs - 3, hidden, layers, out), checkpoint.state, checkpoint.source)


def _shapes(checkpoint: SdfCheckpoint) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in checkpoint.state.items() if isinstance(value, Tensor)}


def _wrong(checkpoint: SdfCheckpoint, what: str) -> HeadlabError:
    held = ", ".join(list(checkpoint.state)[:4])
    return HeadlabError(f"{checkpoint.source} is not {what}: it holds {held}; give the checkpoint of that network")
