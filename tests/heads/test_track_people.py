"""Who is who: synthetic people who cross and hide each other, against the truth."""

import numpy as np
import pytest
import torch

from headlab.datasets.synthetic import SyntheticConfig, SyntheticHeads
from headlab.geometry.landmarks import FaceLandmarks
from headlab.geometry.regress.identity_net import load_identity_embedder
from headlab.heads.track_follow import FaceFollower
from headlab.heads.track_people import FaceEmbedder, Likeness, People

SIDE = 200


@pytest.fixture(scope="module")
def people(default_head):
    """Two pictures each (another pose, light and backdrop) of two persons the detector finds."""
    heads = SyntheticHeads(default_head, SyntheticConfig(size=SIDE, seed=3, pictures_per_person=4, maps=False))
    batch = heads.batch([0, 1, 5, 7])
    assert batch.person.tolist() == [0, 0, 1, 1]
    return batch.images.permute(0, 2, 3, 1).numpy()


def street(first: np.ndarray, second: np.ndarray, left: int) -> np.ndarray:
    """The first walks right, behind the second, who walks left."""
    picture = np.full((SIDE + 40, 560, 3), 128, np.uint8)
    for face, x in ((first, left), (second, 360 - left)):
        picture[20 : 20 + SIDE, x : x + SIDE] = face
    return picture


@pytest.mark.slow
@pytest.mark.parametrize("changed", [False, True])
def test_the_first_of_two_who_cross_goes_on(people, detector, changed: bool) -> None:
    """In the second case both look otherwise after they met; only who they are tells them apart."""
    follower = FaceFollower(detector, None, load_identity_embedder())
    lefts = np.linspace(0, 360, 30).round().astype(int)
    follows = []
    for i, left in enumerate(lefts):
        pick = int(changed and i >= 15)
        face = follower.next(street(people[pick], people[2 + pick], int(left)), i / 25)
        if face is None:
            follows.append(-1)
            continue
        x = float(face.points[:, 0].mean())
        distances = [abs(x - left - SIDE / 2), abs(x - (360 - left) - SIDE / 2)]
        follows.append(int(np.argmin(distances)) if min(distances) < 45 else 2)
    assert set(follows) <= {0, -1}  # never the other
    assert follows[:8] == [0] * 8 and follows[-6:] == [0] * 6


class Told:
    """An embedder that says what it is told."""

    vector = torch.tensor([1.0, 0.0])

    def embed(self, crops):
        assert crops.shape[1:] == (3, 96, 96) and 0 <= float(crops.min()) <= float(crops.max()) <= 1
        return self.vector[None]


def test_identity_outweighs_looks() -> None:
    assert isinstance(Told(), FaceEmbedder) and isinstance(load_identity_embedder(), FaceEmbedder)
    assert not Likeness(0.5, 0.2, 0.9, 0.3).taken_for_other
    assert Likeness(0.2, 0.5, 0.3, 0.9).taken_for_other
    assert Likeness(0.5, 0.2, 0.50, 0.52).taken_for_other  # undecided: looks tell
    assert Likeness(0.5, 0.2).taken_for_other and not Likeness(0.5, float("inf")).taken_for_other


def test_what_is_remembered() -> None:
    told, rng = Told(), np.random.default_rng(0)
    known = People(told)
    points = torch.rand(478, 2, generator=torch.Generator().manual_seed(1)) * 60 + 20
    points[33], points[263] = torch.tensor([35.0, 40.0]), torch.tensor([65.0, 40.0])
    points[133], points[362] = torch.tensor([45.0, 40.0]), torch.tensor([55.0, 40.0])
    points[61], points[291] = torch.tensor([40.0, 65.0]), torch.tensor([60.0, 65.0])
    face = FaceLandmarks(points, torch.zeros(478), 1.0)
    mine, other = (rng.integers(0, 255, (100, 100, 3)).astype(np.uint8) for _ in range(2))
    assert not known.known and known.compare(mine, face).own == float("inf")
    known.remember(mine, face, own=True)
    told.vector = torch.tensor([0.0, 1.0])
    known.remember(other, face, own=False)
    seen = known.compare(other, face)
    assert known.known and seen.other < 1e-6 < seen.own and (seen.same, seen.strange) == (0.0, 1.0)
    assert known.compare(other, face, identity=False).same is None
    assert People(None).compare(mine, face).same is None
