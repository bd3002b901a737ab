"""Tell checkpoints of other systems by what is in them, to say how they are loaded."""

from pathlib import Path

_STABLE = (
    "a Stable Diffusion or LDM3D pipeline in diffusers' layout; train on it with "
    "`headlab train denoiser --stable-diffusion FOLDER`, and load its autoencoder with load_autoencoder"
)


def foreign_kind(path: Path) -> str | None:
    """What lies at a path and how to load it, where it is no folder of this project; None if nothing is recognised."""
    if path.is_dir():
        if (path / "model_index.json").is_file() or (path / "unet" / "config.json").is_file():
            return _STABLE
        if (path / "adapter_config.json").is_file():
            return "a LoRA adapter of peft; load its base model first, then load_lora(denoiser.unet, FOLDER)"
        config = path / "config.json"
        text = config.read_text("utf-8", "replace") if config.is_file() else ""
        if '"_class_name"' in text:
            name = text.split('"_class_name"')[1].split('"')[1]
            return f"a diffusers {name}; load an AutoencoderKL with load_autoencoder, a UNet with its whole pipeline"
        return None
    if not path.is_file():
        return None
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                return _of_keys(list(file.keys()))
        except (SafetensorError, OSError):  # damaged: whoever asked says so
            return None
    if path.suffix in (".pt", ".pth", ".ckpt", ".bin"):
        from ..geometry.errors import HeadlabError
        from ..geometry.regress.torch_archive import TorchArchive

        try:
            with TorchArchive(path) as archive:
                content = archive.value
        except HeadlabError:
            return None
        keys = list(content) if isinstance(content, dict) else []
        inner = content.get("state_dict") if isinstance(content, dict) else None
        return _of_keys([*map(str, keys), *map(str, inner if isinstance(inner, dict) else ())])
    return None


def _of_keys(keys: list[str]) -> str | None:
    def begins(prefix: str) -> bool:
        return any(key.startswith(prefix) for key in keys)

    if begins("denoisingUNet."):
        return "DiffusionRig's network, which works on pixels and not on latents; use it as --model diffusionrig:PATH"
    if begins("ema_model."):
        return (
            "a Diffusion Autoencoders checkpoint, which works on pixels and not on latents; use it with "
            "`headlab edit-attribute --autoencoder PATH`"
        )
    if begins("first_stage_model.") or begins("model.diffusion_model."):
        return "a Stable Diffusion checkpoint of CompVis; convert it to a diffusers folder, then: " + _STABLE
    if begins("encoder.down.") or begins("encoder.down_blocks."):
        return "an autoencoder alone; load it with load_autoencoder"
    return None
