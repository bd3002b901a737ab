"""From the numbers that the default network reads to heads and cameras, and back."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from ..camera import Camera
from ..code import HeadCode
from ..models.head_model import HeadModel
from ..rodrigues import rotvec_to_rotmat
from .default_net import HeadNumbers


def focus(model: HeadModel, shape: Float[Tensor, "batch shape"], points: str = "478") -> Float[Tensor, "batch 3"]:
    """The point of a person's rest head that cameras look at: the centroid of its landmarks, metres."""
    embedding = model.landmarks[points]
    corners, weights = model.faces[embedding.faces].long(), embedding.weights[..., None] / len(embedding.faces)
    middle = (model.template[corners] * weights).sum((0, 1))
    basis = (model.shape_basis[corners][..., : shape.shape[-1]] * weights[..., None]).sum((0, 1))
    return middle + shape @ basis.mT


def placed(
    model: HeadModel,
    codes: HeadCode,
    rotation: Float[Tensor, "batch 3 3"],
    position: Float[Tensor, "batch 3"],
    middle: Float[Tensor, "batch 3"],
) -> HeadCode:
    """Codes with this global rotation, moved so that a point of the rest head comes to a position in the world.

    The point is carried along by the root joint alone.
    """
    import roma

    root = model.joints(codes.shape, codes.expression)[:, model.joint_names.index("root")]
    arm = (rotation @ (middle - root)[..., None])[..., 0]
    return codes.with_(rotation=roma.rotmat_to_rotvec(rotation), translation=position - root - arm)


def heads_of_numbers(model: HeadModel, numbers: HeadNumbers, size: int) -> tuple[HeadCode, Camera]:
    """Codes and cameras of crops; everything batched. Differentiable.

    Args:
        model: the model that the network was trained for.
        numbers: the network's.
        size: side of the crops that the cameras shall be of, pixels.
    """
    count = len(numbers.shape)
    codes = model.neutral((count,)).with_(
        shape=pad(numbers.shape, (0, model.shapes - numbers.shape.shape[-1])),
        expression=numbers.expression,
        eyes=pad(numbers.eyes, (0, 1)),
        albedo=numbers.albedo,
        light=numbers.light,
    )
    distance = torch.exp(numbers.log_distance)
    codes = placed(model, codes, numbers.rotation, pad(-distance[:, None], (2, 0)), focus(model, codes.shape))
    rest = Camera.frontal(1.0, (size, size), numbers.offset.dtype).to(device=numbers.offset.device)
    focal = torch.exp(numbers.log_scale) * distance * size
    K = pad(torch.diag_embed(focal[:, None].expand(-1, 2)), (0, 1, 0, 1))
    principal = size * (0.5 + numbers.offset)
    K = K + pad(torch.cat([principal, torch.ones_like(principal[:, :1])], -1)[..., None], (2, 0))
    return codes, Camera(K, rest.R.expand(count, 3, 3), rest.t.expand(count, 3), (size, size))


def numbers_of_heads(model: HeadModel, codes: HeadCode, camera: Camera, shapes: int) -> HeadNumbers:
    """Inverse of `heads_of_numbers`, for frontal cameras at the origin that look at the heads."""
    assert codes.light is not None and codes.albedo is not None
    size = camera.size[0]
    rotation = rotvec_to_rotmat(codes.rotation)
    root = model.joints(codes.shape, codes.expression)[:, model.joint_names.index("root")]
    arm = (rotation @ (focus(model, codes.shape) - root)[..., None])[..., 0]
    at = root + arm + codes.translation
    distance = -at[:, 2]
    return HeadNumbers(
        codes.shape[:, :shapes],
        codes.expression,
        codes.eyes[..., :2],
        rotation,
        torch.log(camera.K[:, 0, 0] / distance / size),
        camera.project(at[:, None])[:, 0] / size - 0.5,
        torch.log(distance),
        codes.light,
        codes.albedo,
    )
