"""Writing DiffusionRig's stores: pictures with attached fits, their condition maps rendered and stored."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..datasets.attached_fit import read_fit
from ..datasets.journal import Line
from ..datasets.journalled_store import JournalledStore
from ..datasets.lmdb_diffusionrig import RigRecord, encode_record
from ..geometry.errors import HeadlabError
from .attached_maps import AttachedMaps, default_maps


class RigTarget(JournalledStore):
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
        super().__init__(folder, part)
        self.sizes, self.maps = (size,), maps

    def add(self, line: Line, pictures: Mapping[int, bytes]) -> None:
        values: dict[bytes, bytes] = {}
        if pictures:
            fit = read_fit(line)
            if fit is None:
                line = {"key": line["key"], "fault": "missing annotation", "why": "it has no fit to draw maps of"}
            else:
                self.maps = self.maps or default_maps()
                levels = np.asarray(Image.open(io.BytesIO(pictures[self.sizes[0]])).convert("RGB"))
                image = torch.from_numpy(levels.copy()).permute(2, 0, 1).float() / 255
                values = dict(encode_record(RigRecord(image, *self.maps.rig(fit, self.sizes[0])), self.pictures))
        self.put(line, values)

    def close(self, finished: bool) -> None:
        """Raises HeadlabError: not one picture had a fit."""
        super().close(finished)
        if finished and not self.pictures:
            raise HeadlabError("no picture has a fit, so no condition maps can be stored; add --fits FOLDER")
