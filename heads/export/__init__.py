"""Heads as files other programs open: GLB with morph targets and skeleton, OBJ, PLY."""

from .glb import write_glb as write_glb
from .obj import write_obj as write_obj
from .ply import write_ply as write_ply
