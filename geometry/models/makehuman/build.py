"""Build the default head: MakeHuman's head with an identity basis, 52 ARKit actions, joints and regions.

Identity: heads sampled from MakeHuman's controls (`people.py`), each bent by a random smooth deformation
(`deformation_modes.py`) because the sculpted controls alone are too stiff for real faces; rigidly aligned; lips
closed and eyeballs round (`anatomy.py`); PCA.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray

from ..arkit import ARKIT_ACTIONS, action_std
from ..deformation_modes import deformation_modes
from ..head_model import HeadModel, License
from ..shape_space import align_rigidly, principal_components, vertex_areas
from .anatomy import round_eyes, seal_lips
from .crop import PARTS, HeadCrop, crop_head, even_edge
from .people import dense, sample_heads
from .rig import CUBES, fit_joint_regressor, joint_cubes, regions, skin_weights
from .source import MakeHuman

METRES = 0.1  # per MakeHuman unit
PEOPLE = 2500
COMPONENTS = 180
MODES = 150  # smooth deformation modes mixed into the samples
SEED = 20240611
_FACE_EMPHASIS = 6.0  # of the face's area in the PCA against the rest of the head
CC0 = License("CC0 1.0 (MakeHuman base mesh and targets)", True, "https://static.makehumancommunity.org")


def build_head(source: MakeHuman) -> HeadModel:
    """Everything but the landmarks. Takes a few seconds."""
    crop = crop_head(source)
    rng = np.random.default_rng(SEED)
    cubes = joint_cubes(source)
    size = len(crop.kept)
    everything = np.concatenate([crop.kept, cubes.ravel()])
    sampled = sample_heads(source, everything, PEOPLE, rng) * METRES
    heads, joints = sampled[:, :size], sampled[:, size:].reshape(PEOPLE, *cubes.shape, 3).mean(2)

    masks = regions(source, crop, heads.mean(0), neck_height=heads.mean(0)[:, 1].min() + 0.095)
    rotation, offset = align_rigidly(heads, masks["face"] | masks["scalp"] | masks["ears"])
    heads = np.einsum("nij,nvj->nvi", rotation, heads) + offset[:, None]
    joints = np.einsum("nij,nvj->nvi", rotation, joints) + offset[:, None]
    # Symmetric origin between the ears.
    mean = heads.mean(0)
    origin = np.array([0.0, *mean[masks["ears"]].mean(0)[1:]])
    heads, joints = heads - origin, joints - origin
    mean = heads.mean(0)
    supports = [_support(name, mean, joints.mean(0)[i], masks) for i, name in enumerate(CUBES)]
    regressor = fit_joint_regressor(heads, joints, supports)

    modes = deformation_modes(
        _as_bodies(mean, masks, crop), _softness(mean, masks), MODES, seed=int(rng.integers(2**31))
    ).astype(np.float32)
    bent = rng.standard_normal((PEOPLE, MODES)).astype(np.float32) @ modes.reshape(MODES, -1)
    heads += bent.reshape(heads.shape)
    base, holds = source.mesh.vertices[crop.kept] * METRES, skin_weights(source, crop)
    heads = seal_lips(heads, base, holds[:, 2], masks["lips"] | masks["mouth"])
    eyeballs = [np.flatnonzero(masks[name]) for name in ("left_eye", "right_eye")]
    for joint, members in enumerate(eyeballs, start=list(CUBES).index("left_eye")):
        holds[members] = np.eye(len(CUBES))[joint]  # MakeHuman lets the skull hold their backs a little
    heads = round_eyes(heads, base, eyeballs, ~masks["eyes"])
    weights = vertex_areas(mean, crop.faces)
    weights *= np.where(masks["face"], _FACE_EMPHASIS, 1.0) / weights.sum()
    template, basis, _ = principal_components(heads, weights, COMPONENTS)

    actions = source.actions()
    count = len(source.mesh.vertices)
    expression = np.stack([dense(actions[name], crop.kept, count) * METRES for name in ARKIT_ACTIONS], -1)

    def tensor(x: ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))

    return HeadModel(
        name="default",
        template=tensor(even_edge(template, crop.faces)),
        shape_basis=tensor(basis),
        expression_basis=tensor(expression),
        expression_names=ARKIT_ACTIONS,
        faces=torch.from_numpy(crop.faces),
        joint_regressor=tensor(regressor),
        skin_weights=tensor(holds),
        parents=(-1, 0, 1, 1, 1),
        license=CC0,
        uvs=tensor(crop.uvs),
        uv_faces=torch.from_numpy(crop.uv_faces),
        regions={name: torch.from_numpy(mask) for name, mask in masks.items()},
        part_names=PARTS,
        face_parts=torch.from_numpy(crop.face_parts),
        expression_bounds=torch.tensor([[0.0, 1.0]]).repeat(len(ARKIT_ACTIONS), 1),
        expression_std=torch.tensor([action_std(name) for name in ARKIT_ACTIONS]),
    )


def _support(
    name: str, mean: Float[ndarray, "verts 3"], joint: Float[ndarray, "3"], masks: dict[str, Bool[ndarray, "verts"]]
) -> ndarray:
    """Vertices a joint is predicted from: its eyeball, or the skin nearest to it, the same on both sides."""
    if name.endswith("_eye"):
        return np.flatnonzero(masks[name])
    inner = masks["eyes"] | masks["teeth"] | masks["tongue"]
    distance = np.linalg.norm((mean - joint) * [0.7, 1, 1], axis=1) + 10 * inner
    return np.argsort(distance)[:160]


def _as_bodies(
    mean: Float[ndarray, "verts 3"], masks: dict[str, Bool[ndarray, "verts"]], crop: HeadCrop
) -> Float[ndarray, "verts 3"]:
    """Points of the deformation process: eyeballs and rows of teeth move as rigid bodies, at their centres."""
    points = mean.copy()
    for name in ("left_eye", "right_eye", "upper_teeth", "lower_teeth", "tongue"):
        members = np.unique(crop.faces[crop.face_parts == PARTS.index(name)])
        points[members] = points[members].mean(0)
    return points


def _softness(mean: Float[ndarray, "verts 3"], masks: dict[str, Bool[ndarray, "verts"]]) -> Float[ndarray, "verts"]:
    """Amplitude of the deformations: full on the face, less on the skull, fading down the neck."""
    bottom, chin = mean[:, 1].min(), mean[masks["face"], 1].min()
    brow = mean[masks["eyes"], 1].mean() + 0.03
    neck = _smoothstep((mean[:, 1] - bottom) / (chin - bottom))
    skull = _smoothstep((mean[:, 1] - brow) / 0.06)
    return (0.15 + 0.85 * neck) * (1 - 0.5 * skull)


def _smoothstep(x: Float[ndarray, "n"]) -> Float[ndarray, "n"]:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)
