"""`headlab fit --rgbd`: what `fit.py` does where an RGB-D capture is given."""

import time
import warnings
from typing import TYPE_CHECKING, Any

from ..geometry.errors import HeadlabError

if TYPE_CHECKING:
    from .fit import Fit


def fit_capture(options: "Fit", progress=lambda stage: None) -> dict[str, Any]:
    """Fit a capture and write all outputs of `headlab fit`, and `fused.ply`, the measured surface.

    Raises:
        HeadlabError: no usable frame, a wrong unit, missing intrinsics that cannot be estimated, a missing model.
    """
    import sys

    from ..datasets.rgbd_sequence import open_rgbd
    from ..geometry.landmarks import open_detector
    from ..heads.assets import find_asset
    from ..heads.fit import FitTools
    from ..heads.fit_rgbd import RgbdConfig, fit_rgbd
    from ..heads.models import load_model
    from ..heads.output_folder import output_folder
    from ..heads.rgbd_output import write_surface
    from .fit import with_hair
    from .write_fit import write_fit

    start = time.perf_counter()
    if options.rgbd is None:
        raise HeadlabError("no RGB-D capture given; name one with --rgbd")
    progress("reading the capture")
    sequence = open_rgbd(options.rgbd, depth_scale=options.depth_scale)
    progress("loading the head model")
    name = options.model or "default"
    tools = FitTools.build(name, load_model(name), options.texture_size)
    config = RgbdConfig(frames=options.frames, face=options.face, focal=options.focal, photometric=options.photometric)
    with open_detector(options.landmarks, find_asset("face_landmarker")) as detector, warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *rest, **more: print(f"headlab: {message}", file=sys.stderr)
        fit = fit_rgbd(tools, sequence, detector, config, progress)
    for frame, reason in fit.head.report["rgbd"]["skipped_frames"].items():
        print(f"headlab: {frame} was left out: {reason}", file=sys.stderr)
    progress("writing")
    head, model = with_hair(fit.head, tools.model, options.hair)
    with output_folder(options.out, options.overwrite) as folder:
        write_surface(folder / "fused.ply", fit)
        return write_fit(head, model, fit.frames, folder, start)
