"""The task of `headlab batch`: what `fit`, `track` and `transfer` do, in stages, with the models loaded once.

Photos go through all stages; videos, captures and transfers through "solve" and "write" alone.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..datasets.photo import read_photo
from ..geometry.errors import HeadlabError
from ..geometry.files import encode_image, write_bytes, write_json
from ..geometry.frame import Frame
from ..geometry.landmarks import open_detector
from ..heads.assets import find_asset
from ..heads.batch_fit import PhotoFitConfig, PhotoFitter, PhotoState, head_hash, photo_weight
from ..heads.batch_items import Item, Kind
from ..heads.batch_stages import Stage
from ..heads.batch_storage import fetched, result_folder, sizes
from ..heads.fit import FitConfig, FitTools
from ..heads.head_fit import HeadFit
from ..heads.models import load_model

if TYPE_CHECKING:
    from .batch import Batch
    from .batch_transfer import Kit

#: Height of a thumbnail, pixels.
THUMB = 160


class BatchWork:
    """`headlab batch` in a worker; see `batch_stages.Task`."""

    def __init__(self, options: "Batch", kinds: Sequence[Kind]) -> None:
        """Load what these kinds of items need.

        Raises:
            HeadlabError: a model or network is missing.
        """
        from .batch import versions

        self.options, self.out = options, str(options.out)
        self.versions = versions()
        self._open = ExitStack()
        if options.task == "transfer":
            self.stages: Sequence[Stage] = (Stage("transfer", self._transfer),)
            return
        self.tools = FitTools.build(options.model_name, load_model(options.model_name), options.texture_size)
        self.stages = (
            Stage("decode", self._decode),
            Stage("landmarks", self._for_photos("landmarks")),
            Stage("network", self._network, options.together),
            Stage("solve", self._solve),
            Stage("write", self._write),
        )
        if {"photo", "person"} & set(kinds):
            _ = self.photos

    @cached_property
    def photos(self) -> PhotoFitter:
        options = self.options
        fit = FitConfig(face=options.face, focal=options.focal, photometric=options.photometric)
        config = PhotoFitConfig(options.fit_method, fit, options.together)
        return PhotoFitter(self.tools, self._detector(), config, lambda: self._followers)

    def _detector(self) -> Any:
        return self._open.enter_context(open_detector(self.options.landmarks, find_asset("face_landmarker")))

    @cached_property
    def _followers(self) -> Any:
        """The landmark network of videos, which works while that of photos does."""
        return self._detector()

    def weigh(self, item: Item) -> int:
        """See `Task`."""
        return photo_weight(item) if item.kind in ("photo", "person") else 0

    def close(self) -> None:
        """Free the networks."""
        self._open.close()

    def _decode(self, item: Item) -> "PhotoState | Item":
        return self.photos.decode(item) if item.kind in ("photo", "person") else item

    def _for_photos(self, name: str) -> Callable[[Any], Any]:
        return lambda state: getattr(self.photos, name)(state) if isinstance(state, PhotoState) else state

    def _network(self, states: list[Any]) -> list[Any]:
        photos = [state for state in states if isinstance(state, PhotoState)]
        if photos:
            self.photos.network(photos)
        return states

    def _solve(self, state: Any) -> Any:
        if isinstance(state, PhotoState):
            return self.photos.solve(state)
        return _Video(self, state) if state.kind == "video" else _Capture(self, state)

    def _write(self, state: Any) -> dict[str, Any]:
        if not isinstance(state, PhotoState):
            return state.write()
        from .write_fit import write_fit

        head, model = state.head, self.tools.model
        assert head is not None
        with result_folder(self.out, state.item.name) as folder:
            if self.options.files == "all":
                report = write_fit(head, model, state.frames, folder)
                thumb_of(folder / "overlay.png", folder)
            else:
                report = head.report
                self.write_small(head, state.frames, folder)
            if state.complete is not None:
                head = replace(state.complete, report={**state.complete.report, "seconds": report["seconds"]})
                head.save(folder / "head.npz")
                write_json(folder / "report.json", head.report)
            return {**said_of(head, report), "files": sizes(folder)}

    def write_small(self, head: HeadFit, frames: Sequence[Frame], folder: Path) -> None:
        """head.npz, report.json and thumb.jpg alone."""
        from ..viewers.pictures import overlay

        head.save(folder / "head.npz")
        write_json(folder / "report.json", head.report)
        picture = overlay(frames[0].image, self.tools.model, head.codes[0], head.cameras[0], head.albedo)
        write_thumb(picture, folder)

    def _transfer(self, item: Item) -> dict[str, Any]:
        from .transfer import transfer_command

        options = self.options.transfer()
        with ExitStack() as stack:
            local = str(stack.enter_context(fetched(item.paths[0])))
            folder = stack.enter_context(result_folder(self.out, item.name))
            # The item takes the side that was left open.
            if options.source:
                options = replace(options, target=Path(local), out=folder)
            else:
                options = replace(options, source=(local,), out=folder)
            report = transfer_command(options, kit=self._kit)
            thumb_of(folder / "strip.png", folder)
            heads = HeadFit.load(folder / "head.npz")
            return {"hash": head_hash(heads), "renderer": report["renderer"], "files": sizes(folder)}

    @cached_property
    def _kit(self) -> "Kit":
        from .batch_transfer import Kit

        return self._open.enter_context(Kit.of(self.options.transfer(), self.options.model_name))


class _Video:
    """A tracked video."""

    def __init__(self, work: BatchWork, item: Item) -> None:
        from ..datasets.video import open_frames
        from ..heads.track import TrackConfig, track_video
        from ..heads.track_follow import FollowConfig, VideoDetector

        self.work, self.item, self.began = work, item, time.perf_counter()
        self._files = ExitStack()
        try:
            self.source = open_frames(self._files.enter_context(fetched(item.paths[0])), rate=work.options.rate)
            detector = work._followers
            assert isinstance(detector, VideoDetector)
            options = work.options
            config = TrackConfig(focal=options.focal, follow=FollowConfig(face=options.face))
            self.track = track_video(work.tools, self.source, detector, config)
        except BaseException:
            self._files.close()
            raise

    def write(self) -> dict[str, Any]:
        """The files of `headlab track`."""
        import torch

        from ..viewers.pictures import overlay
        from .write_track import write_track

        work, track = self.work, self.track
        everything = work.options.files == "all"
        with self._files, result_folder(work.out, self.item.name) as folder:
            report = write_track(
                track, work.tools.model, self.source, folder, self.began, video=everything, vhap=everything
            )
            middle = int(track.seen.nonzero()[0][int(track.seen.sum()) // 2])
            for frame in self.source.frames():
                if frame.index == middle:
                    picture = torch.from_numpy(frame.pixels).permute(2, 0, 1).float() / 255
                    code, camera = track.head.codes[middle], track.head.cameras[middle]
                    write_thumb(overlay(picture, work.tools.model, code, camera, track.head.albedo), folder)
                    break
            return {**said_of(track.head, report), "frames": report["frames"], "files": sizes(folder)}


class _Capture:
    """A fitted RGB-D capture."""

    def __init__(self, work: BatchWork, item: Item) -> None:
        from ..datasets.rgbd_sequence import open_rgbd
        from ..heads.fit_rgbd import RgbdConfig, fit_rgbd

        options = work.options
        if options.fit_method not in ("auto", "optimise"):
            raise HeadlabError(f"an RGB-D capture is fitted by optimisation, not by --method {options.fit_method}")
        self.work, self.item, self.began = work, item, time.perf_counter()
        config = RgbdConfig(face=options.face, focal=options.focal, photometric=options.photometric)
        with fetched(item.paths[0]) as local:
            self.fit = fit_rgbd(work.tools, open_rgbd(local), work._followers, config)

    def write(self) -> dict[str, Any]:
        """The files of `headlab fit --rgbd`."""
        from ..heads.rgbd_output import write_surface
        from .write_fit import write_fit

        head, work = self.fit.head, self.work
        with result_folder(work.out, self.item.name) as folder:
            if work.options.files == "all":
                write_surface(folder / "fused.ply", self.fit)
                report = write_fit(head, work.tools.model, self.fit.frames, folder, self.began)
                thumb_of(folder / "overlay.png", folder)
            else:
                report = head.report
                work.write_small(head, self.fit.frames, folder)
            return {**said_of(head, report), "files": sizes(folder)}


def said_of(head: HeadFit, report: dict[str, Any]) -> dict[str, Any]:
    """What the manifest tells of a result."""
    said = {"nme": report.get("landmark_nme"), "hash": head_hash(head), "photos": len(head.sources)}
    if "dropped" in head.report:
        said["dropped"] = head.report["dropped"]
    return said


def thumb_of(picture: Path, folder: Path) -> None:
    """thumb.jpg of a picture file."""
    write_thumb(read_photo(picture).image, folder)


def write_thumb(picture: Any, folder: Path) -> None:
    """thumb.jpg of a picture, 160 pixels high."""
    from torch.nn.functional import interpolate

    height, width = picture.shape[-2:]
    size = (THUMB, max(1, round(width * THUMB / height)))
    small = interpolate(picture[None], size, mode="bilinear", antialias=True, align_corners=False)[0]
    write_bytes(folder / "thumb.jpg", encode_image(small.clamp(0, 1), "JPEG", 82))
