"""What a denoiser is trained for, term by term. Every function gives one number per picture; weights multiply them.

    l_simple, l_pr              how far the prediction is from its target, on photos and on the base model's pictures
    l_id, l_tid                 whether an embedder sees the same person in the decoded x̂0 (1 - cosine, no unit)
    l_id_deca                   whether a shape reader sees the same face in it (mm^2)
    snr_weight, time_weight     how much a time counts

The identity terms are functions of readings alone; `identity_losses.py` makes the readings from a prediction.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cosine_similarity

from .schedule import NoiseSchedule

Weighting = Literal["plain", "p2", "min_snr"]


def l_simple(
    prediction: Float[Tensor, "batch *picture"],
    target: Float[Tensor, "batch *picture"],
    weight: Float[Tensor, "batch"] | None = None,
) -> Float[Tensor, "batch"]:
    """w_t mean((target - prediction)^2): the diffusion loss (Ho et al. 2020, eq. 14).

    Args:
        prediction: of the denoiser: epsilon, v or x0.
        target: `NoiseSchedule.target`, in the units of the latents (about unit variance).
        weight: w_t of `snr_weight`; 1 where None.
    """
    error = (prediction - target).square().flatten(1).mean(1)
    return error if weight is None else weight.to(error) * error


def l_pr(
    prediction: Float[Tensor, "batch *picture"],
    target: Float[Tensor, "batch *picture"],
    weight: Float[Tensor, "batch"] | None = None,
) -> Float[Tensor, "batch"]:
    """Prior preservation (DreamBooth, Ruiz et al. 2023, eq. 2): `l_simple` on pictures that the frozen base model made.

    It keeps what the base model knew of other people while it is tuned to one. Arguments as `l_simple`'s.
    """
    return l_simple(prediction, target, weight)


def l_id(decoded: Float[Tensor, "batch dims"], source: Float[Tensor, "batch dims"]) -> Float[Tensor, "batch"]:
    """1 - cos(phi(x0), phi(x̂0)) (PortraitBooth, Peng et al. 2024, eq. 4). 0: same person; at most 2.

    Args:
        decoded: the embedder's vectors of the decoded x̂0.
        source: of pictures of the person; no gradient flows to them.
    """
    return 1 - cosine_similarity(decoded, source.detach(), dim=-1)


def l_tid(
    decoded: Float[Tensor, "batch dims"],
    source: Float[Tensor, "batch dims"],
    prior: Float[Tensor, "batch dims"],
    margin: float = 0.6,
) -> Float[Tensor, "batch"]:
    """max(d(phi(x̂0), phi(x0)) - d(phi(x̂0), phi(x_pr)) + m, 0) with d = 1 - cos (ID-Booth, Tomasevic et al. 2025).

    The decoded picture shall be nearer to the person than to somebody else by m. d is a distance: with similarities in
    its place the first two terms change places, and the loss would drive identities apart.

    Args:
        decoded: the embedder's vectors of the decoded x̂0.
        source: of pictures of the person (anchor's partner); no gradient.
        prior: of pictures that the base model made of others; no gradient.
        margin: m, a difference of cosines.
    """
    own, other = l_id(decoded, source), l_id(decoded, prior)
    return (own - other + margin).clamp(min=0)


def l_id_deca(
    decoded: Float[Tensor, "batch shape"],
    source: Float[Tensor, "batch shape"],
    gram: Float[Tensor, "shape shape"],
) -> Float[Tensor, "batch"]:
    """(b(x̂0) - b(source))^T G (b(x̂0) - b(source)): the face's mean squared change of shape, mm^2 (headlab's own).

    b is the shape code that a frozen regressor (DECA, EMOCA or the default one) reads; expression, pose and light are
    left free because they are not in it.

    Args:
        decoded: shape codes read off the decoded x̂0.
        source: those of the person; no gradient flows to them.
        gram: G, the metric of the shape basis on the face, mm^2 per squared unit of the code (`ShapeReader.gram`).
    """
    difference = decoded - source.detach()
    return ((difference @ gram) * difference).sum(-1)


def l_expression(
    decoded: Float[Tensor, "batch expr"],
    target: Float[Tensor, "batch expr"],
    gram: Float[Tensor, "expr expr"],
) -> Float[Tensor, "batch"]:
    """(psi(x̂0) - psi)^T G (psi(x̂0) - psi): the expression's own mm^2, the companion of `l_id_deca` (headlab's own).

    A regressor's shape code is not quite free of expression: drawn to the photo's, it draws the expression along. Held
    to the wanted expression by the same reading, it does not.

    Args:
        decoded: expressions read off the decoded x̂0.
        target: the wanted ones; no gradient flows to them.
        gram: G, the metric of expressions on the face (`identity.expression_gram`).
    """
    return l_id_deca(decoded, target, gram)


def snr_weight(
    schedule: NoiseSchedule,
    t: Int[Tensor, "batch"],
    kind: Weighting = "plain",
    *,
    k: float = 1.0,
    gamma: float | None = None,
) -> Float[Tensor, "batch"]:
    """w_t of `l_simple` for the schedule's kind of prediction, float64.

    On the squared error of epsilon: "p2" 1 / (k + SNR)^gamma, gamma = 1 (Choi et al. 2022); "min_snr"
    min(SNR, gamma) / SNR, gamma = 5 (Hang et al. 2023). The squared error of epsilon is SNR times that of x0, and
    that of v is SNR + 1 times; weights for v and x0 follow from it, so that every kind trains the same. "plain" is 1
    for every kind.
    """
    snr = schedule.snr(t)
    if kind == "plain":
        return torch.ones_like(snr)
    if kind == "p2":
        on_x0 = snr / (k + snr) ** (1.0 if gamma is None else gamma)
    else:
        on_x0 = snr.clamp(max=5.0 if gamma is None else gamma)
    return on_x0 / {"epsilon": snr, "v": snr + 1, "sample": torch.ones_like(snr)}[schedule.prediction]


def time_weight(schedule: NoiseSchedule, t: Int[Tensor, "batch"], power: float = 2.0) -> Float[Tensor, "batch"]:
    """(1 - t / T)^2, the identity terms' weight: at late times x̂0 is a guess that tells little (ID-Booth's code)."""
    return (1 - t.double() / schedule.steps) ** power
