"""Photos of one person share their identity: who is who among the photos of a batch, and heads of many photos.

every photo ──> face shape and likeness vector (`FaceReader`) ──> average linkage ──> an item per person
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from ..datasets.photo import read_photo
from ..diffusion.identity import load_embedder, load_shape_reader
from ..geometry.code import HeadCode
from ..geometry.errors import HeadlabError
from ..geometry.fitting.landmark_fit import fit_landmarks
from ..geometry.frame import Frame
from ..geometry.landmarks import LandmarkDetector
from ..geometry.regress.default_crop import CROP, UprightSquare
from .album_people import COSINE_SCALE, SHAPE_SCALE, TWO_PEOPLE
from .batch_fit import printable
from .batch_items import Item
from .batch_stages import Stage
from .batch_storage import fetched
from .fit import FitConfig, FitTools, detect_face
from .head_fit import HeadFit

#: More faces than this are not compared: their distances would fill 5 GB.
MOST_FACES = 20_000


class FaceReader:
    """A batch task that tells of each photo whose face it shows, in numbers."""

    def __init__(self, detector: LandmarkDetector, face: int, together: int, versions: dict[str, str]) -> None:
        """Load the networks.

        Args:
            detector: of landmarks; closed with the task.
            face: which face of each photo, 0 the largest.
            together: photos that the networks see at once.
            versions: for the manifest.
        """
        self.versions = versions
        self._detector, self._face, self._together = detector, face, together
        self._shapes, self._embedder = load_shape_reader(), load_embedder()
        self.stages: Sequence[Stage] = (
            Stage("decode", self._decode),
            Stage("landmarks", self._crop),
            Stage("network", self._read, together),
        )

    def weigh(self, item: Item) -> int:
        """See `Task`."""
        from .batch_fit import photo_weight

        return photo_weight(item)

    def close(self) -> None:
        """Free the detector."""
        self._detector.close()

    def _decode(self, item: Item) -> Frame:
        with fetched(item.paths[0]) as local:
            return read_photo(local).with_(source=printable(item.paths[0]))

    def _crop(self, frame: Frame) -> tuple[torch.Tensor, float]:
        face, _ = detect_face(frame, self._detector, self._face)
        return UprightSquare.from_landmarks(face.points[None]).cut(frame.image[None], CROP), face.size

    @torch.no_grad()
    def _read(self, states: list[tuple[torch.Tensor, float]]) -> list[dict[str, Any]]:
        crops = torch.cat([crop for crop, _ in states])
        crops = torch.nn.functional.pad(crops, (0, 0, 0, 0, 0, 0, 0, self._together - len(crops)))
        # Coordinates in which distances are millimetres on the face.
        factor = torch.linalg.cholesky(self._shapes.gram.double() + 1e-9 * torch.eye(len(self._shapes.gram)))
        shapes = self._shapes.shapes(crops).double() @ factor
        vectors = self._embedder.vectors(crops)
        return [
            {"shape": _rounded(shape), "vector": _rounded(vector), "size": round(size, 1)}
            for (_, size), shape, vector in zip(states, shapes, vectors, strict=False)
        ]


def _rounded(values: torch.Tensor) -> list[float]:
    return [round(x, 5) for x in values.tolist()]


def people_of(
    shapes: Float[np.ndarray, "faces shape"], vectors: Float[np.ndarray, "faces dims"], apart: float = TWO_PEOPLE
) -> list[list[int]]:
    """Group faces by person: average linkage of the distances of `album_people`, cut where two people begin.

    Args:
        shapes: in coordinates whose distances are millimetres on the face.
        vectors: of the identity embedder, of unit length.
        apart: mean distance between groups above which they are two people.

    Returns:
        Numbers of the faces of each person, those nearest to all others first; people in the order of their first face.

    Raises:
        HeadlabError: too many faces.
    """
    if len(shapes) > MOST_FACES:
        raise HeadlabError(
            f"{len(shapes)} faces are too many to compare with each other (up to {MOST_FACES}); group by folder, "
            "or make several batches"
        )
    if len(shapes) < 2:
        return [[i] for i in range(len(shapes))]
    distances = (pdist(shapes) / SHAPE_SCALE + pdist(vectors, "cosine").clip(min=0) / COSINE_SCALE) / 2
    labels = fcluster(linkage(distances, "average"), apart, "distance")
    people: dict[int, list[int]] = {}
    for i, label in enumerate(labels.tolist()):
        people.setdefault(label, []).append(i)
    return [_central_first(members, shapes, vectors) for members in people.values()]


def _central_first(members: list[int], shapes: np.ndarray, vectors: np.ndarray) -> list[int]:
    if len(members) < 3:
        return members
    own, likeness = shapes[members], vectors[members]
    far = np.linalg.norm(own - own.mean(0), axis=1) / SHAPE_SCALE + (1 - likeness @ likeness.mean(0)) / COSINE_SCALE
    return [members[i] for i in np.argsort(far, kind="stable")]


def person_items(groups: Iterable[Sequence[Item]]) -> list[Item]:
    """An item per person; its key tells its photos, so that other photos make another item."""
    items = []
    for i, group in enumerate(groups, 1):
        keys = "\n".join(sorted(item.key for item in group)).encode("utf-8", "surrogatepass")
        paths = tuple(path for item in group for path in item.paths)
        items.append(Item(f"person:{sha256(keys).hexdigest()[:32]}", f"person_{i:05d}", "person", paths))
    return items


def with_more_photos(
    tools: FitTools, head: HeadFit, frames: Iterable[Frame], detector: LandmarkDetector, config: FitConfig
) -> tuple[HeadFit, dict[str, str]]:
    """A head with further photos of its person: identity, colours and light held, pose and expression fitted.

    Args:
        tools: prepared head model.
        head: of the person.
        frames: taken one at a time.
        detector: landmark network.
        config: `face`, `focal` and `landmarks` are used.

    Returns:
        The head with a code and a camera more per photo; and photos that show no face, with the reason.
    """
    held = replace(config.landmarks, fit_shape=False)
    rows: list[HeadCode] = []
    cameras, sources, photos, dropped = [], [], [], {}
    for frame in frames:
        try:
            face, _ = detect_face(frame, detector, config.face)
        except HeadlabError as error:
            dropped[str(frame.source)] = str(error)
            continue
        focal = [frame.focal if config.focal is None else config.focal]
        points, size = face.points[None], [frame.size]
        free = fit_landmarks(tools.basis, points, size, focal=focal, config=config.landmarks)
        start = replace(free, codes=free.codes.with_(shape=head.codes.shape[:1].to(free.codes.shape)))
        fit = fit_landmarks(tools.basis, points, size, focal=focal, init=start, config=held)
        light = None if head.codes.light is None else head.codes.light.mean(0, keepdim=True)
        albedo = None if head.codes.albedo is None else head.codes.albedo[:1]
        rows.append(fit.codes.to(dtype=torch.float32).with_(shape=head.codes.shape[:1], light=light, albedo=albedo))
        cameras.append(fit.cameras[0].to(dtype=torch.float32))
        sources.append(frame.source.name if frame.source else f"photo {len(head.sources) + len(sources)}")
        photos.append(
            {"source": str(frame.source), "size": list(frame.size), "landmark_nme": round(fit.report.nme[0], 5)}
        )
    if not rows:
        return head, dropped
    every = [head.codes, *rows]
    fields = {name: torch.cat([codes.arrays()[name] for codes in every]) for name in head.codes.arrays()}
    report = {**head.report, "photos": [*head.report.get("photos", []), *photos]}
    return (
        replace(
            head,
            codes=HeadCode(**fields),
            cameras=(*head.cameras, *cameras),
            sources=(*head.sources, *sources),
            report=report,
        ),
        dropped,
    )
