"""The fast canvas against the careful renderer, and known pixels."""

import math

import numpy as np
import pytest
import torch
from riggable import ramp_texture, riggable_head

from headlab.geometry.camera import Camera
from headlab.geometry.raster import shade_sh
from headlab.heads.view.lighting import STUDIO
from headlab.heads.view.surface import Surface, surface_of
from headlab.viewers.canvas import Canvas, Style
from headlab.viewers.orbit import Orbit
from headlab.viewers.pictures import render_head

LIGHT = torch.tensor(STUDIO).expand(9, 3)
WHITE = torch.zeros(9, 3)
WHITE[0] = math.sqrt(4 * math.pi)  # light of 1 from everywhere


def square(z: float, side: float = 0.1, color: float = 0.5) -> Surface:
    corners = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * side + torch.tensor([0, 0, z])
    return Surface(corners, torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32), torch.full((4, 3), color))


@pytest.mark.parametrize("texture", [True, False])
def test_it_shows_what_the_careful_renderer_shows(default_head, texture):
    albedo = ramp_texture()
    code = default_head.neutral().with_(translation=torch.tensor([0.0, 0.0, -1.0]), light=LIGHT)
    camera = Camera.frontal(900.0, (300, 280))
    careful = render_head(default_head, code, camera, albedo if texture else None)
    canvas = Canvas(camera, (0, 0, 0))
    surface = surface_of(default_head, albedo).moved(default_head.vertices(code))
    canvas.draw(surface, LIGHT, Style(texture=texture))
    inside = (careful[3] == 1).numpy()
    apart = np.abs(canvas.pixels.astype(float) - careful[:3].permute(1, 2, 0).numpy() * 255)[inside]
    assert inside.mean() > 0.2 and np.mean(apart) < 1.5 and np.quantile(apart, 0.99) < 12
    assert not canvas.pixels[(careful[3] == 0).numpy()].any()


def test_nearer_surfaces_cover_whatever_the_order():
    camera = Camera.frontal(100.0, (64, 64))
    for order in ((-1.0, -2.0), (-2.0, -1.0)):
        canvas = Canvas(camera)
        for z in order:
            canvas.draw(square(z, side=0.1 * abs(z) * abs(z), color=0.25 * abs(z)), WHITE)
        assert tuple(canvas.pixels[32, 32]) == (64, 64, 64)  # the near one
        assert tuple(canvas.pixels[32, 46]) == (128, 128, 128)  # beside it the far one
        assert canvas.depth[32, 32] == 1.0 and canvas.depth[32, 46] == 2.0 and np.isinf(canvas.depth[0, 0])
        assert tuple(canvas.pixels[0, 0]) == (245, 246, 248)


def test_opacity_mixes_with_what_lies_behind():
    canvas = Canvas(Camera.frontal(100.0, (32, 32)), np.full((32, 32, 3), 200, np.uint8))
    canvas.draw(square(-1.0), WHITE, opacity=0.25)
    assert abs(int(canvas.pixels[16, 16, 0]) - (0.25 * 127.5 + 0.75 * 200)) <= 1


def test_wires_normals_and_clay():
    camera = Camera.frontal(300.0, (96, 96))
    flat, wired, normal, clay = (Canvas(camera) for _ in range(4))
    flat.draw(square(-1.0), WHITE)
    wired.draw(square(-1.0), WHITE, Style(wireframe=True))
    normal.draw(square(-1.0), WHITE, Style(normals=True))
    clay.draw(square(-1.0), WHITE, Style(texture=False, color=(1.0, 0.0, 0.0)))
    darker = (wired.pixels < flat.pixels).any(-1)
    rows, columns = np.nonzero(darker)
    assert 0 < darker.mean() < 0.2 and wired.pixels[48, 48].max() < 115  # the diagonal meets the middle
    on_edge = np.minimum(np.minimum(rows - 18, 77 - rows), np.minimum(columns - 18, 77 - columns)) <= 1
    on_diagonal = np.abs(rows + columns - 95) <= 2
    assert (on_edge | on_diagonal).all()
    assert np.abs(normal.pixels[40, 40].astype(int) - (128, 128, 255)).max() <= 1
    assert tuple(clay.pixels[40, 40]) == (255, 0, 0)


def test_points_know_who_is_in_front():
    camera = Camera.frontal(100.0, (32, 32))
    canvas = Canvas(camera)
    canvas.draw(square(-1.0), WHITE)
    points = torch.tensor([[0.0, 0, -0.9], [0.0, 0, -0.95], [0.05, 0.05, -1.5], [0.05, -0.05, -1.002], [9, 9, 1]])
    colors = torch.eye(3)[[0, 1, 2, 1, 2]]
    canvas.draw_points(points, colors, size=1)
    assert tuple(canvas.pixels[16, 16]) == (255, 0, 0)  # the nearer of two
    assert (canvas.pixels[..., 2] != 255).all() or tuple(canvas.pixels[12, 19]) != (0, 0, 255)  # behind the square
    assert (canvas.pixels == (0, 255, 0)).all(-1).sum() == 1  # on the surface
    for distance in (0.01, 1.0, 2.5, 40.0, 5e4):
        drawn = Canvas(camera)
        drawn.draw_points(torch.tensor([[0.0, 0.0, -distance]]), None, size=2)
        assert (drawn.pixels == (70, 110, 180)).all(-1).sum() == 4
    dense = Canvas(camera)
    spread = torch.stack(torch.meshgrid(torch.linspace(-0.1, 0.1, 9), torch.linspace(-0.1, 0.1, 9), indexing="ij"), -1)
    dense.draw_points(torch.cat([spread.reshape(-1, 2), torch.full((81, 1), -1.0)], 1), None)
    assert (dense.pixels[8:24, 8:24] == (70, 110, 180)).all()  # no gaps


def test_marks_are_hollow_where_hidden():
    canvas = Canvas(Camera.frontal(400.0, (440, 440)))
    canvas.draw(square(-1.0, side=0.4, color=1.0), WHITE)
    canvas.draw_marks(torch.tensor([[-0.2, 0.0, -0.9], [0.2, 0.0, -1.5], [0.0, 0.0, 1.0]]))
    front = canvas.pixels[220, 220 - 89].astype(int)
    behind = canvas.pixels[220, 220 + 53].astype(int)
    assert tuple(front) == (10, 160, 90) and behind.min() > 150


def test_a_small_picture_takes_a_coarser_texture():
    """Noise of one texel averages out, where the nearest texels alone would flicker."""
    noise = np.random.default_rng(0).integers(0, 2, (1024, 1024, 1), dtype=np.uint8).repeat(3, 2) * 255
    surface = square(-1.0)
    uvs = torch.tensor([[0.0, 0.0], [1, 0], [1, 1], [0, 1]])
    surface = Surface(surface.vertices, surface.faces, None, noise, uvs, surface.faces, torch.arange(4))
    canvas = Canvas(Camera.frontal(300.0, (64, 64)))
    canvas.draw(surface, WHITE)
    inside = canvas.pixels[8:-8, 8:-8, 0]
    assert inside.std() < 40 and abs(inside.mean() - 127.5) < 4


def test_lights_are_those_of_the_normals():
    canvas = Canvas(Camera.frontal(100.0, (32, 32)))
    light = torch.zeros(9, 3)
    light[0], light[3] = 1.5, 0.4
    canvas.draw(square(-1.0, color=1.0), light)
    expected = shade_sh(torch.tensor([0.0, 0.0, 1.0]), light) * 255
    np.testing.assert_allclose(canvas.pixels[16, 16], expected.numpy(), atol=1)


def test_an_orbit_sees_what_it_is_about():
    points = riggable_head().template * torch.tensor([0.6, 1.0, 0.6])  # about as narrow as heads are
    orbit = Orbit.around(points)
    for yaw, pitch in ((0.0, 0.0), (1.2, 0.3), (-2.5, -0.9)):
        turned = Orbit(orbit.target, orbit.radius, yaw, pitch)
        for size in ((300, 400), (400, 330)):
            camera = turned.camera(size)
            pixels = camera.project(points)
            assert (pixels >= 0).all() and (pixels <= torch.tensor(size[::-1])).all()
            centre = camera.project(torch.tensor([orbit.target]))[0]
            torch.testing.assert_close(centre, torch.tensor([size[1] / 2, size[0] / 2]), atol=1e-2, rtol=0)
            eye = -camera.R.mT @ camera.t - torch.tensor(orbit.target)
            assert float(eye[0]) * math.sin(yaw) >= -1e-6 and float(eye[1]) * pitch >= -1e-6


def test_dragging_turns_moves_and_zooms_as_the_pointer_does():
    orbit = Orbit((0.0, 0.0, 0.0), 0.1, 0.0, 0.0)
    front = torch.tensor([[0.0, 0.0, 0.05]])
    before = orbit.camera((200, 200)).project(front)[0]
    right = orbit.turned(0.3, 0.0).camera((200, 200)).project(front)[0]
    down = orbit.turned(0.0, 0.3).camera((200, 200)).project(front)[0]
    assert right[0] > before[0] + 1 and abs(right[1] - before[1]) < 1e-3 and down[1] > before[1] + 1
    moved = orbit.moved(0.1, 0.2).camera((200, 200)).project(torch.zeros(1, 3))[0]
    torch.testing.assert_close(moved, torch.tensor([120.0, 140.0]), atol=0.1, rtol=0)
    assert orbit.zoomed(2.0).distance == pytest.approx(orbit.distance / 2)
    assert orbit.turned(0.0, 9.0).pitch < math.pi / 2


def test_the_camera_keeps_to_a_frame():
    orbit = Orbit((0.0, 0.0, 0.0), 0.1)
    angle = torch.tensor(0.7)
    c, s = float(angle.cos()), float(angle.sin())
    rotation, translation = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]]), torch.tensor([0.1, -0.2, -3.0])
    local = torch.tensor([[0.02, 0.03, 0.05]])
    world = local @ rotation.mT + translation
    here = orbit.camera((100, 100)).project(local)
    there = orbit.camera((100, 100), rotation, translation).project(world)
    torch.testing.assert_close(here, there, atol=1e-3, rtol=0)
