"""Expression transfer: the expression of A on the face of B, in B's own photo.

ψ of A (jaw, eyes, pose, light on request) ──> B's code, β and albedo held ──> `Canvas`: into B's photo, or another
renderer (`transfer_renderer`)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.camera import Camera
from ..geometry.code import HeadCode
from ..geometry.errors import HeadlabError
from ..geometry.frame import Frame
from ..geometry.models.head_model import HeadModel
from ..geometry.rodrigues import rotvec_to_rotmat
from .head_fit import HeadFit
from .transfer_composite import Canvas, CompositeConfig
from .transfer_lids import meet_lids
from .transfer_mouth import plain_mouth


@dataclass(frozen=True)
class TransferConfig:
    """What is taken from the source."""

    strength: float = 1.0  #: 0 keeps the target's expression, 1 takes the source's, more exaggerates
    jaw: bool = True  #: jaw joint, and the actions of the jaw
    eyes: bool = False  #: gaze: eye joints, and the actions that look
    pose: bool = False  #: head and neck rotation
    light: bool = False
    composite: CompositeConfig = field(default_factory=CompositeConfig)
    expression: bool = True  #: False: ψ, the lids and the gaze in it stay the target's


@dataclass(frozen=True, eq=False)
class PhotoHead:
    """A photo and the head fitted to it."""

    frame: Frame  #: with landmarks, where they are known
    fit: HeadFit
    index: int = 0  #: which photo of the fit it is

    @property
    def code(self) -> HeadCode:
        return self.fit.codes[self.index]

    @property
    def camera(self) -> Camera:
        return self.fit.cameras[self.index]


@dataclass(frozen=True, eq=False)
class Source:
    """Where an expression comes from: a fitted photo, or an expression alone."""

    name: str
    expression: Float[Tensor, "expr"]
    head: PhotoHead | None = None
    emotion: int = -1  #: AffectNet's class (`emotions.CATEGORIES`) where it was named; -1: none
    feeling: tuple[float, float] | None = None  #: valence and arousal, where they were named


#: Makes the edited photo of a source from the target's new code.
Renderer = Callable[[Source, HeadCode], Float[Tensor, "3 height width"]]


def transferred_code(
    model: HeadModel, source: Source, target: PhotoHead, config: TransferConfig | None = None
) -> HeadCode:
    """The target's code with the source's expression; identity, albedo and translation stay the target's.

    Raises:
        HeadlabError: the source is an expression alone and has no eyes, pose or light to give; a fit has no light.
    """
    config = config or TransferConfig()
    old, taken = target.code, source.head
    wanted = [name for name in ("eyes", "pose", "light") if getattr(config, name)]
    if taken is None and wanted:
        raise HeadlabError(f"{source.name} is an expression alone and has no {wanted[0]}; leave out --{wanted[0]}")
    if config.light and (old.light is None or (taken is not None and taken.code.light is None)):
        raise HeadlabError(
            f"no light is known for {source.name if old.light is not None else 'the target'}, since it was fitted "
            "without the photometric stage; fit it again or leave out --light"
        )
    kept = torch.tensor(
        [
            (name.startswith("jaw") and not config.jaw) or (name.startswith("eyeLook") and not config.eyes)
            for name in model.expression_names
        ],
        dtype=torch.bool,
    )
    expression = old.expression + config.strength * (source.expression - old.expression)
    if model.expression_bounds is not None:
        # A target beyond its bounds may stay there, but none is pushed out.
        low = torch.minimum(model.expression_bounds[:, 0], old.expression)
        high = torch.maximum(model.expression_bounds[:, 1], old.expression)
        expression = torch.minimum(torch.maximum(expression, low), high)
    code = old
    if config.expression:
        code = meet_lids(model, old, old.with_(expression=torch.where(kept, old.expression, expression)))
    if taken is None:
        # The preset's jaw and neck are at rest.
        return code.with_(jaw=_between(old.jaw, torch.zeros_like(old.jaw), config.strength)) if config.jaw else code
    if config.jaw:
        code = code.with_(jaw=_between(old.jaw, taken.code.jaw, config.strength))
    if config.eyes:
        code = code.with_(eyes=_between(old.eyes, taken.code.eyes, config.strength))
    if config.pose:
        import roma

        # Turned as seen by the camera, whatever way the two cameras look in their worlds.
        facing = rotvec_to_rotmat(taken.code.rotation)
        rotation = roma.rotmat_to_rotvec(target.camera.R.mT @ taken.camera.R @ facing)
        code = code.with_(
            rotation=_between(old.rotation, rotation, config.strength),
            neck=_between(old.neck, taken.code.neck, config.strength),
        )
    if config.light and old.light is not None and taken.code.light is not None:
        code = code.with_(light=torch.lerp(old.light, taken.code.light, config.strength))
    return code


def prepare_canvas(model: HeadModel, target: PhotoHead, config: TransferConfig) -> Canvas:
    """The target's photo and head, ready for other codes.

    Raises:
        HeadlabError: the model has no texture or regions; the photo is not the one that was fitted.
    """
    albedo = target.fit.albedo
    if albedo is None or model.uvs is None or not {"face", "lips", "eyelids", "eyes"} <= set(model.regions):
        raise HeadlabError(
            f"{model.name} has no texture coordinates or no region masks, which transfer needs; use the default model"
        )
    if target.frame.size != target.camera.size:
        height, width = target.camera.size
        raise HeadlabError(
            f"{target.frame.source} is {target.frame.size[1]} x {target.frame.size[0]} pixels, but the head was fitted "
            f"to a photo of {width} x {height}; give that photo"
        )
    found = target.frame.landmarks
    points = None if found is None else found.points
    albedo = plain_mouth(model, albedo)
    return Canvas(model, target.frame.image, target.camera, target.code, albedo, points, config.composite)


def check_models(name: str, source: HeadFit, target: PhotoHead) -> None:
    """Raises HeadlabError where a source was fitted with another head model than the target."""
    if source.model != target.fit.model:
        raise HeadlabError(
            f"{name} was fitted with the model {source.model}, the target with {target.fit.model}; "
            "fit both with one model"
        )


def transfer(
    model: HeadModel,
    sources: Sequence[Source],
    target: PhotoHead,
    config: TransferConfig | None = None,
    renderer: Renderer | None = None,
) -> tuple[list[Float[Tensor, "3 height width"]], HeadFit]:
    """The target's photo with the expression of each source.

    Args:
        model: head model of the target's fit.
        sources: expressions of the same model.
        target: the photo to edit and its fit; `frame.landmarks`, where set, tell where the lips are.
        config: what is taken.
        renderer: makes the pictures; None: the mesh (`transfer_composite`).

    Returns:
        The edited photos at full resolution, and their heads as a fit (one code and camera for each).

    Raises:
        HeadlabError: a source belongs to another head model, or lacks what is asked for (`transferred_code`); the
            model has no texture or regions; the photo is not the one that was fitted.
    """
    config = config or TransferConfig()
    canvas = prepare_canvas(model, target, config)
    pictures, codes = [], []
    for source in sources:
        if source.head is not None:
            check_models(source.name, source.head.fit, target)
        code = transferred_code(model, source, target, config)
        pictures.append(canvas.picture(code) if renderer is None else renderer(source, code))
        codes.append(code)
    fields = {name: torch.stack([code.arrays()[name] for code in codes]) for name in codes[0].arrays()}
    heads = replace(
        target.fit,
        codes=HeadCode(**fields),
        cameras=tuple(target.camera for _ in codes),
        sources=tuple(source.name for source in sources),
    )
    return pictures, heads


def _between(a: Float[Tensor, "*batch 3"], b: Float[Tensor, "*batch 3"], share: float) -> Float[Tensor, "*batch 3"]:
    """Rotation vectors from a (share 0) to b (share 1) along the shortest arc; a itself where both are equal."""
    if torch.equal(a, b):
        return a
    if share == 1:
        return b
    import roma

    step = roma.rotmat_to_rotvec(rotvec_to_rotmat(a).mT @ rotvec_to_rotmat(b))
    return roma.rotmat_to_rotvec(rotvec_to_rotmat(a) @ rotvec_to_rotmat(step * share))
