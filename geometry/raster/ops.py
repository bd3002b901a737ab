"""torch.library registration of the native operations, so that autograd, torch.compile and fake tensors know them.

Shapes are those of csrc/raster.h. Callers use `rasterize` and `interpolate` of raster.py, which check the input.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .native import check, module_for, threads

#: Arrays from this many elements on take their memory from the native module's cache of freed pictures.
_LARGE = 1 << 17


#: The plain function behind each operation.
_KERNELS: dict[Any, Callable[..., Any]] = {}


def _operation(name: str) -> Callable[[Callable[..., Any]], Any]:
    def register(kernel: Callable[..., Any]) -> Any:
        operation = torch.library.custom_op(f"headlab::{name}", mutates_args=())(kernel)
        _KERNELS[operation] = kernel
        return operation

    return register


def call(operation: Any, *inputs: Any) -> Any:
    """Run an operation; in inference mode, where nothing watches it, without PyTorch's dispatcher.

    At its first call a custom operation imports PyTorch's compiler, which takes about as long as torch itself: viewers
    would open a second later for it.
    """
    if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
        return operation(*inputs)
    if all(type(value) is Tensor for value in inputs if isinstance(value, Tensor)):
        return _KERNELS[operation](*inputs)
    return operation(*inputs)


def _empty(like: Tensor, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
    """Uninitialised. Large arrays on the CPU reuse memory: pages new to the process cost more than filling them."""
    if like.device.type != "cpu" or math.prod(shape) < _LARGE:
        return like.new_empty(shape, dtype=dtype)
    native, dtype = module_for(like), like.dtype if dtype is None else dtype
    if dtype == torch.int32:
        return native.empty_int32(shape)
    return native.empty_float32(shape) if dtype == torch.float32 else native.empty_float64(shape)


@_operation("rasterize")
def rasterize(
    points: Tensor, faces: Tensor, height: int, width: int, near: float, cull: bool, layers: int
) -> tuple[Tensor, Tensor, Tensor]:
    shape = (points.shape[0], height, width, layers)
    face = _empty(points, shape, torch.int32)
    bary, depth = _empty(points, (*shape, 3)), _empty(points, shape)
    native, points, faces = module_for(points), points.contiguous(), faces.contiguous()
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
    native, points, faces, face = module_for(points), points.contiguous(), faces.contiguous(), face.contiguous()
    grad_bary = None if grad_bary is None else grad_bary.contiguous()
    grad_depth = None if grad_depth is None else grad_depth.contiguous()
    grad = points.new_empty(points.shape)
    check(native.rasterize_backward(points, faces, threads(), face, grad_bary, grad_depth, grad))
    return grad


@rasterize_backward.register_fake
def _(points, faces, face, grad_bary, grad_depth):
    return points.new_empty(points.shape)


def _rasterize_context(ctx, inputs, output):
    ctx.save_for_backward(inputs[0], inputs[1], output[0])
    ctx.set_materialize_grads(False)


def _rasterize_backward(ctx, _grad_face, grad_bary, grad_depth):
    points, faces, face = ctx.saved_tensors
    if not ctx.needs_input_grad[0] or (grad_bary is None and grad_depth is None):
        return None, None, None, None, None, None, None
    grad = rasterize_backward(points, faces, face, grad_bary, grad_depth)
    return grad, None, None, None, None, None, None


rasterize.register_autograd(_rasterize_backward, setup_context=_rasterize_context)


@_operation("interpolate")
def interpolate(attributes: Tensor, faces: Tensor, face: Tensor, bary: Tensor) -> Tensor:
    out = _empty(attributes, (*face.shape, attributes.shape[-1]))
    native, attributes, faces = module_for(attributes), attributes.contiguous(), faces.contiguous()
    check(native.interpolate(attributes, faces, threads(), face.contiguous(), bary.contiguous(), out))
    return out


@interpolate.register_fake
def _(attributes, faces, face, bary):
    return attributes.new_empty((*face.shape, attributes.shape[-1]))


@torch.library.custom_op("headlab::interpolate_backward", mutates_args=())
def interpolate_backward(
    attributes: Tensor, faces: Tensor, face: Tensor, bary: Tensor, grad: Tensor, to_attributes: bool, to_bary: bool
) -> tuple[Tensor, Tensor]:
    grad_attributes = attributes.new_empty(attributes.shape) if to_attributes else None
    grad_bary = _empty(bary, bary.shape) if to_bary else None
    native, attributes, faces = module_for(attributes), attributes.contiguous(), faces.contiguous()
    face, bary, grad = face.contiguous(), bary.contiguous(), grad.contiguous()
    check(native.interpolate_backward(attributes, faces, threads(), face, bary, grad, grad_attributes, grad_bary))
    none = attributes.new_empty(0)
    return none if grad_attributes is None else grad_attributes, none.clone() if grad_bary is None else grad_bary


@interpolate_backward.register_fake
def _(attributes, faces, face, bary, grad, to_attributes, to_bary):
    return (
        attributes.new_empty(attributes.shape) if to_attributes else attributes.new_empty(0),
        bary.new_empty(bary.shape) if to_bary else attributes.new_empty(0),
    )


def _interpolate_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _interpolate_backward(ctx, grad):
    attributes, faces, face, bary = ctx.saved_tensors
    to_attributes, to_bary = ctx.needs_input_grad[0], ctx.needs_input_grad[3]
    grad_attributes, grad_bary = interpolate_backward(attributes, faces, face, bary, grad, to_attributes, to_bary)
    return grad_attributes if to_attributes else None, None, None, grad_bary if to_bary else None


interpolate.register_autograd(_interpolate_backward, setup_context=_interpolate_context)


@_operation("antialias")
def antialias(image: Tensor, points: Tensor, faces: Tensor, face: Tensor, depth: Tensor, near: float) -> Tensor:
    out = _empty(image, image.shape)
    native, image, points, faces = module_for(image), image.contiguous(), points.contiguous(), faces.contiguous()
    check(native.antialias(points, faces, near, threads(), face.contiguous(), depth.contiguous(), image, out))
    return out


@antialias.register_fake
def _(image, points, faces, face, depth, near):
    return image.new_empty(image.shape)


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
    grad_image = _empty(image, image.shape) if to_image else None
    grad_points = points.new_empty(points.shape) if to_points else None
    native, image, points, faces = module_for(image), image.contiguous(), points.contiguous(), faces.contiguous()
    face, depth, grad = face.contiguous(), depth.contiguous(), grad.contiguous()
    check(native.antialias_backward(points, faces, near, threads(), face, depth, image, grad, grad_image, grad_points))
    return (
        image.new_empty(0) if grad_image is None else grad_image,
        image.new_empty(0) if grad_points is None else grad_points,
    )


@antialias_backward.register_fake
def _(image, points, faces, face, depth, near, grad, to_image, to_points):
    return (
        image.new_empty(image.shape) if to_image else image.new_empty(0),
        points.new_empty(points.shape) if to_points else image.new_empty(0),
    )


def _antialias_context(ctx, inputs, output):
    *tensors, ctx.near = inputs
    ctx.save_for_backward(*tensors)


def _antialias_backward(ctx, grad):
    to_image, to_points = ctx.needs_input_grad[:2]
    grad_image, grad_points = antialias_backward(*ctx.saved_tensors, ctx.near, grad, to_image, to_points)
    return grad_image if to_image else None, grad_points if to_points else None, None, None, None, None


antialias.register_autograd(_antialias_backward, setup_context=_antialias_context)


@_operation("closest_point")
def closest_point(vertices: Tensor, faces: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    face = points.new_empty(points.shape[:-1], dtype=torch.int32)
    bary = points.new_empty(points.shape)
    native, vertices, faces = module_for(points), vertices.contiguous(), faces.contiguous()
    check(native.closest_point(vertices, faces, threads(), points.contiguous(), face, bary))
    return face, bary


@closest_point.register_fake
def _(vertices, faces, points):
    return points.new_empty(points.shape[:-1], dtype=torch.int32), points.new_empty(points.shape)


@_operation("vertex_normals")
def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    out = vertices.new_empty(vertices.shape)
    native, vertices, faces = module_for(vertices), vertices.contiguous(), faces.contiguous()
    check(native.vertex_normals(vertices, faces, threads(), out))
    return out


@vertex_normals.register_fake
def _(vertices, faces):
    return vertices.new_empty(vertices.shape)


@torch.library.custom_op("headlab::vertex_normals_backward", mutates_args=())
def vertex_normals_backward(vertices: Tensor, faces: Tensor, grad: Tensor) -> Tensor:
    out = vertices.new_empty(vertices.shape)
    native, vertices, faces = module_for(vertices), vertices.contiguous(), faces.contiguous()
    check(native.vertex_normals_backward(vertices, faces, threads(), grad.contiguous(), out))
    return out


@vertex_normals_backward.register_fake
def _(vertices, faces, grad):
    return vertices.new_empty(vertices.shape)


def _normals_backward(ctx, grad):
    return vertex_normals_backward(*ctx.saved_tensors, grad), None


vertex_normals.register_autograd(_normals_backward, setup_context=_interpolate_context)
