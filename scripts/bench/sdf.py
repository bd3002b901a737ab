"""How fast NPHM's fields are evaluated and extracted here, beside the plain dense way.

    python -m headlab.scripts.bench.sdf --output scripts/bench/results/sdf.json

The field has the released configuration and our own anchors, fitted for some hundred steps to an analytic head-like
shape (ellipsoids for skull, jaw, nose and ears, a cylinder for the neck); its speed does not depend on how well. The
deformation has the released configuration and fresh weights. The peer, `upstream_style`, evaluates as the authors' code
does: every member at every point of the grid, latents repeated for each point, 25,000 points at a time. It is timed on
one such batch and its whole grid extrapolated from that, in the same run. CPU seconds are the process's, all threads
together; wall times mean little on a busy machine, so the load is noted. Memory is that of a process of its own which
reads the field and extracts.
"""

import os
import platform
import subprocess
import sys
import tempfile
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
from ...geometry.sdf.anchors import FieldFrame, mean_anchors
from ...geometry.sdf.blend import member_weights, normalised
from ...geometry.sdf.blended_gradient import ensemble_value_and_gradient
from ...geometry.sdf.culled import SHARE, culled_sdf
from ...geometry.sdf.expression import ExpressionConfig, ExpressionField
from ...geometry.sdf.extract import SdfMesh, box_grid, components, extract_surface, pose_mesh
from ...geometry.sdf.fast import FastIdentity
from ...geometry.sdf.field_files import save_fields
from ...geometry.sdf.frame import BOX
from ...geometry.sdf.head_fields import HeadFields
from ...geometry.sdf.identity import IdentityConfig, IdentityField, local_coordinates
from ...geometry.sdf.losses import SurfaceBatch, identity_terms, surface_terms
from ...geometry.sdf.marching import march
from ...geometry.sdf.mlp import BETA
from ...geometry.sdf.narrow_band import dense_band


@dataclass(frozen=True)
class Args:
    """What to measure."""

    output: Path | None = None  #: JSON file to write; printed if absent
    field: Path | None = None  #: safetensors of a fitted field: read if it is there, else written
    steps: int = 300  #: of fitting the field
    resolutions: tuple[int, ...] = (64, 128, 256)
    dense_resolution: int = 128  #: where the narrow band is compared with the whole grid; 0 for nowhere
    points: int = 4000  #: for errors
    upstream_points: int = 25000  #: of the batch on which the upstream-style evaluation is timed
    training_points: int = 2093  #: of one head in a training step; as released: 750 + 250 + 1000 + 93
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


def upstream_style(field: IdentityField, latent: Tensor, points: Tensor) -> Tensor:
    """The field as the authors' code evaluates it: [point, latents] of every member at every point, nothing folded."""
    layout, mlp = field.layout, field.ensembled_deep_sdf
    shared, own = layout.split(latent)
    head = field.folded(latent)  # for the anchors alone
    count, sets = points.shape[0], layout.set_of_member()
    local = local_coordinates(head, points)
    known = torch.cat([shared.expand(layout.members, -1), own], -1)
    inputs = torch.cat([local, known[:, None].expand(-1, count, -1)], -1)
    hidden = inputs
    for number in range(mlp.depth):
        linear = mlp.linear(number)
        if number == (mlp.depth - 1) // 2:
            hidden = torch.cat([hidden, inputs], -1) / 2**0.5
        hidden = torch.baddbmm(linear.bias[sets][:, None], hidden, linear.weight[sets].mT)
        if number < mlp.depth - 1:
            hidden = torch.nn.functional.softplus(hidden, BETA)
    return (normalised(member_weights(points, head.anchors)) * hidden.squeeze(-1).mT).sum(-1)


def measure_upstream(field: IdentityField, latent: Tensor, count: int, resolution: int, ours: dict) -> dict:
    """The peer on one batch of grid points, and how much longer its whole grid would take than our extraction."""
    low, high = torch.tensor(BOX)
    points = low + (high - low) * torch.rand(count, 3, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        _, seconds = timed(lambda: upstream_style(field, latent, points))
    whole = {f"grid_{name}": value * resolution**3 / count for name, value in seconds.items()}
    ratios = {name: whole[f"grid_{name}"] / ours[name] for name in seconds}
    return {**seconds, "points": count, "resolution": resolution, "extrapolated": whole, "ratio": ratios}


def measure_errors(field: IdentityField, latent: Tensor, fast: FastIdentity, mesh: SdfMesh, count: int) -> dict:
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
        dense = torch.cat([field(x, latent) for x in points.split(1000)]).detach()
        exact = torch.cat([double(x, latent.double()) for x in points.double().split(1000)]).detach()
        many = points.repeat(5, 1)
        ours, fast_time = timed(lambda p=many: fast.value(p))
        _, gradient_time = timed(lambda p=many: fast.value_and_gradient(p))
        out[name] = {
            "fast_points_per_cpu_s": 5 * count / fast_time["cpu_s"],
            "fast_with_gradient_points_per_cpu_s": 5 * count / gradient_time["cpu_s"],
            "fast_max_error": float((ours[:count] - exact).abs().max()),
            "dense_float32_max_error": float((dense - exact).abs().max()),
        }
    return out


def measure_extraction(fast: FastIdentity, resolution: int, normals: bool) -> tuple[SdfMesh, dict]:
    mesh, seconds = timed(lambda: extract_surface(fast, box_grid(resolution), normals=normals))
    asked = {name: count for name, count in mesh.evaluated.items() if count}
    return mesh, {**seconds, "points": asked, "vertices": len(mesh.vertices), "components": components(mesh)}


#: What the process does whose memory is measured.
_ALONE = """
import re, sys, torch
from pathlib import Path
from headlab.geometry.sdf.field_files import load_fields
torch.set_num_threads(int(sys.argv[3]))
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 2**20
fields = load_fields(Path(sys.argv[1]))
before = peak()
mesh = fields.extract(fields.identity_latents[0], None, int(sys.argv[2]))
print(before, peak(), len(mesh.vertices))
"""


def measure_memory(field: IdentityField, latent: Tensor, resolution: int, threads: int) -> dict:
    """Peak resident memory of a process that reads the field and extracts it, with exact normals."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "field.safetensors"
        fields = HeadFields(field, None, latent[None], torch.zeros(0, 0), FieldFrame(torch.zeros(3)))
        save_fields(path, fields)
        command = [sys.executable, "-c", _ALONE, str(path), str(resolution), str(threads)]
        before, peak, _ = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return {"resolution": resolution, "libraries_and_field_gib": float(before), "peak_gib": float(peak)}


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
        "points": band.evaluated["exact"],
        "largest_vertex_difference": float((mesh.vertices - sparse.vertices).abs().max()) if same else None,
    }


def measure_posing(fast: FastIdentity, field: IdentityField, latent: Tensor, mesh: SdfMesh, neutral: dict) -> dict:
    """A posed extraction beside a neutral one: the same surface, moved, with normals of its own triangles."""
    torch.manual_seed(1)
    expression = ExpressionField(ExpressionConfig()).requires_grad_(False)
    code = torch.randn(expression.config.latent) * 0.02
    folded = expression.folded(latent, code, field.anchors(latent))
    resolution = neutral["resolution"]

    def posed() -> SdfMesh:
        return pose_mesh(extract_surface(fast, box_grid(resolution), normals=False), folded)

    _, seconds = timed(posed)
    _, moved = timed(lambda: pose_mesh(mesh, folded))
    ratios = {f"ratio_{name}": seconds[name] / neutral[name] for name in seconds}
    return {**seconds, **ratios, "moving_alone": moved, "vertices": len(mesh.vertices)}


def measure_training(field: IdentityField, latent: Tensor, mesh: SdfMesh, count: int) -> dict:
    """One step of L_id for one head of the released batch: forward, and backward to latents and weights.

    The upstream-style step differentiates its dense evaluation twice, as the authors' does.
    """
    field = field.requires_grad_(True)
    generator = torch.Generator().manual_seed(2)
    parts = [count * n // 2093 for n in (750, 250, 1000, 93)]
    pick = torch.randint(len(mesh.vertices), (1, sum(parts[:3])), generator=generator)
    surface = mesh.vertices[pick]
    normals = torch.nn.functional.normalize(torch.randn(surface.shape, generator=generator), dim=-1)
    far = torch.randn(1, parts[3], 3, generator=generator) * 0.3
    face, rest, near = surface.split(parts[:3], 1)
    batch = SurfaceBatch(face, normals[:, : parts[0]], rest, normals[:, parts[0] : parts[0] + parts[1]], near, far)
    codes = (latent + 0.01 * torch.randn(1, len(latent), generator=generator)).requires_grad_()
    wanted = [codes, *field.ensembled_deep_sdf.parameters()]

    def finish(terms: dict[str, Tensor]) -> None:
        torch.autograd.grad(torch.stack(list(terms.values())).sum(), wanted)

    def ours() -> None:
        value, gradient = ensemble_value_and_gradient(field.folded(codes), batch.points(), SHARE)
        finish(surface_terms(value, gradient, batch, codes))

    def theirs() -> None:
        finish(identity_terms(lambda points: upstream_style(field, codes[0], points[0])[None], batch, codes))

    ours()
    _, fast = timed(ours)
    _, dense = timed(theirs)
    field.requires_grad_(False)
    ratios = {name: dense[name] / fast[name] for name in fast}
    return {"points": sum(parts), "heads": 1, "upstream_style": dense, "ours": fast, "ratio": ratios}


def main(args: Args) -> None:
    torch.set_num_threads(args.threads)
    field, latent = fitted_field(args)
    fast = FastIdentity.of(field.folded(latent))
    largest = max(args.resolutions)
    record: dict[str, Any] = {
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
        },
        "threads": args.threads,
        "load_average": os.getloadavg(),
        "extraction": {},
    }
    extract_surface(fast, box_grid(32))  # the first call of everything
    mesh = None
    for resolution in args.resolutions:
        mesh, plain = measure_extraction(fast, resolution, False)
        _, exact = measure_extraction(fast, resolution, True)
        record["extraction"][str(resolution)] = {"without_normals": plain, "with_exact_normals": exact}
    assert mesh is not None, "at least one resolution"
    exact = record["extraction"][str(largest)]["with_exact_normals"]
    record["memory"] = measure_memory(field, latent, largest, args.threads)
    record["posing"] = measure_posing(fast, field, latent, mesh, {**exact, "resolution": largest})
    record["evaluation"] = measure_errors(field, latent, fast, mesh, args.points)
    record["upstream_style"] = measure_upstream(field, latent, args.upstream_points, largest, exact)
    record["training_step"] = measure_training(field, latent, mesh, args.training_points)
    if args.dense_resolution:
        record["dense_grid"] = {"resolution": args.dense_resolution, **measure_dense_grid(fast, args.dense_resolution)}
    if args.output is None:
        print(record)
    else:
        write_json(args.output, record)


if __name__ == "__main__":
    main(tyro.cli(Args))
