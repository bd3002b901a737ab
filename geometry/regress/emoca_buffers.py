"""What an EMOCA checkpoint carries besides its networks: FLAME, its texture layout, and the detail maps.

They are buffers of the authors' modules, so a checkpoint alone is enough to rebuild the head it was trained with
(100 identity and 50 expression components).
"""

from pathlib import Path

from torch import Tensor

from ..errors import HeadlabError
from ..models.flame import FLAME_LICENSE
from ..models.head_model import DynamicContour, HeadModel, LandmarkEmbedding, License
from .assets import DetailAssets
from .checkpoints import find_emoca_checkpoint, read_emoca_checkpoint
from .codes import PARTS


def read_emoca_head(path: Path, name: str = "flame-emoca", license: License = FLAME_LICENSE) -> HeadModel:
    """FLAME as it lies in a checkpoint.

    Args:
        path: the .ckpt or the model's folder.
        name: model id.
        license: FLAME's terms hold for this copy, too.

    Raises:
        MissingAssetError, UnsafePickleError, HeadlabError: it is absent, unsafe, damaged, or holds no FLAME.
    """
    path = find_emoca_checkpoint(path)
    sections = read_emoca_checkpoint(path, ("flame", "render"))
    flame, render = sections["flame"], sections["render"]
    try:
        count = len(flame["v_template"])
        basis = flame["shapedirs"].float().reshape(count, 3, -1)
        shapes = basis.shape[-1] - PARTS["expression"]
        weights = flame["lbs_weights"].float()
        faces = flame["faces_tensor"].long()
        eyes = weights[:, 3:].sum(-1) > 0.5
        landmarks = {
            "68": _embedding(flame, "full_lmk", ""),
            "51": _embedding(flame, "lmk", ""),
        }
        if "lmk_faces_idx_mediapipe" in flame:
            landmarks["105"] = _embedding(flame, "lmk", "_mediapipe")
        contour = DynamicContour(flame["dynamic_lmk_faces_idx"].long(), flame["dynamic_lmk_bary_coords"].float())
        if shapes < 1 or weights.shape != (count, 5) or int(faces.max()) >= count:
            raise ValueError("its sizes disagree")
        return HeadModel(
            name=name,
            template=flame["v_template"].float(),
            shape_basis=basis[..., :shapes].contiguous(),
            expression_basis=basis[..., shapes:].contiguous(),
            expression_names=tuple(f"expression{i:03d}" for i in range(PARTS["expression"])),
            faces=faces,
            joint_regressor=flame["J_regressor"].float(),
            skin_weights=weights,
            parents=tuple(max(int(parent), -1) for parent in flame["parents"]),
            license=license,
            pose_basis=flame["posedirs"].float().mT.reshape(count, 3, -1).contiguous(),
            uvs=render["raw_uvcoords"].float().reshape(-1, 2),
            uv_faces=render["uvfaces"].long().reshape(-1, 3),
            landmarks=landmarks,
            contour=contour,
            regions={"eyes": eyes},
            part_names=("skin", "eyes"),
            face_parts=eyes[faces].all(-1).long(),
            joints_follow_expression=True,
        )
    except (KeyError, ValueError, RuntimeError) as error:
        raise HeadlabError(f"{path} holds no complete FLAME ({error}); load FLAME from its own file") from error


def read_emoca_assets(path: Path) -> DetailAssets:
    """Mask and fixed displacement as they lie in a checkpoint (no dense mesh).

    Raises:
        MissingAssetError, UnsafePickleError, HeadlabError: as `read_emoca_head`.
    """
    path = find_emoca_checkpoint(path)
    maps = read_emoca_checkpoint(path, ("",))[""]
    try:
        mask, fixed = maps["uv_face_eye_mask"].float(), maps["fixed_uv_dis"].float()
        return DetailAssets(mask.reshape(mask.shape[-2:]), fixed.reshape(mask.shape[-2:]))
    except (KeyError, RuntimeError) as error:
        raise HeadlabError(f"{path} holds no detail maps ({error}); load them from DECA's folder data/") from error


def _embedding(flame: dict[str, Tensor], stem: str, suffix: str) -> LandmarkEmbedding:
    faces, weights = flame[f"{stem}_faces_idx{suffix}"], flame[f"{stem}_bary_coords{suffix}"]
    return LandmarkEmbedding(faces.long().reshape(-1), weights.float().reshape(-1, 3))
