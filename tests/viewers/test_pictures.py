"""Pictures of heads: colours that are known, coverage, sizes."""

import math

import pytest
import torch
from torch import Tensor

from headlab.geometry.camera import Camera
from headlab.geometry.code import HeadCode
from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.raster import rasterize, sh_basis, vertex_normals
from headlab.viewers.pictures import overlay, render_head, turntable

CAMERA = Camera.frontal(500.0, (240, 320))


def posed(model: HeadModel, yaw: float = 0.0, light: Tensor | None = None, x: float = 0.0) -> HeadCode:
    return model.neutral().with_(
        rotation=torch.tensor([0.0, yaw, 0.0]), translation=torch.tensor([x, 0.0, -0.8]), light=light
    )


def ambient(colour: tuple[float, float, float]) -> Tensor:
    """Light of one colour from everywhere: only the constant harmonic."""
    light = torch.zeros(9, 3)
    light[0] = torch.tensor(colour) * math.sqrt(4 * math.pi)
    return light


def interior(mask: Tensor, pixels: int = 2) -> Tensor:
    """Where the mask is the same all around."""
    size = 2 * pixels + 1
    inside = -torch.nn.functional.max_pool2d(-mask.float()[None], size, 1, pixels)[0] == 1
    outside = torch.nn.functional.max_pool2d(mask.float()[None], size, 1, pixels)[0] == 0
    return inside | outside


def test_coverage_is_the_rasters_but_for_the_silhouette(default_head: HeadModel) -> None:
    code = posed(default_head, 0.4)
    image = render_head(default_head, code, CAMERA, None)
    mask = rasterize(CAMERA.to_homogeneous(default_head.vertices(code))[None], default_head.faces, CAMERA.size).mask[0]
    same = interior(mask)
    assert image.shape == (4, 240, 320)
    assert torch.equal(image[3][same], mask.float()[same])
    assert 0 <= image[3].min() and image[3].max() <= 1
    assert float(image[3].sum()) == pytest.approx(float(mask.sum()), rel=0.01)
    assert not image[:, (image[3] == 0)].any()
    assert ((image[3] > 0) & (image[3] < 1)).any()  # the silhouette is smooth


def test_a_grey_texture_under_ambient_light_has_the_lights_colour(default_head: HeadModel) -> None:
    code = posed(default_head, light=ambient((0.8, 1.0, 0.5)))
    image = render_head(default_head, code, CAMERA, torch.full((3, 16, 16), 0.6))
    inside = interior(image[3] > 0) & (image[3] == 1)
    expected = torch.tensor([0.48, 0.6, 0.3])[:, None].expand(3, int(inside.sum()))
    torch.testing.assert_close(image[:3, inside], expected, atol=1e-4, rtol=0)


def test_light_from_one_side_shades_by_the_normal(default_head: HeadModel) -> None:
    """The vertex nearest the camera, against the harmonics of its normal."""
    light = ambient((0.5, 0.5, 0.5))
    light[1], light[3] = 0.2, 0.1
    code = posed(default_head, light=light)
    vertices = default_head.vertices(code)
    nose = int(vertices[:, 2].argmax())
    normal = vertex_normals(vertices, default_head.faces)[nose]
    image = render_head(default_head, code, Camera.frontal(4000.0, (400, 400)), torch.ones(3, 4, 4))
    column, row = Camera.frontal(4000.0, (400, 400)).project(vertices[nose : nose + 1])[0].long().tolist()
    torch.testing.assert_close(image[:3, row, column], (sh_basis(normal) @ light), atol=0.03, rtol=0)


def test_the_textures_left_half_is_shown_where_it_lies(default_head: HeadModel) -> None:
    """Red paint on texels of the subject's left shows on the right of the picture."""
    from headlab.geometry.texture.uv_raster import rasterize_uv, to_uv

    x = to_uv(rasterize_uv(default_head, 256), default_head, default_head.template)[..., 0]
    texture = torch.full((3, 256, 256), 0.5)
    texture[1:, x > 0.01] = 0
    image = render_head(default_head, posed(default_head, light=ambient((1, 1, 1))), CAMERA, texture)
    red = (image[0] > 0.3) & (image[1] < 0.05)
    columns = red.nonzero()[:, 1]
    assert len(columns) > 500 and columns.min() > 158


def test_without_a_texture_the_head_is_clay_in_studio_light(default_head: HeadModel) -> None:
    image = render_head(default_head, posed(default_head), CAMERA, None)
    face = image[:3, image[3] == 1]
    assert 0.2 < face.mean() < 0.9
    assert (face[0] >= face[2] - 1e-6).all()  # a warm grey
    assert face.std() > 0.02


def test_what_lies_outside_is_cut_and_an_unseen_head_is_nothing(default_head: HeadModel) -> None:
    whole = render_head(default_head, posed(default_head), CAMERA, None)
    window = render_head(default_head, posed(default_head), CAMERA.cropped(100, 60, (90, 70)), None)
    torch.testing.assert_close(window[:, 2:-2, 2:-2], whole[:, 62:148, 102:168], atol=1e-3, rtol=0)
    assert not render_head(default_head, posed(default_head, x=5.0), CAMERA, None).any()


def test_an_overlay_is_three_pictures_of_one_window(default_head: HeadModel) -> None:
    photo = torch.rand(3, 1200, 1600, generator=torch.Generator().manual_seed(0))
    camera = Camera.frontal(2500.0, (1200, 1600))
    picture = overlay(photo, default_head, posed(default_head), camera, torch.full((3, 8, 8), 0.5))
    rows, columns = picture.shape[1:]
    assert rows == 640 and columns % 3 == 0
    first, mesh, textured = picture.split(columns // 3, 2)
    assert 0 <= picture.min() and picture.max() <= 1
    assert not textured[:, :10, :10].any()  # black around the head
    torch.testing.assert_close(first[:, :10, :10], mesh[:, :10, :10])  # the photo shows round the mesh
    assert (first - mesh).abs()[:, 300:340].mean() > 0.05


def test_an_overlay_shows_the_photos_own_pixels(default_head: HeadModel) -> None:
    """A head that fills the picture is neither cropped nor, being 640 pixels high, scaled."""
    photo = torch.rand(3, 640, 500, generator=torch.Generator().manual_seed(1))
    camera = Camera.frontal(2300.0, (640, 500))
    picture = overlay(photo, default_head, posed(default_head), camera, None)
    assert picture.shape == (3, 640, 1500)
    torch.testing.assert_close(picture[:, :, :500], photo)


def test_small_faces_are_enlarged_three_times_at_most(default_head: HeadModel) -> None:
    photo = torch.rand(3, 200, 200)
    picture = overlay(photo, default_head, posed(default_head), Camera.frontal(150.0, (200, 200)), None)
    pixels = Camera.frontal(150.0, (200, 200)).project(default_head.vertices(posed(default_head)))
    height = float(pixels[:, 1].max() - pixels[:, 1].min())
    assert 3 * height < picture.shape[1] < 3 * 1.5 * height


def test_an_overlay_of_a_head_outside_the_photo_shows_the_photo(default_head: HeadModel) -> None:
    photo = torch.rand(3, 64, 64)
    picture = overlay(photo, default_head, posed(default_head, x=5.0), Camera.frontal(60.0, (64, 64)), None)
    assert picture.shape == (3, 192, 576)


def test_a_turntable_goes_from_profile_to_profile_upright(default_head: HeadModel) -> None:
    turned = posed(default_head, 1.0, ambient((0, 0, 0)))  # pose and light of the photo do not matter
    picture = turntable(default_head, turned, torch.full((3, 8, 8), 0.5), size=96, steps=5)
    assert picture.shape == (3, 2 * 96, 5 * 96)
    torch.testing.assert_close(
        picture, turntable(default_head, posed(default_head), torch.full((3, 8, 8), 0.5), size=96, steps=5)
    )
    cells = picture.unfold(1, 96, 96).unfold(2, 96, 96)
    for row in range(2):
        for step in range(5):
            cell = cells[:, row, step]
            covered = (cell - 0.94).abs().amax(0) > 0.01
            assert 0.2 < covered.float().mean() < 0.9
            assert not covered[:, 0].any() and not covered[:, -1].any()
    # Left and right profile mirror each other's outline.
    outline = [(cells[:, 1, step] - 0.94).abs().amax(0) > 0.01 for step in (0, 4)]
    assert (outline[0] == outline[1].flip(1)).float().mean() > 0.97


@pytest.mark.parametrize("steps", [2, 6])
def test_turntable_sizes(default_head: HeadModel, steps: int) -> None:
    assert turntable(default_head, default_head.neutral(), None, size=40, steps=steps).shape == (3, 80, 40 * steps)
