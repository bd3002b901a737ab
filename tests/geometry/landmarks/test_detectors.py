"""Both detectors on real photos, against MediaPipe's own reference output and against themselves."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from headlab.datasets.photo import read_photo
from headlab.geometry.landmarks import IBUG68, FaceLandmarks, LandmarkDetector, open_detector
from headlab.geometry.landmarks.mesh478 import MIRROR

SINGLE = [f"p{i:02d}.jpg" for i in (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 14)] + [
    f"multiview_a/view_{i}.jpg" for i in range(3)
]
Read = Callable[[str], Tensor]


@pytest.fixture(scope="module", params=["solutions", "tasks"])
def detector(request: pytest.FixtureRequest, shared: Path) -> Iterator[LandmarkDetector]:
    file = shared / "data/face_landmarker.task" if request.param == "tasks" else None
    with open_detector(request.param, file) as opened:
        assert opened.name == request.param
        yield opened


@pytest.fixture(scope="module")
def photo(shared: Path) -> Read:
    return lambda name: read_photo(shared / "data/photos" / name).image


@pytest.fixture(scope="module")
def reference(shared: Path) -> dict[str, np.ndarray]:
    """File -> 478 points, pixels."""
    with np.load(shared / "data/photos/mediapipe_reference.npz") as data:
        points = data["landmarks"][..., :2] * data["image_wh"][:, None]
        return dict(zip(data["files"].tolist(), points, strict=True))


def error(found: FaceLandmarks | Tensor, wanted: np.ndarray | Tensor, subset: tuple[int, ...] = IBUG68) -> float:
    """Mean distance of points, % of the outer-eye distance."""
    points = found.points if isinstance(found, FaceLandmarks) else found
    wanted = torch.as_tensor(wanted, dtype=torch.float32)
    distance = (points - wanted).norm(dim=-1)[list(subset)].mean()
    return float(distance / (wanted[33] - wanted[263]).norm() * 100)


def resized(image: Tensor, factor: float) -> Tensor:
    planes = [cv2.resize(p.numpy(), None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) for p in image]
    return torch.from_numpy(np.stack(planes))


def test_single_faces_agree_with_the_reference(
    detector: LandmarkDetector, photo: Read, reference: dict[str, np.ndarray]
) -> None:
    errors = {}
    for name in SINGLE:
        faces = detector.detect(photo(name))
        assert len(faces) == 1, name
        errors[name] = error(faces[0], reference[name])
        assert faces[0].points.dtype == faces[0].depth.dtype == torch.float32
        assert 0 < faces[0].confidence <= 1
    if detector.name == "tasks":  # the same network: the same points
        assert max(errors.values()) < 0.05, errors
    else:  # an older network; plain mp.solutions.face_mesh has 1.8 on average
        assert np.mean(list(errors.values())) < 1.75 and max(errors.values()) < 2.8, errors


def test_two_people(detector: LandmarkDetector, photo: Read, reference: dict[str, np.ndarray]) -> None:
    first, second = detector.detect(photo("p10.jpg"))
    right, left = (first, second) if first.points[0, 0] > second.points[0, 0] else (second, first)
    assert error(right, reference["p10.jpg"]) < 1.5 and left.points[:, 0].max() < 400
    assert first.size >= second.size
    single = photo("p01.jpg")
    pair = torch.ones(3, 901, 1600)
    small = resized(single, 0.5)
    pair[:, : small.shape[1], :512], pair[:, :, 576:] = small, single
    large, little = detector.detect(pair)
    assert large.size == pytest.approx(2 * little.size, rel=0.05)
    assert large.points[:, 0].min() > 576 and little.points[:, 0].max() < 512


def test_tiny_faces_are_found_by_tiles(detector: LandmarkDetector, photo: Read) -> None:
    """p12: MediaPipe itself finds none of its faces."""
    faces = detector.detect(photo("p12.jpg"))
    centres = sorted(f.points.mean(0).round().tolist() for f in faces)
    assert len(centres) >= 2
    assert centres[0] == pytest.approx([430, 275], abs=15) and centres[1] == pytest.approx([634, 252], abs=15)


def test_no_face_where_there_is_none(detector: LandmarkDetector, photo: Read) -> None:
    assert detector.detect(photo("p13.jpg")) == []  # dogs
    generator = torch.Generator().manual_seed(0)
    for image in (
        torch.zeros(3, 1, 1),
        torch.ones(3, 1, 3000),
        torch.full((3, 480, 640), 0.5),
        torch.rand(3, 300, 400, generator=generator),
    ):
        assert detector.detect(image) == []


@pytest.mark.parametrize("name", ["p01.jpg", "p03.jpg", "p04.jpg", "multiview_a/view_0.jpg"])
@pytest.mark.parametrize(("pixels", "tolerance"), [(60, 2.6), (30, 4.8), (20, 6)])
def test_shrunk_copies(
    detector: LandmarkDetector, photo: Read, name: str, pixels: int, tolerance: float, reference: dict[str, np.ndarray]
) -> None:
    factor = pixels / float(np.ptp(reference[name], axis=0).max())
    faces = detector.detect(resized(photo(name), factor))
    assert len(faces) == 1
    assert error(faces[0], reference[name] * factor) < tolerance


def test_tiny_face_in_a_wide_picture(detector: LandmarkDetector, photo: Read, reference: dict[str, np.ndarray]) -> None:
    """A face 40 pixels high in a picture of 1400: 3 % of it."""
    factor = 40 / float(np.ptp(reference["p03.jpg"], axis=0).max())
    small = resized(photo("p03.jpg"), factor)
    scene = torch.full((3, 900, 1400), 0.6)
    scene[:, 600 : 600 + small.shape[1], 1000 : 1000 + small.shape[2]] = small
    (face,) = detector.detect(scene)
    assert error(face, reference["p03.jpg"] * factor + [1000, 600]) < 4


def test_large_picture_keeps_native_accuracy(
    detector: LandmarkDetector, photo: Read, reference: dict[str, np.ndarray]
) -> None:
    """Enlarged to 3600 pixels and set into a corner of 5000 x 4000: found as in the original."""
    image = photo("p01.jpg")
    large = torch.nn.functional.interpolate(image[None], scale_factor=3.5, mode="bilinear", antialias=False)[0]
    scene = torch.full((3, 4000, 5000), 0.2)
    scene[:, -large.shape[1] :, -large.shape[2] :] = large
    (face,) = detector.detect(scene)
    offset = [5000 - large.shape[2], 4000 - large.shape[1]]
    assert error(face, reference["p01.jpg"] * 3.5 + offset) < 1.8


def test_exif_turned_copy_equals_the_upright_one(detector: LandmarkDetector, photo: Read, tmp_path: Path) -> None:
    pixels = (photo("p03.jpg") * 255).round().byte().permute(1, 2, 0).numpy()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    (upright,), (turned,) = (
        detector.detect(photo("p03.jpg")),
        detector.detect(read_photo(tmp_path / "turned.png").image),
    )
    assert torch.equal(upright.points, turned.points)


@pytest.mark.parametrize("quarter", [1, 2, 3])
@pytest.mark.parametrize("name", ["p01.jpg", "p05.jpg", "p14.jpg"])
def test_turned_pictures_without_exif(detector: LandmarkDetector, photo: Read, name: str, quarter: int) -> None:
    image = photo(name)
    (upright,) = detector.detect(image)
    (turned,) = detector.detect(torch.rot90(image, quarter, (1, 2)).contiguous())
    points, (height, width) = upright.points, image.shape[1:]
    for _ in range(quarter):  # one quarter turn to the left: (x, y) -> (y, width - x)
        points = torch.stack([points[:, 1], width - points[:, 0]], 1)
        height, width = width, height
    assert error(turned, points) < 2.5


def test_grey_and_transparent_copies_agree(detector: LandmarkDetector, photo: Read, tmp_path: Path) -> None:
    image = photo("p04.jpg")
    (colour,) = detector.detect(image)
    pixels = Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())
    pixels.convert("L").save(tmp_path / "grey.png")
    (grey,) = detector.detect(read_photo(tmp_path / "grey.png").image)
    assert error(grey, colour.points) < 1.5
    alpha = np.zeros((600, 512), np.uint8)
    cv2.ellipse(alpha, (262, 225), (150, 200), 0, 0, 360, 255, -1)
    pixels.putalpha(Image.fromarray(alpha))
    pixels.save(tmp_path / "cutout.png")
    frame = read_photo(tmp_path / "cutout.png")
    (cutout,) = detector.detect(frame.image)
    assert error(cutout, colour.points) < 3 and frame.mask is not None and frame.mask.mean() < 0.4


def test_mirrored_picture_mirrors_the_points(detector: LandmarkDetector, photo: Read) -> None:
    image = photo("p04.jpg")
    (face,), (flipped,) = detector.detect(image), detector.detect(image.flip(2).contiguous())
    back = flipped.points[list(MIRROR)] * torch.tensor([-1.0, 1.0]) + torch.tensor([image.shape[2], 0.0])
    assert error(back, face.points) < 1.6


def test_depth_points_away_from_the_camera_in_pixels(detector: LandmarkDetector, photo: Read) -> None:
    image = photo("p04.jpg")
    (face,), (half,) = detector.detect(image), detector.detect(resized(image, 0.5))
    assert face.depth[4] < face.depth[[234, 454]].mean() - 0.3 * face.size  # nose tip before the ears
    assert float((face.depth[4] - face.depth[234]) / (half.depth[4] - half.depth[234])) == pytest.approx(2, rel=0.1)


def test_scores_come_with_tasks_only(detector: LandmarkDetector, photo: Read, shared: Path) -> None:
    (face,) = detector.detect(photo("p02.jpg"))  # a smile
    if detector.name == "solutions":
        assert face.scores is None and face.score_names == ()
        return
    assert face.scores is not None and face.scores.shape == (52,)
    with np.load(shared / "data/photos/mediapipe_reference.npz") as data:
        assert list(face.score_names) == data["blendshape_names"].tolist()
        row = data["files"].tolist().index("p02.jpg")
        np.testing.assert_allclose(face.scores, data["blendshapes"][row], atol=5e-3)
    smile = [face.scores[face.score_names.index(f"mouthSmile{side}")] for side in ("Left", "Right")]
    assert min(smile) > 0.5


def test_repeated_calls_agree(detector: LandmarkDetector, photo: Read) -> None:
    image = photo("p03.jpg")
    first = detector.detect(image)
    detector.detect(photo("p10.jpg"))
    assert torch.equal(detector.detect(image)[0].points, first[0].points)


@pytest.mark.slow
@pytest.mark.parametrize("factor", [0.6, 1.0, 1.7])
def test_each_dog_alone(detector: LandmarkDetector, photo: Read, factor: float) -> None:
    image = photo("p13.jpg")
    for top, left in ((0, 0), (0, 450), (525, 0), (457, 450)):  # the third begins below a magazine with a real face
        dog = image[:, top : top + 390, left : left + 450]
        for flipped in (dog, dog.flip(2)):
            assert detector.detect(resized(flipped.contiguous(), factor)) == []


@pytest.mark.slow
def test_video(detector: LandmarkDetector, photo: Read, reference: dict[str, np.ndarray]) -> None:
    errors = []
    for name in [f"video_a/f{i:04d}.jpg" for i in range(0, 110, 5)]:
        (face,) = detector.detect(photo(name))
        errors.append(error(face, reference[name]))
    assert np.mean(errors) < (0.05 if detector.name == "tasks" else 2.5)
