"""Expressions that come with somebody else's head: maps in which the face of a pair is drawn with another person's β.

Whoever drives a face with another person's performance has a render of the driver, and not of the target, unless both
were fitted without error. The maps here say ψ, pose, light and albedo of the pair, and the driver's β; the driver's
crop is cut by its own landmarks, as every crop is. The pair's pictures stay what they are, so the true edit is known.
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d, normalize

from ...datasets.synthetic.pairs import EditPairBatch, nearness
from ...geometry.camera import Camera
from ...geometry.errors import HeadlabError
from ...geometry.models.head_model import HeadModel
from ...geometry.raster import interpolate, rasterize, sample_texture, vertex_normals
from ...geometry.regress.default_crop import UprightSquare
from ...geometry.texture.default_albedo import default_albedo


def drivers(pairs: EditPairBatch, seed: int = 0) -> Int[Tensor, "pairs"]:
    """Somebody else for every pair: numbers of pairs that show other people; each person drives one other.

    Raises:
        HeadlabError: there is nobody else.
    """
    people, own = torch.unique(pairs.person, return_inverse=True)
    if len(people) < 2:
        raise HeadlabError("drivers are other people among the pairs; give pairs of at least two people")
    order = torch.randperm(len(people), generator=torch.Generator().manual_seed(seed))
    next_person = torch.empty_like(order)
    next_person[order] = order.roll(1)
    first = torch.tensor([int((own == p).nonzero()[0]) for p in range(len(people))])
    return first[next_person[own]]


@torch.no_grad()
def driven(
    model: HeadModel,
    pairs: EditPairBatch,
    shapes: Float[Tensor, "pairs shape"],
    supersampling: int = 2,
    chunk: int = 32,
) -> EditPairBatch:
    """The pairs with the maps of heads of these shapes, both faces; all else stays.

    Args:
        model: that drew the pairs.
        pairs: of people.
        shapes: β of other people.
        supersampling: maps are drawn so many times finer, as the pairs' own.
        chunk: pairs at once.
    """
    albedo = default_albedo(model)
    parts = []
    for first in range(0, len(pairs), chunk):
        part = slice(first, first + chunk)
        parts.append(_driven(model, albedo, pairs[part], shapes[part], supersampling))
    changed = {name: torch.cat([p[name] for p in parts]) for name in parts[0]}
    return replace(pairs, **changed)


def _driven(model, albedo, pairs: EditPairBatch, shapes: Tensor, fine: int) -> dict[str, Tensor]:
    codes = pairs.codes.map(lambda x: x.flatten(0, 1))
    other = codes.with_(shape=shapes.repeat_interleave(2, 0))
    side = pairs.camera.size[0] * fine
    twice = replace(pairs.camera, **{k: getattr(pairs.camera, k).repeat_interleave(2, 0) for k in ("K", "R", "t")})
    twice = twice.resized((side, side))
    vertices = model.vertices(other)
    wanted = UprightSquare.from_landmarks(twice.project(model.landmarks3d(model.vertices(codes), "478")))
    camera = _moved(twice, UprightSquare.from_landmarks(twice.project(model.landmarks3d(vertices, "478"))), wanted)
    raster = rasterize(camera.to_homogeneous(vertices), model.faces, camera.size)
    normal = normalize(interpolate(raster, vertex_normals(vertices, model.faces), model.faces), dim=-1)
    assert model.uvs is not None and model.uv_faces is not None and codes.albedo is not None
    uv = interpolate(raster, model.uvs[None], model.uv_faces)
    cover = raster.mask.float()
    texture = sample_texture(albedo.texture(codes.albedo).clamp(0, 1), uv) * cover[..., None]
    near = nearness(raster.depth, pairs.distance.repeat_interleave(2, 0))

    def small(x: Tensor) -> Tensor:
        return avg_pool2d(x, fine).unflatten(0, (-1, 2))

    return {
        "normal": (small(normal.movedim(-1, 1) * cover[:, None]) * 127).round().to(torch.int8),
        "albedo": (small(texture.movedim(-1, 1)) * 255).round().to(torch.uint8),
        "head": max_pool2d(near[:, None], fine)[:, 0].unflatten(0, (-1, 2)).half(),
        "mask": (small(cover[:, None])[:, :, 0] * 255).round().to(torch.uint8),
    }


def _moved(camera: Camera, own: UprightSquare, wanted: UprightSquare) -> Camera:
    """Zoomed and shifted so that one square comes to lie on the other; both are about upright."""
    zoom = wanted.side / own.side
    K = camera.K.clone()
    K[:, :2] *= zoom[:, None, None]
    K[:, :2, 2] += wanted.centre - zoom[:, None] * own.centre
    return replace(camera, K=K)
