"""Denoisers of Stable Diffusion's kind, from tiny random pipelines made here; adapters; text."""

import json
from dataclasses import replace

import pytest
import torch
from small_diffusion import small_diffusion, some_given

from headlab.diffusion.autoencoder import AutoencoderConfig, build_autoencoder
from headlab.diffusion.denoiser import Context, DenoiserConfig, Given
from headlab.diffusion.lora import add_lora, has_lora, load_lora, merge_lora, save_lora
from headlab.diffusion.semantic_encoder import SemanticConfig
from headlab.diffusion.stable_diffusion import STABLE_DIFFUSION_21, load_stable_diffusion
from headlab.diffusion.text import text_tokens
from headlab.geometry.errors import HeadlabError

LIKE = replace(STABLE_DIFFUSION_21, condition_width=4, semantic=SemanticConfig(width=4, size=8))
SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A folder in the layout of Stable Diffusion 2, with networks a hundred times narrower."""
    from diffusers import UNet2DConditionModel

    folder = tmp_path_factory.mktemp("pipeline")
    torch.manual_seed(0)
    UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=2,
        attention_head_dim=[4, 8],
        cross_attention_dim=16,
        use_linear_projection=True,
    ).save_pretrained(folder / "unet")
    build_autoencoder(AutoencoderConfig(3, (32, 32, 32, 32), 1, 4, 32, True)).save_pretrained(folder / "vae")
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(SCHEDULER))
    return folder


def test_the_large_configuration_is_stable_diffusions():
    """Counted without weights: the UNet of version 2.1 has 865,910,724 parameters."""
    with torch.device("meta"):
        unet = small_unet(STABLE_DIFFUSION_21)
    extra = sum(p.numel() for p in unet.class_embedding.parameters())
    config = STABLE_DIFFUSION_21
    extra += 9 * 320 * (config.latents + config.condition_width + 1)
    assert sum(p.numel() for p in unet.parameters()) - extra == 865_910_724


def small_unet(config: DenoiserConfig):
    from headlab.diffusion.denoiser import Denoiser

    return Denoiser(config).unet


def test_its_weights_are_taken_and_new_inputs_say_nothing(pipeline):
    from diffusers import UNet2DConditionModel

    system = load_stable_diffusion(pipeline, like=LIKE)
    config = system.config
    assert (config.denoiser.size, config.denoiser.factor, config.denoiser.text) == (64, 8, 16)
    assert config.schedule.kind == "scaled_linear" and config.schedule.prediction == "v"
    base = UNet2DConditionModel.from_pretrained(pipeline / "unet", low_cpu_mem_usage=False)
    noisy, t, text = torch.randn(2, 4, 8, 8), torch.tensor([10, 700]), torch.randn(2, 7, 16)
    local = torch.randn(2, 4 + 4 + 1, 8, 8)
    with torch.no_grad():
        want = base(noisy, t, text).sample
        made = system.denoiser(noisy, t, Context(local, text, torch.randn(2, 16)))
        torch.testing.assert_close(made, want, atol=1e-5, rtol=0)
        given = Given(torch.rand(2, 11, 64, 64), text=text)
        tokens = system.denoiser.context(given).tokens
    assert torch.equal(tokens[:, -7:], text)  # CLIP's states enter as they are


def test_what_is_no_pipeline_is_refused(pipeline, tmp_path):
    with pytest.raises(HeadlabError, match="lacks unet and vae"):
        load_stable_diffusion(tmp_path)
    config = json.loads((pipeline / "unet/config.json").read_text())
    for name in ("unet", "vae", "scheduler"):
        (tmp_path / name).mkdir()
        for file in (pipeline / name).iterdir():
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
    config["down_block_types"] = ["AttnDownBlock2D", "DownBlock2D"]
    (tmp_path / "unet/config.json").write_text(json.dumps(config))
    with pytest.raises(HeadlabError, match="versions 1"):
        load_stable_diffusion(tmp_path)


def test_adapters_start_without_effect_train_alone_and_merge(tmp_path):
    torch.manual_seed(0)
    system, given = small_diffusion(), some_given(2)
    denoiser = system.denoiser
    noisy, t = torch.randn(2, 3, 8, 8), torch.tensor([10, 700])

    def said() -> torch.Tensor:
        return denoiser(noisy, t, denoiser.context(given))

    before = said().detach()
    denoiser.requires_grad_(False)
    add_lora(denoiser.unet, 2)
    assert has_lora(denoiser.unet)
    torch.testing.assert_close(said(), before, atol=1e-6, rtol=0)
    trained = [p for p in denoiser.parameters() if p.requires_grad]
    assert trained and sum(p.numel() for p in trained) < 0.3 * sum(p.numel() for p in denoiser.parameters())
    optimizer = torch.optim.SGD(trained, lr=1.0)
    said().square().mean().backward()
    optimizer.step()
    said().square().mean().backward()
    optimizer.step()
    tuned = said().detach()
    assert float((tuned - before).abs().max()) > 1e-4
    save_lora(denoiser.unet, tmp_path / "lora.safetensors")
    with pytest.raises(HeadlabError, match="adapters already"):
        add_lora(denoiser.unet, 2)
    merge_lora(denoiser.unet)
    assert not has_lora(denoiser.unet)
    torch.testing.assert_close(said(), tuned, atol=1e-5, rtol=0)

    denoiser = small_diffusion().denoiser
    load_lora(denoiser.unet, tmp_path / "lora.safetensors")
    torch.testing.assert_close(said(), tuned, atol=1e-5, rtol=0)
    with pytest.raises(HeadlabError, match="no adapters"):
        save_lora(small_diffusion().denoiser.unet, tmp_path / "none.safetensors")
    with pytest.raises(HeadlabError, match="at least 1"):
        add_lora(small_diffusion().denoiser.unet, 0)


def test_text_becomes_tokens_or_the_missing_clip_is_named(tmp_path):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    with pytest.raises(HeadlabError, match="CLIP is missing"):
        text_tokens(tmp_path, ["a face"])
    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    (tmp_path / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")).save_pretrained(tmp_path / "tokenizer")
    sizes = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=9,
        bos_token_id=0,
        eos_token_id=1,
    )
    CLIPTextModel(sizes).save_pretrained(tmp_path / "text_encoder")
    tokens = text_tokens(tmp_path, ["a face", "b", "a longer text than fits"])
    assert tokens.shape == (3, 9, 16) and not torch.equal(tokens[0], tokens[1])
    torch.testing.assert_close(text_tokens(tmp_path, ["b"])[0], tokens[1])
