"""Deca: the networks of DECA (Feng et al., "Learning an animatable detailed 3D face model from in-the-wild images",
2021) or EMOCA (Danecek et al., "EMOCA: Emotion driven monocular face capture and animation", 2022), with their
authors' weights.

    deca = load_deca(Path("deca_model.tar"))
    code = deca.encode(crops)                  # (batch, 3, 224, 224), see `crop` and `photo`
    head = deca.decode(code, flame, assets=load_detail_assets(Path("data")), images=crops)
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import HeadlabError
from ..models.head_model import HeadModel
from .assets import UV_SIZE, DetailAssets
from .checkpoints import (
    Sections,
    find_emoca_checkpoint,
    read_deca_checkpoint,
    read_emoca_checkpoint,
    read_expression_outputs,
)
from .codes import OUTPUTS, PARTS, DecaCode, ExpressionOutputs
from .decode import Decoded, decode_coarse, decode_detail, decode_pictures, merge_textures
from .detail_decoder import DetailDecoder
from .encoder import CROP, CodeEncoder
from .render import blank_albedo
from .uv_maps import UvSpace
from .weights import load_network

#: Length of the detail code.
DETAIL = 128

#: Texture where the photo shows nothing and there is no albedo: upstream's grey.
_NO_TEXTURE = 0.7


@dataclass(frozen=True)
class Deca:
    """Frozen networks. Gradients flow through them to the crops."""

    name: str  #: "deca" or "emoca"
    coarse: CodeEncoder  #: E_flame
    detail: CodeEncoder  #: E_detail
    displacement: DetailDecoder  #: D_detail
    expression: CodeEncoder | None = None  #: EMOCA's E_expression
    predicts: ExpressionOutputs = ExpressionOutputs.EXPRESSION  #: what `expression` predicts
    blend: bool = True  #: detail normals fade to the coarse ones outside of the mask: DECA, not EMOCA

    def to(self, device: torch.device | str) -> "Deca":
        """Move the networks (in place, as torch does) and return this object."""
        for network in (self.coarse, self.detail, self.displacement, self.expression):
            if network is not None:
                network.to(device)
        return self

    def encode(self, crops: Float[Tensor, "batch 3 height width"], *, detail: bool = True) -> DecaCode:
        """Crops -> codes. EMOCA's expression (and pose, as configured) takes the place of DECA's.

        Args:
            crops: RGB, 0..1, 224 x 224.
            detail: encode the detail, too: a third of the time, or a half.

        Raises:
            ValueError: the crops have another size.
        """
        if crops.shape[-2:] != (CROP, CROP):
            raise ValueError(f"crops must be {CROP} x {CROP}, got {tuple(crops.shape[-2:])}; use CropTransform.crop")
        code = DecaCode.split(self.coarse(crops), self.detail(crops) if detail else None)
        return code if self.expression is None else self.predicts.merge(code, self.expression(crops))

    def decode(
        self,
        code: DecaCode,
        model: HeadModel,
        *,
        assets: DetailAssets | None = None,
        albedo: Float[Tensor, "#batch 3 size size"] | None = None,
        images: Float[Tensor, "batch 3 height width"] | None = None,
        size: tuple[int, int] = (CROP, CROP),
        space: UvSpace | None = None,
    ) -> Decoded:
        """Codes -> meshes, maps and pictures.

        Args:
            code: one batch axis.
            model: FLAME with landmark tables and texture coordinates.
            assets: DECA's maps; without them, or without a detail code, there is no detail.
            albedo: in texture space, `FlameTexture.albedo(code.texture)`; black where absent, as in DECA.
            images: the crops; with them and `assets` the photo is unwrapped, too.
            size: (height, width) of the pictures.
            space: the model's texture layout, to be made once for many calls.

        Raises:
            HeadlabError: the model is not FLAME as DECA uses it, or lacks tables.
        """
        check_model(model)
        coarse = decode_coarse(code, model)
        given = albedo is not None
        if albedo is None:
            albedo = blank_albedo(coarse.vertices, len(coarse.vertices), UV_SIZE)
        detail = texture = unwrapped = None
        if assets is not None and code.detail is not None:
            space = space or UvSpace.of(model, assets.mask.shape[-1])
            detail = decode_detail(code, coarse, space, assets, self.displacement, blend=self.blend)
            texture = albedo * detail.shading
            if images is not None:
                outside = texture if given else torch.full_like(texture, _NO_TEXTURE)
                unwrapped = merge_textures(space, coarse, images, outside, assets)
        pictures = decode_pictures(code, coarse, albedo, size, detail, assets)
        return Decoded(coarse, albedo, pictures, detail, texture, unwrapped)


def load_deca(path: Path) -> Deca:
    """Read DECA's networks from deca_model.tar.

    Raises:
        MissingAssetError, UnsafePickleError, HeadlabError: the file is absent, unsafe, damaged, or its keys and shapes
            are not exactly those of the networks.
    """
    return Deca("deca", **_networks(read_deca_checkpoint(path), str(path)))


def load_emoca(path: Path, config: Path | None = None) -> Deca:
    """Read EMOCA's networks from a Lightning checkpoint.

    Args:
        path: the .ckpt, or the model's folder (with `detail/checkpoints/` and `cfg.yaml`).
        config: its cfg.yaml, if that lies elsewhere; needed only for models that predict jaw or global rotation.

    Raises:
        MissingAssetError, UnsafePickleError, HeadlabError: as `load_deca`.
    """
    path = find_emoca_checkpoint(path)
    sections = read_emoca_checkpoint(path)
    rows = sections["E_expression"].get("layers.2.weight", torch.empty(0)).shape[0]
    predicts = read_expression_outputs(path, rows, config)
    source = f"{path} (deca.E_expression)"
    expression = load_network(lambda: CodeEncoder(rows), sections["E_expression"], source)
    networks = _networks(sections, str(path))
    return Deca("emoca", **networks, expression=expression, predicts=predicts, blend=False)


def check_model(model: HeadModel) -> None:
    """Raises:
    HeadlabError: DECA's codes mean nothing to this model.
    """
    if model.shapes < PARTS["shape"] or model.expressions < PARTS["expression"] or not model.joints_follow_expression:
        raise HeadlabError(
            f"{model.name} is not FLAME: DECA and EMOCA need FLAME with {PARTS['shape']} shape and "
            f"{PARTS['expression']} expression components; add one with `headlab assets add`"
        )
    if model.uvs is None or model.uv_faces is None:
        raise HeadlabError(
            f"{model.name} was loaded without texture coordinates; add DECA's head_template.obj with "
            "`headlab assets add`"
        )


def _networks(sections: Sections, source: str) -> dict:
    return {
        "coarse": load_network(lambda: CodeEncoder(OUTPUTS), sections["E_flame"], f"{source} (E_flame)"),
        "detail": load_network(lambda: CodeEncoder(DETAIL), sections["E_detail"], f"{source} (E_detail)"),
        "displacement": load_network(DetailDecoder, sections["D_detail"], f"{source} (D_detail)"),
    }
