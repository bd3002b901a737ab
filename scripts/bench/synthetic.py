"""The generator's speed, and how well the default regressor reads held-out synthetic people and real photos.

    python -m headlab.scripts.bench.synthetic build/synthetic.json --data ../shared/data

Faces are compared unposed, in millimetres: mean distance of the vertices of face, lips and eyelids. Landmark errors
are the 68 points' mean distance over the outer-eye distance of the picture. The spread of faces is the root mean
square distance from their mean; identity stability is the spread of one person's faces (expression taken out) over
that of different people's. Retrieval: every picture asks which of the people, each known by the mean face of the
other pictures, it shows (rank 1); and whether two pictures show one person (equal error rate), by the distance of
faces. With `--readouts` the curve from which the readout's steadiness was chosen is measured, too.
"""

import copy
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from jaxtyping import Float
from torch import Tensor

_IDENTITY = (
    "face_mm",
    "face_mm_aligned_with_scale",
    "mean_face_mm_aligned_with_scale",
    "spread_within_mm",
    "spread_between_mm",
    "identity_stability",
    "rank1",
    "equal_error_rate",
)


@dataclass(frozen=True)
class Args:
    """Measure the generator and the regressor."""

    out: Annotated[Path, tyro.conf.Positional]
    """JSON file to write."""
    data: Path | None = None
    """Folder with photos/ (see its README); photos are left out without it."""
    weights: Path | None = None
    """Other weights than the package's."""
    people: int = 128
    pictures: int = 4
    """Of each person."""
    seed: int = 1_000_003
    """Of the held-out people; training uses small numbers."""
    readouts: Path | None = None
    """Folder of the pictures of `recipes.default_readout`, for the curve."""


def main(args: Args) -> dict[str, Any]:
    from ...geometry.regress.default_regressor import WEIGHTS, load_default_regressor

    regressor = load_default_regressor(args.weights or WEIGHTS)
    result: dict[str, Any] = {"generator": generator_speed(), "regressor_images_per_second": speed(regressor)}
    batches = held_out_people(regressor.model, args)
    result["synthetic"] = held_out(regressor, batches)
    if args.readouts is not None:
        result["readouts"] = readouts(regressor, batches, args.readouts)
    if args.data is not None:
        result["photos"] = photos(regressor, args.data / "photos")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1))
    return result


def generator_speed(count: int = 128) -> dict[str, float]:
    """Pictures of 128 pixels without maps and with them: per second of processor time of one core."""
    from ...datasets.synthetic import SyntheticConfig, SyntheticHeads
    from ...geometry.models.default import load_default_head

    out = {}
    for maps in (False, True):
        heads = SyntheticHeads(load_default_head(), SyntheticConfig(size=128, maps=maps))
        heads.batch(range(32))
        start = time.process_time()
        for first in range(32, 32 + count, 32):
            heads.batch(range(first, first + 32))
        out["with_maps" if maps else "pictures"] = count / (time.process_time() - start)
    return out


def speed(regressor, rounds: int = 20) -> float:
    """Crops per second of processor time, one at a time, network and decoding."""
    crop = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        regressor.regress(crop)
        start = time.process_time()
        for _ in range(rounds):
            regressor.regress(crop)
    return rounds / (time.process_time() - start)


def held_out_people(model, args: Args) -> list:
    """Batches of people never trained on."""
    from ...datasets.synthetic import SyntheticConfig, SyntheticHeads

    config = SyntheticConfig(size=96, seed=args.seed, pictures_per_person=args.pictures, maps=False)
    heads = SyntheticHeads(model, config)
    return [heads.batch(range(first, first + 32)) for first in range(0, args.people * args.pictures, 32)]


def readouts(regressor, batches: list, pictures: Path) -> list[dict[str, float]]:
    """Identity by readouts of other steadiness, all of the same features."""
    from ...geometry.regress.default_regressor import DefaultRegressor
    from ..recipes.default_readout import STEADINESSES, Moments, face_metric, folded, read_people

    moments = Moments.of(*read_people(regressor.net, sorted(pictures.glob("synthetic-*.safetensors"))))
    metric = face_metric(regressor.model)
    rows = []
    for steadiness in STEADINESSES:
        net = copy.deepcopy(regressor.net)
        net.load_state_dict(folded(net.state_dict(), *moments.readout(steadiness, metric)))
        result = held_out(DefaultRegressor(net.eval(), regressor.model), batches)
        rows.append({"steadiness": steadiness} | {name: result[name] for name in _IDENTITY})
    return rows


def held_out(regressor, batches: list) -> dict[str, float]:
    """Errors on these pictures."""
    model = regressor.model
    face = model.regions["face"] | model.regions["lips"] | model.regions["eyelids"]
    nme, turned, errors, aligned, mean_aligned, turns, psi, moves, no_moves, faces, person = ([] for _ in range(11))
    for batch in batches:
        with torch.inference_mode():
            codes, camera = regressor.regress(batch.images.float() / 255)
            points = camera.project(model.landmarks3d(model.vertices(codes), "68"))
        truth = batch.camera.project(model.landmarks3d(model.vertices(batch.codes), "68"))
        nme.append((points - truth).norm(dim=-1).mean(1) / (truth[:, 36] - truth[:, 45]).norm(dim=-1))
        turned.append(_yaw(batch.codes.rotation).abs())
        turns.append(_angle(codes.rotation, batch.codes.rotation))
        none = torch.zeros_like(codes.expression)
        got, want = (1000 * model.shaped(c.shape, none)[:, face] for c in (codes, batch.codes))
        mean = 1000 * model.template[face].expand_as(got)
        errors.append((got - want).norm(dim=-1).mean(1))
        aligned.append(_similar(got, want))
        mean_aligned.append(_similar(mean, want))
        psi.append((codes.expression - batch.codes.expression).abs().mean(1))
        moved = [1000 * model.expression_basis[face] @ c.expression.mT for c in (codes, batch.codes)]
        moves.append((moved[0] - moved[1]).norm(dim=1).mean(0))
        no_moves.append(moved[1].norm(dim=1).mean(0))
        faces.append(got)
        person.append(batch.person)
    error, yaw = torch.cat(nme), torch.cat(turned)
    within, between = spreads(torch.cat(faces), torch.cat(person))
    rank1, equal_error = retrieval(torch.cat(faces), torch.cat(person))
    return {
        "pictures": len(error),
        "landmark_error": float(error.mean()),
        "landmark_error_within_40_degrees": float(error[yaw < np.radians(40)].mean()),
        "rotation_degrees": float(np.degrees(torch.cat(turns).mean())),
        "face_mm": float(torch.cat(errors).mean()),
        "face_mm_aligned_with_scale": float(torch.cat(aligned).mean()),
        "mean_face_mm_aligned_with_scale": float(torch.cat(mean_aligned).mean()),
        "expression_mm": float(torch.cat(moves).mean()),
        "no_expression_mm": float(torch.cat(no_moves).mean()),
        "expression_weight_error": float(torch.cat(psi).mean()),
        "spread_within_mm": within,
        "spread_between_mm": between,
        "identity_stability": within / between,
        "rank1": rank1,
        "equal_error_rate": equal_error,
    }


def photos(regressor, folder: Path) -> dict[str, Any]:
    """Landmark errors on real photos before any refinement; the video's frames apart."""
    from ...datasets.photo import read_photo

    reference = np.load(folder / "mediapipe_reference.npz")
    rows: dict[str, float] = {}
    for index, name in enumerate(map(str, reference["files"])):
        if reference["faces_found"][index]:
            frame = read_photo(folder / name)
            size = torch.tensor([frame.size[1], frame.size[0]])
            points = torch.from_numpy(reference["landmarks"][index])[:, :2].float() * size
            rows[name] = regressor.first_fit([frame.image], points[None]).report.nme[0]
    still = {name: value for name, value in rows.items() if not name.startswith("video")}
    video = [value for name, value in rows.items() if name.startswith("video")]
    return {"mean": float(np.mean(list(still.values()))), "video_mean": float(np.mean(video)), "photos": still}


def spreads(
    faces: Float[Tensor, "pictures verts 3"], person: Float[Tensor, "pictures"] | Tensor
) -> tuple[float, float]:
    """Root mean square distance of faces from their person's mean, and of the people's means from the mean of all.

    Both are unbiased: sums over (count - 1), and the people's means are freed of what one person's spread adds.
    """
    names = person.unique()
    means = torch.stack([faces[person == name].mean(0) for name in names])
    inner = torch.stack(
        [(faces[person == n] - m).square().sum(-1).mean(-1).sum() for n, m in zip(names, means, strict=True)]
    )
    within = inner.sum() / (len(faces) - len(names))
    outer = (means - means.mean(0)).square().sum(-1).mean(-1).sum() / (len(names) - 1)
    between = outer - within * len(names) / len(faces)
    return float(within.sqrt()), float(between.clamp(min=0).sqrt())


def retrieval(faces: Float[Tensor, "pictures verts 3"], person: Tensor) -> tuple[float, float]:
    """Rank 1 and equal error rate of telling people apart by the distance of their faces.

    Args:
        faces: two or more of each person.
        person: whose.
    """
    flat = faces.flatten(1)
    names = person.unique()
    own = person[:, None] == names
    count = own.sum(0)
    means = torch.stack([flat[person == name].mean(0) for name in names])
    distance = torch.cdist(flat, means)
    # A picture is not part of the mean that it is compared with: leaving it out moves its own person's mean away.
    distance = torch.where(own, distance * count / (count - 1), distance)
    rank1 = float((distance.argmin(1) == own.long().argmax(1)).float().mean())
    first, second = torch.triu_indices(len(flat), len(flat), 1)
    between_pictures = torch.cdist(flat, flat)[first, second]
    same = person[first] == person[second]
    order = between_pictures.argsort()
    missed = 1 - same[order].cumsum(0) / same.sum()
    taken = (~same[order]).cumsum(0) / (~same).sum()
    where = int((missed - taken).abs().argmin())
    return rank1, float((missed[where] + taken[where]) / 2)


def _similar(got: Float[Tensor, "batch verts 3"], want: Float[Tensor, "batch verts 3"]) -> Float[Tensor, "batch"]:
    """Mean distance after the best rotation, shift and scale (Umeyama 1991)."""
    a, b = got - got.mean(1, keepdim=True), want - want.mean(1, keepdim=True)
    u, s, vt = torch.linalg.svd(b.mT @ a)
    sign = torch.ones_like(s)
    sign[:, 2] = torch.linalg.det(u @ vt)
    rotation = u * sign[:, None] @ vt
    scale = (s * sign).sum(-1) / a.square().sum((1, 2))
    return (scale[:, None, None] * a @ rotation.mT - b).norm(dim=-1).mean(1)


def _yaw(rotation: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch"]:
    import roma

    forward = roma.rotvec_to_rotmat(rotation)[..., 2]
    return torch.atan2(forward[:, 0], forward[:, 2])


def _angle(a: Float[Tensor, "batch 3"], b: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch"]:
    """Angle between rotations, radians."""
    import roma

    return roma.rotmat_geodesic_distance(roma.rotvec_to_rotmat(a), roma.rotvec_to_rotmat(b))


if __name__ == "__main__":
    print(json.dumps(main(tyro.cli(Args)), indent=1))
