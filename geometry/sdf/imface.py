"""An ImFace-style baseline: one template field, and per face a warp into it and a correction of its values.

    expression z_ex, identity z_id
    x ──> x' = x + E(x; z_ex, z_id) ──> x'' = x' + I(x'; z_id) ──> sdf(x) = T(x'') + C(x; z_ex, z_id)

After Zheng et al., "ImFace: A Nonlinear 3D Morphable Face Model with Implicit Neural Representations" (CVPR 2022): an
expression warp, an identity warp, and a template with the correction of Deng et al., "Deformed Implicit Field" (2021).
All are whole-head networks here (ImFace blends five per warp around landmarks), and latents enter by concatenation
instead of by hyper-networks: the baseline is of the same idea and of the size of the other fields, not their model.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .losses import SurfaceBatch, Terms, surface_terms
from .mlp import DeepSDF


@dataclass(frozen=True)
class ImFaceConfig:
    """Sizes."""

    identity: int = 128  #: length of z_id
    expression: int = 128  #: length of z_ex
    hidden: int = 256
    layers: int = 6
    warp_hidden: int = 128  #: of warps and correction, beside as many as they have inputs
    warp_layers: int = 4
    sphere: float = 0.4  #: radius of the ball that the template starts as, field units


@dataclass(frozen=True)
class ImFaceWeights:
    """Weights of the losses: the surface's as in L_id, and the regularisers."""

    surf_sdf: float = 2.0
    normals: float = 0.3
    space_sdf: float = 0.01
    grad: float = 0.1
    lat_reg: float = 0.01
    smooth: float = 0.005
    correction: float = 0.1
    template_normals: float = 0.1
    residue: float = 1.0


@dataclass(frozen=True)
class ImFaceValues:
    """What the field says at some points, and where that comes from."""

    sdf: Float[Tensor, "*batch points"]
    neutral: Float[Tensor, "*batch points 3"]  #: x': on the neutral face of the same person
    template: Float[Tensor, "*batch points 3"]  #: x'': on the template
    correction: Float[Tensor, "*batch points"]


class ImFaceField(nn.Module):
    """Template, warps and correction."""

    def __init__(self, config: ImFaceConfig, generator: torch.Generator) -> None:
        """Warps and correction start as nothing, the template as a ball.

        Args:
            generator: for the template's start.
        """
        super().__init__()
        self.config = config
        both = config.identity + config.expression
        self.template = DeepSDF(0, config.hidden, config.layers)
        self.template.initialise_as_sphere(config.sphere, generator)
        self.expression_warp = DeepSDF(both, config.warp_hidden + 3 + both, config.warp_layers, out=3)
        self.identity_warp = DeepSDF(
            config.identity, config.warp_hidden + 3 + config.identity, config.warp_layers, out=3
        )
        self.corrector = DeepSDF(both, config.warp_hidden + 3 + both, config.warp_layers)
        for network in (self.expression_warp, self.identity_warp, self.corrector):
            last = network.linear(network.depth - 1)
            nn.init.zeros_(last.bias)
            nn.init.normal_(last.weight, 0, 1e-4, generator=generator)

    def values(
        self,
        points: Float[Tensor, "*batch points 3"],
        identity: Float[Tensor, "*batch id"],
        expression: Float[Tensor, "*batch ex"],
    ) -> ImFaceValues:
        """The field at points of faces. Differentiable, any number of times."""
        both = torch.cat([identity, expression], -1)
        neutral = points + self.expression_warp(points, both)
        template = neutral + self.identity_warp(neutral, identity)
        correction = self.corrector(points, both).squeeze(-1)
        return ImFaceValues(self.at_template(template) + correction, neutral, template, correction)

    def at_template(self, points: Float[Tensor, "*batch points 3"]) -> Float[Tensor, "*batch points"]:
        """The template's own field."""
        return self.template(points, points.new_zeros(*points.shape[:-2], 0)).squeeze(-1)

    def forward(
        self,
        points: Float[Tensor, "*batch points 3"],
        identity: Float[Tensor, "*batch id"],
        expression: Float[Tensor, "*batch ex"],
    ) -> Float[Tensor, "*batch points"]:
        """Signed distances."""
        return self.values(points, identity, expression).sdf


def imface_terms(
    field: ImFaceField,
    batch: SurfaceBatch,
    identity: Float[Tensor, "batch id"],
    expression: Float[Tensor, "batch ex"],
    neutral: Float[Tensor, "batch _ 3"] | None = None,
) -> Terms:
    """The losses of a batch of posed faces.

    Args:
        field: the networks.
        batch: points of each face's surface, about it and far from it.
        identity: latents.
        expression: latents.
        neutral: where the surface's points (of the face, then the rest) lie on the same person's neutral face, if the
            heads correspond: the expression warp shall lead there.

    Returns:
        L_id's terms of the surface (losses.py) and, as in Deformed Implicit Fields,
            smooth            mean Frobenius norm of ∂(x'' - x)/∂x
            correction        mean |C|
            template_normals  mean 1 - cosine between the template's normal at x'' and the face's at x
            residue           mean squared distance of x' from `neutral`
    """
    at = batch.points().detach().requires_grad_()
    values = field.values(at, identity, expression)
    (gradient,) = torch.autograd.grad(values.sdf.sum(), at, create_graph=True)
    latents = torch.cat([identity, expression], -1)
    terms = surface_terms(values.sdf, gradient, batch, latents)

    offset = values.template - at
    rows = [torch.autograd.grad(offset[..., i].sum(), at, create_graph=True)[0] for i in range(3)]
    count = batch.face.shape[-2] + batch.rest.shape[-2]
    on_template = values.template[..., :count, :]
    (slope,) = torch.autograd.grad(field.at_template(on_template).sum(), on_template, create_graph=True)
    normals = torch.cat([batch.face_normals, batch.rest_normals], -2)
    cosine = torch.nn.functional.cosine_similarity(slope, normals, dim=-1, eps=1e-6)
    terms = terms | {
        "smooth": torch.cat(rows, -1).norm(dim=-1).mean(),
        "correction": values.correction.abs().mean(),
        "template_normals": (1 - cosine).mean(),
    }
    if neutral is not None:
        terms["residue"] = (values.neutral[..., :count, :] - neutral).square().sum(-1).mean()
    return terms


def imface_total(terms: Mapping[str, Tensor], weights: ImFaceWeights) -> Float[Tensor, ""]:
    """The weighted sum."""
    factors = asdict(weights)
    return torch.stack([factors[name] * value for name, value in terms.items()]).sum()
