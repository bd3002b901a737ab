"""Balancing: so that every expression is seen evenly. Imports no torch.

cap         at most N items of each class
oversample  items of small classes come several times, until each class has N (default: as many as the largest)
weights     every item once, with a weight in the loss: inverse to the size of its class, 1 on average
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, Int8

from ..geometry.errors import HeadlabError
from .records import EXPRESSIONS

Rule = Literal["none", "cap", "oversample", "weights"]


@dataclass(frozen=True)
class Balance:
    """How a set is balanced."""

    rule: Rule = "none"
    """cap: no class has more than the target; oversample: each has the target, by repetition; weights: in the loss."""
    target: int | None = None
    """Items per class. Default: the smallest class (cap) or the largest (oversample)."""
    seed: int = 0
    """Of the choice among a class's items."""


def repeats(
    expression: Int8[np.ndarray, "items"] | Int[np.ndarray, "items"], balance: Balance
) -> Int[np.ndarray, "items"]:
    """How often each item comes in an epoch. Items of unknown class are left out by every rule but "none".

    Raises:
        HeadlabError: no item has a class, or the target makes no sense.
    """
    labels = np.asarray(expression, np.int64)
    if balance.rule == "none":
        return np.ones(len(labels), np.int64)
    counts = class_counts(labels)
    if balance.target is not None and balance.target < 1:
        raise HeadlabError(f"a balance to {balance.target} items per class makes no sense; choose at least 1")
    if balance.rule == "weights":
        return (labels >= 0).astype(np.int64)
    present = counts[counts > 0]
    target = balance.target or int(present.min() if balance.rule == "cap" else present.max())
    chance = np.random.default_rng(balance.seed)
    out = np.zeros(len(labels), np.int64)
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(len(counts) + 1))
    for first, last in pairwise(ends):
        members = order[first:last]
        if not len(members):
            continue
        wanted = min(target, len(members)) if balance.rule == "cap" else target
        whole, rest = divmod(wanted, len(members))
        out[members] = whole
        out[chance.permutation(members)[:rest]] += 1
    return out


def weights(expression: Int8[np.ndarray, "items"] | Int[np.ndarray, "items"]) -> Float[np.ndarray, "items"]:
    """A weight per item, inverse to the size of its class, 1 on average over items with a class; 0 without one."""
    labels = np.asarray(expression, np.int64)
    counts = class_counts(labels)
    per_class = np.where(counts > 0, counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0.0)
    return np.where(labels >= 0, per_class[np.maximum(labels, 0)], 0.0)


def class_counts(labels: Int[np.ndarray, "items"]) -> Int[np.ndarray, "11"]:
    """Items per class.

    Raises:
        HeadlabError: no item has one.
    """
    counts = np.bincount(labels[labels >= 0], minlength=len(EXPRESSIONS))
    if not counts.sum():
        raise HeadlabError("no item of this set has an expression label; balancing needs them")
    return counts


def count_table(before: Int[np.ndarray, "classes"], after: Int[np.ndarray, "classes"] | None = None) -> list[str]:
    """Lines for people: name, count, share, and the count after balancing.

    Args:
        before: items per class of EXPRESSIONS, perhaps followed by those of unknown class.
        after: the same after balancing.
    """
    names = (*EXPRESSIONS, "(unknown)")
    total = max(1, int(before.sum()))
    head = f"{'class':<12}{'items':>10}{'share':>9}" + ("" if after is None else f"{'balanced':>12}")
    lines = [head]
    for i, count in enumerate(before):
        if count or (after is not None and after[i]):
            line = f"{names[i]:<12}{count:>10}{100 * count / total:>8.1f}%"
            lines.append(line + ("" if after is None else f"{int(after[i]):>12}"))
    return [*lines, f"{'all':<12}{int(before.sum()):>10}" + ("" if after is None else f"{'':>9}{int(after.sum()):>12}")]
