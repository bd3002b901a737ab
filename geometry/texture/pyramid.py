"""Regional pyramid bases: textures of a few numbers per part of the face, at several resolutions at once.

"High-Fidelity 3D Digital Human Head Creation from RGB-D Selfies" (Bao et al. 2021): each facial region has a linear
basis of its own. Components are found at the lowest resolution; at every other the basis is the regression of the
samples onto the same coefficients. So numbers fitted to a small texture draw a large one, albedo and normals alike.

    texture at any level = Σ_parts share · (mean + Σ_k c_k basis_k)

A pyramid lies in a folder, one file per level and part; it is read part by part, so that a level of 2048 pixels needs
the memory of its largest part. Bases are stored in 8 bits, scaled per component and channel.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from ..errors import HeadlabError
from ..files import write_bytes, write_json
from ..models.head_model import HeadModel
from .pyramid_regions import NAMES, texture_parts

_FORMAT = "headlab texture pyramid 1"
#: Sample number -> maps (channels, size, size) at the highest level: albedo (sRGB 0..1), then whatever goes along with
#: it, e.g. normals.
Samples = Callable[[int], Float[Tensor, "chan size size"]]


@dataclass(frozen=True)
class PartBasis:
    """One part of one level."""

    texels: Int[Tensor, "n"]  #: flat indices into the level's square
    share: Float[Tensor, "n"]  #: of this part in each texel
    mean: Float[Tensor, "chan n"]
    basis: Float[Tensor, "comps chan n"]  #: per standard deviation of the samples

    def values(self, code: Float[Tensor, "comps"]) -> Float[Tensor, "chan n"]:
        """The part's maps times its share. Differentiable."""
        flat = code[: len(self.basis)] @ self.basis.flatten(1)
        return (self.mean + flat.reshape(self.mean.shape)) * self.share


@dataclass(frozen=True)
class TexturePyramid:
    """A pyramid on disk."""

    folder: Path
    sizes: tuple[int, ...]  #: of the levels, lowest first
    components: tuple[int, ...]  #: per part of `NAMES`
    channels: int
    samples: int  #: that it was built of
    explained: tuple[float, ...]  #: share of each part's variance

    @property
    def largest(self) -> int:
        """Most components of a part: the length of codes."""
        return max(self.components)

    def part(self, size: int, name: str) -> PartBasis:
        """Read one part of one level.

        Raises:
            HeadlabError: no such level, or the file is damaged.
        """
        from safetensors.torch import load_file

        if size not in self.sizes:
            raise HeadlabError(f"the pyramid {self.folder} has levels of {self.sizes} pixels, none of {size}")
        path = _path(self.folder, size, name)
        try:
            arrays = load_file(path)
            basis = arrays["basis"].float() * arrays["scale"][..., None]
            return PartBasis(arrays["texels"].long(), arrays["share"].float(), arrays["mean"].float(), basis)
        except Exception as error:
            raise HeadlabError(f"{path} is no part of a texture pyramid ({error}); build the pyramid again") from error

    def parts(self, size: int) -> Iterator[PartBasis]:
        """All parts of a level, one by one, in the order of `NAMES`."""
        return (self.part(size, name) for name in NAMES)

    def texture(self, codes: Float[Tensor, "parts comps"], size: int) -> Float[Tensor, "chan size size"]:
        """Maps of codes at a level, not clamped.

        Raises:
            HeadlabError: no such level, or codes of another pyramid.
        """
        if codes.shape != (len(NAMES), self.largest):
            raise HeadlabError(
                f"this pyramid takes codes of {len(NAMES)} parts x {self.largest}, not {tuple(codes.shape)}"
            )
        out = torch.zeros(self.channels, size * size)
        for code, part in zip(codes, self.parts(size), strict=True):
            out[:, part.texels] += part.values(code)
        return out.unflatten(1, (size, size))

    @classmethod
    def load(cls, folder: Path) -> "TexturePyramid":
        """Open what `build_pyramid` wrote.

        Raises:
            HeadlabError: missing or something else.
        """
        try:
            record = json.loads((folder / "pyramid.json").read_text("utf-8"))
            if record["format"] != _FORMAT or tuple(record["parts"]) != NAMES:
                raise ValueError(f"format {record['format']}")
            lists = {key: tuple(record[key]) for key in ("sizes", "components", "explained")}
            return cls(folder, channels=record["channels"], samples=record["samples"], **lists)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise HeadlabError(f"{folder} holds no texture pyramid ({error}); build one with build_pyramid") from error


def build_pyramid(
    model: HeadModel,
    samples: Samples,
    count: int,
    folder: Path,
    sizes: tuple[int, ...] = (512, 1024, 2048),
    *,
    variance: float = 0.99,
    limit: int = 40,
    progress: Callable[[str], None] = lambda stage: None,
) -> TexturePyramid:
    """Build a pyramid of sample textures.

    Args:
        model: head model with texture coordinates and 68 landmarks, in whose layout the samples are.
        samples: gives the maps of sample i at the size of the highest level; asked for repeatedly, so that only one
            needs to be in memory.
        count: how many samples.
        folder: created where missing.
        sizes: of the levels; each divides the next.
        variance: share of each part's variance at the lowest level that its components explain.
        limit: most components of a part.
        progress: called with each stage.

    Raises:
        HeadlabError: fewer than two samples, sizes that do not go together, or samples of another size.
    """
    sizes = tuple(sorted(sizes))
    if count < 2:
        raise HeadlabError(f"a pyramid needs at least two textures, not {count}")
    if any(sizes[-1] % size for size in sizes):
        raise HeadlabError(f"the levels {sizes} do not divide one another; take such as 512, 1024, 2048")
    folder.mkdir(parents=True, exist_ok=True)
    progress("lowest level")
    low = torch.stack([_at(samples(i), sizes[-1], sizes[0]) for i in range(count)])
    channels = low.shape[1]
    shares = texture_parts(model, sizes[0]).flatten(1)
    coefficients, explained = [], []
    for share in shares:
        texels = torch.nonzero(share > 0)[:, 0]
        # Components are those of the colours: what goes along with them follows.
        seen = low[:, :3].flatten(2)[:, :, texels] * share[texels].sqrt()
        coefficient, told = _components(seen.flatten(1), variance, limit)
        coefficients.append(coefficient)
        explained.append(told)
    del low
    for size in sizes:
        shares = texture_parts(model, size).flatten(1)
        for name, share, coefficient in zip(NAMES, shares, coefficients, strict=True):
            progress(f"{size} pixels, {name.replace('_', ' ')}")
            texels = torch.nonzero(share > 0)[:, 0]
            rows = (_at(samples(i), sizes[-1], size).flatten(1)[:, texels] for i in range(count))
            mean, basis = _regressed(rows, coefficient)
            write_bytes(_path(folder, size, name), _packed(texels, share[texels], mean, basis))
    record = {
        "format": _FORMAT,
        "parts": NAMES,
        "sizes": sizes,
        "components": [coefficient.shape[1] for coefficient in coefficients],
        "channels": channels,
        "samples": count,
        "explained": explained,
        "model": model.name,
    }
    write_json(folder / "pyramid.json", record)
    return TexturePyramid.load(folder)


def _components(rows: Float[Tensor, "count size"], variance: float, limit: int) -> tuple[Tensor, float]:
    """Coefficients (count, comps) of the samples, of unit variance, and the share of the variance they explain."""
    count = len(rows)
    centred = rows - rows.mean(0)
    values, vectors = torch.linalg.eigh((centred @ centred.mT).double())
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    told = values.cumsum(0) / values.sum().clamp(min=1e-30)
    size = min(limit, count - 1, int((told < variance).sum()) + 1)
    size = max(1, min(size, int((values > 1e-9 * values[0].clamp(min=1e-30)).sum())))
    return (vectors[:, :size] * (count - 1) ** 0.5).float(), float(told[size - 1])


def _regressed(rows: Iterator[Float[Tensor, "chan n"]], coefficients: Float[Tensor, "count comps"]):
    """Mean (chan, n) and basis (comps, chan, n) of samples that come one by one."""
    count = len(coefficients)
    mean = basis = None
    for row, code in zip(rows, coefficients, strict=True):
        if mean is None or basis is None:
            mean, basis = torch.zeros_like(row), row.new_zeros(coefficients.shape[1], *row.shape)
        mean += row / count
        for k, value in enumerate(code.tolist()):  # the coefficients have mean 0: the mean need not be taken off
            basis[k].add_(row, alpha=value / (count - 1))
    assert mean is not None and basis is not None
    return mean, basis


def _packed(texels: Tensor, share: Tensor, mean: Tensor, basis: Tensor) -> bytes:
    from safetensors.torch import save

    scale = basis.abs().amax(-1) / 127
    levels = (basis / scale[..., None].clamp(min=1e-12)).round().to(torch.int8)
    return save(
        {
            "texels": texels.to(torch.int32),
            "share": share.half(),
            "mean": mean.half(),
            "basis": levels.contiguous(),
            "scale": scale,
        }
    )


def _path(folder: Path, size: int, name: str) -> Path:
    return folder / f"{size}-{name}.safetensors"


def _at(maps: Float[Tensor, "chan size size"], highest: int, size: int) -> Float[Tensor, "chan size2 size2"]:
    """A sample at another level, averaged down.

    Raises:
        HeadlabError: the sample has not the highest level's size.
    """
    if maps.shape[-2:] != (highest, highest):
        raise HeadlabError(
            f"a sample is {maps.shape[-1]} x {maps.shape[-2]} pixels, the highest level {highest}; resize the samples"
        )
    return maps if size == highest else interpolate(maps[None], (size, size), mode="area")[0]
