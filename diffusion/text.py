"""CLIP's text encoder, for denoisers with text tokens. Read from disk; never downloaded."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.errors import HeadlabError


@torch.no_grad()
def text_tokens(folder: Path, texts: list[str]) -> Float[Tensor, "batch words length"]:
    """Hidden states of texts, padded to the encoder's length: `Given.text`.

    Args:
        folder: a diffusers pipeline's, with tokenizer/ and text_encoder/.
        texts: one per picture.

    Raises:
        HeadlabError: CLIP is not there.
    """
    from transformers import CLIPTextModel, CLIPTokenizer

    folder = Path(folder)
    missing = [name for name in ("tokenizer", "text_encoder") if not (folder / name).is_dir()]
    if missing:
        raise HeadlabError(
            f"{folder} has no {' and no '.join(missing)}: CLIP is missing; give the folder of a Stable Diffusion "
            "pipeline in diffusers' layout, or leave the text out"
        )
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", local_files_only=True).eval()
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise HeadlabError(f"CLIP in {folder} cannot be read ({reason}); fetch the pipeline again") from error
    words = tokenizer(
        texts,
        padding="max_length",
        max_length=encoder.config.max_position_embeddings,
        truncation=True,
        return_tensors="pt",
    )
    return encoder(words["input_ids"])[0]
