"""What transfers share: a workshop, the heads and expressions that have been read, diffusion models."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..geometry.errors import HeadlabError

if TYPE_CHECKING:
    from ..heads.transfer import PhotoHead, Source
    from ..heads.transfer_renderer import Editor
    from ..heads.transfer_source import Workshop
    from .transfer import Transfer


class Kit:
    """Reads heads, expressions and diffusion models, and remembers the last few of each."""

    def __init__(self, workshop: "Workshop") -> None:
        from ..heads.transfer_renderer import load_editor
        from ..heads.transfer_source import read_head, read_source

        self.workshop = workshop
        self._heads = lru_cache(2)(lambda path, photo: read_head(path, workshop, photo))
        self._sources = lru_cache(4)(lambda text: read_source(text, workshop))
        self._editors = lru_cache(1)(load_editor)

    @classmethod
    @contextmanager
    def of(cls, options: "Transfer", name: str, progress=lambda stage: None) -> Iterator["Kit"]:
        """For one head model; the landmark network is closed at the end of the block.

        Args:
            options: of the transfers.
            name: head model.
            progress: called with what is being done.
        """
        from ..geometry.landmarks import open_detector
        from ..heads.assets import find_asset
        from ..heads.fit import FitConfig
        from ..heads.transfer_source import EXPRESSIVE, Workshop

        with open_detector(options.landmarks, find_asset("face_landmarker")) as detector:
            config = FitConfig(face=options.face, landmarks=EXPRESSIVE)
            yield cls(Workshop(name, detector, config, options.texture_size, progress))

    @contextmanager
    def lent(self, name: str) -> Iterator["Kit"]:
        """Itself, if it has this head model.

        Raises:
            HeadlabError: it has another one.
        """
        if name != self.workshop.name:
            raise HeadlabError(f"this fit is of the model {name}, the batch of {self.workshop.name}; use one model")
        yield self

    def head(self, path: Path, photo: Path | None) -> "PhotoHead":
        """See `read_head`."""
        return self._heads(path, photo)

    def source(self, text: str) -> "Source":
        """See `read_source`."""
        return self._sources(text)

    def editor(self, bundle: Path | None) -> "Editor":
        """See `load_editor`."""
        return self._editors(bundle)
