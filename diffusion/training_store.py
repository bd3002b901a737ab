"""Any data set as training data of the autoencoder and the denoiser: KIND:PATH (`datasets/kinds`).

    store ──> SquareLoader ──> pictures ──────────────────────────> autoencoder
                               labels, fits ──> maps (rendered) ──> denoiser (latents are encoded as they are needed)

Sample 2 i is picture i, sample 2 i + 1 the same mirrored; pictures with a fit come as they are, twice.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..datasets.attached_fit import AttachedFit, read_fit
from ..datasets.balance import Balance, repeats, weights
from ..datasets.journal import labels_of
from ..datasets.kinds import DataSpec, open_pictures
from ..datasets.loader import LoaderConfig, SquareLoader, check_size, unit_range
from ..datasets.order import Order
from ..datasets.records import USABLE, Policy
from ..geometry.errors import HeadlabError
from .attached_maps import AttachedMaps, default_maps
from .autoencoder import encode
from .condition_encoder import CHANNELS
from .denoiser import Given
from .depth_packing import packed
from .training_latents import DenoiserBatch

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL


@dataclass(frozen=True, eq=False)
class StoreLabels:
    """What is told of a store's pictures, as columns."""

    emotion: Int[Tensor, "items"]  #: AffectNet's eight, -1: unknown
    valence_arousal: Float[Tensor, "items 2"]  #: NaN: unknown
    weight: Float[Tensor, "items"]  #: in the loss, 1 on average
    fits: dict[int, dict[str, Any]]  #: of the pictures that have one


@dataclass(frozen=True, eq=False)
class StorePictures:
    """Pictures and labels of a store, balanced if wanted."""

    loader: SquareLoader
    labels: StoreLabels
    order: Order  #: of the samples
    channels: int = 3  #: 3: RGB, 4: RGB-D, 6: LDM3D; depth is the fitted head's, nothing where there is no fit
    maps: dict[str, AttachedMaps] = field(default_factory=dict)  #: by the fits' model

    @property
    def count(self) -> int:
        return 2 * self.loader.count

    @property
    def size(self) -> int:
        return self.loader.config.size

    def order_of_pictures(self) -> Order:
        """The same shards and seed, for each picture once."""
        return Order(self.loader.source.counts, self.order.seed)

    def split(self, indices: Int[Tensor, "batch"]) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the pictures, and which are mirrored."""
        numbers = (indices // 2).numpy()
        fitted = np.array([int(i) in self.labels.fits for i in numbers])
        return numbers, (indices % 2 == 1).numpy() & ~fitted

    def colour(self, indices: Int[Tensor, "batch"]) -> Float[Tensor, "batch 3 size size"]:
        """-1..1."""
        return unit_range(self.loader.load(*self.split(indices)))

    def conditions(self, indices: Int[Tensor, "batch"]) -> Float[Tensor, "batch 11 size size"]:
        """Maps of the fits, 0 where there is none."""
        maps = torch.zeros(len(indices), CHANNELS, self.size, self.size)
        for row, number in enumerate((indices // 2).tolist()):
            fit = self.fit(number)
            if fit is not None:
                maps[row] = self._renderer(fit).network(fit, self.size)
        return maps

    def fit(self, number: int) -> AttachedFit | None:
        told = self.labels.fits.get(number)
        return None if told is None else read_fit(told)

    def _renderer(self, fit: AttachedFit) -> AttachedMaps:
        if fit.model not in self.maps:
            if fit.model != "default":
                raise HeadlabError(f"a picture of this set has a fit of the model {fit.model}; pass maps of that model")
            self.maps["default"] = default_maps()
        return self.maps[fit.model]

    def load(self, indices: Int[Tensor, "batch"]) -> Float[Tensor, "batch chan size size"]:
        """Pictures for the autoencoder, -1..1."""
        colour = self.colour(indices)
        return colour if self.channels == 3 else self.with_depth(colour, self.conditions(indices)[:, 9])

    def with_depth(self, colour: Tensor, near: Tensor) -> Tensor:
        """Colour -1..1 and nearness 0..1 as the autoencoder takes them."""
        if self.channels == 3:
            return colour
        depth = near[:, None] if self.channels == 4 else packed(near)
        return torch.cat([colour, depth * 2 - 1], 1)


def open_store_pictures(
    text: str,
    size: int,
    *,
    channels: int = 3,
    balance: Balance | None = None,
    policy: Policy = "skip",
    threads: int = 2,
    seed: int = 0,
) -> StorePictures:
    """Pictures of KIND:PATH.

    Args:
        text: which set.
        size: side of the pictures, pixels.
        channels: of the autoencoder.
        balance: of the expressions.
        policy: what pictures that cannot be read do.
        threads: that decode.
        seed: of the order.

    Raises:
        HeadlabError: no such set; no picture in it; a balance of a set without labels.
    """
    source = open_pictures(DataSpec.parse(text), policy)
    balance = balance or Balance()
    count = sum(source.counts)
    if not count:
        raise HeadlabError(f"{text} holds no pictures; convert some into it")
    emotion, va, fits = np.full(count, -1), np.full((count, 2), np.nan, np.float32), {}
    for i, line in enumerate(source.lines()):
        if i < count:
            labels = labels_of(line)
            emotion[i] = labels.expression if labels.expression < USABLE else -1
            va[i] = labels.valence, labels.arousal
            if "fit" in line:
                fits[i] = {"fit": line["fit"], "key": line.get("key", i)}
    times = None if balance.rule == "none" else np.repeat(repeats(emotion, balance), 2)
    weight = weights(emotion) if balance.rule == "weights" else np.ones(count)
    told = StoreLabels(torch.from_numpy(emotion).long(), torch.from_numpy(va), torch.from_numpy(weight).float(), fits)
    loader = SquareLoader(source, LoaderConfig(check_size(size), threads=threads, bad=policy))
    return StorePictures(loader, told, Order(tuple(2 * c for c in source.counts), seed, repeats=times), channels)


@dataclass(frozen=True, eq=False)
class StoreLatents:
    """A denoiser's training data; see `training_latents.DenoiserData`. No capture: DiffusionRig's mode."""

    pictures: StorePictures
    vae: "AutoencoderKL"
    expressions: int  #: length of ψ that the denoiser takes

    @property
    def count(self) -> int:
        return self.pictures.count

    @property
    def order(self) -> Order:
        return self.pictures.order

    @torch.no_grad()
    def load(self, indices: Int[Tensor, "batch"], device: torch.device | str = "cpu") -> DenoiserBatch:
        pictures, labels = self.pictures, self.pictures.labels
        colour, maps = pictures.colour(indices), pictures.conditions(indices)
        whole = pictures.with_depth(colour, maps[:, 9])
        vae = self.vae.to(device)  # type: ignore[arg-type]
        latents = encode(vae, whole.to(device)).float()
        numbers = indices // 2
        given = Given(
            maps,
            None,
            colour,
            self._expression(numbers),
            labels.emotion[numbers],
            labels.valence_arousal[numbers],
        )
        return DenoiserBatch(
            latents, given.to(device), (colour / 2 + 0.5).to(device), labels.weight[numbers].to(device)
        )

    def _expression(self, numbers: Tensor) -> Tensor:
        """ψ of the fits, NaN where there is none, or of another model."""
        out = torch.full((len(numbers), self.expressions), float("nan"))
        for row, number in enumerate(numbers.tolist()):
            fit = self.pictures.fit(number)
            if fit is not None and fit.code.expression.shape[-1] == self.expressions:
                out[row] = fit.code.expression
        return out
