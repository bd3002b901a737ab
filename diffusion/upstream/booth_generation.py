"""Pictures of a person learned by DreamBooth, PortraitBooth or ID-Booth, and the prior pictures of others.

pipeline = load_booth_pipeline(FOLDER, lora=RUN / "weights")
pictures = generate(pipeline, complex_prompts(21, PromptConfig(gender="female")), seed=1)
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ...geometry.errors import HeadlabError
from .booth_prompts import CLASS, NEGATIVE
from .pipelines import one_line, open_pipeline


def load_booth_pipeline(folder: Path, lora: Path | None = None, device: str | torch.device = "cpu") -> Any:
    """Stable Diffusion 1.5, 2.1 or XL from a folder in diffusers' layout, with an identity's LoRA.

    Args:
        folder: of the base pipeline.
        lora: pytorch_lora_weights.safetensors, or its folder (the authors' checkpoints have this form).
        device: where to.

    Raises:
        HeadlabError: parts are missing or damaged; the LoRA is another base model's.
    """
    pipeline = open_pipeline(folder, device)
    if lora is not None:
        file = Path(lora) if Path(lora).is_file() else Path(lora) / "pytorch_lora_weights.safetensors"
        if not file.is_file():
            raise HeadlabError(f"{lora} holds no pytorch_lora_weights.safetensors; give the folder that training wrote")
        try:
            pipeline.load_lora_weights(str(file.parent), weight_name=file.name, local_files_only=True)
        except Exception as error:
            raise HeadlabError(
                f"{file} does not fit {folder} ({one_line(error)}); give the LoRA's own base model"
            ) from error
    return pipeline


@torch.no_grad()
def generate(
    pipeline: Any,
    prompts: list[str],
    *,
    negative: str = NEGATIVE,
    steps: int = 30,
    guidance: float = 5.0,
    size: int | None = None,
    seed: int = 0,
    batch: int = 1,
) -> Float[Tensor, "count 3 height width"]:
    """Pictures, 0..1; the defaults are ID-Booth's (which samples with the pipeline's own schedule, ancestrally)."""
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    pipeline.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    generator = torch.Generator(pipeline.device).manual_seed(seed)
    made = []
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        out = pipeline(
            part,
            negative_prompt=[negative] * len(part),
            num_inference_steps=steps,
            guidance_scale=guidance,
            height=size,
            width=size,
            generator=generator,
            output_type="pt",
        )
        made.append(out.images.float().cpu())
    return torch.cat(made)


def prior_pictures(
    pipeline: Any, count: int = 200, *, prompt: str = CLASS, steps: int = 50, seed: int = 0, size: int | None = None
) -> Float[Tensor, "count 3 height width"]:
    """Pictures of other people by the base model (without adapters), -1..1: for L_PR and L_TID."""
    made = generate(pipeline, [prompt] * count, negative="", steps=steps, guidance=7.5, seed=seed, size=size)
    return made * 2 - 1
