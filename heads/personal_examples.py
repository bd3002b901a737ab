"""What a person's album teaches the editor: the photos, each as the true edit of a changed version of itself.

    photo ──mesh, another expression──> changed photo ──> what the editor is shown (capture, z)
    photo ──upright crop──> what it should make of that, under the maps of the photo's own head

So a person's real pictures are what the model learns to make, and pose, light and background of both are the same,
as in the pairs of the first stage. Every variant is cropped a little differently.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import interpolate

from ..diffusion.autoencoder import encode
from ..diffusion.bundle import LatentDiffusion
from ..diffusion.edit import joined
from ..diffusion.personal import Examples, joined_examples
from ..geometry.code import HeadCode
from ..geometry.models.head_model import HeadModel
from ..geometry.regress.default_crop import UprightSquare
from .crop_view import CropView
from .edit_given import focus_distance, given_of, skin_texture
from .edit_photo import crop_view
from .emotions import CATEGORIES, category, expression_of
from .transfer import PhotoHead, Source, transferred_code
from .transfer_composite import composite


@dataclass(frozen=True)
class ExamplesConfig:
    """How examples are made. Deviations of the crops are those of a detector's faults."""

    variants: int = 4  #: per photo
    turn: float = 0.05  #: radians
    log_size: float = 0.05
    shift: float = 0.02  #: in parts of the crop's side
    finer: float = 2.5  #: photos are made small first, to so many times the networks' pixels
    seed: int = 0


@torch.no_grad()
def personal_examples(
    model: HeadModel,
    heads: Sequence[PhotoHead],
    diffusion: LatentDiffusion,
    config: ExamplesConfig | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Examples:
    """Examples of one person's fitted photos.

    Args:
        model: head model of the fits.
        heads: the photos.
        diffusion: whose sizes and autoencoder are used.
        config: see `ExamplesConfig`.
        progress: called with the name of each photo.
    """
    config = config or ExamplesConfig()
    generator = torch.Generator().manual_seed(config.seed)
    network, channels = diffusion.config.denoiser, diffusion.vae.config["in_channels"]
    parts: list[Examples] = []
    for i, full in enumerate(heads):
        progress(f"preparing {full.fit.sources[full.index]}")
        head = shrunk(full, network.size * config.finer / float(crop_view(model, full, network.size).square.side))
        texture = skin_texture(model, head)
        for variant in range(config.variants):
            view = jittered(crop_view(model, head, network.size), config, generator)
            distance = focus_distance(view, model, head.code)
            own = given_of(view, model, head.code, texture, distance, network.expressions)
            truth = joined(view.cut(head.frame.image), own.maps[0, 9], channels)[None]
            other = _other_code(model, heads, i, variant, generator)
            changed = _changed(model, head, other)
            near = given_of(view, model, other, texture, distance, network.expressions).maps[0, 9]
            shown = joined(view.cut(changed), near, channels)[None]
            given = replace(own, person=shown[:, :3], capture=encode(diffusion.vae, shown))
            parts.append(Examples(encode(diffusion.vae, truth), given, truth[:, :3] / 2 + 0.5))
    return joined_examples(parts)


def shrunk(head: PhotoHead, factor: float) -> PhotoHead:
    """The photo made small by a factor, with its camera and landmarks; as it is where the factor is 1 or more."""
    frame, camera = head.frame, head.camera
    if factor >= 1:
        return head
    small = camera.scaled(factor)
    image = interpolate(frame.image[None], small.size, mode="bilinear", antialias=True, align_corners=False)[0]
    landmarks = frame.landmarks
    if landmarks is not None:
        scale = landmarks.points.new_tensor([small.size[1] / camera.size[1], small.size[0] / camera.size[0]])
        landmarks = replace(landmarks, points=landmarks.points * scale)
    codes = head.fit.codes[head.index : head.index + 1]
    name = head.fit.sources[head.index]
    fit = replace(head.fit, codes=codes, cameras=(small,), sources=(name,))
    return PhotoHead(replace(frame, image=image, landmarks=landmarks, mask=None, depth=None), fit)


def jittered(view: CropView, config: ExamplesConfig, generator: torch.Generator) -> CropView:
    """The same face, cropped a little differently."""
    turn, size, x, y = torch.randn(4, generator=generator).to(view.square.side)
    side = view.square.side * torch.exp(config.log_size * size)
    centre = view.square.centre + config.shift * side * torch.stack([x, y])
    square = UprightSquare(centre, side, view.square.angle + config.turn * turn)
    return CropView.of_square(square, view.photo, view.size)


def _other_code(
    model: HeadModel, heads: Sequence[PhotoHead], i: int, variant: int, generator: torch.Generator
) -> HeadCode:
    """The head with the expression of another photo, or of a category where the model has ARKit's actions."""
    named = "mouthSmileLeft" in model.expression_names
    others = [j for j in range(len(heads)) if j != i]
    if named and variant % 2:
        name = CATEGORIES[int(torch.randint(len(CATEGORIES), (1,), generator=generator))]
        source = Source(name, expression_of(category(name), model.expression_names))
    else:
        other = heads[others[int(torch.randint(len(others), (1,), generator=generator))]]
        source = Source("another photo", other.code.expression, other)
    return transferred_code(model, source, heads[i])


def _changed(model: HeadModel, head: PhotoHead, code: HeadCode) -> torch.Tensor:
    """The photo with another expression, by the mesh."""
    points = None if head.frame.landmarks is None else head.frame.landmarks.points
    assert head.fit.albedo is not None
    return composite(model, head.frame.image, head.camera, head.code, code, head.fit.albedo, points)
