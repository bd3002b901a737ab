"""The conversions to other rasterisers and back. None of them can be installed here: their documented functions are
played by fakes, PyTorch3D's by what version 0.7.9 answered (parity/raster)."""

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from headlab.geometry.raster import RasterError, interpolate, peers, rasterize
from headlab.geometry.raster.peers import kaolin, nvdiffrast

from .conftest import Scene, from_ndc, random_soup

Read = Callable[[str], dict[str, np.ndarray]]


def install(monkeypatch: pytest.MonkeyPatch, **functions: object) -> None:
    """Modules by dotted name (double underscores for dots), parents included."""
    for name, attributes in functions.items():
        parts = name.split("__")
        for end in range(1, len(parts) + 1):
            path = ".".join(parts[:end])
            module = ModuleType(path)
            module.__dict__.update(attributes if end == len(parts) else {"__path__": []})  # type: ignore[arg-type]
            if end == len(parts) or path not in sys.modules:
                monkeypatch.setitem(sys.modules, path, module)
            if end > 1:
                setattr(sys.modules[".".join(parts[: end - 1])], parts[end - 1], module)


def covering(corners: Tensor, key: Tensor, centres: Tensor) -> Tensor:
    """Faces over each point of a picture, sorted by a key that is affine over the screen; -1 fills up.

    corners (F, 3, 2), key (F, 3), centres (H, W, 2) -> (H, W, F).
    """
    a, b, c = corners.double().unbind(1)

    def cross(p: Tensor, q: Tensor) -> Tensor:
        return p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]

    p = centres.double()[:, :, None]
    area = cross(b - a, c - a)
    weights = torch.stack([cross(b - p, c - p), cross(c - p, a - p), cross(a - p, b - p)], -1) / area[:, None]
    inside = (weights > 0).all(-1)
    value = torch.where(inside, (weights * key.double()).sum(-1), torch.inf)
    value, order = value.sort(-1)
    return torch.where(value < torch.inf, order, -1)


def grid(size: tuple[int, int], top: float, bottom: float) -> Tensor:
    """Pixel centres with x in -1..1 left to right and y from `top` to `bottom`: (H, W, 2)."""
    height, width = size
    y = top + (bottom - top) * (torch.arange(height).double() + 0.5) / height
    x = -1 + 2 * (torch.arange(width).double() + 0.5) / width
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


class Peeler:
    """nvdiffrast.torch as documented: clip coordinates in; (u, v, z / w, face number from 1) out, row 0 at y = -1."""

    def __init__(self, context: object, pos: Tensor, tri: Tensor, resolution: tuple[int, int], grad_db: bool) -> None:
        assert pos.shape[0] == 1 and pos.dtype == torch.float32 and tri.dtype == torch.int32 and pos.is_contiguous()
        assert resolution[0] % 8 == 0 and resolution[1] % 8 == 0 and context == "context"
        clip = pos[0][tri.long()].double()
        depth = clip[..., 2] / clip[..., 3]
        whole = (depth >= -1).all(1) & (clip[..., 3] > 0).all(1)  # this fake does not clip
        assert depth[whole].max() <= 1
        found = covering(clip[..., :2] / clip[..., 3:], depth, grid(resolution, -1, 1))
        self.layers = iter(torch.where((found >= 0) & whole[found], found, -1).unbind(-1))

    def __enter__(self) -> "Peeler":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def rasterize_next_layer(self) -> tuple[Tensor, None]:
        face = next(self.layers)
        return torch.stack([*[torch.full(face.shape, 9.0)] * 3, face + 1.0], -1)[None], None


def fake_kaolin(
    height: int,
    width: int,
    face_vertices_z: Tensor,
    face_vertices_image: Tensor,
    face_features: Tensor,
    valid_faces: Tensor,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """Kaolin's documented face: x right, y up in -1..1, row 0 at y = 1, the largest z is the nearest."""
    assert (
        backend == "cuda" and face_features.shape[:3] == face_vertices_z.shape and face_vertices_image.isfinite().all()
    )
    valid = valid_faces[0].nonzero().squeeze(1)
    found = covering(face_vertices_image[0, valid], -face_vertices_z[0, valid], grid((height, width), 1, -1))[..., 0]
    face = torch.where(found >= 0, valid[found], -1)
    return torch.zeros(1, height, width, 1), face[None]


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(*args: object, grad_db: bool) -> tuple[Tensor, None]:
        return Peeler(*args, grad_db=grad_db).rasterize_next_layer()  # type: ignore[arg-type]

    install(
        monkeypatch,
        nvdiffrast__torch={
            "RasterizeCudaContext": lambda device: "context",
            "rasterize": draw,
            "DepthPeeler": Peeler,
        },
        kaolin__render__mesh={"rasterize": fake_kaolin},
    )
    for module in (nvdiffrast, kaolin):
        monkeypatch.setattr(module, "DEVICE", "cpu")


def orthographic(scene: Scene) -> Scene:
    points, faces, size = scene
    pixels, depth = points[..., :2] / points[..., 3:], points[..., 2:3] * 3 - 5  # negative depths too
    return torch.cat([pixels, depth, torch.ones_like(depth)], -1), faces, size


def soup(camera: str) -> Scene:
    points, faces, size = random_soup(40, 3, (21, 27), 6.0, torch.float64)
    points[..., 2:] = points[..., 2:].clamp(min=0.5) + 0.01 * torch.arange(120).reshape(-1, 1).to(points)
    points[..., 3] = points[..., 2]
    scene = points, torch.cat([faces[:9], torch.full((2, 3), -1, dtype=torch.int32), faces[9:]]), size
    return orthographic(scene) if camera == "orthographic" else scene


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize("cull", [False, True])
@pytest.mark.parametrize("camera", ["pinhole", "orthographic"])
@pytest.mark.parametrize(("backend", "layers"), [("nvdiffrast", 1), ("nvdiffrast", 3), ("kaolin", 1)])
def test_same_as_native(backend: str, layers: int, camera: str, cull: bool) -> None:
    points, faces, size = soup(camera)
    points = torch.cat([points, points.flip(1)])  # two items, with faces of their own
    faces = torch.stack([faces, faces.flip(0)])
    raster = rasterize(points, faces, size, cull=cull, layers=layers, backend=backend)
    expected = rasterize(points, faces, size, cull=cull, layers=layers)
    assert raster.face.dtype == torch.int32 and raster.face.shape == expected.face.shape
    same = raster.face == expected.face
    assert same.double().mean() > 0.995 and expected.mask.double().mean() > 0.1  # float32 at edges
    torch.testing.assert_close(raster.bary[same], expected.bary[same])
    torch.testing.assert_close(raster.depth[same], expected.depth[same])


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize("backend", ["nvdiffrast", "kaolin"])
def test_differentiable_and_empty(backend: str) -> None:
    points, faces, size = soup("pinhole")
    values = torch.rand(1, points.shape[1], 4, dtype=points.dtype)
    grads = []
    for name in (backend, None):
        leaf = points.clone().requires_grad_()
        raster = rasterize(leaf, faces, size, backend=name)
        image = interpolate(raster, values, faces, backend=name)
        grads += torch.autograd.grad((image.square().sum(-1) + raster.depth).sum(), leaf)
    torch.testing.assert_close(grads[0], grads[1], rtol=0.05, atol=0.05 * float(grads[1].abs().max()))
    for empty in (
        rasterize(points[:0], faces, size, backend=backend),
        rasterize(points, faces[:0], size, backend=backend),
        rasterize(points, faces, (0, 9), backend=backend),
        rasterize(points * -1, faces, size, backend=backend),
    ):
        assert not empty.mask.any() and not empty.depth.any() and not empty.bary.any()


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize("backend", ["nvdiffrast", "kaolin"])
def test_faces_behind_the_camera(backend: str) -> None:
    """Faces wholly in front are drawn as ever beside ones that reach behind the camera."""
    points, faces, size = soup("pinhole")
    points[0, 0, 2:], points[0, 4, 2:] = -1.0, 0.0
    raster = rasterize(points, faces, size, backend=backend)
    kept = faces[(faces >= 0).all(-1) & (faces != 0).all(-1) & (faces != 4).all(-1)]
    expected = rasterize(points, kept, size)
    original = (faces[:, None] == kept[None]).all(-1).double().argmax(0).int()
    expected_face = torch.where(expected.mask, original[expected.face.clamp(min=0).long()], -1)
    assert (raster.face == expected_face).double().mean() > 0.995


PERSPECTIVE = ["persp_224_5k", "persp_224_26k", "nonsquare_96x160_persp", "near_plane_128"]


@pytest.mark.parametrize("name", [*PERSPECTIVE, "ortho_224_5k", "nonsquare_128x96_ortho", "cull_backfaces_128"])
def test_pytorch3d_gets_what_was_recorded(golden: Read, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call that would be made is the one that was recorded; its answer comes out in our conventions."""
    data = golden(name)
    size = (int(data["image_size"][0]), int(data["image_size"][1]))
    perspective, cull = bool(data["perspective_correct"]), bool(data.get("cull_backfaces", False))
    clip = name == "near_plane_128"
    calls = []

    def answer(meshes: SimpleNamespace, **options: object) -> tuple[Tensor, None, None, None]:
        calls.append((meshes, options))
        face = torch.from_numpy(data["pix_to_face_clip" if clip else "pix_to_face"])
        return face.long()[None, :, :, None], None, None, None

    install(
        monkeypatch,
        pytorch3d__renderer__mesh__rasterize_meshes={"rasterize_meshes": answer},
        pytorch3d__structures={"Meshes": SimpleNamespace},
    )
    ndc = torch.from_numpy(data["verts_ndc"])
    points, faces = from_ndc(ndc.double(), size, perspective), torch.from_numpy(data["faces"])
    near = float(data["z_clip"]) if clip else 1e-3
    raster = rasterize(points, faces, size, near=near, cull=cull, backend="pytorch3d")
    ((meshes, options),) = calls
    sent = meshes.verts[0]
    used = faces.long().unique()
    front = used[ndc[used, 2].abs() > 1e-3]
    torch.testing.assert_close(sent[front, :2], ndc[front, :2], rtol=2e-5, atol=2e-5)
    if perspective:
        torch.testing.assert_close(sent[:, 2], ndc[:, 2])
    else:  # any positive depth of the same order will do
        torch.testing.assert_close(sent[:, 2] - sent[:, 2].min(), ndc[:, 2] - ndc[:, 2].min())
        assert sent[:, 2].min() > 0.5
    assert options["image_size"] == size and options["faces_per_pixel"] == 1 and options["blur_radius"] == 0
    assert options["perspective_correct"] is perspective and options["cull_backfaces"] is cull
    assert options["z_clip_value"] == (near if clip else None)
    expected = rasterize(points, faces, size, near=near, cull=cull)
    same = raster.face == expected.face
    assert same.double().mean() > 0.999
    torch.testing.assert_close(raster.bary[same], expected.bary[same], rtol=0, atol=1e-9)
    torch.testing.assert_close(raster.depth[same], expected.depth[same])


@pytest.mark.parametrize("backend", peers.NAMES)
def test_missing_peers_say_how_to_get_them(backend: str, ball: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, backend, None)
    with pytest.raises(RasterError, match=rf"'{backend}' is not installed here .*pip install"):
        rasterize(*ball, backend=backend)


@pytest.mark.usefixtures("fakes")
def test_refusals(ball: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    points, faces, size = ball
    with pytest.raises(RasterError, match="one layer"):
        rasterize(points, faces, size, layers=2, backend="kaolin")
    for backend in ("nvdiffrast", "kaolin"):
        with pytest.raises(RasterError, match="outside"):
            rasterize(points, faces + 10_000, size, backend=backend)
        with pytest.raises(RasterError, match="NaN"):
            rasterize(points * float("nan"), faces, size, backend=backend)
        monkeypatch.setattr(sys.modules[f"headlab.geometry.raster.peers.{backend}"], "DEVICE", "cuda")
        with pytest.raises(RasterError, match="CUDA tensors"):
            rasterize(points, faces, size, backend=backend)
    with pytest.raises(RasterError, match="unknown rasteriser backend"):
        rasterize(points, faces, size, backend="opengl")
