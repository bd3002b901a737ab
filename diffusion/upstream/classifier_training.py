"""Training linear classifiers of DiffAE's codes on one's own labels.

    codes of all pictures (once) ──> mini-batches ──> BCE of many labels (published) | softmax of one class
                                                 ──> Adam, moving average ──> LatentClassifier, recall of every class

Expressions in the wild are far from balanced (AffectNet: 134,915 happy, 4,250 contempt). Without care the rare classes
are never predicted, and their directions are poor. `balance` draws every class equally often, or weighs its loss.

A budget in samples means something else on another data set: the published 300,000 samples are 10 epochs of CelebA-HQ
(30,000 pictures), but 1.04 of AffectNet's 287,651. So both numbers are always told.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from ...geometry.errors import HeadlabError
from ..training_ema import Averages
from .classifier import LatentClassifier
from .diffae_files import LatentStatistics

Balance = Literal["none", "sampling", "weights"]


@dataclass(frozen=True)
class ClassifierConfig:
    """How to train; the defaults but for the epochs and the balance are the published ones."""

    loss: Literal["bce", "softmax"] = "bce"
    balance: Balance = "none"
    epochs: float | None = None  #: passes over the data set; or
    samples: int | None = None  #: pictures drawn in all; 10 epochs where neither is given
    batch: int = 32
    rate: float = 1e-3
    average: float = 0.9999  #: d of the moving average
    seed: int = 0


@dataclass(frozen=True)
class Budget:
    """How long a training is, in every unit."""

    steps: int
    samples: int  #: pictures drawn
    epochs: float  #: samples over the size of the data set

    @classmethod
    def of(cls, count: int, config: ClassifierConfig) -> "Budget":
        """Of a data set of so many pictures.

        Raises:
            HeadlabError: both epochs and samples are given, or nothing is left to do.
        """
        if config.epochs is not None and config.samples is not None:
            raise HeadlabError("say how long to train in epochs or in samples, not in both")
        epochs = 10.0 if config.epochs is None else config.epochs
        wanted = round(epochs * count) if config.samples is None else config.samples
        if wanted < 1 or config.batch < 1:
            raise HeadlabError(f"a training of {wanted} samples in batches of {config.batch} does nothing; say more")
        steps = max(1, round(wanted / config.batch))
        return cls(steps, steps * config.batch, steps * config.batch / count)

    def __str__(self) -> str:
        return f"{self.epochs:.2f} epochs, {self.samples:,} samples, {self.steps:,} steps"


def train_classifier(
    codes: Float[Tensor, "count views size"],
    labels: Int[Tensor, "count"] | Int[Tensor, "count classes"],
    names: Sequence[str],
    config: ClassifierConfig | None = None,
    statistics: LatentStatistics | None = None,
    callback: Callable[[int, float], None] = lambda step, loss: None,
) -> tuple[LatentClassifier, Budget]:
    """A classifier of codes.

    Args:
        codes: of the pictures; several views (the mirrored picture, say) of each, one of which is drawn at a time.
        labels: a class each (softmax), or for each class more than 0 where it applies (BCE).
        names: of the classes.
        config: how.
        statistics: of the codes; of the first views where None.
        callback: gets every step's number and loss.

    Raises:
        HeadlabError: labels and names do not fit, or a class to be balanced has no picture.
    """
    config = config or ClassifierConfig()
    statistics = statistics or LatentStatistics.of(codes[:, 0])
    trainer = ClassifierTrainer(codes.shape[-1], labels, names, config)
    budget = Budget.of(len(codes), config)
    generator = torch.Generator().manual_seed(config.seed)
    for step, rows in enumerate(trainer.batches(budget, generator)):
        views = torch.randint(codes.shape[1], (len(rows),), generator=generator)
        callback(step + 1, trainer.step(statistics.normalized(codes[rows, views].float()), labels[rows]))
    return trainer.result(statistics), budget


class ClassifierTrainer:
    """The layer, its optimiser and moving average; one step at a time."""

    def __init__(self, size: int, labels: Tensor, names: Sequence[str], config: ClassifierConfig):
        """Raises HeadlabError as `train_classifier` says."""
        self.config, self.names = config, tuple(names)
        single = config.loss == "softmax"
        if labels.ndim != (1 if single else 2) or (not single and labels.shape[1] != len(names)):
            raise HeadlabError(
                "softmax takes one class number per picture, BCE a yes or no for every name; "
                "choose the loss of your labels"
            )
        if single and len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(names):
            raise HeadlabError(f"class numbers must lie within 0..{len(names) - 1}; give as many names as classes")
        self.labels = labels
        self.counts = torch.bincount(labels, minlength=len(names)) if single else (labels > 0).sum(0)
        if config.balance != "none" and (empty := [n for n, c in zip(names, self.counts, strict=True) if not c]):
            raise HeadlabError(f"no picture shows {', '.join(empty)}: it cannot be balanced; leave the class out")
        if config.balance == "sampling" and not single:
            raise HeadlabError("pictures with many labels cannot be drawn class by class; balance by weights")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.layer = nn.Linear(size, len(names))
        self.optimizer = torch.optim.Adam(self.layer.parameters(), lr=config.rate)
        self.averages = Averages({"classifier": self.layer}, config.average)
        self.weights = self._weights() if config.balance == "weights" else None

    def _weights(self) -> Tensor:
        """Softmax: of classes, 1 in the mean over pictures. BCE: of the yes, which then counts as much as the no."""
        counts = self.counts.float()
        if self.config.loss == "softmax":
            return len(self.labels) / (len(counts) * counts)
        return (len(self.labels) - counts).clamp(min=1) / counts

    def batches(self, budget: Budget, generator: torch.Generator):
        """Rows of each step: shuffled epochs, or a class at random and then a picture of it."""
        size = self.config.batch
        if self.config.balance == "sampling":
            members = [(self.labels == k).nonzero()[:, 0] for k in range(len(self.names))]
            for _ in range(budget.steps):
                classes = torch.randint(len(members), (size,), generator=generator)
                shares = torch.rand(size, generator=generator)
                yield torch.stack([members[k][int(u * len(members[k]))] for k, u in zip(classes, shares, strict=True)])
            return
        order = torch.empty(0, dtype=torch.int64)
        for _ in range(budget.steps):
            while len(order) < size:
                order = torch.cat([order, torch.randperm(len(self.labels), generator=generator)])
            yield order[:size]
            order = order[size:]

    def step(self, normalized: Float[Tensor, "batch size"], labels: Tensor) -> float:
        """One optimiser step; the loss before it."""
        self.optimizer.zero_grad()
        loss = self.loss(self.layer(normalized), labels)
        loss.backward()
        self.optimizer.step()
        self.averages.update({"classifier": self.layer})
        return float(loss.detach())

    def loss(self, logits: Float[Tensor, "batch classes"], labels: Tensor) -> Float[Tensor, ""]:
        """The mean over the batch, and over the labels where there are many."""
        if self.config.loss == "softmax":
            each = cross_entropy(logits, labels, reduction="none")
            return (each if self.weights is None else self.weights[labels] * each).mean()
        return binary_cross_entropy_with_logits(logits, (labels > 0).to(logits), pos_weight=self.weights)

    def result(self, statistics: LatentStatistics) -> LatentClassifier:
        """What has been learned."""
        average = self.averages.networks["classifier"]
        weight, bias = self.layer.weight.detach().clone(), self.layer.bias.detach().clone()
        kind = "single" if self.config.loss == "softmax" else "multi"
        averaged = (average.weight.detach().clone(), average.bias.detach().clone())  # type: ignore[union-attr,operator]
        return LatentClassifier(self.names, weight, bias, statistics, kind, averaged)


def recalls(classifier: LatentClassifier, codes: Float[Tensor, "count size"], labels: Tensor) -> dict[str, float]:
    """Share of each class's pictures that are told so (of many labels: of the yes); nan where there are none."""
    said = classifier.logits(codes)
    if classifier.kind == "single":
        right, truth = said.argmax(-1) == labels, torch.stack([labels == k for k in range(len(classifier.names))])
        return {n: float(right[row].float().mean()) for n, row in zip(classifier.names, truth, strict=True)}
    yes = labels > 0
    return {n: float((said[:, k] > 0)[yes[:, k]].float().mean()) for k, n in enumerate(classifier.names)}


def held_out(labels: Tensor, share: float, seed: int = 0) -> tuple[Int[Tensor, "rows"], Int[Tensor, "others"]]:
    """Rows to train on, and others to measure on: so many of every class (of many labels: of all)."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    if labels.ndim == 1:
        rank = torch.zeros(len(labels), dtype=torch.int64)
        for k in labels.unique():
            rows = order[labels[order] == k]
            rank[rows] = (torch.arange(len(rows)) < share * len(rows)).long()
        return (rank == 0).nonzero()[:, 0], (rank == 1).nonzero()[:, 0]
    cut = round(share * len(labels))
    return order[cut:].sort().values, order[:cut].sort().values
