"""fit_photos: one person in one or more photos -> HeadFit.

landmarks (MediaPipe) ──> Levenberg-Marquardt ──> photometric refinement ──> texture      method "optimise"
landmarks ──> default regressor ─────────────────────────────────────────> texture      method "regress"
landmarks ──> default regressor ──> Levenberg-Marquardt ──> fewer, coarser steps ──> texture      method "auto"
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.camera import Camera
from ..geometry.code import HeadCode
from ..geometry.errors import HeadlabError, NoFaceError
from ..geometry.fitting.landmark_fit import LandmarkBasis, LandmarkFit, LandmarkFitConfig, fit_landmarks
from ..geometry.fitting.photometric import PhotometricConfig, PhotometricFit, refine_photometric
from ..geometry.frame import Frame
from ..geometry.landmarks import FaceLandmarks, LandmarkDetector
from ..geometry.models.head_model import HeadModel
from ..geometry.raster import Raster
from ..geometry.regress.default_regressor import DefaultRegressor, load_default_regressor
from ..geometry.texture.albedo_model import AlbedoModel
from ..geometry.texture.complete import complete, merge, mirror_map, mirror_partners, without_strangers
from ..geometry.texture.default_albedo import default_albedo
from ..geometry.texture.unwrap import unwrap
from ..geometry.texture.uv_raster import rasterize_uv
from .fit_report import Progress, Stages, fit_report, source_names
from .head_fit import HeadFit

#: Masks that skin colour and pixels are fitted with.
PHOTOMETRIC_REGIONS = {"face", "lips", "eyelids", "eyes"}
#: Albedo expected of unseen skin where there is no albedo model, sRGB.
_PLAIN_SKIN = (0.76, 0.58, 0.49)
#: Half as many steps as by default, on a third of the pixels, and longer ones after a gentle start: the same error in
#: less than half the time (`scripts/bench/auto.py`; it is this schedule that saves the time, not where it starts).
QUICK_PIXELS = PhotometricConfig(
    resolution=96,
    steps=30,
    resolve_every=10,
    rate_shape=0.068,
    rate_expression=0.0204,
    rate_rotation=0.0068,
    rate_translation=0.00255,
    warmup=4,
)


@dataclass(frozen=True)
class FitConfig:
    """How to fit."""

    method: Literal["optimise", "regress", "auto"] = "optimise"  #: auto: the regressor's reading, then refined
    face: int = 0  #: which face of each photo, 0 the largest
    focal: float | int | None = None  #: focal length in pixels; None: from EXIF, or else fitted
    photometric: bool = True
    landmarks: LandmarkFitConfig = field(default_factory=LandmarkFitConfig)
    pixels: PhotometricConfig | None = None  #: None: the method's, `QUICK_PIXELS` for "auto"


@dataclass(frozen=True, eq=False)
class FitTools:
    """A head model prepared for fitting; made once, used for any number of photos."""

    name: str
    model: HeadModel
    basis: LandmarkBasis
    albedo: AlbedoModel | None  #: None where the model's regions are unknown: pixels are then not fitted
    uv_raster: Raster | None  #: texture layout; None where the model has no texture coordinates
    mirror: Float[Tensor, "size size 2"] | None

    @classmethod
    def build(cls, name: str, model: HeadModel, texture_size: int = 1024) -> "FitTools":
        """Prepare a model. Texture coordinates and region masks are wanted, but geometry is fitted without them.

        Raises:
            HeadlabError: the model has no landmarks that can be fitted.
        """
        basis = LandmarkBasis.build(model)
        if model.uvs is None:
            return cls(name, model, basis, None, None, None)
        uv_raster = rasterize_uv(model, texture_size)
        mirror = mirror_map(model, uv_raster, mirror_partners(model.template))
        coloured = PHOTOMETRIC_REGIONS <= set(model.regions) and "478" in model.landmarks
        return cls(name, model, basis, default_albedo(model) if coloured else None, uv_raster, mirror)

    @property
    def skipped(self) -> list[str]:
        """What the model does not allow, and why."""
        reasons = []
        if self.albedo is None:
            reasons.append(
                f"photometric refinement: {self.name} lacks texture coordinates, 478 landmarks or the regions "
                + ", ".join(sorted(PHOTOMETRIC_REGIONS))
            )
        if self.uv_raster is None:
            reasons.append(f"texture: {self.name} has no texture coordinates")
        return reasons


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
    if config.method != "optimise":
        regressor_for(tools)
    stage = Stages(progress)
    with stage("landmarks"):
        found = [detect_face(frame, detector, config.face) for frame in frames]
    return fit_found(tools, frames, found, config, stage)


def fit_found(
    tools: FitTools,
    frames: Sequence[Frame],
    found: Sequence[tuple[FaceLandmarks, list[FaceLandmarks]]],
    config: FitConfig,
    stage: Stages,
    read: LandmarkFit | None = None,
) -> HeadFit:
    """The part of `fit_photos` after the detector.

    Args:
        tools: prepared head model.
        frames: the photos.
        found: what `detect_face` found in each.
        config: see `FitConfig`.
        stage: announces and times the stages.
        read: what the network reads in the photos, where it has been asked already.
    """
    fitted = fit_geometry(tools, frames, torch.stack([face.points for face, _ in found]), config, stage, read)
    codes, cameras, geometry, pixels = fitted.codes, fitted.cameras, fitted.landmarks, fitted.pixels
    albedo = None
    if tools.uv_raster is not None:
        with stage("texture"):
            albedo = build_texture(tools, codes, cameras, frames)
    report = fit_report(tools.model, tools.name, frames, found, config.face, codes, cameras, stage.seconds)
    for photo, frame in zip(report["photos"], frames, strict=True):
        guess = "assumed" if config.method == "regress" else "fitted"
        photo["focal_from"] = "option" if config.focal is not None else "EXIF" if frame.focal else guess
    report["method"] = config.method
    if config.method != "regress":
        report["landmark_solver"] = {
            "iterations": geometry.report.iterations,
            "model_evaluations": geometry.report.evaluations,
            "converged": geometry.report.converged,
        }
    if tools.skipped:
        report["skipped"] = tools.skipped
    if pixels is not None:
        report["photometric"] = {
            "colour_error_before": round(pixels.error_before, 4),
            "colour_error_after": round(pixels.error_after, 4),
        }
    return HeadFit(tools.name, codes, cameras, albedo, source_names(frames), report)


@dataclass(frozen=True, eq=False)
class Fitted:
    """What `fit_geometry` found, and by which steps."""

    codes: HeadCode  #: leading axis over photos
    cameras: tuple[Camera, ...]
    landmarks: LandmarkFit  #: method "regress": the network's reading
    pixels: PhotometricFit | None


def fit_geometry(
    tools: FitTools,
    frames: Sequence[Frame],
    points: Float[Tensor, "photos 478 2"],
    config: FitConfig,
    stage: Stages | None = None,
    read: LandmarkFit | None = None,
) -> Fitted:
    """The part of `fit_photos` between the detector and the texture.

    Args:
        tools: prepared head model.
        frames: the photos.
        points: one person's face in each, pixels.
        config: see `FitConfig`; `face` is not used.
        stage: announces and times "network", "geometry" and "photometric".
        read: what the network reads in the photos, where it has been asked already.
    """
    stage = stage or Stages(lambda name: None)
    images = [frame.image for frame in frames]
    focal = [frame.focal if config.focal is None else config.focal for frame in frames]
    geometry = read
    if config.method != "optimise" and geometry is None:
        with stage("network"):
            geometry = regressor_for(tools).first_fit(images, points, focal)
    if config.method != "regress":
        with stage("geometry"):
            sizes = [frame.size for frame in frames]
            geometry = fit_landmarks(tools.basis, points, sizes, focal=focal, init=geometry, config=config.landmarks)
    assert geometry is not None
    # Fitting is in double precision; rendering is not.
    codes = geometry.codes.to(dtype=torch.float32)
    cameras = tuple(camera.to(dtype=torch.float32) for camera in geometry.cameras)
    pixels: PhotometricFit | None = None
    if config.photometric and config.method != "regress" and tools.albedo is not None:
        settings = config.pixels or (QUICK_PIXELS if config.method == "auto" else PhotometricConfig())
        with stage("photometric"):
            pixels = refine_photometric(tools.model, tools.albedo, codes, cameras, images, points, settings)
    return Fitted(codes if pixels is None else pixels.codes, cameras, geometry, pixels)


def regressor_for(tools: FitTools) -> DefaultRegressor:
    """The network that reads this model's codes.

    Raises:
        HeadlabError: there is none.
    """
    if tools.name != "default":
        raise HeadlabError(
            f"the bundled network reads the default head, not {tools.name}; "
            "use --method optimise, or deca or emoca for FLAME"
        )
    return load_default_regressor()


def build_texture(
    tools: FitTools, codes: HeadCode, cameras: tuple, frames: Sequence[Frame]
) -> Float[Tensor, "3 size size"]:
    """UV texture of one person from fitted photos, completed where none shows the head. `codes` has a photo axis."""
    assert tools.uv_raster is not None and tools.mirror is not None
    size = tools.mirror.shape[0]
    if tools.albedo is None:
        expected = torch.tensor(_PLAIN_SKIN)[:, None, None].expand(3, size, size)
    else:
        code = codes.albedo[0] if codes.albedo is not None else tools.albedo.basis.new_zeros(tools.albedo.components)
        expected = torch.nn.functional.interpolate(
            tools.albedo.texture(code)[None], (size, size), mode="bilinear", align_corners=False
        )[0]
    seen = []
    for i, (camera, frame) in enumerate(zip(cameras, frames, strict=True)):
        photo = unwrap(tools.model, tools.uv_raster, codes[i], camera, frame.image, frame.mask)
        seen.append(without_strangers(tools.model, tools.uv_raster, photo, expected))
    return complete(tools.model, tools.uv_raster, merge(seen), expected, tools.mirror)
