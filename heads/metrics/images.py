"""`headlab evaluate images`: pictures before and after, pair by pair and as sets."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from ...diffusion.identity import load_shape_reader
from ...geometry.errors import HeadlabError
from ...geometry.landmarks.open_detector import open_detector
from ...geometry.regress.default_regressor import WEIGHTS
from .agreement import CLASSES, Confusion, agreement
from .bootstrap import mean_interval
from .chosen import Networks
from .distributions import FeatureMoments, cmmd, frechet_distance, inception_score, precision_recall, report_name
from .emotion_networks import blend_shape_distance
from .faces import Portrait, list_pictures, pairs_by_name, read_portraits
from .image import feature_distance, psnr, ssim
from .networks import FeatureNetwork, NetworkCard, digest, upright_squares
from .report import Missing, Report

_BATCH = 16
#: Pictures whose features are kept for what needs all of them (CMMD, precision and recall); the first so many.
KEPT = 10_000


def evaluate_images(
    reference: Path,
    made: Path,
    networks: Networks,
    *,
    reconstruction: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Compare two folders: pictures of one name with each other, and all of both as sets.

    Args:
        reference: photos as they were (or real ones).
        made: edited, reconstructed or generated pictures.
        networks: what to look with.
        reconstruction: the second folder holds the autoencoder's pictures of the first; FID is then called rFID.
        progress: called with a line now and then.

    Raises:
        HeadlabError: a folder holds no pictures.
    """
    say = progress or (lambda line: None)
    report = Report(f"{made.name or made} against {reference.name or reference}")
    report.settings = {"reference": str(reference), "made": str(made), "pairs": "pictures of the same name"}
    report.missing = list(networks.missing)
    pairs, alone = pairs_by_name(reference, made)
    for name in alone:
        report.leave_out("in one folder only: no pair (counted in the sets)", name)
    with open_detector("tasks" if networks.task_file else "auto", networks.task_file) as detector:
        for i, batch in enumerate(_batches(pairs)):
            first = list(read_portraits([a for a, _ in batch], detector))
            second = list(read_portraits([b for _, b in batch], detector))
            say(f"pairs {i * _BATCH + len(batch)} of {len(pairs)}")
            _measure_pairs(report, reference, batch, first, second, networks)
        _pair_figures(report, networks)
        sides = [_Set.of(folder, networks, detector, report, say) for folder in (reference, made)]
    _set_figures(report, sides[0], sides[1], networks, "rFID" if reconstruction else "FID")
    return report


def _measure_pairs(
    report: Report,
    root: Path,
    paths: Sequence[tuple[Path, Path]],
    first: Sequence[Portrait | HeadlabError],
    second: Sequence[Portrait | HeadlabError],
    networks: Networks,
) -> None:
    usable: list[tuple[dict[str, Any], Portrait, Portrait]] = []
    for (path, _), a, b in zip(paths, first, second, strict=True):
        name = path.relative_to(root).as_posix()
        if isinstance(a, HeadlabError) or isinstance(b, HeadlabError):
            report.leave_out("cannot be read", name)
            continue
        row: dict[str, Any] = {"picture": name}
        report.rows.append(row)
        if a.image.shape == b.image.shape:
            row |= {"psnr": psnr(b.image, a.image)}
            if min(a.image.shape[1:]) >= 11:
                row["ssim"] = ssim(b.image, a.image)
            if networks.lpips is not None and min(a.image.shape[1:]) >= 64:
                row["lpips"] = float(networks.lpips[0].distance(b.image[None], a.image[None])[0])
        else:
            report.leave_out("the two are of different sizes: no PSNR, SSIM, LPIPS", name)
        if a.face is None or b.face is None:
            report.leave_out("no face found in one of the two: no identity, emotion", name)
            continue
        usable.append((row, a, b))
    if not usable:
        return
    one, two = [a for _, a, _ in usable], [b for _, _, b in usable]
    vectors = [_unit(networks.identity.features(side)) for side in (one, two)]
    near = feature_distance(networks.own_identity.stages(one), networks.own_identity.stages(two))
    reader = load_shape_reader()
    with torch.inference_mode():
        shapes = [reader.shapes(upright_squares(side)) for side in (one, two)]
    moved = shapes[1] - shapes[0]
    drift = ((moved @ reader.gram) * moved).sum(-1).clamp(min=0).sqrt()
    read = [networks.emotion.read(side) for side in (one, two)]
    for i, (row, a, b) in enumerate(usable):
        row["csim"] = float(vectors[0][i] @ vectors[1][i])
        row["feature_distance"] = float(near[i])
        row["beta_drift_mm"] = float(drift[i])
        row["expression"], row["expression_made"] = (CLASSES[int(side.category[i])] for side in read)
        for which in ("valence", "arousal"):
            values = [getattr(side, which) for side in read]
            if values[0] is not None:
                row[which], row[f"{which}_made"] = float(values[0][i]), float(values[1][i])
        if (scores := blend_shape_distance(a, b)) is not None:
            row["blend_shapes"] = scores
    if networks.quality is not None:
        for (row, _, _), before, after in zip(
            usable, networks.quality.quality(one), networks.quality.quality(two), strict=True
        ):
            row["quality"], row["quality_made"] = float(before), float(after)


def _pair_figures(report: Report, networks: Networks) -> None:
    own = networks.own_identity.card
    regressor = NetworkCard("headlab regressor", digest(WEIGHTS), "upright square about the face, 96 px")
    wanted: list[tuple[str, str, str, NetworkCard | None, str]] = [
        ("psnr", "PSNR", "dB", None, "mean over pairs; equal pictures count as 100 dB"),
        ("ssim", "SSIM", "", None, "Gaussian window, sigma 1.5"),
        ("lpips", "LPIPS", "", networks.lpips[1] if networks.lpips else None, ""),
        ("feature_distance", f"feature distance ({own.name})", "", own, "LPIPS's form, equal weights; not LPIPS"),
        ("csim", "CSIM", "", networks.identity.card, "cosine of the two embeddings"),
        ("beta_drift_mm", "β drift", "mm", regressor, "root mean square move of the face's vertices, size left out"),
        ("blend_shapes", "blend-shape distance", "", None, "RMS over MediaPipe's scores, gaze left out"),
        ("quality", "face-image quality before", "", networks.quality.card if networks.quality else None, "CR-FIQA"),
        ("quality_made", "face-image quality after", "", networks.quality.card if networks.quality else None, ""),
    ]
    for key, name, unit, card, note in wanted:
        values = np.array([min(row[key], 100.0) if key == "psnr" else row[key] for row in report.rows if key in row])
        if len(values):
            low, high = mean_interval(values)
            report.add(name, float(values.mean()), unit, card, len(values), low, high, note)
    faces = [row for row in report.rows if "expression" in row]
    card = networks.emotion.card
    for which in ("valence", "arousal"):
        read = [(row[f"{which}_made"], row[which]) for row in faces if which in row]
        if read:
            got, true = np.array(read).T
            for name, value in agreement(got, true).items():
                report.add(f"{which} {name}", value, "", card, len(read), note="made against reference")
    if faces:
        number = [[CLASSES.index(row[key]) for row in faces] for key in ("expression_made", "expression")]
        table = Confusion.of(np.array(number[0]), np.array(number[1]))
        report.add("expression unchanged", table.accuracy, "", card, len(faces), note="8 classes")


@dataclass
class _Set:
    """Features of one folder, by network."""

    moments: dict[str, FeatureMoments] = field(default_factory=dict)
    features: dict[str, list[ndarray]] = field(default_factory=dict)
    probabilities: list[ndarray] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path, networks: Networks, detector, report: Report, say: Callable[[str], None]) -> "_Set":
        out = cls()
        paths = list_pictures(folder)
        wanted: list[FeatureNetwork] = [*networks.sets, *([networks.inception] if networks.inception else [])]
        for i, batch in enumerate(_batches(paths)):
            read = list(read_portraits(batch, detector))
            for path, portrait in zip(batch, read, strict=True):
                if isinstance(portrait, HeadlabError):
                    report.leave_out("cannot be read", str(path.relative_to(folder)))
                elif portrait.face is None:
                    report.leave_out("no face found: not in sets seen by face networks", str(path.relative_to(folder)))
            pictures = [p for p in read if isinstance(p, Portrait)]
            for network in wanted:
                usable = [p for p in pictures if p.face is not None] if network.needs_face else pictures
                if usable:
                    out._add(network.card.name, network.features(usable))
            if networks.inception is not None and pictures:
                out.probabilities.append(networks.inception.probabilities(pictures))
            say(f"{folder}: {i * _BATCH + len(batch)} of {len(paths)}")
        return out

    def _add(self, name: str, features: Float[ndarray, "n dims"]) -> None:
        self.moments.setdefault(name, FeatureMoments()).add(features)
        kept = self.features.setdefault(name, [])
        if sum(map(len, kept)) < KEPT:
            kept.append(features.astype(np.float32))


def _set_figures(report: Report, reference: _Set, made: _Set, networks: Networks, fid: str) -> None:
    cards = {network.card.name: network.card for network in networks.sets}
    if networks.inception is not None:
        cards[networks.inception.card.name] = networks.inception.card
    for name, card in cards.items():
        one, two = reference.moments.get(name), made.moments.get(name)
        if one is None or two is None or min(one.count, two.count) < 2:
            report.missing.append(
                Missing(
                    report_name("Frechet distance", name), "fewer than two usable pictures in a folder", "add pictures"
                )
            )
            continue
        count = min(one.count, two.count)
        title = report_name("Frechet distance", name).replace("FID", fid)
        few = " fewer pictures than dimensions: biased upwards" if count < len(one.mean) else ""
        report.add(title, frechet_distance(one, two), "", card, count, note=few.strip())
        a, b = (np.concatenate(side.features[name]) for side in (reference, made))
        report.add(report_name("MMD", name), cmmd(a, b), "", card, min(len(a), len(b)), note="x 1000")
        if min(len(a), len(b)) > 3:
            for title, value in zip(("precision", "recall"), precision_recall(a, b), strict=True):
                report.add(f"{title} ({name})", value, "", card, min(len(a), len(b)), note="k = 3")
    if networks.inception is not None and made.probabilities:
        mean, spread = inception_score(np.concatenate(made.probabilities))
        note = f"± {spread:.3g} over 10 splits"
        report.add("IS", mean, "", networks.inception.card, sum(map(len, made.probabilities)), note=note)


def _batches(items: Sequence[Any]) -> Iterator[list[Any]]:
    walk: Iterable[Any] = iter(items)
    while batch := list(islice(walk, _BATCH)):
        yield batch


def _unit(vectors: Float[ndarray, "n dims"]) -> Float[ndarray, "n dims"]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
