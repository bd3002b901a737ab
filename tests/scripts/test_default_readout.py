"""The closed form of the regressor's readout of identity, on Gaussian data whose optimum is known."""

import json

import pytest
import torch

from headlab.datasets.synthetic import SyntheticConfig, SyntheticHeads, write_shards
from headlab.geometry.models.default import load_default_head
from headlab.geometry.regress.default_crop import CROP
from headlab.geometry.regress.default_net import DefaultNet
from headlab.geometry.regress.default_regressor import WEIGHTS, load_default_regressor
from headlab.scripts.bench.synthetic import retrieval
from headlab.scripts.recipes.default_readout import Args, Moments, features_of, main

NOISE = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)


def gaussian_people(people: int = 60_000) -> tuple[torch.Tensor, torch.Tensor]:
    """β ~ N(0, 1)³; two pictures of each person show β + noise, stretched and shifted."""
    generator = torch.Generator().manual_seed(0)
    shape = torch.randn(people, 3, generator=generator, dtype=torch.float64) + 0.3
    seen = shape[:, None] + NOISE * torch.randn(people, 2, 3, generator=generator, dtype=torch.float64)
    return seen * torch.tensor([1.0, 2.0, 4.0]) + 5.0, shape


@pytest.mark.parametrize("steadiness", [0.0, 3.0])
def test_directions_are_shrunk_by_their_signal_to_noise_ratio(steadiness):
    """Wiener's 1 / (1 + σ²), with the penalty s 1 / (1 + (1 + s) σ²); then scaled to the least error."""
    features, shape = gaussian_people()
    metric = torch.diag(torch.tensor([1.0, 4.0, 2.0], dtype=torch.float64))
    map_, offset = Moments.of(features, shape).readout(steadiness, metric, ridge=0.0)
    shrunk = 1 / (1 + (1 + steadiness) * NOISE**2)
    weight = metric.diagonal() * shrunk
    amplitude = weight.sum() / (weight * shrunk * (1 + NOISE**2)).sum()
    gain = map_ * torch.tensor([1.0, 2.0, 4.0])
    torch.testing.assert_close(gain, torch.diag(amplitude * shrunk), atol=0.03, rtol=0)
    torch.testing.assert_close(features.mean((0, 1)) @ map_.mT + offset, shape.mean(0))


def test_it_is_the_least_error_among_maps_of_its_steadiness():
    """The gradients of the error and of the criterion at the minimum are parallel (Lagrange)."""
    features, shape = gaussian_people(500)
    features = features @ torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    metric = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 3.0]], dtype=torch.float64)
    map_, offset = Moments.of(features, shape).readout(2.0, metric, ridge=0.0)
    map_.requires_grad_()

    def square(x):
        return torch.einsum("pki,ij,pkj->", x, metric, x)

    error = square(features @ map_.mT + offset - shape[:, None])
    # two pictures: half the squared difference is the unbiased spread
    steady = square((features - features.mean(1, keepdim=True)) @ map_.mT) * 2
    moved = square((features - features.mean((0, 1))) @ map_.mT)
    criterion = torch.log(steady / (moved - steady))
    by_error, by_criterion = (torch.autograd.grad(value, map_)[0].flatten() for value in (error, criterion))
    cosine = torch.nn.functional.cosine_similarity(by_error, by_criterion, 0)
    assert float(cosine) == pytest.approx(-1.0, abs=1e-9)


def test_a_steadier_readout_spreads_one_person_less():
    features, shape = gaussian_people(5000)
    moments = Moments.of(features, shape)
    ratios = []
    for steadiness in (0.0, 1.0, 10.0):
        map_, _ = moments.readout(steadiness, torch.eye(3))
        read = features @ map_.mT
        ratios.append(float((read - read.mean(1, keepdim=True)).square().sum() / read.mean(1).var(0).sum()))
    assert ratios[0] > ratios[1] > ratios[2]


def test_retrieval_tells_people_apart_as_far_as_they_can_be():
    torch.manual_seed(0)
    people = torch.randn(50, 1, 4, 3)
    person = torch.arange(50).repeat_interleave(4)
    clear = (people + 0.01 * torch.randn(50, 4, 4, 3)).flatten(0, 1)
    assert retrieval(clear, person) == (1.0, pytest.approx(0.0, abs=1e-3))
    rank1, equal_error = retrieval(torch.randn(200, 4, 3), person)
    assert rank1 < 0.1 and abs(equal_error - 0.5) < 0.06


def test_a_checkpoint_gets_a_new_readout_and_keeps_the_rest(tmp_path, capsys):
    config = SyntheticConfig(size=CROP, seed=2, pictures_per_person=2, maps=False)
    list(write_shards(SyntheticHeads(load_default_head(), config), tmp_path, range(1), shard=64, batch=32))
    threads = torch.get_num_threads()
    try:
        main(Args(WEIGHTS, tmp_path / "new.safetensors", steadiness=2.0, people=512, pictures=tmp_path))
    finally:
        torch.set_num_threads(threads)
    assert json.loads(capsys.readouterr().out)["readout_people"] == "32"
    crops = torch.rand(2, 3, CROP, CROP)
    old, new = (load_default_regressor(path).numbers(crops) for path in (WEIGHTS, tmp_path / "new.safetensors"))
    assert not torch.allclose(old.shape, new.shape, atol=1e-3)
    for name, value in vars(old).items():
        if name != "shape":
            assert torch.equal(value, getattr(new, name))


def test_features_are_those_of_a_face_and_its_mirror_image():
    net = DefaultNet(52, 34).eval()
    crops = torch.rand(3, 3, CROP, CROP)
    torch.testing.assert_close(features_of(net, crops), features_of(net, crops.flip(-1)), atol=1e-5, rtol=1e-4)
