"""`headlab convert`: one kind of file -> another: fitted heads -> meshes, and (convert_rgbd.py) depth.

What can become what is a table, `CONVERSIONS`: rows of the kind of the source, the target's name (`--to`), and the
function that does it. Kinds are told by looking at the source (`source_kind`), never by asking. A module with more
conversions brings its own rows and its own test for what it reads.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Convert:
    """Convert a head or a capture: `headlab convert head.npz --to mesh --resolution 256`."""

    source: Annotated[Path, tyro.conf.Positional]
    """What to convert: a head.npz of `headlab fit`."""
    to: str = "mesh"
    """What to make of it; a name that does not fit the source is answered with those that do."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """File to write; beside the source where absent. Its ending says the format: .ply, .obj or .glb."""
    resolution: int | None = None
    """Of a neural head's mesh: vertices of the grid along each axis, 256 where absent."""
    expression: int = 0
    """Of a head with several expressions: which one, from 0; -1 for the neutral (a neural head's canonical) one."""
    depth_scale: float | None = None
    """Of an RGB-D capture: metres per count of its depth pictures; 0.001 where the files do not tell."""
    focal: float | None = None
    """Of an RGB-D capture without intrinsics: focal length in pixels."""
    fill: bool = False
    """Of an RGB-D capture: fill narrow holes of the depth."""
    overwrite: bool = False
    """Replace the file if it is there."""

    def run(self) -> None:
        print(convert(self))


@dataclass(frozen=True)
class Conversion:
    """One row of the table."""

    source: str  #: kind, as `source_kind` says it
    target: str  #: as `--to` has it
    make: Callable[[Convert], str]  #: does it, and says in one line what was written


def conversions() -> tuple[Conversion, ...]:
    """All rows."""
    from .convert_head import HEAD_CONVERSIONS
    from .convert_rgbd import RGBD_CONVERSIONS

    return (*HEAD_CONVERSIONS, *RGBD_CONVERSIONS)


def source_kind(path: Path) -> str:
    """What a source is.

    Raises:
        HeadlabError: it is not there, or is nothing that can be converted.
    """
    from ..geometry.errors import HeadlabError
    from .convert_head import head_kind
    from .convert_rgbd import capture_kind

    if not path.exists():
        raise HeadlabError(f"{path} does not exist; name a head.npz that `headlab fit` wrote")
    kind = head_kind(path) or capture_kind(path)
    if kind is None:
        raise HeadlabError(
            f"{path} is nothing that can be converted; give a head.npz that `headlab fit` wrote, or an RGB-D capture"
        )
    return kind


def convert(options: Convert) -> str:
    """What `headlab convert` does; returns one line about what was written.

    Raises:
        HeadlabError: the source cannot be read, has no such target, or the file to write is in the way.
    """
    from ..geometry.errors import HeadlabError

    kind = source_kind(options.source)
    rows = {row.target: row for row in conversions() if row.source == kind}
    if options.to not in rows:
        raise HeadlabError(
            f"{options.source} is a {kind}, of which no {options.to} can be made; --to takes {', '.join(rows)}"
        )
    return rows[options.to].make(options)
