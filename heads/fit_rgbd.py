"""fit_rgbd: an RGB-D capture of one person -> HeadFit, after "High-Fidelity 3D Digital Human Head Creation from RGB-D
Selfies" (Bao et al. 2021).

    landmarks of all frames ──> sharp, well-spread views ──> ICP, TSDF fusion ──> 3DMM on landmarks and depth
    ──> pixels, with depth holding on (albedo, light, β, ψ, poses) ──> texture from the chosen views

One frame, an unordered set and a video go the same way; frames that cannot be used are set aside and reported.
"""

import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..datasets.rgbd_sequence import RgbdSequence
from ..geometry.camera import Camera
from ..geometry.code import HeadCode
from ..geometry.errors import HeadlabError
from ..geometry.fitting.depth_fit import DepthFit, DepthFitConfig, DepthView, fit_depth
from ..geometry.fitting.photometric import PhotometricConfig, PhotometricFit, refine_photometric
from ..geometry.frame import Frame
from ..geometry.landmarks import LandmarkDetector
from ..geometry.raster import closest_point
from ..geometry.rgbd.fusion import Fusion, FusionConfig, fuse_frames, fused_depth
from ..geometry.rgbd.icp import DepthFrame, landmark_pose
from ..geometry.rgbd.selection import View, select_views
from .fit import QUICK_PIXELS, FitTools, build_texture
from .fit_report import Progress, Stages, fit_report, source_names
from .head_fit import HeadFit
from .rgbd_frames import Candidate, Capture, full_camera, gather, model_marks

_SCALE = 0.001  # metres; the unit of the depth term beside the pixels


@dataclass(frozen=True)
class RgbdConfig:
    """How to fit a capture."""

    frames: int = 4  #: views that are fitted and give the texture: front, left, right, up, then others
    fused: int = 30  #: frames that are averaged into the surface
    face: int = 0  #: which face of each picture, 0 the largest
    focal: float | int | None = None  #: focal length in pixels instead of the files'
    photometric: bool = True
    depth: DepthFitConfig = field(default_factory=DepthFitConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    pixels: PhotometricConfig = QUICK_PIXELS
    hold: float = 2e-3  #: weight of the depth term (in mm²) against the pixels


@dataclass(frozen=True, eq=False)
class RgbdFit:
    """A fitted capture."""

    head: HeadFit  #: codes and cameras of the chosen views
    frames: tuple[Frame, ...]  #: these views, whole
    views: tuple[View, ...]  #: their names; `index` counts in the sequence
    fusion: Fusion  #: surface in the first view's world


def fit_rgbd(
    tools: FitTools,
    sequence: RgbdSequence,
    detector: LandmarkDetector,
    config: RgbdConfig | None = None,
    progress: Progress = lambda stage: None,
) -> RgbdFit:
    """Fit one person's head to a capture.

    Args:
        tools: prepared head model.
        sequence: what `open_rgbd` gave: one frame or many, in any order.
        detector: landmark network.
        config: see `RgbdConfig`.
        progress: called with the name of each stage as it starts.

    Raises:
        NoFaceError: no frame shows a face.
        HeadlabError: no usable depth, its unit is wrong, or intrinsics are missing and cannot be estimated.
    """
    config = config or RgbdConfig()
    if config.frames < 1:
        raise HeadlabError(f"at least one frame must be fitted, not {config.frames}; give --frames 4")
    stage = Stages(progress)
    with stage("landmarks"):
        sequence, capture = gather(sequence, detector, tools.model, face=config.face, focal=config.focal)
    for note in capture.notes:
        warnings.warn(note, stacklevel=2)
    with stage("selection"):
        views = select_views([candidate.pose for candidate in capture.candidates], config.frames)
        chosen = [capture.candidates[view.index] for view in views]
        frames = [sequence.read(candidate.index) for candidate in chosen]
        cameras = tuple(full_camera(sequence, frame) for frame in frames)
    with stage("fusion"):
        order = fusion_order(capture, views, config.fused)
        fusion = fuse_frames([c.depth for c in order], config.fusion, views=len(chosen))
    with stage("geometry"):
        fitted = fit_views(tools, chosen, fusion, config.depth)
    codes = fitted.codes.to(dtype=torch.float32)
    points = torch.stack([candidate.face.points for candidate in chosen])
    pixels = None
    if config.photometric and tools.albedo is not None:
        with stage("photometric"):
            pixels = refine_pixels(tools, fitted, codes, cameras, frames, points, config)
            codes = pixels.codes
    albedo = None
    if tools.uv_raster is not None:
        with stage("texture"):
            albedo = build_texture(tools, codes, cameras, frames)
    found = [(candidate.face, candidate.faces) for candidate in chosen]
    report = fit_report(tools.model, tools.name, frames, found, config.face, codes, cameras, stage.seconds)
    report["method"] = "rgbd"
    report["rgbd"] = _report(tools, sequence, capture, views, order, fusion, fitted, codes)
    if tools.skipped:
        report["skipped"] = tools.skipped
    if pixels is not None:
        report["photometric"] = {
            "colour_error_before": round(pixels.error_before, 4),
            "colour_error_after": round(pixels.error_after, 4),
        }
    head = HeadFit(tools.name, codes, cameras, albedo, source_names(frames), report)
    views = [replace(view, index=candidate.index) for view, candidate in zip(views, chosen, strict=True)]
    return RgbdFit(head, tuple(frames), tuple(views), fusion)


def fusion_order(capture: Capture, views: list[View], most: int) -> list[Candidate]:
    """The chosen views, then the sharpest others."""
    chosen = [view.index for view in views]
    others = [i for i in range(len(capture.candidates)) if i not in chosen]
    others.sort(key=lambda i: -capture.candidates[i].pose.sharpness * capture.candidates[i].pose.trust)
    return [capture.candidates[i] for i in [*chosen, *others[: max(0, most - len(chosen))]]]


def fit_views(tools: FitTools, chosen: list[Candidate], fusion: Fusion, config: DepthFitConfig) -> DepthFit:
    """The model on the chosen views: on the fused surface where a view could be aligned, else on its own depth."""
    marks = model_marks(tools.model)
    first = landmark_pose(marks, chosen[0].depth.landmarks)
    assert first is not None
    views, poses = [], []
    for candidate, placed in zip(chosen, fusion.alignments, strict=False):
        frame: DepthFrame = candidate.depth
        if placed is None:
            pose = landmark_pose(marks, frame.landmarks)
            assert pose is not None
        else:
            frame = fused_depth(fusion, frame, placed.T)
            pose = np.linalg.inv(placed.T) @ first
        points = candidate.face.points - candidate.face.points.new_tensor(candidate.corner)
        views.append(DepthView(frame.camera, frame.depth, frame.normals, points))
        poses.append((pose[:3, :3], pose[:3, 3]))
    return fit_depth(tools.model, views, poses, config)


def refine_pixels(
    tools: FitTools,
    fitted: DepthFit,
    codes: HeadCode,
    cameras: tuple[Camera, ...],
    frames: list[Frame],
    points: Float[Tensor, "views 478 2"],
    config: RgbdConfig,
) -> PhotometricFit:
    """Pixels, while the measured planes hold the head where it is."""
    assert tools.albedo is not None
    pairs = [replace(p, **{k: getattr(p, k).float() for k in ("points", "normals", "weights")}) for p in fitted.pairs]

    def hold(codes: HeadCode) -> Float[Tensor, ""]:
        vertices = tools.model.vertices(codes)
        energies = [pair.energy(vertices[i], _SCALE) for i, pair in enumerate(pairs)]
        return config.hold * torch.stack(energies).mean()

    images = [frame.image for frame in frames]
    return refine_photometric(tools.model, tools.albedo, codes, cameras, images, points, config.pixels, hold)


def surface_distance(tools: FitTools, code: HeadCode, fusion: Fusion, reach: float = 0.03) -> Float[Tensor, "verts"]:
    """Distance of each vertex of the face from the fused surface, metres; those beyond `reach` (unseen) left out."""
    face = tools.model.regions.get("face")
    vertices = tools.model.vertices(code).double()
    points = vertices if face is None else vertices[face]
    distance, _, _ = closest_point(fusion.surface.vertices, fusion.surface.faces, points)
    return distance[distance < reach]


def _report(
    tools: FitTools,
    sequence: RgbdSequence,
    capture: Capture,
    views: list[View],
    order: list[Candidate],
    fusion: Fusion,
    fitted: DepthFit,
    codes: HeadCode,
) -> dict[str, Any]:
    distance = surface_distance(tools, codes[0], fusion)
    rows = []
    for i, view in enumerate(views):
        candidate, placed = capture.candidates[view.index], fusion.alignments[i]
        rows.append(
            {
                "frame": candidate.name,
                "view": view.name,
                "yaw_degrees": round(candidate.pose.yaw, 1),
                "pitch_degrees": round(candidate.pose.pitch, 1),
                "depth_distance_mm": round(1000 * fitted.residuals[i], 3),
                "face_matched": round(fitted.matched[i], 3),
                "aligned": placed is not None,
                "alignment_rms_mm": None if placed is None else round(1000 * placed.rms, 3),
            }
        )
    used = [one is not None for one in fusion.alignments]
    return {
        "capture": str(sequence.path),
        "frames": len(sequence),
        "usable": len(capture.candidates),
        "fused": sum(used),
        "not_aligned": [c.name for c, good in zip(order, used, strict=True) if not good],
        "skipped_frames": capture.skipped,
        "notes": list(capture.notes),
        "focal_estimated": capture.focal,
        "eye_corners_measured_mm": round(1000 * capture.eye_distance, 1),
        "eye_corners_fitted_mm": round(1000 * _fitted_eyes(tools, codes), 1),
        "face_to_fused_median_mm": round(1000 * float(distance.median()), 3) if len(distance) else None,
        "views": rows,
    }


def _fitted_eyes(tools: FitTools, codes: HeadCode) -> float:
    marks = tools.model.landmarks3d(tools.model.vertices(codes[0]), "68")
    return float((marks[36] - marks[45]).norm())
