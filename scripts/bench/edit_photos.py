"""Part of `bench.edit`: real photos through every renderer of `headlab transfer`."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...geometry.landmarks import FaceLandmarks
from ...geometry.models.head_model import HeadModel
from ...heads.edit_photo import EditPhotoConfig
from ...heads.transfer import PhotoHead, Source, transfer
from ...heads.transfer_renderer import Editor, choose_renderer, diffusion_renderer, load_editor
from .transfer import expression_scores, nearest_face, smile_score


def photos(args: Any, editor: Editor) -> dict[str, Any]:
    """Presets and one other photo's expression on each photo (`bench.edit.Args`)."""
    import onnxruntime

    from ...datasets.aligned_crop import aligned_crop
    from ...geometry.landmarks import open_detector
    from ...heads.emotions import category, category_index, expression_of
    from ...heads.fit import FitConfig
    from ...heads.transfer_source import Workshop

    session = onnxruntime.InferenceSession(str(args.data / "models/identity_mobileface_v2.onnx"))
    personal = {item.split("=")[0]: load_editor(Path(item.split("=")[1])) for item in args.personal}

    def embed(image: Tensor, face: FaceLandmarks) -> np.ndarray:
        crop = aligned_crop(image, face.points)
        out = np.asarray(session.run(None, {"data": (crop[None] * 255).numpy().astype(np.float32)})[0])[0]
        return out / np.linalg.norm(out)

    rows: list[dict[str, Any]] = []
    with (
        open_detector() as detector,
        open_detector("tasks", task_file=args.data / "face_landmarker.task") as judge,
    ):
        workshop = Workshop("default", detector, FitConfig(), 512)
        model = workshop.model
        heads = {name: fitted(args, name, workshop) for name in args.photos}
        presets = [
            Source(name, expression_of(category(name), model.expression_names), emotion=category_index(name))
            for name in ("neutral", "happy", "surprise")
        ]
        seen = {name: nearest_face(judge, head.frame.image, head) for name, head in heads.items()}
        names = list(heads)
        for number, (name, head) in enumerate(heads.items()):
            other = names[(number + 1) % len(names)]
            sources = [*presets, Source(other, heads[other].code.expression, heads[other])]
            choice = choose_renderer(model, head, editor)
            person = embed(head.frame.image, seen[name])
            own = next((one for prefix, one in personal.items() if name.startswith(prefix)), None)
            sheet = [[square(model, head, head.frame.image)] * 1]
            for kind, renderer in renderers(args, model, head, editor, own).items():
                began, cpu = time.perf_counter(), time.process_time()
                pictures, _ = transfer(model, sources, head, renderer=renderer)
                seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
                sheet.append([square(model, head, picture) for picture in pictures])
                for source, picture in zip(sources, pictures, strict=True):
                    try:
                        face = nearest_face(judge, picture, head)
                    except RuntimeError:
                        rows.append({"photo": name, "source": source.name, "renderer": kind, "face": False})
                        continue
                    row = {
                        "photo": name,
                        "source": source.name,
                        "renderer": kind,
                        "face": True,
                        "zoom": round(crop_zoom(model, head, editor), 3),
                        "auto": choice.renderer,
                        "identity": float(person @ embed(picture, face)),
                        "smile": smile_score(face),
                        "seconds": seconds / len(sources),
                        "cpu_seconds": cpu / len(sources),
                    }
                    if source.head is not None:
                        was, wanted, now = (expression_scores(f) for f in (seen[name], seen[source.name], face))
                        row["gap_before"] = float(np.linalg.norm(was - wanted))
                        row["gap_after"] = float(np.linalg.norm(now - wanted))
                    rows.append(row)
            print(json.dumps(rows[-1]), file=sys.stderr)
            if args.pictures is not None:
                write_sheet(args.pictures / f"{name.replace('/', '_').rsplit('.', 1)[0]}.png", sheet)
    return {"mean": means(rows), "rows": rows}


def renderers(args: Any, model: HeadModel, head: PhotoHead, editor: Editor, own: Editor | None) -> dict[str, Any]:
    """By name, as `transfer` takes them."""
    from ...diffusion.edit import EditConfig

    config = EditConfig(steps=args.steps)

    def by(one: Editor, warped: bool) -> Callable:
        return diffusion_renderer(model, head, one, EditPhotoConfig(config, warped=warped), [])

    kinds: dict[str, Any] = {
        "mesh": None,
        "diffusion": by(editor, False),
        "diffusion, on the mesh's picture": by(editor, True),
    }
    if own is not None:
        kinds |= {"personalised": by(own, False), "personalised, on the mesh's picture": by(own, True)}
    return kinds


def means(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Per renderer; personalised ones next to the others on the same photos."""
    out: dict[str, dict[str, float]] = {}
    known = [row for row in rows if row["face"]]
    learned = {row["photo"] for row in rows if row["renderer"].startswith("personalised")}
    for label, chosen in (("", known), ("learned persons: ", [row for row in known if row["photo"] in learned])):
        for kind in dict.fromkeys(row["renderer"] for row in chosen):
            mine = [row for row in chosen if row["renderer"] == kind]
            if not label and kind.startswith("personalised"):
                continue
            gaps = [row for row in mine if "gap_after" in row]
            out[label + kind] = {
                "edits": len(mine),
                "identity": float(np.mean([row["identity"] for row in mine])),
                "identity_least": float(np.min([row["identity"] for row in mine])),
                "smile_of_happy": float(np.mean([row["smile"] for row in mine if row["source"] == "happy"])),
                "smile_of_neutral": float(np.mean([row["smile"] for row in mine if row["source"] == "neutral"])),
                "arrives": float(np.mean([row["gap_after"] < row["gap_before"] for row in gaps])),
                "gap_left": float(np.sum([r["gap_after"] for r in gaps]) / np.sum([r["gap_before"] for r in gaps])),
                "cpu_seconds": float(np.mean([row["cpu_seconds"] for row in mine])),
                "seconds": float(np.mean([row["seconds"] for row in mine])),
            }
    return out


def fitted(args: Any, name: str, workshop) -> PhotoHead:
    """A photo's fit, kept in a folder where one is named."""
    from ...heads.transfer_source import read_head

    path = args.data / "photos" / name
    if args.fits is None:
        return read_head(path, workshop)
    kept = args.fits / f"{name.replace('/', '_').rsplit('.', 1)[0]}.npz"
    if not kept.is_file():
        args.fits.mkdir(parents=True, exist_ok=True)
        read_head(path, workshop).fit.save(kept)
    return read_head(kept, workshop, path)


def crop_zoom(model: HeadModel, head: PhotoHead, editor: Editor) -> float:
    from ...heads.edit_photo import crop_view

    return crop_view(model, head, editor.size).zoom


def square(model: HeadModel, head: PhotoHead, image: Tensor, side: int = 192) -> Float[Tensor, "3 side side"]:
    """The face's crop, a little wider, for a contact sheet."""
    from dataclasses import replace

    from ...heads.crop_view import CropView
    from ...heads.edit_photo import crop_view

    view = crop_view(model, head, side)
    wide = replace(view.square, side=1.15 * view.square.side)
    return CropView.of_square(wide, view.photo, side).cut(image)


def write_sheet(path: Path, rows: list[list[Tensor]]) -> None:
    """Pictures in rows; shorter rows are filled with white."""
    from ...geometry.files import write_png

    path.parent.mkdir(parents=True, exist_ok=True)
    longest = max(len(row) for row in rows)
    white = torch.ones_like(rows[0][0])
    write_png(path, torch.cat([torch.cat([*row, *[white] * (longest - len(row))], -1) for row in rows], -2))
