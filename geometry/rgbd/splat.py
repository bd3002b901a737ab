"""Point clouds as RGB-D pictures: each point is a small disc, the nearest surface wins, its discs blend.

Zwicker et al., "Surface Splatting" (2001), in screen space: pass one finds the nearest depth in every pixel, pass two
averages depth and colour of all discs on that surface, weighted by a Gaussian about each disc's centre. Confidence
falls with the distance to the nearest point's own pixel.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..camera import Camera
from .cloud import PointCloud
from .render import DepthPicture

_SAME_SURFACE = 0.01  # metres; discs farther behind the nearest one are hidden
_LARGEST = 6  # pixels, radius
_OWN = 1e-3  # pixels from a centre: the point belongs to that pixel alone


def render_points(cloud: PointCloud, camera: Camera, *, radius: float | None = None) -> DepthPicture:
    """Depth and colour of points through a camera.

    A point on a pixel's centre gives that pixel its exact depth where nothing lies before it, so an organised cloud
    seen by its own camera comes back as it was.

    Args:
        cloud: organised or not.
        camera: without batch axes.
        radius: of the discs, pixels; None: from how densely the points lie.
    """
    known = cloud.known()
    height, width = camera.size
    empty = torch.zeros(height * width, dtype=torch.float64)
    seen = camera.to(dtype=torch.float64).to_homogeneous(known.points.double())
    place, z = seen[:, :2] / seen[:, 3:].clamp(min=1e-6), seen[:, 2]
    near = (z > 1e-3) & (place > -_LARGEST).all(1)
    near &= (place[:, 0] < width + _LARGEST) & (place[:, 1] < height + _LARGEST)
    place, z = place[near], z[near]
    colors = None if known.colors is None else known.colors[near].double()
    if not len(z):
        image = None if colors is None else torch.zeros(3, height, width)
        return DepthPicture(empty.float().reshape(height, width), image, empty.float().reshape(height, width))
    if radius is None:
        radius = disc_radius(place)
    reach = min(_LARGEST, max(0, math.ceil(radius - 0.5)))
    cell = place.floor().long()
    offset = torch.arange(-reach, reach + 1)
    dy, dx = torch.meshgrid(offset, offset, indexing="ij")
    steps = torch.stack([dx.flatten(), dy.flatten()], 1)

    pixels, distances, owners = [], [], []
    for step in steps:
        target = cell + step
        gap = (target + 0.5 - place).square().sum(1)
        kept = (target >= 0).all(1) & (target[:, 0] < width) & (target[:, 1] < height)
        kept &= (gap <= max(radius, 0.71) ** 2) | (step == 0).all()
        rows = kept.nonzero()[:, 0]
        pixels.append(target[rows, 1] * width + target[rows, 0])
        distances.append(gap[rows])
        owners.append(rows)
    pixel, gap, owner = torch.cat(pixels), torch.cat(distances), torch.cat(owners)
    nearest = torch.full_like(empty, torch.inf).scatter_reduce(0, pixel, z[owner], "amin")
    front = z[owner] < nearest[pixel] + _SAME_SURFACE
    pixel, gap, owner = pixel[front], gap[front], owner[front]
    # A point on the very centre outweighs all others.
    spread = max(radius / 2, 0.35)
    weight = torch.exp(-gap / (2 * spread**2)) + torch.where(gap < _OWN**2, 1e12, 0.0)
    total = empty.scatter_add(0, pixel, weight)
    depth = empty.scatter_add(0, pixel, weight * z[owner]) / total.clamp(min=1e-12)
    own = torch.full_like(empty, torch.inf).scatter_reduce(0, pixel[gap < _OWN**2], z[owner[gap < _OWN**2]], "amin")
    depth = torch.where(own.isfinite(), own, depth) * (total > 0)
    closest = torch.full_like(empty, torch.inf).scatter_reduce(0, pixel, gap, "amin")
    confidence = torch.exp(-(closest - 0.5).clamp(min=0) / 2)
    image = None
    if colors is not None:
        mixed = [empty.scatter_add(0, pixel, weight * c) / total.clamp(min=1e-12) for c in colors[owner].unbind(1)]
        image = torch.stack(mixed).float().reshape(3, height, width)
    shape = (height, width)
    return DepthPicture(depth.float().reshape(shape), image, confidence.float().reshape(shape))


def disc_radius(place: Float[Tensor, "n 2"]) -> float:
    """Half the distance between neighbouring points in the picture, with a margin: discs just cover the surface."""
    from scipy.spatial import KDTree

    sample = place[:: max(1, len(place) // 4000)].numpy()
    distance = KDTree(place.numpy()).query(sample, k=min(5, len(place)))[0].reshape(len(sample), -1)
    return float(min(max(0.75 * float(torch.from_numpy(distance[:, -1]).median()), 0.5), _LARGEST))
