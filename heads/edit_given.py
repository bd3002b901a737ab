"""What the editor's networks are given of a head in a photo: maps as they saw them in training, and the expression.

Maps are drawn twice as fine and averaged down, with the plain colours of the albedo model and the fitted light: as
`datasets/synthetic/pairs` draws them. A texture that was unwrapped from the photo would show hair and shadows there.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from ..diffusion.condition_encoder import network_maps
from ..diffusion.denoiser import Given
from ..geometry.code import HeadCode
from ..geometry.models.head_model import HeadModel
from ..geometry.regress.default_decode import focus
from ..geometry.rodrigues import rotvec_to_rotmat
from ..geometry.texture.default_albedo import default_albedo
from .crop_view import CropView
from .transfer import PhotoHead, Source

#: Maps are drawn so many times finer than the networks' pixels.
FINER = 2


def head_maps(
    view: CropView,
    model: HeadModel,
    code: HeadCode,
    texture: Float[Tensor, "3 rows columns"],
    distance: float,
) -> Float[Tensor, "11 size size"]:
    """A head's maps as the denoiser takes them (`condition_encoder.network_maps`).

    Args:
        view: the crop, at the networks' size.
        model: head model with texture coordinates.
        code: one head; without light, a studio's.
        texture: colours of the skin, row 0 at v = 1.
        distance: to the head's focus, metres (`focus_distance`).
    """
    seen = view.resized(FINER * view.size).maps(model, code, texture)
    seen = replace(seen, normal=normalize(seen.normal, dim=0), albedo=seen.albedo.clamp(0, 1))
    return network_maps(seen, seen.depth.new_tensor(distance), view.size)


def given_of(
    view: CropView,
    model: HeadModel,
    code: HeadCode,
    texture: Float[Tensor, "3 rows columns"],
    distance: float,
    expressions: int,
    source: Source | None = None,
) -> Given:
    """Conditions of one head, batch axis of one. `person` and `capture` are the editor's to fill.

    Args:
        view: the crop.
        model: head model.
        code: the head.
        texture: colours of the skin.
        distance: to the head's focus, metres.
        expressions: length of ψ that the denoiser takes; of a model with another number, the maps alone tell.
        source: where the expression was named: its category or feeling.
    """
    maps = head_maps(view, model, code, texture, distance)[None]
    psi = code.expression[None].to(maps) if code.expression.shape[-1] == expressions else None
    emotion = feeling = None
    if source is not None and source.emotion >= 0:
        emotion = torch.tensor([source.emotion])
    if source is not None and source.feeling is not None:
        feeling = maps.new_tensor([source.feeling])
    return Given(maps=maps, expression=psi, emotion=emotion, valence_arousal=feeling)


def focus_distance(view: CropView, model: HeadModel, code: HeadCode) -> float:
    """From the camera to the point of the head that synthetic cameras look at, along the view, metres."""
    points = "478" if "478" in model.landmarks else "68"
    middle = focus(model, code.shape[None], points)[0]
    root = model.joints(code.shape, code.expression)[model.joint_names.index("root")]
    at = root + code.translation + rotvec_to_rotmat(code.rotation) @ (middle - root)
    return view.distance(at[None])


def skin_texture(model: HeadModel, head: PhotoHead) -> Float[Tensor, "3 rows columns"]:
    """Plain colours of a fitted person: of the albedo model by the fitted code, else the unwrapped texture."""
    if head.code.albedo is not None and {"face", "lips", "eyelids", "eyes"} <= set(model.regions):
        return default_albedo(model).texture(head.code.albedo).clamp(0, 1)
    assert head.fit.albedo is not None
    return head.fit.albedo
