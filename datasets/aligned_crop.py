"""The 112 x 112 crop that face recognition networks expect: five points brought onto a template by a similarity."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

from ..geometry.landmarks.mesh478 import LEFT_EYE, RIGHT_EYE

#: Right eye, left eye, nose tip, right and left mouth corner (ArcFace's template, Deng et al. 2019), pixels.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
SIZE = 112
_NOSE_TIP, _MOUTH_CORNERS = 4, (61, 291)


def five_points(points: Float[Tensor, "478 2"]) -> Float[Tensor, "5 2"]:
    """Eye centres, nose tip and mouth corners of MediaPipe's points."""
    eyes = [points[list(ring)].mean(0) for ring in (RIGHT_EYE, LEFT_EYE)]
    return torch.stack([*eyes, points[_NOSE_TIP], *points[list(_MOUTH_CORNERS)]])


def aligned_crop(image: Float[Tensor, "3 height width"], points: Float[Tensor, "478 2"]) -> Float[Tensor, "3 112 112"]:
    """Crop a face for recognition; bilinear, averaged where the photo is much finer, zeros outside."""
    source = five_points(points).double().cpu().numpy()
    # Least-squares similarity template -> image (Umeyama 1991).
    a, b = TEMPLATE - TEMPLATE.mean(0), source - source.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1.0, np.sign(np.linalg.det(u @ vt))])
    matrix = (u * sign) @ vt * ((s * sign).sum() / (a**2).sum())
    offset = source.mean(0) - matrix @ TEMPLATE.mean(0)
    shrink = max(1, int(np.sqrt(abs(np.linalg.det(matrix)))))
    small = torch.nn.functional.avg_pool2d(image[None], shrink, ceil_mode=True)
    centre = np.arange(SIZE) + 0.5
    grid = np.stack(np.meshgrid(centre, centre), -1) @ matrix.T + offset
    extent = np.array([small.shape[-1], small.shape[-2]]) * shrink
    grid = torch.from_numpy(grid / extent * 2 - 1).to(image)
    return grid_sample(small, grid[None], mode="bilinear", padding_mode="zeros", align_corners=False)[0]
