"""Animated GLB: the morph weights, the joints' rotations and the head's place over time, and the camera that saw it."""

import math
from pathlib import Path

import numpy as np
import pygltflib as gltf
import torch
from jaxtyping import Float
from torch import Tensor

from ...geometry.camera import Camera
from ...geometry.code import HeadCode
from ...geometry.errors import HeadlabError
from ...geometry.files import atomic_path, write_bytes
from ...geometry.fitting.smoothing import continuous_quaternions
from ...geometry.models.head_model import HeadModel
from .glb import write_glb
from .gltf_buffer import BufferBuilder

#: Joint -> field of a code, and place within it.
_DRIVEN = {
    "root": ("rotation", None),
    "neck": ("neck", None),
    "jaw": ("jaw", None),
    "left_eye": ("eyes", 0),
    "right_eye": ("eyes", 1),
}
#: Smallest angle (radians) by which a joint that is animated moves at all.
_STILL = 1e-5


def write_animated_glb(
    path: Path,
    model: HeadModel,
    codes: HeadCode,
    times: Float[np.ndarray, "frames"],
    albedo: Float[Tensor, "3 height width"] | None = None,
    *,
    camera: Camera | None = None,
    name: str = "track",
    jpeg_quality: int | None = 95,
) -> None:
    """Write one person in motion as a binary glTF 2.0 file, atomically. Metres, +Y up, +Z out of the face.

    The head is that of `write_glb` at rest; one animation, linear between frames, drives the mesh's weights (its
    morph targets are named in `extras.targetNames`), the joints' rotations and the root's translation. What glTF cannot
    say of FLAME (pose correctives, joints that follow the expression) is left out.

    Args:
        path: the file; its folder must exist.
        model: head model.
        codes: a frame axis; rows of `shape` are equal.
        times: seconds, growing; the animation begins at 0.
        albedo: UV texture, sRGB 0..1.
        camera: pinhole camera at the world's origin that looks along -Z, as tracks have it; added to the scene.
        name: of the animation.
        jpeg_quality: of the embedded texture; None embeds a lossless PNG.

    Raises:
        HeadlabError: the codes are not finite, or the file cannot be written.
        ValueError: not one time per frame, or times do not grow.
    """
    frames = len(times)
    if codes.shape.ndim != 2 or len(codes.rotation) != frames or frames == 0 or not bool((np.diff(times) > 0).all()):
        raise ValueError("an animation takes one code and one time per frame, times growing")
    if not all(bool(value.isfinite().all()) for value in codes.arrays().values()):
        raise HeadlabError(f"cannot write {path}: the track's parameters are not finite numbers; track it again")
    still = model.neutral().with_(shape=codes.shape[0].cpu())
    with atomic_path(path) as temporary:
        write_glb(temporary, model, still, albedo, jpeg_quality=jpeg_quality)
        loaded = gltf.GLTF2().load_binary(str(temporary))
    assert loaded is not None
    buffer = BufferBuilder(bytearray(loaded.binary_blob() or b""), list(loaded.bufferViews), list(loaded.accessors))
    for accessor in buffer.accessors:
        if accessor.bufferView is None:
            accessor.byteOffset = None  # reading sets pygltflib's default 0, only allowed together with a buffer view
    loaded.animations = [_animation(buffer, model, codes, times - times[0], name)]
    for node in loaded.nodes:
        (node.extras or {}).pop("fittedRotation", None)
    for mesh in loaded.meshes:
        (mesh.extras or {}).pop("fittedWeights", None)
    if camera is not None:
        _add_camera(loaded, camera)
    loaded.bufferViews, loaded.accessors = buffer.views, buffer.accessors
    data = bytes(buffer.data) + b"\0" * (-len(buffer.data) % 4)
    loaded.buffers[0].byteLength = len(data)
    loaded.set_binary_blob(data)
    write_bytes(path, b"".join(loaded.save_to_bytes()))


def _animation(
    buffer: BufferBuilder, model: HeadModel, codes: HeadCode, times: Float[np.ndarray, "frames"], name: str
) -> gltf.Animation:
    clock = buffer.dense(times.astype(np.float32), target=None, bounds=True)
    result = gltf.Animation(name=name, samplers=[], channels=[])

    def drive(node: int, path: str, values: np.ndarray) -> None:
        output = buffer.dense(np.ascontiguousarray(values, dtype=np.float32), target=None)
        result.samplers.append(gltf.AnimationSampler(input=clock, output=output, interpolation=gltf.ANIM_LINEAR))
        target = gltf.AnimationChannelTarget(node=node, path=path)
        result.channels.append(gltf.AnimationChannel(sampler=len(result.samplers) - 1, target=target))

    if model.expressions:
        given = codes.expression.cpu()
        weights = torch.nn.functional.pad(given, (0, model.expressions - given.shape[-1]))
        drive(0, "weights", weights.flatten().numpy())
    rest = model.joints(codes.shape[:1])[0].double().cpu()
    for joint, parent in enumerate(model.parents):
        field, place = _DRIVEN[model.joint_names[joint]]
        vectors = getattr(codes, field) if place is None else getattr(codes, field)[:, place]
        if float(vectors.norm(dim=-1).max()) > _STILL or parent < 0:
            drive(1 + joint, "rotation", continuous_quaternions(vectors).numpy())
        if parent < 0:
            drive(1 + joint, "translation", (rest[joint] + codes.translation.double().cpu()).numpy())
    return result


def _add_camera(document: gltf.GLTF2, camera: Camera) -> None:
    height, width = camera.size
    lens = gltf.Perspective(
        yfov=2 * math.atan(height / 2 / float(camera.K[1, 1])),
        aspectRatio=width / height * float(camera.K[1, 1] / camera.K[0, 0]),
        znear=0.01,
        zfar=100.0,
    )
    document.cameras = [gltf.Camera(type="perspective", perspective=lens, name="camera")]
    document.nodes.append(gltf.Node(name="camera", camera=0))
    document.scenes[0].nodes = [*(document.scenes[0].nodes or []), len(document.nodes) - 1]
