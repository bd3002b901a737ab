"""The peers of the rasteriser benchmark: each makes a call that draws a scene and returns its last item's face map.

A peer is offered where its package can be imported; `None` says that it does not do the task. Peers without batches
draw one item after the other. headlab held to AVX2 is one of them.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...geometry.raster import ops
from ...geometry.raster.native import passing_capsules

CHANNELS = 9

Call = Callable[[], object]


@dataclass(frozen=True)
class Scene:
    """A batch of meshes before a pinhole camera."""

    vertices: Tensor  #: (V, 3) in camera axes, z forward
    faces: Tensor  #: (F, 3) int32
    points: Tensor  #: (batch, V, 4)
    size: int
    focal: float


@cache
def _avx2_module() -> ModuleType:
    """A second copy of the native module, which picks its instructions once, when it is loaded."""
    name = "headlab.geometry._native"
    found = find_spec(name)
    assert found is not None and found.origin is not None
    with TemporaryDirectory() as folder:
        target = Path(folder) / Path(found.origin).name
        shutil.copyfile(found.origin, target)
        spec = spec_from_file_location(name, target)
        assert spec is not None and spec.loader is not None
        before = os.environ.get("HEADLAB_SIMD")
        os.environ["HEADLAB_SIMD"] = "avx2"
        try:
            module = module_from_spec(spec)
            spec.loader.exec_module(module)
        finally:
            os.environ.pop("HEADLAB_SIMD")
            if before is not None:
                os.environ["HEADLAB_SIMD"] = before
    return passing_capsules(module)


def headlab_avx2(scene: Scene, task: str) -> Call | None:
    """headlab itself held to AVX2."""
    from .raster import ours

    if scene.points.device.type != "cpu" or _avx2_module().simd != "avx2":
        return None
    call, default = ours(scene, task), ops.module_for

    def held() -> object:
        ops.module_for = lambda tensor: _avx2_module()
        try:
            return call()
        finally:
            ops.module_for = default

    return held


def embree(scene: Scene, task: str) -> Call | None:
    """Open3D's Embree rays through the pixel centres, the tree built beforehand."""
    return _rays(scene, task, rebuild=False)


def embree_build(scene: Scene, task: str) -> Call | None:
    """The same with the tree built anew for each mesh, as a fit must."""
    return _rays(scene, task, rebuild=True)


def _rays(scene: Scene, task: str, rebuild: bool) -> Call | None:
    if task != "forward":
        return None
    import open3d as o3d  # type: ignore[import-not-found]

    v, u = torch.meshgrid(torch.arange(scene.size) + 0.5, torch.arange(scene.size) + 0.5, indexing="ij")
    half = scene.size / 2
    rays = torch.stack([(u - half) / scene.focal, (v - half) / scene.focal, torch.ones_like(u)], -1)
    rays = o3d.core.Tensor(torch.cat([torch.zeros_like(rays), rays], -1).numpy())  # pyright: ignore[reportCallIssue]
    vertices = o3d.core.Tensor(scene.vertices.numpy())  # pyright: ignore[reportCallIssue]
    faces = o3d.core.Tensor(scene.faces.numpy().astype("uint32"))  # pyright: ignore[reportCallIssue]
    threads = torch.get_num_threads()

    def build() -> Any:
        world = o3d.t.geometry.RaycastingScene(nthreads=threads)
        world.add_triangles(vertices, faces)
        return world

    built = build()

    def cast() -> object:
        answer: Any = None
        for _ in range(scene.points.shape[0]):
            answer = (build() if rebuild else built).cast_rays(rays, nthreads=threads)
        return answer["primitive_ids"].numpy()

    return cast


VERTEX = """
#version 330
in vec4 point; flat out float face; out vec2 weights; out float depth; uniform float size;
void main() {
    int corner = gl_VertexID % 3;
    face = float(gl_VertexID / 3 + 1);
    weights = vec2(corner == 1, corner == 2);
    depth = point.z;
    gl_Position = vec4(2.0 / size * point.xy - point.w, point.w - 0.02, point.w);
}"""
FRAGMENT = """
#version 330
flat in float face; in vec2 weights; in float depth; out vec4 result;
void main() { result = vec4(face, weights, depth); }"""


def llvmpipe(scene: Scene, task: str) -> Call | None:
    """OpenGL on the CPU by Mesa's llvmpipe, off screen: upload, draw, read face, two weights and depth back."""
    if task != "forward":
        return None
    os.environ["LIBGL_ALWAYS_SOFTWARE"] = "1"
    os.environ["LP_NUM_THREADS"] = str(torch.get_num_threads())
    import moderngl  # type: ignore[import-not-found]

    gl = moderngl.create_standalone_context(backend="egl")
    if "llvmpipe" not in gl.info["GL_RENDERER"]:
        return None
    program = gl.program(vertex_shader=VERTEX, fragment_shader=FRAGMENT)
    program["size"].value = scene.size
    buffer = gl.buffer(reserve=scene.faces.numel() * 16)
    mesh = gl.vertex_array(program, [(buffer, "4f", "point")])
    size = (scene.size, scene.size)
    target = gl.framebuffer([gl.texture(size, 4, dtype="f4")], gl.depth_texture(size))
    target.use()
    gl.enable(moderngl.DEPTH_TEST)
    corners = scene.faces.long().reshape(-1)

    def draw() -> object:
        answer = np.empty(0, np.float32)
        for item in scene.points:
            buffer.write(item[corners].numpy())
            target.clear()
            mesh.render()
            answer = np.frombuffer(target.read(components=4, dtype="f4"), np.float32)
        return answer.reshape(*size, 4)[..., 0] - 1

    return draw


def numba(scene: Scene, task: str) -> Call | None:
    """A plain z-buffer loop over triangles and their boxes, compiled by Numba, one thread."""
    if task != "forward":
        return None
    import numba as nb  # type: ignore[import-not-found]

    @nb.njit(fastmath=True)
    def fill(points, faces, face, bary, depth):  # type: ignore[no-untyped-def]
        height, width = face.shape
        face[:], bary[:], depth[:] = -1, 0, np.float32(np.inf)
        for f in range(len(faces)):
            p, q, r = points[faces[f, 0]], points[faces[f, 1]], points[faces[f, 2]]
            x0, y0, x1, y1, x2, y2 = p[0] / p[3], p[1] / p[3], q[0] / q[3], q[1] / q[3], r[0] / r[3], r[1] / r[3]
            area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
            if area == 0:
                continue
            left, right = max(0, int(min(x0, x1, x2))), min(width, int(max(x0, x1, x2)) + 1)
            top, bottom = max(0, int(min(y0, y1, y2))), min(height, int(max(y0, y1, y2)) + 1)
            i0, i1, i2 = 1 / (area * p[3]), 1 / (area * q[3]), 1 / (area * r[3])
            for y in range(top, bottom):
                for x in range(left, right):
                    u, v = x + np.float32(0.5), y + np.float32(0.5)
                    a = ((x1 - u) * (y2 - v) - (x2 - u) * (y1 - v)) * i0
                    b = ((x2 - u) * (y0 - v) - (x0 - u) * (y2 - v)) * i1
                    c = ((x0 - u) * (y1 - v) - (x1 - u) * (y0 - v)) * i2
                    if a < 0 or b < 0 or c < 0:
                        continue
                    total = 1 / (a + b + c)
                    z = (a * p[2] + b * q[2] + c * r[2]) * total
                    if z < depth[y, x]:
                        depth[y, x], face[y, x] = z, f
                        bary[y, x, 0], bary[y, x, 1], bary[y, x, 2] = a * total, b * total, c * total

    size = (scene.size, scene.size)
    face, bary, depth = np.empty(size, np.int32), np.empty((*size, 3), np.float32), np.empty(size, np.float32)
    points, faces = scene.points.numpy(), scene.faces.numpy()

    def draw() -> object:
        for item in points:
            fill(item, faces, face, bary, depth)
        return face

    return draw


def pytorch3d(scene: Scene, task: str) -> Call | None:
    """Its coarse-to-fine or naive rasteriser, whichever it picks for the device."""
    from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes  # type: ignore[import-not-found]
    from pytorch3d.structures import Meshes  # type: ignore[import-not-found]

    batch, size = scene.points.shape[0], scene.size
    x, y, z = scene.vertices.unbind(-1)
    verts = torch.stack([-2 * scene.focal / size * x / z, -2 * scene.focal / size * y / z, z], -1)
    verts.requires_grad_(task == "train")
    values = torch.rand(len(x), CHANNELS, device=verts.device, requires_grad=True)

    def call() -> object:
        meshes = Meshes([verts] * batch, [scene.faces.long()] * batch)
        face, _, bary, _ = rasterize_meshes(meshes, size, faces_per_pixel=1, perspective_correct=True)
        if task == "forward":
            return (face[-1, :, :, 0] - (batch - 1) * len(scene.faces)).cpu().numpy()
        corners = values[scene.faces.long()][(face % len(scene.faces)).clamp(min=0)]
        image = (corners * bary[..., None]).sum(-2) * (face >= 0)[..., None]
        return torch.autograd.grad(image.sum(), (verts, values))

    return call


def nvdiffrast(scene: Scene, task: str) -> Call | None:
    """Its CUDA rasteriser."""
    if scene.points.device.type != "cuda":
        return None
    import nvdiffrast.torch as dr  # type: ignore[import-not-found]

    context = dr.RasterizeCudaContext()
    x, y, _, w = scene.points.unbind(-1)
    clip = torch.stack([2 * x / scene.size - w, 2 * y / scene.size - w, w - 0.02, w], -1).contiguous()
    clip.requires_grad_(task == "train")
    values = torch.rand(1, clip.shape[1], CHANNELS, device=clip.device, requires_grad=True)

    def call() -> object:
        raster, _ = dr.rasterize(context, clip, scene.faces, (scene.size, scene.size))
        if task == "forward":
            return raster
        image, _ = dr.interpolate(values, raster, scene.faces)
        return torch.autograd.grad(image.sum(), (clip, values))

    return call


#: Name -> the package that it needs, and how to make its call.
PEERS: dict[str, tuple[str, Callable[[Scene, str], Call | None]]] = {
    "headlab_avx2": ("headlab", headlab_avx2),
    "embree": ("open3d", embree),
    "embree_build": ("open3d", embree_build),
    "llvmpipe": ("moderngl", llvmpipe),
    "numba": ("numba", numba),
    "pytorch3d": ("pytorch3d", pytorch3d),
    "nvdiffrast": ("nvdiffrast", nvdiffrast),
}
