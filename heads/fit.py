"""fit_photos: one person in one or more photos -> HeadFit.

landmarks (MediaPipe) ──> Levenberg-Marquardt ──> photometric refinement ──> texture
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.code import HeadCode
from ..geometry.errors import HeadlabError, NoFaceError
from ..geometry.fitting.landmark_fit import LandmarkBasis, LandmarkFit, LandmarkFitConfig, fit_landmarks
from ..geometry.fitting.photometric import PhotometricConfig, PhotometricFit, refine_photometric
from ..geometry.frame import Frame
from ..geometry.landmarks import FaceLandmarks, LandmarkDetector
from ..geometry.models.head_model import HeadModel
from ..geometry.raster import Raster
from ..geometry.texture.albedo_model import AlbedoModel
from ..geometry.texture.complete import complete, merge, mirror_map, mirror_partners, without_strangers
from ..geometry.texture.default_albedo import default_albedo
from ..geometry.texture.unwrap import unwrap
from ..geometry.texture.uv_raster import rasterize_uv
from .head_fit import HeadFit

Progress = Callable[[str], None]


@dataclass(frozen=True)
class FitConfig:
    """How to fit."""

    face: int = 0  #: which face of each photo, 0 the largest
    focal: float | int | None = None  #: focal length in pixels; None: from EXIF, or else fitted
    photometric: bool = True
    landmarks: LandmarkFitConfig = field(default_factory=LandmarkFitConfig)
    pixels: PhotometricConfig = field(default_factory=PhotometricConfig)


@dataclass(frozen=True, eq=False)
class FitTools:
    """A head model prepared for fitting; made once, used for any number of photos."""

    name: str
    model: HeadModel
    basis: LandmarkBasis
    albedo: AlbedoModel
    uv_raster: Raster
    mirror: Float[Tensor, "size size 2"]

    @classmethod
    def build(cls, name: str, model: HeadModel, texture_size: int = 1024) -> "FitTools":
        """Prepare a model.

        Raises:
            HeadlabError: the model lacks the texture layout or the regions that fitting photos needs.
        """
        if model.uvs is None or not {"face", "lips", "eyelids", "eyes"} <= set(model.regions):
            raise HeadlabError(
                f"{name} has no texture coordinates or no region masks, which fitting photos needs; "
                "fit with the default model and convert the result"
            )
        uv_raster = rasterize_uv(model, texture_size)
        mirror = mirror_map(model, uv_raster, mirror_partners(model.template))
        return cls(name, model, LandmarkBasis.build(model), default_albedo(model), uv_raster, mirror)


def detect_face(frame: Frame, detector: LandmarkDetector, face: int = 0) -> tuple[FaceLandmarks, list[FaceLandmarks]]:
    """The chosen face of a photo, and all of them.

    Raises:
        NoFaceError: there is none, or not as many as `face` asks for.
    """
    faces = detector.detect(frame.image)
    if not faces:
        raise NoFaceError(f"{frame.source}: no face found; use a photo in which a face is at least 20 pixels wide")
    if face >= len(faces):
        raise NoFaceError(f"{frame.source}: asked for face {face}, but only {len(faces)} found; number them from 0")
    return faces[face], faces


def fit_photos(
    tools: FitTools,
    frames: Sequence[Frame],
    detector: LandmarkDetector,
    config: FitConfig | None = None,
    progress: Progress = lambda stage: None,
) -> HeadFit:
    """Fit one person's head to one or more photos.

    Args:
        tools: prepared head model.
        frames: the photos, all of the same person.
        detector: landmark network.
        config: see `FitConfig`.
        progress: called with the name of each stage as it starts.

    Returns:
        Shared identity and albedo; expression, pose, light and camera per photo.

    Raises:
        NoFaceError: a photo shows no face.
    """
    config = config or FitConfig()
    if not frames:
        raise HeadlabError("no photos given; name at least one")
    if config.face < 0:
        raise HeadlabError(f"there is no face {config.face}; faces are numbered from 0, the largest")
    if config.focal is not None and not 0 < config.focal < math.inf:
        raise HeadlabError(
            f"the focal length must be a positive number of pixels, not {config.focal:g}; or leave it out"
        )
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        progress(name)
        start = time.perf_counter()
        yield
        seconds[name] = round(time.perf_counter() - start, 4)

    with stage("landmarks"):
        found = [detect_face(frame, detector, config.face) for frame in frames]
        chosen = torch.stack([face.points for face, _ in found])
    with stage("geometry"):
        sizes = [frame.size for frame in frames]
        focal = [frame.focal if config.focal is None else config.focal for frame in frames]
        geometry = fit_landmarks(tools.basis, chosen, sizes, focal=focal, config=config.landmarks)
        # Fitting is in double precision; rendering is not.
        codes = geometry.codes.to(dtype=torch.float32)
        cameras = tuple(camera.to(dtype=torch.float32) for camera in geometry.cameras)
    images = [frame.image for frame in frames]
    pixels: PhotometricFit | None = None
    if config.photometric:
        with stage("photometric"):
            pixels = refine_photometric(tools.model, tools.albedo, codes, cameras, images, chosen, config.pixels)
            codes = pixels.codes
    with stage("texture"):
        albedo = _texture(tools, codes, cameras, frames)
    report = _report(tools, frames, [faces for _, faces in found], config, geometry, pixels, seconds)
    sources = tuple(str(frame.source.name) if frame.source else f"photo {i}" for i, frame in enumerate(frames))
    return HeadFit(tools.name, codes, cameras, albedo, sources, report)


def _texture(tools: FitTools, codes: HeadCode, cameras: tuple, frames: Sequence[Frame]) -> Float[Tensor, "3 size size"]:
    size = tools.mirror.shape[0]
    code = codes.albedo[0] if codes.albedo is not None else tools.albedo.basis.new_zeros(tools.albedo.components)
    expected = torch.nn.functional.interpolate(
        tools.albedo.texture(code)[None], (size, size), mode="bilinear", align_corners=False
    )[0]
    seen = []
    for i, (camera, frame) in enumerate(zip(cameras, frames, strict=True)):
        photo = unwrap(tools.model, tools.uv_raster, codes[i], camera, frame.image, frame.mask)
        seen.append(without_strangers(tools.model, tools.uv_raster, photo, expected))
    return complete(tools.model, tools.uv_raster, merge(seen), expected, tools.mirror)


def _report(
    tools: FitTools,
    frames: Sequence[Frame],
    faces: list[list[FaceLandmarks]],
    config: FitConfig,
    geometry: LandmarkFit,
    pixels: PhotometricFit | None,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """What was done and how well, for report.json."""
    photos = []
    for i, frame in enumerate(frames):
        photos.append(
            {
                "source": str(frame.source),
                "size": list(frame.size),
                "landmark_nme": round(geometry.report.nme[i], 5),
                "focal_pixels": round(float(geometry.cameras[i].K[0, 0]), 1),
                "focal_from": "option" if config.focal is not None else "EXIF" if frame.focal else "fitted",
                "face": config.face,
                "faces": [
                    {"box": [round(x, 1) for x in face.box], "confidence": round(face.confidence, 3)}
                    for face in faces[i]
                ],
            }
        )
    report: dict[str, Any] = {
        "landmark_nme": round(sum(geometry.report.nme) / len(frames), 5),
        "model": tools.name,
        "license": tools.model.license.name,
        "commercial_use": tools.model.license.commercial,
        "photos": photos,
        "seconds": seconds,
        "landmark_solver": {
            "iterations": geometry.report.iterations,
            "model_evaluations": geometry.report.evaluations,
            "converged": geometry.report.converged,
        },
        "versions": {name: version(name) for name in ("headlab", "torch", "mediapipe", "numpy", "anny")},
    }
    if pixels is not None:
        report["photometric"] = {
            "colour_error_before": round(pixels.error_before, 4),
            "colour_error_after": round(pixels.error_after, 4),
        }
    return report
