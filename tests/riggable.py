"""A small riggable head: an open sphere with a texture seam, two eyes, five joints, some actions."""

import numpy as np
import torch
import trimesh

from headlab.geometry.code import HeadCode
from headlab.geometry.models.head_model import HeadModel, License

ACTIONS = ("browInnerUp", "eyeBlinkLeft", "eyeBlinkRight", "jawOpen", "mouthSmileLeft", "noseSneerLeft", "tongueOut")


def riggable_head() -> HeadModel:
    """642 vertices less a cut at the neck, and twice 42; float32, metres."""
    rng = np.random.default_rng(4)
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.1)
    skin = ball.faces[ball.vertices[ball.faces][..., 1].min(1) > -0.08]
    eye = trimesh.creation.icosphere(subdivisions=1, radius=0.012)
    kept, skin = np.unique(skin, return_inverse=True)
    left, right = (np.add(eye.vertices, (x, 0.03, 0.09)) for x in (0.03, -0.03))
    points = [ball.vertices[kept], left, right]
    faces = [skin.reshape(-1, 3), eye.faces + len(kept), eye.faces + len(kept) + len(left)]
    parts = np.repeat([0, 1, 1], [len(f) for f in faces])
    vertices, faces = np.concatenate(points), np.concatenate(faces)

    # Longitude and latitude, a coordinate per corner; corners across the cut at the back go beyond u = 1, scaled in.
    direction = vertices[faces] / np.linalg.norm(vertices[faces], axis=-1, keepdims=True)
    u = np.arctan2(direction[..., 0], direction[..., 2]) / (2 * np.pi) + 0.5
    u = np.where((u < 0.25) & (u.max(1, keepdims=True) > 0.75), u + 1, u) / 1.5
    uvs = np.stack([u, np.arccos(-direction[..., 1].clip(-1, 1)) / np.pi], -1).reshape(-1, 2)
    uvs, uv_faces = np.unique(uvs.round(6), axis=0, return_inverse=True)

    count = len(vertices)
    centres = ((0, -0.1, 0), (0, -0.06, 0), (0, -0.02, 0.01), (0.03, 0.03, 0.09), (-0.03, 0.03, 0.09))
    near = np.exp(-(((vertices[:, None] - np.array(centres)) / 0.05) ** 2).sum(-1)) + 1e-3
    skin_weights = near / near.sum(1, keepdims=True)
    skin_weights[np.arange(count), skin_weights.argmin(1)] = 0  # at most four joints a vertex, as glTF has it
    skin_weights[-84:] = np.repeat(np.eye(5)[3:], 42, axis=0)
    skin_weights /= skin_weights.sum(1, keepdims=True)
    nearest = np.exp(-(((vertices[None] - np.array(centres)[:, None]) / 0.03) ** 2).sum(-1)) + 1e-6
    expression = rng.normal(size=(count, 3, len(ACTIONS))) * 0.004
    expression *= rng.random((count, 1, len(ACTIONS))) < 0.3  # most vertices stay
    return HeadModel(
        name="riggable",
        template=_float(vertices),
        shape_basis=_float(rng.normal(size=(count, 3, 4)) * 0.002),
        expression_basis=_float(expression * (np.arange(count) < count - 84)[:, None, None]),
        expression_names=ACTIONS,
        faces=torch.from_numpy(faces),
        joint_regressor=_float(nearest / nearest.sum(1, keepdims=True)),
        skin_weights=_float(skin_weights),
        parents=(-1, 0, 1, 1, 1),
        license=License("CC0-1.0", True, "https://example.org"),
        uvs=_float(uvs),
        uv_faces=torch.from_numpy(uv_faces.reshape(-1, 3)),
        part_names=("skin", "eyes"),
        face_parts=torch.from_numpy(parts),
    )


def _float(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def random_code(model: HeadModel, seed: int) -> HeadCode:
    """A head code with everything turned and moved."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, scale: float) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * scale

    return HeadCode(
        shape=draw(model.shapes, scale=1.0),
        expression=torch.rand(model.expressions, generator=generator),
        rotation=draw(3, scale=0.5),
        neck=draw(3, scale=0.2),
        jaw=draw(3, scale=0.2),
        eyes=draw(2, 3, scale=0.2),
        translation=draw(3, scale=0.5),
    )


def ramp_texture() -> torch.Tensor:
    """A smooth, colourful texture, wider than high: red rises with u, green with v."""
    v, u = torch.meshgrid(torch.linspace(1, 0, 64), torch.linspace(0, 1, 128), indexing="ij")
    return torch.stack([0.2 + 0.6 * u, 0.2 + 0.6 * v, 0.5 + 0.3 * torch.sin(6 * u)])
