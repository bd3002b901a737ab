"""How fast NPHM's fields are evaluated and extracted here, beside the plain dense way.

    python -m headlab.scripts.bench.sdf --output scripts/bench/results/sdf.json

The field has the released configuration and our own anchors, fitted for some hundred steps to an analytic head-like
shape (ellipsoids for skull, jaw, nose and ears, a cylinder for the neck); its speed does not depend on how well. The
deformation has the released configuration and fresh weights. `dense` is IdentityField itself, all 40 members at every
point in double and single precision. CPU seconds are the process's, all threads together; wall times mean little on a
busy machine, so the load is noted.
"""

import os
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from safetensors.torch import load_file, save
from torch import Tensor

from ...geometry.files import write_bytes, write_json
from ...geometry.models.default import load_default_head
from ...geometry.sdf.anchors import mean_anchors
from ...geometry.sdf.culled import culled_sdf
from ...geometry.sdf.expression import ExpressionConfig, ExpressionField
from ...geometry.sdf.extract import SdfMesh, box_grid, components, extract_surface, pose_mesh
from ...geometry.sdf.fast import FastIdentity
from ...geometry.sdf.frame import BOX
from ...geometry.sdf.identity import IdentityConfig, IdentityField
from ...geometry.sdf.losses import SurfaceBatch, identity_terms
from ...geometry.sdf.marching import march
from ...geometry.sdf.narrow_band import dense_band


@dataclass(frozen=True)
class Args:
    """What to measure."""

    output: Path | None = None  #: JSON file to write; printed if absent
    field: Path | None = None  #: safetensors of a fitted field: read if it is there, else written
    steps: int = 300  #: of fitting the field
    resolutions: tuple[int, ...] = (64, 128, 256)
    dense_resolution: int = 128  #: where the narrow band is compared with the whole grid; 0 for nowhere
    points: int = 4000  #: for errors and dense rates
    threads: int = 2


def head_shape(points: Tensor) -> Tensor:
    """About the signed distance to a head, in the fields' unit (Quilez's bound for ellipsoids, smooth unions)."""

    def ellipsoid(centre: tuple[float, ...], radii: tuple[float, ...]) -> Tensor:
        scaled = (points - torch.tensor(centre)) / torch.tensor(radii)
        length = scaled.norm(dim=-1)
        return length * (length - 1) / (scaled / torch.tensor(radii)).norm(dim=-1).clamp(min=1e-6)

    def union(a: Tensor, b: Tensor, width: float) -> Tensor:
        share = (0.5 + 0.5 * (b - a) / width).clamp(0, 1)
        return b + (a - b) * share - width * share * (1 - share)

    neck = points - torch.tensor([0.0, -0.4, -0.22])
    column = torch.maximum(neck[..., [0, 2]].norm(dim=-1) - 0.2, neck[..., 1].abs() - 0.25)
    head = union(
        ellipsoid((0.0, 0.15, -0.15), (0.29, 0.36, 0.37)), ellipsoid((0.0, -0.15, 0.0), (0.2, 0.24, 0.22)), 0.05
    )
    head = union(union(head, ellipsoid((0.0, -0.04, 0.2), (0.04, 0.07, 0.08)), 0.03), column, 0.05)
    for side in (-1, 1):
        head = union(head, ellipsoid((0.29 * side, 0.0, -0.2), (0.03, 0.08, 0.05)), 0.02)
    return head


def fitted_field(args: Args) -> tuple[IdentityField, Tensor]:
    """A field of the released configuration that looks like a head, and its latent."""
    generator = torch.Generator().manual_seed(0)
    anchors = mean_anchors(load_default_head())
    torch.manual_seed(0)  # the layers' own initialisation takes no generator
    field = IdentityField(IdentityConfig(), anchors)
    for parameter in field.mlp_pos.parameters():
        torch.nn.init.zeros_(parameter)
    latent = torch.randn(field.layout.latent, generator=generator) * 0.02
    if args.field is not None and args.field.is_file():
        stored = load_file(args.field)
        latent = stored.pop("latent")
        field.load_state_dict(stored)
        return field.requires_grad_(False), latent
    low, high = torch.tensor(BOX) * 1.05
    pool = low + (high - low) * torch.rand(300000, 3, generator=generator)
    goal = head_shape(pool)
    near = (goal.abs() < 0.03).nonzero().squeeze(1)
    reached = (torch.cdist(pool, anchors).amin(1) < 0.3).nonzero().squeeze(1)
    optimizer = torch.optim.Adam(field.ensembled_deep_sdf.parameters(), 1e-3)
    for step in range(args.steps):
        optimizer.param_groups[0]["lr"] = 1e-3 * 0.05 ** (step / args.steps)
        which = torch.cat(
            [s[torch.randint(len(s), (n,), generator=generator)] for s, n in ((near, 1000), (reached, 500))]
        )
        loss = (culled_sdf(field.folded(latent), pool[which], 1e-3) - goal[which]).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if args.field is not None:
        write_bytes(args.field, save({**field.state_dict(), "latent": latent}))
    return field.requires_grad_(False), latent


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """The result, CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    return result, {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}


def measure_evaluation(field: IdentityField, latent: Tensor, fast: FastIdentity, mesh: SdfMesh, count: int) -> dict:
    """Rates on points uniform in the box and near the surface, and errors against double precision."""
    generator = torch.Generator().manual_seed(1)
    low, high = torch.tensor(BOX)
    pick = torch.randint(len(mesh.vertices), (count,), generator=generator)
    sets = {
        "box": low + (high - low) * torch.rand(count, 3, generator=generator),
        "near_surface": mesh.vertices[pick] + 0.005 * torch.randn(count, 3, generator=generator),
    }
    out = {}
    double = IdentityField(field.config, field.mean_anchors.double()).double()
    double.load_state_dict(field.state_dict())
    for name, points in sets.items():
        dense, dense_time = timed(lambda p=points: torch.cat([field(x, latent) for x in p.split(1000)]).detach())
        exact = torch.cat([double(x, latent.double()) for x in points.double().split(1000)]).detach()
        fast.value(points)
        ours, fast_time = timed(lambda p=points: fast.value(p.repeat(5, 1)))
        _, gradient_time = timed(lambda p=points: fast.value_and_gradient(p))
        out[name] = {
            "dense_points_per_cpu_s": count / dense_time["cpu_s"],
            "fast_points_per_cpu_s": 5 * count / fast_time["cpu_s"],
            "fast_with_gradient_points_per_cpu_s": count / gradient_time["cpu_s"],
            "fast_max_error": float((ours[:count] - exact).abs().max()),
            "dense_float32_max_error": float((dense - exact).abs().max()),
        }
    return out


def measure_extraction(fast: FastIdentity, resolution: int) -> tuple[SdfMesh, dict]:
    mesh, seconds = timed(lambda: extract_surface(fast, box_grid(resolution), normals=False))
    asked = {name: count for name, count in mesh.evaluated.items() if count}
    record = {**seconds, "points": asked, "vertices": len(mesh.vertices), "components": components(mesh)}
    return mesh, {**record, "peak_gib_so_far": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def measure_dense_grid(fast: FastIdentity, resolution: int) -> dict:
    """The whole grid with the same evaluation: are the narrow band's parts all there are?"""
    grid = box_grid(resolution)
    band, seconds = timed(lambda: dense_band(fast.value, grid))
    vertices, faces = march(band.values, band.cells, torch.tensor(grid.resolution))
    mesh = SdfMesh(grid.points(vertices), faces, None, {})
    sparse = extract_surface(fast, grid, normals=False)
    same = mesh.vertices.shape == sparse.vertices.shape
    return {
        **seconds,
        "components_dense": components(mesh),
        "components_narrow_band": components(sparse),
        "largest_vertex_difference": float((mesh.vertices - sparse.vertices).abs().max()) if same else None,
    }


def measure_posing(fast: FastIdentity, field: IdentityField, latent: Tensor, mesh: SdfMesh) -> dict:
    torch.manual_seed(1)
    expression = ExpressionField(ExpressionConfig()).requires_grad_(False)
    code = torch.randn(expression.config.latent) * 0.02
    folded = expression.folded(latent, code, field.anchors(latent))
    _, moved = timed(lambda: pose_mesh(mesh, folded, normals=False))
    _, normals = timed(lambda: fast.value_and_gradient(mesh.vertices, 1e-5))
    return {"vertices": len(mesh.vertices), "deformation": moved, "exact_normals_of_the_neutral": normals}


def measure_training(field: IdentityField, latent: Tensor, mesh: SdfMesh) -> dict:
    """One step of L_id, forward and backward with second derivatives: 2 heads of 500 points."""
    field = field.requires_grad_(True)
    generator = torch.Generator().manual_seed(2)
    pick = torch.randint(len(mesh.vertices), (2, 500), generator=generator)
    surface = mesh.vertices[pick]
    normals = torch.nn.functional.normalize(torch.randn(2, 500, 3, generator=generator), dim=-1)
    far = torch.randn(2, 60, 3, generator=generator) * 0.3
    batch = SurfaceBatch(
        surface[:, :190], normals[:, :190], surface[:, 190:250], normals[:, 190:250], surface[:, 250:], far
    )
    codes = (latent + 0.01 * torch.randn(2, len(latent), generator=generator)).requires_grad_()

    def step(sdf: Callable[[Tensor], Tensor]) -> None:
        terms = identity_terms(sdf, batch, codes)
        torch.autograd.grad(torch.stack(list(terms.values())).sum(), [codes, *field.ensembled_deep_sdf.parameters()])

    _, dense = timed(lambda: step(lambda points: field(points, codes)))
    _, culled = timed(lambda: step(lambda points: culled_sdf(field.folded(codes), points)))
    field.requires_grad_(False)
    return {"dense": dense, "culled": culled, "cpu_ratio": dense["cpu_s"] / culled["cpu_s"]}


def main(args: Args) -> None:
    torch.set_num_threads(args.threads)
    field, latent = fitted_field(args)
    fast = FastIdentity.of(field.folded(latent))
    record: dict[str, Any] = {
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
        },
        "threads": args.threads,
        "load_average": os.getloadavg(),
        "peak_gib_before": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "extraction": {},
    }
    mesh = None
    for resolution in args.resolutions:
        mesh, record["extraction"][str(resolution)] = measure_extraction(fast, resolution)
    assert mesh is not None, "at least one resolution"
    record["posing"] = measure_posing(fast, field, latent, mesh)
    record["evaluation"] = measure_evaluation(field, latent, fast, mesh, args.points)
    record["training_step"] = measure_training(field, latent, mesh)
    if args.dense_resolution:
        record["dense_grid"] = {"resolution": args.dense_resolution, **measure_dense_grid(fast, args.dense_resolution)}
    if args.output is None:
        print(record)
    else:
        write_json(args.output, record)


if __name__ == "__main__":
    main(tyro.cli(Args))
