"""Fitting photos in stages, for `batch_stages`: models are loaded once, the network sees several photos at a time.

decode ──> landmarks ──> network (batched; DECA's, EMOCA's or the default regressor) ──> solve ──> (write)
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..datasets.photo import read_photo
from ..geometry.errors import HeadlabError, NoFaceError
from ..geometry.frame import Frame
from ..geometry.landmarks import FaceLandmarks, LandmarkDetector
from ..geometry.regress.photo import heads_from_photos
from .batch_items import Item, is_url
from .batch_storage import fetched
from .fit import FitConfig, FitTools, detect_face, fit_found, regressor_for
from .fit_regressed import METHODS, fit_read, load_networks
from .fit_report import Stages
from .head_fit import HeadFit

#: A decoded photo is 12 bytes per pixel, and reading and texturing it take about as much again.
_BYTES_PER_PIXEL = 36


@dataclass(frozen=True)
class PhotoFitConfig:
    """How to fit."""

    method: Literal["optimise", "auto", "regress", "deca", "emoca"] = "optimise"
    fit: FitConfig = field(default_factory=FitConfig)  #: its method is not used
    together: int = 4  #: photos that the network sees at a time
    most: int = 24  #: photos of a person that are solved together; others get their identity


@dataclass(eq=False)
class PhotoState:
    """A fit on its way."""

    item: Item
    frames: list[Frame]
    stages: Stages
    found: list[tuple[FaceLandmarks, list[FaceLandmarks]]] = field(default_factory=list)
    read: Any = None  #: what the network read
    dropped: dict[str, str] = field(default_factory=dict)  #: photos of a person that could not be used
    head: HeadFit | None = None
    complete: HeadFit | None = None  #: with the photos beyond those that were fitted together


class PhotoFitter:
    """The stages of fitting photos, or several photos of a person."""

    def __init__(
        self,
        tools: FitTools,
        detector: LandmarkDetector,
        config: PhotoFitConfig,
        another: Callable[[], LandmarkDetector] | None = None,
    ) -> None:
        """Load what the method needs.

        Args:
            tools: prepared head model.
            detector: landmark network for the stage of that name.
            config: how to fit.
            another: gives a detector for people of very many photos; wanted only with them.

        Raises:
            HeadlabError: the method has no network for this model, or it was not added.
        """
        self.tools, self.detector, self.config, self._another = tools, detector, config, another
        self._networks = load_networks(config.method) if config.method in METHODS else None
        self._regressor = regressor_for(tools) if config.method in ("auto", "regress") else None

    def decode(self, item: Item) -> PhotoState:
        """Read the photos; of a person's, those that can be read."""
        dropped: dict[str, str] = {}
        frames = list(self._frames(item.paths[: self.config.most], dropped))
        if len(item.paths) == 1 and dropped:
            raise HeadlabError(*dropped.values())
        return PhotoState(item, frames, Stages(lambda stage: None), dropped=dropped)

    def landmarks(self, state: PhotoState) -> PhotoState:
        """Find the faces."""
        kept = []
        with state.stages("landmarks"):
            for frame in state.frames:
                try:
                    state.found.append(detect_face(frame, self.detector, self.config.fit.face))
                    kept.append(frame)
                except NoFaceError as error:
                    if len(state.item.paths) == 1:
                        raise
                    state.dropped[str(frame.source)] = str(error)
        state.frames = kept
        if not kept:
            raise NoFaceError(f"none of the {len(state.item.paths)} photos of {state.item.name} shows a face")
        return state

    def network(self, states: list[PhotoState]) -> list[PhotoState]:
        """Show the network the faces of several items at once."""
        images = [frame.image for state in states for frame in state.frames]
        points = [face.points for state in states for face, _ in state.found]
        first = 0
        # What one photo gets must not depend on its neighbours: results are the same after any interruption.
        if self._regressor is not None:
            focals = [self._focal(frame) for state in states for frame in state.frames]
            heads = self._regressor.regress_photos(images, points, focals, self.config.together)
            for state in states:
                own = slice(first, first := first + len(state.frames))
                stacked = _stacked(points[own])
                state.read = self._regressor.first_fit(images[own], stacked, focals[own], heads[own])
        elif self._networks is not None:
            read = heads_from_photos(self._networks, images, points, self.tools.model, batch=self.config.together)
            for state in states:
                state.read = read[first : (first := first + len(state.frames))]
        return states

    def solve(self, state: PhotoState) -> PhotoState:
        """Fit geometry, pixels and texture."""
        config, stages = self.config, state.stages
        if self._networks is not None:
            name = self._networks.name
            state.head = fit_read(self.tools, name, state.read, state.frames, state.found, config.fit, stages)
        else:
            fit = replace(config.fit, method=config.method)
            state.head = fit_found(self.tools, state.frames, state.found, fit, stages, state.read)
        rest = state.item.paths[config.most :]
        if rest and self._another is not None:
            from .batch_people import with_more_photos

            frames = self._frames(rest, state.dropped)
            state.complete, lost = with_more_photos(self.tools, state.head, frames, self._another(), config.fit)
            state.dropped |= lost
        if state.dropped:
            state.head.report["dropped"] = state.dropped
            if state.complete is not None:
                state.complete.report["dropped"] = state.dropped
        return state

    def _frames(self, paths: Sequence[str], dropped: dict[str, str]) -> Iterator[Frame]:
        """Photos one at a time; those that cannot be read are left out and named."""
        for path in paths:
            try:
                with fetched(path) as local:
                    frame = read_photo(local).with_(source=printable(path))
            except HeadlabError as error:
                dropped[str(printable(path))] = str(error)
                continue
            yield frame

    def _focal(self, frame: Frame) -> float | int | None:
        return frame.focal if self.config.fit.focal is None else self.config.fit.focal


def photo_weight(item: Item) -> int:
    """Bytes that an item's photos will take, by their headers."""
    from PIL import Image

    total = 0
    for path in item.paths[: PhotoFitConfig.most]:
        if not is_url(path) and os.path.isfile(path):
            with Image.open(path) as image:
                total += _BYTES_PER_PIXEL * image.width * image.height
    return total


def head_hash(head: HeadFit) -> str:
    """Digest of what a head.npz says of the person, the same for the file and for what was saved to it.

    Of the report nothing counts: it tells how long things took.
    """
    digest = sha256(f"{head.model}\n{head.sources}".encode("utf-8", "surrogateescape"))
    arrays: list[tuple[str, Any]] = sorted(head.codes.arrays().items())
    for i, camera in enumerate(head.cameras):
        arrays += [(f"camera{i}.{name}", getattr(camera, name)) for name in ("K", "R", "t")]
        arrays.append((f"camera{i}.size", np.array(camera.size)))
    if head.albedo is not None:
        arrays.append(("albedo", (head.albedo.clamp(0, 1) * 255).round().byte()))
    for name, array in arrays:
        values = np.ascontiguousarray(np.asarray(array))
        digest.update(f"{name} {values.dtype} {values.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _stacked(points: Sequence[Any]) -> Any:
    import torch

    return torch.stack(list(points))


def printable(path: str) -> Path:
    """A path that can be written as UTF-8, as reports are."""
    return Path(os.fsencode(path).decode("utf-8", "replace"))
