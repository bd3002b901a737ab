"""Implicit diversified Markov random field loss (Wang et al., "Image inpainting via generative multi-column
convolutional neural networks", 2018): every patch of the target should have its own nearest patch in the picture.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

Features = Mapping[str, Tensor]

#: Bandwidth h of the similarities.
_BANDWIDTH = 0.5

#: Keeps the division by a patch's nearest distance finite.
_EPS = 1e-5


def id_mrf_of_features(
    generated: Float[Tensor, "batch chan height width"], target: Float[Tensor, "batch chan height width"]
) -> Float[Tensor, ""]:
    """The loss of one layer of features, patches of one place.

        d(s, t) = (1 - cos(s, t)) / 2     relative: d / (min_t d + ε)
        w(s, t) = exp((1 - d) / h)        normalised over t
        L = -Σ_batch log mean_t max_s w(s, t)

    s runs over places of the generated, t of the target features; both less the target's mean over its channels.
    """
    mean = target.mean(1, keepdim=True)
    s, t = (torch.nn.functional.normalize(x - mean, dim=1).flatten(2) for x in (generated, target))
    distance = (1 - t.mT @ s) / 2  # (batch, target places, generated places)
    relative = distance / (distance.amin(1, keepdim=True) + _EPS)
    similarity = ((1 - relative) / _BANDWIDTH).softmax(1)
    return -similarity.amax(2).mean(1).log().sum()


def id_mrf_loss(
    generated: Float[Tensor, "batch 3 height width"],
    target: Float[Tensor, "batch 3 height width"],
    features: Callable[[Tensor], Features],
    style: Mapping[str, float] | None = None,
    content: Mapping[str, float] | None = None,
) -> Float[Tensor, ""]:
    """Weighted sum over layers, style plus content.

    Args:
        generated: picture.
        target: picture.
        features: network that gives named maps; DECA's is VGG-19 of ImageNet.
        style: weight of each layer; relu3_2 and relu4_2 at 1 in DECA.
        content: likewise; relu4_2 at 1 in DECA.
    """
    style = {"relu3_2": 1.0, "relu4_2": 1.0} if style is None else style
    content = {"relu4_2": 1.0} if content is None else content
    ours, theirs = features(generated), features(target)
    loss = generated.new_zeros(())
    for layer in sorted({*style, *content}):
        weight = style.get(layer, 0.0) + content.get(layer, 0.0)
        loss = loss + weight * id_mrf_of_features(ours[layer], theirs[layer])
    return loss
