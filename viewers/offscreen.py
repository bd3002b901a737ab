"""Figures of what a user named, drawn without a window: films, sheets, comparisons, error maps, strips, grids."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..geometry.errors import HeadlabError
from ..geometry.files import write_png
from ..heads.view.blend import distances, identity_grid
from ..heads.view.opened import Opened, OpenedCloud, OpenedHead, OpenedMesh
from ..heads.view.surface import Surface
from .canvas import Picture, Style
from .figures import before_after, captioned, contact_sheet, side_by_side
from .film import write_film
from .heat_map import good_limit, painted, with_color_bar
from .orbit import Orbit
from .portraits import FLAT, around, portrait, turning
from .session import Session

_SIDES = (math.radians(60), math.radians(25), 0.0, math.radians(-25), math.radians(-60))
_FILM = (480, 420)
_STEPS, _RATE = 6, 25.0

Still = Callable[[Sequence[Opened]], Picture]


def upright(opened: Opened) -> Surface:
    """The surface of what was opened: a head with its expression, upright at the origin.

    Raises:
        HeadlabError: it is a point cloud.
    """
    if isinstance(opened, OpenedMesh):
        return opened.surface
    if isinstance(opened, OpenedCloud):
        raise HeadlabError(f"{opened.name} is a point cloud and has no surface; this figure needs heads or meshes")
    if opened.model is None:
        return opened.surface
    code = opened.fit.codes[0]
    vertices = opened.model.vertices(code.with_(rotation=code.rotation * 0, translation=code.translation * 0))
    return opened.surface.moved(vertices)


def turntable(opened: Sequence[Opened]) -> Picture:
    """The first from five sides: as it is above, clay below."""
    surface = upright(opened[0])
    rows = [around(surface, _SIDES, style=style) for style in (Style(), Style(texture=False))]
    return contact_sheet([*rows[0], *rows[1]], columns=len(_SIDES))


def sheet(opened: Sequence[Opened]) -> Picture:
    """One portrait of each, with its name."""
    return contact_sheet([portrait(upright(item), yaw=0.3) for item in opened], [item.name for item in opened])


def compare(opened: Sequence[Opened]) -> Picture:
    """A row for each: from the left, the front, the right, clay, and its wires; one camera for all."""
    surfaces = [upright(item) for item in opened]
    orbit = Orbit.around(torch.cat([surface.vertices for surface in surfaces]))
    clay = Style(texture=False)
    views = [(math.radians(50), Style()), (0.0, Style()), (math.radians(-50), Style())]
    views += [(0.3, clay), (0.3, replace(clay, wireframe=True))]
    cells, captions = [], []
    for item, surface in zip(opened, surfaces, strict=True):
        cells += [portrait(surface, yaw=yaw, style=style, orbit=orbit, size=(330, 320)) for yaw, style in views]
        captions += ["", item.name, "", "", ""]
    return contact_sheet(cells, captions, columns=len(views))


def errors(opened: Sequence[Opened]) -> Picture:
    """The first one's surface in the colours of its distance to the second one's, millimetres, from three sides.

    Raises:
        HeadlabError: not two surfaces.
    """
    if len(opened) != 2:
        raise HeadlabError(f"{len(opened)} were given; an error map takes two: what is judged, and the truth")
    surface, truth = (upright(item) for item in opened)
    values = distances(surface, truth) * 1000
    limit = good_limit(values)
    colored = painted(surface, values, limit)
    light = torch.tensor(FLAT).expand(9, 3)
    row = side_by_side(around(colored, (math.radians(50), 0.0, math.radians(-50)), light=light))
    mean, most = float(values.mean()), float(values.max())
    text = f"{opened[0].name} to {opened[1].name}: mean {mean:.2f} mm, largest {most:.2f} mm"
    return captioned(with_color_bar(row, limit), text)


def strip(opened: Sequence[Opened]) -> Picture:
    """Before and after: photos above where they are found, the heads seen through their cameras below.

    Raises:
        HeadlabError: something is no head with a model.
    """
    before, after = [], []
    for item in opened:
        if not isinstance(item, OpenedHead) or item.model is None:
            raise HeadlabError(
                f"{item.name} is no head with a model; a strip shows photos and the heads fitted to them"
            )
        session = Session([item])
        photo = item.photo(0)
        camera = item.fit.cameras[0]
        pixels = camera.project(item.model.vertices(item.fit.codes[0]))
        low, high = pixels.amin(0), pixels.amax(0)
        margin = 0.25 * float((high - low).max())
        left, top = (max(0, int(x - margin)) for x in low.tolist())
        right, bottom = (min(n, int(x + margin)) for n, x in zip(camera.size[::-1], high.tolist(), strict=True))
        if photo is None:
            photo = np.full((*camera.size, 3), 128, np.uint8)
        else:
            session.toggle("photo", True)
        rendered = session.picture((camera.size[0], camera.size[1]), camera, fine=True)
        before.append(np.ascontiguousarray(photo[top:bottom, left:right]))
        after.append(np.ascontiguousarray(rendered[top:bottom, left:right]))
    size = (420, max(2, round(420 * before[0].shape[1] / before[0].shape[0])))
    return before_after([_cropped(p, size) for p in before], [_cropped(p, size) for p in after])


def identities(opened: Sequence[Opened]) -> Picture:
    """People between two, three or four people."""
    heads = [item for item in opened if isinstance(item, OpenedHead)]
    if len(heads) < len(opened):
        raise HeadlabError("an identity grid blends heads; leave out meshes and point clouds")
    grid = identity_grid(heads, _STEPS)
    orbit = Orbit.around(grid[0][0].vertices)
    pictures = [portrait(s, yaw=0.25, orbit=orbit, size=(300, 260)) for row in grid for s in row]
    return contact_sheet(pictures, columns=_STEPS)


STILLS: dict[str, Still] = {
    "turntable": turntable,
    "sheet": sheet,
    "compare": compare,
    "errors": errors,
    "strip": strip,
    "identities": identities,
}


def film(opened: Sequence[Opened]) -> tuple[Iterator[Picture], float]:
    """Pictures of a film and how many a second: a track as it plays, anything else turning once around."""
    first = opened[0]
    if isinstance(first, OpenedHead) and first.model is not None and first.frames > 1:
        session = Session(opened)
        times = first.times
        rate = (len(times) - 1) / max(times[-1] - times[0], 1e-6)
        return _played(session), rate
    return turning(upright(first), size=_FILM), _RATE


@torch.inference_mode()
def draw(kind: str, opened: Sequence[Opened], path: Path) -> None:
    """Draw a figure and write it.

    Args:
        kind: of `STILLS`; a turntable or a sheet as .mp4 or .gif is a film.
        opened: what the user named.
        path: .png, or for films .mp4 or .gif.

    Raises:
        HeadlabError: the figure cannot be made of these, or the file not be written.
    """
    suffix = path.suffix.lower()
    if suffix in (".mp4", ".gif"):
        if kind != "turntable":
            raise HeadlabError(f"{kind} is one picture, and {path.name} a film; name a .png, or draw a turntable")
        pictures, rate = film(opened)
        write_film(path, pictures, rate)
        return
    if suffix != ".png":
        raise HeadlabError(f"{path} is neither .png nor .mp4 nor .gif; name one of these")
    picture = STILLS[kind](opened)
    write_png(path, torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 255)


def _played(session: Session) -> Iterator[Picture]:
    for frame in range(session.panel.frames):
        session.seek(frame)
        yield session.picture(_FILM, fine=True)


def _cropped(picture: Picture, size: tuple[int, int]) -> Picture:
    """The picture brought to a size, its middle kept."""
    import cv2

    rows, columns = picture.shape[:2]
    scale = max(size[0] / rows, size[1] / columns)
    wide = np.asarray(cv2.resize(picture, (math.ceil(columns * scale), math.ceil(rows * scale))), np.uint8)
    top, left = (wide.shape[0] - size[0]) // 2, (wide.shape[1] - size[1]) // 2
    return np.ascontiguousarray(wide[top : top + size[0], left : left + size[1]])
