"""edit_attribute: a photo whose person shows more or less of something, by DiffAE and a classifier of its codes.

photo ──FFHQ's crop──> z and x_T ──z moved along the attribute's row──> decoded crop ──> into the photo
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..diffusion.upstream.classifier import LatentClassifier
from ..diffusion.upstream.diffae_edit import DiffAEEditor
from ..geometry.errors import HeadlabError, MissingAssetError
from .asset_kinds import KINDS
from .assets import find_asset

#: Added autoencoders, the finer first.
_AUTOENCODERS = ("diffae256_latent", "diffae256", "diffae128_latent", "diffae128")


@dataclass(frozen=True)
class AttributeEditConfig:
    """How to edit; the steps are the authors' notebook's."""

    invert_steps: int = 250
    decode_steps: int = 100


@dataclass(frozen=True, eq=False)
class AttributeEdit:
    """Crops before and after, and what the classifier says of their codes."""

    before: Float[Tensor, "3 size size"]  #: 0..1
    after: Float[Tensor, "3 size size"]  #: 0..1
    reconstructed: Float[Tensor, "3 size size"]  #: decoded without a change, 0..1
    was: dict[str, float]  #: probability of each moved attribute in the photo
    now: dict[str, float]  #: in the moved code


def diffae_path(path: Path | None) -> Path:
    """A checkpoint that was named, or the added one.

    Raises:
        MissingAssetError: none was named and none was added.
    """
    if path is not None:
        return path
    for id in _AUTOENCODERS:
        if (found := find_asset(id)) is not None:
            return found
    raise MissingAssetError(KINDS["diffae256"].missing)


def edit_crop(
    editor: DiffAEEditor,
    classifier: LatentClassifier,
    crop: Float[Tensor, "3 size size"],
    amounts: dict[str, float],
    config: AttributeEditConfig | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> AttributeEdit:
    """An aligned crop with other attributes.

    Args:
        editor: the autoencoder.
        classifier: of its codes.
        crop: as FFHQ's alignment cuts it, 0..1, of the network's size.
        amounts: how much of each attribute is added; about 0.3, below 0 takes away.
        config: steps.
        progress: called with what is being done.

    Raises:
        HeadlabError: an unknown attribute, a crop of another size, a classifier of other codes, or steps without an
            exact stride.
    """
    config, size = config or AttributeEditConfig(), editor.network.config.size
    if crop.shape[-2:] != (size, size):
        raise HeadlabError(f"this autoencoder takes crops of {size} pixels, not {tuple(crop.shape[-2:])}; resize them")
    if classifier.weight.shape[1] != editor.network.config.code:
        raise HeadlabError(
            f"the classifier is of codes of {classifier.weight.shape[1]} numbers, the autoencoder makes "
            f"{editor.network.config.code}; give those that belong together"
        )
    photo = crop[None] * 2 - 1
    code = editor.encode(photo)
    moved = code
    for name, amount in amounts.items():
        moved = classifier.moved(moved, name, amount)

    def told(what: str, steps: int):
        return lambda done, x: progress(f"{what}: step {done} of {steps}")

    noise = editor.invert(photo, code, config.invert_steps, callback=told("inverting", config.invert_steps))
    both = editor.decode(
        torch.cat([noise, noise]),
        torch.cat([moved, code]),
        config.decode_steps,
        callback=told("decoding", config.decode_steps),
    )
    said = classifier.probabilities(torch.cat([code, moved]))
    was, now = ({name: float(row[classifier.index(name)]) for name in amounts} for row in said)
    return AttributeEdit(crop, both[0].clamp(0, 1), both[1].clamp(0, 1), was, now)
