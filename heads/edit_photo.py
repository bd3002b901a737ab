"""edit_photo: the expression in a photo changed by latent diffusion, colour and depth.

photo, fit, new code ──> upright crop, maps of the old and the new head ──> `diffusion.edit` ──> edited crop
                     ──> photo + what the edited crop changes of it, through a soft mask of the face
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..datasets.synthetic.pairs import FARTHER, NEARER, nearness
from ..diffusion.bundle import LatentDiffusion
from ..diffusion.edit import EditConfig, depth_in, edit, joined, reconstructed
from ..geometry.camera import Camera
from ..geometry.code import HeadCode
from ..geometry.errors import HeadlabError
from ..geometry.models.head_model import HeadModel
from ..geometry.raster import rasterize
from .capture_depth import NOTHING, filled_nearness, moved_depth
from .crop_view import CropView
from .edit_blend import blended, face_mask, seamless
from .edit_given import focus_distance, given_of, skin_texture
from .transfer import PhotoHead, Source
from .transfer_composite import CompositeConfig, composite


@dataclass(frozen=True)
class EditPhotoConfig:
    """How to edit a photo."""

    edit: EditConfig = field(default_factory=EditConfig)
    #: What the change is added to: the photo as it is, or (True) as the mesh warps it, whose finer detail moves along.
    #: That makes expressions stronger, and shows where mesh and networks disagree.
    warped: bool = False
    fade: float = 0.006  #: metres over which the mask falls to 0 outside the face
    composite: CompositeConfig = field(default_factory=CompositeConfig)
    #: What changes a measured depth: what the networks change of it, or the fitted head's surface. The head's change is
    #: nearer to the truth (scripts/bench/avatar.py); the networks see depth as coarsely as colour.
    depth: Literal["networks", "head"] = "networks"
    text: Float[Tensor, "one words length"] | None = None  #: `diffusion.text.text_tokens`, for models that take text


@dataclass(frozen=True, eq=False)
class EditedPhoto:
    """The result, and what the networks saw and made."""

    image: Float[Tensor, "3 height width"]
    depth: Float[Tensor, "height width"] | None  #: metres along the camera's z, 0 = none; None: the model has no depth
    before: Float[Tensor, "chan size size"]  #: the crop, -1..1
    after: Float[Tensor, "chan size size"]  #: the edited crop, -1..1
    view: CropView


def edit_photo(
    model: HeadModel,
    diffusion: LatentDiffusion,
    head: PhotoHead,
    code: HeadCode,
    source: Source | None = None,
    config: EditPhotoConfig | None = None,
    progress: Callable[[int, int], None] = lambda done, steps: None,
) -> EditedPhoto:
    """A photo as if its head had another code.

    Args:
        model: head model of the fit, with texture coordinates and regions.
        diffusion: the editor; a personalised one knows the person.
        head: the photo and its fit; with `frame.depth` that depth is edited, otherwise the fitted head's.
        code: the new head (`transferred_code`).
        source: where the expression comes from; its category or feeling is told to the networks.
        config: see `EditPhotoConfig`.
        progress: called after every sampling step with the steps done and to do.

    Raises:
        HeadlabError: the model has no regions or texture, or the depth map says nothing about the head.
    """
    config = config or EditPhotoConfig()
    image, camera, seen = head.frame.image, head.camera, head.frame.depth
    if "face" not in model.regions or model.uvs is None or head.fit.albedo is None:
        raise HeadlabError(f"{model.name} has no regions or texture coordinates; use the default model")
    network, channels = diffusion.config.denoiser, diffusion.vae.config["in_channels"]
    view = crop_view(model, head, network.size)
    distance, texture = focus_distance(view, model, head.code), skin_texture(model, head)
    before = given_of(view, model, head.code, texture, distance, network.expressions)
    wanted = given_of(view, model, code, texture, distance, network.expressions, source)
    wanted = replace(wanted, text=config.text)
    near = before.maps[0, 9] if seen is None else sensor_nearness(view, seen, before.maps[0, 9], distance)
    crop = joined(view.cut(image), near, channels)[None]
    # What the autoencoder loses comes back with the base, below.
    settings = replace(config.edit, restore=config.edit.restore and not config.warped)
    after = edit(diffusion, crop, wanted, settings, before, progress)

    # The picture that the change is added to, and the same as the networks would show it: what they lose of any picture
    # is not taken for a change.
    base, found = image, None if head.frame.landmarks is None else head.frame.landmarks.points
    if config.warped:
        base = composite(model, image, camera, head.code, code, head.fit.albedo, found, config.composite)
    reference = joined(view.cut(base), wanted.maps[0, 9] if seen is None else near, channels)[None]
    if config.warped:
        reference = reconstructed(diffusion, reference)
    heads = [model.vertices(head.code), model.vertices(code)]
    window = view.window()
    left, top, right, bottom = window
    mask = face_mask(model, camera.cropped(left, top, (bottom - top, right - left)), heads, config.fade)
    small = face_mask(model, view.camera, heads, config.fade)
    change = seamless((after - reference)[0, :3] / 2, small)
    out = blended(base, change, mask, view, window).clamp(0, 1)

    depth, (near_after, near_reference) = None, (depth_in(x) for x in (after, reference))
    if near_after is not None and near_reference is not None:
        old, new = (_drawn_depth(model, vertices, camera) for vertices in heads)
        if seen is not None and config.depth == "head":
            return EditedPhoto(out, moved_depth(seen, old, new), crop[0], after[0], view)
        depth = _moved_depth(seen, old, new)
        known = (near_after[0] > NOTHING) & (near_reference[0] > NOTHING)
        nearer = torch.where(known, near_after[0] - near_reference[0], 0.0) * (FARTHER + NEARER)
        changed = blended(depth[None], view.along_camera(-nearer)[None], mask, view, window)[0]
        depth = torch.where((depth > 0) & (new > 0), changed, depth)
    return EditedPhoto(out, depth, crop[0], after[0], view)


def crop_view(model: HeadModel, head: PhotoHead, size: int) -> CropView:
    """The crop of a fitted face: by the landmarks found in the photo, or else by the fitted head's."""
    if head.frame.landmarks is not None:
        points = head.frame.landmarks.points
    else:
        which = "478" if "478" in model.landmarks else "68"
        points = head.camera.project(model.landmarks3d(model.vertices(head.code), which))
    return CropView.of(points, head.camera, size)


def sensor_nearness(
    view: CropView, depth: Float[Tensor, "height width"], drawn: Float[Tensor, "size size"], distance: float
) -> Float[Tensor, "size size"]:
    """Nearness of a measured depth map. The fitted head's distance hangs on a guessed focal length, so the two are
    brought together by their median difference on the head.

    Args:
        view: the crop.
        depth: metres, 0 = none.
        drawn: nearness of the fitted head.
        distance: of the fitted head's focus, metres.

    Raises:
        HeadlabError: the depth map says nothing about the head.
    """
    measured = view.cut_depth(depth)
    expected = distance + FARTHER - drawn * (FARTHER + NEARER)
    both = (measured > 0) & (drawn > NOTHING)
    if int(both.sum()) < 0.02 * both.numel():
        raise HeadlabError("the depth map holds nothing where the face is; give depth that is registered to the photo")
    offset = (measured - expected)[both].median()
    near = nearness((measured - offset).clamp(min=1e-3), measured.new_tensor(distance))
    # What lies far behind the head was nothing in training.
    near = torch.where((measured > 0) & (measured - offset < distance + FARTHER), near, 0.0)
    return torch.where(measured > 0, near, filled_nearness(near, drawn))


def _moved_depth(
    seen: Float[Tensor, "height width"] | None,
    old: Float[Tensor, "height width"],
    new: Float[Tensor, "height width"],
) -> Float[Tensor, "height width"]:
    """Depth that the change is added to: the new head's, or a measured map in which the outline has moved.

    Where the new head comes before the background it gets the head's depth, at the measured distance; what it uncovers
    was never seen and has none.
    """
    if seen is None:
        return new
    both = (seen > 0) & (old > 0)
    offset = (seen - old)[both].median() if bool(both.any()) else 0.0
    out = torch.where((new > 0) & (old == 0), new + offset, seen)
    return torch.where((old > 0) & (new == 0), 0.0, out)


def _drawn_depth(model: HeadModel, vertices: Float[Tensor, "verts 3"], camera: Camera) -> Float[Tensor, "height width"]:
    return rasterize(camera.to_homogeneous(vertices)[None], model.faces, camera.size).depth[0]
