"""Condition maps of fits that are attached to stored pictures, rendered when they are asked for.

Drawn twice as fine as the picture and averaged down, with the albedo model's plain colours and the fitted light, as the
pairs of the first stage are (`datasets/synthetic/pairs`).
"""

from dataclasses import replace
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

from ..datasets.attached_fit import AttachedFit
from ..geometry.errors import HeadlabError
from ..geometry.models.head_model import HeadModel
from ..geometry.regress.default_decode import focus
from ..geometry.rodrigues import rotvec_to_rotmat
from ..geometry.texture.albedo_model import AlbedoModel
from ..geometry.texture.default_albedo import default_albedo
from .condition_encoder import network_maps
from .conditions import Conditions

_FINER = 2


class AttachedMaps:
    """Maps of fits of one head model."""

    def __init__(self, name: str, model: HeadModel, albedo: AlbedoModel | None = None):
        """Args:
        name: of the model, as the fits name it.
        model: the head model.
        albedo: colours of the skin; the default ones where None.

        Raises:
            HeadlabError: the model has no colours.
        """
        self.name, self.model = name, model
        self.albedo = default_albedo(model) if albedo is None else albedo

    def conditions(self, fit: AttachedFit, size: int) -> Conditions:
        """A fit's maps at a size (that of its picture, or another).

        Raises:
            HeadlabError: the fit is of another model.
        """
        if fit.model != self.name:
            raise HeadlabError(
                f"this fit is of the model {fit.model}, these maps are drawn with {self.name}; fit again"
            )
        skin = fit.code.albedo
        texture = self.albedo.mean if skin is None else self.albedo.texture(skin)
        camera = fit.camera.resized((size, size))
        return Conditions.of(self.model, fit.code, camera, texture.clamp(0, 1))

    def network(self, fit: AttachedFit, size: int) -> Float[Tensor, "11 size size"]:
        """A fit's maps as the denoiser takes them."""
        seen = self.conditions(fit, _FINER * size)
        seen = replace(seen, normal=normalize(seen.normal, dim=0))
        return network_maps(seen, self.distance(fit), size)

    def distance(self, fit: AttachedFit) -> Float[Tensor, ""]:
        """From the camera to the point of the head that synthetic cameras look at, along its axis, metres."""
        code, model = fit.code, self.model
        points = "478" if "478" in model.landmarks else "68"
        middle = focus(model, code.shape[None], points)[0]
        root = model.joints(code.shape, code.expression)[model.joint_names.index("root")]
        at = root + code.translation + rotvec_to_rotmat(code.rotation) @ (middle - root)
        return (fit.camera.R @ at + fit.camera.t)[2]

    def rig(self, fit: AttachedFit, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """(rendered, normal, albedo) as DiffusionRig's stores hold them, (3, size, size) each."""
        seen = self.conditions(fit, _FINER * size)
        fine = torch.stack([seen.shaded, seen.normal, seen.albedo])
        rendered, normal, albedo = avg_pool2d(fine, _FINER).unbind(0)
        return rendered, normal, albedo


@lru_cache(maxsize=2)
def default_maps() -> AttachedMaps:
    """Of the default head, which `headlab fit` uses where no other model is named."""
    from ..geometry.models.default import load_default_head

    return AttachedMaps("default", load_default_head())
