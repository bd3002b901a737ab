"""Fitting NPHM to point clouds: latents of one person and of each observed expression, by the authors' schedule.

Every step takes some observations and points of each, finds where these come from in the canonical head
(root_finding.py), and moves the latents so that the sdf there becomes 0:

    2 mean|sdf| + 0.01 |z_ex|² + 0.25 |z_glob|² + 0.05 |z_loc|² + 10 Σ |z_k|² + 5 mean pair distance

with k over the members that clouds of faces do not show (the foot of the neck and the background). Points whose sdf
exceeds a limit that shrinks from 0.1 to 0.0075 are taken for outliers. Clouds are in the fields' frame and unit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import HeadlabError
from .culled import SHARE, culled_sdf
from .expression import ExpressionField
from .identity import IdentityField
from .losses import pair_distance
from .mlp import run_single
from .root_finding import CanonicalPoints, attach_gradient, canonical_points

#: Members that get a penalty of their own: the last pair and the background.
_UNSEEN = (30, 31, 39)

#: A cloud with fewer points says nothing about a head.
_FEWEST = 50

#: Clouds reach no farther than this from the origin, in the fields' unit: 500 mm.
_FARTHEST = 2.0


@dataclass(frozen=True)
class FitWeights:
    """Weights at one step."""

    surface: float = 2.0
    reg_expr: float = 0.01
    reg_global: float = 0.25
    reg_unobserved: float = 10.0
    reg_loc: float = 0.05
    symm_dist: float = 5.0


@dataclass(frozen=True)
class FitConfig:
    """The authors' schedule, over `steps`; where things change scales with it."""

    steps: int = 1000
    rate: float = 0.01
    observations: int = 5  #: per step, drawn with replacement
    points: int = 1000  #: per observation and step, drawn with replacement
    share: float = SHARE  #: members below this share are left out

    def stage(self, step: int) -> int:
        """The step in the authors' own thousand."""
        return int(step * 1000 / self.steps)

    def rate_at(self, step: int) -> float:
        """Halved at 200, 400, 600 and 800."""
        return self.rate / 2 ** sum(self.stage(step) >= at for at in (200, 400, 600, 800))

    def limit_at(self, step: int) -> float:
        """Largest |sdf| that counts."""
        stage = self.stage(step)
        return 0.0075 if stage > 500 else 0.05 if stage > 250 else 0.1

    def weights_at(self, step: int) -> FitWeights:
        stage, base = self.stage(step), FitWeights()

        def divided(value: float, *changes: tuple[int, int]) -> float:
            for at, by in changes:
                value = value / by if stage >= at else value
            return value

        return FitWeights(
            surface=base.surface,
            reg_expr=divided(base.reg_expr, (600, 10)),
            reg_global=divided(base.reg_global, (200, 3), (600, 10)),
            reg_unobserved=base.reg_unobserved,
            reg_loc=divided(base.reg_loc, (500, 3), (600, 10)),
            symm_dist=divided(base.symm_dist, (200, 10), (500, 9999)),
        )


@dataclass(frozen=True)
class FitStep:
    """The terms of one step."""

    terms: dict[str, Float[Tensor, ""]]
    converged: int  #: points whose canonical point was found
    used: int  #: of these, points within the limit

    def total(self, weights: FitWeights) -> Float[Tensor, ""]:
        return torch.stack([getattr(weights, name) * value for name, value in self.terms.items()]).sum()


@dataclass(frozen=True)
class PointCloudFit:
    """What fitting found."""

    identity: Float[Tensor, "latent"]
    expressions: Float[Tensor, "observations ex"] | None  #: None for canonical clouds
    history: list[dict[str, float]]  #: terms of every step, and "loss"


def fit_step(
    identity: IdentityField,
    expression: ExpressionField | None,
    identity_latent: Float[Tensor, "latent"],
    expression_latents: Float[Tensor, "rows ex"] | None,
    points: Float[Tensor, "rows points 3"],
    limit: float,
    share: float = SHARE,
) -> FitStep:
    """The terms of the energy for some points of some observations.

    Args:
        identity: the identity field.
        expression: the expression field, or None if the points are canonical already.
        identity_latent: of the person.
        expression_latents: of each row.
        points: observed ones.
        limit: largest |sdf| that counts.
        share: members below are left out of the identity field.
    """
    layout = identity.layout
    if expression is None or expression_latents is None:
        canonical = points
        found = CanonicalPoints(points, torch.zeros_like(points[..., 0]), torch.ones_like(points[..., 0]).bool())
    else:
        rows = points.shape[0]
        anchors = identity.anchors(identity_latent)
        head = expression.folded(
            identity_latent.expand(rows, -1), expression_latents, anchors.expand(rows, *anchors.shape)
        )

        def offset(at: Tensor) -> Tensor:
            return run_single(head.mlp, head.inputs(at))

        found = canonical_points(offset, points)
        canonical = attach_gradient(offset, found.points)
    sdf = culled_sdf(identity.folded(identity_latent), canonical.reshape(-1, 3), share, once=True)
    sdf = sdf.view(canonical.shape[:-1])
    error = sdf[found.converged].abs()
    kept = error[error < limit]
    shared, own = layout.split(identity_latent)
    unseen = [k for k in _UNSEEN if k < layout.members]
    terms = {
        # No point within the limit: nothing to follow, but no NaN either.
        "surface": kept.sum() / max(kept.numel(), 1),
        "reg_global": shared.square().sum(),
        "reg_loc": own.square().sum(),
        "reg_unobserved": own[unseen].square().sum(),
        "symm_dist": pair_distance(layout, identity_latent),
    }
    if expression_latents is not None:
        terms["reg_expr"] = expression_latents.square().sum(-1).mean()
    return FitStep(terms, int(found.converged.sum()), kept.numel())


def fit_point_clouds(
    identity: IdentityField,
    expression: ExpressionField | None,
    observations: Sequence[Float[Tensor, "_ 3"]],
    config: FitConfig,
    generator: torch.Generator,
    callback: Callable[[int, dict[str, float]], None] | None = None,
    start: tuple[Float[Tensor, "latent"], Float[Tensor, "ex"] | None] | None = None,
) -> PointCloudFit:
    """Fit one person to point clouds of some expressions.

    Args:
        identity: the identity field; its parameters are not changed.
        expression: the expression field, or None if the clouds are canonical (neutral, mouth open).
        observations: one cloud per expression, in the fields' frame and unit (250 mm of FLAME).
        config: the schedule.
        generator: for the draws.
        callback: told the step and its terms.
        start: latents to begin with, the expression's for every observation; zero as the authors do where absent.

    Raises:
        HeadlabError: no clouds, one with too few points, points that are no numbers, or a unit that cannot be.
    """
    _check_clouds(observations)
    device = identity.mean_anchors.device
    observations = [cloud.to(device) for cloud in observations]
    latent = torch.zeros(identity.layout.latent, device=device)
    codes = None if expression is None else torch.zeros(len(observations), expression.config.latent, device=device)
    if start is not None:
        latent = latent + start[0].to(device)
        codes = codes if codes is None or start[1] is None else codes + start[1].to(device)
    latent.requires_grad_()
    if codes is not None:
        codes.requires_grad_()
    optimizer = torch.optim.Adam([latent] if codes is None else [latent, codes], config.rate)
    history = []
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.rate_at(step)
        which = torch.randint(len(observations), (config.observations,), generator=generator)
        points = _draw(observations, which, config.points, generator)
        rows = None if codes is None else codes[which.to(device)]
        taken = fit_step(identity, expression, latent, rows, points, config.limit_at(step), config.share)
        loss = taken.total(config.weights_at(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        report = {name: float(value.detach()) for name, value in taken.terms.items()} | {"loss": float(loss.detach())}
        history.append(report)
        if callback is not None:
            callback(step, report)
    return PointCloudFit(latent.detach(), None if codes is None else codes.detach(), history)


def _draw(
    observations: Sequence[Tensor], which: Int[Tensor, "rows"], count: int, generator: torch.Generator
) -> Float[Tensor, "rows points 3"]:
    # All rows as many: the smallest cloud decides.
    count = min(count, *(len(cloud) for cloud in observations))
    drawn = []
    for row in which.tolist():
        cloud = observations[row]
        drawn.append(cloud[torch.randint(len(cloud), (count,), generator=generator).to(cloud.device)])
    return torch.stack(drawn)


def _check_clouds(observations: Sequence[Tensor]) -> None:
    if not observations:
        raise HeadlabError("there is no point cloud to fit to; give at least one")
    for number, cloud in enumerate(observations):
        if len(cloud) < _FEWEST:
            raise HeadlabError(f"cloud {number} has {len(cloud)} points; a head needs at least {_FEWEST}")
        if not bool(cloud.isfinite().all()):
            raise HeadlabError(f"cloud {number} holds NaN or infinity; remove those points")
        reach = float(cloud.norm(dim=-1).median())
        if reach > _FARTHEST or reach < 0.02:
            raise HeadlabError(
                f"cloud {number} lies {reach:.3g} from the origin, in the field's unit of 250 mm; bring it into the "
                "field's frame first (metres times 4, FLAME's axes)"
            )
