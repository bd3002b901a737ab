"""`headlab track`: a video of one person -> a head in motion: parameters, animated GLB, curves, side-by-side video."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


@dataclass(frozen=True)
class Track:
    """Track one person's head through a video or a folder of frames."""

    video: Annotated[Path, tyro.conf.Positional]
    """Video file (anything FFmpeg reads), or a folder of frames, ordered by the numbers in their names."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the results; made if need be."""
    model: str = "default"
    """Head model: default, flame2020, flame2023 or ict (`headlab assets list`)."""
    face: int = 0
    """Which face of the first frame that shows any: 0 the largest. The same person is followed from there."""
    smoothing: Literal["forward-backward", "one-euro", "none"] = "forward-backward"
    """Forward-backward does not lag; one-euro uses past frames only, as in a live stream."""
    strength: float = 1.0
    """Of the smoothing: 0 none, 1 usual, 2 halves the frequencies that pass."""
    focal: float | None = None
    """Focal length in pixels; read from a folder's first picture or fitted where not given."""
    rate: float | None = None
    """Frames per second of a folder of frames (25 where not given). Videos have their own timestamps."""
    photometric: bool = False
    """Refine identity and colour by the pixels of a few frames."""
    texture_size: int = 1024
    """Side of the texture, pixels."""
    write_video: bool = True
    """Write side_by_side.mp4: frame, mesh over the frame, textured render."""
    vhap: bool = True
    """Write the folder vhap/ in the layout of VHAP and NeRSemble, with every frame as PNG."""
    max_frames: int = 20_000
    """Longer videos are refused."""
    landmarks: Literal["auto", "solutions", "tasks"] = "auto"
    """Which MediaPipe finds the landmarks: the networks in its wheel, or face_landmarker.task."""
    overwrite: bool = False
    """Write into a folder that already holds files."""

    def run(self) -> None:
        import sys

        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        from ..heads.output_folder import check_output

        check_output(self.out, self.overwrite)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("starting", total=None)

            def show(stage: str, done: int) -> None:
                bar.update(task, description=f"{stage}: {done} frames" if done else stage)

            report = track(self, show)
        for warning in report["warnings"]:
            print(f"headlab: {warning}", file=sys.stderr)
        print(
            f"{self.out}: {report['frames']} frames tracked with {report['model']}"
            + (f", {report['frames_without_face']} without a face interpolated" if report["interpolated"] else "")
            + f"; landmark error {100 * report['landmark_nme']:.1f} % of the eye distance, "
            f"{report['frames_per_second']:.0f} frames/s, {report['seconds']['total']:.1f} s in all"
        )


def track(options: Track, progress=lambda stage, done: None) -> dict[str, Any]:
    """What `headlab track` does; returns the report.

    Raises:
        HeadlabError: an unreadable video, no face, a missing model, an output folder in the way.
    """
    import time

    from ..datasets.video import VideoLimits, open_frames
    from ..geometry.errors import HeadlabError
    from ..geometry.landmarks import open_detector
    from ..heads.assets import find_asset
    from ..heads.fit import FitTools
    from ..heads.models import load_model
    from ..heads.output_folder import output_folder
    from ..heads.track import TrackConfig, track_video
    from ..heads.track_follow import FollowConfig, VideoDetector
    from ..heads.track_solve import SmoothConfig
    from .write_track import write_track

    began = time.perf_counter()
    if options.face < 0:
        raise HeadlabError(f"there is no face {options.face}; faces are numbered from 0, the largest")
    if not 0 <= options.strength < float("inf"):
        raise HeadlabError(f"the strength of smoothing is a number from 0 on, not {options.strength:g}")
    if options.focal is not None and not 0 < options.focal < float("inf"):
        raise HeadlabError(f"the focal length is a positive number of pixels, not {options.focal:g}")
    progress("opening the video", 0)
    source = open_frames(options.video, rate=options.rate, limits=VideoLimits(max_frames=options.max_frames))
    progress("loading the head model", 0)
    tools = FitTools.build(options.model, load_model(options.model), options.texture_size)
    config = TrackConfig(
        focal=options.focal,
        photometric=options.photometric,
        follow=FollowConfig(face=options.face),
        smooth=SmoothConfig(method=options.smoothing, strength=options.strength),
    )
    with open_detector(options.landmarks, find_asset("face_landmarker")) as detector:
        assert isinstance(detector, VideoDetector)
        result = track_video(tools, source, detector, config, progress)
    with output_folder(options.out, options.overwrite) as folder:
        return write_track(
            result,
            tools.model,
            source,
            folder,
            began,
            video=options.write_video,
            vhap=options.vhap,
            progress=progress,
        )
