"""Joints, skinning weights and region masks of the default head from MakeHuman's rig and mask images."""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from .crop import PARTS, HeadCrop, mask_at
from .source import MakeHuman

#: Joint -> the helper cube at its centre in MakeHuman's body. The root is the base of the neck, the neck joint the
#: base of the skull (as in FLAME), the jaw joint the hinge between the ears.
CUBES = {
    "root": "joint-neck",
    "neck": "joint-head",
    "jaw": "joint-mouth",
    "left_eye": "joint-l-eye",
    "right_eye": "joint-r-eye",
}
#: How much of each neck bone turns with the skull.
_NECK_SHARE = {"neck01": 0.0, "neck02": 0.33, "neck03": 0.75}


def joint_cubes(source: MakeHuman) -> Int[ndarray, "joints 8"]:
    """Body vertices whose mean is each joint, in the order of `CUBES`."""
    return np.stack([source.group(cube) for cube in CUBES.values()])


def skin_weights(source: MakeHuman, crop: HeadCrop) -> Float[ndarray, "verts 5"]:
    """Weights on root, neck, jaw, left eye, right eye; rows sum to 1."""
    full = np.zeros((len(source.mesh.vertices), len(CUBES)))
    for bone, pairs in source.skin_weights.items():
        if len(pairs):
            np.add.at(full, pairs[:, 0].astype(int), pairs[:, 1:] * _share(bone, source))
    weights = full[crop.kept]
    return weights / weights.sum(1, keepdims=True)


def _share(bone: str, source: MakeHuman) -> Float[ndarray, "joints"]:
    """What our joints do with a bone of MakeHuman's rig: the first known ancestor decides."""
    while bone:
        if bone in _NECK_SHARE:
            return np.array([1 - _NECK_SHARE[bone], _NECK_SHARE[bone], 0, 0, 0])
        known = {"head": 1, "jaw": 2, "eye.L": 3, "eye.R": 4}
        if bone in known:
            return np.eye(len(CUBES))[known[bone]]
        bone = source.bone_parents.get(bone, "")
    return np.eye(len(CUBES))[0]


def fit_joint_regressor(
    heads: Float[ndarray, "count verts 3"],
    joints: Float[ndarray, "count joints 3"],
    supports: list[Int[ndarray, "_"]],
) -> Float[ndarray, "joints verts"]:
    """Weights (sum 1 per joint, on its support) that predict joints from vertices, by ridge regression."""
    regressor = np.zeros((len(supports), heads.shape[1]))
    for joint, support in enumerate(supports):
        uniform = np.full(len(support), 1 / len(support))
        points = heads[:, support]
        centre = points.mean(1, keepdims=True)
        rows = (points - centre).transpose(0, 2, 1).reshape(-1, len(support))
        target = (joints[:, joint] - centre[:, 0]).reshape(-1)
        ridge = 1e-3 * np.trace(rows.T @ rows) / len(support)
        extra = np.linalg.solve(rows.T @ rows + ridge * np.eye(len(support)), rows.T @ target)
        regressor[joint, support] = uniform + extra - extra.mean()
    return regressor


def regions(
    source: MakeHuman, crop: HeadCrop, template: Float[ndarray, "verts 3"], neck_height: float
) -> dict[str, Bool[ndarray, "verts"]]:
    """Masks over vertices: face, lips, eyelids, eyes, ears, scalp, neck, teeth, tongue, mouth."""
    count = len(template)

    def of_part(*names: str) -> Bool[ndarray, "verts"]:
        out = np.zeros(count, dtype=bool)
        out[crop.faces[np.isin(crop.face_parts, [PARTS.index(name) for name in names])]] = True
        return out

    skin = of_part("skin") & ~of_part("left_eye", "right_eye")
    out = {name: mask_at(source.mask(name), crop.body_uvs) & skin for name in ("face", "ears", "lips", "eyelids")}
    out["face"] |= out["lips"] | out["eyelids"]
    out["left_eye"], out["right_eye"] = of_part("left_eye"), of_part("right_eye")
    out["eyes"] = out["left_eye"] | out["right_eye"]
    out["teeth"], out["tongue"] = of_part("upper_teeth", "lower_teeth"), of_part("tongue")
    out["mouth"] = of_part("mouth") & ~skin
    brow = np.percentile(template[out["face"], 1], 90)
    behind = np.median(template[out["ears"], 2])
    rest = skin & ~out["face"] & ~out["ears"] & ~mask_at(source.mask("inside-mouth"), crop.body_uvs)
    out["neck"] = rest & (template[:, 1] < neck_height)
    out["scalp"] = rest & ~out["neck"] & ((template[:, 1] > brow) | (template[:, 2] < behind))
    return out
