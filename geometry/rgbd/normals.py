"""Normals of a depth map: planes fitted around every pixel, not across edges.

A plane n · X = h is linear in inverse depth over the picture: 1 / z = a u + b v + c with (a, b, c) = n / h in the
rays' coordinates. So a weighted least-squares fit of 1 / z over a window gives the normal without bias (Nakagawa et
al., "Estimating surface normals with depth image gradients", 2015, have the same observation for gradients).
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize, pad

from ..camera import Camera
from .cloud import check_size, pixel_rays


def depth_normals(
    depth: Float[Tensor, "height width"],
    camera: Camera,
    *,
    radius: int = 2,
    spread: float = 0.01,
) -> Float[Tensor, "height width 3"]:
    """Unit normals in the camera's axes (x right, y down, z forward), towards the camera: z < 0. 0 where unknown.

    Args:
        depth: metres, 0 = none.
        camera: of the picture; only its intrinsics matter.
        radius: of the window, pixels.
        spread: depths that differ by so much from the centre's hardly count, metres.
    """
    check_size(depth, camera)
    rays = pixel_rays(camera).float()
    u, v = rays[..., 0], rays[..., 1]
    known = depth > 0
    inverse = torch.where(known, 1 / depth.clamp(min=1e-6), 0.0)
    layers = pad(torch.stack([u, v, inverse, depth, known.float()])[None], (radius,) * 4, mode="replicate")[0]
    layers[4, :radius], layers[4, -radius:], layers[4, :, :radius], layers[4, :, -radius:] = 0, 0, 0, 0
    height, width = depth.shape
    sums = torch.zeros(8, height, width)  # w, du, dv, dudu, dudv, dvdv, and with the residual r: r, du r, dv r below
    right = torch.zeros(3, height, width)
    scale = 1 / (spread * 2)
    pixel = float(u[0, 1] - u[0, 0]) if width > 1 else 1.0
    for dy in range(2 * radius + 1):
        for dx in range(2 * radius + 1):
            un, vn, qn, zn, kn = layers[:, dy : dy + height, dx : dx + width]
            weight = kn * torch.exp(-((zn - depth) * scale).square())
            du, dv, r = (un - u) / pixel, (vn - v) / pixel, qn - inverse
            sums[0] += weight
            sums[1] += weight * du
            sums[2] += weight * dv
            sums[3] += weight * du * du
            sums[4] += weight * du * dv
            sums[5] += weight * dv * dv
            right[0] += weight * r
            right[1] += weight * du * r
            right[2] += weight * dv * r
    w, su, sv, uu, uv, vv = sums[:6]
    w = w.clamp(min=1e-6)
    # Eliminate the constant, then solve the 2 x 2 system for the slopes.
    uu, uv, vv = uu - su * su / w, uv - su * sv / w, vv - sv * sv / w
    ru, rv = right[1] - su * right[0] / w, right[2] - sv * right[0] / w
    determinant = uu * vv - uv * uv
    safe = determinant.clamp(min=1e-9)
    a, b = (vv * ru - uv * rv) / safe / pixel, (uu * rv - uv * ru) / safe / pixel
    c = inverse + (right[0] - a * pixel * su - b * pixel * sv) / w - a * u - b * v
    normal = -normalize(torch.stack([a, b, c], -1), dim=-1)
    # (a, b, c) is n / h with h = n · X > 0 for the normal that points away from the camera.
    return torch.where((known & (determinant > 0.05))[..., None], normal, 0.0)
