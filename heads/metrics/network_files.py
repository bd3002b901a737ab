"""Files of networks that a user brings for evaluation. Imports nothing heavy: commands show it in their help."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class NetworkFiles:
    """Files of networks; for what is not named here the assets folder is looked through."""

    identity: Path | None = None
    """Recognition network of the ArcFace kind: .onnx, or IResNet's .pth."""
    inception: Path | None = None
    """pt_inception-2015-12-05-6726825d.pth: FID, rFID, IS."""
    clip: Path | None = None
    """Folder of CLIP as transformers saves it: CMMD."""
    dino: Path | None = None
    """Folder of DINOv2: precision and recall, Frechet distance."""
    alexnet: Path | None = None
    """alexnet-owt-7be5be79.pth: LPIPS, with lpips."""
    lpips: Path | None = None
    """LPIPS's linear layers, v0.1/alex.pth."""
    emotion: Path | None = None
    """EmoNet's emonet_8.pth or emonet_5.pth, or HSEmotion's / EmotiEffLib's .onnx."""
    quality: Path | None = None
    """CR-FIQA's backbone .pth: face-image quality."""
    face_landmarker: Path | None = None
    """MediaPipe's face_landmarker.task: blend-shape scores."""
