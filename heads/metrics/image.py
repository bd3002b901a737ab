"""How alike two pictures are: PSNR, SSIM, and distances of a network's features in the form of LPIPS."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...geometry.errors import HeadlabError


def psnr(a: Float[Tensor, "3 height width"], b: Float[Tensor, "3 _ _"]) -> float:
    """Peak signal-to-noise ratio of pictures in 0..1, dB; infinite where they are equal."""
    _same_size(a, b)
    error = float((a.double() - b.double()).square().mean())
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def ssim(a: Float[Tensor, "3 height width"], b: Float[Tensor, "3 _ _"]) -> float:
    """Structural similarity of Wang et al. 2004: Gaussian window (sigma 1.5), colours averaged, pictures in 0..1.

    Raises:
        HeadlabError: pictures of different sizes, or under 11 pixels.
    """
    from skimage.metrics import structural_similarity

    _same_size(a, b)
    if min(a.shape[1:]) < 11:
        raise HeadlabError(f"SSIM's window is 11 pixels wide, the pictures are {a.shape[2]} x {a.shape[1]}")
    x, y = (image.permute(1, 2, 0).double().cpu().numpy() for image in (a, b))
    value = structural_similarity(
        x, y, data_range=1.0, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return float(np.asarray(value).mean())


def _same_size(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise HeadlabError(
            f"two pictures to compare have {a.shape[2]} x {a.shape[1]} and {b.shape[2]} x {b.shape[1]} pixels; "
            "make them one size"
        )


class AlexTrunk(nn.Module):
    """AlexNet's convolutions under torchvision's key names (`features.0.weight` ...): five stages' activations."""

    def __init__(self):
        super().__init__()
        relu, pool = nn.ReLU(), nn.MaxPool2d(3, 2)
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 64, 11, 4, 2), relu, pool),
            *(nn.Conv2d(64, 192, 5, padding=2), relu, pool),
            *(nn.Conv2d(192, 384, 3, padding=1), relu),
            *(nn.Conv2d(384, 256, 3, padding=1), relu),
            *(nn.Conv2d(256, 256, 3, padding=1), relu),
        )

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        stages = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                stages.append(x)
        return stages


@dataclass(frozen=True)
class LPIPS:
    """Learned perceptual distance of Zhang et al. 2018, version 0.1, AlexNet; weights by the user."""

    trunk: AlexTrunk
    weights: list[Tensor]  #: per stage, (channels,)

    def distance(
        self, a: Float[Tensor, "batch 3 height width"], b: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch"]:
        """Of pictures in 0..1, at least 64 pixels."""
        with torch.inference_mode():
            total = torch.zeros(len(a))
            for x, y, weight in zip(self.trunk(_scaled(a)), self.trunk(_scaled(b)), self.weights, strict=True):
                difference = (_unit(x) - _unit(y)).square()
                total = total + (difference * weight[None, :, None, None]).sum(1).mean((1, 2))
        return total


def lpips_from(trunk: dict[str, Tensor], linear: dict[str, Tensor]) -> LPIPS:
    """Build LPIPS from torchvision's `alexnet-owt-*.pth` and the authors' `v0.1/alex.pth`.

    Args:
        trunk: state of AlexNet; its classifier may be there.
        linear: keys `lin0.model.1.weight` ... `lin4.model.1.weight`, (1, channels, 1, 1).

    Raises:
        HeadlabError: keys are missing; all are named.
    """
    net = AlexTrunk()
    names = [f"lin{i}.model.1.weight" for i in range(5)]
    missing = sorted((set(net.state_dict()) - set(trunk)) | (set(names) - set(linear)))
    if missing:
        raise HeadlabError(f"the weights of LPIPS lack {', '.join(missing)}; take alexnet-owt-*.pth and v0.1/alex.pth")
    net.load_state_dict({name: trunk[name] for name in net.state_dict()})
    return LPIPS(net.eval().requires_grad_(False), [linear[name].flatten().float() for name in names])


def feature_distance(
    stages_a: list[Float[Tensor, "batch _ _ _"]], stages_b: list[Float[Tensor, "batch _ _ _"]]
) -> Float[Tensor, "batch"]:
    """LPIPS's form with equal weights, for stages of any network: call the result by that network's name.

    Mean over stages and places of the squared distance of unit feature vectors, 0..4.
    """
    parts = [(_unit(x) - _unit(y)).square().sum(1).mean((1, 2)) for x, y in zip(stages_a, stages_b, strict=True)]
    return torch.stack(parts).mean(0)


def _unit(x: Tensor) -> Tensor:
    return x / (x.norm(dim=1, keepdim=True) + 1e-10)


def _scaled(x: Tensor) -> Tensor:
    shift = x.new_tensor([-0.030, -0.088, -0.188])[:, None, None]
    scale = x.new_tensor([0.458, 0.448, 0.450])[:, None, None]
    return (x * 2 - 1 - shift) / scale
