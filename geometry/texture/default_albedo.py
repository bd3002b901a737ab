"""An albedo model for any head with regions, made of what is known about faces rather than from photos.

Components: skin tone, lips, brows, beard area, scalp hair, irises, eye whites, redness of nose and cheeks, and
smooth blotches (deformation modes used as brightness). Enough to explain away colour while light and shape are
fitted; the texture proper is unwrapped from the photo afterwards.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ..models.deformation_modes import deformation_modes
from ..models.head_model import HeadModel
from .albedo_model import AlbedoModel
from .push_pull import bleed
from .uv_raster import rasterize_uv, to_uv

SIZE = 256
_BLOTCHES = 14
#: Direction and spread of colour of each part: (brightness, red against blue, green against both), standard deviations.
_AXES = torch.tensor([[0.62, 0.58, 0.53], [0.7, 0.0, -0.7], [-0.4, 0.8, -0.4]])
_SPREAD = {
    "skin": (0.22, 0.05, 0.025),
    "lips": (0.08, 0.06, 0.03),
    "brows": (0.14, 0.03, 0.0),
    "beard": (0.12, 0.03, 0.0),
    "scalp": (0.30, 0.08, 0.02),
    "iris": (0.14, 0.10, 0.04),
    "sclera": (0.10, 0.02, 0.0),
    "flush": (0.03, 0.04, 0.0),
}
_MEAN = {
    "skin": (0.76, 0.58, 0.49),
    "lips": (0.66, 0.40, 0.38),
    "brows": (0.42, 0.31, 0.25),
    "scalp": (0.40, 0.31, 0.26),
    "iris": (0.32, 0.25, 0.20),
    "sclera": (0.80, 0.77, 0.75),
    "teeth": (0.82, 0.79, 0.72),
    "tongue": (0.70, 0.42, 0.40),
    "mouth": (0.36, 0.17, 0.15),
}
IRIS_ANGLE = 0.47  # radians about the eyeball's axis


def face_parts(model: HeadModel) -> dict[str, Float[Tensor, "verts"]]:
    """Soft masks 0..1 over vertices of the coloured parts of a head.

    Raises:
        ValueError: the model lacks the regions face, lips, eyelids, eyes.
    """
    missing = {"face", "lips", "eyelids", "eyes"} - set(model.regions)
    if missing:
        raise ValueError(f"{model.name} has no region {', '.join(sorted(missing))}; it cannot be coloured")
    v = model.template
    regions = {name: mask.float() for name, mask in model.regions.items()}
    none = torch.zeros(len(v))
    eyes, lips = regions["eyes"], regions["lips"]
    inner = torch.stack([regions.get(name, none) for name in ("teeth", "tongue", "mouth")]).amax(0)
    skin = (1 - eyes) * (1 - inner)
    mouth = v[model.regions["lips"]].mean(0)
    lids = v[model.regions["eyelids"]]
    eye_height = lids[:, 1].mean()
    brows = torch.zeros(len(v))
    for side in (-1, 1):
        lid = lids[lids[:, 0] * side > 0]
        middle, width = lid.mean(0), lid[:, 0].amax() - lid[:, 0].amin()
        offset = v - middle - torch.tensor([0.0, 0.021, 0.0])
        across = (offset[:, 0] / width).abs()
        height = (offset[:, 1] + 0.004 * (2 * across) ** 2).abs()
        brows += _edge(0.7 - across, 0.15) * _edge(0.006 - height, 0.004) * (v[:, 2] > middle[2] - 0.02)
    brows = brows.clamp(max=1) * skin
    nose_height = eye_height + 0.62 * (mouth[1] - eye_height)
    face = regions["face"]
    beard = _edge(nose_height - v[:, 1], 0.01) * face * (1 - lips)
    # Hair ends at the nape, softly, about as low as the ears reach.
    scalp = regions.get("scalp", none) * _edge(v[:, 1] + 0.032, 0.012)
    nose = torch.exp(-(((v - v[v[:, 2].argmax()]) / 0.014) ** 2).sum(1))
    cheek = sum(
        torch.exp(-(((v[:, :2] - torch.tensor([s * 0.038, float(nose_height) + 0.004])) / 0.018) ** 2).sum(1))
        for s in (-1, 1)
    )
    flush = ((nose + cheek) * face).clamp(max=1)
    return {
        "skin": skin,
        "lips": lips,
        "brows": brows,
        "beard": beard,
        "scalp": scalp,
        "sclera": eyes,
        "flush": flush,
        "teeth": regions.get("teeth", none),
        "tongue": regions.get("tongue", none),
        "mouth": regions.get("mouth", none) * (1 - lips),
    }


def default_albedo(model: HeadModel, size: int = SIZE) -> AlbedoModel:
    """The albedo model of a head model at a texture size."""
    raster = rasterize_uv(model, size)
    parts = face_parts(model)
    names = list(parts)
    maps = to_uv(raster, model, torch.stack([parts[name] for name in names], 1))
    masks = dict(zip(names, maps.unbind(-1), strict=True))
    masks["iris"] = masks["sclera"] * _iris(model, raster)
    masks["sclera"] = masks["sclera"] - masks["iris"]

    mean = torch.tensor(_MEAN["skin"]).expand(size, size, 3)
    for name in ("scalp", "lips", "brows", "sclera", "iris", "teeth", "tongue", "mouth"):
        mean = torch.lerp(mean, torch.tensor(_MEAN[name]).expand_as(mean), masks[name][..., None])
    columns = []
    for name, spread in _SPREAD.items():
        # The skin's tone also colours what lies on it.
        mask = masks["skin"] if name == "skin" else masks[name]
        for axis, deviation in zip(_AXES, spread, strict=True):
            if deviation:
                columns.append(mask[..., None] * axis * deviation)
    points, face = model.template.double().numpy(), (parts["skin"] * model.regions["face"]).double().numpy()
    blotches = deformation_modes(points, face, 3 * _BLOTCHES, scales=((0.03, 0.05),))
    vertical = torch.from_numpy(blotches[abs(blotches[:, :, 1]).max(1) > 0, :, 1][:_BLOTCHES]).float()
    for value in to_uv(raster, model, vertical.mT).unbind(-1):
        columns.append(value[..., None] * _AXES[0])
    stacked = torch.cat([mean[..., None], torch.stack(columns, -1)], -1).permute(2, 3, 0, 1)
    filled = bleed(stacked.flatten(0, 1), raster.mask[0]).unflatten(0, stacked.shape[:2]).permute(0, 2, 3, 1)
    return AlbedoModel(filled[..., 0].contiguous(), filled[..., 1:].contiguous())


def _iris(model: HeadModel, raster) -> Float[Tensor, "height width"]:
    """1 on the front of the eyeballs, 0 elsewhere, with a soft rim."""
    out = torch.zeros(raster.face.shape[1:])
    position = to_uv(raster, model, model.template)
    for name in ("left_eye", "right_eye"):
        centre = model.template[model.regions[name]].mean(0)
        offset = position - centre
        angle = torch.acos((offset[..., 2] / offset.norm(dim=-1).clamp(min=1e-9)).clamp(-1, 1))
        close = offset.norm(dim=-1) < 0.02
        out = torch.maximum(out, _edge(IRIS_ANGLE - angle, 0.04) * close)
    return out


def _edge(x: Float[Tensor, "..."], width: float) -> Float[Tensor, "..."]:
    """Smooth step from 0 at -width to 1 at +width."""
    t = ((x / width + 1) / 2).clamp(0, 1)
    return t * t * (3 - 2 * t)
