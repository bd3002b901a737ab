"""How well fits of real photos agree with the photos: landmarks, an independent look at the render, identity.

    python -m headlab.scripts.bench.photos ../shared/data build/photos.json

For every photo with a face: the error of the fitted 68 points against MediaPipe's reference, the distance between
MediaPipe's points on render.png and on the photo, and the cosine of a face recognition network between both. All
distances are in units of the photo's outer-eye distance. Optionally writes the pictures that `headlab fit` writes.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Args:
    """Fit the real photos and compare."""

    data: Annotated[Path, tyro.conf.Positional]
    """Folder with photos/ and models/ (see its README)."""
    out: Annotated[Path, tyro.conf.Positional]
    """JSON file to write."""
    pictures: Path | None = None
    """Folder for the pictures of every fit."""
    only: tuple[str, ...] = ()
    """Photos to take (file names below photos/); all but the video where empty."""
    photometric: bool = True


def main(args: Args) -> dict[str, Any]:
    import onnxruntime

    from ...datasets.aligned_crop import aligned_crop
    from ...datasets.photo import read_photo
    from ...geometry.files import write_png
    from ...geometry.landmarks import IBUG68, open_detector
    from ...geometry.models.default import load_default_head
    from ...heads.fit import FitConfig, FitTools, fit_photos
    from ...viewers.pictures import overlay, render_head, turntable

    model = load_default_head()
    tools = FitTools.build("default", model)
    reference = np.load(args.data / "photos/mediapipe_reference.npz")
    session = onnxruntime.InferenceSession(str(args.data / "models/identity_mobileface_v2.onnx"))

    def embed(crop: Float[Tensor, "3 112 112"]) -> np.ndarray:
        out = np.asarray(session.run(None, {"data": (crop[None] * 255).numpy().astype(np.float32)})[0])[0]
        return out / np.linalg.norm(out)

    rows = []
    with open_detector() as detector:
        for index, name in enumerate(reference["files"]):
            name = str(name)
            wanted = name in args.only if args.only else not name.startswith("video_a")
            if not wanted or reference["faces_found"][index] == 0:
                continue
            frame = read_photo(args.data / "photos" / name)
            size = torch.tensor([frame.size[1], frame.size[0]])
            truth = torch.from_numpy(reference["landmarks"][index])[:, :2] * size
            faces = detector.detect(frame.image)
            middle = truth.mean(0)
            face = min(range(len(faces)), key=lambda i: float((faces[i].points.mean(0) - middle).norm()))
            start = time.perf_counter()
            fit = fit_photos(tools, [frame], detector, FitConfig(face=face, photometric=args.photometric))
            seconds = time.perf_counter() - start
            code, camera = fit.codes[0], fit.cameras[0]
            eyes = float((truth[33] - truth[263]).norm())
            fitted = camera.project(model.landmarks3d(model.vertices(code), "68"))
            render = render_head(model, code, camera, fit.albedo)[:3]
            again = detector.detect(render)
            row: dict[str, Any] = {
                "photo": name,
                "yaw_degrees": round(float(np.degrees(yaw_of(code.rotation))), 1),
                "nme68": float((fitted - truth[list(IBUG68)]).norm(dim=1).mean()) / eyes,
                "colour_error": fit.report.get("photometric", {}).get("colour_error_after"),
                "beta_rms": float(code.shape.square().mean().sqrt()),
                "focal": float(camera.K[0, 0]) / max(frame.size),
                "seconds": round(seconds, 2),
                "stages": fit.report["seconds"],
            }
            if again:
                seen = again[0].points
                row["render468"] = float((seen[:468] - truth[:468]).norm(dim=1).mean()) / eyes
                row["identity"] = float(embed(aligned_crop(render, seen)) @ embed(aligned_crop(frame.image, truth)))
            rows.append(row)
            print(json.dumps(row), file=sys.stderr)
            if args.pictures is not None:
                args.pictures.mkdir(parents=True, exist_ok=True)
                stem = name.replace("/", "_").rsplit(".", 1)[0]
                write_png(args.pictures / f"{stem}_overlay.png", overlay(frame.image, model, code, camera, fit.albedo))
                write_png(args.pictures / f"{stem}_turntable.png", turntable(model, code, fit.albedo))
                if fit.albedo is not None:
                    write_png(args.pictures / f"{stem}_albedo.png", fit.albedo)
    mean = {
        key: float(np.mean([row[key] for row in rows if key in row]))
        for key in ("nme68", "render468", "identity", "seconds")
    }
    result = {"mean": mean, "faces_on_render": sum("identity" in row for row in rows), "photos": rows}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1))
    return result


def yaw_of(rotation: Float[Tensor, "3"]) -> float:
    """Turn of the head about the vertical, radians."""
    import roma

    forward = roma.rotvec_to_rotmat(rotation)[:, 2]
    return float(torch.atan2(forward[0], forward[2]))


if __name__ == "__main__":
    print(json.dumps(main(tyro.cli(Args))["mean"], indent=1))
