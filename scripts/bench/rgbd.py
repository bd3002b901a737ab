"""How good RGB-D reconstruction is: synthetic selfies with known truth, real frames, time, holes, round trips.

    python -m headlab.scripts.bench.rgbd --data ../shared/data --out build/rgbd.json

`people`: mean distance of the face in millimetres with four frames, one frame, and the same four frames without their
depth (`fit_photos`, focal length given). `real`: the frames of ../shared/data/rgbd against upstream's own fusion.
`seconds`: 30 frames of 640 x 480. `holes`, `round_trips`: geometry/rgbd against truth.
"""

import json
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ...geometry.models.default import load_default_head
from ...geometry.models.ict import load_ict

Part = Literal["people", "real", "seconds", "holes", "round_trips"]
_FOUR = [(0.0, 0.0), (36.0, 0.0), (-36.0, 0.0), (0.0, 22.0)]


@dataclass(frozen=True)
class Args:
    data: Path  #: folder with ict_facekit.npz and rgbd/subject_a
    out: Path = Path("rgbd.json")
    people: int = 8
    seed: int = 100
    parts: tuple[Part, ...] = ("people", "real", "seconds", "holes", "round_trips")
    photometric: bool = True


def main(args: Args) -> dict[str, Any]:
    from ...geometry.landmarks import open_detector
    from ...heads.fit import FitTools
    from .rgbd_people import Studio

    model = load_default_head()
    studio = Studio(load_ict(args.data / "ict_facekit.npz"), model)
    tools = FitTools.build("default", model, 512)
    result: dict[str, Any] = {}
    with open_detector() as detector:
        if "people" in args.parts:
            result["people"] = people(studio, tools, detector, args)
        if "real" in args.parts:
            result["real"] = real(tools, detector, args.data / "rgbd/subject_a")
        if "seconds" in args.parts:
            result["seconds"] = seconds(studio, tools, detector, args.seed)
    if "holes" in args.parts:
        result["holes"] = holes(studio, args.seed)
    if "round_trips" in args.parts:
        result["round_trips"] = round_trips(studio, args.seed)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


def people(studio, tools, detector, args: Args) -> dict[str, Any]:
    """Errors per person and method."""
    from dataclasses import replace

    from ...heads.fit import FitConfig, fit_photos
    from ...heads.fit_rgbd import RgbdConfig, fit_rgbd
    from .rgbd_people import FOCAL, face_errors

    config = RgbdConfig(photometric=args.photometric)
    rows = []
    for i in range(args.people):
        selfie = studio.shoot(args.seed + i, _FOUR)
        row: dict[str, Any] = {}
        four = fit_rgbd(tools, selfie.sequence, detector, config)
        frames = [selfie.sequence.read(k) for k in range(4)]
        one = replace(selfie.sequence, names=selfie.sequence.names[:1])
        single = fit_rgbd(tools, one, detector, config)
        photos = [frame.with_(depth=None, camera=None) for frame in frames]
        rgb = fit_photos(tools, photos, detector, FitConfig(focal=FOCAL))
        for name, head, at in (
            ("four", four.head, four.views[0].index),
            ("single", single.head, 0),
            ("rgb", rgb, 0),
        ):
            fitted = tools.model.vertices(head.codes[0])
            row[name] = face_errors(studio.ict, selfie.truth[at], tools.model, fitted)
        row["views"] = [view.name for view in four.views]
        row["aligned"] = sum(v["aligned"] for v in four.head.report["rgbd"]["views"])
        rows.append(row)
        print(json.dumps({k: round(row[k]["rigid_real_to_fit"], 3) for k in ("four", "single", "rgb")}), flush=True)
    mean: dict[str, Any] = {
        name: {key: float(np.mean([row[name][key] for row in rows])) for key in rows[0][name]}
        for name in ("four", "single", "rgb")
    }
    for key in ("rigid_real_to_fit", "rigid_fit_to_real"):
        mean[f"improvement_{key}"] = 1 - mean["four"][key] / mean["rgb"][key]
        scaled = key.replace("rigid", "scaled")
        mean[f"improvement_{scaled}"] = 1 - mean["four"][scaled] / mean["rgb"][scaled]
    return {"mean": mean, "each": rows}


def real(tools, detector, folder: Path) -> dict[str, Any]:
    """Fitted surface against upstream's fused depth: median distance over the face's pixels, along the ray's z and to
    the surface; eyes; a single frame too."""
    from dataclasses import replace

    from ...datasets.depth_map import read_depth
    from ...datasets.rgbd_sequence import open_rgbd
    from ...geometry.raster import closest_point, rasterize
    from ...geometry.rgbd.fusion import frontal
    from ...geometry.rgbd.mesh import mesh_from_depth
    from ...heads.fit_rgbd import fit_rgbd

    out: dict[str, Any] = {}
    whole = open_rgbd(folder)
    single = replace(whole, names=whole.names[:1])
    for name, sequence in (("all", whole), ("single", single)):
        start, cpu = time.perf_counter(), time.process_time()
        fit = fit_rgbd(tools, sequence, detector)
        spent = time.perf_counter() - start, time.process_time() - cpu
        source = fit.frames[0].source
        assert source is not None
        fused = read_depth(folder / source.name.replace("_color", "_depth_fused"))
        camera = fit.head.cameras[0]
        vertices = tools.model.vertices(fit.head.codes[0])
        raster = rasterize(camera.to_homogeneous(vertices)[None], tools.model.faces, camera.size)
        face = tools.model.regions["face"][tools.model.faces].all(1)
        shown = raster.mask[0] & face[raster.face[0].clamp(min=0).long()] & (fused > 0)
        along = (raster.depth[0] - fused)[shown].abs()
        mesh = mesh_from_depth(fused, frontal(camera))
        skin = vertices[tools.model.regions["face"]].double()
        distance = closest_point(mesh.vertices, mesh.faces, skin)[0]
        seen = camera.project(skin.float()).long()
        inside = fused[seen[:, 1].clamp(0, 479), seen[:, 0].clamp(0, 639)] > 0
        out[name] = {
            "along_z_median_mm": 1000 * float(along.median()),
            "to_surface_median_mm": 1000 * float(distance[inside].median()),
            "eye_corners_mm": fit.head.report["rgbd"]["eye_corners_fitted_mm"],
            "eye_corners_measured_mm": fit.head.report["rgbd"]["eye_corners_measured_mm"],
            "landmark_nme": fit.head.report["landmark_nme"],
            "pixels": int(shown.sum()),
            "seconds": round(spent[0], 2),
            "cpu_seconds": round(spent[1], 2),
        }
    return out


def seconds(studio, tools, detector, seed: int, frames: int = 30) -> dict[str, Any]:
    """Wall and CPU time of a whole reconstruction, and its error."""
    from ...heads.fit_rgbd import fit_rgbd
    from .rgbd_people import face_errors, selfie_path

    selfie = studio.shoot(seed + 50, selfie_path(frames))
    start = time.perf_counter()
    used = resource.getrusage(resource.RUSAGE_SELF)
    fit = fit_rgbd(tools, selfie.sequence, detector)
    after = resource.getrusage(resource.RUSAGE_SELF)
    errors = face_errors(
        studio.ict, selfie.truth[fit.views[0].index], tools.model, tools.model.vertices(fit.head.codes[0])
    )
    return {
        "frames": frames,
        "wall": round(time.perf_counter() - start, 2),
        "cpu": round(after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime, 2),
        "stages": fit.head.report["seconds"],
        "fused": fit.head.report["rgbd"]["fused"],
        "views": [f"{view.name} {view.index}" for view in fit.views],
        "errors": errors,
    }


def holes(studio, seed: int) -> dict[str, Any]:
    """Share of hole pixels filled and error against the true depth, for square holes of known width on a face."""
    from ...geometry.rgbd.holes import complete_depth

    selfie = studio.shoot(seed + 70, [(10.0, 0.0)])
    clean, image = selfie.clean[0], selfie.sequence.read(0).image
    rng = np.random.default_rng(seed)
    rows = {}
    for width in (2, 4, 8):
        depth = clean.clone()
        ys, xs = np.nonzero((clean < 1).numpy())
        for k in rng.integers(0, len(ys), 250):
            depth[ys[k] : ys[k] + width, xs[k] : xs[k] + width] = 0
        start = time.process_time()
        full = complete_depth(depth, image, largest=16)
        spent = time.process_time() - start
        made = (depth == 0) & (clean > 0)
        filled = made & (full.depth > 0)
        error = 1000 * (full.depth - clean)[filled].abs()
        face = filled & (clean < 0.56)
        rows[f"{width} px"] = {
            "hole_pixels": int(made.sum()),
            "filled": float(filled.sum() / made.sum()),
            "error_mm_mean": float(error.mean()),
            "error_mm_median": float(error.median()),
            "error_mm_p95": float(error.quantile(0.95)),
            "face_error_mm_mean": float(1000 * (full.depth - clean)[face].abs().mean()),
            "cpu_seconds": round(spent, 3),
        }
    measured = selfie.measured[0]
    full = complete_depth(measured, image, largest=16)
    from ...geometry.rgbd.holes import narrow_holes

    small = torch.from_numpy(narrow_holes((measured == 0).numpy(), 8))
    error = 1000 * (full.depth - clean)[small & (full.depth > 0)].abs()
    rows["sensor, holes up to 8 px"] = {
        "hole_pixels": int(small.sum()),
        "filled": float((full.depth[small] > 0).float().mean()),
        "error_mm_mean": float(error.mean()),
        "error_mm_median": float(error.median()),
    }
    return rows


def round_trips(studio, seed: int) -> dict[str, Any]:
    """Largest differences of depth, metres, over there-and-back conversions: all must be 0."""
    from ...geometry.rgbd import cloud_from_depth, depth_from_cloud, mesh_from_depth, render_mesh, render_points

    selfie = studio.shoot(seed, [(0.0, 0.0)])
    depth = selfie.measured[0]
    camera = selfie.sequence.camera
    assert camera is not None
    cloud = cloud_from_depth(depth, camera)
    mesh = mesh_from_depth(depth, camera)
    return {
        "cloud": float((depth_from_cloud(cloud, camera) - depth).abs().max()),
        "points": float((render_points(cloud.known(), camera, radius=0.5).depth - depth).abs().max()),
        "mesh": float((render_mesh(mesh.vertices, mesh.faces, camera).depth - depth).abs()[depth > 0].max()),
    }


if __name__ == "__main__":
    import tyro

    summary = main(tyro.cli(Args))
    summary.get("people", {}).pop("each", None)
    print(json.dumps(summary, indent=1))
