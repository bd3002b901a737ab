"""The networks metrics look with: which one, whose weights, what it is shown. Each says so in every report."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from ...geometry.errors import HeadlabError
from .distributions import CLIP, INCEPTION
from .faces import Portrait


@dataclass(frozen=True)
class NetworkCard:
    """What a figure must say of its network."""

    name: str
    weights: str  #: first 12 digits of the file's SHA-256
    sees: str  #: which crop, which size


@runtime_checkable
class FeatureNetwork(Protocol):
    """Pictures -> features."""

    @property
    def card(self) -> NetworkCard: ...
    @property
    def needs_face(self) -> bool: ...
    def features(self, portraits: Sequence[Portrait]) -> Float[ndarray, "n dims"]: ...


def digest(path: Path) -> str:
    """First 12 digits of a file's SHA-256; of a folder's, over its files by name."""
    sha = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                sha.update(block)
    return sha.hexdigest()[:12]


@dataclass(frozen=True)
class DefaultIdentity:
    """The embedder that comes with headlab: trained on synthetic people, no ArcFace."""

    embedder: Any
    card: NetworkCard
    needs_face: bool = True

    @classmethod
    def load(cls) -> "DefaultIdentity":
        from ...geometry.regress.identity_net import WEIGHTS, load_identity_embedder

        sees = "upright square about the face, 96 px"
        return cls(load_identity_embedder(), NetworkCard("headlab identity", digest(WEIGHTS), sees))

    def features(self, portraits: Sequence[Portrait]) -> Float[ndarray, "n dims"]:
        with torch.inference_mode():
            return self.embedder.embed(upright_squares(portraits)).numpy()

    def stages(self, portraits: Sequence[Portrait]) -> list[Tensor]:
        """Activations after each block, for a perceptual distance."""
        net = self.embedder.net
        with torch.inference_mode():
            x = torch.relu(net.stem_norm(net.stem(upright_squares(portraits) * 2 - 1)))
            return [x, *((x := block(x)) for block in net.blocks)]


@dataclass(frozen=True)
class OnnxIdentity:
    """A recognition network of the ArcFace kind as ONNX: 112 pixels on the five-point template.

    Networks converted from MXNet call their input `data` and take RGB of 0..255; others take RGB of -1..1.
    """

    session: Any
    card: NetworkCard
    raw: bool
    needs_face: bool = True

    @classmethod
    def load(cls, path: Path) -> "OnnxIdentity":
        session = open_onnx(path)
        wanted = session.get_inputs()[0]
        if list(wanted.shape[1:]) != [3, 112, 112]:
            raise HeadlabError(f"{path} takes {wanted.shape}, not faces of 3 x 112 x 112: no recognition network")
        raw = wanted.name == "data"
        sees = f"five-point template, 112 px, RGB {'0..255' if raw else '-1..1'}"
        return cls(session, NetworkCard(path.stem, digest(path), sees), raw)

    def features(self, portraits: Sequence[Portrait]) -> Float[ndarray, "n dims"]:
        from ...datasets.aligned_crop import aligned_crop

        crops = torch.stack([aligned_crop(p.image, p.points) for p in portraits]).numpy()
        shown = crops * 255 if self.raw else crops * 2 - 1
        name = self.session.get_inputs()[0].name
        return np.concatenate([self.session.run(None, {name: x[None].astype(np.float32)})[0] for x in shown])


@dataclass(frozen=True)
class InceptionFeatures:
    """Inception of 2015 over whole pictures: what FID, rFID and IS are defined with."""

    net: Any
    card: NetworkCard
    needs_face: bool = False

    @classmethod
    def load(cls, path: Path) -> "InceptionFeatures":
        from .inception import inception_from

        return cls(inception_from(read_state(path)), NetworkCard(INCEPTION, digest(path), "whole picture, 299 px"))

    def features(self, portraits: Sequence[Portrait]) -> Float[ndarray, "n dims"]:
        return self._run(portraits, 0)

    def probabilities(self, portraits: Sequence[Portrait]) -> Float[ndarray, "n classes"]:
        """Softmax over its 1008 classes, without the last layer's bias."""
        return self._run(portraits, 1)

    def _run(self, portraits: Sequence[Portrait], which: int) -> ndarray:
        with torch.inference_mode():
            out = [self.net(p.image[None])[which] for p in portraits]
        joined = torch.cat(out)
        return (joined.softmax(-1) if which else joined).numpy()


@dataclass(frozen=True)
class TransformerFeatures:
    """CLIP's image tower or DINOv2 from a folder as `transformers` saves them; whole pictures."""

    model: Any
    processor: Any
    card: NetworkCard
    needs_face: bool = False

    @classmethod
    def load(cls, folder: Path) -> "TransformerFeatures":
        """Raises:
        HeadlabError: no such folder, or a model of another kind."""
        import transformers

        try:
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
            kind = {
                "clip": "CLIPVisionModelWithProjection",
                "clip_vision_model": "CLIPVisionModelWithProjection",
                "dinov2": "Dinov2Model",
            }.get(config.model_type)
            if kind is None:
                raise HeadlabError(f"{folder} holds a {config.model_type} model; CLIP and DINOv2 are understood")
            model = getattr(transformers, kind).from_pretrained(folder, local_files_only=True)
            processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:160]
            raise HeadlabError(
                f"{folder} is no folder of CLIP or DINOv2 ({reason}); save one with save_pretrained"
            ) from error
        vision = getattr(model.config, "vision_config", model.config)
        large = (vision.image_size, vision.patch_size, vision.hidden_size) == (336, 14, 1024)
        name = CLIP if "clip" in config.model_type and large else f"{config.model_type} {Path(folder).name}"
        sees = f"whole picture, {vision.image_size} px"
        return cls(model.eval().requires_grad_(False), processor, NetworkCard(name, digest(Path(folder)), sees))

    def features(self, portraits: Sequence[Portrait]) -> Float[ndarray, "n dims"]:
        shown = [(p.image.permute(1, 2, 0) * 255).round().byte().numpy() for p in portraits]
        pixels = self.processor(images=shown, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            out = self.model(pixel_values=pixels)
        return (out.image_embeds if hasattr(out, "image_embeds") else out.pooler_output).numpy()


def open_onnx(path: Path) -> Any:
    """An ONNX session on the CPU.

    Raises:
        HeadlabError: onnxruntime is not installed, or the file is no network.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise HeadlabError(f"{path} needs onnxruntime; run `pip install onnxruntime`") from error
    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds, which it does not export
        reason = " ".join(str(error).split())[:120]
        raise HeadlabError(f"{path} is no ONNX network ({reason}); get the file again") from error


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from a .pth or .safetensors, without running anything.

    Raises:
        HeadlabError: something else is in it.
    """
    from ...geometry.safe_pickle import load_torch

    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise HeadlabError(f"{path} cannot be read ({error}); get the file again") from error
    data = load_torch(path)
    state = data.get("state_dict", data) if isinstance(data, dict) else data
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise HeadlabError(f"{path} holds no network's weights")
    return state


def upright_squares(portraits: Sequence[Portrait]) -> Float[Tensor, "n 3 96 96"]:
    """Face crops as our own networks take them."""
    from ...geometry.regress.default_crop import UprightSquare

    crops = [UprightSquare.from_landmarks(p.points.to(p.image)[None]).cut(p.image[None]) for p in portraits]
    return torch.cat(crops)
