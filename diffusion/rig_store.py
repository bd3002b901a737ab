"""Writing DiffusionRig's stores: pictures with attached fits, their condition maps rendered and stored."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..datasets.attached_fit import read_fit
from ..datasets.journal import Journal, Line
from ..datasets.lmdb_diffusionrig import RigRecord, encode_record
from ..datasets.lmdb_store import LmdbWriter
from ..datasets.store_targets import ITEMS
from ..geometry.errors import HeadlabError
from .attached_maps import AttachedMaps, default_maps


class RigTarget:
    """See `datasets.store_targets.Target`."""

    def __init__(self, folder: Path, size: int = 256, *, maps: AttachedMaps | None = None, part: int = 16):
        """Args:
            folder: of the store; one that was begun is taken up.
            size: side of the pictures, pixels.
            maps: draw the fits; the default head's where None.
            part: items per transaction.

        Raises:
            HeadlabError: the folder cannot be written, or holds another store.
        """
        self.sizes, self.part, self.maps = (size,), part, maps
        self.writer = LmdbWriter(folder)
        try:
            self.journal = Journal(folder / ITEMS)
            self.pictures = int(self.writer.get(b"length") or 0)
            self.done = self.journal.keep(self.pictures)
            self.last_key = None
            for line in self.journal.lines():
                self.last_key = line["key"]
        except BaseException:
            self.writer.close()
            raise
        self._lines: list[Line] = []
        self._values: dict[bytes, bytes] = {}

    def add(self, line: Line, pictures: Mapping[int, bytes]) -> None:
        if pictures:
            fit = read_fit(line)
            if fit is None:
                line = {"key": line["key"], "fault": "missing annotation", "why": "it has no fit to draw maps of"}
            else:
                self.maps = self.maps or default_maps()
                levels = np.asarray(Image.open(io.BytesIO(pictures[self.sizes[0]])).convert("RGB"))
                image = torch.from_numpy(levels.copy()).permute(2, 0, 1).float() / 255
                record = RigRecord(image, *self.maps.rig(fit, self.sizes[0]))
                self._values |= encode_record(record, self.pictures)
                line = {**line, "index": self.pictures}
                self.pictures += 1
        self._lines.append(line)
        if len(self._lines) >= self.part:
            self._commit()

    def _commit(self) -> None:
        self.journal.append(self._lines)
        self.writer.commit(self._values, {b"length": str(self.pictures).encode()})
        self._lines, self._values = [], {}

    def close(self, finished: bool) -> None:
        """Raises HeadlabError: not one picture had a fit."""
        try:
            if finished:
                self._commit()
                if not self.pictures:
                    raise HeadlabError("no picture has a fit, so no condition maps can be stored; add --fits FOLDER")
        finally:
            self.writer.close()
