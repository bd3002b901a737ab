"""Differentiable mesh rasteriser: `rasterize`, then `interpolate`, shade, sample textures, `antialias`."""

from .antialias import antialias as antialias
from .closest import closest_point as closest_point
from .native import RasterError as RasterError
from .raster import Raster as Raster
from .raster import interpolate as interpolate
from .raster import rasterize as rasterize
from .shading import sh_basis as sh_basis
from .shading import shade_sh as shade_sh
from .shading import vertex_normals as vertex_normals
from .texture import sample_texture as sample_texture
