"""The layers of a picture: head, second surface, points, landmarks, each shown or not."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ..heads.view.editor import Posed
from ..heads.view.surface import Surface
from .canvas import Canvas, Style
from .shown import Shown

_SECOND = (0.55, 0.66, 0.80)  # colour of a second surface without colours


@dataclass(frozen=True, eq=False)
class Look:
    """How what was opened is shown now."""

    on: Mapping[str, bool]  #: toggles of the panel, by name
    light: Float[Tensor, "9 3"]  #: a neutral one, as the user turned it
    opacity: float  #: of the head
    posed: Posed | None  #: the head as edited; None without its model
    surface: Surface | None  #: the head's, in the world


def draw_layers(canvas: Canvas, shown: Shown, look: Look) -> None:
    """Draw all layers that are on."""
    on, posed = look.on, look.posed
    style = Style(on.get("texture", True), on.get("wireframe", False), on.get("normals", False))
    if look.surface is not None and on.get("mesh", True):
        # Clay is grey: a fitted light has taken some of the skin's colour.
        light = posed.light if posed is not None and style.texture else look.light
        canvas.draw(look.surface, light, style, look.opacity)
    if shown.surface is not None and on.get("surface", True):
        alone = shown.head is None
        canvas.draw(shown.surface, look.light, style if alone else Style(True, style.wireframe, color=_SECOND))
    if shown.cloud is not None and on.get("cloud", True):
        canvas.draw_points(shown.cloud.cloud.points, shown.cloud.cloud.colors)
    if on.get("landmarks") and posed is not None and shown.head is not None and shown.head.model is not None:
        model = shown.head.model
        which = "68" if "68" in model.landmarks else next(iter(model.landmarks))
        canvas.draw_marks(model.landmarks3d(posed.vertices, which))
