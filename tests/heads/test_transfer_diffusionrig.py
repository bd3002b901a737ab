"""DiffusionRig as a renderer, on a rendered head with a tiny random network: crop, buffers, modes, what stays."""

from dataclasses import replace

import pytest
import torch
from upstream_nets import filled_rig, small_rig_config

from headlab.datasets.ffhq_align import ffhq_matrix
from headlab.diffusion.conditions import Conditions
from headlab.diffusion.upstream.diffusionrig import save_diffusionrig
from headlab.diffusion.upstream.diffusionrig_data import RigDatabase, write_rig_database
from headlab.diffusion.upstream.diffusionrig_edit import RigEditConfig, redraw, taken
from headlab.geometry.camera import Camera
from headlab.geometry.errors import HeadlabError, MissingAssetError
from headlab.geometry.frame import Frame
from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.texture.default_albedo import default_albedo
from headlab.heads.emotions import category, expression_of
from headlab.heads.ffhq_view import ffhq_square, ffhq_view, put_back
from headlab.heads.head_fit import HeadFit
from headlab.heads.transfer import PhotoHead, Source, TransferConfig, transfer, transferred_code
from headlab.heads.transfer_diffusionrig import (
    diffusionrig_renderer,
    edit_photo_with_rig,
    is_diffusionrig,
    only,
    open_diffusionrig,
    rig_buffers,
    rig_record,
)
from headlab.scripts.train_diffusionrig import TrainDiffusionRig

CROP = 32


@pytest.fixture(scope="module")
def network():
    return filled_rig(small_rig_config(size=CROP, multipliers=(1, 1), attention=(16,), blocks=1))


@pytest.fixture(scope="module")
def head(default_head: HeadModel) -> PhotoHead:
    """A rendered neutral head before grey, a little turned, as photo and fit."""
    light = torch.zeros(9, 3)
    light[0], light[2], light[3] = 2.2, 0.2, 0.35
    code = default_head.neutral().with_(
        translation=torch.tensor([0.01, 0.0, -1.0]), rotation=torch.tensor([0.0, 0.2, 0.1]), light=light
    )
    camera, albedo = Camera.frontal(420.0, (220, 200)), default_albedo(default_head).mean
    maps = Conditions.of(default_head, code, camera, albedo)
    image = maps.shaded.clamp(0, 1) * maps.mask + 0.5 * (1 - maps.mask)
    return PhotoHead(Frame(image), HeadFit("default", code.map(lambda x: x[None]), (camera,), albedo, ("a.png",)))


@pytest.fixture(scope="module")
def happy(default_head: HeadModel):
    return Source("happy", expression_of(category("happy"), default_head.expression_names), emotion=1)


def test_the_crop_is_ffhqs(default_head: HeadModel, head: PhotoHead) -> None:
    """The square's corners and pixels are where FFHQ's alignment puts them."""
    points = head.camera.project(default_head.landmarks3d(default_head.vertices(head.code), "478"))
    square = ffhq_square(points)
    matrix = torch.from_numpy(ffhq_matrix(points.double().numpy(), CROP)).float()
    want = points @ matrix[:, :2].mT + matrix[:, 2]
    torch.testing.assert_close(square.to_crop(points, CROP), want, atol=1e-3, rtol=0)
    view = ffhq_view(default_head, head, CROP)
    assert view.size == CROP and view.cut(head.frame.image).shape == (3, CROP, CROP)


def test_buffers_say_what_the_published_ones_say(default_head: HeadModel, head: PhotoHead) -> None:
    view = ffhq_view(default_head, head, 64)
    buffers = rig_buffers(view, default_head, head.code, head.fit.albedo)
    rendered, normal, albedo = buffers.split(3)
    outside = normal.abs().sum(0) == 0
    assert 0.05 < float(outside.float().mean()) < 0.9
    assert float(rendered[:, outside].abs().max()) == float(albedo[:, outside].abs().max()) == 0
    # Towards the viewer in the middle of the face, whose crop shows it from the front.
    assert float(normal[2, 24:40, 24:40].mean()) > 0.5
    assert float(normal.norm(dim=0).max()) <= 1 + 1e-5
    # The rendered picture is the photo's crop.
    crop = view.cut(head.frame.image)
    assert float((rendered - crop)[:, 20:44, 20:44].abs().mean()) < 0.05


def test_fitted_photos_become_a_store(default_head: HeadModel, head: PhotoHead, tmp_path) -> None:
    record = rig_record(default_head, head, CROP)
    assert write_rig_database(tmp_path / "store", [record, record]) == 2
    batch = RigDatabase(tmp_path / "store").load(torch.tensor([1]))
    view = ffhq_view(default_head, head, CROP)
    crop = view.cut(head.frame.image).clamp(0, 1)
    torch.testing.assert_close(batch.photo[0] / 2 + 0.5, crop, atol=1 / 255, rtol=0)
    assert torch.equal(batch.buffers[0], record.conditions())
    assert TrainDiffusionRig(tmp_path / "store", tmp_path / "out").database(CROP) == tmp_path / "store"


def test_a_photo_is_edited_inside_the_crop_alone(default_head, head, happy, network) -> None:
    made, stages = [], []
    renderer = diffusionrig_renderer(default_head, head, network, RigEditConfig(5), made, stages.append)
    (picture,), heads = transfer(default_head, [happy], head, None, renderer)
    assert torch.equal(picture, made[0].image) and len(heads.codes.shape) == 1
    assert stages[-1] == "happy: step 5 of 5" and len(stages) == 5
    view = made[0].view
    y, x = torch.meshgrid(torch.arange(220) + 0.5, torch.arange(200) + 0.5, indexing="ij")
    at = view.square.to_crop(torch.stack([x, y], -1).flatten(0, 1), CROP)
    outside = ((at < 0) | (at > CROP)).any(-1).reshape(220, 200)
    assert torch.equal(picture[:, outside], head.frame.image[:, outside])
    inside = (picture - head.frame.image)[:, ~outside].abs().mean()
    assert float(inside) > 0.01 and picture.isfinite().all() and 0 <= float(picture.min()) <= float(picture.max()) <= 1
    again = edit_photo_with_rig(
        default_head, network, head, transferred_code(default_head, happy, head), RigEditConfig(5)
    )
    assert torch.equal(again.image, picture)
    fresh = edit_photo_with_rig(default_head, network, head, head.code, RigEditConfig(5, "noise", 1))
    other = edit_photo_with_rig(default_head, network, head, head.code, RigEditConfig(5, "noise", 2))
    assert float((fresh.after - other.after).abs().mean()) > 1e-3


def test_inversion_under_the_same_buffers_gives_about_the_photo_back(network) -> None:
    """A network near 0 sees almost no noise: DDIM there and back is then nearly exact."""
    import copy

    quiet = copy.deepcopy(network)
    with torch.no_grad():
        quiet.denoisingUNet.out[2].weight.mul_(1e-3)
        quiet.denoisingUNet.out[2].bias.zero_()
    photo = torch.rand(1, 3, CROP, CROP) * 1.6 - 0.8
    buffers = torch.randn(1, 9, CROP, CROP)
    # With all signal gone at the end (as published) the way back starts anew; what it makes stays in range.
    made = redraw(quiet, photo, buffers, RigEditConfig(5), buffers)
    assert made.abs().max() <= 1
    with pytest.raises(HeadlabError, match="inversion needs the buffers"):
        redraw(quiet, photo, buffers)
    with pytest.raises(HeadlabError, match="draws 32 x 32 pixels"):
        redraw(quiet, photo[..., :16], buffers[..., :16])


def test_modes_take_one_thing_alone(default_head, head) -> None:
    other = head.code.with_(
        expression=torch.full_like(head.code.expression, 0.3),
        jaw=torch.tensor([0.2, 0.0, 0.0]),
        rotation=torch.tensor([0.0, -0.3, 0.0]),
        light=2 * head.code.light,
    )
    changed = {
        mode: {
            name
            for name, value in taken(head.code, other, mode).arrays().items()
            if not torch.equal(value, head.code.arrays()[name])
        }
        for mode in ("light", "expression", "pose")
    }
    assert changed == {"light": {"light"}, "expression": {"expression", "jaw"}, "pose": {"rotation"}}
    with pytest.raises(HeadlabError, match="no mode"):
        taken(head.code, other, "hair")
    with pytest.raises(HeadlabError, match="no light is known"):
        taken(head.code, other.with_(light=None), "light")
    source = Source("b", other.expression, PhotoHead(head.frame, replace(head.fit, codes=other.map(lambda x: x[None]))))
    for mode, names in changed.items():
        code = transferred_code(default_head, source, head, only(TransferConfig(), mode))
        moved = {n for n, v in code.arrays().items() if not torch.allclose(v, head.code.arrays()[n], atol=1e-6)}
        assert moved == names, mode
    with pytest.raises(HeadlabError, match="--only takes"):
        only(TransferConfig(), "hair")


def test_names_of_models(tmp_path, network, monkeypatch) -> None:
    monkeypatch.setenv("HEADLAB_ASSETS", str(tmp_path / "assets"))
    assert is_diffusionrig("diffusionrig:a.pt") and is_diffusionrig("diffusionrig") and not is_diffusionrig("default")
    with pytest.raises(MissingAssetError, match="Adobe Research License"):
        open_diffusionrig("diffusionrig")
    save_diffusionrig(network, tmp_path / "model000010.pt")
    assert open_diffusionrig(f"diffusionrig:{tmp_path / 'model000010.pt'}").config == network.config


def test_putting_a_crop_back_changes_nothing_where_it_is_the_same() -> None:
    image = torch.rand(3, 60, 60)
    from headlab.geometry.regress.default_crop import UprightSquare
    from headlab.heads.crop_view import CropView

    square = UprightSquare(torch.tensor([30.0, 30.0]), torch.tensor(32.0), torch.tensor(0.0))
    view = CropView.of_square(square, Camera.frontal(60.0, (60, 60)), 32)
    assert float((put_back(image, view.cut(image), view) - image).abs().max()) < 1e-4


def test_the_command_takes_a_checkpoint(tmp_path, head: PhotoHead, network) -> None:
    """`headlab transfer --model diffusionrig:PATH`, on an earlier fit and its photo."""
    import json

    from headlab.datasets.photo import read_photo
    from headlab.geometry.files import write_png
    from headlab.scripts.transfer import Transfer, transfer_command

    save_diffusionrig(network, tmp_path / "model000010.pt")
    write_png(tmp_path / "photo.png", head.frame.image)
    head.fit.save(tmp_path / "head.npz")
    options = Transfer(
        ("happy",),
        tmp_path / "head.npz",
        tmp_path / "out",
        photo=tmp_path / "photo.png",
        model=f"diffusionrig:{tmp_path / 'model000010.pt'}",
        steps=5,
    )
    report = transfer_command(options)
    assert report["renderer"] == "diffusion" and "DiffusionRig" in report["renderer_why"]
    edited = read_photo(tmp_path / "out/edited.png").image
    assert edited.shape == head.frame.image.shape and not torch.equal(edited, head.frame.image)
    assert json.loads((tmp_path / "out/report.json").read_text())["taken"]["expression"] is True
    for changes, message in (
        ({"guidance": 2.0}, "DiffusionRig takes no --guidance"),
        ({"renderer": "mesh"}, "no --renderer mesh"),
        ({"steps": 300}, "no stride"),
        ({"only": "light"}, "has no light"),
        ({"model": f"diffusionrig:{tmp_path / 'none.pt'}"}, "is not there"),
    ):
        with pytest.raises(HeadlabError, match=message):
            transfer_command(replace(options, out=tmp_path / "x", **changes))
