"""Distance of two meshes of one topology."""

import torch
from jaxtyping import Float
from torch import Tensor


def vertex_distance(
    first: Float[Tensor, "*batch verts coords"], second: Float[Tensor, "*batch verts coords"]
) -> Float[Tensor, ""]:
    """Mean Euclidean distance of corresponding points (upstream's l2_distance)."""
    return torch.linalg.vector_norm(first - second, dim=-1).mean()
