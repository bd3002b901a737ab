"""The one definition of the panel beside the view: groups of sliders, layers, buttons, search.

Both viewers, the window and the web page, build their widgets from it and hand every event to a `Session`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..heads.view.controls import Control


@dataclass(frozen=True)
class Toggle:
    """Something to show or hide, or a way of showing it."""

    name: str
    label: str
    value: bool  #: when the viewer opens
    hint: str = ""


@dataclass(frozen=True)
class Action:
    """A button."""

    name: str
    label: str
    hint: str = ""


@dataclass(frozen=True)
class Group:
    """Sliders of one region."""

    title: str
    controls: tuple[Control, ...]
    open: bool  #: when the viewer opens


@dataclass(frozen=True)
class Panel:
    """All that can be done in a viewer."""

    groups: tuple[Group, ...]
    toggles: tuple[Toggle, ...]
    views: tuple[Action, ...]  #: where from
    edits: tuple[Action, ...]
    saves: tuple[Action, ...]
    frames: int  #: more than one: a play bar
    transfer: bool  #: whether a second head can give its expression

    def found(self, text: str) -> frozenset[str]:
        """Names of the controls that have all words of a search; all of them for an empty one."""
        words = text.lower().split()
        return frozenset(
            control.name
            for group in self.groups
            for control in group.controls
            if all(word in control.words for word in words)
        )


#: Sliders of the view itself, not of the head.
OPACITY = Control("view.opacity", "Opacity", "View", "view", (), 0.0, 1.0, rest=1.0)
STRENGTH = Control("view.strength", "Strength", "Second head", "view", (), 0.0, 1.5, rest=1.0)

_OPEN = ("Jaw", "Mouth and lips", "Light")
_TOGGLES = {
    "mesh": Toggle("mesh", "Head", True),
    "texture": Toggle("texture", "Texture", True, "off: clay"),
    "wireframe": Toggle("wireframe", "Wireframe", False),
    "normals": Toggle("normals", "Normals", False, "colours: x red, y green, z blue"),
    "landmarks": Toggle("landmarks", "Landmarks", False, "hollow where hidden"),
    "cloud": Toggle("cloud", "Points", True, "point cloud or RGB-D frame"),
    "surface": Toggle("surface", "Second surface", True, "an NPHM surface or any other mesh"),
    "photo": Toggle("photo", "Photo behind", False, "through the fitted camera"),
    "follow": Toggle("follow", "Follow the head", True, "the view keeps to the head as it moves"),
    "give": Toggle("give", "Transfer live", True, "the second head's expression on the first"),
}


def build_panel(controls: Iterable[Control], toggles: Sequence[str], *, frames: int, head: bool, second: bool) -> Panel:
    """The panel of what was opened.

    Args:
        controls: of the head's model; none where there is no model.
        toggles: names of the layers there are, of `_TOGGLES`.
        frames: of the track.
        head: whether there is a head with a model, which can be edited and saved.
        second: whether a second head is there already.
    """
    regions: dict[str, list[Control]] = {}
    for control in controls:
        regions.setdefault(control.region, []).append(control)
    groups = [Group(title, tuple(members), title in _OPEN) for title, members in regions.items()]
    # Identities come last: there are many.
    groups.sort(key=lambda group: group.title.startswith("Identity"))
    if second:
        groups.insert(0, Group("Second head", (STRENGTH,), True))
    groups.append(Group("View", (OPACITY,), False))
    edits = (
        Action("fitted", "As fitted", "as it was opened"),
        Action("neutral", "Neutral", "no expression"),
        Action("random", "Random", "an expression at random"),
        Action("person", "Random person", "an identity at random"),
        Action("undo", "Undo"),
        Action("redo", "Redo"),
    )
    saves = (Action("picture", "Save picture", "as shown, PNG"),)
    if head:
        saves += (Action("glb", "Save GLB", "rig and texture"), Action("npz", "Save npz", "all parameters"))
    views = (Action("front", "Front"), Action("left", "Its left"), Action("right", "Its right"))
    chosen = tuple(_TOGGLES[name] for name in toggles)
    return Panel(tuple(groups), chosen, views, edits if head else (), saves, frames, head)
