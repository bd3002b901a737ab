"""Pipelines of Stable Diffusion's kind from folders in diffusers' layout. Nothing is downloaded."""

import warnings
from pathlib import Path
from typing import Any

import torch

from ...geometry.errors import HeadlabError

_PARTS = ("vae", "unet", "text_encoder", "tokenizer", "scheduler")


def open_pipeline(folder: Path, device: str | torch.device = "cpu") -> Any:
    """StableDiffusionPipeline (versions 1 and 2, LDM3D) or StableDiffusionXLPipeline, as the folder's parts say.

    Raises:
        HeadlabError: parts are missing (all are named), damaged, or of another kind.
    """
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline

    folder = Path(folder)
    large = (folder / "text_encoder_2").is_dir()
    parts = (*_PARTS, "tokenizer_2") if large else _PARTS
    if missing := [name for name in parts if not (folder / name).is_dir()]:
        raise HeadlabError(
            f"{folder} lacks {', '.join(missing)}: it is no whole pipeline in diffusers' layout; fetch "
            "Stable Diffusion 1.5, 2.1 or XL, or Intel/ldm3d-4c, from Hugging Face (CreativeML Open RAIL licences)"
        )
    kind: Any = StableDiffusionXLPipeline if large else StableDiffusionPipeline
    options: dict[str, Any] = {}
    if not large:
        options = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of settings that older configurations leave out
            pipeline = kind.from_pretrained(folder, local_files_only=True, **options)
    except Exception as error:
        raise HeadlabError(f"{folder} is no pipeline that can be loaded ({one_line(error)}); fetch it again") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def one_line(error: BaseException) -> str:
    """What an error says, for messages."""
    return " ".join(str(error).split())[:200]
