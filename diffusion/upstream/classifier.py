"""Linear classifiers of DiffAE's codes: what a code shows, and which way to move it to show something else.

    logits = W (z - mean) / std + b
    moved  = ((z - mean) / std + amount sqrt(size) w / |w|) std + mean          (Preechakul et al. 2022)

w is the attribute's row of W. Of a softmax over classes only differences of rows mean anything, so there the row counts
from the mean row. The authors' notebook moves by amounts about 0.3.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear, normalize

from ...geometry.errors import HeadlabError
from ...geometry.files import write_bytes
from .archives import open_lightning
from .diffae_files import LatentStatistics

#: Several labels at once, each yes or no (the published classifier), or one of several classes.
Kind = Literal["multi", "single"]

#: AffectNet's eight expressions, by number.
AFFECTNET = ("Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Anger", "Contempt")
#: CelebA-HQ's forty attributes, in the order of its annotation and of the released classifiers.
CELEBA = tuple(
    """5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair
    Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male
    Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks
    Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace
    Wearing_Necktie Young""".split()
)

Codes = Float[Tensor, "*batch size"]


@dataclass(frozen=True)
class LatentClassifier:
    """Rows, and the statistics of the codes they were trained on."""

    names: tuple[str, ...]
    weight: Float[Tensor, "classes size"]
    bias: Float[Tensor, "classes"]
    statistics: LatentStatistics
    kind: Kind = "multi"
    averaged: tuple[Tensor, Tensor] | None = None  #: moving averages of weight and bias

    def __post_init__(self):
        if len(self.names) != len(self.weight) or self.weight.shape[1] != len(self.statistics.mean):
            raise HeadlabError(
                f"a classifier of {len(self.weight)} classes over {self.weight.shape[1]} numbers does not go with "
                f"{len(self.names)} names and statistics of {len(self.statistics.mean)}; give those it was trained with"
            )

    def logits(self, code: Codes, averaged: bool = False) -> Float[Tensor, "*batch classes"]:
        """Before sigmoid (multi) or softmax (single)."""
        weight, bias = self.averaged if averaged and self.averaged is not None else (self.weight, self.bias)
        return linear(self.statistics.normalized(code), weight.to(code), bias.to(code))

    def probabilities(self, code: Codes) -> Float[Tensor, "*batch classes"]:
        logits = self.logits(code)
        return logits.sigmoid() if self.kind == "multi" else logits.softmax(-1)

    def index(self, name: str) -> int:
        """Number of an attribute; case does not matter.

        Raises:
            HeadlabError: there is none of this name.
        """
        lowered = [known.lower() for known in self.names]
        if name.lower() not in lowered:
            raise HeadlabError(f"this classifier knows no {name!r}; it knows {', '.join(self.names)}")
        return lowered.index(name.lower())

    def direction(self, name: str) -> Float[Tensor, "size"]:
        """Unit direction of an attribute among normalised codes."""
        row = self.weight[self.index(name)]
        return normalize(row if self.kind == "multi" else row - self.weight.mean(0), dim=0)

    def moved(self, code: Codes, name: str, amount: float) -> Codes:
        """Codes that show more of an attribute (amount > 0), or less."""
        step = amount * code.shape[-1] ** 0.5 * self.direction(name)
        return self.statistics.restored(self.statistics.normalized(code) + step.to(code))

    def save(self, path: Path, about: dict[str, Any] | None = None) -> None:
        """Write safetensors with the published names of the tensors; atomically."""
        from safetensors.torch import save

        weight, bias = self.averaged or (self.weight, self.bias)
        tensors = {
            "conds_mean": self.statistics.mean[None],
            "conds_std": self.statistics.std[None],
            "classifier.weight": self.weight,
            "classifier.bias": self.bias,
            "ema_classifier.weight": weight,
            "ema_classifier.bias": bias,
        }
        words = {"names": json.dumps(self.names), "kind": self.kind, "about": json.dumps(about or {})}
        write_bytes(path, save({name: x.detach().cpu().clone().contiguous() for name, x in tensors.items()}, words))


def load_classifier(
    path: Path, statistics: LatentStatistics | None = None, names: tuple[str, ...] | None = None
) -> LatentClassifier:
    """Read a classifier: the authors' last.ckpt, or what `LatentClassifier.save` wrote.

    Args:
        path: the file.
        statistics: of the codes, where the file has none.
        names: of the classes; where None the file's own, or by their number CelebA-HQ's 40 or AffectNet's 8.

    Raises:
        UnsafePickleError: the file would run something.
        HeadlabError: missing, damaged, another kind of file, or classes without names.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        tensors, words = _of_safetensors(path)
    else:
        with open_lightning(path) as file:
            if "classifier" not in file.sections():
                from .diffae_files import describe

                raise HeadlabError(f"{path} is no classifier: {describe(file)}; give DiffAE's *_cls/last.ckpt")
            wanted = [f"{p}classifier.{leaf}" for p in ("", "ema_") for leaf in ("weight", "bias")]
            missing = [name for name in wanted if name not in file.shapes]
            if missing:
                raise HeadlabError(f"{path} lacks {', '.join(missing)}; get it again")
            tensors = {name: file.tensor(name) for name in (*wanted, "conds_mean", "conds_std") if name in file.shapes}
        words = {}
    if "conds_mean" in tensors:
        statistics = LatentStatistics(tensors["conds_mean"].flatten(), tensors["conds_std"].flatten())
    if statistics is None:
        raise HeadlabError(f"{path} has no statistics of codes (conds_mean, conds_std); give latent.pkl as well")
    weight = tensors["classifier.weight"]
    known = {len(CELEBA): CELEBA, len(AFFECTNET): AFFECTNET}.get(len(weight))
    names = names or (tuple(json.loads(words["names"])) if "names" in words else known)
    if names is None:
        raise HeadlabError(f"{path} has {len(weight)} classes without names; say their names, in order")
    return LatentClassifier(
        names,
        weight,
        tensors["classifier.bias"],
        statistics,
        "single" if words.get("kind") == "single" else "multi",
        (tensors["ema_classifier.weight"], tensors["ema_classifier.bias"]),
    )


def _of_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            words = file.metadata() or {}
            if missing := {"classifier.weight", "classifier.bias", "ema_classifier.weight"} - set(tensors):
                raise KeyError(f"no {min(missing)}")
            return tensors, words
    except (SafetensorError, OSError, KeyError) as error:
        reason = " ".join(str(error).split())[:120]
        raise HeadlabError(f"{path} is no classifier or a damaged one ({reason}); train it anew") from error
