"""Lids that meet: a blink that closes the mean head's eyes drives a narrow eye's upper lid over the lower one.

Lids are moved by blend shapes alone, so the opening of an eye is linear in ψ; the blink action is held where the
opening is what it is on the mean head with its eyes closed.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ..geometry.code import HeadCode
from ..geometry.landmarks.mesh478 import LEFT_EYE, RIGHT_EYE
from ..geometry.models.head_model import HeadModel

_LIDS = (("eyeBlinkLeft", LEFT_EYE), ("eyeBlinkRight", RIGHT_EYE))


@dataclass(frozen=True, eq=False)
class _Opening:
    """Mean height of an eye's middle, metres: rest + of_shape β + of_expression ψ."""

    action: int  #: which of ψ closes it
    rest: float
    of_shape: Float[Tensor, "shape"]
    of_expression: Float[Tensor, "expr"]

    def of(self, shape: Float[Tensor, "shape"], expression: Float[Tensor, "expr"]) -> float:
        return self.rest + float(self.of_shape @ shape) + float(self.of_expression @ expression)


def meet_lids(model: HeadModel, old: HeadCode, new: HeadCode) -> HeadCode:
    """The new code with blinks that close its eyes and no more; none falls below that of the old code.

    Args:
        model: head model; without the 478 landmarks or ARKit's blinks the code stays as it is.
        old: what the photo shows: a blink it has stays.
        new: without batch axes, β of the same person.
    """
    expression = new.expression.clone()
    for eye in _openings(model):
        blink, gain = float(expression[eye.action]), float(eye.of_expression[eye.action])
        met = eye.rest + gain
        beyond = met - eye.of(new.shape, expression)
        if gain < 0 and beyond > 0 and blink > 0:
            held = max(blink + beyond / gain, min(blink, float(old.expression[eye.action])), 0.0)
            expression[eye.action] = held
    return new.with_(expression=expression)


def _openings(model: HeadModel) -> tuple[_Opening, ...]:
    names, embedding = model.expression_names, model.landmarks.get("478")
    if embedding is None or any(name not in names for name, _ in _LIDS):
        return ()
    corners, weights = model.faces[embedding.faces], embedding.weights[..., None]
    found = []
    for action, ring in _LIDS:
        # The middle half of both lids: rings go along the lower one and back along the upper one.
        lower, upper = list(ring[3:6]), [ring[-i] for i in (3, 4, 5)]

        def height(values: Float[Tensor, "verts chan"], lower=lower, upper=upper) -> Float[Tensor, "chan"]:
            above, below = ((values[corners[ids]] * weights[ids]).sum(1).mean(0) for ids in (upper, lower))
            return above - below

        up = (values[:, 1] for values in (model.template[..., None], model.shape_basis, model.expression_basis))
        rest, shape, expression = (height(values) for values in up)
        found.append(_Opening(names.index(action), float(rest), shape, expression))
    return tuple(found)
