"""torch.library registration of the native operations, so that autograd, torch.compile and fake tensors know them.

Shapes are those of csrc/raster.h. Callers use `rasterize` and `interpolate` of raster.py, which check the input.
"""

import torch
from torch import Tensor

from .native import check, module_for, threads


@torch.library.custom_op("headlab::rasterize", mutates_args=())
def rasterize(
    points: Tensor, faces: Tensor, height: int, width: int, near: float, cull: bool, layers: int
) -> tuple[Tensor, Tensor, Tensor]:
    shape = (points.shape[0], height, width, layers)
    face = points.new_empty(shape, dtype=torch.int32)
    bary, depth = points.new_empty((*shape, 3)), points.new_empty(shape)
    native = module_for(points)
    check(native.rasterize(points, faces, height, width, layers, near, cull, threads(), face, bary, depth))
    return face, bary, depth


@rasterize.register_fake
def _(points, faces, height, width, near, cull, layers):
    shape = (points.shape[0], height, width, layers)
    face = points.new_empty(shape, dtype=torch.int32)
    return face, points.new_empty((*shape, 3)), points.new_empty(shape)


@torch.library.custom_op("headlab::rasterize_backward", mutates_args=())
def rasterize_backward(
    points: Tensor, faces: Tensor, face: Tensor, grad_bary: Tensor | None, grad_depth: Tensor | None
) -> Tensor:
    grad = torch.empty_like(points)
    native = module_for(points)
    check(native.rasterize_backward(points, faces, threads(), face, grad_bary, grad_depth, grad))
    return grad


@rasterize_backward.register_fake
def _(points, faces, face, grad_bary, grad_depth):
    return torch.empty_like(points)


def _rasterize_context(ctx, inputs, output):
    ctx.save_for_backward(inputs[0], inputs[1], output[0])
    ctx.set_materialize_grads(False)


def _rasterize_backward(ctx, _grad_face, grad_bary, grad_depth):
    points, faces, face = ctx.saved_tensors
    if not ctx.needs_input_grad[0] or (grad_bary is None and grad_depth is None):
        return None, None, None, None, None, None, None
    grad_bary = None if grad_bary is None else grad_bary.contiguous()
    grad_depth = None if grad_depth is None else grad_depth.contiguous()
    grad = rasterize_backward(points, faces, face, grad_bary, grad_depth)
    return grad, None, None, None, None, None, None


rasterize.register_autograd(_rasterize_backward, setup_context=_rasterize_context)


@torch.library.custom_op("headlab::interpolate", mutates_args=())
def interpolate(attributes: Tensor, faces: Tensor, face: Tensor, bary: Tensor) -> Tensor:
    out = attributes.new_empty((*face.shape, attributes.shape[-1]))
    check(module_for(attributes).interpolate(attributes, faces, threads(), face, bary, out))
    return out


@interpolate.register_fake
def _(attributes, faces, face, bary):
    return attributes.new_empty((*face.shape, attributes.shape[-1]))


@torch.library.custom_op("headlab::interpolate_backward", mutates_args=())
def interpolate_backward(
    attributes: Tensor, faces: Tensor, face: Tensor, bary: Tensor, grad: Tensor, to_attributes: bool, to_bary: bool
) -> tuple[Tensor, Tensor]:
    grad_attributes = torch.empty_like(attributes) if to_attributes else None
    grad_bary = torch.empty_like(bary) if to_bary else None
    native = module_for(attributes)
    check(
        native.interpolate_backward(
            attributes, faces, threads(), face, bary, grad, grad_attributes, grad_bary
        )
    )
    none = attributes.new_empty(0)
    return none if grad_attributes is None else grad_attributes, none.clone() if grad_bary is None else grad_bary


@interpolate_backward.register_fake
def _(attributes, faces, face, bary, grad, to_attributes, to_bary):
    return (
        torch.empty_like(attributes) if to_attributes else attributes.new_empty(0),
        torch.empty_like(bary) if to_bary else attributes.new_empty(0),
    )


def _interpolate_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _interpolate_backward(ctx, grad):
    attributes, faces, face, bary = ctx.saved_tensors
    to_attributes, to_bary = ctx.needs_input_grad[0], ctx.needs_input_grad[3]
    grad_attributes, grad_bary = interpolate_backward(
        attributes, faces, face, bary, grad.contiguous(), to_attributes, to_bary
    )
    return grad_attributes if to_attributes else None, None, None, grad_bary if to_bary else None


interpolate.register_autograd(_interpolate_backward, setup_context=_interpolate_context)


@torch.library.custom_op("headlab::antialias", mutates_args=())
def antialias(image: Tensor, points: Tensor, faces: Tensor, face: Tensor, depth: Tensor, near: float) -> Tensor:
    out = torch.empty_like(image)
    check(module_for(image).antialias(points, faces, near, threads(), face, depth, image, out))
    return out


@antialias.register_fake
def _(image, points, faces, face, depth, near):
    return torch.empty_like(image)


@torch.library.custom_op("headlab::antialias_backward", mutates_args=())
def antialias_backward(
    image: Tensor,
    points: Tensor,
    faces: Tensor,
    face: Tensor,
    depth: Tensor,
    near: float,
    grad: Tensor,
    to_image: bool,
    to_points: bool,
) -> tuple[Tensor, Tensor]:
    grad_image = torch.empty_like(image) if to_image else None
    grad_points = torch.empty_like(points) if to_points else None
    native = module_for(image)
    check(
        native.antialias_backward(
            points, faces, near, threads(), face, depth, image, grad, grad_image, grad_points
        )
    )
    return (
        image.new_empty(0) if grad_image is None else grad_image,
        image.new_empty(0) if grad_points is None else grad_points,
    )


@antialias_backward.register_fake
def _(image, points, faces, face, depth, near, grad, to_image, to_points):
    return (
        torch.empty_like(image) if to_image else image.new_empty(0),
        torch.empty_like(points) if to_points else image.new_empty(0),
    )


def _antialias_context(ctx, inputs, output):
    *tensors, ctx.near = inputs
    ctx.save_for_backward(*tensors)


def _antialias_backward(ctx, grad):
    to_image, to_points = ctx.needs_input_grad[:2]
    grad_image, grad_points = antialias_backward(
        *ctx.saved_tensors, ctx.near, grad.contiguous(), to_image, to_points
    )
    return grad_image if to_image else None, grad_points if to_points else None, None, None, None, None


antialias.register_autograd(_antialias_backward, setup_context=_antialias_context)
