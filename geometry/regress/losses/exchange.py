"""Shape consistency: codes of one person's pictures change places (DECA, section 4.1 and 4.2).

There is no loss of its own. The batch is doubled; in the second half each picture gets the identity code (or, when
training detail, the detail code) of another picture of the same person; the other losses see both halves.
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..codes import DecaCode


def exchange_order(people: int, pictures: int, generator: torch.Generator) -> Int[Tensor, "items"]:
    """A permutation of a batch that stays within each person.

    Args:
        people: in the batch.
        pictures: of each person; they lie next to each other.
        generator: source of randomness.
    """
    shuffled = torch.rand(people, pictures, generator=generator).argsort(-1)
    return (shuffled + torch.arange(people)[:, None] * pictures).flatten()


def doubled(
    own: Float[Tensor, "items *rest"], order: Int[Tensor, "items"] | None = None
) -> Float[Tensor, "double *rest"]:
    """A batch twice, the second time in another order (or the same)."""
    return torch.cat([own, own if order is None else own[order]])


def exchange_shape(code: DecaCode, order: Int[Tensor, "items"]) -> DecaCode:
    """The doubled batch of codes with identities exchanged in its second half. Double pictures and targets likewise."""
    return replace(code.map(doubled), shape=doubled(code.shape, order))


def exchange_detail(code: DecaCode, order: Int[Tensor, "items"]) -> DecaCode:
    """The doubled batch of codes with detail exchanged in its second half.

    Raises:
        ValueError: the codes have no detail part.
    """
    if code.detail is None:
        raise ValueError("these codes have no detail part; encode with detail=True")
    return replace(code.map(doubled), detail=doubled(code.detail, order))
