"""Expression transfer among real photos: does the person stay, and does the expression arrive?

    python -m headlab.scripts.bench.transfer ../shared/data build/transfer.json

For every ordered pair of photos: the cosine of a face recognition network between the target photo and the edited one;
and MediaPipe's blend-shape scores of source, target and result (without gaze, which is not transferred): the expression
arrives if the result's lie nearer the source's than the target's did. Then each photo is made to smile and to look
neutral by the category presets, and the smile score compared.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from ...geometry.landmarks import FaceLandmarks, LandmarkDetector
from ...heads.transfer import PhotoHead

PHOTOS = (*(f"p{i:02d}.jpg" for i in range(1, 12)), "multiview_a/view_0.jpg")


@dataclass(frozen=True)
class Args:
    """Transfer expressions among the real photos and measure."""

    data: Annotated[Path, tyro.conf.Positional]
    """Folder with photos/, models/ and face_landmarker.task (see its README)."""
    out: Annotated[Path, tyro.conf.Positional]
    """JSON file to write."""
    pictures: Path | None = None
    """Folder for a strip per target."""
    only: tuple[str, ...] = PHOTOS
    """Photos to take (file names below photos/)."""


def main(args: Args) -> dict[str, Any]:
    import onnxruntime

    from ...datasets.aligned_crop import aligned_crop
    from ...geometry.files import write_png
    from ...geometry.landmarks import open_detector
    from ...heads.emotions import category, expression_of
    from ...heads.fit import FitConfig
    from ...heads.transfer import Source, transfer
    from ...heads.transfer_source import EXPRESSIVE, Workshop, read_head
    from ..transfer import strip

    session = onnxruntime.InferenceSession(str(args.data / "models/identity_mobileface_v2.onnx"))

    def embed(image, points) -> np.ndarray:
        crop = aligned_crop(image, points)
        out = np.asarray(session.run(None, {"data": (crop[None] * 255).numpy().astype(np.float32)})[0])[0]
        return out / np.linalg.norm(out)

    with (
        open_detector() as detector,
        open_detector("tasks", task_file=args.data / "face_landmarker.task") as judge,
    ):
        workshop = Workshop("default", detector, FitConfig(landmarks=EXPRESSIVE))
        model = workshop.model
        heads = {name: read_head(args.data / "photos" / name, workshop) for name in args.only}
        before = {name: nearest_face(judge, head.frame.image, head) for name, head in heads.items()}
        people = {name: embed(head.frame.image, before[name].points) for name, head in heads.items()}
        presets = {
            name: Source(name, expression_of(category(name), model.expression_names)) for name in ("neutral", "happy")
        }
        pairs, smiles = [], []
        for target, head in heads.items():
            sources = [Source(n, other.code.expression, other) for n, other in heads.items() if n != target]
            everything = [*sources, *presets.values()]
            start = time.perf_counter()
            pictures, _ = transfer(model, everything, head)
            seconds = (time.perf_counter() - start) / len(everything)
            smile: dict[str, Any] = {"target": target, "smile": {"photo": smile_score(before[target])}, "identity": {}}
            for source, picture in zip(everything, pictures, strict=True):
                face = nearest_face(judge, picture, head)
                same = float(people[target] @ embed(picture, face.points))
                if source.head is None:
                    smile["smile"][source.name], smile["identity"][source.name] = smile_score(face), same
                    continue
                was, wanted, now = (expression_scores(f) for f in (before[target], before[source.name], face))
                gap, left = np.linalg.norm(was - wanted), np.linalg.norm(now - wanted)
                pairs.append(
                    {
                        "source": source.name,
                        "target": target,
                        "identity": same,
                        "gap_before": float(gap),
                        "gap_after": float(left),
                        "arrives": bool(left < gap),
                        "direction": float((now - was) @ (wanted - was) / (np.linalg.norm(now - was) * gap + 1e-9)),
                        "seconds": seconds,
                    }
                )
            smiles.append(smile)
            print(json.dumps(pairs[-1]), json.dumps(smile), file=sys.stderr)
            if args.pictures is not None:
                args.pictures.mkdir(parents=True, exist_ok=True)
                stem = target.replace("/", "_").rsplit(".", 1)[0]
                write_png(args.pictures / f"{stem}.png", strip(model, head, everything, pictures, 256))
    mean = {
        "pairs": len(pairs),
        "identity": float(np.mean([pair["identity"] for pair in pairs])),
        "identity_least": float(np.min([pair["identity"] for pair in pairs])),
        "arrives": float(np.mean([pair["arrives"] for pair in pairs])),
        "moves_toward": float(np.mean([pair["direction"] > 0 for pair in pairs])),
        "direction": float(np.mean([pair["direction"] for pair in pairs])),
        "gap_left": float(np.sum([p["gap_after"] for p in pairs]) / np.sum([p["gap_before"] for p in pairs])),
        "smile_photo": float(np.mean([row["smile"]["photo"] for row in smiles])),
        "smile_happy": float(np.mean([row["smile"]["happy"] for row in smiles])),
        "smile_neutral": float(np.mean([row["smile"]["neutral"] for row in smiles])),
        "identity_presets": float(np.mean([value for row in smiles for value in row["identity"].values()])),
        "seconds": float(np.mean([pair["seconds"] for pair in pairs])),
    }
    result = {"mean": mean, "pairs": pairs, "smiles": smiles}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1))
    return result


def nearest_face(judge: LandmarkDetector, image, head: PhotoHead) -> FaceLandmarks:
    """The face that was fitted, as the judging detector sees it."""
    assert head.frame.landmarks is not None
    middle = head.frame.landmarks.points.mean(0)
    faces = judge.detect(image)
    if not faces:
        raise RuntimeError(f"no face found any more in {head.frame.source}")
    return min(faces, key=lambda face: float((face.points.mean(0) - middle).norm()))


def expression_scores(face: FaceLandmarks) -> np.ndarray:
    """Blend-shape scores without gaze."""
    assert face.scores is not None
    kept = [not name.startswith(("eyeLook", "_")) for name in face.score_names]
    return face.scores.numpy()[kept]


def smile_score(face: FaceLandmarks) -> float:
    """Mean of both sides' mouthSmile, 0..1."""
    assert face.scores is not None
    return float(np.mean([face.scores[face.score_names.index(f"mouthSmile{side}")] for side in ("Left", "Right")]))


if __name__ == "__main__":
    print(json.dumps(main(tyro.cli(Args))["mean"], indent=1))
