"""Fill a texture where no photo shows the head: mirror, then spread colour smoothly, over a model's expectation."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..models.head_model import HeadModel
from ..raster import Raster, sample_texture
from .push_pull import bleed, push_pull
from .unwrap import Unwrapped
from .uv_raster import to_uv

_MIRROR_TRUST = 0.5  # of a mirrored texel against a seen one
#: Bounds on the spread of skin about its median: log brightness, log red / green, log green / blue.
_SPREAD = ((0.12, 0.04, 0.04), (0.20, 0.07, 0.07))
_NOT_SKIN = ("eyes", "lips", "teeth", "tongue", "mouth")
_STRANGE = 2.0  # deviations from which a texel is doubted; at half as many more it is not skin
_FULL_TRUST = 0.25  # weight above which a seen texel is taken as it is


def merge(photos: list[Unwrapped]) -> Unwrapped:
    """Average several photos of one head; the best view of each texel dominates."""
    weights = torch.stack([photo.weight for photo in photos])
    share = weights**3
    share = share / share.sum(0, keepdim=True).clamp(min=1e-9)
    colour = (torch.stack([photo.colour for photo in photos]) * share[:, None]).sum(0)
    return Unwrapped(colour, weights.amax(0))


def without_strangers(
    model: HeadModel, uv_raster: Raster, seen: Unwrapped, expected: Float[Tensor, "3 size size"]
) -> Unwrapped:
    """Distrust skin texels of the neck, the ears and the sides of the head that are not of this person's colour.

    There, and where the face is seen at a slant, hair, collars and background meet the head. The middle of the face
    tells what the skin looks like (as a ratio to the expected albedo); it is itself left alone, glasses and beards
    being part of the likeness, and so is the scalp.
    """
    if not {"face", "scalp"} <= set(model.regions):
        return seen
    inner = torch.stack([model.regions[name] for name in _NOT_SKIN if name in model.regions]).any(0)
    masks = torch.stack([x.float() for x in (model.regions["face"], model.regions["scalp"], inner)], 1)
    face, scalp, inner = to_uv(uv_raster, model, masks).unbind(-1)
    skin = face * (1 - inner) * seen.weight
    red, green, blue = torch.log(seen.colour.clamp(0.02, 1) / expected.clamp(0.02, 1))
    # Brightness varies with shadows, hue hardly at all.
    ratio = torch.stack([(red + green + blue) / 3, red - green, green - blue])
    core = ratio[:, skin > 0.3]
    if core.shape[1] < 100:
        return seen
    middle = core.median(1).values[:, None, None]
    spread = 1.4826 * (core - middle[:, :, 0]).abs().median(1).values
    spread = torch.minimum(torch.maximum(spread, ratio.new_tensor(_SPREAD[0])), ratio.new_tensor(_SPREAD[1]))
    strange = ((ratio - middle) / spread[:, None, None]).abs().amax(0)
    trust = (1 - (strange - _STRANGE) / _STRANGE * 2).clamp(0, 1)
    kept = torch.maximum(torch.maximum(face * ((seen.weight - 0.2) / 0.2).clamp(0, 1), scalp), inner)
    return Unwrapped(seen.colour, seen.weight * torch.lerp(trust, torch.ones(()), kept))


def complete(
    model: HeadModel,
    uv_raster: Raster,
    seen: Unwrapped,
    expected: Float[Tensor, "3 size size"],
    mirror: Float[Tensor, "size size 2"],
) -> Float[Tensor, "3 size size"]:
    """A whole texture.

    Unseen texels take their mirror image where that is seen. What is left takes the expected albedo times the ratio of
    seen to expected colour, spread smoothly (in the logarithm, by push-pull pyramids, for each part of the head apart).

    Args:
        model: head model with UVs and parts.
        uv_raster: its texture layout.
        seen: what the photos show.
        expected: the statistical model's albedo for this head.
        mirror: texture coordinate (v up) of every texel's mirror image (`mirror_map`).
    """
    # Colours are weighted before they are interpolated, so that those of unseen texels do not mix in.
    weighted = torch.cat([seen.colour * seen.weight, seen.weight[None]])
    flipped = sample_texture(weighted[None], mirror[None])[0].permute(2, 0, 1)
    mirrored = Unwrapped(flipped[:3] / flipped[3].clamp(min=1e-6), flipped[3] * _MIRROR_TRUST * uv_raster.mask[0])
    own = (seen.weight / _FULL_TRUST).clamp(max=1)
    other = (mirrored.weight / _FULL_TRUST).clamp(max=1) * (1 - own)
    total = own + other
    colour = (seen.colour * own + mirrored.colour * other) / total.clamp(min=1e-6)

    expected = expected.clamp(0.02, 1)
    ratio = torch.log(colour.clamp(0.02, 1) / expected)
    out = expected.clone()
    for part in _parts(model, uv_raster):
        trust = torch.where(part, total, 0.0)
        if float(trust.sum()) > 0:
            spread = push_pull(ratio, trust)
            blended = torch.lerp(expected * spread.exp(), colour, total.clamp(max=1))
            out = torch.where(part, blended, out)
    return bleed(out.clamp(0, 1), uv_raster.mask[0])


def mirror_map(model: HeadModel, uv_raster: Raster, partner: Int[Tensor, "verts"]) -> Float[Tensor, "size size 2"]:
    """Texture coordinate of the mirror image of every texel, for a mesh with mirrored triangles.

    Args:
        model: head model with UVs.
        uv_raster: its texture layout.
        partner: the mirror image of every vertex.
    """
    assert model.uvs is not None and model.uv_faces is not None
    keys = torch.sort(model.faces, 1).values
    wanted = torch.sort(partner[model.faces], 1).values
    count = int(model.faces.max()) + 1
    code, target = (x[:, 0] * count * count + x[:, 1] * count + x[:, 2] for x in (keys, wanted))
    order = torch.argsort(code)
    found = order[torch.searchsorted(code[order], target).clamp(max=len(code) - 1)]
    matches = code[found] == target
    # Texture corner of the mirrored face that belongs to the mirror image of each corner.
    corners = (model.faces[found][:, None, :] == partner[model.faces][:, :, None]).float().argmax(2)
    corner_uvs = model.uvs[model.uv_faces[found].gather(1, corners)]  # faces 3 2
    # Where a quad is split along the other diagonal on the other side, its vertices still mirror.
    first_uv = torch.zeros(count, 2).index_copy(0, model.faces.flatten(), model.uvs[model.uv_faces.flatten()])
    corner_uvs = torch.where(matches[:, None, None], corner_uvs, first_uv[partner[model.faces]])
    index = uv_raster.face[0].clamp(min=0).long()
    return (corner_uvs[index] * uv_raster.bary[0][..., None]).sum(-2)


def mirror_partners(vertices: Float[Tensor, "verts 3"]) -> Int[Tensor, "verts"]:
    """The vertex nearest to each vertex's mirror image across x = 0."""
    from scipy.spatial import KDTree

    points = vertices.double().numpy()
    return torch.from_numpy(KDTree(points).query(points * [-1.0, 1.0, 1.0])[1])


def _parts(model: HeadModel, uv_raster: Raster) -> list[Bool[Tensor, "size size"]]:
    covered = uv_raster.mask[0]
    if model.face_parts is None:
        return [covered]
    part = model.face_parts[uv_raster.face[0].clamp(min=0).long()]
    return [covered & (part == index) for index in range(len(model.part_names))]
