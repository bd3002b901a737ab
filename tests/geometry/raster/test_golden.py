"""Against the recorded scenes of parity/raster: their exact float64 fields where there are some, else PyTorch3D's."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from headlab.geometry.raster import Raster, interpolate, rasterize

from .conftest import from_ndc

Read = Callable[[str], dict[str, np.ndarray]]
EXACT = [
    "ortho_224_5k",
    "persp_224_5k",
    "persp_224_5k_screenbary",
    "persp_224_26k",
    "nonsquare_128x96_ortho",
    "nonsquare_96x160_persp",
    "cull_backfaces_128",
    "degenerate_64",
    "ties_coplanar_64",
]


def draw(data: dict[str, np.ndarray], dtype: torch.dtype) -> Raster:
    size = (int(data["image_size"][0]), int(data["image_size"][1]))
    points = from_ndc(torch.from_numpy(data["verts_ndc"]).double(), size, bool(data["perspective_correct"])).to(dtype)
    cull = bool(data.get("cull_backfaces", False))
    return rasterize(points, torch.from_numpy(data["faces"]), size, near=1e-8, cull=cull)


def compare(raster: Raster, item: int, face: np.ndarray, depth: np.ndarray, bary: np.ndarray, tolerance: float) -> None:
    """Depth relative, weights absolute, where the face is the same one."""
    same = (raster.face[item].numpy() == face) & (face >= 0)
    total = bary.sum(-1, keepdims=True)
    bary = bary / np.where(total == 0, 1, total)
    np.testing.assert_allclose(raster.depth[item].numpy()[same], depth[same], rtol=tolerance, atol=0)
    np.testing.assert_allclose(raster.bary[item].numpy()[same], bary[same], rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matches_exact_answer(golden: Read, name: str, dtype: torch.dtype) -> None:
    data = golden(name)
    raster = draw(data, dtype)
    clear = ~data["ambiguous"]
    assert np.array_equal(raster.face[0].numpy()[clear], data["pix_to_face_f64"][clear])
    # float32 points alone move weights of pixel-sized faces by up to 3e-4 (half an ulp of a pixel coordinate over their
    # height); the recorded fields are float32 too.
    weight_error = 3e-4 if dtype == torch.float32 else 2e-7
    compare(raster, 0, data["pix_to_face_f64"], data["zbuf_f64"], data["bary_f64"], weight_error)
    same = raster.mask[0].numpy() & (raster.face[0].numpy() == data["pix_to_face_f64"])
    error = np.abs(raster.depth[0].numpy() / np.where(same, data["zbuf_f64"], 1) - 1)[same]
    assert error.size == 0 or error.max() <= 2e-6


@pytest.mark.parametrize("name", EXACT)
def test_float32_is_exact_for_its_own_points(golden: Read, name: str) -> None:
    """Rounding inside the op, apart from that of its input: against the float64 op on the same float32 points."""
    data = golden(name)
    size = (int(data["image_size"][0]), int(data["image_size"][1]))
    points = from_ndc(torch.from_numpy(data["verts_ndc"]).double(), size, bool(data["perspective_correct"])).float()
    cull = bool(data.get("cull_backfaces", False))
    faces = torch.from_numpy(data["faces"])
    single = rasterize(points, faces, size, near=1e-8, cull=cull)
    double = rasterize(points.double(), faces, size, near=1e-8, cull=cull)
    clear = ~data["ambiguous"]
    assert np.array_equal(single.face[0].numpy()[clear], double.face[0].numpy()[clear])
    same = (single.face == double.face) & single.mask
    assert (single.bary - double.bary)[same].abs().max() <= 1e-5
    assert ((single.depth - double.depth)[same] / double.depth[same]).abs().max() <= 1e-5


@pytest.mark.parametrize("name", ["ortho_224_5k", "persp_224_5k", "nonsquare_128x96_ortho", "nonsquare_96x160_persp"])
@pytest.mark.parametrize("loss", ["attr", "z"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-4), (torch.float64, 1e-6)])
def test_gradients(golden: Read, name: str, loss: str, dtype: torch.dtype, tolerance: float) -> None:
    data = golden(name)
    height, width = size = (int(data["image_size"][0]), int(data["image_size"][1]))
    verts = torch.from_numpy(data["verts_ndc"]).double().requires_grad_()
    points = from_ndc(verts, size, bool(data["perspective_correct"])).to(dtype)
    faces = torch.from_numpy(data["faces"])
    attributes = torch.from_numpy(data["attributes"]).to(dtype).requires_grad_()
    raster = rasterize(points, faces, size)
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    if loss == "attr":
        phase = 0.37 * torch.arange(1, 10, dtype=torch.float64) + (0.11 * x + 0.07 * y)[..., None]
        value = (phase.sin().to(dtype) * interpolate(raster, attributes[None], faces)[0]).sum()
        value.backward()
        # PyTorch3D's float32; its orthographic weights do not sum to one
        expected = torch.from_numpy(data["grad_attr_wrt_attributes"])
        assert attributes.grad is not None
        assert (attributes.grad - expected).norm() <= 4e-3 * expected.norm()
    else:
        value = (torch.cos(0.05 * x + 0.09 * y).to(dtype) * raster.depth[0]).sum()
        value.backward()
    assert float(value.detach()) == pytest.approx(
        float(data[f"loss_{loss}_f64"]), rel=1e-5, abs=1e-6 if dtype == torch.float64 else 0.02
    )
    expected = torch.from_numpy(data[f"grad_{loss}_wrt_ndc_f64"])
    assert verts.grad is not None
    assert (verts.grad - expected).norm() <= tolerance * expected.norm()


def test_batch_of_different_face_counts(golden: Read) -> None:
    data = golden("batch2_ragged_96")
    count = max(len(data["faces_0"]), len(data["faces_1"]))
    faces = torch.full((2, count, 3), -1, dtype=torch.int32)
    for i in range(2):
        faces[i, : len(data[f"faces_{i}"])] = torch.from_numpy(data[f"faces_{i}"])
    points = torch.cat([from_ndc(torch.from_numpy(data[f"verts_ndc_{i}"]).double(), (96, 96), True) for i in range(2)])
    raster = rasterize(points, faces, (96, 96))
    assert np.array_equal(raster.face.numpy(), data["pix_to_face"])
    for i in range(2):
        compare(raster, i, data["pix_to_face"][i], data["zbuf"][i], data["bary"][i], 1e-4)


def test_near_plane_cuts_faces(golden: Read) -> None:
    data = golden("near_plane_128")
    camera = data["verts_world"].astype(np.float64) @ data["R"].T + data["t"]
    pixels = camera @ data["K"].T
    points = torch.from_numpy(np.concatenate([pixels[:, :2], camera[:, 2:], pixels[:, 2:]], -1))[None]
    for near, suffix in ((float(data["z_clip"]), "clip"), (1e-8, "noclip")):
        faces = data["faces"].copy()
        if suffix == "noclip":  # PyTorch3D drops such faces whole; the op cannot be told to, so leave them out
            faces[(data["verts_view_z"][faces] < 1e-8).any(1)] = -1
        for dtype in (torch.float32, torch.float64):
            raster = rasterize(points.to(dtype), torch.from_numpy(faces), (128, 128), near=near)
            face = data[f"pix_to_face_{suffix}"]
            # float32 points may move a pixel across an edge
            assert (raster.face[0].numpy() != face).sum() <= (0 if dtype == torch.float64 else 3)
            compare(raster, 0, face, data[f"zbuf_{suffix}"], data[f"bary_{suffix}"], 2e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_floor_passing_under_the_camera(golden: Read, dtype: torch.dtype) -> None:
    data = golden("near_plane_quad_64")
    x, y, z = torch.from_numpy(data["verts_view"]).double().unbind(-1)
    focal = float(data["focal_ndc"])
    points = torch.stack([(z - focal * x) * 32, (z - focal * y) * 32, z, z], -1)[None].to(dtype)
    near = float(data["z_clip"])
    raster = rasterize(points, torch.from_numpy(data["faces"]), (64, 64), near=near)
    face = data["pix_to_face_clip"]
    assert np.array_equal(raster.mask[0].numpy(), face >= 0) or (raster.mask[0].numpy() != (face >= 0)).sum() <= 1
    assert (raster.face[0].numpy() != face).sum() <= 8  # the quad's diagonal runs through pixel centres
    compare(raster, 0, face, data["zbuf_clip"], data["bary_clip"], 3e-5)
    assert float(raster.depth[raster.mask].min()) >= near


def test_edges_on_pixel_centres(golden: Read) -> None:
    """Every centre of the 12 x 12 block is hit once: its top and left sides belong to it, the others do not."""
    data = golden("edges_on_pixel_centres_16")
    raster = draw(data, torch.float32)
    assert raster.mask.sum() == 144
    hits = torch.zeros(16, 16, dtype=torch.int64)
    for i in range(len(data["faces"])):
        one = dict(data, faces=data["faces"][i : i + 1])
        hits += draw(one, torch.float32).mask[0]
    assert torch.equal(hits, raster.mask[0].long())
    assert (raster.bary.sum(-1)[raster.mask] - 1).abs().max() <= 1e-6


def test_layers_in_depth_order(golden: Read) -> None:
    """PyTorch3D's eight nearest faces, without those that only come near the pixel."""
    data = golden("soft_k8_64")
    points = from_ndc(torch.from_numpy(data["verts_ndc"]).double(), (64, 64), True)
    raster = rasterize(points, torch.from_numpy(data["faces"]), (64, 64), layers=8)
    inside = (data["pix_to_face"] >= 0) & (data["dists"] < 0)
    assert raster.face.shape == (1, 64, 64, 8) and raster.bary.shape == (1, 64, 64, 8, 3)
    for i, j in np.ndindex(64, 64):
        expected = data["pix_to_face"][i, j][inside[i, j]]
        got = raster.face[0, i, j].numpy()
        assert np.array_equal(got[: len(expected)], expected)
