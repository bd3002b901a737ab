"""Head parameters in the layouts of other tools, to and from `HeadCode`, number for number.

All tools below drive FLAME and share its frame: metres, +X the subject's left, +Y up, +Z out of the face; rotations
are axis-angle vectors in radians, the global one about the root joint; x > 0 of the jaw opens it, of an eye looks
down, y > 0 turns to the subject's left; of two eyes the left comes first. What differs is which numbers are kept, and
where:

    tool          shape  expression  rotations                                place                 else
    DECA, EMOCA   100    50          pose (6): global, jaw                    cam (3): [s, tx, ty]   tex, light, detail
    VHAP          300    100         rotation, neck_pose, jaw_pose, eyes_pose (6)   translation (3)
    SMIRK         300    50          pose_params, jaw_params                  cam (3): [s, tx, ty]   eyelid_params (2)

    DECA's and SMIRK's camera is `WeakPerspective`; VHAP's cameras are OpenGL camera-to-world (`camera_to_world_gl`).
    SMIRK adds its eyelids after posing, in the world's axes; `with_eyelids` adds them before, so they turn with the
    head. Unturned heads agree.

Names and order are those of the tools' own files and network outputs. Nothing is dropped silently: a code that a layout
cannot hold is refused, unless asked otherwise. ARKit's 52 curves are in `arkit_weights` and `from_arkit`.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from .camera import Camera, WeakPerspective
from .code import HeadCode
from .errors import HeadlabError
from .models.arkit import ARKIT_ACTIONS
from .models.head_model import HeadModel

#: (shape, expression) coefficients of each tool.
LENGTHS = {"deca": (100, 50), "emoca": (100, 50), "vhap": (300, 100), "smirk": (300, 50)}
#: Where `from_smirk` puts the eyelids in ψ: after FLAME's 100 components. Left, right.
EYELIDS = slice(100, 102)
#: Gaze of an eyeLook… curve at 1, radians (30 degrees).
EYE_RANGE = 0.5235987755982988


def resized(code: HeadCode, shapes: int, expressions: int, *, cut: bool = False) -> HeadCode:
    """The code with so many coefficients: zeros are appended, or trailing ones left out.

    Args:
        cut: leave out numbers that are not zero, too.

    Raises:
        HeadlabError: numbers other than zero would be lost.
    """
    return code.with_(
        shape=_resized(code.shape, shapes, "shape", cut),
        expression=_resized(code.expression, expressions, "expression", cut),
    )


def _resized(values: Tensor, length: int, name: str, cut: bool) -> Tensor:
    rest = values[..., length:]
    if not cut and bool((rest != 0).any()):
        raise HeadlabError(
            f"{values.shape[-1]} {name} coefficients do not fit into {length} without loss; cut the rest on purpose"
        )
    missing = length - values.shape[-1]
    return torch.nn.functional.pad(values, (0, missing)) if missing > 0 else values[..., :length]


def from_deca(params: Mapping[str, Tensor]) -> tuple[HeadCode, WeakPerspective]:
    """DECA's or EMOCA's code dictionary: shape, exp, pose, cam and, where there, tex, light, detail.

    Returns:
        The code (100 + 50 coefficients; neck, eyes and translation zero, as the tools have them) and its camera.

    Raises:
        HeadlabError: an entry is missing or has another length.
    """
    values = _checked(params, "DECA", {"shape": 100, "exp": 50, "pose": 6, "cam": 3})
    pose = values["pose"]
    code = _code(values["shape"], values["exp"], pose[..., :3], pose[..., 3:])
    light = params.get("light")
    if light is not None and light.shape[-1] == 27:
        light = light.unflatten(-1, (9, 3))
    code = code.with_(albedo=params.get("tex"), light=light, detail=params.get("detail"))
    return code, WeakPerspective(values["cam"])


def to_deca(code: HeadCode, camera: WeakPerspective, *, cut: bool = False) -> dict[str, Tensor]:
    """Inverse of `from_deca`. The camera takes up the translation, exactly; z is no part of a weak perspective.

    Raises:
        HeadlabError: the code uses the neck, the eyes or more coefficients, and `cut` is False.
    """
    return _weak(code, camera, "deca", ("shape", "exp", "cam"), cut) | {
        "pose": torch.cat(torch.broadcast_tensors(code.rotation, code.jaw), -1),
        **{
            key: v for key, v in (("tex", code.albedo), ("light", code.light), ("detail", code.detail)) if v is not None
        },
    }


def from_smirk(params: Mapping[str, Tensor]) -> tuple[HeadCode, WeakPerspective]:
    """SMIRK's output: pose_params, cam, shape_params, expression_params, jaw_params, eyelid_params (left, right).

    Returns:
        The code, 300 + 102 coefficients, the last two the eyelids 0..1 (see `with_eyelids`), and its camera.

    Raises:
        HeadlabError: an entry is missing or has another length.
    """
    lengths = {"shape_params": 300, "expression_params": 50, "pose_params": 3, "jaw_params": 3}
    values = _checked(params, "SMIRK", lengths | {"cam": 3, "eyelid_params": 2})
    expression = _resized(values["expression_params"], EYELIDS.start, "expression", False)
    expression = torch.cat([expression, values["eyelid_params"]], -1)
    code = _code(values["shape_params"], expression, values["pose_params"], values["jaw_params"])
    return code, WeakPerspective(values["cam"])


def to_smirk(code: HeadCode, camera: WeakPerspective, *, cut: bool = False) -> dict[str, Tensor]:
    """Inverse of `from_smirk`; codes without eyelids have them open.

    Raises:
        HeadlabError: the code uses the neck, the eyes or more coefficients, and `cut` is False.
    """
    eyelids = _resized(code.expression, EYELIDS.stop, "expression", cut)[..., EYELIDS]
    bare = code.with_(expression=code.expression[..., : EYELIDS.start])
    return _weak(bare, camera, "smirk", ("shape_params", "expression_params", "cam"), cut) | {
        "pose_params": code.rotation,
        "jaw_params": code.jaw,
        "eyelid_params": eyelids,
    }


def from_vhap(params: Mapping[str, Tensor]) -> HeadCode:
    """VHAP's flame_param: translation, rotation, neck_pose, jaw_pose, eyes_pose (left, right), shape, expr.

    A shape without a frame axis, as VHAP writes it, is repeated for every frame. Offsets of single vertices
    (static_offset, dynamic_offset) have no place in a code and must not be there.

    Raises:
        HeadlabError: an entry is missing, has another length, or moves single vertices.
    """
    lengths = {"translation": 3, "rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6}
    values = _checked(params, "VHAP", lengths | {"shape": 300, "expr": 100})
    for name in ("static_offset", "dynamic_offset"):
        if name in params and bool((params[name] != 0).any()):
            raise HeadlabError(f"this VHAP file moves single vertices ({name}), which a head code cannot hold")
    batch = values["rotation"].shape[:-1]
    return HeadCode(
        shape=values["shape"].expand(*batch, -1),
        expression=values["expr"],
        rotation=values["rotation"],
        neck=values["neck_pose"],
        jaw=values["jaw_pose"],
        eyes=values["eyes_pose"].unflatten(-1, (2, 3)),
        translation=values["translation"],
    )


def to_vhap(code: HeadCode, *, cut: bool = False) -> dict[str, Tensor]:
    """Inverse of `from_vhap`. A frame axis over codes of one person becomes VHAP's: shape (300,), the rest (T, …).

    Raises:
        HeadlabError: the frames show several persons, or the code has more coefficients and `cut` is False.
    """
    code = resized(code, *LENGTHS["vhap"], cut=cut)
    shape = code.shape.reshape(-1, code.shape.shape[-1])
    if len(shape) and bool((shape != shape[0]).any()):
        raise HeadlabError("VHAP's layout holds one person, but the frames have different shape codes; split them")
    return {
        "translation": code.translation,
        "rotation": code.rotation,
        "neck_pose": code.neck,
        "jaw_pose": code.jaw,
        "eyes_pose": code.eyes.flatten(-2),
        "shape": shape[0] if len(shape) else shape.new_zeros(code.shape.shape[-1]),
        "expr": code.expression,
    }


def camera_to_world_gl(camera: Camera) -> Float[Tensor, "*batch 4 4"]:
    """Camera-to-world matrix with OpenGL's camera axes (x right, y up, z backwards), as in NeRF files."""
    rotation = camera.R.mT * camera.R.new_tensor([1.0, -1.0, -1.0])  # columns: the camera's axes in the world
    position = -(camera.R.mT @ camera.t.unsqueeze(-1))
    last = camera.R.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*rotation.shape[:-2], 1, 4)
    return torch.cat([torch.cat([rotation, position], -1), last], -2)


def camera_from_gl(
    matrix: Float[Tensor, "*batch 4 4"], K: Float[Tensor, "*#batch 3 3"], size: tuple[int, int]
) -> Camera:
    """Inverse of `camera_to_world_gl`."""
    R = (matrix[..., :3, :3] * matrix.new_tensor([1.0, -1.0, -1.0])).mT
    return Camera(K, R, -(R @ matrix[..., :3, 3:])[..., 0], size)


def with_eyelids(model: HeadModel, left: Float[Tensor, "verts 3"], right: Float[Tensor, "verts 3"]) -> HeadModel:
    """FLAME with SMIRK's two eyelid blend shapes (l_eyelid.npy, r_eyelid.npy) as the 101st and 102nd of ψ.

    Raises:
        HeadlabError: the model has not FLAME's 100 expression components, or the shapes are for other vertices.
    """
    if model.expressions != EYELIDS.start or left.shape != model.template.shape or right.shape != model.template.shape:
        raise HeadlabError(
            f"eyelids {tuple(left.shape)}, {tuple(right.shape)} do not go with {model.name} ({len(model.template)} "
            f"vertices, {model.expressions} expressions); load FLAME with 100 expressions"
        )
    basis = torch.cat([model.expression_basis, torch.stack([left, right], -1).to(model.template)], -1)

    def extended(table: Tensor | None, rows: list) -> Tensor | None:
        return None if table is None else torch.cat([table, table.new_tensor(rows)])

    return replace(
        model,
        expression_basis=basis,
        expression_names=(*model.expression_names, "eyelidLeft", "eyelidRight"),
        expression_bounds=extended(model.expression_bounds, [[0.0, 1.0]] * 2),
        expression_std=extended(model.expression_std, [0.5] * 2),
    )


def arkit_weights(model: HeadModel, code: HeadCode) -> Float[Tensor, "*batch 52"]:
    """ARKit's 52 curves, in the order of `ARKIT_ACTIONS`, from a head whose ψ carries ARKit's names.

    The gaze is in the eye joints, and programs that take the curves expect it there: whatever of it ψ's own eyeLook…
    does not stand for already is added, at 30 degrees for 1, to the curve of its direction. Actions that the model
    lacks are 0. Curves of fitted heads may leave 0..1 slightly.

    Raises:
        HeadlabError: ψ has none of ARKit's names; convert the head first.
    """
    names = {name: i for i, name in enumerate(model.expression_names) if name in ARKIT_ACTIONS}
    if not names:
        raise HeadlabError(
            f"the expression of {model.name} is not made of ARKit's actions; convert the head to the default model"
        )
    expression = _resized(code.expression, model.expressions, "expression", False)
    zero = torch.zeros_like(code.rotation[..., 0]).expand(expression.shape[:-1])
    curves = {name: expression[..., names[name]] if name in names else zero for name in ARKIT_ACTIONS}
    for positive, negative, gaze in _gazes(code.eyes):
        rest = gaze / EYE_RANGE - (curves[positive] - curves[negative])
        rest = torch.where(rest.abs() < 1e-6, 0.0, rest)  # from_arkit's own gaze, but for rounding
        curves[positive] = curves[positive] + rest.clamp(min=0)
        curves[negative] = curves[negative] + (-rest).clamp(min=0)
    return torch.stack(torch.broadcast_tensors(*curves.values()), -1)


def from_arkit(model: HeadModel, weights: Float[Tensor, "*batch 52"], code: HeadCode | None = None) -> HeadCode:
    """ARKit's 52 curves -> ψ and the eyes' rotation. `arkit_weights` gives the curves back.

    For models whose ψ has no ARKit names: do this with the default head, then `geometry.models.convert.convert_code`.

    Args:
        model: its `expression_names` say where each action goes.
        weights: in the order of `ARKIT_ACTIONS`.
        code: what to keep the rest of; the mean head where absent.

    Raises:
        HeadlabError: the model lacks an action that is used.
    """
    batch, places = weights.shape[:-1], {name: i for i, name in enumerate(model.expression_names)}
    lacking = [n for i, n in enumerate(ARKIT_ACTIONS) if n not in places and bool((weights[..., i] != 0).any())]
    if lacking:
        raise HeadlabError(
            f"{model.name} has no {', '.join(lacking[:3])}{'…' if len(lacking) > 3 else ''} in its expression; "
            "set the curves on the default head and convert the result"
        )
    expression = weights.new_zeros(*batch, model.expressions)
    curves = {}
    for i, name in enumerate(ARKIT_ACTIONS):
        curves[name] = weights[..., i]
        if name in places:
            expression[..., places[name]] = weights[..., i]
    eyes = weights.new_zeros(*batch, 2, 3)
    for (positive, negative, _), (eye, axis) in zip(_gazes(eyes), _AXES, strict=True):
        eyes[..., eye, axis] = (curves[positive] - curves[negative]) * EYE_RANGE
    base = code if code is not None else model.neutral(tuple(batch)).to(weights.device, weights.dtype)
    return base.with_(expression=expression, eyes=eyes)


#: (eye, axis of its rotation vector): left down, left out, right down, right in.
_AXES = ((0, 0), (0, 1), (1, 0), (1, 1))
_CURVES = (
    ("eyeLookDownLeft", "eyeLookUpLeft"),
    ("eyeLookOutLeft", "eyeLookInLeft"),
    ("eyeLookDownRight", "eyeLookUpRight"),
    ("eyeLookInRight", "eyeLookOutRight"),
)


def _gazes(eyes: Float[Tensor, "*batch 2 3"]) -> list[tuple[str, str, Tensor]]:
    """Curve of positive angles, curve of negative ones, angle in radians."""
    return [(*names, eyes[..., eye, axis]) for names, (eye, axis) in zip(_CURVES, _AXES, strict=True)]


def _code(shape: Tensor, expression: Tensor, rotation: Tensor, jaw: Tensor) -> HeadCode:
    zero = torch.zeros_like(rotation)
    return HeadCode(shape, expression, rotation, zero, jaw, torch.stack([zero, zero], -2), zero)


def _weak(code: HeadCode, camera: WeakPerspective, tool: str, names: tuple[str, str, str], cut: bool) -> dict:
    """Shape, expression and camera for a tool without neck, eyes and translation."""
    lost = [name for name in ("neck", "eyes") if bool((getattr(code, name) != 0).any())]
    if lost and not cut:
        raise HeadlabError(f"{tool.upper()} has no place for the rotation of {' and '.join(lost)}; cut them on purpose")
    code = resized(code, *LENGTHS[tool], cut=cut)
    place = code.translation * code.translation.new_tensor([1.0, 1.0, 0.0])
    cam = camera.params + torch.cat([torch.zeros_like(place[..., :1]), place[..., :2]], -1)
    return dict(zip(names, (code.shape, code.expression, cam), strict=True))


def _checked(params: Mapping[str, Tensor], tool: str, lengths: Mapping[str, int]) -> dict[str, Tensor]:
    for name, length in lengths.items():
        if name not in params:
            raise HeadlabError(f"{tool} parameters lack {name}; they have {', '.join(sorted(params)) or 'nothing'}")
        if params[name].shape[-1:] != (length,):
            raise HeadlabError(f"{tool}'s {name} has {length} numbers, got shape {tuple(params[name].shape)}")
    return {name: params[name] for name in lengths}
