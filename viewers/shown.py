"""What was opened, sorted by its part in the picture, and what follows from it: layers, frames, first view."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..geometry.errors import HeadlabError
from ..heads.view.opened import Opened, OpenedCloud, OpenedHead, OpenedMesh
from ..heads.view.surface import Surface
from .orbit import Orbit


@dataclass(frozen=True, eq=False)
class Shown:
    """What was opened, by its part in the picture."""

    head: OpenedHead | None
    surface: Surface | None  #: a mesh of its own, or a second one over the head
    cloud: OpenedCloud | None
    second: OpenedHead | None  #: gives its expression

    @property
    def frames(self) -> int:
        """Of the longer track."""
        return max([item.frames for item in (self.head, self.second) if item is not None], default=1)

    @property
    def times(self) -> tuple[float, ...]:
        """Seconds of the frames of the longer track."""
        tracks = [item for item in (self.head, self.second) if item is not None]
        return max(tracks, key=lambda item: item.frames).times

    def toggles(self) -> list[str]:
        """Names of the layers there are, and of the ways of showing them (see `panel`)."""
        head = self.head
        model = None if head is None else head.model
        names = ["mesh"] if head is not None else []
        names += [] if head is None and self.surface is None else ["texture", "wireframe", "normals"]
        names += ["landmarks"] if model is not None and model.landmarks else []
        names += ["cloud"] if self.cloud is not None else []
        names += ["surface"] if self.surface is not None else []
        names += ["photo"] if model is not None else []
        names += ["follow"] if self.frames > 1 else []
        return names + (["give"] if self.second is not None else [])

    def first_orbit(self) -> Orbit:
        """All of it in the picture; of a head alone, whatever lies over it."""
        if self.head is not None and self.head.model is not None:
            code = self.head.fit.codes[0]
            upright = code.with_(rotation=code.rotation * 0, translation=code.translation * 0)
            return Orbit.around(self.head.model.vertices(upright))
        if self.head is not None:
            return Orbit.around(self.head.surface.vertices)
        if self.surface is not None:
            return Orbit.around(self.surface.vertices)
        assert self.cloud is not None, "nothing was opened"
        points = self.cloud.cloud.points
        # Depth cameras see stray points far behind: they shall not make the person small.
        order, count = points.sort(0).values, len(points)
        low, high = order[count // 100], order[-1 - count // 100]
        return Orbit.around(torch.stack([low, high])).zoomed(0.8)


def sort_out(opened: Sequence[Opened]) -> Shown:
    """The first head is shown, a second one gives its expression; meshes and points lie over it.

    Raises:
        HeadlabError: more heads, meshes or clouds than can be shown at once.
    """
    heads = [item for item in opened if isinstance(item, OpenedHead)]
    meshes = [item for item in opened if isinstance(item, OpenedMesh)]
    clouds = [item for item in opened if isinstance(item, OpenedCloud)]
    for items, most, what in ((heads, 2, "heads"), (meshes, 1, "meshes"), (clouds, 1, "point clouds")):
        if len(items) > most:
            raise HeadlabError(f"{len(items)} {what} were given, {most} can be shown at once; open them one by one")
    return Shown(
        heads[0] if heads else None,
        meshes[0].surface if meshes else None,
        clouds[0] if clouds else None,
        heads[1] if len(heads) > 1 else None,
    )
