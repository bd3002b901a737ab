"""GLB: a head with named morph targets, a skeleton and a texture, for Blender, three.js, Unreal and the like.

    head (skinned mesh, a primitive per part)             root ─ neck ─ jaw
      morph target k = expression_basis[..., k]                     ├─ leftEye
      extras.targetNames = expression_names                         └─ rightEye

glTF 2.0 blends and skins exactly as `HeadModel` does, so the file evaluates to `HeadModel.vertices`. Two things it
cannot say: FLAME's pose correctives, which follow the joints' rotations (baked into the mesh for the exported pose),
and more than four joints per vertex (the smallest weights are dropped).
"""

from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pygltflib as gltf
import torch
from jaxtyping import Float
from torch import Tensor

from ...geometry.code import HeadCode
from ...geometry.errors import HeadlabError
from ...geometry.files import encode_image, write_bytes
from ...geometry.models.head_model import HeadModel
from .gltf_buffer import BufferBuilder
from .gltf_mesh import primitive, rest_surface
from .gltf_skeleton import inverse_binds, joint_nodes
from .looks import linear, look_of
from .parts import Part, split_parts


def write_glb(
    path: Path,
    model: HeadModel,
    code: HeadCode,
    albedo: Float[Tensor, "3 height width"] | None = None,
    *,
    neutral: bool = True,
    vertex_colors: Float[Tensor, "verts 3"] | None = None,
    plain_parts: Collection[str] = (),
    jpeg_quality: int | None = 95,
) -> None:
    """Write one head as a binary glTF 2.0 file, atomically. Metres, +Y up, +Z out of the face.

    The identity β is in the mesh. The fitted expression and pose are either the file's opening state
    (`neutral=False`), or the file rests at neutral and carries them as `extras.fittedWeights` of the mesh and
    `extras.fittedRotation` (quaternion x, y, z, w) of the joints.

    Args:
        path: the file; its folder must exist.
        model: head model.
        code: one head, without batch axes.
        albedo: UV texture, sRGB 0..1, row 0 at v = 1; models without texture coordinates cannot use it.
        neutral: expressionless, upright, at the model's origin; otherwise as fitted, in the world.
        vertex_colors: sRGB 0..1, for models without texture coordinates.
        plain_parts: parts that get a plain colour although there is an albedo.
        jpeg_quality: of the embedded texture; None embeds a lossless PNG.

    Raises:
        HeadlabError: the code is not finite, or the file cannot be written.
    """
    if code.shape.ndim != 1:
        raise ValueError(f"write_glb takes one head, got a batch of {tuple(code.shape.shape[:-1])}")
    if not all(bool(value.isfinite().all()) for value in code.arrays().values()):
        raise HeadlabError(f"cannot write {path}: the head's parameters are not finite numbers; fit it again")
    with torch.no_grad():
        write_bytes(path, _encode(model, code, albedo, neutral, vertex_colors, plain_parts, jpeg_quality))


def _encode(
    model: HeadModel,
    code: HeadCode,
    albedo: Tensor | None,
    neutral: bool,
    vertex_colors: Tensor | None,
    plain_parts: Collection[str],
    jpeg_quality: int | None,
) -> bytes:
    buffer = BufferBuilder()
    parts = split_parts(model)
    surface = rest_surface(model, code, posed=not neutral)
    uvs = None if model.uvs is None else model.uvs.cpu().numpy()
    textured = albedo is not None and uvs is not None
    colors = None if vertex_colors is None or textured else linear(vertex_colors.cpu().numpy().astype(np.float64))
    plain = set(plain_parts) if textured else {part.name for part in parts}

    primitives = []
    for i, part in enumerate(parts):
        # Texture coordinates without a texture stay useful to whoever paints one; beside plain colours they are noise.
        part_uvs = uvs if not (textured and part.name in plain) else None
        primitives.append(primitive(buffer, part, surface, i, part_uvs, colors))
    mesh = gltf.Mesh(name="head", primitives=primitives, extras=_mesh_extras(model, code, neutral))
    if model.expressions:
        mesh.weights = [0.0] * model.expressions if neutral else _weights(model, code)

    joints = joint_nodes(model, code, first=1, posed=not neutral)
    roots = [1 + joint for joint, parent in enumerate(model.parents) if parent < 0]
    skin = gltf.Skin(
        name="head",
        joints=list(range(1, 1 + len(joints))),
        skeleton=roots[0] if len(roots) == 1 else None,
        inverseBindMatrices=inverse_binds(buffer, model.joints(code.shape)),
    )
    document = gltf.GLTF2(
        asset=gltf.Asset(
            generator=f"headlab {version('headlab')}",
            copyright=f"head model {model.name}: {model.license.name}, {model.license.url}",
        ),
        scene=0,
        # A skinned mesh belongs beside its skeleton, not under it: glTF ignores the mesh node's own placement.
        scenes=[gltf.Scene(name="head", nodes=[0, *roots])],
        nodes=[gltf.Node(name="head", mesh=0, skin=0), *joints],
        meshes=[mesh],
        skins=[skin],
        materials=[_material(part, part.name in plain, colors is not None) for part in parts],
    )
    if textured and albedo is not None:
        kind = "PNG" if jpeg_quality is None else "JPEG"
        picture = buffer.view(encode_image(albedo, kind, jpeg_quality or 95))
        document.images = [gltf.Image(name="albedo", bufferView=picture, mimeType=f"image/{kind.lower()}")]
        document.samplers = [
            gltf.Sampler(
                magFilter=gltf.LINEAR,
                minFilter=gltf.LINEAR_MIPMAP_LINEAR,
                wrapS=gltf.CLAMP_TO_EDGE,
                wrapT=gltf.CLAMP_TO_EDGE,
            )
        ]
        document.textures = [gltf.Texture(name="albedo", source=0, sampler=0)]
    document.bufferViews, document.accessors = buffer.views, buffer.accessors
    document.buffers = [gltf.Buffer(byteLength=len(buffer.data))]
    document.set_binary_blob(bytes(buffer.data) + b"\0" * (-len(buffer.data) % 4))
    return b"".join(document.save_to_bytes())


def _material(part: Part, plain: bool, vertex_colored: bool) -> gltf.Material:
    look = look_of(part.name)
    surface = gltf.PbrMetallicRoughness(metallicFactor=0.0, roughnessFactor=look.roughness)
    if not plain:
        surface.baseColorTexture = gltf.TextureInfo(index=0)
    elif not vertex_colored:
        surface.baseColorFactor = [*linear(np.array(look.color)).tolist(), 1.0]
    # Only of an open surface (a neck cut off below) can one see the back.
    return gltf.Material(name=part.name, pbrMetallicRoughness=surface, doubleSided=part.open)


def _weights(model: HeadModel, code: HeadCode) -> list[float]:
    """The code's expression, one number per morph target; short codes are the leading ones."""
    return code.expression.tolist() + [0.0] * (model.expressions - code.expression.shape[-1])


def _mesh_extras(model: HeadModel, code: HeadCode, neutral: bool) -> dict[str, object]:
    if not model.expressions:
        return {}
    extras: dict[str, object] = {"targetNames": list(model.expression_names)}
    if model.expression_bounds is not None:
        extras["targetBounds"] = model.expression_bounds.tolist()
    if neutral:
        extras["fittedWeights"] = _weights(model, code)
    return extras
