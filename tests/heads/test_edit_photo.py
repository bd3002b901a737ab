"""edit_photo on a rendered head with a tiny random model: what stays, what is blended, depth, the choice."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_diffusion import SIZE as CROP
from tiny_diffusion import tiny_diffusion

from headlab.datasets.depth_map import write_depth
from headlab.datasets.synthetic.pairs import FARTHER, NEARER
from headlab.diffusion.conditions import Conditions
from headlab.diffusion.edit import EditConfig
from headlab.geometry.camera import Camera
from headlab.geometry.code import HeadCode
from headlab.geometry.errors import HeadlabError
from headlab.geometry.frame import Frame
from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.texture.default_albedo import default_albedo
from headlab.heads.crop_view import CropView
from headlab.heads.edit_blend import blended, face_mask, rim_mask, seamless
from headlab.heads.edit_photo import EditPhotoConfig, edit_photo, sensor_nearness
from headlab.heads.emotions import category, expression_of
from headlab.heads.head_fit import HeadFit
from headlab.heads.transfer import PhotoHead, Source, transfer, transferred_code
from headlab.heads.transfer_renderer import PERSONAL, Editor, choose_renderer, diffusion_renderer, load_editor
from headlab.heads.transfer_source import with_depth

SIZE = (220, 200)


@pytest.fixture(scope="module")
def head(default_head: HeadModel) -> PhotoHead:
    """A rendered neutral head before grey, a little turned, as photo and fit."""
    light = torch.zeros(9, 3)
    light[0], light[2], light[3] = 2.2, 0.2, 0.35
    code = default_head.neutral().with_(
        translation=torch.tensor([0.01, 0.0, -1.0]), rotation=torch.tensor([0.0, 0.2, 0.1]), light=light
    )
    camera, albedo = Camera.frontal(420.0, SIZE), default_albedo(default_head).mean
    maps = Conditions.of(default_head, code, camera, albedo)
    image = maps.shaded.clamp(0, 1) * maps.mask + 0.5 * (1 - maps.mask)
    return PhotoHead(Frame(image), HeadFit("default", code.map(lambda x: x[None]), (camera,), albedo, ("a.png",)))


@pytest.fixture(scope="module")
def happy(default_head: HeadModel, head: PhotoHead) -> tuple[Source, HeadCode]:
    source = Source("happy", expression_of(category("happy"), default_head.expression_names), emotion=1)
    return source, transferred_code(default_head, source, head)


def test_background_is_kept_bit_by_bit(default_head: HeadModel, head: PhotoHead, happy) -> None:
    source, code = happy
    (mesh,), _ = transfer(default_head, [source], head)
    for warped in (True, False):
        config = EditPhotoConfig(EditConfig(steps=2), warped=warped)
        steps: list[tuple[int, int]] = []
        out = edit_photo(
            default_head, tiny_diffusion(), head, code, source, config, lambda *at, to=steps: to.append(at)
        )
        assert steps == [(1, 2), (2, 2)] and out.image.shape == head.frame.image.shape
        vertices = [default_head.vertices(c) for c in (head.code, code)]
        far = face_mask(default_head, head.camera, vertices, 0.012) == 0
        base = mesh if warped else head.frame.image
        assert torch.equal(out.image[:, far], base[:, far])
        assert (out.image - base)[:, ~far].abs().mean() > 1e-3  # random networks do draw something
        assert out.before.shape == out.after.shape == (4, CROP, CROP)


def test_no_edit_gives_the_photo_back(default_head: HeadModel, head: PhotoHead) -> None:
    """What the autoencoder loses is not taken for a change."""
    drawn = Conditions.of(default_head, head.code, head.camera, head.fit.albedo).depth
    for warped in (True, False):
        config = EditPhotoConfig(EditConfig(steps=2), warped=warped)
        out = edit_photo(default_head, tiny_diffusion(), head, head.code, None, config)
        torch.testing.assert_close(out.image, head.frame.image, atol=2e-3, rtol=0)
        assert out.depth is not None
        torch.testing.assert_close(out.depth, drawn, atol=2e-3, rtol=0)


def test_measured_depth_is_edited_where_it_is(default_head: HeadModel, head: PhotoHead, happy) -> None:
    """A sensor that sees the head 12 cm farther away: the edit is the same, and so is the offset."""
    source, code = happy
    drawn = Conditions.of(default_head, head.code, head.camera, head.fit.albedo).depth
    far = PhotoHead(head.frame.with_(depth=torch.where(drawn > 0, drawn + 0.12, 3.0)), head.fit)
    config = EditPhotoConfig(EditConfig(steps=2))
    out = edit_photo(default_head, tiny_diffusion(), far, code, source, config)
    plain = edit_photo(default_head, tiny_diffusion(), head, code, source, config)
    assert out.depth is not None and far.frame.depth is not None
    assert float((out.before - plain.before).abs().mean()) < 0.02
    after = Conditions.of(default_head, code, head.camera, head.fit.albedo).depth
    behind = (drawn == 0) & (after == 0)
    assert torch.equal(out.depth[behind], far.frame.depth[behind])
    assert (out.depth[(drawn > 0) & (after == 0)] == 0).all()
    outline = (drawn == 0) & (after > 0)
    assert float((out.depth - after - 0.12).abs()[outline].amax()) < FARTHER + NEARER
    moved = (out.depth - far.frame.depth)[(drawn > 0) & (after > 0)].abs()
    assert moved.mean() > 1e-4 and moved.amax() < FARTHER + NEARER


def test_colour_alone_has_no_depth(default_head: HeadModel, head: PhotoHead, happy) -> None:
    source, code = happy
    out = edit_photo(default_head, tiny_diffusion(3), head, code, source, EditPhotoConfig(EditConfig(steps=1)))
    assert out.depth is None


def test_refused(default_head: HeadModel, head: PhotoHead, happy, tmp_path: Path) -> None:
    source, code = happy
    config = EditPhotoConfig(EditConfig(steps=1))
    write_depth(tmp_path / "small.png", torch.ones(10, 20))
    with pytest.raises(HeadlabError, match="20 x 10 pixels, its photo 200 x 220"):
        with_depth(head, tmp_path / "small.png")
    write_depth(tmp_path / "right.png", torch.ones(SIZE))
    seen = with_depth(head, tmp_path / "right.png").frame.depth
    assert seen is not None and (seen == 1).all()
    empty = PhotoHead(head.frame.with_(depth=torch.zeros(SIZE)), head.fit)
    with pytest.raises(HeadlabError, match="nothing where the face is"):
        edit_photo(default_head, tiny_diffusion(), empty, code, source, config)
    bare = replace(default_head, regions={})
    with pytest.raises(HeadlabError, match="no regions"):
        edit_photo(bare, tiny_diffusion(), head, code, source, config)


def test_sensor_depth_is_brought_to_the_head(default_head: HeadModel, head: PhotoHead) -> None:
    view = CropView.of(
        head.camera.project(default_head.landmarks3d(default_head.vertices(head.code), "478")), head.camera, 64
    )
    drawn = Conditions.of(default_head, head.code, head.camera, head.fit.albedo).depth
    seen = view.maps(default_head, head.code, head.fit.albedo).depth
    near = torch.where(seen > 0, (1.0 + FARTHER - seen) / (FARTHER + NEARER), 0.0)
    measured = torch.where(drawn > 0, 0.83 * drawn + 0.4, 0.0)
    back = sensor_nearness(view, measured, near, 1.0)
    inside = (near > 0.05) & (back > 0)
    assert float((back - near).abs()[inside].median()) < 0.06  # relief is 17 % flatter; the place agrees


def test_masks_and_seams(default_head: HeadModel, head: PhotoHead) -> None:
    rim = rim_mask(32)
    assert rim[0].amax() == rim[:, -1].amax() == 0 and rim[8:24, 8:24].amin() == 1
    vertices = default_head.vertices(head.code)
    mask = face_mask(default_head, head.camera, [vertices])
    assert 0.03 < float(mask.mean()) < 0.3 and mask.amax() == 1 and mask[:10].amax() == 0
    nose = head.camera.project(default_head.landmarks3d(vertices, "68")[30:31])[0].long()
    assert mask[nose[1], nose[0]] == 1
    small = torch.zeros(24, 24)
    small[6:18, 6:18] = 1
    assert seamless(torch.full((3, 24, 24), 0.3), small).abs().amax() < 1e-3
    bump = torch.zeros(1, 24, 24)
    bump[:, 10:14, 10:14] = 0.5
    torch.testing.assert_close(seamless(bump, small), bump, atol=1e-4, rtol=0)
    view = CropView.of(head.camera.project(default_head.landmarks3d(vertices, "478")), head.camera, 24)
    window = view.window()
    out = blended(torch.zeros(1, *SIZE), bump, torch.ones(window[3] - window[1], window[2] - window[0]), view, window)
    assert out.amax() == pytest.approx(0.5, abs=0.15)


def test_the_choice_follows_the_face_and_the_model(
    default_head: HeadModel, head: PhotoHead, happy, tmp_path: Path
) -> None:
    source, _ = happy
    fine, coarse = tiny_diffusion(size=128), tiny_diffusion()
    assert choose_renderer(default_head, head, Editor.of(fine, "fine")).renderer == "diffusion"
    choice = choose_renderer(default_head, head, Editor.of(coarse, "coarse"))
    assert choice.renderer == "mesh" and "32 of the general model" in choice.why
    medium = tiny_diffusion(size=64)
    assert choose_renderer(default_head, head, Editor.of(medium, "m")).renderer == "mesh"
    assert choose_renderer(default_head, head, Editor.of(medium, "m", {"photos": []})).renderer == "diffusion"
    made: list = []
    editor = Editor.of(coarse, "coarse")
    renderer = diffusion_renderer(default_head, head, editor, EditPhotoConfig(EditConfig(steps=1)), made)
    pictures, heads = transfer(default_head, [source, source], head, renderer=renderer)
    assert len(made) == 2 and torch.equal(pictures[1], made[1].image) and len(heads.sources) == 2
    coarse.save(tmp_path / "own")
    (tmp_path / "own" / PERSONAL).write_text('{"photos": ["a.jpg"]}')
    loaded = load_editor(tmp_path / "own")
    assert loaded.personal == {"photos": ["a.jpg"]} and (loaded.name, loaded.size) == ("own", CROP)
    assert loaded.diffusion is loaded.diffusion
    (tmp_path / "own" / PERSONAL).write_text("{")
    with pytest.raises(HeadlabError, match="personalize anew"):
        load_editor(tmp_path / "own")
    with pytest.raises(HeadlabError, match="no folder of a latent diffusion model"):
        load_editor(tmp_path)
