"""Measure the default head against real ones: ICT-FaceKit's identities and actions, and a head scan.

    python -m headlab.scripts.bench.geometry --data ../shared/data --out geometry.json

Distances are in millimetres, in both directions: from the fitted head's face to the real surface, and from the real
face to the fitted head.
"""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from ...geometry.camera import Camera
from ...geometry.fitting.scan import ScanConfig, ScanFit, fit_scan, outer_skin
from ...geometry.fitting.scan_landmarks import ScanTexture, scan_landmarks
from ...geometry.models.closest_surface import closest_points
from ...geometry.models.correspondence import vertex_normals
from ...geometry.models.default import load_default_head
from ...geometry.models.head_model import HeadModel
from ...geometry.models.ict import load_ict
from ...geometry.models.shape_space import align_rigidly, vertex_areas
from ...geometry.raster import Raster, closest_point, rasterize

_MOVED = 0.1  # of an action's largest motion: vertices that move more count as moved


@dataclass(frozen=True)
class Args:
    data: Path  #: folder with ict_facekit.npz and scans/head_a.npz
    out: Path = Path("geometry.json")
    identities: int = 20
    seed: int = 5


def main(args: Args) -> dict:
    model, ict = load_default_head(), load_ict(args.data / "ict_facekit.npz")
    result = {
        "identities": fit_identities(model, ict, args.identities, args.seed),
        "scan": fit_head_scan(model, args.data / "scans"),
        "spread": spread(model, ict),
        "samples": sample_checks(model),
        "actions": compare_actions(model, ict),
    }
    args.out.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


# ------------------------------------------------------------------------------------------------ identities


def fit_identities(model: HeadModel, ict: HeadModel, count: int, seed: int) -> dict:
    """Fit random neutral people of ICT-FaceKit, β ~ N(0, 1), by their 68 landmarks and the surface of their skin.

    Every vertex of the real face counts in `real_to_fit_by_vertex`, folds inside lips, nostrils and lids too, of
    which ICT-FaceKit's mesh has many; in `real_to_fit` each counts by its area.
    """
    rng = np.random.default_rng(seed)
    skin = Skin.of(ict)
    rows = []
    for _ in range(count):
        beta = torch.from_numpy(rng.standard_normal(ict.shapes)).float()
        real = ict.shaped(beta, torch.zeros(ict.expressions)).double().numpy()
        marks = ict.landmarks3d(torch.from_numpy(real).float()).double().numpy()
        start, cpu = time.perf_counter(), time.process_time()
        fit = fit_scan(model, real[skin.vertices], skin.faces, marks)
        seconds = time.perf_counter() - start, time.process_time() - cpu
        head = model.vertices(fit.code).double().numpy()
        forth, back, each = face_distances(model, head, real[skin.vertices], skin.faces, skin.face)
        rows.append(
            {
                "fit_to_real": forth,
                "real_to_fit": back,
                "real_to_fit_by_vertex": each,
                "shape_rms": fit.report["shape_rms"],
                "seconds": seconds[0],
                "cpu_seconds": seconds[1],
            }
        )
    summary = {f"mean_{key}": float(np.mean([row[key] for row in rows])) for key in rows[0]}
    summary |= {f"max_{key}": float(np.max([row[key] for row in rows])) for key in list(rows[0])[:3]}
    return summary | {"each": rows}


@dataclass(frozen=True)
class Skin:
    """The outer skin of ICT-FaceKit as a mesh of its own."""

    vertices: Int[ndarray, "kept"]
    faces: Int[ndarray, "faces 3"]
    face: Bool[ndarray, "kept"]  #: the narrow face

    @classmethod
    def of(cls, ict: HeadModel) -> "Skin":
        mask = (ict.regions["wide_face"] | ict.regions["scalp"] | ict.regions["neck"]).numpy()
        faces = ict.faces.numpy()
        faces = faces[mask[faces].all(1)]
        return cls(np.flatnonzero(mask), (np.cumsum(mask) - 1)[faces], ict.regions["face"].numpy()[mask])


def face_distances(
    model: HeadModel,
    head: Float[ndarray, "verts 3"],
    real: Float[ndarray, "scan 3"],
    real_faces: Int[ndarray, "faces 3"],
    real_face: Bool[ndarray, "scan"],
    *,
    onto_eyes: bool = False,
) -> tuple[float, float, float]:
    """Mean distances in millimetres: fitted face to real surface and real face to fitted skin, both weighted by area,
    and the latter with every vertex alike. `onto_eyes`: the fitted eyeballs count as surface (for closed eyes)."""
    _, skin_faces = outer_skin(model)
    face = model.regions["face"].numpy()
    area = vertex_areas(head, skin_faces)[face]
    forth = _distance(real, real_faces, head[face])
    goal = model.faces.numpy() if onto_eyes else skin_faces
    back = _distance(head, goal, real[real_face])
    real_area = vertex_areas(real, real_faces)[real_face]
    return (
        1e3 * float(forth @ area / area.sum()),
        1e3 * float(back @ real_area / real_area.sum()),
        1e3 * float(back.mean()),
    )


def _distance(vertices: ndarray, faces: ndarray, points: ndarray) -> Float[ndarray, "n"]:
    mesh = torch.from_numpy(np.ascontiguousarray(vertices)), torch.from_numpy(np.ascontiguousarray(faces))
    return closest_point(*mesh, torch.from_numpy(np.ascontiguousarray(points)))[0].numpy()


# ------------------------------------------------------------------------------------------------ scan


def fit_head_scan(model: HeadModel, folder: Path) -> dict:
    """Fit a textured scan of unknown unit, its eyes closed: landmarks from renders of it, then the surface.

    The real face is the part of the scan that can be seen from the front and lies nearest to the fitted face.
    """
    vertices, faces, texture = read_scan(folder)
    marks = find_scan_landmarks(vertices, faces, texture)
    out = {}
    for name, config in (("neutral", ScanConfig()), ("with_expression", ScanConfig(fit_expression=True))):
        fit = fit_scan(model, vertices, faces, marks, scale=True, config=config)
        forth, back, each = scan_distances(model, fit, vertices, faces)
        out[name] = {
            "fit_to_real": forth,
            "real_to_fit": back,
            "real_to_fit_by_vertex": each,
            "metres_per_unit": fit.scale,
            "shape_rms": fit.report["shape_rms"],
        }
    return out


def read_scan(folder: Path) -> tuple[ndarray, ndarray, ScanTexture]:
    from PIL import Image

    with np.load(folder / "head_a.npz") as file:
        scan = {name: file[name] for name in file.files}
    with Image.open(folder / "head_a_albedo.jpg") as image:
        pixels = np.array(image.convert("RGB"), dtype=np.float32) / 255
    uvs = scan["uv"].astype(np.float32) * [1, -1] + [0, 1]  # its v runs downwards
    texture = ScanTexture(
        torch.from_numpy(pixels).permute(2, 0, 1),
        torch.from_numpy(uvs).float(),
        torch.from_numpy(scan["triangles_uv"].astype(np.int64)),
    )
    return scan["vertices"].astype(np.float64), scan["triangles"].astype(np.int64), texture


def find_scan_landmarks(vertices: ndarray, faces: ndarray, texture: ScanTexture | None) -> Float[ndarray, "68 3"]:
    from ...geometry.landmarks import open_detector

    with open_detector() as detector:
        points = scan_landmarks(torch.from_numpy(vertices), torch.from_numpy(faces), detector, texture)
    return points.double().numpy()


def scan_distances(model: HeadModel, fit: ScanFit, vertices: ndarray, faces: ndarray) -> tuple[float, float, float]:
    """`face_distances` to a whole scan, after the fit's scale."""
    head, real = model.vertices(fit.code).double().numpy(), vertices * fit.scale
    _, skin_faces = outer_skin(model)
    hit = closest_points(real, head, skin_faces)
    on_face = (model.regions["face"].numpy()[skin_faces[hit.face]]).all(1)
    near = np.linalg.norm(hit.position - real, axis=1) < 0.02
    return face_distances(model, head, real, faces, on_face & near & seen_from_front(real, faces), onto_eyes=True)


def seen_from_front(vertices: Float[ndarray, "verts 3"], faces: Int[ndarray, "faces 3"]) -> Bool[ndarray, "verts"]:
    """Vertices of triangles that some view within 60 degrees of the front sees."""
    points, triangles = torch.from_numpy(vertices).float(), torch.from_numpy(faces)
    centre = (points.amin(0) + points.amax(0)) / 2
    extent = float((points - centre).norm(dim=1).max())
    seen = torch.zeros(len(points), dtype=torch.bool)
    for degrees in (-60, -30, 0, 30, 60):
        angle = torch.tensor(np.radians(degrees))
        cos, sin = angle.cos(), angle.sin()
        turn = torch.tensor([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]], dtype=torch.float32)
        moved = (points - centre) @ turn.T - torch.tensor([0, 0, 5 * extent])
        camera = Camera.frontal(2400.0, (1024, 1024))
        hit = rasterize(camera.to_homogeneous(moved)[None], triangles, camera.size).face
        seen[triangles[hit[hit >= 0].unique().long()].unique()] = True
    return seen.numpy()


# ------------------------------------------------------------------------------------------------ samples


def spread(model: HeadModel, ict: HeadModel, count: int = 400, seed: int = 3) -> dict:
    """Standard deviation of random people's faces per vertex (norm over x, y, z; mean over the face by area), ours and
    ICT-FaceKit's at corresponding vertices: after rigid alignment, and after the sizes are made equal too."""
    ours_at, theirs_at, area = _matched_vertices(model, ict)
    ours = _people(model, ours_at, count, seed)
    theirs = _people(ict, theirs_at, count, seed)
    out = {}
    for name, equal_size in (("rigid", False), ("similarity", True)):
        a, b = (_deviation(x, equal_size) for x in (ours, theirs))
        out[name] = {
            "default_mm": float(1e3 * a @ area),
            "ict_mm": float(1e3 * b @ area),
            "ratio": float(a @ area / (b @ area)),
            "ratio_percentiles_5_50_95": [float(x) for x in np.percentile(a / b, (5, 50, 95))],
        }
    return out


def _matched_vertices(model: HeadModel, ict: HeadModel) -> tuple[ndarray, ndarray, ndarray]:
    fit, _ = _fit_neutral(model, ict)
    head = model.vertices(fit.code).double().numpy()
    narrow = np.flatnonzero(ict.regions["face"].numpy())
    face = np.flatnonzero(model.regions["face"].numpy())
    offset = np.linalg.norm(ict.template.double().numpy()[narrow][None] - head[face][:, None], axis=-1)
    good = offset.min(1) < 0.004
    area = vertex_areas(head, outer_skin(model)[1])[face[good]]
    return face[good], narrow[offset.argmin(1)[good]], area / area.sum()


def _fit_neutral(model: HeadModel, ict: HeadModel) -> tuple[ScanFit, Skin]:
    skin = Skin.of(ict)
    template = ict.template.double().numpy()
    marks = ict.landmarks3d(ict.template).double().numpy()
    return fit_scan(model, template[skin.vertices], skin.faces, marks), skin


def _people(model: HeadModel, vertices: ndarray, count: int, seed: int) -> Float[ndarray, "count verts 3"]:
    beta = np.random.default_rng(seed).standard_normal((count, model.shapes))
    basis = model.shape_basis.numpy()[vertices]
    return model.template.numpy()[vertices] + np.einsum("nk,vck->nvc", beta, basis, optimize=True)


def _deviation(people: Float[ndarray, "count verts 3"], equal_size: bool) -> Float[ndarray, "verts"]:
    if equal_size:
        people = people - people.mean(1, keepdims=True)
        size = np.sqrt((people**2).sum((1, 2), keepdims=True))
        people = people / size * size.mean()
    rotation, offset = align_rigidly(people, np.ones(people.shape[1], dtype=bool))
    people = np.einsum("nij,nvj->nvi", rotation, people) + offset[:, None]
    return np.sqrt(people.var(0).sum(1))


def sample_checks(model: HeadModel, count: int = 60, seed: int = 5) -> dict:
    """Random people with neutral faces: mouths closed, lids over the eyeballs, sizes of heads."""
    generator = torch.Generator().manual_seed(seed)
    beta = torch.randn(count, model.shapes, generator=generator)
    heads = model.shaped(beta, torch.zeros(model.expressions))
    joints = model.joints(beta)
    eyes = (joints[:, 3] - joints[:, 4]).norm(dim=-1) * 1e3
    breadth = heads[:, model.regions["scalp"], 0]
    breadth = (breadth.amax(1) - breadth.amin(1)) * 1e3
    return {
        "open_mouth_mm2_max": max(open_mouth_area(model, head) for head in heads),
        "eyeball_through_lids_mm2_max": max(eyeball_through_lids(model, head) for head in heads),
        "pupil_distance_mm": [float(eyes.mean()), float(eyes.std())],
        "head_breadth_mm": [float(breadth.mean()), float(breadth.std())],
    }


def open_mouth_area(model: HeadModel, head: Float[torch.Tensor, "verts 3"]) -> float:
    """Visible area of the inside of the mouth from the front, mm²."""
    inside = model.regions["mouth"] | model.regions["teeth"] | model.regions["tongue"]
    raster = _render(model, head, model.landmarks3d(head)[48:68].mean(0))
    shown = raster.mask[0] & inside[model.faces].all(1)[raster.face[0].clamp(min=0).long()]
    return float(shown.sum()) * _PIXEL**2


def eyeball_through_lids(model: HeadModel, head: Float[torch.Tensor, "verts 3"]) -> float:
    """Area of the eyeballs that stands out through the lids, seen from the front, mm².

    There the lids' outer skin, which the mean head shows, follows behind the eyeball.
    """
    ball = model.regions["eyes"][model.faces].all(1)
    total = 0.0
    for name in ("left_eye", "right_eye"):
        mean = _render(model, model.template, model.template[model.regions[name]].mean(0))
        outer = torch.zeros_like(ball)
        outer[mean.face[mean.mask].unique().long()] = True
        raster = _render(model, head, head[model.regions[name]].mean(0), layers=2)
        first, second = raster.face[0].clamp(min=0).long().unbind(-1)
        pierced = raster.mask[0].all(-1) & ball[first] & outer[second] & ~ball[second]
        total += float(pierced.sum()) * _PIXEL**2
    return total


_PIXEL = 0.2  # millimetres


def _render(model: HeadModel, head: torch.Tensor, centre: torch.Tensor, layers: int = 1) -> Raster:
    """Pixels of 0.2 mm, 80 mm around a point, from a metre in front."""
    camera = Camera.frontal(1000 / _PIXEL, (400, 400))
    points = camera.to_homogeneous(head - centre - torch.tensor([0, 0, 1.0]))
    return rasterize(points[None], model.faces, camera.size, layers=layers)


# ------------------------------------------------------------------------------------------------ actions


def compare_actions(model: HeadModel, ict: HeadModel) -> dict:
    """Each ARKit action against ICT-FaceKit's expression of the same name, on corresponding points of the face.

    `direction`: cosine between the two displacements of a vertex, over vertices that both move, weighted by the
    product of their lengths. `agreement`: cosine between the whole fields. `size`: our largest motion to theirs.
    """
    fit, skin = _fit_neutral(model, ict)
    head = model.vertices(fit.code).double().numpy()
    real = ict.template.double().numpy()[skin.vertices]
    face = np.flatnonzero(model.regions["face"].numpy())
    hit = closest_points(head[face], real, skin.faces)
    corners = skin.faces[hit.face]
    normal = (vertex_normals(real, skin.faces)[corners] * hit.weights[..., None]).sum(1)
    own_normal = vertex_normals(head, outer_skin(model)[1])[face]
    good = (np.linalg.norm(hit.position - head[face], axis=1) < 0.003) & ((normal * own_normal).sum(1) > 0.7)
    face, corners, weights = face[good], corners[good], hit.weights[good]
    area = vertex_areas(head, outer_skin(model)[1])[face]
    theirs = _actions_by_name(ict)
    still = model.vertices(fit.code).double().numpy()
    out = {}
    for index, name in enumerate(model.expression_names):
        if name not in theirs:
            continue
        expression = torch.zeros(model.expressions)
        expression[index] = 1
        ours = (model.vertices(replace(fit.code, expression=expression)).double().numpy() - still)[face]
        other = (theirs[name][skin.vertices][corners] * weights[..., None]).sum(1)
        out[name] = _compare_fields(ours, other, area)
    return out


def _actions_by_name(ict: HeadModel) -> dict[str, Float[ndarray, "verts 3"]]:
    """ICT-FaceKit splits two actions into sides that ARKit does not."""
    basis = ict.expression_basis.double().numpy()
    named = {name: basis[..., i] for i, name in enumerate(ict.expression_names)}
    for name in ("browInnerUp", "cheekPuff"):
        named[name] = named.pop(f"{name}Left") + named.pop(f"{name}Right")
    return named


def _compare_fields(ours: ndarray, other: ndarray, area: ndarray) -> dict[str, float]:
    a, b = np.linalg.norm(ours, axis=1), np.linalg.norm(other, axis=1)
    moved = (a > _MOVED * a.max()) & (b > _MOVED * b.max())
    dot = (ours * other).sum(1)
    either = (a > _MOVED * a.max()) | (b > _MOVED * b.max())
    w = area * either
    return {
        "direction": float(dot[moved] @ area[moved] / max((a * b)[moved] @ area[moved], 1e-12)),
        "agreement": float(dot @ w / max(np.sqrt((a**2 @ w) * (b**2 @ w)), 1e-12)),
        "size": float(a.max() / max(b.max(), 1e-12)),
        "ict_max_mm": float(b.max() * 1e3),
    }


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Args))
