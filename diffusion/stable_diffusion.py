"""Denoisers of Stable Diffusion's size: sizes, and starting from its weights in a diffusers folder on disk.

    load_stable_diffusion(FOLDER) ──> LatentDiffusion: VAE and UNet with their weights, new inputs that say nothing yet
    add_lora(diffusion.denoiser)  ──> train adapters and the new encoders

The UNet gets more input channels (conditions, the capture's latent; their weights start at 0) and an embedding (its
last layer starts at 0). Tokens of person and expression join those of the text, so that attention starts out diluted.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..geometry.errors import HeadlabError
from .autoencoder_files import load_autoencoder
from .bundle import DiffusionConfig, LatentDiffusion
from .denoiser import DenoiserConfig
from .schedule import ScheduleConfig
from .semantic_encoder import SemanticConfig

#: Stable Diffusion 2.1 (Rombach et al. 2022), 866 million parameters in its UNet.
STABLE_DIFFUSION_21 = DenoiserConfig(
    latents=4,
    size=512,
    factor=8,
    widths=(320, 640, 1280, 1280),
    attention=(True, True, True, False),
    blocks=2,
    heads=(5, 10, 20, 20),
    groups=32,
    tokens=1024,
    condition_width=128,
    semantic=SemanticConfig("resnet50", size=512),
    text=1024,
    linear_projection=True,
)

_KINDS = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
_PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v", "sample": "sample"}


def load_stable_diffusion(folder: Path, size: int | None = None, like: DenoiserConfig | None = None) -> LatentDiffusion:
    """A system that starts from Stable Diffusion (1, 2) or LDM3D.

    Args:
        folder: of a pipeline in diffusers' layout: unet/, vae/, scheduler/.
        size: side of the pictures; the pipeline's own where None.
        like: what of the conditioning (semantic encoder, widths) is not the pipeline's to say.

    Raises:
        HeadlabError: parts are missing or of another architecture.
    """
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    folder = Path(folder)
    missing = [name for name in ("unet", "vae") if not (folder / name / "config.json").is_file()]
    if missing:
        raise HeadlabError(
            f"{folder} lacks {' and '.join(missing)}/config.json; give the folder of a Stable Diffusion pipeline "
            "in diffusers' layout (its licence lets you fetch it from Hugging Face)"
        )
    vae = load_autoencoder(folder)
    try:
        unet = UNet2DConditionModel.from_pretrained(folder / "unet", local_files_only=True, low_cpu_mem_usage=False)
        config = _denoiser_config(unet.config, vae, size, like or STABLE_DIFFUSION_21)
        diffusion = LatentDiffusion.build(vae, DiffusionConfig(config, _schedule(folder)))
        with torch.no_grad():
            _take_weights(diffusion, unet.state_dict())
    except HeadlabError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise HeadlabError(
            f"{folder / 'unet'} is no UNet like Stable Diffusion's ({reason}); versions 1 and 2 and LDM3D load"
        ) from error
    return diffusion


def _denoiser_config(unet: Any, vae: Any, size: int | None, like: DenoiserConfig) -> DenoiserConfig:
    blocks = tuple(unet["down_block_types"])
    if set(blocks) - {"CrossAttnDownBlock2D", "DownBlock2D"} or unet["in_channels"] != unet["out_channels"]:
        raise HeadlabError(f"a UNet with the blocks {', '.join(blocks)} is not Stable Diffusion's; versions 1, 2 load")
    factor = 2 ** (len(vae.config["block_out_channels"]) - 1)
    heads = unet["attention_head_dim"]
    return replace(
        like,
        latents=unet["out_channels"],
        size=size or unet["sample_size"] * factor,
        factor=factor,
        widths=tuple(unet["block_out_channels"]),
        attention=tuple(name.startswith("Cross") for name in blocks),
        blocks=unet["layers_per_block"],
        heads=tuple(heads) if isinstance(heads, (list, tuple)) else heads,
        groups=unet["norm_num_groups"],
        tokens=unet["cross_attention_dim"],
        text=unet["cross_attention_dim"],
        linear_projection=bool(unet.get("use_linear_projection")),
    )


def _schedule(folder: Path) -> ScheduleConfig:
    path = folder / "scheduler" / "scheduler_config.json"
    if not path.is_file():
        raise HeadlabError(f"{path} is missing: it says what the UNet predicts; copy it from the pipeline")
    told = json.loads(path.read_text("utf-8"))
    return ScheduleConfig(
        _KINDS[told["beta_schedule"]],  # type: ignore[arg-type]
        told["num_train_timesteps"],
        told["beta_start"],
        told["beta_end"],
        _PREDICTIONS[told.get("prediction_type", "epsilon")],  # type: ignore[arg-type]
    )


def _take_weights(diffusion: LatentDiffusion, state: dict[str, torch.Tensor]) -> None:
    unet = diffusion.denoiser.unet
    wide = torch.zeros_like(unet.conv_in.weight)
    wide[:, : state["conv_in.weight"].shape[1]] = state["conv_in.weight"]
    rest = unet.load_state_dict(state | {"conv_in.weight": wide}, strict=False)
    strange = [name for name in rest.missing_keys if not name.startswith("class_embedding.")] + rest.unexpected_keys
    if strange:
        raise ValueError(f"{strange[0]} does not fit")
    for parameter in unet.class_embedding.linear_2.parameters():
        torch.nn.init.zeros_(parameter)
