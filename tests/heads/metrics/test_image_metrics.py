"""PSNR, SSIM against scikit-image and torchmetrics; LPIPS against its formula."""

import numpy as np
import pytest
import torch

from headlab.geometry.errors import HeadlabError
from headlab.heads.metrics.image import AlexTrunk, feature_distance, lpips_from, psnr, ssim


@pytest.fixture(scope="module")
def pictures():
    generator = torch.Generator().manual_seed(0)
    a = torch.nn.functional.interpolate(torch.rand(1, 3, 9, 12, generator=generator), size=(64, 80), mode="bicubic")[0]
    a = a.clamp(0, 1)
    return a, (a + 0.1 * torch.randn(a.shape, generator=generator)).clamp(0, 1)


def test_psnr(pictures):
    from skimage.metrics import peak_signal_noise_ratio

    a, b = pictures
    assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=1.0), abs=1e-4)
    assert psnr(a, a) == float("inf")
    assert psnr(torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.1)) == pytest.approx(20, abs=1e-4)
    with pytest.raises(HeadlabError, match="one size"):
        psnr(a, b[:, 1:])


def test_ssim(pictures):
    from torchmetrics.functional.image import structural_similarity_index_measure as reference

    a, b = pictures
    _, places = reference(b[None], a[None], data_range=1.0, return_full_image=True)
    # Where the window lies within the picture: torchmetrics also averages over places beside its mirrored border.
    assert ssim(a, b) == pytest.approx(float(places[..., 5:-5, 5:-5].mean()), abs=1e-4)
    assert ssim(a, a) == pytest.approx(1)
    with pytest.raises(HeadlabError, match="11 pixels"):
        ssim(a[:, :8], b[:, :8])


def test_lpips_follows_its_formula(pictures):
    torch.manual_seed(1)
    trunk = AlexTrunk()
    linear = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate((64, 192, 384, 256, 256))}
    net = lpips_from(trunk.state_dict() | {"classifier.6.bias": torch.zeros(3)}, linear)
    a, b = pictures
    got = net.distance(torch.stack([a, b]), torch.stack([b, b]))
    assert float(got[1]) == 0 and float(got[0]) > 0
    shift, scale = np.array([-0.03, -0.088, -0.188]), np.array([0.458, 0.448, 0.45])
    total = 0.0
    x, y = (
        torch.from_numpy((2 * p.permute(1, 2, 0).numpy() - 1 - shift) / scale).permute(2, 0, 1).float() for p in (a, b)
    )
    for i, (f, g) in enumerate(zip(trunk(x[None]), trunk(y[None]), strict=True)):
        f, g = f[0].detach().numpy(), g[0].detach().numpy()
        f, g = f / (np.sqrt((f**2).sum(0)) + 1e-10), g / (np.sqrt((g**2).sum(0)) + 1e-10)
        total += ((f - g) ** 2 * linear[f"lin{i}.model.1.weight"].numpy()[0]).sum(0).mean()
    assert float(got[0]) == pytest.approx(total, rel=1e-4)
    with pytest.raises(HeadlabError, match=r"lin3\.model\.1\.weight"):
        lpips_from(trunk.state_dict(), {k: v for k, v in linear.items() if "lin3" not in k})


def test_feature_distance_of_opposite_features_is_four():
    x = torch.randn(2, 5, 3, 3)
    assert torch.allclose(feature_distance([x], [-x]), torch.full((2,), 4.0), atol=1e-5)
