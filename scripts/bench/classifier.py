"""Expression classifiers on data with AffectNet's class frequencies: recall of every class, balanced and not.

    python -m headlab.scripts.bench.classifier build/classifier.json

Codes are synthetic: of each class a Gaussian cloud about a point of its own, points closer together than clouds are
wide, as expressions are in DiffAE's codes. The frequencies are AffectNet's training set's (287,651 faces; scaled down);
the test set has as many of each class. Every way is trained for the same number of samples.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

#: Faces of each expression in AffectNet's training set.
AFFECTNET_COUNTS = {
    "Neutral": 75374,
    "Happy": 134915,
    "Sad": 25959,
    "Surprise": 14590,
    "Fear": 6878,
    "Disgust": 4303,
    "Anger": 25382,
    "Contempt": 4250,
}


@dataclass(frozen=True)
class Args:
    """Train and measure."""

    out: Annotated[Path, tyro.conf.Positional]
    """JSON file to write."""
    share: float = 0.1
    """Of AffectNet's size."""
    size: int = 512
    """Numbers of a code."""
    apart: float = 0.115
    """Deviation of the classes' points, in those of the clouds."""
    epochs: float = 3.0
    test: int = 500
    """Test codes of each class."""
    seed: int = 0


def main(args: Args) -> dict[str, Any]:
    from ...diffusion.upstream.classifier_training import Budget, ClassifierConfig, recalls, train_classifier

    torch.set_num_threads(1)
    names = tuple(AFFECTNET_COUNTS)
    generator = torch.Generator().manual_seed(args.seed)
    points = args.apart * torch.randn(len(names), args.size, generator=generator)
    counts = [round(args.share * count) for count in AFFECTNET_COUNTS.values()]

    def drawn(each: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.repeat_interleave(torch.arange(len(names)), torch.tensor(each))
        return points[labels] + torch.randn(len(labels), args.size, generator=generator), labels

    codes, labels = drawn(counts)
    test, truth = drawn([args.test] * len(names))
    result: dict[str, Any] = {"faces": len(labels), "faces_of_each_class": dict(zip(names, counts, strict=True))}
    for balance in ("none", "sampling", "weights"):
        config = ClassifierConfig("softmax", balance, epochs=args.epochs, seed=args.seed)  # type: ignore[arg-type]
        classifier, budget = train_classifier(codes[:, None], labels, names, config)
        recall = recalls(classifier, test, truth)
        directions = torch.stack([classifier.direction(name) for name in names])
        ideal = torch.nn.functional.normalize((points - points.mean(0)) / classifier.statistics.std, dim=-1)
        result[balance] = {
            "recall": {name: round(value, 3) for name, value in recall.items()},
            "mean_recall": round(sum(recall.values()) / len(recall), 4),
            "least_recall": round(min(recall.values()), 4),
            "cosine_of_directions": {
                name: round(float(value), 3) for name, value in zip(names, (directions * ideal).sum(1), strict=True)
            },
            "budget": str(budget),
        }
    published = Budget.of(287_651, ClassifierConfig(samples=300_000))
    result["published_budget_on_affectnet"] = str(published)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))
    return result


if __name__ == "__main__":
    main(tyro.cli(Args))
