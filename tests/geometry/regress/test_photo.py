"""From photo to head and camera: DECA's camera of the crop and our camera of the photo see the same."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from headlab.geometry.camera import WeakPerspective
from headlab.geometry.errors import HeadlabError
from headlab.geometry.landmarks.ibug68 import IBUG68
from headlab.geometry.raster import rasterize
from headlab.geometry.regress.codes import DecaCode
from headlab.geometry.regress.crop import CropTransform, FaceSquare
from headlab.geometry.regress.deca import Deca
from headlab.geometry.regress.detail_decoder import DetailDecoder
from headlab.geometry.regress.encoder import CodeEncoder
from headlab.geometry.regress.photo import head_from_photo, photo_camera
from headlab.geometry.regress.resnet import ResNetConfig

SIZE = (300, 420)  # of the photo


def saying(values: Tensor) -> CodeEncoder:
    """An encoder that answers the same whatever it sees."""
    network = CodeEncoder(len(values), ResNetConfig((1,), 2), hidden=2).eval().requires_grad_(False)
    network.load_state_dict({k: torch.zeros_like(v) for k, v in network.state_dict().items()})
    network.layers[2].bias.copy_(values)  # pyright: ignore
    return network


@pytest.fixture(scope="module")
def parameters(golden) -> Tensor:
    data = golden("deca_decode")
    keys = ("shape", "tex", "exp", "pose", "cam", "light")
    return torch.cat([data[key].flatten(1) for key in keys], 1)[0]


@pytest.fixture(scope="module")
def deca(parameters) -> Deca:
    return Deca("deca", saying(parameters), saying(torch.arange(128.0)), DetailDecoder().eval())


@pytest.fixture(scope="module")
def landmarks() -> Tensor:
    """A face of about 150 pixels, right of the middle."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(68, 2, generator=generator) * 150 + torch.tensor([200.3, 80.7])


def grid(plane: float) -> Tensor:
    x, y = torch.meshgrid(torch.linspace(-0.1, 0.1, 5), torch.linspace(-0.1, 0.1, 5), indexing="ij")
    return torch.stack([x, y, torch.full_like(x, plane)], -1).reshape(-1, 3).double()


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("plane", [0.0, 0.06])
@pytest.mark.parametrize("distance", [1.0, 10.0, 1000.0])
def test_cameras_agree(landmarks, whole: bool, plane: float, distance: float) -> None:
    """Exactly on the plane; off it as the docstring says. A crop of the whole photo is turned a little."""
    crop = CropTransform.of_whole(SIZE) if whole else FaceSquare.from_landmarks(landmarks).transform()
    weak = WeakPerspective(torch.tensor([8.5, 0.012, -0.021], dtype=torch.float64))
    camera = photo_camera(weak, crop, SIZE, distance=distance, plane=plane)
    assert camera.size == SIZE
    assert torch.allclose(camera.R @ camera.R.mT, torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert float(camera.K[0, 1].abs() + camera.K[1, 0].abs()) == 0

    def seen_by_deca(points: Tensor) -> Tensor:
        return crop.ndc_to_photo(weak.project_ndc(points))[..., :2]

    assert torch.allclose(camera.project(grid(plane)), seen_by_deca(grid(plane)), atol=1e-8)
    height = 0.05
    near = grid(plane + height)
    centre = camera.K[:2, 2]
    expected = centre + (seen_by_deca(near) - centre) / (1 - height / distance)
    assert torch.allclose(camera.project(near), expected, atol=1e-8)
    assert torch.allclose(camera.to_camera(near)[:, 2], torch.tensor(distance - height, dtype=torch.float64))


def test_head_from_photo(deca, parameters, landmarks, flame) -> None:
    head = head_from_photo(deca, torch.rand(3, *SIZE), landmarks, flame, distance=1000.0)
    expected = DecaCode.split(parameters)
    assert torch.equal(head.deca.shape, expected.shape)
    assert head.code.rotation.shape == (3,) and torch.equal(head.code.rotation, expected.pose[:3])
    assert torch.equal(head.code.jaw, expected.pose[3:]) and torch.equal(head.code.detail, torch.arange(128.0))
    assert head.code.light is not None and head.code.light.shape == (9, 3)
    vertices = flame.vertices(head.code)
    ndc = head.deca.weak_perspective.project_ndc(vertices)
    far = head.crop.ndc_to_photo(ndc)[:, :2]
    assert float((head.camera.project(vertices) - far).abs().max()) < 0.05
    # At the usual distance: below half a percent of the head's size.
    camera = head_from_photo(deca, torch.rand(3, *SIZE), landmarks, flame).camera
    size = float((far.amax(0) - far.amin(0)).max())
    assert float((camera.project(vertices) - far).abs().max()) < 0.01 * size


def test_pictures_agree(deca, landmarks, flame) -> None:
    """The silhouette drawn in the photo by our camera, cropped, is the one DECA draws in the crop."""
    head = head_from_photo(deca, torch.rand(3, *SIZE), landmarks, flame, distance=1000.0)
    vertices = flame.vertices(head.code)[None]
    ours = rasterize(head.camera.to_homogeneous(vertices), flame.faces, SIZE).mask
    picture = head.crop.crop(ours.float().expand(3, -1, -1))[0]
    theirs = rasterize(head.deca.weak_perspective.to_homogeneous(vertices, (224, 224)), flame.faces, (224, 224)).mask[0]
    y, x = torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="ij")
    assert float(theirs.sum()) > 5000
    # What the photo's border cuts off, the crop cannot show.
    inside = head.crop.crop(torch.ones(3, *SIZE))[0] > 0.99
    a, b = picture * inside, theirs.float() * inside
    assert float(a.sum()) == pytest.approx(float(b.sum()), rel=5e-3)
    for axis in (x, y):
        assert float((a * axis).sum() / a.sum()) == pytest.approx(float((b * axis).sum() / b.sum()), abs=0.1)


def test_mediapipe_landmarks_are_reduced(deca, landmarks, flame) -> None:
    many = torch.rand(478, 2) * torch.tensor([420.0, 300.0])
    many[list(IBUG68)] = landmarks
    photo = torch.rand(3, *SIZE)
    few = head_from_photo(deca, photo, landmarks, flame, detail=False)
    more = head_from_photo(deca, photo, many, flame, detail=False)
    assert torch.equal(few.crop.matrix, more.crop.matrix)
    assert few.code.detail is None


def test_refusals(deca, landmarks, flame) -> None:
    photo = torch.rand(3, *SIZE)
    with pytest.raises(ValueError, match="68 or 478"):
        head_from_photo(deca, photo, landmarks[:60], flame)
    with pytest.raises(HeadlabError, match="not FLAME"):
        head_from_photo(deca, photo, landmarks, replace(flame, joints_follow_expression=False))
    with pytest.raises(HeadlabError, match="larger picture"):
        head_from_photo(deca, photo, landmarks * 1e-3, flame)
