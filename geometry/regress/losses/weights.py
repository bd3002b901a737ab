"""Weights that DECA's training configuration gives to its losses."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DecaLossWeights:
    """Defaults of DECA's code. Sums (code priors, symmetry) go with its batch sizes."""

    landmarks: float = 1.0
    eyelids: float = 1.0
    lips: float = 0.5
    photometric: float = 2.0
    identity: float = 0.2
    shape: float = 1e-4
    expression: float = 1e-4
    albedo: float = 1e-4
    grey_light: float = 1.0
    detail_photometric: float = 2.0
    id_mrf: float = 5e-2  #: times detail_photometric
    displacement: float = 5e-3
    smooth_shading: float = 5e-3
    symmetry: float = 5e-3
