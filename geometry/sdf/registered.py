"""Heads in correspondence, in the fields' frame: what principal components are made of and surfaces are judged by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..models.head_model import HeadModel
from .model_heads import Person, canonical_code
from .sampling import HeadSampler


@dataclass(frozen=True)
class RegisteredHeads:
    """One topology for all: the outer surface of a head model, or of a registration."""

    canonical: Float[Tensor, "heads verts 3"]
    posed: Float[Tensor, "heads poses verts 3"]
    pose_names: tuple[str, ...]
    faces: Int[Tensor, "faces 3"]
    on_face: Bool[Tensor, "faces"]
    anchors: Float[Tensor, "heads anchors 3"]

    def some(self, heads: slice) -> "RegisteredHeads":
        """Some of the people."""
        return RegisteredHeads(
            self.canonical[heads], self.posed[heads], self.pose_names, self.faces, self.on_face, self.anchors[heads]
        )


def registered_heads(
    model: HeadModel, people: Sequence[Person], poses: Sequence[int], callback: Callable[[int], None] | None = None
) -> RegisteredHeads:
    """Vertices of drawn people's outer surfaces.

    Args:
        model: where they come from.
        people: see `draw_people`.
        poses: which of each person's expressions.
        callback: told how many people are done.
    """
    sampler = HeadSampler.of(model, canonical_code(model, torch.zeros(model.shapes)))
    used, faces = sampler.faces.unique(return_inverse=True)
    canonical, posed, anchors = [], [], []
    for number, person in enumerate(people):
        whole = model.vertices(person.canonical)
        canonical.append(sampler.frame.to_field(whole[used]))
        anchors.append(sampler.frame.to_field(model.surface_points(whole, sampler.anchors)))
        posed.append([sampler.frame.to_field(model.vertices(person.poses[i][1])[used]) for i in poses])
        if callback is not None:
            callback(number + 1)
    none = canonical[0].new_zeros(0, len(used), 3)
    return RegisteredHeads(
        torch.stack(canonical),
        torch.stack([torch.stack(row) if row else none for row in posed]),
        tuple(people[0].poses[i][0] for i in poses),
        faces,
        sampler.on_face,
        torch.stack(anchors),
    )
