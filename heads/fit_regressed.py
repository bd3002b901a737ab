"""fit_regressed: photos -> HeadFit by DECA's or EMOCA's networks (the user's own weights), one look per photo."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.nn.functional import pad

from ..geometry.code import HeadCode
from ..geometry.errors import HeadlabError
from ..geometry.frame import Frame
from ..geometry.landmarks import FaceLandmarks, LandmarkDetector
from ..geometry.regress import Deca, head_from_photo, load_deca, load_emoca
from ..geometry.regress.photo import PhotoHead
from .assets import asset_path
from .fit import FitConfig, FitTools, build_texture, detect_face
from .fit_report import Progress, Stages, fit_report, source_names
from .head_fit import HeadFit

METHODS = ("deca", "emoca")


def load_networks(method: str) -> Deca:
    """DECA's or EMOCA's networks from the assets folder.

    Raises:
        MissingAssetError: they were not added.
        HeadlabError: no such method, or a damaged file.
    """
    if method not in METHODS:
        raise HeadlabError(f"no networks are called {method}; known are {', '.join(METHODS)}")
    return load_deca(asset_path("deca")) if method == "deca" else load_emoca(asset_path("emoca"))


def fit_regressed(
    tools: FitTools,
    networks: Deca,
    frames: Sequence[Frame],
    detector: LandmarkDetector,
    config: FitConfig | None = None,
    progress: Progress = lambda stage: None,
) -> HeadFit:
    """Read one person's head from one or more photos.

    Args:
        tools: a prepared FLAME model.
        networks: DECA's or EMOCA's (`load_networks`).
        frames: the photos, all of the same person; their shape codes are averaged.
        detector: landmark network, for the crop.
        config: only `face` is used.
        progress: called with the name of each stage as it starts.

    Raises:
        NoFaceError: a photo shows no face.
    """
    config = config or FitConfig()
    if not frames:
        raise HeadlabError("no photos given; name at least one")
    stages = Stages(progress)
    with stages("landmarks"):
        found = [detect_face(frame, detector, config.face) for frame in frames]
    with stages("networks"):
        heads = [
            head_from_photo(networks, frame.image, face.points, tools.model)
            for frame, (face, _) in zip(frames, found, strict=True)
        ]
    return fit_read(tools, networks.name, heads, frames, found, config, stages)


def fit_read(
    tools: FitTools,
    method: str,
    heads: Sequence[PhotoHead],
    frames: Sequence[Frame],
    found: Sequence[tuple[FaceLandmarks, list[FaceLandmarks]]],
    config: FitConfig,
    stages: Stages,
) -> HeadFit:
    """The part of `fit_regressed` after the networks.

    Args:
        tools: a prepared FLAME model.
        method: name of the networks.
        heads: what they read, one per photo of the same person.
        frames: the photos.
        found: what `detect_face` found in each.
        config: only `face` is used.
        stages: announces and times the texture.
    """
    codes = [_padded(head.code, tools.model.shapes, tools.model.expressions) for head in heads]
    stacked = {name: torch.stack([code.arrays()[name] for code in codes]) for name in codes[0].arrays()}
    stacked["shape"] = stacked["shape"].mean(0, keepdim=True).expand_as(stacked["shape"]).clone()
    cameras = tuple(head.camera for head in heads)
    # The networks' texture codes belong to a texture space that need not be there, their light to its colours.
    light, codes_of_all = stacked.pop("light", None), HeadCode(**{**stacked, "albedo": None})
    albedo = None
    if tools.uv_raster is not None:
        with stages("texture"):
            albedo = build_texture(tools, replace(codes_of_all, light=light), cameras, frames)
    report = fit_report(tools.model, tools.name, frames, found, config.face, codes_of_all, cameras, stages.seconds)
    report["method"] = method
    return HeadFit(tools.name, replace(codes_of_all, light=light), cameras, albedo, source_names(frames), report)


def _padded(code: HeadCode, shapes: int, expressions: int) -> HeadCode:
    """The networks give the leading components; the rest are zero."""
    return replace(
        code,
        shape=pad(code.shape, (0, shapes - code.shape.shape[-1])),
        expression=pad(code.expression, (0, expressions - code.expression.shape[-1])),
    )
