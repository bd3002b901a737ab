"""DiffusionRig (Ding et al., "DiffusionRig: Learning personalized priors for facial appearance editing", CVPR 2023).

    photo ──ResNet──> z (64)
    noisy picture, rendered, normal, albedo ──UNet modulated by time and z──> noise

The photo and the picture are -1..1; the nine channels of physical buffers are not mapped (`Conditions.diffusion_rig`).
`load_diffusionrig` reads the released state dicts (modelNNNNNN.pt, FFHQ256) and those trained with either project.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...geometry.errors import HeadlabError
from ...geometry.files import write_bytes
from ...geometry.regress.resnet import ResNet, ResNetConfig
from ...geometry.safe_pickle import load_torch
from ..semantic_encoder import BasicResNet
from .loading import assemble, part, shapes_of
from .unet import UNet, UNetConfig, unet_config_of

Encoder = Literal["resnet18", "resnet50"]


@dataclass(frozen=True)
class DiffusionRigConfig:
    """Sizes; the defaults are the released model's."""

    unet: UNetConfig = field(default_factory=UNetConfig)
    encoder: Encoder = "resnet18"

    @property
    def learned_variance(self) -> bool:
        """Whether the network tells variances beside the noise."""
        return self.unet.outputs == 6


class Encoder18(BasicResNet):
    """torchvision's resnet18 with `fc` to the code."""

    def __init__(self, size: int):
        super().__init__()
        self.fc = nn.Linear(512, size)

    def forward(self, picture: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch size"]:
        return self.fc(super().forward(picture))


class Encoder50(ResNet):
    """torchvision's resnet50 with `fc` to the code."""

    def __init__(self, size: int):
        super().__init__(ResNetConfig())
        self.fc = nn.Linear(2048, size)

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch size"]:
        return self.fc(super().forward(image))


class DiffusionRig(nn.Module):
    """Denoiser and encoder, under their authors' names."""

    def __init__(self, config: DiffusionRigConfig | None = None):
        super().__init__()
        self.config = config or DiffusionRigConfig()
        size = self.config.unet.code
        if size is None:
            raise HeadlabError("DiffusionRig's denoiser needs a code; set UNetConfig.code to its length, such as 64")
        self.denoisingUNet = UNet(self.config.unet)
        self.encoder = Encoder18(size) if self.config.encoder == "resnet18" else Encoder50(size)

    def forward(
        self,
        noisy: Float[Tensor, "batch 3 height width"],
        t: Shaped[Tensor, "batch"],
        buffers: Float[Tensor, "batch 9 height width"],
        photo: Float[Tensor, "batch 3 rows columns"] | None = None,
        code: Float[Tensor, "batch code_size"] | None = None,
    ) -> Float[Tensor, "batch outputs height width"]:
        """The noise (and what tells the variance, where that was learned).

        Args:
            noisy: noisy pictures.
            t: times, 0..999.
            buffers: rendered, normal, albedo.
            photo: of the same people, -1..1; or
            code: what `encode` made of it.
        """
        if code is None:
            assert photo is not None, "a photo or a code"
            code = self.encode(photo)
        return self.denoisingUNet(torch.cat([noisy, buffers], 1), t, code)

    def encode(self, photo: Float[Tensor, "batch 3 rows columns"]) -> Float[Tensor, "batch code_size"]:
        """Global code of photos, -1..1 (no ImageNet mean is taken out)."""
        return self.encoder(photo)


def diffusionrig_config_of(state: Mapping[str, Tensor]) -> DiffusionRigConfig:
    """Sizes from a state dict; one attention head, as released.

    Raises:
        KeyError, ValueError, IndexError: it is another network's.
    """
    unet = unet_config_of(shapes_of(part(state, "denoisingUNet.")))
    return DiffusionRigConfig(unet, "resnet50" if "encoder.layer1.0.conv3.weight" in state else "resnet18")


def load_diffusionrig(path: Path, config: DiffusionRigConfig | None = None) -> DiffusionRig:
    """Read a checkpoint, in evaluation mode, on the CPU.

    Args:
        path: a bare state dict (.pt), as the authors' code writes it.
        config: sizes; where None they are read off the parameters, with one attention head, as released.

    Raises:
        UnsafePickleError: the file would run something.
        HeadlabError: missing, damaged, of another kind, or not whole (all missing names are listed).
    """
    path = Path(path)
    state = load_torch(path)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise HeadlabError(f"{path} is no bare state dict; give DiffusionRig's modelNNNNNN.pt, not its optimiser's")
    return diffusionrig_of(state, str(path), config)


def diffusionrig_of(state: Mapping[str, Tensor], source: str, config: DiffusionRigConfig | None = None) -> DiffusionRig:
    """A network of a state dict; see `load_diffusionrig`."""
    state = {name.removeprefix("module."): value for name, value in state.items()}
    if not any(name.startswith("denoisingUNet.") for name in state):
        known = ", ".join(list(state)[:3])
        raise HeadlabError(f"{source} is no DiffusionRig checkpoint: no denoisingUNet.* in it, but {known}, ...")
    if config is None:
        try:
            config = diffusionrig_config_of(state)
        except (KeyError, ValueError, IndexError):
            # So much is missing that the sizes cannot be read: the released ones say what else is.
            kind = "resnet50" if "encoder.layer1.0.conv3.weight" in state else "resnet18"
            config = replace(DiffusionRigConfig(), encoder=kind)
    return assemble(lambda: DiffusionRig(config), state, source, f"DiffusionRig ({config.encoder})")


def save_diffusionrig(network: DiffusionRig, path: Path) -> None:
    """Write the bare state dict that the authors' code reads, too; atomically."""
    buffer = BytesIO()
    torch.save({name: value.detach().cpu() for name, value in network.state_dict().items()}, buffer)
    write_bytes(path, buffer.getvalue())
