"""Is an album of one person? By what the shape reader and the embedder say of each face (`diffusion/identity`).

Pairs of faces are compared in two ways, face shape in millimetres and cosine; both distances are brought to a scale on
which 1 parts the same person from another, and averaged. The album is split where it parts best (average linkage).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from ..diffusion.identity import Embedder, ShapeReader
from ..geometry.errors import HeadlabError

#: Distances between those of one person and of two in real photos: face shape (mm), 1 - cosine. Measured on 32 photos
#: of nine people: albums of one reach 0.74 to 1.09 (1.5 with one portrait that is read as another face), of two 1.40.
SHAPE_SCALE, COSINE_SCALE = 1.16, 0.315
#: Mean distance between two groups above which they are two people.
TWO_PEOPLE = 1.25


@dataclass(frozen=True)
class People:
    """How an album splits in two, and how clearly."""

    groups: tuple[tuple[int, ...], tuple[int, ...]]  #: photo numbers, the larger group first
    between: float  #: mean distance between the groups; above `TWO_PEOPLE` they are two people
    within: float  #: mean distance within them

    @property
    def several(self) -> bool:
        return self.between > TWO_PEOPLE


@torch.no_grad()
def face_distances(
    crops: Float[Tensor, "photos 3 size size"], reader: ShapeReader, embedder: Embedder
) -> Float[Tensor, "photos photos"]:
    """Distances between all pairs of upright face crops (sRGB 0..1); about 1 parts a person from another."""
    shapes = reader.shapes(crops).double()
    apart = shapes[:, None] - shapes[None]
    squared = torch.einsum("ijs,st,ijt->ij", apart, reader.gram.double(), apart)
    vectors = embedder.vectors(crops).double()
    return (squared.clamp(min=0).sqrt() / SHAPE_SCALE + (1 - vectors @ vectors.mT) / COSINE_SCALE) / 2


def split(distances: Float[Tensor, "photos photos"]) -> People:
    """The two groups that lie farthest apart on average (average linkage)."""
    d = distances.double().cpu().numpy()
    d = ((d + d.T) / 2).clip(min=0)  # 1 - cosine may be below 0 by rounding
    np.fill_diagonal(d, 0)
    tree = linkage(squareform(d, checks=False), "average")
    label = fcluster(tree, 2, "maxclust")
    if len(set(label)) < 2:  # all equally near
        return People((tuple(range(len(d))), ()), float(tree[-1, 2]), float(tree[-1, 2]))
    groups = sorted((tuple(np.flatnonzero(label == k).tolist()) for k in (1, 2)), key=len, reverse=True)
    same = label[:, None] == label[None]
    pairs = np.triu(np.ones_like(d, bool), 1) & same
    within = float(d[pairs].mean()) if pairs.any() else 0.0
    return People((groups[0], groups[1]), float(tree[-1, 2]), within)


def check_one_person(names: Sequence[str], distances: Float[Tensor, "photos photos"]) -> People:
    """Refuse an album of two people.

    Raises:
        HeadlabError: it is; names the photos of the smaller group.
    """
    people = split(distances)
    if people.several:
        others = [names[i] for i in people.groups[1]]
        shown = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
        raise HeadlabError(
            f"the album seems to show two people: {shown} {'differs' if len(others) == 1 else 'differ'} from the other "
            f"{len(people.groups[0])} photos (distance {people.between:.2f}, one person stays below {TWO_PEOPLE:g}); "
            "leave those photos out, or add --anyone if you know better"
        )
    return people
