"""Small data sets written in the exact layouts of AffectNet, FFHQ, CelebA-HQ, VHAP and albums, from given pictures.

For trying a training or a reader before the real data are there; the pictures are synthetic or drawn. Imports no torch.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from .ffhq_align import align_ffhq, ffhq_quad
from .records import EXPRESSIONS

Layout = Literal["affectnet", "affectnet-csv", "ffhq", "celeba-hq", "album", "classes", "vhap"]

#: CelebA's forty attributes, in its order.
ATTRIBUTES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair "
    "Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male "
    "Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks "
    "Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace "
    "Wearing_Necktie Young"
).split()


@dataclass(frozen=True, eq=False)
class Sketch:
    """A picture for a layout, and its labels."""

    pixels: UInt8[np.ndarray, "height width 3"]
    points: Float[np.ndarray, "68 2"]  #: landmarks, pixels
    expression: int = 0  #: index into EXPRESSIONS
    valence: float = 0.0
    arousal: float = 0.0
    person: str = "0"


def write_layout(root: Path, layout: Layout, sketches: Iterable[Sketch]) -> None:
    """Write a set. Existing files of the same names are replaced.

    Args:
        root: folder of the set.
        layout: whose.
        sketches: pictures; every fifth one is for validation where there are splits.
    """
    writers: dict[str, Callable[[Path, Sequence[Sketch]], None]] = {
        "affectnet": _affectnet,
        "affectnet-csv": _affectnet_csv,
        "ffhq": _ffhq,
        "celeba-hq": _celeba_hq,
        "album": lambda root, all: _folders(root, all, lambda s: f"person_{s.person}"),
        "classes": lambda root, all: _folders(root, all, lambda s: EXPRESSIONS[s.expression]),
        "vhap": _vhap,
    }
    root.mkdir(parents=True, exist_ok=True)
    writers[layout](root, list(sketches))


def _split(sketches: Sequence[Sketch]) -> tuple[list[Sketch], list[Sketch]]:
    train = [s for i, s in enumerate(sketches) if i % 5 != 4]
    return train, [s for i, s in enumerate(sketches) if i % 5 == 4]


def _save(path: Path, pixels: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def save_label(path: Path, value: object) -> None:
    """A label as AffectNet stores it: the text of the number, in an array without axes."""
    buffer = io.BytesIO()
    np.save(buffer, np.array(str(value)), allow_pickle=False)
    path.write_bytes(buffer.getvalue())


def _affectnet(root: Path, sketches: Sequence[Sketch]) -> None:
    for folder, part in zip(("train_set", "val_set"), _split(sketches), strict=True):
        notes = root / folder / "annotations"
        notes.mkdir(parents=True, exist_ok=True)
        for i, sketch in enumerate(part):
            _save(root / folder / "images" / f"{i}.jpg", sketch.pixels, quality=95)
            save_label(notes / f"{i}_exp.npy", sketch.expression)
            save_label(notes / f"{i}_val.npy", round(float(sketch.valence), 6))
            save_label(notes / f"{i}_aro.npy", round(float(sketch.arousal), 6))
            np.save(notes / f"{i}_lnd.npy", sketch.points.reshape(-1).astype(np.float64), allow_pickle=False)


def _affectnet_csv(root: Path, sketches: Sequence[Sketch]) -> None:
    header = "subDirectory_filePath face_x face_y face_width face_height facial_landmarks expression valence arousal"
    for name, part in zip(("training.csv", "validation.csv"), _split(sketches), strict=True):
        with (root / name).open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(header.split())
            for i, sketch in enumerate(part):
                picture = f"{i % 7 + 1}/{name[:2]}{i:06d}.jpg"
                _save(root / "Manually_Annotated_Images" / picture, sketch.pixels, quality=95)
                (x, y), (right, bottom) = sketch.points.min(0), sketch.points.max(0)
                box = [int(v) for v in (x, y, right - x, bottom - y)]
                points = ";".join(f"{v:.2f}" for v in sketch.points.reshape(-1))
                nothing = sketch.expression > 8
                va = [-2, -2] if nothing else [round(float(sketch.valence), 6), round(float(sketch.arousal), 6)]
                rows.writerow([picture, *box, points, sketch.expression, *va])


def _ffhq(root: Path, sketches: Sequence[Sketch]) -> None:
    table = {}
    for i, sketch in enumerate(sketches):
        name = f"{i // 1000 * 1000:05d}/{i:05d}.png"
        picture = Image.fromarray(sketch.pixels)
        side = min(picture.size)
        aligned = np.asarray(align_ffhq(picture, sketch.points, side))
        _save(root / "in-the-wild-images" / name, sketch.pixels)
        _save(root / "images1024x1024" / name, aligned)
        _save(root / "thumbnails128x128" / name, np.asarray(Image.fromarray(aligned).resize((128, 128))))
        table[str(i)] = {
            "category": "validation" if i % 5 == 4 else "training",
            "metadata": {"author": "headlab", "license": "Public Domain", "country": "Unknown"},
            "image": {"file_path": f"images1024x1024/{name}", "pixel_size": [side, side]},
            "thumbnail": {"file_path": f"thumbnails128x128/{name}", "pixel_size": [128, 128]},
            "in_the_wild": {
                "file_path": f"in-the-wild-images/{name}",
                "pixel_size": list(picture.size),
                "face_rect": [int(v) for v in (*sketch.points.min(0), *sketch.points.max(0))],
                "face_landmarks": np.round(sketch.points, 2).tolist(),
                "face_quad": np.round(ffhq_quad(sketch.points), 2).tolist(),
            },
        }
    (root / "ffhq-dataset-v2.json").write_text(json.dumps(table))


def _celeba_hq(root: Path, sketches: Sequence[Sketch]) -> None:
    rows, poses, mapping = [], [], ["idx                 orig_idx            orig_file           "]
    for i, sketch in enumerate(sketches):
        _save(root / "CelebA-HQ-img" / f"{i}.jpg", sketch.pixels, quality=95)
        has = [
            ("Smiling" == name) == (sketch.expression == 1) if name == "Smiling" else i % 2 == 0 for name in ATTRIBUTES
        ]
        rows.append(f"{i}.jpg  " + " ".join("1" if value else "-1" for value in has))
        poses.append(f"{i}.jpg {i % 40 - 20:.6f} {i % 20 - 10:.6f} {i % 10 - 5:.6f}")
        original = (162_771 if i % 5 == 4 else 1) + i
        mapping.append(f"{i:<20}{original - 1:<20}{original:06d}.jpg          ")
    count = str(len(sketches))
    head = " ".join(ATTRIBUTES)
    (root / "CelebAMask-HQ-attribute-anno.txt").write_text("\n".join([count, head, *rows]) + "\n")
    (root / "CelebAMask-HQ-pose-anno.txt").write_text("\n".join([count, "Yaw Pitch Raw", *poses]) + "\n")
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text("\n".join(mapping) + "\n")


def _folders(root: Path, sketches: Sequence[Sketch], name: Callable[[Sketch], str]) -> None:
    for i, sketch in enumerate(sketches):
        _save(root / name(sketch) / f"photo_{i}.jpg", sketch.pixels, quality=95)


def _vhap(root: Path, sketches: Sequence[Sketch]) -> None:
    """One moment per two pictures: two cameras, one metre before the head, ten degrees to each side."""
    frames = []
    (root / "flame_param").mkdir(parents=True, exist_ok=True)
    for i, sketch in enumerate(sketches):
        moment, camera = divmod(i, 2)
        name, turn = f"{moment:05d}_{camera:02d}", np.radians(20 * camera - 10)
        height, width = sketch.pixels.shape[:2]
        _save(root / "images" / f"{name}.png", sketch.pixels)
        _save(root / "fg_masks" / f"{name}.png", np.full((height, width), 255, np.uint8))
        pose = np.eye(4)
        pose[:3, :3] = [[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]]
        pose[:3, 3] = pose[:3, 2]
        frames.append(
            {
                "timestep_index": moment,
                "timestep_index_original": moment,
                "timestep_id": f"{moment:05d}",
                "camera_index": camera,
                "camera_id": f"cam{camera}",
                **{
                    "cx": width / 2,
                    "cy": height / 2,
                    "fl_x": 2.0 * width,
                    "fl_y": 2.0 * width,
                    "h": height,
                    "w": width,
                },
                "camera_angle_x": 2 * np.arctan(0.25),
                "camera_angle_y": 2 * np.arctan(0.25 * height / width),
                "transform_matrix": pose.tolist(),
                "file_path": f"images/{name}.png",
                "fg_mask_path": f"fg_masks/{name}.png",
                "flame_param_path": f"flame_param/{moment:05d}.npz",
            }
        )
        zeros = {"translation": 3, "rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6, "expr": 100}
        flame = {key: np.zeros((1, n), np.float32) for key, n in zeros.items()}
        np.savez(root / "flame_param" / f"{moment:05d}.npz", **flame, shape=np.zeros(300, np.float32))
    np.savez(root / "canonical_flame_param.npz", shape=np.zeros(300, np.float32))
    moments = (len(sketches) + 1) // 2
    parts = {"": frames, "_train": [f for f in frames if f["timestep_index"] < max(1, moments - 1)]}
    parts["_val"] = [f for f in frames if f["timestep_index"] >= max(1, moments - 1)]
    for name, chosen in parts.items():
        (root / f"transforms{name}.json").write_text(json.dumps({"frames": chosen}, indent=1))
