"""CropView: pixels of the photo, normals and depth as a camera that looks straight at the face would tell them."""

import math

import pytest
import roma
import torch

from headlab.diffusion.conditions import Conditions
from headlab.geometry.camera import Camera
from headlab.geometry.code import HeadCode
from headlab.geometry.models.head_model import HeadModel
from headlab.heads.crop_view import CropView

GREY = torch.full((3, 8, 8), 0.6)


def _scene(model: HeadModel, yaw: float, roll: float) -> tuple[HeadCode, Camera]:
    """A head straight before the world's camera, and a photo camera at the same place, turned aside (degrees)."""
    middle = model.landmarks3d(model.vertices(model.neutral()), "478").mean(0)
    code = model.neutral().with_(translation=torch.tensor([0.0, 0.0, -0.6]) - middle)
    straight = Camera.frontal(700.0, (500, 500))
    turn = roma.euler_to_rotmat("ZY", [math.radians(roll), math.radians(yaw)])
    return code, Camera(straight.K, turn @ straight.R, straight.t, straight.size)


@pytest.mark.parametrize(("yaw", "roll"), [(0.0, 0.0), (0.0, 35.0), (14.0, 0.0), (-12.0, -50.0)])
def test_a_turned_camera_tells_the_same_normals_and_depth(default_head: HeadModel, yaw: float, roll: float) -> None:
    code, camera = _scene(default_head, yaw, roll)
    vertices = default_head.vertices(code)
    points = camera.project(default_head.landmarks3d(vertices, "478"))
    view = CropView.of(points, camera, 64)
    angle = roma.rotmat_to_rotvec(view.axes).norm()
    assert math.degrees(float(angle)) < 2.5  # the box of the landmarks is not centred on their mean
    seen = view.maps(default_head, code, GREY)
    straight, still = _scene(default_head, 0.0, 0.0)
    square = CropView.of(still.project(default_head.landmarks3d(vertices, "478")), still, 64)
    truth = square.maps(default_head, straight, GREY)
    both = (seen.mask * truth.mask) > 0
    both &= (seen.depth - truth.depth).abs() < 0.02  # silhouettes move by a pixel
    assert both.sum() > 0.9 * truth.mask.sum()
    assert float((seen.normal - truth.normal).abs().mean(0)[both].mean()) < 0.05
    assert float((seen.depth - truth.depth).abs()[both].mean()) < 0.0025
    middle = default_head.landmarks3d(vertices, "478").mean(0, keepdim=True)
    assert view.distance(middle) == pytest.approx(0.6, abs=0.003)


def test_crops_and_maps_lie_on_the_same_pixels(default_head: HeadModel) -> None:
    """Cutting a picture of the normals gives the normals' map."""
    code, camera = _scene(default_head, 10.0, 25.0)
    photo = Conditions.of(default_head, code, camera, GREY)
    points = camera.project(default_head.landmarks3d(default_head.vertices(code), "478"))
    view = CropView.of(points, camera, 64)
    cut = view.cut(photo.normal)
    own = torch.einsum("ji,jhw->ihw", view.axes, view.maps(default_head, code, GREY).normal)
    inside = torch.nn.functional.avg_pool2d(view.maps(default_head, code, GREY).mask[None], 5, 1, 2)[0] > 0.99
    assert float((cut - own).abs()[:, inside].mean()) < 0.03
    depth = view.cut_depth(photo.depth)
    assert float((depth - view.maps(default_head, code, GREY).depth).abs()[inside].median()) < 0.001


def test_back_onto_the_photo(default_head: HeadModel) -> None:
    """A crop put back gives the photo, but for what the crop's pixels cannot hold; depth goes there and back."""
    code, camera = _scene(default_head, 10.0, 25.0)
    photo = Conditions.of(default_head, code, camera, GREY)
    points = camera.project(default_head.landmarks3d(default_head.vertices(code), "478"))
    view = CropView.of(points, camera, 128)
    window = view.window()
    left, top, right, bottom = window
    assert view.zoom == pytest.approx(float(view.square.side) / 128)
    smooth = torch.stack(torch.meshgrid(torch.linspace(0, 1, 500), torch.linspace(0, 1, 500), indexing="ij"))
    smooth = torch.cat([smooth, smooth[:1]])
    back = view.on_photo(view.cut(smooth), window)
    inside = view.on_photo(torch.ones(1, 128, 128), window, "bilinear")[0] > 0
    corners = view.square.to_crop(points, 128)
    assert float(corners.amin()) > 0 and float(corners.amax()) < 128
    centre = (
        slice(None),
        *(slice(int(c) - 60, int(c) + 60) for c in reversed((view.square.centre - torch.tensor([left, top])).tolist())),
    )
    assert inside[centre[1:]].all()
    assert float((back - smooth[:, top:bottom, left:right]).abs()[centre].amax()) < 0.004
    depth = view.on_photo(view.along_camera(view.maps(default_head, code, GREY).depth)[None], window, "nearest")[0]
    truth = photo.depth[top:bottom, left:right]
    known = (truth > 0) & (depth > 0)
    assert float((depth - truth).abs()[known].median()) < 2e-3
