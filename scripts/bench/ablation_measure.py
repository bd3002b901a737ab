"""What is measured of edits whose true outcome is known.

Drift is the root mean square displacement, in mm, of the face's vertices between two readings of β, size and place left
out (`diffusion.identity.face_gram`), averaged over the pictures: against the photo that was edited ("drift"), and
against the true edit ("excess"), in which the reader's own dependence on expression has no part.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, pad

from ...datasets.synthetic.pairs import EditPairBatch
from ...diffusion.identity import DefaultShapeReader, Embedder, ShapeReader, face_gram, resized
from ...diffusion.losses import l_id_deca
from ...geometry.models.head_model import HeadModel
from ...geometry.regress.default_crop import CROP


@dataclass(frozen=True)
class Judges:
    """Everything that reads pictures here."""

    readers: dict[str, ShapeReader]  #: of β; the first is the one that training uses
    expression: DefaultShapeReader  #: reads ψ
    embedder: Embedder
    mobileface: "MobileFace | None"  #: None where the network is not there


def measure(
    pictures: Float[Tensor, "batch 3 height width"], held: EditPairBatch, judges: Judges
) -> dict[str, Float[Tensor, "batch"]]:
    """Of edits from face 0 to face 1 of each pair: one number per picture."""
    source, truth = (held.images[:, k].float() / 255 for k in (0, 1))
    numbers: dict[str, Tensor] = {
        "psnr": -10 * (pictures - truth).square().flatten(1).mean(1).clamp(min=1e-10).log10(),  # equal: 100
        "ssim": ssim(pictures, truth),
    }
    psi = held.codes.expression[:, 1]
    read, ideal = (_in_parts(lambda x: _psi(judges.expression, x), p) for p in (pictures, truth))
    numbers["psi_error"] = (read - psi).abs().mean(1)
    numbers["psi_to_true_edit"] = (read - ideal).abs().mean(1)
    for name, reader in judges.readers.items():
        numbers |= drifts(name, reader.gram, *(_in_parts(reader.shapes, x) for x in (pictures, source, truth)))
    seen, own = (_in_parts(judges.embedder.vectors, x) for x in (pictures, source))
    numbers["cosine"] = (seen * own).sum(-1)
    if judges.mobileface is not None:
        numbers["cosine_mobileface"] = (judges.mobileface(pictures, 1) * judges.mobileface(source, 0)).sum(-1)
    return numbers


def drifts(
    name: str,
    gram: Float[Tensor, "shape shape"],
    edited: Float[Tensor, "batch shape"],
    source: Float[Tensor, "batch shape"],
    truth: Float[Tensor, "batch shape"],
) -> dict[str, Float[Tensor, "batch"]]:
    """Millimetres; see the module's docstring."""
    return {
        f"drift_{name}": l_id_deca(edited, source, gram).clamp(min=0).sqrt(),
        f"excess_{name}": l_id_deca(edited, truth, gram).clamp(min=0).sqrt(),
    }


def ssim(a: Float[Tensor, "batch 3 height width"], b: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch"]:
    """Structural similarity (Wang et al. 2004), Gaussian windows."""
    from skimage.metrics import structural_similarity

    pairs = zip(a.movedim(1, -1).numpy(), b.movedim(1, -1).numpy(), strict=True)
    options = {"channel_axis": -1, "data_range": 1.0, "gaussian_weights": True, "use_sample_covariance": False}
    return torch.tensor([float(np.asarray(structural_similarity(x, y, **options))) for x, y in pairs])


class LandmarkReader:
    """β by optimisation: landmarks found in the enlarged picture, then `fit_landmarks`. NaN where no face is found."""

    def __init__(self, model: HeadModel, detector):
        from ...geometry.fitting.landmark_fit import LandmarkBasis

        self.basis, self.detector = LandmarkBasis.build(model), detector
        self.gram = face_gram(model, model.shapes)

    def shapes(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch shape"]:
        from ...geometry.fitting.landmark_fit import fit_landmarks

        large = interpolate(pictures, size=(256, 256), mode="bicubic").clamp(0, 1)
        out = []
        for picture in pad(large, (64, 64, 64, 64), mode="replicate"):
            faces = self.detector.detect(picture)
            if not faces:
                out.append(torch.full((len(self.gram),), torch.nan))
                continue
            size = (int(picture.shape[-2]), int(picture.shape[-1]))
            out.append(fit_landmarks(self.basis, faces[0].points[None], [size]).codes.shape[0])
        return torch.stack(out)


class MobileFace:
    """An ONNX face recogniser, on crops aligned by the known landmarks."""

    def __init__(self, path: Path, model: HeadModel, held: EditPairBatch):
        import onnxruntime

        self.session = onnxruntime.InferenceSession(str(path))
        faces = [model.landmarks3d(model.vertices(held.codes[:, k]), "478") for k in (0, 1)]
        self.points = [held.camera.project(face) for face in faces]

    def __call__(self, pictures: Float[Tensor, "batch 3 height width"], face: int) -> Float[Tensor, "batch dims"]:
        """Unit vectors of pictures of all held-out pairs with this face."""
        from ...datasets.aligned_crop import aligned_crop

        scale = 4
        large = interpolate(pictures, scale_factor=scale, mode="bicubic").clamp(0, 1)
        crops = [aligned_crop(x, p * scale)[None] for x, p in zip(large, self.points[face], strict=True)]
        out = [np.asarray(self.session.run(None, {"data": (c * 255).numpy().astype(np.float32)})[0]) for c in crops]
        return torch.nn.functional.normalize(torch.from_numpy(np.concatenate(out)), dim=-1)


def _psi(reader: DefaultShapeReader, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch expr"]:
    return reader.regressor.numbers(resized(pictures, CROP)).expression


@torch.no_grad()
def _in_parts(read: Callable[[Tensor], Tensor], pictures: Float[Tensor, "batch 3 height width"]) -> Tensor:
    return torch.cat([read(part) for part in pictures.split(64)])
