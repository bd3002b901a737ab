"""Reading DiffAE's checkpoints (last.ckpt of autoencoder, DDPM and latent runs) and its latent statistics."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ...geometry.errors import HeadlabError
from ...geometry.files import write_bytes
from ...geometry.safe_pickle import load_torch
from .archives import LightningState, open_lightning
from .diffae import FFHQ128, FFHQ128_DDPM, FFHQ256, DiffAE, DiffAEConfig
from .latent_net import LatentNetConfig, latent_net_config_of
from .loading import assemble
from .unet import unet_config_of

#: One layer under two names: the first holds what the second does.
_ALIAS = ".linear_emb.", ".cond_layers.1."


@dataclass(frozen=True)
class LatentStatistics:
    """Mean and deviation of the codes of a data set, with which classifiers and the latent DPM work."""

    mean: Float[Tensor, "size"]
    std: Float[Tensor, "size"]  #: unbiased, as published

    def normalized(self, code: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        return (code - self.mean.to(code)) / self.std.to(code)

    def restored(self, code: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """Inverse of `normalized`."""
        return code * self.std.to(code) + self.mean.to(code)

    @classmethod
    def of(cls, codes: Float[Tensor, "count size"]) -> "LatentStatistics":
        """Of codes.

        Raises:
            HeadlabError: fewer than two.
        """
        if len(codes) < 2:
            raise HeadlabError(f"statistics of codes need at least 2 pictures, not {len(codes)}; give more")
        wide = codes.double()
        return cls(wide.mean(0).float(), wide.std(0).float())


@dataclass(frozen=True)
class LoadedDiffAE:
    """A network and what its checkpoint says about codes."""

    network: DiffAE
    statistics: LatentStatistics | None  #: in checkpoints of latent runs


def load_diffae(path: Path, *, averaged: bool = True, config: DiffAEConfig | None = None) -> LoadedDiffAE:
    """Read a network: autoencoder, autoencoder with latent DPM, or the unconditional DDPM.

    Args:
        path: last.ckpt as Lightning wrote it.
        averaged: the moving averages (ema_model), as the authors use them; else the trained weights.
        config: sizes; where None they are read off the parameters, with one attention head, as released.

    Raises:
        UnsafePickleError: the file would run something.
        HeadlabError: missing, damaged, of another kind (a classifier alone, say), or not whole (all names are listed).
    """
    with open_lightning(path) as file:
        prefix = "ema_model." if averaged else "model."
        sections = file.sections()
        if not {"model", "ema_model"} & sections:
            raise HeadlabError(f"{path} is no DiffAE network but {_instead(sections)}")
        if prefix[:-1] not in sections:
            raise HeadlabError(f"{path} lacks {prefix}*; it holds {', '.join(sorted(sections))}; get it again")
        statistics = None
        if "conds_mean" in sections:
            statistics = LatentStatistics(file.tensor("conds_mean").flatten(), file.tensor("conds_std").flatten())
        state = file.section(prefix)
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    if config is None:
        config = _config_of(shapes)
    for name in list(state):
        twin = name.replace(_ALIAS[1], _ALIAS[0])
        if twin != name and twin in state and not torch.equal(state[twin], state[name]):
            raise HeadlabError(f"{path} is damaged: {twin} and {name} are one layer, but differ; get it again")
    network = assemble(lambda: DiffAE(config), state, str(path), f"the DiffAE network of {config.unet.size} pixels")
    return LoadedDiffAE(tie_aliases(network), statistics)


def tie_aliases(network: DiffAE) -> DiffAE:
    """Have the two names of the latent network's layers mean one layer again, in place."""
    if network.sizes.latent_net is not None:
        for layer in network.latent_net.layers:
            if layer.cond_layers is not None:
                layer.linear_emb = layer.cond_layers[1]  # type: ignore[index]
    return network


def save_diffae(network: DiffAE, path: Path, statistics: LatentStatistics | None = None) -> None:
    """Write a checkpoint that `load_diffae` and the authors' code (strict=False) read; atomically."""
    from io import BytesIO

    own = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    state = {f"{prefix}.{name}": value for prefix in ("model", "ema_model") for name, value in own.items()}
    if statistics is not None:
        state |= {"conds_mean": statistics.mean[None], "conds_std": statistics.std[None]}
    buffer = BytesIO()
    torch.save({"state_dict": state, "global_step": 0, "epoch": 0}, buffer)
    write_bytes(path, buffer.getvalue())


def load_latents(path: Path) -> tuple[LatentStatistics, Float[Tensor, "count size"] | None]:
    """Read latent.pkl: statistics, and the codes of the data set where they are there.

    Raises:
        UnsafePickleError: the file would run something.
        HeadlabError: missing, damaged or another file.
    """
    content = load_torch(Path(path))
    try:
        mean, std = content["conds_mean"].flatten().float(), content["conds_std"].flatten().float()
        codes = content.get("conds")
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise HeadlabError(
            f"{path} holds no latent statistics (conds_mean, conds_std); give DiffAE's latent.pkl"
        ) from error
    return LatentStatistics(mean, std), None if codes is None else codes.float()


def save_latents(path: Path, codes: Float[Tensor, "count size"]) -> LatentStatistics:
    """Write codes and their statistics as latent.pkl has them; atomically."""
    from io import BytesIO

    statistics, buffer = LatentStatistics.of(codes), BytesIO()
    torch.save({"conds": codes.cpu(), "conds_mean": statistics.mean, "conds_std": statistics.std}, buffer)
    write_bytes(path, buffer.getvalue())
    return statistics


def _config_of(shapes: dict[str, tuple[int, ...]]) -> DiffAEConfig:
    """Sizes from shapes; where too much is missing, the released network that is nearest, which tells what else is."""
    try:
        unet = unet_config_of(shapes)
        if unet.code is None:
            return DiffAEConfig(unet, None)
        count = 1 + max(int(name.split(".")[2]) for name in shapes if name.startswith("encoder.input_blocks."))
        per = unet.blocks + 1
        firsts = [f"encoder.input_blocks.{1 + stage * per}.0.in_layers.2.weight" for stage in range(count // per)]
        stages = tuple(shapes[name][0] // unet.channels for name in firsts)
        latent = {k.removeprefix("latent_net."): v for k, v in shapes.items() if k.startswith("latent_net.")}
        return DiffAEConfig(unet, stages, latent_net_config_of(latent) if latent else None)
    except (KeyError, ValueError, IndexError):
        released = (FFHQ256, FFHQ128, FFHQ128_DDPM)
        latent = any(name.startswith("latent_net.") for name in shapes)

        def fitting(config: DiffAEConfig) -> int:
            with torch.device("meta"):
                own = DiffAE(config).state_dict()
            return sum(shapes.get(name) == tuple(value.shape) for name, value in own.items())

        best = max(released, key=fitting)
        return replace(best, latent_net=LatentNetConfig()) if latent else best


def _instead(sections: set[str]) -> str:
    if "classifier" in sections:
        return "a classifier of its codes; give it as the classifier, and the autoencoder's last.ckpt here"
    if "denoisingUNet" in sections:
        return "DiffusionRig's; load it with load_diffusionrig"
    return f"holds {', '.join(sorted(sections)[:5])}; give the autoencoder's last.ckpt"


def describe(file: LightningState) -> str:
    """What an open checkpoint is, in words, by its keys."""
    sections, shapes = file.sections(), file.shapes
    if "ema_model" in sections or "model" in sections:
        prefix = "ema_model." if "ema_model" in sections else "model."
        config = _config_of({k.removeprefix(prefix): v for k, v in shapes.items() if k.startswith(prefix)})
        kind = "autoencoder" if config.stages is not None else "unconditional DDPM"
        latent = " with latent DPM" if config.latent_net is not None else ""
        return f"DiffAE {kind}{latent}, {config.unet.size} pixels"
    if "classifier" in sections:
        return f"DiffAE classifier of {shapes['classifier.weight'][0]} attributes"
    return "holds " + ", ".join(sorted(sections)[:5])
