"""Which networks an evaluation looks with: the user's where there are files, headlab's own by their own names."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...geometry.errors import HeadlabError
from ..assets import find_asset
from .emotion_networks import EmoNetReader, EmotionNetwork, OnnxEmotion, RuleReader
from .image import LPIPS, lpips_from
from .iresnet import IResNetIdentity
from .network_files import NetworkFiles
from .networks import (
    DefaultIdentity,
    FeatureNetwork,
    InceptionFeatures,
    NetworkCard,
    OnnxIdentity,
    TransformerFeatures,
    digest,
    read_state,
)
from .report import Missing

#: What has no stand-in: measure -> (option, what and where to get it).
_ONLY_WITH = {
    "FID, rFID, IS": ("inception", "pt_inception-2015-12-05-6726825d.pth of github.com/mseitzer/pytorch-fid"),
    "CMMD": ("clip", "openai/clip-vit-large-patch14-336, saved with transformers"),
    "LPIPS": ("lpips", "v0.1/alex.pth of github.com/richzhang/PerceptualSimilarity and torchvision's AlexNet"),
    "face-image quality": ("quality", "CR-FIQA's backbone of github.com/fdbtrs/CR-FIQA"),
    "blend-shape distance": ("face_landmarker", "face_landmarker.task of MediaPipe"),
}


@dataclass(frozen=True)
class Networks:
    """Loaded networks."""

    identity: FeatureNetwork
    own_identity: DefaultIdentity
    emotion: EmotionNetwork
    inception: InceptionFeatures | None
    sets: tuple[FeatureNetwork, ...]  #: for distances of sets, besides Inception
    lpips: tuple[LPIPS, NetworkCard] | None
    quality: IResNetIdentity | None
    task_file: Path | None
    missing: tuple[Missing, ...]


def load_networks(files: NetworkFiles, command: str = "headlab evaluate") -> Networks:
    """Load what there is; say what is missing and which command adds it.

    Raises:
        HeadlabError: a file that was named cannot be used.
    """
    found = {name: path for name in vars(files) if (path := getattr(files, name) or _asset(name)) is not None}
    for path in found.values():
        if not path.exists():
            raise HeadlabError(f"{path} is not there; give the path of an existing file")
    own = DefaultIdentity.load()
    identity = found.get("identity")
    lpips = None
    if "lpips" in found and "alexnet" in found:
        net = lpips_from(read_state(found["alexnet"]), read_state(found["lpips"]))
        weights = f"{digest(found['alexnet'])}+{digest(found['lpips'])}"
        lpips = net, NetworkCard("LPIPS 0.1 AlexNet", weights, "whole picture")
    have = set(found) - (set() if lpips else {"lpips"})
    missing = tuple(
        Missing(measure, f"{what} is not there", f"add --{option.replace('_', '-')} FILE to `{command}`")
        for measure, (option, what) in _ONLY_WITH.items()
        if option not in have
    )
    sets: list[FeatureNetwork] = [TransformerFeatures.load(found[name]) for name in ("clip", "dino") if name in found]
    who = own if identity is None else _recognition(identity)
    return Networks(
        identity=who,
        own_identity=own,
        emotion=_emotion(found["emotion"]) if "emotion" in found else RuleReader.load(),
        inception=InceptionFeatures.load(found["inception"]) if "inception" in found else None,
        sets=(*sets, who),
        lpips=lpips,
        quality=IResNetIdentity.load(found["quality"]) if "quality" in found else None,
        task_file=found.get("face_landmarker"),
        missing=missing,
    )


def _asset(name: str) -> Path | None:
    return find_asset("face_landmarker") if name == "face_landmarker" else None


def _recognition(path: Path) -> Any:
    return OnnxIdentity.load(path) if path.suffix == ".onnx" else IResNetIdentity.load(path)


def _emotion(path: Path) -> EmotionNetwork:
    return OnnxEmotion.load(path) if path.suffix == ".onnx" else EmoNetReader.load(path)
