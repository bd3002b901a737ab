"""Figures: sizes and places that are known, colours that mean what the bar says, films that come back."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from riggable import riggable_head
from viewed import head

from headlab.datasets.video import open_frames
from headlab.geometry.errors import HeadlabError
from headlab.heads.view.blend import distances, identity_grid
from headlab.heads.view.opened import OpenedCloud, OpenedMesh
from headlab.heads.view.surface import Surface
from headlab.viewers.figures import before_after, captioned, contact_sheet, side_by_side
from headlab.viewers.film import write_film
from headlab.viewers.heat_map import color_bar, good_limit, heat_colors, painted, with_color_bar
from headlab.viewers.offscreen import STILLS, draw
from headlab.viewers.portraits import FLAT, around, portrait, turning


def plain(height: int, width: int, level: int) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def test_a_contact_sheet_is_a_grid_of_equal_cells():
    sheet = contact_sheet([plain(20, 30, 10), plain(10, 10, 20), plain(20, 30, 30)], columns=2)
    assert sheet.shape == (20 + 6 + 20, 30 + 6 + 30, 3)
    assert (sheet[:20, :30] == 10).all() and (sheet[5:15, 46:56] == 20).all() and (sheet[26:, :30] == 30).all()
    assert (sheet[26:, 36:] == 255).all() and (sheet[20:26] == 255).all()
    assert contact_sheet([plain(8, 8, 0)] * 7).shape[1] > contact_sheet([plain(8, 8, 0)] * 7).shape[0] * 0.9
    with pytest.raises(HeadlabError, match="no pictures"):
        contact_sheet([])


def test_captions_lie_below_and_fit():
    picture = captioned(plain(140, 60, 10), "a name that is much too long for sixty pixels")
    assert picture.shape == (156, 60, 3) and (picture[:140] == 10).all()
    ink = (picture[140:] < 128).any(-1)
    assert ink.any() and not ink[:, 0].any() and not ink[:, -1].any()
    sheet = contact_sheet([plain(100, 80, 10)] * 2, ["one", "two"])
    assert sheet.shape[0] == 116 and not np.array_equal(sheet[100:, :80], sheet[100:, 86:])


def test_side_by_side_and_before_after():
    row = side_by_side([plain(40, 40, 10), plain(80, 20, 20)])
    assert row.shape == (40, 40 + 6 + 40, 3)  # the second one's 10 columns in a cell of 40
    assert (row[:, 46 + 15 : 46 + 25] == 20).all()
    strip = before_after([plain(50, 40, 10)] * 3, [plain(50, 40, 20)] * 3)
    assert (strip[:50, :40] == 10).all() and (strip[66 + 6 : 66 + 56, :40] == 20).all()
    with pytest.raises(HeadlabError, match="2 pictures before and 1 after"):
        before_after([plain(5, 5, 0)] * 2, [plain(5, 5, 0)])


def test_heat_grows_in_lightness_and_grey_is_unknown():
    colors = heat_colors(torch.linspace(0, 4, 101), 4.0)
    lightness = (colors**2.2) @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert (lightness[1:] > lightness[:-1]).all()
    special = heat_colors(torch.tensor([-1.0, 0.0, 4.0, 9.0, math.nan]), 4.0)
    assert torch.equal(special[0], special[1]) and torch.equal(special[2], special[3])
    torch.testing.assert_close(special[4], torch.full((3,), 0.6))


def test_the_bar_shows_the_colours_of_its_numbers():
    bar = color_bar(400, 2.0)
    margin = 400 // 26
    column = bar[margin : 400 - margin, 10].astype(float) / 255
    values = torch.linspace(2.0, 0.0, len(column))
    np.testing.assert_allclose(column, heat_colors(values, 2.0).numpy(), atol=0.01)
    ink = (bar[:, 30:] < 128).all(-1)
    assert ink.any() and not ink[:, -1].any()  # no number is cut off
    assert with_color_bar(plain(400, 300, 0), 2.0).shape == (400, 300 + bar.shape[1], 3)


@pytest.mark.parametrize(("largest", "limit"), [(0.9, 1.0), (1.2, 2.0), (3.0, 5.0), (7.0, 10.0), (0.031, 0.05)])
def test_limits_are_round(largest, limit):
    assert good_limit(torch.full((100,), largest)) == pytest.approx(limit)
    assert good_limit(torch.cat([torch.full((99,), largest), torch.tensor([1e3, math.nan])])) == pytest.approx(limit)


def test_errors_are_distances_to_the_surface():
    model = riggable_head()
    inner = Surface(model.template, model.faces.int())
    outer = Surface(model.template * 1.1, model.faces.int())
    values = distances(outer, inner)
    skin = slice(0, len(model.template) - 84)
    whole = model.template[skin].norm(dim=1) * 0.1
    assert float((values[skin] / whole).median()) == pytest.approx(1.0, abs=0.05)
    assert float(distances(inner, inner).max()) < 1e-6
    colored = painted(outer, values * 1000, 10.0)
    assert colored.colors is not None and not colored.textured


def test_portraits_are_smooth_and_go_around():
    surface = head().surface
    left, right = around(surface, (math.pi / 2, -math.pi / 2), size=(80, 70))
    assert left.shape == (80, 70, 3) and (left[0] == 255).all() and not np.array_equal(left, right)
    film = list(turning(surface, 4, size=(80, 70)))
    assert np.array_equal(film[1], left) and np.array_equal(film[3], right)
    flat = portrait(painted(surface, torch.zeros(len(surface.vertices)), 1.0), light=torch.tensor(FLAT).expand(9, 3))
    face = flat[(flat != 255).any(-1)].astype(float)
    assert np.median(face, 0)[2] > 1.5 * np.median(face, 0)[1]  # dark blue


@pytest.mark.parametrize("name", ["film.mp4", "film.gif"])
def test_films_come_back(tmp_path, name):
    pictures = [plain(48, 64, level) for level in (20, 120, 220, 120, 20, 60, 100, 140, 180, 220)]
    assert write_film(tmp_path / name, iter(pictures), 20.0) == 10
    if name.endswith("mp4"):
        levels = [float(frame.pixels.mean()) for frame in open_frames(tmp_path / name).frames()]
    else:
        with Image.open(tmp_path / name) as film:
            assert film.info["duration"] == 50 and film.info["loop"] == 0
            levels = []
            for i in range(film.n_frames):
                film.seek(i)
                levels.append(float(np.asarray(film.convert("RGB")).mean()))
    np.testing.assert_allclose(levels, [p.mean() for p in pictures], atol=4)


def test_films_that_cannot_be(tmp_path):
    with pytest.raises(HeadlabError, match="without pictures"):
        write_film(tmp_path / "a.mp4", iter(()))
    with pytest.raises(HeadlabError, match=r"films are \.mp4 or \.gif"):
        write_film(tmp_path / "a.avi", iter([plain(4, 4, 0)]))
    assert not list(tmp_path.iterdir())


def test_an_identity_grid_has_the_people_in_its_corners():
    heads = [head(seed=seed) for seed in (1, 2, 3, 4)]
    model = heads[0].model
    assert model is not None
    grid = identity_grid(heads, 3)
    corners = [grid[0][0], grid[0][2], grid[2][0], grid[2][2]]
    for person, corner in zip(heads, corners, strict=True):
        expected = model.vertices(model.neutral().with_(shape=person.fit.codes.shape[0]))
        torch.testing.assert_close(corner.vertices, expected)
    middle = torch.stack([corner.vertices for corner in corners]).mean(0)
    torch.testing.assert_close(grid[1][1].vertices, middle)
    assert [len(row) for row in identity_grid(heads[:2], 4)] == [4]
    completed = identity_grid(heads[:3], 2)[1][1].vertices
    a, b, c = (corner.vertices for corner in corners[:3])
    torch.testing.assert_close(completed, b + c - a)
    with pytest.raises(HeadlabError, match="blends two, three or four"):
        identity_grid(heads[:1], 3)


@pytest.mark.parametrize("kind", sorted(STILLS))
def test_every_figure_is_drawn(tmp_path, kind):
    draw(kind, [head(), head(seed=7, name="two")], tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape[2] == 3 and min(pixels.shape[:2]) > 200
    assert 0.05 < (pixels < 250).any(-1).mean() and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 500


def test_a_track_becomes_a_film_of_its_length(tmp_path):
    draw("turntable", [head(frames=4)], tmp_path / "film.mp4")
    assert open_frames(tmp_path / "film.mp4").rate == pytest.approx(10.0)
    assert sum(1 for _ in open_frames(tmp_path / "film.mp4").frames()) == 4


def test_figures_that_cannot_be(tmp_path):
    from headlab.geometry.rgbd.cloud import PointCloud

    mesh, cloud = OpenedMesh("m", head().surface), OpenedCloud("c", PointCloud(torch.rand(5, 3)))
    cases = [
        ("errors", [mesh], "a.png", "an error map takes two"),
        ("strip", [mesh], "a.png", "m is no head with a model"),
        ("identities", [mesh, mesh], "a.png", "leave out meshes"),
        ("turntable", [cloud], "a.png", "c is a point cloud and has no surface"),
        ("sheet", [mesh], "a.mp4", "sheet is one picture"),
        ("sheet", [mesh], "a.bmp", "neither .png nor .mp4"),
    ]
    for kind, items, name, words in cases:
        with pytest.raises(HeadlabError, match=words):
            draw(kind, items, tmp_path / name)
    assert not list(tmp_path.iterdir())
