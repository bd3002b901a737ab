"""Pipelines in the layouts of Stable Diffusion 1/2, LDM3D and XL with tiny random networks, written to disk."""

import json
from pathlib import Path
from typing import Any

import torch

LETTERS = [*"abcdefghijklmnopqrstuvwxyz"]
WORDS = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(letter + "</w>" for letter in LETTERS)]


def tiny_pipeline(folder: Path, channels: int = 3, prediction: str = "epsilon", large: bool = False) -> Path:
    """Write one.

    Args:
        folder: made.
        channels: of the autoencoder: 3, 4 or 6 (LDM3D).
        prediction: of the UNet.
        large: Stable Diffusion XL's layout: two text encoders.
    """
    from diffusers import (
        DDIMScheduler,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    from headlab.diffusion.autoencoder import AutoencoderConfig, build_autoencoder

    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(WORDS)}))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=9)
        sizes = CLIPTextConfig(
            vocab_size=len(WORDS),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=9,
            projection_dim=16,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
        more: dict[str, Any] = {}
        if large:
            more = {
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 8,
                "projection_class_embeddings_input_dim": 16 + 6 * 8,
            }
        unet = UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(32, 64),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            attention_head_dim=4,
            cross_attention_dim=32 if large else 16,
            **more,
        )
        vae = build_autoencoder(AutoencoderConfig(channels, (32, 32), 1, 4, 32, True))
        vae.register_to_config(scaling_factor=0.5, sample_size=32)
        scheduler = DDIMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            prediction_type=prediction,
            clip_sample=False,
            steps_offset=1,
        )
        parts: dict[str, Any] = {"vae": vae, "unet": unet, "scheduler": scheduler, "tokenizer": tokenizer}
        parts["text_encoder"] = CLIPTextModel(sizes)
        if large:
            parts |= {"tokenizer_2": tokenizer, "text_encoder_2": CLIPTextModelWithProjection(sizes)}
            pipeline: Any = StableDiffusionXLPipeline(**parts)
        else:
            pipeline = StableDiffusionPipeline(
                **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
            )
        pipeline.save_pretrained(folder)
    return folder
