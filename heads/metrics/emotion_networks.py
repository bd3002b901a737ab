"""Networks that read emotions in faces: EmoNet, HSEmotion / EmotiEffLib and other ONNX files, and our own rule."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import grid_sample

from ...geometry.errors import HeadlabError
from .agreement import CLASSES
from .faces import Portrait
from .networks import NetworkCard, digest, open_onnx, read_state, upright_squares

#: Class orders of the networks that are understood; HSEmotion's is alphabetical.
_HSEMOTION = ("anger", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")
_FER = ("anger", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ReadEmotions:
    """Per face."""

    category: Int[ndarray, "n"]  #: number in `CLASSES`
    valence: Float[ndarray, "n"] | None  #: -1..1; None: the network does not say
    arousal: Float[ndarray, "n"] | None


@runtime_checkable
class EmotionNetwork(Protocol):
    """Faces -> emotions."""

    @property
    def card(self) -> NetworkCard: ...
    def read(self, portraits: Sequence[Portrait]) -> ReadEmotions: ...


def face_square(portrait: Portrait, size: int, margin: float = 1.0) -> Float[Tensor, "3 size size"]:
    """The upright-in-the-picture square about the landmarks' box; edges go on outside."""
    left, top, right, bottom = portrait.face.box if portrait.face is not None else (0, 0, 1, 1)
    side = margin * max(right - left, bottom - top)
    step = (torch.arange(size) + 0.5) / size - 0.5
    x, y = (left + right) / 2 + side * step, (top + bottom) / 2 + side * step
    image = portrait.image[None]
    shrink = int(side / size)
    if shrink > 1:
        image = torch.nn.functional.avg_pool2d(image, shrink)
    width, height = image.shape[-1] * max(1, shrink), image.shape[-2] * max(1, shrink)
    grid = torch.stack(torch.meshgrid(x / width * 2 - 1, y / height * 2 - 1, indexing="xy"), -1)
    return grid_sample(image, grid[None].to(image), padding_mode="border", align_corners=False)[0]


@dataclass(frozen=True)
class EmoNetReader:
    """EmoNet with its authors' weights, 5 or 8 classes."""

    net: Any
    card: NetworkCard

    @classmethod
    def load(cls, path: Path) -> "EmoNetReader":
        from .emonet import SIZE, emonet_from

        net = emonet_from(read_state(path))
        classes = net.expressions
        return cls(net, NetworkCard(f"EmoNet ({classes} classes)", digest(path), f"box of the landmarks, {SIZE} px"))

    def read(self, portraits: Sequence[Portrait]) -> ReadEmotions:
        from .emonet import SIZE

        with torch.inference_mode():
            out = self.net(torch.stack([face_square(p, SIZE) for p in portraits]))
        return ReadEmotions(out.scores.argmax(1).numpy(), out.valence.numpy(), out.arousal.numpy())


@dataclass(frozen=True)
class OnnxEmotion:
    """An ONNX network: HSEmotion's or EmotiEffLib's (8 classes, or those and valence and arousal; RGB, ImageNet's mean
    and deviation), or FER2013's seven classes from 64 x 64 grey."""

    session: Any
    card: NetworkCard
    size: int
    grey: bool
    outputs: int

    @classmethod
    def load(cls, path: Path) -> "OnnxEmotion":
        session = open_onnx(path)
        wanted, given = session.get_inputs()[0].shape, session.get_outputs()[0].shape
        channels, size, outputs = wanted[1], wanted[-1], given[-1]
        if (channels, outputs) not in ((3, 8), (3, 10), (1, 7)) or not isinstance(size, int):
            raise HeadlabError(
                f"{path} takes {wanted} and gives {given}: no emotion network that is understood (3 channels to 8 or "
                "10 numbers as HSEmotion, or 1 channel to 7 as FER2013)"
            )
        grey = channels == 1
        sees = f"box of the landmarks, {size} px, {'grey' if grey else 'RGB'}"
        return cls(session, NetworkCard(path.stem, digest(path), sees), size, grey, int(outputs))

    def read(self, portraits: Sequence[Portrait]) -> ReadEmotions:
        crops = torch.stack([face_square(p, self.size) for p in portraits])
        if self.grey:
            shown = ((crops * crops.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True) - 0.5) * 2
        else:
            mean, std = (crops.new_tensor(v)[:, None, None] for v in (_IMAGENET_MEAN, _IMAGENET_STD))
            shown = (crops - mean) / std
        name = self.session.get_inputs()[0].name
        out = np.concatenate([self.session.run(None, {name: x[None]})[0] for x in shown.numpy()])
        order = _FER if self.grey else _HSEMOTION
        number = np.array([CLASSES.index(label) for label in order])[out[:, : len(order)].argmax(1)]
        if self.outputs != 10:
            return ReadEmotions(number, None, None)
        return ReadEmotions(number, out[:, 8].clip(-1, 1), out[:, 9].clip(-1, 1))


@dataclass(frozen=True)
class RuleReader:
    """No trained emotion network: the default regressor's actions, and which of the eight categories explains them.

    Each category's actions (`heads.emotions`, EMFACS) are fitted to those read, by least squares on the face, with an
    intensity of 0..1; the best fit names the emotion, and its anchor on the circumplex times the intensity is valence
    and arousal. Below 0.1 it is neutral. Depends on nothing but the actions; grimaces of speech can mislead it.
    """

    reader: Any
    card: NetworkCard

    @classmethod
    def load(cls) -> "RuleReader":
        from ...diffusion.identity import load_shape_reader
        from ...geometry.regress.default_regressor import WEIGHTS

        sees = "upright square about the face, 96 px"
        return cls(load_shape_reader(), NetworkCard("headlab actions, by rule", digest(WEIGHTS), sees))

    @cached_property
    def _prototypes(self) -> Float[Tensor, "8 expr"]:
        from ..emotions import CATEGORIES, category, expression_of

        names = self.reader.regressor.model.expression_names
        return torch.stack([expression_of(category(name), names) for name in CATEGORIES])

    def read(self, portraits: Sequence[Portrait]) -> ReadEmotions:
        with torch.inference_mode():
            return self.judge(self.reader.read(upright_squares(portraits))[1])

    def judge(self, psi: Float[Tensor, "n expr"]) -> ReadEmotions:
        """The rule itself."""
        from ...datasets.synthetic.expressions import ANCHORS

        gram, kinds = self.reader.expression_gram, self._prototypes
        moves = kinds @ gram
        own = (moves * kinds).sum(-1).clamp(min=1e-9)
        intensity = (psi @ moves.mT / own).clamp(0, 1)
        left = -2 * intensity * (psi @ moves.mT) + intensity.square() * own  # what the fit saves, negative
        best = left.argmin(1)
        strength = intensity.gather(1, best[:, None])[:, 0]
        number = torch.where(strength < 0.1, 0, best).numpy()
        feeling = ANCHORS[number] * strength.numpy()[:, None]
        return ReadEmotions(number, feeling[:, 0], feeling[:, 1])


def blend_shape_distance(a: Portrait, b: Portrait) -> float | None:
    """Root mean square difference of MediaPipe's blend-shape scores, gaze left out; None where a face has none."""
    if a.face is None or b.face is None or a.face.scores is None or b.face.scores is None:
        return None
    kept = [not name.startswith(("eyeLook", "_")) for name in a.face.score_names]
    return float((a.face.scores - b.face.scores)[kept].square().mean().sqrt())
