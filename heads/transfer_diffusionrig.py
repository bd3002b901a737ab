"""DiffusionRig as a renderer of transfers: the photo's aligned crop redrawn under the edited head's physical buffers.

    photo, fit ──> FFHQ's crop, buffers of the old and the new head ──> `diffusionrig_edit.redraw` ──> into the photo

The released network has seen buffers of FLAME with its texture space and DECA's light. Buffers of another head model,
such as the default one, have the same meaning and range but another look; stage 2 on buffers of that model adapts it.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from ..datasets.lmdb_diffusionrig import RigRecord
from ..diffusion.upstream.diffusionrig import DiffusionRig, load_diffusionrig
from ..diffusion.upstream.diffusionrig_edit import RigEditConfig, redraw
from ..geometry.code import HeadCode
from ..geometry.errors import HeadlabError
from ..geometry.models.head_model import HeadModel
from .assets import asset_path
from .crop_view import CropView
from .edit_given import skin_texture
from .edit_photo import EditedPhoto
from .ffhq_view import ffhq_view, put_back
from .transfer import PhotoHead, Renderer, Source, TransferConfig
from .transfer_renderer import Choice

_PREFIX = "diffusionrig"


def is_diffusionrig(model: str) -> bool:
    """Whether a --model names DiffusionRig: diffusionrig:PATH, or diffusionrig alone for the added asset."""
    return model == _PREFIX or model.startswith(_PREFIX + ":")


def open_diffusionrig(model: str) -> DiffusionRig:
    """The network that a --model names.

    Raises:
        MissingAssetError: none was added.
        HeadlabError: the file cannot be used.
    """
    path = model.partition(":")[2]
    return load_diffusionrig(Path(path) if path else asset_path("diffusionrig"))


def rig_buffers(
    view: CropView, model: HeadModel, code: HeadCode, texture: Float[Tensor, "3 rows columns"]
) -> Float[Tensor, "9 size size"]:
    """Rendered, normal and albedo of a head in a crop, in the axes of the crop's own camera, as DECA tells them."""
    return view.maps(model, code, texture).diffusion_rig()


def rig_record(model: HeadModel, head: PhotoHead, size: int) -> RigRecord:
    """A fitted photo as DiffusionRig's stores keep it: FFHQ's crop and its buffers, for training.

    Raises:
        HeadlabError: the head model has no texture coordinates.
    """
    _check_texture(model, head)
    view = ffhq_view(model, head, size)
    rendered, normal, albedo = rig_buffers(view, model, head.code, skin_texture(model, head)).split(3)
    return RigRecord(view.cut(head.frame.image).clamp(0, 1), rendered, normal, albedo)


def edit_photo_with_rig(
    model: HeadModel,
    network: DiffusionRig,
    head: PhotoHead,
    code: HeadCode,
    config: RigEditConfig | None = None,
    progress: Callable[[int, int], None] = lambda done, steps: None,
) -> EditedPhoto:
    """A photo as if its head had another code (expression, pose, light).

    Raises:
        HeadlabError: the head model has no texture; as `redraw`.
    """
    config = config or RigEditConfig()
    _check_texture(model, head)
    view, texture = ffhq_view(model, head, network.config.unet.size), skin_texture(model, head)
    crop = view.cut(head.frame.image).clamp(0, 1) * 2 - 1
    before, after = (rig_buffers(view, model, c, texture) for c in (head.code, code))

    def told(done: int, _: Tensor) -> None:
        progress(done, config.steps)

    made = redraw(network, crop[None], after[None], config, before[None], told)[0]
    image = put_back(head.frame.image, made / 2 + 0.5, view)
    return EditedPhoto(image, None, crop, made, view)


def _check_texture(model: HeadModel, head: PhotoHead) -> None:
    if model.uvs is None or head.fit.albedo is None:
        raise HeadlabError(f"{model.name} has no texture coordinates, which buffers need; use the default model")


def diffusionrig_renderer(
    model: HeadModel,
    head: PhotoHead,
    network: DiffusionRig,
    config: RigEditConfig,
    made: list[EditedPhoto],
    progress: Callable[[str], None] = lambda stage: None,
) -> Renderer:
    """A renderer for `transfer`; everything it makes is appended to `made`."""

    def render(source: Source, code: HeadCode) -> Float[Tensor, "3 height width"]:
        def told(done: int, steps: int) -> None:
            progress(f"{source.name}: step {done} of {steps}")

        made.append(edit_photo_with_rig(model, network, head, code, config, told))
        return made[-1].image

    return render


def rig_choice(name: str) -> Choice:
    """Why this renderer: it was asked for."""
    return Choice("diffusion", f"DiffusionRig was asked for ({name})")


def only(config: TransferConfig, what: str) -> TransferConfig:
    """Take one thing alone from the source, as DiffusionRig's modes do: light, expression (with the jaw) or pose."""
    if what == "expression":
        return replace(config, expression=True, jaw=True, eyes=False, pose=False, light=False)
    plain = replace(config, expression=False, jaw=False, eyes=False, pose=False, light=False)
    if what == "light":
        return replace(plain, light=True)
    if what == "pose":
        return replace(plain, pose=True)
    raise HeadlabError(f"--only takes light, expression or pose, not {what!r}")
