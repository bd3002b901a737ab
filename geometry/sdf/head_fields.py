"""HeadFields: an identity field, an expression field, and the latents they were trained with; NPHM's and NPM's alike.

    identity latent ──> sdf of the canonical head ──> surface()  ──> extract()
        └── expression latent ──> offsets of its points ──> deformation() ──> extract(..., expression)

What differs between the ensemble and the single network stays in here: whoever fits, poses or compares heads needs
no case for either.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import HeadlabError
from .anchors import FieldFrame
from .culled import SHARE, culled_sdf
from .expression import ExpressionField, FoldedExpression
from .extract import SdfMesh, SurfaceField, box_grid, extract_surface, pose_mesh
from .fast_network import FastNetwork
from .fused_identity import fast_surface
from .identity import IdentityField
from .mlp import DeepSDF, run_single


@dataclass(frozen=True)
class HeadFields:
    """Trained fields. Points and meshes are in the fields' frame and unit (250 mm); `frame` leads to metres."""

    identity: IdentityField | DeepSDF  #: NPHM's ensemble, or NPM's network
    expression: ExpressionField | DeepSDF | None  #: NPM's sees the identity's latent, then the expression's
    identity_latents: Float[Tensor, "heads latent"]  #: of the training heads; at least one
    expression_latents: Float[Tensor, "poses ex"]  #: of the training expressions; no rows without a field
    frame: FieldFrame  #: of the head model they were trained on
    canonical: Mapping[str, float] = field(default_factory=dict)  #: expression weights of the canonical head, by name
    facts: Mapping[str, Any] = field(default_factory=dict)  #: source, recipe, budget: what a model card says

    @property
    def kind(self) -> str:
        return "NPHM" if isinstance(self.identity, IdentityField) else "NPM"

    @property
    def identity_size(self) -> int:
        """Numbers of an identity latent."""
        return self.identity.layout.latent if isinstance(self.identity, IdentityField) else self.identity.latent

    @property
    def expression_size(self) -> int:
        """Numbers of an expression latent; 0 without an expression field."""
        if self.expression is None:
            return 0
        if isinstance(self.expression, ExpressionField):
            return self.expression.config.latent
        return self.expression.latent - self.identity_size

    def anchors(self, latent: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch anchors 3"]:
        """Where heads' anchors lie; NPM has none (no rows)."""
        if isinstance(self.identity, IdentityField):
            return self.identity.anchors(latent)
        return latent.new_zeros(*latent.shape[:-1], 0, 3)

    def sdf(
        self, latent: Float[Tensor, "*batch latent"], points: Float[Tensor, "*batch n 3"], share: float = SHARE
    ) -> Float[Tensor, "*batch n"]:
        """Signed distances of canonical heads, differentiable in everything.

        Args:
            share: members of the ensemble that have less of the blend than this are left out.
        """
        if isinstance(self.identity, IdentityField):
            return culled_sdf(self.identity.folded(latent), points, share)
        return self.identity(points, latent).squeeze(-1)

    def deformation(
        self, latent: Float[Tensor, "*#batch latent"], expression: Float[Tensor, "*#batch ex"]
    ) -> FoldedExpression:
        """The deformation of given expressions of given heads: differentiable, and what `pose_mesh` takes.

        Raises:
            HeadlabError: there is no expression field.
        """
        if self.expression is None:
            raise HeadlabError("these fields have no expressions; train an expression field with `headlab train nphm`")
        if isinstance(self.expression, ExpressionField):
            return self.expression.folded(latent, expression, self.anchors(latent))
        batch = torch.broadcast_shapes(latent.shape[:-1], expression.shape[:-1])
        both = torch.cat([latent.expand(*batch, -1), expression.expand(*batch, -1)], -1)
        return FoldedExpression(self.expression.folded([(slice(3, 3 + self.expression.latent), both)]))

    def offsets(
        self,
        latent: Float[Tensor, "*#batch latent"],
        expression: Float[Tensor, "*#batch ex"],
        points: Float[Tensor, "*#batch n 3"],
    ) -> Float[Tensor, "*batch n 3"]:
        """How far canonical points move in an expression. Differentiable in everything."""
        folded = self.deformation(latent, expression)
        return run_single(folded.mlp, folded.inputs(points))

    def surface(self, latent: Float[Tensor, "latent"]) -> SurfaceField:
        """One head's field, made ready for millions of points."""
        with torch.no_grad():
            if isinstance(self.identity, IdentityField):
                return fast_surface(self.identity.folded(latent))
            return FastNetwork.of(self.identity.folded([(slice(3, 3 + self.identity.latent), latent)]))

    def extract(
        self,
        latent: Float[Tensor, "latent"],
        expression: Float[Tensor, "ex"] | None = None,
        resolution: int = 256,
        *,
        normals: bool = True,
    ) -> SdfMesh:
        """The mesh of a head: canonical, or in an expression.

        Args:
            resolution: vertices of the grid along each axis.
            normals: exact ones of the canonical head; of the posed one from its triangles.
        """
        mesh = extract_surface(self.surface(latent), box_grid(resolution), normals=normals and expression is None)
        if expression is None:
            return mesh
        with torch.no_grad():
            folded = self.deformation(latent, expression)
        return pose_mesh(mesh, folded, normals=normals)
