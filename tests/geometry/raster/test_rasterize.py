"""The rasteriser is watertight, equal to its oracle, the same for any thread count, and safe to call badly."""

import inspect
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from headlab.geometry.raster import Raster, RasterError, interpolate, ops, rasterize
from headlab.geometry.raster import raster as raster_module

from .conftest import Scene, random_soup, sphere


@pytest.fixture
def restore_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def same(a: Raster, b: Raster) -> bool:
    return torch.equal(a.face, b.face) and torch.equal(a.bary, b.bary) and torch.equal(a.depth, b.depth)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cull", [False, True])
def test_equals_oracle(dtype: torch.dtype, layers: int, cull: bool) -> None:
    points, faces, size = random_soup(60, 1, (33, 47), 8.0, dtype)
    fast = rasterize(points, faces, size, near=0.1, cull=cull, layers=layers)
    slow = rasterize(points, faces, size, near=0.1, cull=cull, layers=layers, backend="torch")
    assert fast.mask.any() and fast.face.dtype == torch.int32
    differ = fast.face != slow.face
    assert differ.sum() <= (3 if dtype == torch.float32 else 0)  # float32 pixel coordinates round
    tolerance = 1e-4 if dtype == torch.float32 else 1e-9
    assert (fast.bary - slow.bary)[~differ].abs().max() <= tolerance
    assert (fast.depth - slow.depth)[~differ].abs().max() <= tolerance
    values = torch.randn(1, points.shape[1], 5, dtype=dtype)
    assert torch.allclose(
        interpolate(slow, values, faces), interpolate(slow, values, faces, backend="torch"), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["pinhole", "orthographic", "general"])
def test_depth_order_by_true_depth(kind: str) -> None:
    points, faces, size = random_soup(200, 3, (40, 40), 10.0, torch.float64)
    if kind == "orthographic":
        points = torch.cat(
            [points[..., :2] / points[..., 3:], points[..., 2:3] - 3, torch.ones_like(points[..., :1])], -1
        )
    if kind == "general":
        points = torch.cat([points[..., :2], points[..., 2:3] ** 2 + 0.3, points[..., 3:]], -1)
    fast = rasterize(points, faces, size, near=0.1)
    slow = rasterize(points, faces, size, near=0.1, backend="torch")
    assert torch.equal(fast.face, slow.face)
    single = rasterize(points.float(), faces, size, near=0.1)
    assert (single.face != slow.face).sum() <= 3


def grid_mesh(n: int, jitter: float, generator: torch.Generator, snap: float) -> tuple[Tensor, Tensor]:
    """A square of 2 n^2 triangles over 1..33 pixels with jittered inner vertices, each with a depth of its own."""
    line = torch.linspace(1, 33, n + 1)
    y, x = torch.meshgrid(line, line, indexing="ij")
    move = (torch.rand(2, n + 1, n + 1, generator=generator) - 0.5) * jitter
    move[:, [0, -1]], move[:, :, [0, -1]] = 0, 0
    xy = torch.stack([x + move[0], y + move[1]], -1).reshape(-1, 2)
    if snap:
        xy = (xy / snap).round() * snap
    i = torch.arange(n * (n + 1)).reshape(n, n + 1)[:, :n].reshape(-1)
    flip = torch.rand(len(i), generator=generator) < 0.5  # both diagonals, both windings
    a, b, c, d = i, i + 1, i + n + 1, i + n + 2
    first = torch.where(flip[:, None], torch.stack([a, b, c], -1), torch.stack([a, d, b], -1))
    second = torch.where(flip[:, None], torch.stack([b, c, d], -1), torch.stack([a, c, d], -1))
    return xy, torch.cat([first, second]).int()


@pytest.mark.parametrize("snap", [0.0, 0.5, 0.125])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_watertight(snap: float, dtype: torch.dtype) -> None:
    """Each pixel of a subdivided square is covered exactly once, vertices on pixel centres or not."""
    generator = torch.Generator().manual_seed(0)
    for n in (3, 8, 31, 80):
        xy, faces = grid_mesh(n, 12 / n if snap == 0 else 0.0, generator, snap)
        points = torch.cat([xy, torch.ones(len(xy), 2)], -1)[None].to(dtype)
        raster = rasterize(points, faces, (34, 34), layers=3)
        count = raster.mask.sum(-1)[0]
        assert (count[1:33, 1:33] == 1).all() and count.sum() == 32 * 32


def test_watertight_across_the_near_plane() -> None:
    generator = torch.Generator().manual_seed(5)
    xy, faces = grid_mesh(20, 0.8, generator, 0.0)
    x, z = xy[:, 0] - 17, (xy[:, 1] - 17) * 0.3
    points = torch.stack([10 * x + 32 * z, 4.0 * torch.ones_like(x) + 8 * z, z, z], -1)[None]
    count = rasterize(points, faces, (64, 64), near=0.02, layers=4).mask.sum(-1)
    assert count.max() == 1 and count.sum() > 500


def test_huge_triangles_and_coordinates() -> None:
    points = torch.tensor([[[-3e8, -1e8, 2, 1], [5e8, -1e8, 2, 1], [10.0, 7e8, 2, 1]]])
    raster = rasterize(points, torch.tensor([[0, 1, 2]]), (20, 30))
    assert raster.mask.all()
    assert torch.allclose(raster.depth, torch.tensor(2.0))


def test_result_does_not_depend_on_threads(restore_threads: None) -> None:
    points, faces, size = random_soup(3000, 2, (130, 170), 6.0, torch.float32)
    points = torch.cat([points, points.flip(0) * 1.01])
    values = torch.randn(1, points.shape[1], 7)
    results = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        p, v = points.clone().requires_grad_(), values.clone().requires_grad_()
        raster = rasterize(p, faces, size, near=0.1)
        (interpolate(raster, v, faces).square().sum() + raster.depth.sum()).backward()
        results.append((raster.face, raster.bary, raster.depth, p.grad, v.grad))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_batch_equals_single_items(ball: Scene) -> None:
    points, faces, size = ball
    shifted = torch.cat([points, points + points.new_tensor([2.0, -3.0, 0.1, 0.1])])
    both = rasterize(shifted, faces, size)
    other = rasterize(shifted, torch.stack([faces, faces]).long(), size)
    assert same(both, other)
    for i in range(2):
        one = rasterize(shifted[i : i + 1], faces, size)
        assert torch.equal(one.face[0], both.face[i]) and torch.equal(one.bary[0], both.bary[i])


def test_winding_and_culling(ball: Scene) -> None:
    points, faces, size = ball
    every = rasterize(points, faces, size)
    front = rasterize(points, faces, size, cull=True)
    back = rasterize(points, faces[:, [0, 2, 1]], size, cull=True)
    assert torch.equal(every.face, front.face)  # nearer half of a closed surface whose faces turn outwards
    assert torch.equal(back.mask, every.mask) and (back.depth > every.depth)[every.mask].all()
    u, v = (points[0, :, i] / points[0, :, 3] for i in range(2))
    f = faces[front.face[front.mask].unique()].long()
    area = (u[f[:, 1]] - u[f[:, 0]]) * (v[f[:, 2]] - v[f[:, 0]]) - (u[f[:, 2]] - u[f[:, 0]]) * (v[f[:, 1]] - v[f[:, 0]])
    assert (area < 0).all()


def test_ties_go_to_the_smaller_face() -> None:
    points = torch.tensor([[[1.3, 1, 2, 1], [30, 3, 5, 1], [7, 28.2, 3, 1]]])
    corners = torch.tensor([[2, 0, 1], [0, 1, 2], [1, 2, 0], [1, 0, 2], [0, 2, 1], [2, 1, 0]])
    for dtype in (torch.float32, torch.float64):
        raster = rasterize(points.to(dtype), corners, (32, 32), layers=6)
        assert raster.mask.any()
        assert (raster.face[raster.mask[..., 0]] == torch.arange(6)).all()


def test_sphere_depth_in_closed_form() -> None:
    verts, faces = sphere(200, 400)
    x, y, z = verts.unbind(-1)
    points = torch.stack([20 * x + 32, 20 * y + 32, z + 5, torch.ones_like(z)], -1)[None]
    raster = rasterize(points, faces, (64, 64))
    v, u = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    r2 = ((u - 32) ** 2 + (v - 32) ** 2) / 400
    inner = r2 < 0.9
    assert (raster.depth[0][inner] - (5 - (1 - r2[inner]).sqrt())).abs().max() < 1e-3
    normals = interpolate(raster, verts[None], faces)[0]
    assert (normals[inner].norm(dim=-1) - 1).abs().max() < 1e-3


def test_attributes_of_any_width_and_other_faces(ball: Scene) -> None:
    points, faces, size = ball
    raster = rasterize(points, faces, size)
    for width in (0, 1, 3, 8, 9, 16, 17, 40):
        values = torch.randn(1, points.shape[1], width, dtype=torch.float64)
        assert torch.allclose(interpolate(raster, values, faces), interpolate(raster, values, faces, backend="torch"))
    own = torch.arange(faces.numel()).reshape(-1, 3)  # UV faces: other vertices, same order
    values = torch.randn(1, faces.numel(), 2, dtype=torch.float64)
    corners = values[0, own][raster.face[0].clamp(min=0).long()]
    expected = (corners * raster.bary[0, ..., None]).sum(-2) * raster.mask[0, ..., None]
    assert torch.allclose(interpolate(raster, values, own)[0], expected)


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_empty_inputs(backend: str) -> None:
    no_faces, no_points = torch.zeros(0, 3, dtype=torch.int64), torch.zeros(1, 0, 4)
    one = torch.zeros(1, 3, 4)
    for points, faces, size in (
        (no_points, no_faces, (4, 5)),
        (one, no_faces, (4, 5)),
        (torch.zeros(0, 3, 4), torch.zeros(1, 3, dtype=torch.int64), (4, 5)),
        (one, torch.full((2, 3), -1), (4, 5)),
        (one, torch.tensor([[0, 1, 2]]), (0, 5)),
        (one, torch.tensor([[0, 1, 2]]), (4, 0)),
    ):
        raster = rasterize(points.requires_grad_(), faces, size, backend=backend)
        assert raster.face.shape == (points.shape[0], *size) and not raster.mask.any()
        assert raster.bary.shape == (points.shape[0], *size, 3) and not raster.depth.any()
        values = interpolate(raster, torch.zeros(1, points.shape[1], 2), faces, backend=backend)
        assert values.shape == (points.shape[0], *size, 2)
        if backend == "native":
            (values.sum() + raster.depth.sum()).backward()


def test_large_pictures() -> None:
    points = torch.tensor([[[0.0, 0, 1, 1], [20000, 0, 1, 1], [20000, 3, 1, 1], [0, 3, 1, 1]]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    for size in ((3, 20000), (20000, 3)):
        p = points if size[0] == 3 else points[..., [1, 0, 2, 3]]
        raster = rasterize(p, faces, size)
        assert raster.mask.all() and (raster.bary.sum(-1) - 1).abs().max() < 1e-4


def test_non_contiguous_input_and_gradient(ball: Scene) -> None:
    points, faces, size = ball
    strided = points.expand(2, -1, -1)[..., [0, 1, 2, 3]].transpose(1, 2).contiguous().transpose(1, 2)
    raster = rasterize(strided.requires_grad_(), faces.t().contiguous().t(), size)
    assert torch.equal(raster.face[0], rasterize(points, faces, size).face[0])
    raster.depth.transpose(1, 2).sum().backward()  # an expanded gradient


def test_bad_input_is_named(ball: Scene) -> None:
    rasterize, interpolate = inspect.unwrap(raster_module.rasterize), inspect.unwrap(raster_module.interpolate)
    points, faces, size = ball  # unwrapped: without the shape checks that only tests make
    bad = points.clone()
    bad[0, 3, 1] = float("nan")
    infinite = points.clone()
    infinite[0, 0, 0] = float("inf")
    high, low, partly = faces.clone(), faces.clone(), faces.clone()
    high[4, 1], low[4, 2], partly[4, 0] = points.shape[1], -2, -1
    cases = [
        (lambda: rasterize(bad, faces, size), "NaN"),
        (lambda: rasterize(infinite, faces, size), "NaN"),
        (lambda: rasterize(points, high, size), "outside"),
        (lambda: rasterize(points, high.long() + 2**33, size), "outside"),
        (lambda: rasterize(points, low, size), "outside"),
        (lambda: rasterize(points, partly, size), "outside"),
        (lambda: rasterize(points, faces, (-1, 5)), "size"),
        (lambda: rasterize(points, faces, (5, 40000)), "size"),
        (lambda: rasterize(points, faces, size, near=0.0), "near"),
        (lambda: rasterize(points, faces, size, near=float("nan")), "near"),
        (lambda: rasterize(points, faces, size, layers=0), "layers"),
        (lambda: rasterize(points, faces, size, backend="quick"), "backend"),
        (lambda: rasterize(points, faces.expand(3, -1, -1), size), "faces must have shape"),
        (lambda: rasterize(points, faces.to("meta"), size), "meta"),
    ]
    for call, word in cases:
        with pytest.raises(RasterError, match=word) as caught:
            call()
        assert isinstance(caught.value, ValueError) and "\n" not in str(caught.value)
    raster = rasterize(points, faces, size)
    values = torch.zeros(1, points.shape[1], 2, dtype=torch.float64)
    with pytest.raises(RasterError, match="do not"):
        interpolate(raster, values, faces[:3])
    with pytest.raises(RasterError, match="outside"):
        interpolate(raster, values[:, :5], faces)
    with pytest.raises(RasterError, match="float"):
        interpolate(raster, values.float(), faces)
    with pytest.raises(RasterError, match="shape"):
        interpolate(raster, values.expand(3, -1, -1), faces)


def test_registered_with_torch(ball: Scene) -> None:
    points, faces, size = ball
    p = points.clone().requires_grad_()
    # opcheck's whole-graph test cannot add up integer outputs (torch 2.13); test_compiles_whole covers these.
    utils = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(ops.rasterize, (p, faces, *size, 1e-3, False, 2), test_utils=utils)
    raster = rasterize(points, faces, size)
    values = torch.randn(1, points.shape[1], 3, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(ops.interpolate, (values, faces, raster.face, raster.bary.clone().requires_grad_()))
    torch.library.opcheck(
        ops.antialias,
        (interpolate(raster, values.detach(), faces).requires_grad_(), p, faces, raster.face, raster.depth, 1e-3),
    )
    torch.library.opcheck(ops.closest_point, (points[0, :, :3][None], faces, points[:, :20, :3] + 1), test_utils=utils)
    torch.library.opcheck(ops.vertex_normals, (p[..., :3].detach().contiguous().requires_grad_(), faces))


COMPILE = """
import torch
from headlab.geometry.raster import antialias, interpolate, rasterize, vertex_normals

points = torch.tensor([[[1.0, 1, 1, 1], [40, 3, 2, 2], [5, 44, 2, 2], [30, 30, 1.5, 1.5]]], dtype=torch.float64)
faces = torch.tensor([[0, 1, 2], [1, 3, 2]])

def loss(points, values):
    raster = rasterize(points, faces, (24, 24))
    image = antialias(interpolate(raster, values, faces), raster, points, faces)
    return (image ** 2).sum() + raster.depth.sum() + vertex_normals(points[..., :3], faces).sum()

def gradients(function):
    p, v = points.clone().requires_grad_(), torch.ones(1, 4, 3, dtype=torch.float64).requires_grad_()
    function(p, v).backward()
    assert p.grad.any() and v.grad.any()
    return p.grad, v.grad

eager, compiled = gradients(loss), gradients(torch.compile(loss, backend="aot_eager", fullgraph=True))
assert all(torch.allclose(a, b) for a, b in zip(eager, compiled))
"""


def test_compiles_whole() -> None:
    """In a process of its own: the tests' shape checks are not for the compiler's eyes."""
    subprocess.run([sys.executable, "-c", COMPILE], check=True, timeout=300)


FORK = """
import os, torch
from headlab.geometry.raster import rasterize
torch.set_num_threads(2)
points = torch.rand(4, 300, 4) * 50 + 1
faces = torch.arange(300).reshape(-1, 3)
expected = rasterize(points, faces, (64, 64))
child = os.fork()
if child == 0:
    got = rasterize(points, faces, (64, 64))
    os._exit(0 if torch.equal(got.face, expected.face) and torch.equal(got.bary, expected.bary) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def test_works_in_a_forked_child() -> None:
    """A child process has none of its parent's pool threads: it must start its own, not wait for them."""
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=120)


def test_reused_memory_belongs_to_one_tensor(ball: Scene) -> None:
    """Large pictures take the memory of freed ones, never that of living ones."""
    points, faces, _ = ball
    size = (600, 500)
    points = (points * torch.tensor([12.0, 12.0, 1.0, 1.0], dtype=points.dtype)).float()
    first = rasterize(points, faces, size)
    kept = [first.face.clone(), first.bary.clone(), first.depth.clone()]
    for shift in range(3):
        moved = points + torch.tensor([40.0 * shift, 0, 0, 0])
        second = rasterize(moved, faces, size)
        assert second.mask.any() and second.face.data_ptr() != first.face.data_ptr()
    assert all(torch.equal(a, b) for a, b in zip(kept, (first.face, first.bary, first.depth), strict=True))
    where = first.depth.data_ptr()
    part = first.depth[0, 100:200]  # a view keeps the whole
    del first
    assert rasterize(points, faces, size).depth.data_ptr() != where
    assert torch.equal(part, kept[2][0, 100:200])
    copy = pickle.loads(pickle.dumps(second.depth.share_memory_()))
    assert torch.equal(copy, second.depth)
