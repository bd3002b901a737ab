"""Rows of the geometry table: what fits itself to points of a head and shows the surface it found."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ...geometry.fitting.scan import ScanConfig, fit_scan
from ...geometry.models.head_model import HeadModel
from ...geometry.sdf.extract import SdfMesh, box_grid, extract_surface, pose_mesh
from ...geometry.sdf.head_fields import HeadFields
from ...geometry.sdf.latent_fit import LatentFitConfig, fit_latents
from ...geometry.sdf.linear_fit import LinearFitConfig, fit_linear
from ...geometry.sdf.linear_heads import LinearHeads
from ...geometry.sdf.model_heads import canonical_code
from ...geometry.sdf.sampling import HeadSampler
from .surface_score import HeadSurface

Cloud = Float[Tensor, "_ 3"]


@runtime_checkable
class TableRow(Protocol):
    """One way to represent heads. Clouds are in the fields' frame."""

    @property
    def name(self) -> str:
        """As the table says it."""
        ...

    def canonical(self, cloud: Cloud) -> HeadSurface:
        """The canonical head (mouth open) that fits a cloud of one."""
        ...

    def posed(self, clouds: Sequence[Cloud]) -> list[HeadSurface]:
        """One person's head in some expressions, fitted to clouds of these."""
        ...


@dataclass(frozen=True)
class FieldsRow:
    """NPHM or NPM."""

    name: str
    fields: HeadFields
    resolution: int = 128
    identity_fit: LatentFitConfig = field(default_factory=LatentFitConfig)
    expression_fit: LatentFitConfig = field(default_factory=lambda: LatentFitConfig(steps=200, points=400))
    seed: int = 0

    def canonical(self, cloud: Cloud) -> HeadSurface:
        draws = torch.Generator().manual_seed(self.seed)
        found = fit_latents(self.fields, [cloud], self.identity_fit, draws)
        return _surface(self._neutral(found.identity))

    def posed(self, clouds: Sequence[Cloud]) -> list[HeadSurface]:
        draws = torch.Generator().manual_seed(self.seed)
        found = fit_latents(self.fields, list(clouds), self.expression_fit, draws, posed=True)
        assert found.expressions is not None
        neutral = self._neutral(found.identity)
        with torch.no_grad():
            deformations = [self.fields.deformation(found.identity, code) for code in found.expressions]
        return [_surface(pose_mesh(neutral, deformation, normals=False)) for deformation in deformations]

    def _neutral(self, latent: Float[Tensor, "latent"]) -> SdfMesh:
        return extract_surface(self.fields.surface(latent), box_grid(self.resolution), normals=False)


@dataclass(frozen=True)
class LinearRow:
    """Principal components of heads, global or local."""

    name: str
    model: LinearHeads
    fit: LinearFitConfig = field(default_factory=LinearFitConfig)

    def canonical(self, cloud: Cloud) -> HeadSurface:
        found = fit_linear(self.model, [cloud], self.fit)
        return HeadSurface(self.model.vertices(found.identity), self.model.faces)

    def posed(self, clouds: Sequence[Cloud]) -> list[HeadSurface]:
        found = fit_linear(self.model, list(clouds), self.fit, posed=True)
        assert found.expressions is not None
        return [HeadSurface(self.model.vertices(found.identity, code), self.model.faces) for code in found.expressions]


class ParametricRow:
    """A morphable model that was made from other heads, fitted as scans are (geometry/fitting/scan.py)."""

    def __init__(self, name: str, model: HeadModel) -> None:
        self.name, self.model = name, model
        self.sampler = HeadSampler.of(model, canonical_code(model, torch.zeros(model.shapes)))

    def canonical(self, cloud: Cloud) -> HeadSurface:
        return self._fitted(cloud)

    def posed(self, clouds: Sequence[Cloud]) -> list[HeadSurface]:
        return [self._fitted(cloud) for cloud in clouds]

    def _fitted(self, cloud: Cloud) -> HeadSurface:
        # The canonical mouth is open, so that even those heads have an expression.
        points = self.sampler.frame.to_metres(cloud).double().numpy()
        found = fit_scan(self.model, points, None, config=ScanConfig(fit_expression=True, outside_face=1.0))
        vertices = self.sampler.frame.to_field(self.model.vertices(found.code) / found.scale)
        return HeadSurface(vertices, self.sampler.faces)


def _surface(mesh: SdfMesh) -> HeadSurface:
    return HeadSurface(mesh.vertices, mesh.faces)
