"""The default regressor: its crop, its geometry, its weights and what it reads."""

from functools import cache

import numpy as np
import pytest
import torch

from headlab.datasets.photo import read_photo
from headlab.datasets.synthetic import SyntheticConfig, SyntheticHeads
from headlab.geometry.errors import HeadlabError
from headlab.geometry.fitting.landmark_fit import fit_landmarks
from headlab.geometry.models.default import load_default_head
from headlab.geometry.regress.default_crop import CROP, UprightSquare, rotation2d
from headlab.geometry.regress.default_decode import heads_of_numbers, numbers_of_heads
from headlab.geometry.regress.default_net import SHAPES, DefaultNet, HeadNumbers, orthonormal
from headlab.geometry.regress.default_regressor import WEIGHTS, DefaultRegressor, load_default_regressor
from headlab.scripts.bench.synthetic import spreads
from headlab.scripts.recipes.default_losses import HeadLosses, LossWeights, spread_out
from headlab.scripts.recipes.default_regressor import disturbed, truth


@cache
def held_out():
    """Synthetic people the weights never saw: 24 with 4 pictures each."""
    config = SyntheticConfig(size=CROP, seed=4242, pictures_per_person=4, maps=False)
    return SyntheticHeads(load_default_head(), config).batch(range(96))


def test_crop_and_image_coordinates_are_inverse():
    torch.manual_seed(0)
    square = UprightSquare(torch.rand(5, 2) * 100, 10 + torch.rand(5) * 90, torch.rand(5) * 6)
    points = torch.rand(5, 7, 2) * 200
    torch.testing.assert_close(square.to_image(square.to_crop(points)), points, atol=1e-3, rtol=0)


def test_crop_turns_and_scales_with_the_face():
    points = held_out().landmarks[:8].double()
    one = UprightSquare.from_landmarks(points)
    turn = rotation2d(torch.tensor(0.8, dtype=torch.float64))
    other = UprightSquare.from_landmarks(3 * points @ turn.mT + 20)
    torch.testing.assert_close(other.to_crop(3 * points @ turn.mT + 20), one.to_crop(points))
    torch.testing.assert_close(other.side, 3 * one.side)
    with pytest.raises(HeadlabError, match="one place"):
        UprightSquare.from_landmarks(torch.ones(1, 478, 2))
    with pytest.raises(HeadlabError, match="478 or 68"):
        UprightSquare.from_landmarks(torch.rand(1, 5, 2))


@pytest.mark.parametrize("enlarged", [1, 3])
def test_cutting_the_whole_image_returns_it(enlarged):
    image = torch.rand(1, 3, CROP, CROP)
    photo = image.repeat_interleave(enlarged, -1).repeat_interleave(enlarged, -2)
    side = CROP * float(enlarged)
    square = UprightSquare(torch.full((1, 2), side / 2), torch.tensor([side]), torch.zeros(1))
    torch.testing.assert_close(square.cut(photo), image, atol=1e-5, rtol=0)


def test_numbers_and_heads_are_inverse():
    torch.manual_seed(1)
    model = load_default_head()
    n = 6
    numbers = HeadNumbers(
        torch.randn(n, 64),
        torch.rand(n, 52),
        0.2 * torch.randn(n, 2, 2),
        orthonormal(torch.tensor([[1.0, 0, 0], [0, 1, 0]]) + 0.3 * torch.randn(n, 2, 3)),
        1.4 + 0.1 * torch.randn(n),
        0.05 * torch.randn(n, 2),
        -0.5 * torch.rand(n),
        torch.randn(n, 9, 3),
        torch.randn(n, 34),
    )
    codes, camera = heads_of_numbers(model, numbers, CROP)
    back = numbers_of_heads(model, codes, camera, 64)
    for name, value in vars(numbers).items():
        torch.testing.assert_close(getattr(back, name), value, atol=1e-4, rtol=1e-4)


def test_the_rotation_is_one():
    torch.manual_seed(2)
    turn = orthonormal(torch.randn(50, 2, 3, dtype=torch.float64))
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3, dtype=torch.float64).expand(50, 3, 3))
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(50, dtype=torch.float64))


def test_it_is_small_and_differentiable_to_pixels():
    assert WEIGHTS.stat().st_size <= 8_000_000
    regressor = load_default_regressor()
    crops = (held_out().images[:3].float() / 255).requires_grad_()
    codes, _ = regressor.regress(crops)
    codes.shape.square().sum().backward()
    assert crops.grad is not None and bool(torch.isfinite(crops.grad).all())
    assert bool((crops.grad.abs().amax((1, 2, 3)) > 0).all())
    assert all(parameter.grad is None for parameter in regressor.net.parameters())
    alone, _ = regressor.regress(crops[:1].detach())
    torch.testing.assert_close(alone.shape, codes.shape[:1].detach(), atol=1e-4, rtol=1e-4)
    with pytest.raises(HeadlabError, match="96"):
        regressor.regress(torch.rand(1, 3, 64, 64))


def test_a_mirror_image_shows_the_same_person():
    regressor, crops = load_default_regressor(), held_out().images[:4].float() / 255
    here, there = regressor.numbers(crops), regressor.numbers(crops.flip(-1))
    torch.testing.assert_close(here.shape, there.shape, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(here.rotation, there.rotation, atol=1e-2)


def test_a_photo_is_read_like_its_crop():
    """A crop pasted into a corner of a larger picture, turned and enlarged: the heads must appear in the same place."""
    regressor, batch = load_default_regressor(), held_out()
    model = regressor.model
    images = batch.images[:6].float() / 255
    for image, points in zip(images, batch.landmarks[:6], strict=True):
        square = UprightSquare.from_landmarks(points[None])
        codes, camera = regressor.regress(square.cut(image[None]))
        want = square.to_image(camera.project(model.landmarks3d(model.vertices(codes), "478")))[0]
        # The picture as part of a larger photo: turned by a right angle, twice as large, at (300, 40).
        photo = torch.full((3, 400, 640), 0.5)
        turned = torch.rot90(image, -1, (1, 2)).repeat_interleave(2, 1).repeat_interleave(2, 2)
        photo[:, 40 : 40 + 2 * CROP, 300 : 300 + 2 * CROP] = turned

        def moved(p):
            return torch.stack([CROP - p[:, 1], p[:, 0]], 1) * 2 + torch.tensor([300.0, 40.0])

        code, view = regressor.regress_photo(photo, moved(points))
        got = view.project(model.landmarks3d(model.vertices(code), "478"))
        eyes = (moved(points)[33] - moved(points)[263]).norm().clamp(min=30)
        assert float((got - moved(want)).norm(dim=1).mean() / eyes) < 0.05


def test_held_out_people_are_read():
    regressor, batch = load_default_regressor(), held_out()
    model = regressor.model
    with torch.inference_mode():
        codes, camera = regressor.regress(batch.images.float() / 255)
        points = camera.project(model.landmarks3d(model.vertices(codes), "68"))
    truth = batch.camera.project(model.landmarks3d(model.vertices(batch.codes), "68"))
    error = (points - truth).norm(dim=-1).mean(1) / (truth[:, 36] - truth[:, 45]).norm(dim=-1)
    assert float(error.median()) < 0.05
    guess = (batch.codes.expression.mean(0) - batch.codes.expression).abs().mean()
    assert float((codes.expression - batch.codes.expression).abs().mean()) < 0.85 * float(guess)


def test_points_of_the_face_are_found():
    """The shipped net's heat maps against where the generator put those points."""
    regressor, batch = load_default_regressor(), held_out()
    losses = HeadLosses(regressor.model, SHAPES, torch.ones(9, 3), LossWeights())
    with torch.inference_mode():
        _, found = regressor.net.features_and_points(batch.images.float() / 255)
    want = batch.landmarks[:, losses.found] / CROP
    error = (found - want).norm(dim=-1).mean(1)
    # Against other pictures' points: what the places of a typical face would give.
    assert float(error.median()) < 0.02 < 0.5 * float((found - want.roll(1, 0)).norm(dim=-1).mean())


def test_disturbed_pictures_keep_their_truth():
    """A dot drawn at a landmark is still there after the picture was cut elsewhere."""
    torch.manual_seed(0)
    images = torch.zeros(6, 3, CROP, CROP)
    at = torch.randint(20, 70, (6, 1, 2))
    for image, (x, y) in zip(images, at[:, 0].tolist(), strict=True):
        image[:, y, x] = 1
    numbers = truth(load_default_head(), held_out())[:6]
    got, moved, landmarks = disturbed(images, numbers, (at + 0.5) / CROP)
    shift = landmarks - (at + 0.5) / CROP
    torch.testing.assert_close(moved.offset - numbers.offset, shift[:, 0])
    assert float(shift.abs().max()) > 0
    brightest = got.mean(1).flatten(1).argmax(1)  # the dot: elsewhere the picture is black
    seen = torch.stack([brightest % CROP, brightest // CROP], 1)
    torch.testing.assert_close((seen + 0.5) / CROP, landmarks[:, 0], atol=1e-5, rtol=0)


def test_points_are_spread_out():
    line = torch.zeros(11, 3)
    line[:, 1] = torch.linspace(0, 10, 11)
    assert spread_out(line, 3).tolist() == [0, 5, 10]


def test_spreads_are_those_of_the_population():
    torch.manual_seed(3)
    people = 2.0 * torch.randn(400, 1, 30, 3)
    faces = (people + 0.5 * torch.randn(400, 4, 30, 3)).flatten(0, 1)
    within, between = spreads(faces, torch.arange(400).repeat_interleave(4))
    assert abs(within / (0.5 * 3**0.5) - 1) < 0.05 and abs(between / (2 * 3**0.5) - 1) < 0.05


def test_weights_of_another_head_or_none_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    with pytest.raises(HeadlabError, match="cannot be read"):
        load_default_regressor(tmp_path / "absent.safetensors")
    state = load_file(WEIGHTS)
    state["probe"] = state["probe"] + 0.002
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(HeadlabError, match="another version"):
        load_default_regressor(tmp_path / "other.safetensors")


def test_odd_landmarks_and_focal_lengths_are_refused():
    regressor = DefaultRegressor(DefaultNet(52, 34).eval(), load_default_head())
    image, points = torch.rand(3, 50, 50), torch.rand(478, 2) * 50
    with pytest.raises(HeadlabError, match="finite"):
        regressor.regress_photo(image, points * torch.nan)
    with pytest.raises(HeadlabError, match="positive"):
        regressor.regress_photo(image, points, -1.0)
    with pytest.raises(HeadlabError, match="one set per photo"):
        regressor.first_fit([image, image], points[None])


def test_real_photos(shared):
    regressor = load_default_regressor()
    folder = shared / "data" / "photos"
    reference = np.load(folder / "mediapipe_reference.npz")
    errors = []
    for index, name in enumerate(map(str, reference["files"])):
        if not reference["faces_found"][index] or name.startswith("video"):
            continue
        frame = read_photo(folder / name)
        size = torch.tensor([frame.size[1], frame.size[0]])
        points = torch.from_numpy(reference["landmarks"][index])[:, :2].float() * size
        first = regressor.first_fit([frame.image], points[None])
        errors.append(first.report.nme[0])
        if len(errors) <= 3:
            refined = fit_landmarks(regressor.model, points[None], [frame.size], init=first)
            assert refined.report.nme[0] < 0.03
    assert float(np.mean(errors)) < 0.08


def test_the_recipe_makes_weights_that_load(tmp_path):
    from headlab.datasets.synthetic import write_shards
    from headlab.scripts.recipes.default_regressor import Args, main

    config = SyntheticConfig(size=CROP, seed=5, pictures_per_person=2, maps=False)
    list(write_shards(SyntheticHeads(load_default_head(), config), tmp_path / "shards", range(1), shard=16, batch=16))
    threads = torch.get_num_threads()
    try:
        main(Args(tmp_path / "shards", tmp_path / "out.safetensors", steps=3, pairs=4, every=2, readout=0))
    finally:
        torch.set_num_threads(threads)
    codes, _ = load_default_regressor(tmp_path / "out.safetensors").regress(torch.rand(2, 3, CROP, CROP))
    assert bool(torch.isfinite(codes.shape).all())
