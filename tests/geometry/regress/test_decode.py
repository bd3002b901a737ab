"""DECA's decode against upstream's: mesh, landmarks, pictures, detail normals, textures, dense mesh.

Upstream's rasteriser gathers vertex attributes from the first item of a batch for all items. Tests of what goes
through it hand in that item's mesh for both (`as_upstream`); ours gives each item its own.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from headlab.geometry.errors import HeadlabError, MissingAssetError
from headlab.geometry.regress.assets import load_detail_assets, read_dense_template
from headlab.geometry.regress.codes import DecaCode
from headlab.geometry.regress.deca import Deca
from headlab.geometry.regress.decode import (
    CoarseHead,
    Decoded,
    decode_coarse,
    decode_detail,
    decode_pictures,
    merge_textures,
)
from headlab.geometry.regress.detail import dense_colors, dense_mesh, detail_normals
from headlab.geometry.regress.encoder import CodeEncoder
from headlab.geometry.regress.render import shade_map
from headlab.geometry.regress.resnet import ResNetConfig
from headlab.geometry.regress.uv_maps import UvSpace, sample


@pytest.fixture(scope="module")
def data(golden):
    return golden("deca_decode")


@pytest.fixture(scope="module")
def code(data) -> DecaCode:
    keys = ("shape", "tex", "exp", "pose", "cam", "light", "detail")
    return DecaCode(*(data[key] for key in keys))


@pytest.fixture(scope="module")
def coarse(code, flame) -> CoarseHead:
    return decode_coarse(code, flame)


@pytest.fixture(scope="module")
def space(flame) -> UvSpace:
    return UvSpace.of(flame)


@pytest.fixture(scope="module")
def albedo() -> Tensor:
    yy, xx = np.mgrid[0:256, 0:256]
    random = np.random.RandomState(333)
    for shape in ((2, 50), (2, 9, 3), (2, 128)):
        random.randn(*shape)
    waves = np.stack([np.sin(xx / 19.0), np.cos(yy / 13.0), np.sin((xx - yy) / 29.0)])[None]
    return torch.from_numpy(np.clip(0.5 + 0.3 * waves + 0.1 * random.rand(2, 3, 256, 256), 0, 1).astype(np.float32))


def as_upstream(coarse: CoarseHead, *more: str) -> CoarseHead:
    names = ("vertices", "normals", "ndc_normals", *more)
    return replace(coarse, **{name: getattr(coarse, name)[:1].expand_as(getattr(coarse, name)) for name in names})


def largest(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.detach() - theirs).abs().max())


def test_mesh_and_landmarks(coarse, data) -> None:
    assert largest(coarse.vertices, data["verts"]) < 2e-7
    assert largest(coarse.ndc, data["trans_verts_projected"]) < 1e-6
    assert largest(coarse.landmarks2d, data["landmarks2d"]) < 1e-6
    assert largest(coarse.landmarks3d, data["landmarks3d_with_visibility"][..., :3]) < 1e-6
    assert torch.equal(coarse.visible, data["landmarks3d_with_visibility"][..., 3])
    assert largest(coarse.landmarks3d_world, data["landmarks3d_world"]) < 2e-7
    assert largest(coarse.normals, data["vertex_normals"]) < 1e-5
    assert coarse.landmarks105 is not None
    # What upstream's in-place shifts do to its argument; ours stays as it is.
    assert largest(coarse.ndc + torch.tensor([0, 0, 30.0]), data["trans_verts_as_returned"]) < 1e-5


def test_rasterisation(coarse, data) -> None:
    raster = coarse.raster((224, 224)).raster
    theirs = data["pix_to_face"].int()
    # A pixel whose centre lies on an edge may fall to either face.
    assert int((raster.face != theirs).sum()) <= 4
    same = (raster.face == theirs)[:, ::3, ::3]
    assert largest(raster.bary[:, ::3, ::3][same], data["bary_stride3"][same]) < 2e-4
    # Upstream's depth: harmonic mean over the corners, shifted by 10, in half widths.
    faces = coarse.model.faces
    corners = torch.stack(
        [z[faces[face.clamp(min=0).long()]] for z, face in zip(coarse.ndc[..., 2], raster.face, strict=True)]
    )
    depth = 1 / (raster.bary / ((corners + 10) * 112)).sum(-1)
    hit = raster.mask[:, ::3, ::3]
    assert largest(depth[:, ::3, ::3][same & hit], data["depth_stride3"][same & hit]) < 2e-3
    assert float(data["depth_stride3"][~hit].min()) == 1e6


def test_texture_layout(space, data) -> None:
    assert int((space.raster.face != data["uv_pix_to_face"].int()).sum()) <= 4


def test_detail(code, coarse, space, assets, decoder, data) -> None:
    head = as_upstream(coarse)
    detail = decode_detail(code, head, space, assets, decoder)
    quarter = slice(None, None, 4)
    assert largest(detail.offset[..., quarter, quarter], data["uv_z_stride4"]) < 2e-8
    assert largest(detail.displacement[..., quarter, quarter], data["displacement_map_stride4"]) < 2e-8
    assert largest(detail.normals[..., quarter, quarter], data["uv_detail_normals_stride4"]) < 1e-4
    emoca = decode_detail(code, head, space, assets, decoder, blend=False)
    difference = (emoca.normals[..., quarter, quarter] - data["emoca_uv_detail_normals_stride4"]).abs()
    # Outside of the face texels are slivers, whose normals magnify the last bit of their corners.
    assert float(difference.max()) < 1e-3
    assert float((difference > 1e-4).float().mean()) < 2e-3


def test_pictures(code, coarse, space, assets, decoder, albedo, data) -> None:
    head = as_upstream(coarse)
    detail = decode_detail(code, head, space, assets, decoder)
    pictures = decode_pictures(code, head, albedo, (224, 224), detail, assets)
    raster = pictures.raster
    assert pictures.mask is not None and pictures.shape_detail is not None
    ours = {
        "grid": raster.grid.movedim(-1, 1),
        "normal_images": pictures.normals,
        "rendered_albedo": pictures.albedo,
        "sh_images": pictures.lit,
        "sh_shading": shade_map(pictures.normals, code.light),
        "face_mask_image": sample(assets.mask[None, None], raster.grid),
        "shape_images": pictures.shape,
        "shape_detail_images": pictures.shape_detail,
    }
    theirs = {key: data[f"{key}_stride3"] for key in ours}
    theirs["grid"] = theirs["grid"].movedim(-1, 1)
    same = (raster.raster.face == data["pix_to_face"].int())[:, None, ::3, ::3]
    for name, value in ours.items():
        difference = (value[..., ::3, ::3] - theirs[name]).abs() * same
        assert float(difference.max()) < 1e-4, name
    # The mask picture: upstream's shows the mask's centre beside the head, ours nothing.
    assert torch.equal(pictures.mask, ours["face_mask_image"] * raster.alpha)
    for name, value in (("normal_images", pictures.normals), ("rendered_images", pictures.albedo)):
        assert largest(value.double().mean((2, 3)), data[f"mean_{name}"]) < 1e-4
        assert largest(value.double().flatten(2).std(-1), data[f"std_{name}"]) < 1e-4


def test_textures(code, coarse, space, assets, decoder, albedo, images, data) -> None:
    head = as_upstream(coarse, "ndc")
    detail = decode_detail(code, head, space, assets, decoder)
    texture = albedo * detail.shading
    merged = merge_textures(space, head, images, texture, assets)
    for name, value in (("uv_texture", texture), ("uv_texture_gt", merged)):
        assert largest(value[..., ::4, ::4], data[f"{name}_stride4"]) < 1e-4, name
        assert largest(value.double().mean((2, 3)), data[f"mean_{name}"]) < 1e-5, name
        assert largest(value.double().flatten(2).std(-1), data[f"std_{name}"]) < 1e-5, name
    place = dense_mesh(assets.dense, coarse.vertices, coarse.normals, detail.displacement)
    assert largest(place[0], data["dense_vertices"]) < 2e-7
    colours = (dense_colors(assets.dense, merged)[0] * 255).clamp(0, 255)
    # Truncated to whole numbers: one may fall to the other side.
    assert float((colours.floor() - data["dense_colors"]).abs().max()) <= 1


def constant(outputs: int) -> CodeEncoder:
    return CodeEncoder(outputs, ResNetConfig((1,), 2), hidden=2).eval()


def decode_all(code: DecaCode, flame, assets, decoder, albedo, images) -> Decoded:
    deca = Deca("deca", constant(236), constant(128), decoder)
    return deca.decode(code, flame, assets=assets, albedo=albedo, images=images)


def test_every_item_of_a_batch_is_decoded_alone(code, flame, assets, decoder, albedo, images) -> None:
    """What upstream's rasteriser gets wrong."""
    both = decode_all(code, flame, assets, decoder, albedo, images)
    second = decode_all(code[1:], flame, assets, decoder, albedo[1:], images[1:])
    for of in (
        lambda d: d.pictures.lit,
        lambda d: d.pictures.shape_detail,
        lambda d: d.detail.normals,
        lambda d: d.texture,
        lambda d: d.photo_texture,
    ):
        assert largest(of(both)[1:], of(second)) < 1e-4


def test_the_first_item_is_upstreams(code, flame, assets, decoder, albedo, images, data) -> None:
    head = decode_all(code[:1], flame, assets, decoder, albedo[:1], images[:1])
    assert head.photo_texture is not None and head.pictures.shape_detail is not None
    assert largest(head.photo_texture[..., ::4, ::4], data["uv_texture_gt_stride4"][:1]) < 1e-4
    difference = (head.pictures.shape_detail[..., ::3, ::3] - data["shape_detail_images_stride3"][:1]).abs()
    assert float((difference > 1e-4).float().mean()) < 1e-3


def test_decode_without_maps_or_albedo(code, flame, decoder) -> None:
    head = Deca("deca", constant(236), constant(128), decoder).decode(code.with_(detail=None), flame, size=(64, 64))
    assert head.detail is None and head.texture is None and head.pictures.shape_detail is None
    assert float(head.albedo.abs().max()) == 0
    assert head.pictures.shape.shape == (2, 3, 64, 64)
    assert float(head.pictures.shape.max()) > 0.3


def test_photo_without_albedo_is_grey_outside(code, flame, assets, decoder, images) -> None:
    head = Deca("deca", constant(236), constant(128), decoder).decode(code, flame, assets=assets, images=images)
    assert head.photo_texture is not None
    outside = (assets.mask == 0).expand_as(head.photo_texture)
    assert torch.allclose(head.photo_texture[outside], torch.tensor(0.7))


def test_detail_gradients(code, coarse, space, assets) -> None:
    """They reach the displacement, and only where the mask is."""
    offset = (torch.rand(2, 1, 256, 256) * 1e-3).requires_grad_()
    detail_normals(space, coarse.vertices, coarse.normals, offset, assets)[:, 1].sum().backward()
    assert offset.grad is not None
    inside = (assets.mask > 0).expand_as(offset)
    assert float(offset.grad[inside].abs().max()) > 0
    assert float(offset.grad[~inside].abs().max()) == 0


def test_other_models_are_refused(code, flame, decoder) -> None:
    deca = Deca("deca", constant(236), constant(128), decoder)
    with pytest.raises(HeadlabError, match="is not FLAME"):
        deca.decode(code, replace(flame, shape_basis=flame.shape_basis[..., :50]))
    with pytest.raises(HeadlabError, match="without texture coordinates"):
        deca.decode(code, replace(flame, uvs=None))
    with pytest.raises(HeadlabError, match="no landmark tables"):
        deca.decode(code, replace(flame, contour=None))


def test_crops_of_another_size_are_refused(decoder) -> None:
    with pytest.raises(ValueError, match="must be 224 x 224"):
        Deca("deca", constant(236), constant(128), decoder).encode(torch.zeros(1, 3, 200, 224))


def test_damaged_assets(tmp_path, parity) -> None:
    with pytest.raises(MissingAssetError, match=r"uv_face_eye_mask\.png is not there"):
        load_detail_assets(tmp_path)
    folder = parity / "decode_assets"
    for name in ("uv_face_eye_mask.png", "fixed_displacement_256.npy", "texture_data_256.npy"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    np.save(tmp_path / "fixed_displacement_256.npy", np.zeros((3, 3)))
    with pytest.raises(HeadlabError, match="not a 256 x 256 map"):
        load_detail_assets(tmp_path)
    (tmp_path / "fixed_displacement_256.npy").write_bytes((folder / "fixed_displacement_256.npy").read_bytes())
    (tmp_path / "uv_face_eye_mask.png").write_bytes(b"not a picture")
    with pytest.raises(HeadlabError, match="no picture"):
        load_detail_assets(tmp_path)
    data = {"img_size": 256, "valid_pixel_ids": np.array([70000])}
    np.save(tmp_path / "texture_data_256.npy", np.array(data, dtype=object), allow_pickle=True)
    with pytest.raises(HeadlabError, match="no dense mesh"):
        read_dense_template(tmp_path / "texture_data_256.npy")
