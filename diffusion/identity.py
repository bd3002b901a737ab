"""Who is in a picture, in 3D (ShapeReader) and by likeness (Embedder): frozen networks that read decoded pictures.

Pictures here are upright face crops as `UprightSquare` cuts them, sRGB 0..1, of any size; each reader resizes them to
what its network was trained on. Gradients flow to the pixels and nowhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from ..geometry.errors import HeadlabError
from ..geometry.models.head_model import HeadModel
from ..geometry.regress import Deca
from ..geometry.regress.codes import PARTS, DecaCode
from ..geometry.regress.default_crop import CROP
from ..geometry.regress.default_net import SHAPES
from ..geometry.regress.default_regressor import DefaultRegressor, load_default_regressor
from ..geometry.regress.encoder import CROP as DECA_CROP
from ..geometry.regress.identity_net import IdentityEmbedder, load_identity_embedder

#: DECA's square within the upright one, in parts of its side: mean over synthetic faces (deviations 0.06 and 0.03).
_DECA_SIDE, _DECA_CENTRE = 0.847, (0.5, 0.56)


@runtime_checkable
class ShapeReader(Protocol):
    """Reads identity in 3D."""

    @property
    def gram(self) -> Float[Tensor, "shape shape"]:
        """Metric of the shape codes on the face, mm^2 (`face_gram`)."""
        ...

    def shapes(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch shape"]:
        """Shape codes of upright crops, sRGB 0..1. Differentiable."""
        ...


@runtime_checkable
class ExpressionReader(Protocol):
    """A shape reader that tells the expression as well, by the same look."""

    @property
    def expression_gram(self) -> Float[Tensor, "expr expr"]:
        """Metric of expressions on the face, mm^2."""
        ...

    def read(
        self, pictures: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch shape"], Float[Tensor, "batch expr"]]:
        """Shape codes and expressions of upright crops, sRGB 0..1. Differentiable."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Reads identity as a direction."""

    def vectors(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dims"]:
        """Unit vectors of upright crops, sRGB 0..1. Differentiable."""
        ...


@dataclass(frozen=True)
class DefaultShapeReader:
    """The default regressor's β."""

    regressor: DefaultRegressor
    gram: Float[Tensor, "shape shape"]

    @cached_property
    def expression_gram(self) -> Float[Tensor, "expr expr"]:
        """Metric of expressions on the face, mm^2."""
        return expression_gram(self.regressor.model)

    def shapes(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch shape"]:
        return self.regressor.numbers(resized(pictures, CROP)).shape

    def read(
        self, pictures: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch shape"], Float[Tensor, "batch expr"]]:
        """β and ψ by one look."""
        numbers = self.regressor.numbers(resized(pictures, CROP))
        return numbers.shape, numbers.expression


@dataclass(frozen=True)
class DecaShapeReader:
    """β of DECA or EMOCA (FLAME's first 100 components), for who has their weights."""

    deca: Deca
    gram: Float[Tensor, "shape shape"]

    @classmethod
    def of(cls, deca: Deca, flame: HeadModel) -> "DecaShapeReader":
        """Raises:
        HeadlabError: FLAME was loaded without its masks.
        """
        for network in (deca.coarse, deca.detail, deca.displacement):
            network.eval().requires_grad_(False)
        return cls(deca, face_gram(flame, PARTS["shape"]))

    def shapes(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch shape"]:
        return DecaCode.split(self.deca.coarse(deca_square(pictures))).shape


@dataclass(frozen=True)
class DefaultEmbedder:
    """The vectors of the identity embedder that comes with the package."""

    embedder: IdentityEmbedder

    def vectors(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dims"]:
        return self.embedder.embed(resized(pictures, CROP))


@lru_cache(maxsize=1)
def load_shape_reader() -> DefaultShapeReader:
    """The default one."""
    regressor = load_default_regressor()
    return DefaultShapeReader(regressor, face_gram(regressor.model, SHAPES))


@lru_cache(maxsize=1)
def load_embedder() -> DefaultEmbedder:
    """The default one."""
    return DefaultEmbedder(load_identity_embedder())


def face_gram(model: HeadModel, shapes: int) -> Float[Tensor, "shape shape"]:
    """G with b^T G b = mean squared distance, in mm^2, by which b moves the face's vertices, place and size left out.

    No picture of one face tells its size, nor where it sits in the head's frame: displacements that an infinitesimal
    similarity of the mean face could make (shift, turn, scaling) do not count.

    Args:
        model: with the region "face" (and "lips", "eyelids" where it has them).
        shapes: leading components of its shape basis.

    Raises:
        HeadlabError: the model has no such region.
    """
    face = _face(model)
    rest = model.template[face].double()
    rest = rest - rest.mean(0)
    moves = model.shape_basis[face][..., :shapes].double()
    axes = torch.eye(3, dtype=torch.float64, device=rest.device)
    similarity = [axis.expand_as(rest) for axis in axes]
    similarity += [torch.linalg.cross(axis.expand_as(rest), rest) for axis in axes]
    similarity += [rest]
    frame, _ = torch.linalg.qr(torch.stack([x.reshape(-1) for x in similarity], -1))
    flat = moves.flatten(0, 1)
    flat = 1000 * (flat - frame @ (frame.mT @ flat))
    return (flat.mT @ flat / len(rest)).to(model.shape_basis.dtype)


def expression_gram(model: HeadModel) -> Float[Tensor, "expr expr"]:
    """G with d^T G d = mean squared distance, in mm^2, by which a change d of ψ moves the face's vertices.

    Raises:
        HeadlabError: the model has no region "face".
    """
    face = _face(model)
    moves = 1000 * model.expression_basis[face].flatten(0, 1)
    return moves.mT @ moves / int(face.sum())


def _face(model: HeadModel) -> Bool[Tensor, "verts"]:
    if "face" not in model.regions:
        raise HeadlabError(f"{model.name} does not say which vertices are the face; for FLAME add FLAME_masks.pkl")
    return torch.stack([model.regions[name] for name in ("face", "lips", "eyelids") if name in model.regions]).any(0)


def resized(pictures: Float[Tensor, "batch 3 height width"], size: int) -> Float[Tensor, "batch 3 size size"]:
    """Bilinear; averaged where the pictures are finer. Differentiable.

    Raises:
        HeadlabError: they are not square.
    """
    height, width = pictures.shape[-2:]
    if height != width:
        raise HeadlabError(f"identity is read from square upright crops, not from {height} x {width} pixels")
    if height == size:
        return pictures
    return interpolate(pictures, size=(size, size), mode="bilinear", align_corners=False, antialias=height > size)


def viewed(
    pictures: Sequence[Float[Tensor, "batch 3 height width"]], spread: float, mirror: bool = True
) -> list[Float[Tensor, "batch 3 size size"]]:
    """Pictures moved, turned, scaled and mirrored a little, at the readers' size: row i of all of them in the same way.

    A network's gradient at one picture is partly noise that only this network sees; readings of many views agree on
    what is really there. Chance comes from torch's own generator. Differentiable.

    Args:
        pictures: square upright crops.
        spread: 1 is what crops by a detector's landmarks differ by: 3 % of the side, 5 % of the size, 3 degrees.
        mirror: half of the rows.
    """
    count, device = len(pictures[0]), pictures[0].device
    chance = spread * torch.randn(4, count, device=device)
    zoom, turn = torch.exp(0.05 * chance[0]), 0.05 * chance[1]
    flip = torch.ones(count, device=device)
    if mirror:
        flip = torch.where(torch.rand(count, device=device) < 0.5, -1.0, 1.0)
    c, s = zoom * torch.cos(turn), zoom * torch.sin(turn)
    shift = 0.06 * chance[2:]
    theta = torch.stack([torch.stack([c * flip, -s, shift[0]], -1), torch.stack([s * flip, c, shift[1]], -1)], -2)
    grid = affine_grid(theta.to(pictures[0].dtype), [count, 3, CROP, CROP], align_corners=False)
    return [grid_sample(x, grid, padding_mode="border", align_corners=False) for x in pictures]


def deca_square(pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 224 224"]:
    """What DECA would have cut, by the mean place of its square in an upright one. Differentiable."""
    x, y = (2 * centre - 1 for centre in _DECA_CENTRE)
    theta = pictures.new_tensor([[_DECA_SIDE, 0, x], [0, _DECA_SIDE, y]]).expand(len(pictures), 2, 3)
    grid = affine_grid(theta, [len(pictures), 3, DECA_CROP, DECA_CROP], align_corners=False)
    return grid_sample(pictures, grid, padding_mode="border", align_corners=False)
