"""Blends of people and distances between surfaces, for figures."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ...geometry.code import HeadCode
from ...geometry.errors import HeadlabError
from ...geometry.models.head_model import HeadModel
from ...geometry.raster import closest_point
from .opened import OpenedHead
from .surface import Surface, surface_of


def same_model(heads: Sequence[OpenedHead]) -> HeadModel:
    """The one head model of several fits.

    Raises:
        HeadlabError: they differ, or it is not installed.
    """
    names = {head.fit.model for head in heads}
    if len(names) > 1:
        raise HeadlabError(
            f"the heads were fitted with different models ({', '.join(sorted(names))}); fit all with one"
        )
    model = heads[0].model
    if model is None:
        raise HeadlabError(heads[0].note)
    return model


def neutral_person(model: HeadModel, code: HeadCode) -> HeadCode:
    """The person alone: no expression, upright at the origin, without a light of its own."""
    return model.neutral().with_(shape=code.shape)


def identity_grid(heads: Sequence[OpenedHead], steps: int) -> list[list[Surface]]:
    """People between people, expressionless: two heads give a row, three or four a square.

    β and texture are blended bilinearly between the corners: top left, top right, bottom left, bottom right (three
    heads: the last corner is what completes the parallelogram).

    Args:
        heads: two to four, of one model.
        steps: heads in a row, and rows of a square; at least 2.

    Raises:
        HeadlabError: fewer or more heads, or different models.
    """
    if not 2 <= len(heads) <= 4:
        raise HeadlabError(f"{len(heads)} heads were given; an identity grid blends two, three or four")
    model = same_model(heads)
    shapes = [head.fit.codes.shape[0] for head in heads]
    albedos = _albedos(heads)
    if len(heads) == 3:
        shapes.append(shapes[1] + shapes[2] - shapes[0])
        albedos = None if albedos is None else [*albedos, (albedos[1] + albedos[2] - albedos[0]).clamp(0, 1)]
    ends = torch.linspace(0, 1, steps).tolist()
    rows = ends if len(shapes) == 4 else [0.0]
    return [[_blended(model, shapes, albedos, right, down) for right in ends] for down in rows]


def _blended(
    model: HeadModel, shapes: Sequence[Tensor], albedos: Sequence[Tensor] | None, right: float, down: float
) -> Surface:
    weights = [(1 - right) * (1 - down), right * (1 - down), (1 - right) * down, right * down][: len(shapes)]
    shape = torch.stack([w * x for w, x in zip(weights, shapes, strict=True)]).sum(0)
    albedo = None if albedos is None else sum((w * x for w, x in zip(weights, albedos, strict=True)), albedos[0] * 0)
    vertices = model.vertices(model.neutral().with_(shape=shape))
    return surface_of(model, albedo).moved(vertices)


def _albedos(heads: Sequence[OpenedHead]) -> list[Tensor] | None:
    found = [head.fit.albedo for head in heads]
    if any(albedo is None for albedo in found):
        return None
    size = min(albedo.shape[-1] for albedo in found if albedo is not None)
    return [
        torch.nn.functional.interpolate(albedo[None], (size, size), mode="bilinear", antialias=True)[0]
        for albedo in found
        if albedo is not None
    ]


def distances(surface: Surface, reference: Surface) -> Float[Tensor, "verts"]:
    """From every vertex to the nearest point of another surface, in the surfaces' unit."""
    with torch.inference_mode():
        return closest_point(reference.vertices.float(), reference.faces, surface.vertices.float())[0]
