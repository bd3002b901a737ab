"""What the default regressor is trained for: errors of surfaces (mm) and landmarks, one face per person."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from ...geometry.models.head_model import HeadModel
from ...geometry.regress.default_net import POINTS, HeadNumbers


@dataclass(frozen=True)
class LossWeights:
    """Per term; the terms are of order one at the start."""

    shape: float = 1.0
    expression: float = 1.0
    actions: float = 8.0
    eyes: float = 8.0
    turn: float = 4.0
    camera: float = 4.0
    landmarks: float = 0.6
    swapped: float = 0.3  #: landmarks with the partner's identity (DECA's shape consistency)
    same_face: float = 1.0
    points: float = 1.0  #: where the network finds `POINTS` of the landmarks
    light: float = 1.0
    albedo: float = 0.6


class HeadLosses:
    """Linear maps of a head model that turn differences of codes into millimetres and landmarks."""

    def __init__(self, model: HeadModel, shapes: int, light_std: Float[Tensor, "9 3"], weights: LossWeights):
        face = model.regions["face"] | model.regions["lips"] | model.regions["eyelids"]
        basis = 1000 * model.shape_basis[face][..., :shapes]
        moves = 1000 * model.expression_basis[face]
        # A crop tells nearly nothing about size and place, whose large errors would drown the rest: a tenth counts.
        centred = model.template[face] - model.template[face].mean(0)
        size = centred / centred.norm()
        basis = basis - 0.68 * size[..., None] * torch.einsum("vc,vcs->s", size, basis)
        basis = basis - 0.68 * basis.mean(0)
        self.shape_gram = torch.einsum("vcs,vct->st", basis, basis) / len(basis)
        self.expression_gram = torch.einsum("vce,vcf->ef", moves, moves) / len(moves)
        embedding = model.landmarks["478"]
        corners, weight = model.faces[embedding.faces].long(), embedding.weights[..., None]
        self.points = (model.template[corners] * weight).sum(1)
        self.points = self.points - self.points.mean(0)
        self.found = spread_out(self.points, POINTS)
        self.point_shape = (model.shape_basis[corners][..., :shapes] * weight[..., None]).sum(1)
        self.point_shape = (self.point_shape - self.point_shape.mean(0)).flatten(0, 1)
        self.point_moves = (model.expression_basis[corners] * weight[..., None]).sum(1).flatten(0, 1)
        self.light_std, self.weights = light_std, weights

    def to(self, device: torch.device | str) -> "HeadLosses":
        """Move the maps, in place."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        return self

    def project(self, n: HeadNumbers, shape: Float[Tensor, "batch shape"]) -> Float[Tensor, "batch points 2"]:
        """Landmarks in parts of the crop's side, gaze left out."""
        moved = shape @ self.point_shape.mT + n.expression @ self.point_moves.mT
        at = (self.points + moved.unflatten(-1, self.points.shape)) @ n.rotation.mT
        distance = torch.exp(n.log_distance)[:, None]
        factor = torch.exp(n.log_scale)[:, None] * distance / (distance - at[..., 2]).clamp(min=0.05)
        return at[..., :2] * at.new_tensor([1.0, -1.0]) * factor[..., None] + n.offset[:, None] + 0.5

    def millimetres(self, difference: Float[Tensor, "batch shape"]) -> Float[Tensor, "batch"]:
        """Mean squared distance of the face's vertices of a difference in identity, size and place held down, mm^2."""
        return ((difference @ self.shape_gram) * difference).sum(-1)

    def __call__(
        self,
        got: HeadNumbers,
        want: HeadNumbers,
        landmarks: Float[Tensor, "batch points 2"],
        found: Float[Tensor, "batch few 2"],
    ) -> dict[str, Tensor]:
        """Weighted terms; rows 2 k and 2 k + 1 show one person. Landmarks in parts of the crop's side.

        Args:
            got: what the network says.
            want: the truth.
            landmarks: MediaPipe's 478 points.
            found: the network's `POINTS`.
        """
        w = self.weights
        partner = got.shape.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
        psi = got.expression - want.expression
        moves = ((psi @ self.expression_gram) * psi).sum(-1)

        def landmark_error(shape: Tensor) -> Tensor:
            error = (self.project(got, shape) - landmarks).square().sum(-1)
            return 100 * (error + 1e-6).sqrt().mean()  # percent of the side

        missed = (found - landmarks[:, self.found]).square().sum(-1)
        camera = torch.cat(
            [
                3 * (got.log_scale - want.log_scale)[:, None],
                10 * (got.offset - want.offset),
                0.3 * (got.log_distance - want.log_distance)[:, None],
            ],
            -1,
        )
        return {
            "shape": w.shape * self.millimetres(got.shape - want.shape).mean(),
            "expression": w.expression * moves.mean(),
            "actions": w.actions * smooth_l1_loss(got.expression, want.expression, beta=0.2),
            "eyes": w.eyes * (got.eyes - want.eyes).square().mean(),
            "turn": w.turn * (got.rotation - want.rotation).square().sum((-1, -2)).mean(),
            "camera": w.camera * camera.square().sum(-1).mean(),
            "landmarks": w.landmarks * landmark_error(got.shape),
            "swapped": w.swapped * landmark_error(partner),
            "points": w.points * 100 * (missed + 1e-6).sqrt().mean(),
            "same_face": w.same_face * self.millimetres(got.shape - partner).mean(),
            "light": w.light * ((got.light - want.light) / self.light_std).square().mean(),
            "albedo": w.albedo * (got.albedo - want.albedo).square().mean(),
        }


def spread_out(points: Float[Tensor, "points 3"], count: int) -> Int[Tensor, "count"]:
    """Sorted indices of so many points, each in turn the farthest from those before; the first is the lowest."""
    chosen = [int(points[:, 1].argmin())]
    distance = (points - points[chosen[0]]).norm(dim=-1)
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (points - points[chosen[-1]]).norm(dim=-1))
    return torch.tensor(sorted(chosen))
