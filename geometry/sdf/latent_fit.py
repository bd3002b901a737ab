"""Fit fields to points with what the training latents say about people: a Gaussian prior, the same for NPHM and NPM.

    z = mean + A c + s ∘ e,    c, e ~ N(0, 1)

A holds the principal components of the training latents, s a part of what each number of them varies by: heads that
no mixture of training heads is, are possible but dear. The energy is

    Σ ρ(sdf / σ) · (as if there were no more than `evidence` independent points) + |c|² + |e|²

by Adam on c and e. Posed clouds are brought back to the canonical head by Newton steps that run along with the fit:
each step moves the canonical points once, and the latents get their gradient by the implicit function theorem.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import HeadlabError
from .head_fields import HeadFields
from .mlp import run_single
from .root_finding import canonical_points, deformation_jacobian


@dataclass(frozen=True)
class LatentPrior:
    """What training latents are like."""

    mean: Float[Tensor, "latent"]
    components: Float[Tensor, "latent k"]  #: A
    own: Float[Tensor, "latent"]  #: s

    @classmethod
    def of(cls, latents: Float[Tensor, "rows latent"], own: float = 1.0, components: int = 200) -> "LatentPrior":
        """Args:
        latents: of training.
        own: s, as a part of each number's standard deviation.
        components: at most so many.
        """
        mean = latents.mean(0)
        count = max(1, len(latents) - 1)
        _, size, right = torch.linalg.svd((latents - mean) / count**0.5, full_matrices=False)
        return cls(mean, (right.mT * size)[:, :components], own * (latents - mean).square().sum(0).div(count).sqrt())

    def latent(
        self, shared: Float[Tensor, "*batch k"], single: Float[Tensor, "*batch latent"]
    ) -> Float[Tensor, "*batch latent"]:
        return self.mean + shared @ self.components.mT + self.own * single


@dataclass(frozen=True)
class LatentFitConfig:
    """How latents are fitted."""

    steps: int = 400
    rate: float = 0.08
    points: int = 1200  #: of every cloud, per step
    noise: tuple[float, float] = (0.012, 0.0015)  #: σ at the start and in the end, field units
    evidence: float = 3000.0  #: how many points count as independent
    own: float = 1.0  #: see LatentPrior
    share: float = 1e-3  #: members below are left out


@dataclass(frozen=True)
class LatentFit:
    """What fitting found."""

    identity: Float[Tensor, "latent"]
    expressions: Float[Tensor, "clouds ex"] | None
    losses: list[float]


def fit_latents(
    fields: HeadFields,
    clouds: list[Float[Tensor, "_ 3"]],
    config: LatentFitConfig,
    generator: torch.Generator,
    *,
    posed: bool = False,
) -> LatentFit:
    """One person's latents from clouds of one or some expressions.

    Args:
        fields: trained.
        clouds: points in the fields' frame and unit.
        config: settings.
        generator: for the draws.
        posed: fit an expression for every cloud; otherwise all are canonical.

    Raises:
        HeadlabError: no clouds or empty ones, or no expression field for posed ones.
    """
    if not clouds or any(len(cloud) == 0 for cloud in clouds):
        raise HeadlabError("there are no points to fit to; give at least one cloud of them")
    if posed and fields.expression is None:
        raise HeadlabError("these fields have no expressions; fit canonical clouds, or train an expression field")
    of_identity = LatentPrior.of(fields.identity_latents, config.own)
    of_expression = LatentPrior.of(fields.expression_latents, config.own) if posed else None
    unknown = [torch.zeros(of_identity.components.shape[-1]), torch.zeros(len(of_identity.mean))]
    if of_expression is not None:
        unknown += [torch.zeros(len(clouds), of_expression.components.shape[-1])]
        unknown += [torch.zeros(len(clouds), len(of_expression.mean))]
    for tensor in unknown:
        tensor.requires_grad_()
    optimizer = torch.optim.Adam(unknown, config.rate, betas=(0.9, 0.98))
    states = [_Canonical(cloud) for cloud in clouds]
    losses = []
    for step in range(config.steps):
        done = step / max(1, config.steps - 1)
        for group in optimizer.param_groups:
            group["lr"] = config.rate * (1 - 0.95 * done) * min(1, (step + 1) / 10)
        noise = config.noise[0] * (config.noise[1] / config.noise[0]) ** min(1.0, 1.5 * done)
        latent = of_identity.latent(unknown[0], unknown[1])
        prior = torch.stack([tensor.square().sum() for tensor in unknown]).sum()
        found = []
        for number, state in enumerate(states):
            which = torch.randint(len(state.observed), (config.points,), generator=generator)
            if of_expression is None:
                found.append(state.observed[which])
            else:
                code = of_expression.latent(unknown[2][number], unknown[3][number])
                found.append(state.newton(fields, latent, code, which, fresh=step == 0))
        points = torch.cat(found)
        error = fields.sdf(latent, points, config.share) / noise
        # Charbonnier: squares near 0, absolute values far from it.
        data = (torch.sqrt(1 + error.square()) - 1).mean()
        loss = config.evidence * len(clouds) * data + 0.5 * prior
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    with torch.no_grad():
        identity = of_identity.latent(unknown[0], unknown[1])
        codes = None if of_expression is None else of_expression.latent(unknown[2], unknown[3])
    return LatentFit(identity.detach(), None if codes is None else codes.detach(), losses)


class _Canonical:
    """Where the points of one cloud come from; followed while the latents move."""

    def __init__(self, observed: Float[Tensor, "n 3"]) -> None:
        self.observed = observed
        self.canonical = observed.clone()

    def newton(
        self, fields: HeadFields, latent: Tensor, code: Tensor, which: Tensor, fresh: bool
    ) -> Float[Tensor, "points 3"]:
        """Canonical points after one step, with the gradient to the latents."""
        folded = fields.deformation(latent, code)

        def offset(at: Tensor) -> Tensor:

            return run_single(folded.mlp, folded.inputs(at))

        if fresh:
            with torch.no_grad():
                self.canonical = canonical_points(offset, self.observed).points
        at, goal = self.canonical[which], self.observed[which]
        inverse = torch.linalg.inv(deformation_jacobian(offset, at))
        moved = at + offset(at)
        # One Newton step; through `moved` it carries dx = -J⁻¹ d offset to the latents.
        step = (inverse @ (goal - moved).unsqueeze(-1)).squeeze(-1)
        far = step.detach().norm(dim=-1, keepdim=True)
        out = at + step * torch.where(far > _LONGEST, _LONGEST / far, 1.0)
        self.canonical = self.canonical.clone()
        self.canonical[which] = out.detach()
        return out


#: Longest step of a canonical point, field units.
_LONGEST = 0.05
