"""Reading autoencoders: diffusers folders, and single files with diffusers' or CompVis's key names (SD, LDM3D)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..geometry.errors import HeadlabError

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

_WANTED = "give a diffusers folder with config.json, or a .safetensors file of an SD or LDM3D autoencoder"


def load_autoencoder(path: Path) -> "AutoencoderKL":
    """Read an autoencoder: a diffusers folder (its own, or a pipeline's with `vae/`), or one .safetensors file.

    The sizes of a single file are read off its weights. Nothing is downloaded.

    Raises:
        HeadlabError: nothing there, damaged, or another architecture.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    path = Path(path)
    folder = path / "vae" if (path / "vae" / "config.json").is_file() else path
    if not (folder / "config.json").is_file() and not path.is_file():
        raise HeadlabError(f"no autoencoder at {path}; {_WANTED}")
    try:
        if (folder / "config.json").is_file():
            return AutoencoderKL.from_pretrained(folder, local_files_only=True, low_cpu_mem_usage=False).eval()
        return _of_file(path).eval()
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise HeadlabError(f"{path} holds no AutoencoderKL that can be loaded ({reason}); {_WANTED}") from error


def _of_file(path: Path) -> "AutoencoderKL":
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from safetensors.torch import load_file

    state = {name.removeprefix("first_stage_model."): value for name, value in load_file(path).items()}
    ours = any(name.startswith("encoder.down_blocks.") for name in state)
    sizes = _sizes(state, "encoder.down_blocks.{}.resnets.{}" if ours else "encoder.down.{}.block.{}")
    make: Any = AutoencoderKL  # its annotations say tuples of one
    vae = make(
        in_channels=state["encoder.conv_in.weight"].shape[1],
        out_channels=state["decoder.conv_out.weight"].shape[0],
        down_block_types=("DownEncoderBlock2D",) * len(sizes),
        up_block_types=("UpDecoderBlock2D",) * len(sizes),
        block_out_channels=tuple(width for width, _ in sizes),
        layers_per_block=sizes[0][1],
        latent_channels=state["decoder.conv_in.weight"].shape[1],
        norm_num_groups=32,
        mid_block_add_attention=any("mid.attn_1" in name or "mid_block.attentions" in name for name in state),
        use_quant_conv="quant_conv.weight" in state,
        use_post_quant_conv="post_quant_conv.weight" in state,
    )
    if not ours:
        # The converter divides the decoder's levels by the config's, and takes convolutions' 1 x 1 axes away.
        state = convert_ldm_vae_checkpoint(state, vae.config)
    vae.load_state_dict({name: value.float() for name, value in state.items() if not name.startswith("loss.")})
    return vae


def _sizes(state: dict[str, Tensor], pattern: str) -> list[tuple[int, int]]:
    """(channels, residual blocks) of each of the encoder's levels."""
    out = []
    while (first := pattern.format(len(out), 0) + ".conv1.weight") in state:
        blocks = 0
        while pattern.format(len(out), blocks) + ".conv1.weight" in state:
            blocks += 1
        out.append((state[first].shape[0], blocks))
    if not out:
        raise ValueError("no encoder with residual blocks")
    return out
