"""Folders in the layout of the NPHM dataset (Giebenhain et al. 2023), the authors' or one's own, as training sets.

    FOLDER/SUBJECT/EXPRESSION/registration.ply      the same topology everywhere
                              scan.ply              where it is: what the surface is learned from; else the registration
                              flame.ply             where it is: the plane through its throat cuts the scan's neck
                              s.npy R.npy t.npy     where they are: nphm = s R raw + t (millimetres)

Meshes are in the fields' frame and unit (250 mm of FLAME). One expression of each subject is the canonical one, neutral
with the mouth open; the dataset does not say which: `neutral` does, by number for all or by a JSON file of
{subject: expression}. Anchors are our own, laid from the default head on the mean registration.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree
from torch import Tensor

from ..geometry.errors import HeadlabError, MissingAssetError
from ..geometry.models.default import load_default_head
from ..geometry.raster import closest_point
from ..geometry.sdf.anchors import FieldFrame, mean_anchors, skin_faces
from ..geometry.sdf.extract import mesh_normals
from ..geometry.sdf.frame import ScanFrame, above_plane
from ..geometry.sdf.registered import RegisteredHeads
from ..geometry.sdf.sampling import CORRESPONDENCE_SIGMAS, Correspondences, SurfaceSamples, visible_faces
from ..geometry.sdf.training_set import PoseSamples, TrainingSet
from .surface_file import read_surface

#: Vertices of FLAME whose plane is the authors' cut through the throat.
_THROAT = (3276, 3207, 3310)
_FLAME_VERTICES = 5023


@dataclass(frozen=True)
class NphmScan:
    """One expression of one subject."""

    subject: str
    expression: str
    folder: Path

    def mesh(self, name: str) -> tuple[Float[Tensor, "verts 3"], Int[Tensor, "faces 3"]]:
        """`scan`, `registration` or `flame`, in the fields' frame.

        Raises:
            MissingAssetError: the file is not there.
            HeadlabError: it cannot be read, or has no triangles or vertices that are no numbers.
        """
        return read_surface(self.folder / f"{name}.ply")

    def frame(self) -> ScanFrame | None:
        """The similarity from the scanner's millimetres; None where its files are not there.

        Raises:
            HeadlabError: they are damaged or no similarity.
        """
        paths = [self.folder / f"{name}.npy" for name in ("s", "R", "t")]
        if not all(path.is_file() for path in paths):
            return None
        try:
            scale, rotation, offset = (np.load(path, allow_pickle=False).astype(np.float32) for path in paths)
        except (OSError, ValueError, EOFError) as error:
            raise HeadlabError(f"{self.folder}: s.npy, R.npy or t.npy is damaged ({error}); get it again") from error
        right = scale.size == 1 and rotation.shape == (3, 3) and offset.size == 3 and float(scale.reshape(())) > 0
        if not right or np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3:
            raise HeadlabError(f"{self.folder}: s.npy, R.npy and t.npy are no similarity; get them again")
        return ScanFrame(float(scale.reshape(())), torch.from_numpy(rotation), torch.from_numpy(offset.reshape(3)))

    def has(self, name: str) -> bool:
        return (self.folder / f"{name}.ply").is_file()


def nphm_scans(folder: Path) -> dict[str, dict[str, NphmScan]]:
    """Subjects and their expressions, sorted; folders without a registration are not among them.

    Raises:
        MissingAssetError: the folder is not there.
        HeadlabError: it holds no subject with a registration.
    """
    if not folder.is_dir():
        raise MissingAssetError(f"{folder} is not there: expected a folder in the layout of the NPHM dataset")
    found: dict[str, dict[str, NphmScan]] = {}
    for registration in sorted(folder.glob("*/*/registration.ply")):
        place = registration.parent
        scan = NphmScan(place.parent.name, place.name, place)
        found.setdefault(scan.subject, {})[scan.expression] = scan
    if not found:
        raise HeadlabError(
            f"{folder} holds no SUBJECT/EXPRESSION/registration.ply; give a folder in the layout of the NPHM dataset"
        )
    return found


def canonical_expressions(scans: dict[str, dict[str, NphmScan]], neutral: str) -> dict[str, str]:
    """Which expression of each subject is canonical; subjects without it are left out.

    Args:
        scans: of `nphm_scans`.
        neutral: an expression's folder name for all; a JSON file of {subject: expression}; "" for each one's first.

    Raises:
        HeadlabError: the JSON file is none, or no subject has that expression.
    """
    if neutral.endswith(".json"):
        try:
            told = json.loads(Path(neutral).read_text(encoding="utf-8"))
            chosen = {str(subject): str(expression) for subject, expression in told.items()}
        except (OSError, ValueError, AttributeError) as error:
            raise HeadlabError(f"{neutral} is no JSON file of {{subject: expression}} ({error})") from error
    else:
        chosen = {subject: neutral or min(expressions) for subject, expressions in scans.items()}
    found = {subject: chosen[subject] for subject in scans if chosen.get(subject) in scans[subject]}
    if not found:
        raise HeadlabError(f"no subject has the canonical expression {neutral}; give --neutral another name")
    return found


@dataclass(frozen=True)
class Topology:
    """What is the same on all registrations."""

    faces: Int[Tensor, "faces 3"]  #: outer ones
    on_face: Bool[Tensor, "faces"]
    face_vertices: Bool[Tensor, "verts"]
    anchors: Int[Tensor, "anchors"]  #: vertices

    @classmethod
    def of(cls, mean: Float[Tensor, "verts 3"], faces: Int[Tensor, "faces 3"]) -> "Topology":
        """From the mean canonical registration: face and anchors are the default head's, at the nearest vertices."""
        model = load_default_head()
        frame = FieldFrame.of(model)
        skin = skin_faces(model)
        _, hit, _ = closest_point(frame.to_field(model.template), skin, mean)
        face_vertices = model.regions["face"][skin[hit.long()]].all(1)
        anchors = torch.cdist(mean_anchors(model), mean).argmin(1)
        outer = faces[visible_faces(mean, faces)]
        return cls(outer, face_vertices[outer].all(1), face_vertices, anchors)


def nphm_training_set(
    folder: Path,
    neutral: str = "",
    face_points: int = 12000,
    rest_points: int = 12000,
    pose_points: int = 3000,
    seed: int = 0,
    callback: Callable[[int], None] | None = None,
) -> TrainingSet:
    """Samples of all subjects: surfaces of the canonical scans, correspondences of the registrations.

    Args:
        folder: see the top of the module.
        neutral: see `canonical_expressions`.
        face_points: on the face of each canonical head.
        rest_points: elsewhere on it.
        pose_points: correspondences of each other expression.
        seed: of the draws.
        callback: told how many subjects are done.

    Raises:
        MissingAssetError, HeadlabError: the folder, a file or the choice of canonical expressions is wrong.
    """
    scans = nphm_scans(folder)
    chosen = canonical_expressions(scans, neutral)
    neutrals = {subject: scans[subject][expression].mesh("registration") for subject, expression in chosen.items()}
    topology = _topology(folder, neutrals)
    heads, poses = [], []
    for number, (subject, expression) in enumerate(chosen.items()):
        draws = torch.Generator().manual_seed(seed * 1_000_003 + number)
        start = neutrals[subject][0]
        heads.append(_surface(scans[subject][expression], start, topology, face_points, rest_points, draws))
        for name, scan in scans[subject].items():
            end = _same(scan, start)
            poses.append(PoseSamples(number, name, _correspondences(start, end, topology, pose_points, draws)))
        if callback is not None:
            callback(number + 1)
    frame = FieldFrame(torch.zeros(3))  # metres of FLAME times 4
    return TrainingSet(tuple(heads), tuple(chosen), tuple(poses), frame, {}, f"nphm {folder.name}")


def registered_folder(folder: Path, expressions: Sequence[int], neutral: str = "") -> RegisteredHeads:
    """All registrations of a folder, to make principal components of and to judge by.

    Args:
        expressions: by their place among each subject's folders; subjects that lack one are left out.

    Raises:
        MissingAssetError, HeadlabError: as `nphm_training_set`, or no subject has these expressions.
    """
    scans = nphm_scans(folder)
    chosen = canonical_expressions(scans, neutral)
    enough = [subject for subject in chosen if all(0 <= i < len(scans[subject]) for i in expressions)]
    if not enough:
        raise HeadlabError(f"no subject in {folder} has the expressions {tuple(expressions)}; ask for fewer")
    neutrals = {subject: scans[subject][chosen[subject]].mesh("registration") for subject in enough}
    topology = _topology(folder, neutrals)
    canonical = torch.stack([vertices for vertices, _ in neutrals.values()])
    posed = [[_same(list(scans[subject].values())[i], neutrals[subject][0]) for i in expressions] for subject in enough]
    none = canonical.new_zeros(0, *canonical.shape[1:])
    return RegisteredHeads(
        canonical,
        torch.stack([torch.stack(row) if row else none for row in posed]),
        tuple(f"expression {i}" for i in expressions),
        topology.faces,
        topology.on_face,
        canonical[:, topology.anchors],
    )


def _topology(folder: Path, neutrals: dict[str, tuple[Tensor, Tensor]]) -> Topology:
    shapes = {vertices.shape for vertices, _ in neutrals.values()}
    if len(shapes) > 1:
        counts = sorted(shape[0] for shape in shapes)
        raise HeadlabError(f"the registrations in {folder} differ in their vertices' number: {counts}")
    mean = torch.stack([vertices for vertices, _ in neutrals.values()]).mean(0)
    return Topology.of(mean, next(iter(neutrals.values()))[1])


def _same(scan: NphmScan, start: Float[Tensor, "verts 3"]) -> Float[Tensor, "verts 3"]:
    vertices, _ = scan.mesh("registration")
    if vertices.shape != start.shape:
        raise HeadlabError(
            f"{scan.folder}/registration.ply has {len(vertices)} vertices, its subject's canonical one {len(start)}; "
            "registrations must share their topology"
        )
    return vertices


def _surface(
    scan: NphmScan,
    registration: Float[Tensor, "verts 3"],
    topology: Topology,
    face_points: int,
    rest_points: int,
    draws: torch.Generator,
) -> SurfaceSamples:
    """Points of the scan where there is one; they are of the face where the nearest registered vertex is."""
    vertices, faces = scan.mesh("scan") if scan.has("scan") else (registration, topology.faces)
    wanted = {True: face_points, False: rest_points}
    parts: dict[bool, list[tuple[Tensor, Tensor]]] = {True: [], False: []}
    plane = _throat(scan)
    tree = KDTree(registration.numpy())
    for _ in range(40):
        points, normals = _sample(vertices, faces, 2 * (face_points + rest_points), draws)
        if plane is not None:
            above = above_plane(points, plane)
            points, normals = points[above], normals[above]
        of_face = topology.face_vertices[torch.from_numpy(tree.query(points.numpy())[1])]
        for side in (True, False):
            parts[side].append((points[of_face == side], normals[of_face == side]))
        if all(sum(len(p) for p, _ in parts[side]) >= wanted[side] for side in wanted):
            break
    else:
        raise HeadlabError(
            f"{scan.folder}: the scan has no face where its registration has one; are both in one frame?"
        )
    out = []
    for side in (True, False):
        out += [torch.cat([part[i] for part in parts[side]])[: wanted[side]] for i in (0, 1)]
    return SurfaceSamples(*out, anchors=registration[topology.anchors])


def _throat(scan: NphmScan) -> Float[Tensor, "3 3"] | None:
    if not scan.has("flame"):
        return None
    vertices, _ = scan.mesh("flame")
    if len(vertices) != _FLAME_VERTICES:
        raise HeadlabError(f"{scan.folder}/flame.ply has {len(vertices)} vertices, {_FLAME_VERTICES} expected")
    return vertices[list(_THROAT)]


def _correspondences(
    start: Tensor, end: Tensor, topology: Topology, count: int, draws: torch.Generator
) -> Correspondences:
    """As `HeadSampler.correspondences`, on registrations."""
    which, weights = _draws(start, topology.faces, count, draws)
    sigma = torch.tensor(CORRESPONDENCE_SIGMAS)[torch.arange(count) * len(CORRESPONDENCE_SIGMAS) // max(count, 1)]
    offset = (sigma * torch.randn(count, generator=draws)).unsqueeze(-1)
    corners = topology.faces[which]
    sides = []
    for vertices in (start, end):
        normal = (mesh_normals(vertices, topology.faces)[corners] * weights[..., None]).sum(1)
        point = (vertices[corners] * weights[..., None]).sum(1)
        sides.append(point + offset * torch.nn.functional.normalize(normal, dim=-1))
    return Correspondences(*sides)


def _sample(vertices: Tensor, faces: Tensor, count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    which, weights = _draws(vertices, faces, count, draws)
    a, b, c = vertices[faces[which]].unbind(1)
    normals = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
    return (torch.stack([a, b, c], 1) * weights[..., None]).sum(1), normals


def _draws(vertices: Tensor, faces: Tensor, count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    a, b, c = vertices[faces].unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=-1).double().cumsum(0)
    at = torch.rand(count, generator=draws, dtype=torch.float64) * area[-1]
    # By the cumulated areas: scans have more triangles than torch.multinomial takes.
    which = torch.searchsorted(area, at).clamp(max=len(faces) - 1)
    u, v = torch.rand(2, count, generator=draws)
    root = u.sqrt()
    return which, torch.stack([1 - root, root * (1 - v), root * v], -1)
