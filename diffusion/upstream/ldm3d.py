"""LDM3D (Stan et al., "LDM3D: Latent diffusion model for 3D", 2023): text to a picture with depth, and to points.

    words ──Stable Diffusion's pipeline──> latents ──6-channel autoencoder──> colour, (0, high byte, low byte)
                                                                         ──> depth ──> metres ──> cloud, mesh

diffusers has a pipeline for it, deprecated, whose output is broken (the unpacking takes floats for bytes, or keeps the
low byte alone), and which gives out no latents. Its parts are Stable Diffusion's, so they run in that pipeline here and
are decoded by `diffusion.autoencoder` and unpacked by `diffusion.depth_packing`. Four-channel models (ldm3d-4c) and
plain Stable Diffusion load, too; the latter has no depth.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ...geometry.camera import Camera
from ...geometry.errors import HeadlabError
from ...geometry.rgbd import DepthMesh, PointCloud, cloud_from_depth, mesh_from_depth
from ..autoencoder import decode
from ..depth_packing import unpacked
from .pipelines import open_pipeline

#: What a depth picture says: LDM3D's is inverse depth (DPT's), 1 near; headlab's own pairs tell nearness in metres.
DepthKind = Literal["inverse", "linear"]


@dataclass(frozen=True)
class DepthPictures:
    """Colour and depth as decoded."""

    colour: Float[Tensor, "batch 3 height width"]  #: sRGB 0..1
    depth: Float[Tensor, "batch height width"] | None  #: 0 far (or nothing) .. 1 near; None: the model has none

    def metres(
        self, near: float = 0.4, far: float = 2.0, kind: DepthKind = "inverse", nothing: float = 0.02
    ) -> Float[Tensor, "batch height width"]:
        """Depth along the camera's z, 0 = none.

        The pictures tell no scale: `near` is the distance of a depth of 1, `far` that of 0.

        Args:
            near: metres.
            far: metres.
            kind: inverse: 1/z is linear in the depth; linear: z is.
            nothing: depths below are nothing.

        Raises:
            HeadlabError: there is no depth, or the distances are no range.
        """
        if self.depth is None:
            raise HeadlabError("this model knows colour alone; take LDM3D, or one fine-tuned on RGB-D")
        if not 0 < near < far:
            raise HeadlabError(f"depth lies between a near and a far distance, not {near:g} and {far:g} metres")
        d = self.depth
        z = 1 / torch.lerp(torch.full_like(d, 1 / far), torch.full_like(d, 1 / near), d)
        if kind == "linear":
            z = torch.lerp(torch.full_like(d, far), torch.full_like(d, near), d)
        return torch.where(d > nothing, z, 0.0)

    def clouds(self, view: float = 40.0, **how: Any) -> list[PointCloud]:
        """Organised coloured clouds; `how` goes to `metres`.

        Args:
            view: angle of the picture's width, degrees (the pictures do not tell it).
        """
        camera = self.camera(view)
        return [cloud_from_depth(z, camera, c) for z, c in zip(self.metres(**how), self.colour, strict=True)]

    def meshes(self, view: float = 40.0, **how: Any) -> list[DepthMesh]:
        """Meshes over the pixels, cut where the depth jumps."""
        camera = self.camera(view)
        return [mesh_from_depth(z, camera, c) for z, c in zip(self.metres(**how), self.colour, strict=True)]

    def camera(self, view: float) -> Camera:
        """A camera with this angle of view, degrees."""
        height, width = self.colour.shape[-2:]
        return Camera.frontal(width / 2 / math.tan(math.radians(view) / 2), (height, width))


@dataclass(frozen=True, eq=False)
class TextToDepthPictures:
    """A pipeline of Stable Diffusion's parts, and the autoencoder's way to depth."""

    pipeline: Any  #: diffusers' StableDiffusionPipeline

    @torch.no_grad()
    def generate(
        self,
        prompts: list[str],
        negative: str = "",
        *,
        steps: int = 50,
        guidance: float = 5.0,
        seed: int = 0,
        size: tuple[int, int] | None = None,
    ) -> DepthPictures:
        """Pictures of words.

        Args:
            prompts: one per picture.
            negative: what shall not be seen.
            steps: of sampling.
            guidance: above 1 stresses the words.
            seed: of the noise.
            size: (height, width), pixels; the model's own where None.
        """
        height, width = size or (None, None)
        out = self.pipeline(
            prompts,
            height=height,
            width=width,
            negative_prompt=[negative] * len(prompts),
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=torch.Generator(self.pipeline.device).manual_seed(seed),
            output_type="latent",
        )
        return decoded(self.pipeline.vae, out.images)


def decoded(vae: Any, latents: Float[Tensor, "batch latent rows columns"]) -> DepthPictures:
    """Pictures of (scaled) latents, by an autoencoder of 3, 4 or 6 channels."""
    picture = (decode(vae, latents) / 2 + 0.5).clamp(0, 1)
    colour, rest = picture[:, :3], picture[:, 3:]
    depth = None if rest.shape[1] == 0 else rest[:, 0] if rest.shape[1] == 1 else unpacked(rest)
    return DepthPictures(colour, depth)


def load_text_to_depth(folder: Path, device: str | torch.device = "cpu") -> TextToDepthPictures:
    """Load an LDM3D or Stable Diffusion pipeline from a folder in diffusers' layout. Nothing is downloaded.

    Raises:
        HeadlabError: parts are missing, damaged, or of another kind.
    """
    pipeline = open_pipeline(folder, device)
    channels = pipeline.vae.config["in_channels"]
    if channels not in (3, 4, 6) or pipeline.vae.config["out_channels"] != channels:
        raise HeadlabError(f"{folder}/vae takes {channels} channels; pictures have 3, 4 (RGB-D) or 6 (LDM3D)")
    return TextToDepthPictures(pipeline)
