"""Expression transfer: the field beside the face, the composite against a render, what is taken, what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from headlab.diffusion.conditions import Conditions
from headlab.geometry.camera import Camera
from headlab.geometry.code import HeadCode
from headlab.geometry.errors import HeadlabError
from headlab.geometry.frame import Frame
from headlab.geometry.landmarks import FaceLandmarks
from headlab.geometry.landmarks.mesh478 import LEFT_EYE, RIGHT_EYE
from headlab.geometry.models.head_model import HeadModel
from headlab.geometry.texture.default_albedo import default_albedo
from headlab.heads.emotions import category, expression_of
from headlab.heads.fit import FitConfig
from headlab.heads.head_fit import HeadFit
from headlab.heads.transfer import PhotoHead, Source, TransferConfig, transfer, transferred_code
from headlab.heads.transfer_composite import CompositeConfig, composite
from headlab.heads.transfer_field import extend_field
from headlab.heads.transfer_lids import meet_lids
from headlab.heads.transfer_source import Workshop, read_head, read_sliders, read_source

SIZE = (280, 280)


class NoDetector:
    """Finds nothing."""

    name = "none"

    def detect(self, image: Float[Tensor, "3 height width"]) -> list[FaceLandmarks]:
        return []

    def close(self) -> None: ...

    def __enter__(self) -> "NoDetector":
        return self

    def __exit__(self, kind, error, trace) -> None: ...


def _code(model: HeadModel, **actions: float) -> HeadCode:
    light = torch.zeros(9, 3)
    light[0], light[2], light[3] = 2.2, 0.2, 0.35
    expression = expression_of(actions, model.expression_names)
    return model.neutral().with_(expression=expression, translation=torch.tensor([0.0, 0.0, -1.0]), light=light)


@pytest.fixture(scope="module")
def scene(default_head: HeadModel) -> PhotoHead:
    """A rendered neutral head before a striped background, as photo and as fit."""
    code, camera = _code(default_head), Camera.frontal(420, SIZE)
    mean = default_albedo(default_head).mean
    # Freckles: without detail a warp could not be told from standing still.
    freckles = 0.12 * torch.rand(1, 128, 128, generator=torch.Generator().manual_seed(1))
    albedo = (mean - torch.nn.functional.interpolate(freckles[None], mean.shape[1:], mode="bilinear")[0]).clamp(0, 1)
    image = _over_stripes(Conditions.of(default_head, code, camera, albedo))
    marks = camera.project(default_head.landmarks3d(default_head.vertices(code), "478"))
    face = FaceLandmarks(marks, torch.zeros(478), 1.0)
    codes = code.map(lambda x: x[None])
    fit = HeadFit("default", codes, (camera,), albedo, ("photo.png",))
    return PhotoHead(Frame(image, landmarks=face), fit)


def _over_stripes(maps: Conditions) -> Float[Tensor, "3 height width"]:
    stripes = 0.5 + 0.3 * torch.sin(torch.arange(SIZE[1]) * 0.4).expand(3, *SIZE)
    return maps.shaded.clamp(0, 1) * maps.mask + stripes * (1 - maps.mask)


def test_field_falls_off_exponentially() -> None:
    """The screened Laplace equation on a line: exp(-x / reach)."""
    known = torch.zeros(24, 240, dtype=torch.bool)
    known[:, 0] = True
    field = extend_field(torch.ones(1, 24, 240), known, 20.0)
    expected = torch.exp(-torch.arange(240) / 20.0).expand(24, 240)
    torch.testing.assert_close(field[0], expected, atol=0.08, rtol=0)
    assert (extend_field(torch.ones(1, 24, 240), known & False, 20.0) == 0).all()
    unknown = torch.where(known, torch.ones(1, 24, 240), torch.nan)
    assert torch.equal(extend_field(unknown, known, 20.0), field)


def test_field_without_reach_is_harmonic() -> None:
    """Between two borders: linear."""
    known = torch.zeros(40, 90, dtype=torch.bool)
    known[:, 0] = known[:, -1] = True
    ramp = torch.linspace(-1, 2, 90).expand(1, 40, 90)
    torch.testing.assert_close(extend_field(ramp, known, None), ramp, atol=0.13, rtol=0)
    torch.testing.assert_close(extend_field(ramp, known, None)[:, known], ramp[:, known], atol=0, rtol=0)


def test_the_same_code_gives_the_photo_back(default_head: HeadModel, scene: PhotoHead) -> None:
    marks = scene.frame.landmarks
    assert marks is not None
    off = marks.points + torch.randn(478, 2, generator=torch.Generator().manual_seed(2))
    for landmarks in (None, off):
        out = composite(
            default_head, scene.frame.image, scene.camera, scene.code, scene.code, scene.fit.albedo, landmarks
        )
        assert torch.equal(out, scene.frame.image)


@pytest.mark.parametrize("name", ["happy", "surprise", "sad"])
def test_the_composite_is_what_a_camera_would_have_seen(default_head: HeadModel, scene: PhotoHead, name: str) -> None:
    """On a synthetic photo the answer is known: the render of the changed head."""
    source = Source(name, expression_of(category(name), default_head.expression_names))
    (out,), heads = transfer(default_head, [source], scene)
    truth = Conditions.of(default_head, heads.codes[0], scene.camera, scene.fit.albedo)
    expected = _over_stripes(truth)
    vertices = default_head.vertices(heads.codes[0])
    pixels = scene.camera.project(vertices[default_head.regions["face"]])
    low, high = pixels.amin(0).int().tolist(), pixels.amax(0).int().tolist()
    window = (..., slice(low[1], high[1]), slice(low[0], high[0]))
    before = (scene.frame.image - expected)[window].abs().mean()
    after = (out - expected)[window].abs().mean()
    assert after < 0.012 and after < 0.6 * before
    # Away from the head not a bit changes; the top of the head does not move.
    assert torch.equal(out[:, :8], scene.frame.image[:, :8])
    assert torch.equal(out[:, :, :8], scene.frame.image[:, :, :8])
    assert torch.equal(heads.codes.shape[0], scene.code.shape)


def test_an_opened_mouth_shows_the_model_and_a_blink_hides_the_eyes(default_head: HeadModel, scene: PhotoHead) -> None:
    blink = {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}
    # The mouth is dimmer than the render, whose light reaches everywhere.
    for actions, part, share in (({"jawOpen": 0.7}, "mouth", 0.95), (blink, "eyelids", 0.8)):
        new = _code(default_head, **actions)
        out = composite(default_head, scene.frame.image, scene.camera, scene.code, new, scene.fit.albedo)
        middle = scene.camera.project(default_head.vertices(new)[default_head.regions[part]])
        low, high = middle.amin(0).int().tolist(), middle.amax(0).int().tolist()
        expected = Conditions.of(default_head, new, scene.camera, scene.fit.albedo).shaded.clamp(0, 1)
        window = (..., slice(low[1], high[1]), slice(low[0], high[0]))
        before, after = ((x - expected)[window].abs().mean() for x in (scene.frame.image, out))
        assert after < share * before


def test_lids_meet_and_go_no_further(default_head: HeadModel) -> None:
    """On eyes half as high as the mean's a whole blink is more than it takes."""
    names = default_head.expression_names
    lids = [names.index(f"eyeBlink{side}") for side in ("Left", "Right")]
    whole = _code(default_head, eyeBlinkLeft=1.0, eyeBlinkRight=1.0)
    narrow = _code(default_head, eyeBlinkLeft=1.0, eyeBlinkRight=1.0, eyeSquintLeft=1.0, eyeSquintRight=1.0)
    old = _code(default_head)
    assert torch.allclose(meet_lids(default_head, old, whole).expression, whole.expression, atol=1e-5)
    assert torch.equal(meet_lids(default_head, old, old).expression, old.expression)
    held = meet_lids(default_head, old, narrow)
    assert (held.expression[lids] < 0.97).all() and (held.expression[lids] > 0.3).all()
    for ring, lid in zip((LEFT_EYE, RIGHT_EYE), lids, strict=True):
        gaps = []
        for code in (whole, held, narrow):
            points = default_head.landmarks3d(default_head.vertices(code), "478")
            gaps.append(float((points[list(ring[3:6]), 1] - points[[ring[-k] for k in (3, 4, 5)], 1]).mean()))
        assert abs(gaps[1] - gaps[0]) < 2e-4 < gaps[2] - gaps[0], lid
    # A photo that shows them so keeps them so.
    assert torch.equal(meet_lids(default_head, narrow, narrow).expression, narrow.expression)


def test_drawn_skin_has_no_streaks(default_head: HeadModel, scene: PhotoHead) -> None:
    """Freckles of the fold above the eye are not drawn down the lid: along it the picture is as smooth as across."""
    new = _code(default_head, eyeBlinkLeft=1.0, eyeBlinkRight=1.0)
    calm = CompositeConfig()
    rough = replace(calm, drawn=(0.02, 0.01))
    steps = []
    for config in (calm, rough):
        out = composite(default_head, scene.frame.image, scene.camera, scene.code, new, scene.fit.albedo, None, config)
        points = scene.camera.project(default_head.landmarks3d(default_head.vertices(new), "478"))
        low, high = points[list(RIGHT_EYE)].amin(0).int().tolist(), points[list(RIGHT_EYE)].amax(0).int().tolist()
        lid = out.mean(0)[low[1] - 4 : low[1] + 1, low[0] + 3 : high[0] - 3]
        steps.append(float(lid.diff(n=2, dim=1).abs().mean()))
    assert steps[0] < 0.8 * steps[1]


def test_what_is_taken(default_head: HeadModel, scene: PhotoHead) -> None:
    names = default_head.expression_names
    code = _code(default_head, jawOpen=0.5, eyeLookUpLeft=0.6, mouthPucker=0.4)
    assert code.light is not None
    code = code.with_(
        rotation=torch.tensor([0.0, 0.3, 0.0]),
        neck=torch.tensor([0.1, 0.0, 0.0]),
        eyes=torch.full((2, 3), 0.1),
        jaw=torch.tensor([0.2, 0.0, 0.0]),
        light=2 * code.light,
        shape=torch.ones_like(code.shape),
    )
    head = PhotoHead(scene.frame, replace(scene.fit, codes=code.map(lambda x: x[None])))
    source = Source("a", code.expression, head)

    def weight(taken: HeadCode, name: str) -> float:
        return float(taken.expression[names.index(name)])

    taken = transferred_code(default_head, source, scene)
    assert weight(taken, "jawOpen") == 0.5 and weight(taken, "eyeLookUpLeft") == 0 and weight(taken, "mouthPucker")
    assert torch.equal(taken.jaw, code.jaw) and torch.equal(taken.shape, scene.code.shape)
    for field in ("rotation", "neck", "eyes", "light", "translation"):
        assert torch.equal(getattr(taken, field), getattr(scene.code, field))
    taken = transferred_code(default_head, source, scene, TransferConfig(jaw=False, eyes=True, pose=True, light=True))
    assert weight(taken, "jawOpen") == 0 and weight(taken, "eyeLookUpLeft") == pytest.approx(0.6)
    for field in ("rotation", "neck", "eyes", "light"):
        torch.testing.assert_close(getattr(taken, field), getattr(code, field), atol=1e-6, rtol=0)
    half = transferred_code(default_head, source, scene, TransferConfig(strength=0.5, pose=True))
    assert weight(half, "jawOpen") == 0.25
    torch.testing.assert_close(half.rotation, code.rotation / 2, atol=1e-6, rtol=0)
    more = transferred_code(default_head, source, scene, TransferConfig(strength=3.0))
    assert weight(more, "jawOpen") == 1


def test_refused_combinations(default_head: HeadModel, scene: PhotoHead) -> None:
    happy = Source("happy", expression_of(category("happy"), default_head.expression_names))
    with pytest.raises(HeadlabError, match="has no pose; leave out --pose"):
        transferred_code(default_head, happy, scene, TransferConfig(pose=True))
    dark = PhotoHead(scene.frame, replace(scene.fit, codes=replace(scene.fit.codes, light=None)))
    with pytest.raises(HeadlabError, match="no light is known for the target"):
        transferred_code(default_head, Source("x", happy.expression, scene), dark, TransferConfig(light=True))
    other = Source("x", happy.expression, PhotoHead(scene.frame, replace(scene.fit, model="flame2023")))
    with pytest.raises(HeadlabError, match="fit both with one model"):
        transfer(default_head, [other], scene)
    with pytest.raises(HeadlabError, match="give that photo"):
        transfer(default_head, [happy], replace(scene, frame=Frame(torch.zeros(3, 5, 5))))
    with pytest.raises(HeadlabError, match="no texture coordinates or no region masks"):
        transfer(replace(default_head, regions={}), [happy], scene)


@pytest.fixture
def workshop(default_head: HeadModel) -> Workshop:
    return Workshop("default", NoDetector(), FitConfig())


def test_sources_by_name(default_head: HeadModel, workshop: Workshop, tmp_path: Path) -> None:
    names = default_head.expression_names
    assert torch.equal(read_source("Happy", workshop).expression, expression_of(category("happy"), names))
    assert read_source("va:0.6,.4", workshop).expression[names.index("mouthSmileLeft")] > 0.3
    assert (read_source("0,0", workshop).expression == 0).all()
    (tmp_path / "s.json").write_text(json.dumps({"jawOpen": 0.25}))
    sliders = read_source(str(tmp_path / "s.json"), workshop)
    assert sliders.expression.sum() == 0.25 and sliders.name == "s"


def test_an_earlier_fit_finds_its_photo(scene: PhotoHead, workshop: Workshop, tmp_path: Path) -> None:
    pixels = (scene.frame.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    folder = tmp_path / "fit"
    folder.mkdir()
    scene.fit.save(folder / "head.npz")
    with pytest.raises(HeadlabError, match="name it with --photo"):
        read_head(folder, workshop)
    Image.fromarray(pixels).save(tmp_path / "elsewhere.png")
    assert read_head(folder, workshop, tmp_path / "elsewhere.png").frame.size == SIZE
    Image.fromarray(pixels).save(folder / "photo.png")
    for path in (folder, folder / "head.npz"):
        head = read_head(path, workshop)
        torch.testing.assert_close(head.code.expression, scene.code.expression)
        assert read_source(str(path), workshop).name == "fit"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[1]", "no JSON object"),
        ('{"jawopen": 0.2}', "did you mean jawOpen"),
        ('{"jawOpen": "wide"}', "give a number"),
        ('{"jawOpen": NaN}', "give a number"),
        ('{"jawOpen": 1.5}', "goes from 0 to 1"),
    ],
)
def test_bad_sliders(default_head: HeadModel, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(HeadlabError, match=message) as error:
        read_sliders(path, default_head)
    assert "\n" not in str(error.value)


def test_bad_sources(workshop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(HeadlabError, match="there is no such file, and it is neither a category"):
        read_source("hapy", workshop)
    with pytest.raises(HeadlabError, match="from -1 to 1"):
        read_source("va:2,0", workshop)
    (tmp_path / "head.npz").write_bytes(b"no archive")
    with pytest.raises(HeadlabError, match="not a head fitted by headlab"):
        read_source(str(tmp_path), workshop)


@pytest.mark.slow
def test_the_command_edits_a_photo(tmp_path: Path, astronaut: Float[Tensor, "3 512 512"], detector) -> None:
    """A laughing face becomes serious: the mouth closes; the background stays."""
    from headlab.geometry.files import write_png
    from headlab.geometry.landmarks.mesh478 import INNER_LIPS
    from headlab.scripts.transfer import Transfer

    photo = tmp_path / "a.png"
    write_png(photo, astronaut)
    Transfer(("neutral", "surprise"), photo, tmp_path / "out", texture_size=256).run()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("edited.png", "edited_2.png", "strip.png", "head.npz", "report.json")
    }

    def gap(image: Float[Tensor, "3 height width"]) -> float:
        points = detector.detect(image)[0].points
        return float((points[INNER_LIPS[5]] - points[INNER_LIPS[15]]).norm())

    neutral, surprise = (
        torch.from_numpy(np.array(Image.open(tmp_path / "out" / name))).permute(2, 0, 1).float() / 255
        for name in ("edited.png", "edited_2.png")
    )
    assert gap(neutral) < 0.5 * gap(astronaut) < 0.5 * gap(surprise)
    assert torch.equal(neutral[:, 400:], astronaut[:, 400:])
    assert HeadFit.load(tmp_path / "out/head.npz").codes.shape.shape[0] == 2
    with pytest.raises(HeadlabError, match="already holds files"):
        Transfer(("happy",), photo, tmp_path / "out").run()
