"""Light and albedo from pixels of which both are known."""

import pytest
import torch
from torch import Tensor

from headlab.geometry.fitting.light_albedo import Samples, geman_mcclure, geman_mcclure_weight, solve_light_albedo
from headlab.geometry.raster import sh_basis

COMPONENTS = 6
PIXELS = 3000


def truth(seed: int, photos: int = 1) -> tuple[Tensor, Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    lights = torch.zeros(photos, 9, 3)
    lights[:, 0] = 2.8 + 0.5 * torch.randn(photos, 3, generator=generator)
    lights[:, 1:4] = 0.5 * torch.randn(photos, 3, 1, generator=generator)
    lights[:, 4:] = 0.1 * torch.randn(photos, 5, 3, generator=generator)
    return torch.randn(COMPONENTS, generator=generator), lights, generator


def seen_by(code: Tensor, light: Tensor, generator: torch.Generator, outliers: float = 0.0) -> Samples:
    normal = torch.randn(PIXELS, 3, generator=generator)
    normal[:, 2] = normal[:, 2].abs()
    normal = torch.nn.functional.normalize(normal, dim=-1)
    mean = 0.45 + 0.1 * torch.rand(PIXELS, 3, generator=generator)
    # Components that change the colour of some pixels only, so that light cannot explain them.
    basis = 0.06 * torch.randn(PIXELS, 3, COMPONENTS, generator=generator)
    colour = (mean + basis @ code) * (sh_basis(normal) @ light)
    strange = torch.rand(PIXELS, generator=generator) < outliers
    colour[strange] = torch.rand(int(strange.sum()), 3, generator=generator)
    return Samples(colour, normal, mean, basis, torch.ones(PIXELS))


def shading_error(found: Tensor, true: Tensor, normal: Tensor) -> float:
    """Of the shading, relative to its mean, up to the brightness that albedo and light share."""
    a, b = sh_basis(normal) @ found, sh_basis(normal) @ true
    return float((a / a.mean() - b / b.mean()).abs().mean())


@pytest.mark.parametrize("seed", range(4))
def test_known_light_and_albedo_are_found(seed: int) -> None:
    code, lights, generator = truth(seed)
    samples = seen_by(code, lights[0], generator)
    found, light = solve_light_albedo(
        [samples], torch.zeros(COMPONENTS), rounds=12, widening=8.0, light_prior=1e-6, albedo_prior=1e-6
    )
    torch.testing.assert_close(found, code, atol=0.02, rtol=0.02)
    assert shading_error(light[0], lights[0], samples.normal) < 0.01


@pytest.mark.parametrize("seed", range(4))
def test_one_pixel_in_ten_may_be_anything(seed: int) -> None:
    code, lights, generator = truth(seed)
    samples = seen_by(code, lights[0], generator, outliers=0.1)
    found, light = solve_light_albedo([samples], torch.zeros(COMPONENTS), rounds=12, widening=8.0, light_prior=1e-4)
    torch.testing.assert_close(found, code, atol=0.1, rtol=0)
    assert shading_error(light[0], lights[0], samples.normal) < 0.03


def test_the_usual_priors_hardly_bias_what_the_pixels_tell() -> None:
    code, lights, generator = truth(5)
    found, _ = solve_light_albedo(
        [seen_by(code, lights[0], generator)], torch.zeros(COMPONENTS), rounds=12, widening=8.0
    )
    assert float(found.norm() / code.norm()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("brightness", [0.15, 0.4, 1.6])
def test_dark_and_bright_photos_do_not_stop_at_the_start(brightness: float) -> None:
    """White light at full strength makes every pixel of a dark photo an outlier; the wide first rounds find the way."""
    code, lights, generator = truth(6)
    samples = seen_by(code, brightness * lights[0], generator)
    found, light = solve_light_albedo([samples], torch.zeros(COMPONENTS), rounds=8, widening=8.0)
    predicted = (samples.mean + samples.basis @ found) * (sh_basis(samples.normal) @ light[0])
    assert (predicted - samples.colour).abs().mean() < 0.02


def test_photos_share_the_albedo_and_have_their_own_light() -> None:
    code, lights, generator = truth(7, photos=3)
    photos = [seen_by(code, light, generator, 0.05) for light in lights]
    found, own = solve_light_albedo(photos, torch.zeros(COMPONENTS), rounds=12, widening=8.0)
    torch.testing.assert_close(found, code, atol=0.1, rtol=0)
    for photo, light, true in zip(photos, own, lights, strict=True):
        assert shading_error(light, true, photo.normal) < 0.03


def test_weight_0_counts_nothing() -> None:
    code, lights, generator = truth(8)
    good = seen_by(code, lights[0], generator)
    half = torch.arange(PIXELS) % 2
    spoilt = Samples(
        torch.where(half[:, None] == 0, good.colour, torch.ones(3)), good.normal, good.mean, good.basis, 1.0 - half
    )
    subset = Samples(
        *(value[half == 0] for value in (good.colour, good.normal, good.mean, good.basis)), torch.ones(1500)
    )
    a, b = (solve_light_albedo([photo], torch.zeros(COMPONENTS), rounds=3) for photo in (spoilt, subset))
    torch.testing.assert_close(a[0], b[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(a[1], b[1], atol=1e-3, rtol=0)


def test_no_pixels_give_the_mean_and_finite_light() -> None:
    empty = Samples(*(torch.zeros(0, *shape) for shape in ((3,), (3,), (3,), (3, COMPONENTS), ())))
    code, light = solve_light_albedo([empty], torch.zeros(COMPONENTS))
    assert not code.any() and light.isfinite().all()


def test_the_weight_belongs_to_the_function() -> None:
    """rho's derivative by r is 2 r w (what iteratively reweighted least squares needs)."""
    residual = torch.linspace(-1, 1, 41, dtype=torch.float64)[:, None] * torch.tensor([1.0, 0.5, -0.2])
    residual.requires_grad_()
    geman_mcclure(residual, 0.2).sum().backward()
    torch.testing.assert_close(residual.grad, 2 * residual * geman_mcclure_weight(residual, 0.2)[:, None])
    assert geman_mcclure(torch.full((1, 3), 1e3), 0.2).item() == pytest.approx(0.04, rel=1e-3)
