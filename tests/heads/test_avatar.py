"""The RGB-D avatar end to end on a rendered capture whose head is known, and on a real one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_diffusion import tiny_diffusion

from headlab.datasets.rgbd_selfie import open_selfies
from headlab.datasets.synthetic.depth_noise import sensor_depth
from headlab.diffusion.conditions import Conditions
from headlab.diffusion.edit import EditConfig
from headlab.diffusion.training_selfies import SelfieLatents
from headlab.geometry.camera import Camera
from headlab.geometry.code import HeadCode
from headlab.geometry.errors import HeadlabError
from headlab.geometry.frame import Frame
from headlab.geometry.landmarks import FaceLandmarks, LandmarkDetector
from headlab.geometry.models.head_model import HeadModel
from headlab.heads.avatar import AvatarConfig, edit_capture
from headlab.heads.edit_photo import EditPhotoConfig
from headlab.heads.fit import FitTools
from headlab.heads.head_fit import HeadFit
from headlab.heads.selfie_crops import selfie_crops
from headlab.heads.transfer import PhotoHead, Source, transferred_code

SIZE, AWAY = (240, 220), 0.7


class Blind:
    """Finds no face."""

    name = "blind"

    def detect(self, image: torch.Tensor) -> list[FaceLandmarks]:
        return []

    def close(self) -> None: ...

    def __enter__(self) -> "Blind":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None: ...


@pytest.fixture(scope="module")
def capture(default_head: HeadModel) -> PhotoHead:
    """A grey head before a camera that knows depth, with a sensor's noise and holes."""
    code = default_head.neutral().with_(
        shape=0.8 * torch.randn(default_head.shapes, generator=torch.Generator().manual_seed(5)),
        translation=torch.tensor([0.01, 0.0, -AWAY]),
    )
    camera = Camera.frontal(520.0, SIZE)
    texture = torch.full((3, 64, 64), 0.6)
    drawn = Conditions.of(default_head, code, camera, texture)
    image = torch.where(drawn.mask > 0, drawn.shaded, 0.3).clamp(0, 1)
    depth = torch.from_numpy(sensor_depth(drawn.depth.numpy(), np.random.default_rng(0)))
    codes = HeadCode(**{name: value[None] for name, value in code.arrays().items()})
    fit = HeadFit("default", codes, (camera,), texture, ("0001_color.png",))
    return PhotoHead(Frame(image, depth=depth, camera=camera), fit)


def smile(model: HeadModel) -> Source:
    expression = torch.zeros(model.expressions)
    for name in ("mouthSmileLeft", "mouthSmileRight"):
        expression[model.expression_names.index(name)] = 0.9
    expression[model.expression_names.index("jawOpen")] = 0.3
    return Source("happy", expression, emotion=1)


@pytest.mark.parametrize("renderer", ["mesh", "diffusion"])
def test_from_capture_and_expression_to_a_head(default_head: HeadModel, capture: PhotoHead, renderer: str) -> None:
    model, source = default_head, smile(default_head)
    code = transferred_code(model, source, capture)
    photo = EditPhotoConfig(EditConfig(steps=2, method="dpm++", start="noise", capture=True), depth="head")
    diffusion = tiny_diffusion() if renderer == "diffusion" else None
    avatar = edit_capture(model, diffusion, capture, code, source, Blind(), replace(AvatarConfig(), photo=photo))

    assert avatar.image.shape == capture.frame.image.shape and avatar.landmarks == "wanted head"
    true = Conditions.of(model, code, capture.camera, torch.full((3, 8, 8), 0.6)).depth
    both = (true > 0) & (avatar.depth > 0)
    assert both.sum() > 0.98 * (true > 0).sum()  # holes are filled
    seen = capture.frame.depth
    assert seen is not None
    off, was = (avatar.depth - true).abs()[both], (seen - true).abs()[both & (seen > 0)]
    assert off.median() < 0.002 and off.mean() < was.mean()

    face = model.regions["face"]
    wanted, made = (model.vertices(c)[face] for c in (code, avatar.fit.code))
    assert float((wanted - made).norm(dim=-1).mean()) < 0.003
    assert torch.equal(avatar.fit.code.shape, avatar.before.code.shape)
    assert avatar.beta_drift_mm < 1.5
    index = model.expression_names.index("mouthSmileLeft")
    assert avatar.fit.code.expression[index] > avatar.before.code.expression[index] + 0.2
    assert avatar.cloud.colors is not None and len(avatar.cloud.points) == len(avatar.cloud.colors) > 3000
    head = avatar.head(capture)
    assert head.report["method"] == "avatar" and torch.equal(head.codes[0].translation, avatar.fit.code.translation)


def test_refused(default_head: HeadModel, capture: PhotoHead) -> None:
    code = capture.code
    flat = PhotoHead(capture.frame.with_(depth=None), capture.fit)
    with pytest.raises(HeadlabError, match="needs a capture with depth"):
        edit_capture(default_head, None, flat, code, None, Blind())
    with pytest.raises(HeadlabError, match="colour alone"):
        edit_capture(default_head, tiny_diffusion(3), capture, code, None, Blind())
    empty = PhotoHead(capture.frame.with_(depth=torch.zeros(SIZE)), capture.fit)
    with pytest.raises(HeadlabError, match="nothing where the face is"):
        edit_capture(default_head, None, empty, code, None, Blind())


@pytest.mark.slow
def test_crops_of_a_real_capture(shared: Path, tmp_path: Path, fit_tools: FitTools, detector: LandmarkDetector) -> None:
    folder = tmp_path / "man"
    folder.mkdir()
    for file in (shared / "data/rgbd/subject_a").iterdir():
        if file.name.startswith(("0001", "0005", "intr")):
            (folder / file.name).write_bytes(file.read_bytes())
    (folder / "0009_color.png").write_bytes((folder / "0001_mask.png").read_bytes())  # no face
    (folder / "0009_depth.png").write_bytes((folder / "0001_depth.png").read_bytes())
    (folder / "expressions.json").write_text('{"0005": "sad"}')
    crops = selfie_crops(fit_tools, open_selfies(tmp_path), detector, 64, 52)
    assert crops.names == ("man/0001", "man/0005") and crops.emotion.tolist() == [-1, 2]
    assert len(crops.skipped) == 1 and crops.skipped[0].startswith("man/0009")
    near, head = crops.near.float(), crops.maps[:, 9].float()
    both = (near > 0.05) & (head > 0.05)
    assert both.float().mean() > 0.2 and float((near - head).abs()[both].median()) < 0.03  # a centimetre
    data = SelfieLatents.of(tiny_diffusion(size=64), crops)
    assert data.count == 2 and data.load(torch.tensor([0])).latents.isfinite().all()
