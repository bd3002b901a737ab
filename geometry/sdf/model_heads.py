"""Any morphable model as a source of heads: people drawn from its shape prior, posed by a script of expressions.

The canonical head has its mouth open, as NPHM's has: closed lips have no two sides in a signed distance, and what is
joined there no deformation can part.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..code import HeadCode
from ..errors import HeadlabError
from ..models.head_model import HeadModel
from .sampling import HeadSampler
from .training_set import PoseSamples, TrainingSet

#: How far the canonical mouth is open, of the model's own jawOpen (0..1).
OPEN = 0.4

#: The same by the jaw's joint, radians, for models without that action.
_OPEN_ANGLE = 0.12

#: Twenty expressions in ARKit's names; a side may be left out: then it is both.
SCRIPT: Mapping[str, Mapping[str, float]] = {
    "neutral": {},
    "smile": {"mouthSmile": 0.8, "cheekSquint": 0.4},
    "broad smile": {"mouthSmile": 1.0, "jawOpen": 0.25, "mouthUpperUp": 0.4, "cheekSquint": 0.7, "eyeSquint": 0.5},
    "sad": {"mouthFrown": 0.8, "browInnerUp": 0.7},
    "angry": {"browDown": 0.9, "mouthPress": 0.6, "noseSneer": 0.5},
    "surprised": {"browInnerUp": 0.9, "browOuterUp": 0.8, "eyeWide": 0.7, "jawOpen": 0.5},
    "disgusted": {"noseSneer": 0.9, "mouthUpperUp": 0.6, "browDown": 0.5},
    "afraid": {"browInnerUp": 0.9, "eyeWide": 0.9, "mouthStretch": 0.7, "jawOpen": 0.2},
    "mouth wide open": {"jawOpen": 0.9},
    "mouth half open": {"jawOpen": 0.5},
    "eyes closed": {"eyeBlink": 1.0},
    "pucker": {"mouthPucker": 0.9},
    "funnel": {"mouthFunnel": 0.8, "jawOpen": 0.2},
    "cheeks puffed": {"cheekPuff": 0.9},
    "jaw left": {"jawLeft": 0.8},
    "jaw right": {"jawRight": 0.8},
    "mouth left": {"mouthLeft": 0.8},
    "mouth right": {"mouthRight": 0.8},
    "left wink": {"eyeBlinkLeft": 1.0, "mouthSmileLeft": 0.5, "cheekSquintLeft": 0.6},
    "lips rolled in": {"mouthRollLower": 0.7, "mouthRollUpper": 0.7},
}


@dataclass(frozen=True)
class HeadsConfig:
    """How many heads are drawn, and how."""

    people: int = 80
    expressions: int = 20
    """Of each person, from the script in its order; more than the script has are mixtures of two."""
    spread: float = 1.0
    """Standard deviation of the shape code."""
    strength: tuple[float, float] = (0.75, 1.0)
    """Every expression is scaled by a factor from this range."""
    face_points: int = 12000
    rest_points: int = 12000
    pose_points: int = 3000
    seed: int = 0


def canonical_code(model: HeadModel, shape: Float[Tensor, "*batch shape"]) -> HeadCode:
    """A head as the identity field shows it: neutral, mouth open."""
    code = model.neutral(shape.shape[:-1]).with_(shape=shape)
    if "jawOpen" in model.expression_names:
        return code.with_(expression=code.expression + named_expression(model, {"jawOpen": OPEN}))
    if "jaw" in model.joint_names:
        return code.with_(jaw=code.jaw + torch.tensor([_OPEN_ANGLE, 0.0, 0.0]).to(code.jaw))
    return code


def named_expression(model: HeadModel, weights: Mapping[str, float]) -> Float[Tensor, "expr"]:
    """An expression code from ARKit's names; names that the model has only by sides stand for both sides.

    Raises:
        HeadlabError: the model has no such action.
    """
    code = torch.zeros(model.expressions)
    for name, weight in weights.items():
        found = [i for i, own in enumerate(model.expression_names) if own in (name, f"{name}Left", f"{name}Right")]
        if not found:
            raise HeadlabError(f"{model.name} has no expression {name}; it has {', '.join(model.expression_names[:6])}")
        code[found] = weight
    return code.to(model.template)


def scripted_expressions(
    model: HeadModel, config: HeadsConfig, generator: torch.Generator
) -> list[tuple[str, Float[Tensor, "expr"]]]:
    """One person's expressions: the script where the model speaks ARKit's names, else draws from its prior."""
    out = []
    names = list(SCRIPT)
    arkit = "jawOpen" in model.expression_names
    for number in range(config.expressions):
        low, high = config.strength
        scale = low + (high - low) * float(torch.rand((), generator=generator))
        if arkit:
            name = names[number % len(names)]
            code = named_expression(model, SCRIPT[name])
            if number >= len(names):
                other = names[int(torch.randint(len(names), (), generator=generator))]
                name, code = f"{name} + {other}", (code + named_expression(model, SCRIPT[other])).clamp(max=1.0)
        else:
            std = model.expression_std if model.expression_std is not None else torch.ones(model.expressions)
            name, code = f"drawn {number}", std * torch.randn(model.expressions, generator=generator)
        out.append((name, scale * code))
    return out


@dataclass(frozen=True)
class Person:
    """One drawn person: the canonical code and the posed ones."""

    canonical: HeadCode
    poses: Sequence[tuple[str, HeadCode]]


def draw_people(model: HeadModel, config: HeadsConfig) -> list[Person]:
    """People of a model. The first n are the same whatever their number: training and test people come apart by it."""
    out = []
    for number in range(config.people):
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + number)
        shape = config.spread * torch.randn(model.shapes, generator=generator)
        posed = [
            (name, model.neutral().with_(shape=shape, expression=code))
            for name, code in scripted_expressions(model, config, generator)
        ]
        out.append(Person(canonical_code(model, shape), posed))
    return out


def model_training_set(
    model: HeadModel, config: HeadsConfig, callback: Callable[[int], None] | None = None
) -> TrainingSet:
    """Samples of drawn people, canonical and posed.

    Args:
        callback: told how many people are done.

    Raises:
        HeadlabError: the model has no face region or landmarks, or numbers that make no set.
    """
    if config.people < 1 or config.expressions < 0 or min(config.face_points, config.rest_points) < 1:
        raise HeadlabError("a training set needs at least one person and some points of the face and of the rest")
    mean = canonical_code(model, torch.zeros(model.shapes))
    sampler = HeadSampler.of(model, mean)
    heads, poses = [], []
    for number, person in enumerate(draw_people(model, config)):
        draws = torch.Generator().manual_seed(config.seed * 1_000_003 + number + 500_000)
        heads.append(sampler.surface(person.canonical, config.face_points, config.rest_points, draws))
        for name, code in person.poses:
            points = sampler.correspondences(person.canonical, code, config.pose_points, draws)
            poses.append(PoseSamples(number, name, points))
        if callback is not None:
            callback(number + 1)
    opened = {"jawOpen": OPEN} if "jawOpen" in model.expression_names else {}
    names = tuple(f"{model.name} {number}" for number in range(config.people))
    return TrainingSet(tuple(heads), names, tuple(poses), sampler.frame, opened, model.name)
