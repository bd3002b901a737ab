"""From latents to meshes: the zero surface of a field on a grid, and the same head posed.

    latent ──> FastIdentity ──> narrow_band ──> march ──> vertices ──> exact normals
                                                              └──> + offsets of the expression field: posed

A posed head is the neutral mesh, moved: one pass of the deformation over its vertices, as the authors' fitting does
in the end, instead of a search of the posed space.
"""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import HeadlabError
from .expression import ExpressionField, FoldedExpression
from .fast import TOLERANCE
from .fast_network import FastNetwork
from .frame import BOX
from .fused_identity import fast_surface
from .identity import IdentityField
from .marching import march
from .narrow_band import Grid, narrow_band

#: Error allowed where only the sign and the order of size are asked for, in grid spacings.
_PROBE_TOLERANCE = 0.05

#: Tolerance for normals: errors of about this times 10 radians.
_NORMAL_TOLERANCE = 1e-5

_MOST = 1024


@dataclass(frozen=True)
class SdfMesh:
    """A mesh in the field's frame and unit."""

    vertices: Float[Tensor, "verts 3"]
    faces: Int[Tensor, "faces 3"]  #: counter-clockwise seen from outside
    normals: Float[Tensor, "verts 3"] | None  #: unit, outwards
    evaluated: dict[str, int]  #: points the field was asked at: "probe", "exact", "normal"


@runtime_checkable
class SurfaceField(Protocol):
    """A field made ready for one head."""

    def value(self, points: Float[Tensor, "n 3"], tolerance: float = ...) -> Float[Tensor, "n"]: ...

    def steady_value(self, points: Float[Tensor, "n 3"], tolerance: float = ...) -> Float[Tensor, "n"]: ...

    def value_and_gradient(
        self, points: Float[Tensor, "n 3"], tolerance: float = ...
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n 3"]]: ...


def box_grid(
    resolution: int | tuple[int, int, int],
    box: tuple[tuple[float, float, float], tuple[float, float, float]] = BOX,
) -> Grid:
    """The authors' grid: as many vertices along each axis, from face to face of their box.

    Raises:
        HeadlabError: fewer than 8 or more than 1024 vertices along an axis, or a box without inside.
    """
    counts = (resolution, resolution, resolution) if isinstance(resolution, int) else resolution
    low, high = box
    if not 8 <= min(counts) <= max(counts) <= _MOST:
        raise HeadlabError(f"a resolution of {resolution} is not between 8 and {_MOST} vertices; 256 is usual")
    if not all(a < b for a, b in zip(low, high, strict=True)):
        raise HeadlabError(f"the box from {low} to {high} has no inside; give its lower and its upper corner")
    return Grid(low, high, counts)


def extract_surface(field: SurfaceField, grid: Grid, *, tolerance: float = TOLERANCE, normals: bool = True) -> SdfMesh:
    """The mesh of a field's zero surface. Open where the surface leaves the grid.

    Args:
        field: `FastIdentity.of(...)`, `FastNetwork.of(...)`.
        tolerance: largest error of the sdf at the grid's vertices, beside rounding.
        normals: also compute the field's normals at the mesh's vertices, about as dear as the surface.

    Raises:
        HeadlabError: there is no surface in the grid, or the field is no signed distance there.
    """
    rough = max(tolerance, _PROBE_TOLERANCE * float(grid.spacing.min()))
    band = narrow_band(
        lambda points: field.steady_value(points, rough),
        lambda points: field.value(points, tolerance),
        grid,
        probe_error=rough,
    )
    if len(band.cells) == 0:
        raise HeadlabError("the field has no surface inside the box; check the latent, or give a larger box")
    positions, faces = march(band.values, band.cells, torch.tensor(grid.resolution))
    vertices = grid.points(positions)
    evaluated = {**band.evaluated, "normal": 0}
    if not normals:
        return SdfMesh(vertices, faces, None, evaluated)
    _, gradient = field.value_and_gradient(vertices, max(tolerance, _NORMAL_TOLERANCE))
    unit = torch.nn.functional.normalize(gradient, dim=-1)
    return SdfMesh(vertices, faces, unit, {**evaluated, "normal": len(vertices)})


def extract_identity(
    field: IdentityField,
    latent: Float[Tensor, "latent"],
    resolution: int | tuple[int, int, int] = 256,
    *,
    tolerance: float = TOLERANCE,
    normals: bool = True,
    background_outside: bool = False,
) -> SdfMesh:
    """A canonical head of NPHM. See `extract_surface` and `IdentityField.folded`."""
    with torch.no_grad():
        head = fast_surface(field.folded(latent, background_outside))
    return extract_surface(head, box_grid(resolution), tolerance=tolerance, normals=normals)


def pose_mesh(mesh: SdfMesh, deformation: FoldedExpression, *, normals: bool = True) -> SdfMesh:
    """A canonical mesh in an expression.

    Args:
        mesh: of the same identity.
        deformation: `ExpressionField.folded` of one head.
        normals: make new ones from the posed triangles (area-weighted).
    """
    offsets = FastNetwork.of(deformation.mlp).run(deformation.inputs(mesh.vertices))
    moved = mesh.vertices + offsets
    return replace(mesh, vertices=moved, normals=mesh_normals(moved, mesh.faces) if normals else None)


def extract_posed(
    identity: IdentityField,
    expression: ExpressionField,
    identity_latent: Float[Tensor, "latent"],
    expression_latent: Float[Tensor, "ex"],
    resolution: int | tuple[int, int, int] = 256,
    *,
    normals: bool = True,
) -> SdfMesh:
    """A head in an expression: `extract_identity`, then `pose_mesh`."""
    mesh = extract_identity(identity, identity_latent, resolution, normals=False)
    with torch.no_grad():
        anchors = identity.anchors(identity_latent)
        deformation = expression.folded(identity_latent, expression_latent, anchors)
    return pose_mesh(mesh, deformation, normals=normals)


def mesh_normals(vertices: Float[Tensor, "verts 3"], faces: Int[Tensor, "faces 3"]) -> Float[Tensor, "verts 3"]:
    """Unit normals of vertices: of the triangles about each, weighted by area; 0 where there are none."""
    a, b, c = vertices[faces].unbind(1)
    area = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total.index_add_(0, faces[:, corner], area)
    return torch.nn.functional.normalize(total, dim=-1)


def components(mesh: SdfMesh) -> list[int]:
    """Sizes of the mesh's connected parts in triangles, largest first."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    faces = mesh.faces.numpy()
    count = len(mesh.vertices)
    rows, columns = faces[:, [0, 1]].ravel(), faces[:, [1, 2]].ravel()
    graph = coo_matrix((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(count, count))
    label = connected_components(graph, directed=False)[1]
    sizes = np.bincount(label[faces[:, 0]])
    return sorted((int(size) for size in sizes if size), reverse=True)
