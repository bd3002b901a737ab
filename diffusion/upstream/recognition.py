"""Which published checkpoint a file is, by the names and shapes in it, and what it lacks. No tensor is read."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ...geometry.errors import HeadlabError
from .archives import open_lightning
from .diffae import DiffAE
from .diffae_files import _config_of
from .diffusionrig import DiffusionRig, DiffusionRigConfig
from .loading import shapes_of
from .unet import unet_config_of

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Found:
    """A checkpoint."""

    id: str  #: of the asset kind, or "" where headlab keeps none of this size
    title: str  #: what it is
    missing: tuple[str, ...]  #: names that it should have
    note: str = ""  #: what else to know


def identify_torch(path: Path) -> Found | None:
    """What a torch file is; None for none of these.

    Raises:
        UnsafePickleError: it names what has no place in it.
        HeadlabError: damaged, or no torch file with tensors.
    """
    from ...geometry.regress.torch_archive import StoredTensor, TorchArchive
    from .archives import DIFFAE_GLOBALS

    with TorchArchive(path, DIFFAE_GLOBALS) as archive:
        value = archive.value
        if isinstance(value, dict) and {"conds_mean", "conds_std"} <= set(map(str, value)):
            size = value["conds_mean"].args[2] if isinstance(value["conds_mean"], StoredTensor) else ()
            return Found(
                "diffae_latents", f"latent statistics of DiffAE, codes of {size[-1] if size else '?'} numbers", ()
            )
    try:
        with open_lightning(path) as file:
            return identify(file.shapes)
    except HeadlabError as error:
        if "has no state_dict" in str(error):
            return None
        raise


def identify(shapes: Shapes) -> Found | None:
    """What parameters of these names and shapes belong to."""
    shapes = {name.removeprefix("module."): shape for name, shape in shapes.items()}
    sections = {name.split(".")[0] for name in shapes}
    if "denoisingUNet" in sections:
        return _rig(shapes)
    if "ema_model" in sections or "model" in sections:
        prefix = "ema_model." if "ema_model" in sections else "model."
        inner = {k.removeprefix(prefix): v for k, v in shapes.items() if k.startswith(prefix)}
        return _diffae(inner) if any(k.startswith("input_blocks.") for k in inner) else None
    if "classifier" in sections and len(shapes.get("classifier.weight", ())) == 2:
        wanted = ("classifier.weight", "classifier.bias", "ema_classifier.weight", "ema_classifier.bias")
        wanted += ("conds_mean", "conds_std")
        classes, size = shapes["classifier.weight"]
        return Found(
            "diffae_classifier",
            f"DiffAE classifier of {classes} attributes over codes of {size} numbers",
            tuple(name for name in wanted if name not in shapes),
            "the file does not tell which autoencoder it belongs to: use the one of its run's size",
        )
    return None


def identify_safetensors(path: Path) -> Found | None:
    """What a .safetensors file is.

    Raises:
        HeadlabError: damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise HeadlabError(f"{path} is damaged or no safetensors file ({error}); get it again") from error
    if any(".lora" in name for name in shapes):
        return _lora(shapes)
    if "classifier.weight" in shapes:
        return identify(shapes)
    names = {name.removeprefix("first_stage_model.") for name in shapes}
    if any(name.startswith(("encoder.down_blocks.", "encoder.down.")) for name in names):
        inputs = next(shapes[n][1] for n in shapes if n.endswith("encoder.conv_in.weight"))
        kind = {6: "LDM3D's autoencoder of colour and packed depth", 4: "RGB-D autoencoder"}.get(inputs)
        title = kind or "autoencoder of Stable Diffusion"
        return Found("ldm3d_vae" if inputs == 6 else "", f"{title}, {inputs} channels", _vae_missing(names))
    return None


def _rig(shapes: Shapes) -> Found:
    encoder = "resnet50" if "encoder.layer1.0.conv3.weight" in shapes else "resnet18"
    try:
        inner = {k.removeprefix("denoisingUNet."): v for k, v in shapes.items() if k.startswith("denoisingUNet.")}
        config = DiffusionRigConfig(unet_config_of(inner), encoder)
    except (KeyError, ValueError, IndexError):
        config = DiffusionRigConfig(encoder=encoder)
    with torch.device("meta"):
        wanted = shapes_of(DiffusionRig(config).state_dict())
    missing = tuple(name for name in wanted if name not in shapes)
    return Found("diffusionrig", f"DiffusionRig, {config.unet.size} pixels, {encoder}", missing)


def _diffae(shapes: Shapes) -> Found:
    config = _config_of(shapes)
    with torch.device("meta"):
        wanted = shapes_of(DiffAE(config).state_dict())
    missing, size = tuple(name for name in wanted if name not in shapes), config.unet.size
    if config.stages is None:
        id, what = f"diffae{size}_ddpm", "unconditional DDPM"
    elif config.latent_net is not None:
        id, what = f"diffae{size}_latent", "autoencoder with latent DPM"
    else:
        id, what = f"diffae{size}", "autoencoder"
    known = {"diffae128", "diffae256", "diffae128_latent", "diffae256_latent", "diffae128_ddpm"}
    note = "" if id in known else "headlab keeps those of 128 and 256 pixels; name this one by its path"
    return Found(id if id in known else "", f"Diffusion Autoencoders: {what}, {size} pixels", missing, note)


def _lora(shapes: Shapes) -> Found:
    """Which Stable Diffusion a LoRA fits, by the width of what its cross-attention reads."""
    parts = {name.rsplit(".lora", 1)[0] for name in shapes}
    ends: dict[str, list[str]] = {}
    for name in shapes:
        ends.setdefault(name.rsplit(".lora", 1)[0], []).append(name)
    missing = tuple(f"a second factor of {part}" for part in sorted(parts) if len(ends[part]) < 2)
    down = [
        s for n, s in shapes.items() if "attn2.to_k" in n and ("lora_A" in n or "lora.down" in n or "lora_down" in n)
    ]
    width = down[0][-1] if down else 0
    base = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL"}.get(width, "a UNet")
    rank = down[0][0] if down else 0
    return Found("booth_lora", f"LoRA of rank {rank} for {base} (DreamBooth, PortraitBooth, ID-Booth)", missing)


def _vae_missing(names: set[str]) -> tuple[str, ...]:
    wanted = ("encoder.conv_in.weight", "encoder.conv_out.weight", "decoder.conv_in.weight", "decoder.conv_out.weight")
    return tuple(name for name in wanted if name not in names)
