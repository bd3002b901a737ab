"""What is measured of edits whose true outcome is known.

Drift is the root mean square displacement, in mm, of the face's vertices between two readings of β, size and place left
out (`diffusion.identity.face_gram`), averaged over the pictures: against the photo that was edited ("drift"), and
against the true edit ("excess"), in which the reader's own dependence on expression has no part. What all edits of a
person have in common of the excess is "systematic" (mm^2, without the share that noise has in a mean of few): another
face, and not a reader's mood. The fit is to all edits of a person at once, with one β, against the same of the photos.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate, pad

from ...datasets.synthetic.pairs import EditPairBatch
from ...diffusion.identity import DefaultShapeReader, Embedder, ShapeReader, face_gram, resized
from ...diffusion.losses import l_id_deca
from ...geometry.models.head_model import HeadModel
from ...geometry.regress.default_crop import CROP
from ..recipes.reader_regressor import SecondReader


@dataclass(frozen=True)
class Judges:
    """Everything that reads pictures here."""

    readers: Mapping[str, ShapeReader]  #: of β; the first is the one that training uses
    expression: DefaultShapeReader  #: reads ψ
    embedder: Embedder
    mobileface: "MobileFace | None"  #: None where the network is not there
    second: SecondReader | None = None  #: another reader of ψ
    #: Readings of the photos and of the true edits, made once: one judge is for one set of held-out pairs.
    known: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


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
    if judges.second is not None:
        numbers["psi_error_unseen"] = (_in_parts(judges.second.expressions, pictures) - psi).abs().mean(1)
    for name, reader in judges.readers.items():
        if name not in judges.known:
            judges.known[name] = _in_parts(reader.shapes, source), _in_parts(reader.shapes, truth)
        own, ideal = judges.known[name]
        codes = _in_parts(reader.shapes, pictures)
        numbers |= drifts(name, reader.gram, codes, own, ideal)
        numbers[f"systematic_{name}"] = systematic(codes - ideal, held.person, reader.gram)
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


def systematic(
    excess: Float[Tensor, "batch shape"], person: Int[Tensor, "batch"], gram: Float[Tensor, "shape shape"]
) -> Float[Tensor, "batch"]:
    """|E e|^2 of each person's excess e, mm^2: the mean of e_i^T G e_j over i != j.

    At the person's first picture, else NaN. It has no bias by the noise of single readings, and may be negative.
    """
    out = torch.full((len(excess),), torch.nan)
    for who in person.unique():
        mine = (person == who).nonzero()[:, 0]
        if len(mine) > 1:
            e = excess[mine]
            inner = (e @ gram) @ e.T
            out[mine[0]] = (inner.sum() - inner.trace()) / (len(mine) * (len(mine) - 1))
    return out


@dataclass(frozen=True)
class SteadyReader:
    """A reader averaged over the same few small moves of the crop: what it says of the picture and not of the crop."""

    reader: ShapeReader
    views: int = 4

    @property
    def gram(self) -> Float[Tensor, "shape shape"]:
        return self.reader.gram

    def shapes(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch shape"]:
        chance = torch.randn(self.views, 4, generator=torch.Generator().manual_seed(0))
        readings = []
        for zoom, turn, *shift in (chance * torch.tensor([0.05, 0.05, 0.06, 0.06])).tolist():
            c, s = math.exp(zoom) * math.cos(turn), math.exp(zoom) * math.sin(turn)
            theta = pictures.new_tensor([[c, -s, shift[0]], [s, c, shift[1]]]).expand(len(pictures), 2, 3)
            grid = affine_grid(theta, [len(pictures), 3, CROP, CROP], align_corners=False)
            moved = grid_sample(pictures, grid, padding_mode="border", align_corners=False)
            readings.append(self.reader.shapes(moved))
        return torch.stack(readings).mean(0)


def ssim(a: Float[Tensor, "batch 3 height width"], b: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch"]:
    """Structural similarity (Wang et al. 2004), Gaussian windows."""
    from skimage.metrics import structural_similarity

    pairs = zip(a.movedim(1, -1).numpy(), b.movedim(1, -1).numpy(), strict=True)
    options = {"channel_axis": -1, "data_range": 1.0, "gaussian_weights": True, "use_sample_covariance": False}
    return torch.tensor([float(np.asarray(structural_similarity(x, y, **options))) for x, y in pairs])


class LandmarkReader:
    """β by optimisation: landmarks found in the enlarged pictures of a person, then one `fit_landmarks` to them all."""

    def __init__(self, model: HeadModel, detector):
        from ...geometry.fitting.landmark_fit import LandmarkBasis

        self.basis, self.detector = LandmarkBasis.build(model), detector
        self.gram = face_gram(model, model.shapes)

    def shapes(
        self, pictures: Float[Tensor, "batch 3 height width"], person: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch shape"]:
        """At the first picture of each person; else, and where fewer than half of the faces are found, NaN."""
        from ...geometry.fitting.landmark_fit import fit_landmarks

        large = interpolate(pictures, size=(256, 256), mode="bicubic").clamp(0, 1)
        large = pad(large, (64, 64, 64, 64), mode="replicate")
        out = torch.full((len(pictures), len(self.gram)), torch.nan)
        for who in person.unique():
            mine = (person == who).nonzero()[:, 0]
            faces = [found[0].points for found in map(self.detector.detect, large[mine]) if found]
            if 2 * len(faces) > len(mine):
                size = (int(large.shape[-2]), int(large.shape[-1]))
                out[mine[0]] = fit_landmarks(self.basis, torch.stack(faces), [size] * len(faces)).codes.shape[0]
        return out


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
