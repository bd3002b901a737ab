"""Hair: styles, their files, and meshes on heads of several models."""

import json
from pathlib import Path

import pytest
import torch

from headlab.geometry.camera import Camera
from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.ict import load_ict
from headlab.geometry.raster import closest_point, rasterize
from headlab.heads.completion import HairStyle, dressed, find_style, list_styles
from headlab.heads.completion.dress import empty_square
from headlab.heads.completion.hair_styles import BUILT_IN
from headlab.heads.export import write_glb, write_obj, write_ply


@pytest.mark.parametrize("style", BUILT_IN.values(), ids=BUILT_IN)
def test_every_style_covers_the_scalp_and_not_the_face(default_head, style: HairStyle) -> None:
    code = default_head.neutral()
    model, _ = dressed(default_head, code, None, style)
    vertices = model.vertices(code)
    count = len(default_head.template)
    assert torch.equal(vertices[:count], default_head.vertices(code))
    assert model.part_names[-1] == "hair" and bool(vertices.isfinite().all())
    camera = Camera.frontal(900.0, (400, 400))
    turn = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    hair = len(model.part_names) - 1
    shown = []
    for view in (torch.eye(3), turn):  # from the front and from behind
        placed = vertices @ view.T - torch.tensor([0, 0, 0.8])
        raster = rasterize(camera.to_homogeneous(placed)[None], model.faces, camera.size)
        shown.append((raster.mask[0], model.face_parts[raster.face[0].clamp(min=0).long()] == hair, raster))
    behind = shown[1][0] & shown[1][1]
    assert float(behind.sum() / shown[1][0].sum()) > 0.3
    face = default_head.regions["face"] | default_head.regions["eyes"]
    inner = [*range(27, 36), *range(36, 68)]  # nose, eyes, mouth stay free
    marks = camera.project(default_head.landmarks3d(vertices[:count])[inner] - torch.tensor([0, 0, 0.8])).long()
    assert not bool(shown[0][1][marks[:, 1], marks[:, 0]].any()) and bool(face.any())


def test_hair_follows_the_head(default_head) -> None:
    code = default_head.neutral()
    model, _ = dressed(default_head, code, None, BUILT_IN["short"])
    count = len(default_head.template)
    generator = torch.Generator().manual_seed(0)
    other = code.with_(
        shape=0.7 * torch.randn(model.shapes, generator=generator),
        rotation=torch.tensor([0.1, 0.5, 0.0]),
        jaw=torch.tensor([0.3, 0.0, 0.0]),
        translation=torch.tensor([0.1, 0.2, -0.5]),
    )
    for one in (code, other):
        vertices = model.vertices(one).double()
        distance, _, _ = closest_point(vertices[:count], default_head.faces, vertices[count:])
        assert float(distance.max()) < 0.035


def test_hair_on_another_model(shared: Path) -> None:
    ict = load_ict(shared / "data/ict_facekit.npz")
    model, _ = dressed(ict, ict.neutral(), None, BUILT_IN["bob"])
    top = ict.template[:, 1].amax()
    hair = model.template[len(ict.template) :]
    assert float(top) < float(hair[:, 1].amax()) < float(top) + 0.04
    assert float(hair[:, 0].abs().amax()) < 0.14


def test_hair_is_written_and_painted(default_head, tmp_path: Path) -> None:
    code, albedo = default_head.neutral(), torch.full((3, 256, 256), 0.6)
    style = HairStyle("red", colour=(0.7, 0.1, 0.1))
    model, painted = dressed(default_head, code, albedo, style)
    changed = (painted - albedo).abs().amax(0) > 0
    assert 0 < int(changed.sum()) < 0.2 * 256 * 256
    red, green = painted[:2, changed].mean(1).tolist()
    assert red > 3 * green
    write_glb(tmp_path / "h.glb", model, code, painted)
    write_obj(tmp_path / "h.obj", model, model.vertices(code), texture="a.png")
    write_ply(tmp_path / "h.ply", model, model.vertices(code), painted)
    assert "g hair" in (tmp_path / "h.obj").read_text() and b'"hair"' in (tmp_path / "h.glb").read_bytes()
    with pytest.raises(HeadlabError, match="wears hair already"):
        dressed(model, code, painted, style)


def test_the_empty_square_is_empty() -> None:
    covered = torch.zeros(60, 60, dtype=torch.bool)
    covered[:20], covered[:, :10] = True, True
    row, column, side = empty_square(covered.numpy())
    assert not bool(covered[row : row + side, column : column + side].any()) and side >= 30


def test_styles_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADLAB_ASSETS", str(tmp_path))
    assert list_styles() == BUILT_IN
    (tmp_path / "hair").mkdir()
    mine = tmp_path / "hair" / "mohawk.json"
    mine.write_text(json.dumps({"hairline": 0.9, "top": 0.08, "colour": [0.1, 0.8, 0.2]}))
    assert find_style("mohawk").top == 0.08 and find_style(str(mine)).colour == (0.1, 0.8, 0.2)
    with pytest.raises(HeadlabError, match="no hair style is called mullet"):
        find_style("mullet")
    for text, said in (
        ("{", "no hair style"),
        ("[1]", "no hair style"),
        ('{"lenght": 0.1}', "lenght"),
        ('{"length": 9}', "must be a number from 0 to 0.6"),
        ('{"length": "long"}', "must be a number"),
        ('{"colour": [1, 2]}', "three numbers"),
    ):
        mine.write_text(text)
        with pytest.raises(HeadlabError, match=said):
            find_style("mohawk")
