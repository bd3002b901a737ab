"""Tiny models for tests: no downloads, milliseconds to build."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from headlab.geometry.fitting.landmark_layout import MEDIAPIPE
from headlab.geometry.landmarks.mesh478 import FACE_OVAL
from headlab.geometry.models.head_model import HeadModel, LandmarkEmbedding, License

EXPRESSIONS = ("jawDrop", "smile_L", "smile_R", "browUp", "pucker", "blink_L", "blink_R", "sneer")
AXES = torch.tensor([0.075, 0.11, 0.095], dtype=torch.float64)  # half axes of the ellipsoid, metres
EYES = ((0.032, 0.03), (-0.032, 0.03))  # x, y of left and right eye, metres


def tiny_head(shapes: int = 12, *, rings: int = 24, seed: int = 0, pose_basis: bool = False) -> HeadModel:
    """An egg with a nose, smooth random bases, FLAME's five joints and a 478-point embedding; float64, metres.

    The points of the face oval lie round the rim of the face, the corners of the eyes and the ten iris points where a
    face has them; the others are spread over the front.
    """
    generator = torch.Generator().manual_seed(seed)
    template, faces = _egg(rings)
    joints = torch.tensor(
        [[0.0, -0.1, -0.03], [0.0, -0.06, -0.02], [0.0, -0.03, 0.0], [0.032, 0.03, 0.06], [-0.032, 0.03, 0.06]],
        dtype=torch.float64,
    )
    expression_basis = _fields(template, len(EXPRESSIONS), 0.006, generator) * _front(template)[:, None, None]
    model = HeadModel(
        name="tiny",
        template=template,
        shape_basis=_fields(template, shapes, 0.0025, generator),
        expression_basis=expression_basis,
        expression_names=EXPRESSIONS,
        faces=faces,
        joint_regressor=_regressor(template, joints),
        skin_weights=_skin(template),
        parents=(-1, 0, 1, 1, 1),
        license=License("made up", True, "https://example.org"),
        pose_basis=_fields(template, 36, 0.002, generator) if pose_basis else None,
        expression_bounds=torch.tensor([[0.0, 1.0]], dtype=torch.float64).expand(len(EXPRESSIONS), 2),
        expression_std=torch.full((len(EXPRESSIONS),), 0.4, dtype=torch.float64),
    )
    points = _landmark_places()
    embedding = _nearest_in_front(model, points)
    subset = torch.tensor(MEDIAPIPE.ibug68)
    landmarks = {"478": embedding, "68": LandmarkEmbedding(embedding.faces[subset], embedding.weights[subset])}
    return replace(model, landmarks=landmarks)


def _egg(rings: int) -> tuple[Tensor, Tensor]:
    """Latitude-longitude mesh about the Y axis, poles closed by one vertex each, with a bump for a nose."""
    around = 2 * rings
    theta = torch.linspace(0, math.pi, rings + 1, dtype=torch.float64)[1:-1]
    phi = torch.arange(around, dtype=torch.float64) * (2 * math.pi / around)
    t, p = torch.meshgrid(theta, phi, indexing="ij")
    ball = torch.stack([t.sin() * p.sin(), t.cos(), t.sin() * p.cos()], -1).reshape(-1, 3)
    ball = torch.cat([ball, ball.new_tensor([[0, 1.0, 0], [0, -1.0, 0]])])
    template = ball * AXES
    nose = torch.exp(-((template[:, 0] / 0.014) ** 2) - ((template[:, 1] / 0.022) ** 2)) * (template[:, 2] > 0)
    template[:, 2] += 0.02 * nose
    i, j = torch.meshgrid(torch.arange(rings - 2), torch.arange(around), indexing="ij")
    a, b = (i * around + j).flatten(), (i * around + (j + 1) % around).flatten()
    c, d = a + around, b + around
    ring, top, bottom = torch.arange(around), len(ball) - 2, len(ball) - 1
    last = (rings - 2) * around
    following = (ring + 1) % around
    caps = [
        torch.stack([torch.full_like(ring, top), ring, following], -1),
        torch.stack([last + following, last + ring, torch.full_like(ring, bottom)], -1),
    ]
    return template, torch.cat([torch.stack([a, c, b], -1), torch.stack([b, c, d], -1), *caps])


def _fields(points: Tensor, count: int, size: float, generator: torch.Generator) -> Tensor:
    """Smooth random displacement fields (verts, 3, count): a few plane waves each."""
    waves = torch.randn(4, 3, count, generator=generator, dtype=torch.float64) * 14
    phases = torch.rand(4, 1, count, generator=generator, dtype=torch.float64) * 2 * math.pi
    directions = torch.randn(4, 3, count, generator=generator, dtype=torch.float64) / 2
    amount = torch.sin(torch.einsum("vc,wck->wvk", points, waves) + phases)
    return size * torch.einsum("wvk,wck->vck", amount, directions)


def _front(points: Tensor) -> Tensor:
    return torch.sigmoid((points[:, 2] - 0.04) / 0.01)


def _regressor(template: Tensor, joints: Tensor) -> Tensor:
    """Weights of the nearest vertices that sum to 1 and give the joints back (least norm)."""
    near = torch.cdist(joints, template).argsort(-1)[:, :60]
    result = torch.zeros(len(joints), len(template), dtype=torch.float64)
    for row, (index, joint) in enumerate(zip(near, joints, strict=True)):
        system = torch.cat([template[index].T, torch.ones(1, len(index), dtype=torch.float64)])
        target = torch.cat([joint, torch.ones(1, dtype=torch.float64)])
        result[row, index] = torch.linalg.lstsq(system, target.unsqueeze(-1), driver="gelsd").solution[:, 0]
    return result


def _skin(template: Tensor) -> Tensor:
    """Smooth weights for root, neck, jaw and two eyes."""
    x, y, z = template.unbind(-1)
    eyes = [torch.exp(-(((x - ex) / 0.012) ** 2 + ((y - ey) / 0.012) ** 2)) * (z > 0) for ex, ey in EYES]
    jaw = torch.sigmoid((-0.035 - y) / 0.008) * _front(template) * (1 - eyes[0] - eyes[1]).clamp(0, 1)
    rest = (1 - jaw - eyes[0] - eyes[1]).clamp_min(0)
    neck = rest * torch.sigmoid((y + 0.07) / 0.01)
    weights = torch.stack([rest - neck, neck, jaw, *eyes], -1)
    return weights / weights.sum(-1, keepdim=True)


def _landmark_places() -> Tensor:
    """(478, 2) x, y in metres on the front of the egg."""
    index = torch.arange(478, dtype=torch.float64) + 0.5
    radius, angle = (index / 478).sqrt(), index * (math.pi * (3 - math.sqrt(5)))
    places = torch.stack([0.045 * radius * angle.cos(), 0.065 * radius * angle.sin() - 0.01], -1)
    turn = torch.arange(len(FACE_OVAL), dtype=torch.float64) * (2 * math.pi / len(FACE_OVAL))
    places[list(FACE_OVAL)] = torch.stack([0.062 * turn.sin(), 0.088 * turn.cos()], -1)
    places[list(MEDIAPIPE.outer_eyes)] = places.new_tensor([[-0.045, 0.03], [0.045, 0.03]])
    places[list(MEDIAPIPE.medial)] = places.new_tensor([[0.0, 0.03], [0.0, -0.045]])
    for eye, first in ((0, 473), (1, 468)):  # 468..472 the subject's right iris, 473..477 the left
        offsets = places.new_tensor([[0, 0], [0.006, 0], [0, 0.006], [-0.006, 0], [0, -0.006]])
        places[first : first + 5] = places.new_tensor(EYES[eye]) + offsets
    return places


def _nearest_in_front(model: HeadModel, places: Tensor) -> LandmarkEmbedding:
    """Where lines parallel to Z through the places meet the front of the mesh."""
    corners = model.template[model.faces][:, :, :2]
    front = (model.template[model.faces][:, :, 2] > 0).all(-1).nonzero()[:, 0]
    a, b, c = corners[front].unbind(1)
    ab, ac = b - a, c - a
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    offset = places[:, None] - a
    v = (offset[..., 0] * ac[:, 1] - offset[..., 1] * ac[:, 0]) / area
    w = (ab[:, 0] * offset[..., 1] - ab[:, 1] * offset[..., 0]) / area
    weights = torch.stack([1 - v - w, v, w], -1)
    weights = torch.where(area[:, None].abs() > 1e-12, weights, torch.full_like(weights, -1e9))
    best = weights.amin(-1).argmax(-1)
    chosen = weights[torch.arange(len(places)), best].clamp_min(0)
    return LandmarkEmbedding(front[best], chosen / chosen.sum(-1, keepdim=True))
