"""What photos and depth do not show of a head: hair by a chosen style, eyes and teeth where a model has none.

The skull itself needs nothing here: fitting (`geometry/fitting`) estimates the whole identity from the face, so the
rest of the head is its conditional mean given the face.
"""

from .dress import dressed as dressed
from .hair_styles import HairStyle as HairStyle
from .hair_styles import find_style as find_style
from .hair_styles import list_styles as list_styles
from .templates import with_eyes_and_teeth as with_eyes_and_teeth
