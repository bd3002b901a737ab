"""`headlab evaluate identity`: whose picture is whose, by a recognition network."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...geometry.errors import HeadlabError
from ...geometry.landmarks.open_detector import open_detector
from .chosen import Networks
from .faces import Portrait, list_pictures, read_portraits
from .plots import score_distributions
from .report import Missing, Report
from .verification import count_pairs, gallery_ranks, verification

_DEFINITION = {
    "EER": "where FMR and FNMR are equal",
    "FMR100": "lowest FNMR with FMR <= 1 % (PyEER)",
    "FMR1000": "lowest FNMR with FMR <= 0.1 % (PyEER)",
    "FDR": "(difference of means)² / (sum of variances)",
}


def read_labels(path: Path, root: Path) -> dict[Path, str]:
    """A CSV or tab-separated table with columns `file` and `person` (a header names them), files below a folder.

    Raises:
        HeadlabError: no such columns, or the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise HeadlabError(f"{path} cannot be read ({error}); give a CSV with columns file, person") from error
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t" if "\t" in text.partition("\n")[0] else ","))
    if not rows or not {"file", "person"} <= set(rows[0]):
        raise HeadlabError(f"{path} has no columns `file` and `person`; its first line must name them")
    return {root / row["file"]: row["person"] for row in rows}


def people_of(folder: Path, labels: Path | None = None) -> dict[Path, str]:
    """Pictures and whose they are: by a table, else by the folder in the folder each lies in.

    Raises:
        HeadlabError: pictures lie in no folder of a person and there is no table.
    """
    pictures = list_pictures(folder)
    if labels is not None:
        named = read_labels(labels, folder)
        return {path: named[path] for path in pictures if path in named}
    loose = [path for path in pictures if path.parent == folder]
    if loose:
        raise HeadlabError(
            f"{loose[0]} lies in no person's folder; make one folder per person, or give --labels TABLE (file, person)"
        )
    return {path: path.relative_to(folder).parts[0] for path in pictures}


def evaluate_people(
    folder: Path,
    networks: Networks,
    *,
    labels: Path | None = None,
    gallery: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Error rates among all pictures of a folder, the distributions, and ranks in a gallery.

    Args:
        folder: one folder per person, or pictures named in `labels`.
        networks: what to look with.
        labels: table of files and people.
        gallery: pictures to rank people in, one folder per person; None: each picture in turn looks for its own
            person among all others' first pictures.
        progress: called with a line now and then.

    Raises:
        HeadlabError: no pictures, or no labels.
    """
    report = Report(f"identity in {folder.name or folder}")
    report.settings = {"folder": str(folder), "definitions": _DEFINITION}
    vectors, whose, names = _embedded(people_of(folder, labels), folder, networks, report, progress)
    card = networks.identity.card
    if len(vectors) == 0:
        report.missing.append(Missing("EER, FMR100, FMR1000, FDR", "no face was found in any picture", "add pictures"))
        return report
    counts = count_pairs(vectors, whose)
    try:
        rates = verification(counts)
    except HeadlabError as error:
        report.missing.append(Missing("EER, FMR100, FMR1000, FDR", str(error), "add pictures"))
    else:
        for name in ("EER", "FMR100", "FMR1000", "FDR"):
            value = getattr(rates, name.lower())
            report.add(name, value, "", card, rates.genuine_pairs + rates.impostor_pairs, note=_DEFINITION[name])
        for kind in ("genuine", "impostor"):
            spread = f"± {getattr(rates, f'{kind}_std'):.3f}"
            number = getattr(rates, f"{kind}_pairs")
            report.add(f"{kind} CSIM", getattr(rates, f"{kind}_mean"), "", card, number, note=spread)
        report.pictures["genuine and impostor similarities"] = score_distributions(counts, rates, card.name)
    _rank(report, vectors, whose, names, gallery, networks, progress)
    return report


def _rank(report, vectors, whose, names, gallery, networks, progress) -> None:
    if gallery is not None:
        known, theirs, gallery_names = _embedded(people_of(gallery), gallery, networks, report, progress)
        number = {name: i for i, name in enumerate(gallery_names)}
        asked = np.array([number.get(names[i], -1) for i in whose])
        first = [int(np.flatnonzero(theirs == i)[0]) for i in range(len(gallery_names)) if (theirs == i).any()]
        usable = np.isin(asked, theirs[first]) if len(first) else np.zeros(len(asked), bool)
        probes, wanted = vectors[usable], asked[usable]
        known, theirs = known[first], theirs[first]
    else:
        first = [int(np.flatnonzero(whose == i)[0]) for i in range(len(names)) if (whose == i).any()]
        others = np.setdiff1d(np.arange(len(whose)), first)
        probes, wanted, known, theirs = vectors[others], whose[others], vectors[first], whose[first]
    if len(probes) == 0 or len(known) < 2:
        report.missing.append(
            Missing("identity ranking", "it needs a second picture of someone and two people", "add pictures")
        )
        return
    ranks = gallery_ranks(probes, wanted, known, theirs)
    card = networks.identity.card
    report.add("rank 1", float((ranks == 1).mean()), "", card, len(ranks), note=f"gallery of {len(known)}")
    report.add("mean rank", float(ranks.mean()), "", card, len(ranks), note=f"gallery of {len(known)}")


def _embedded(
    people: dict[Path, str],
    folder: Path,
    networks: Networks,
    report: Report,
    progress: Callable[[str], None] | None,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Vectors of the pictures with a face, the number of each one's person, and the people's names."""
    names = sorted(set(people.values()))
    paths, vectors, whose = list(people), [], []
    with open_detector("auto") as detector:
        for i, (path, read) in enumerate(zip(paths, read_portraits(paths, detector), strict=True)):
            shown = path.relative_to(folder).as_posix()
            if not isinstance(read, Portrait):
                report.leave_out("cannot be read", shown)
            elif read.face is None:
                report.leave_out("no face found", shown)
            else:
                vectors.append(networks.identity.features([read])[0])
                whose.append(names.index(people[path]))
                report.rows.append({"picture": shown, "person": people[path]})
                if networks.quality is not None:
                    report.rows[-1]["quality"] = float(networks.quality.quality([read])[0])
            if progress is not None and i % 16 == 15:
                progress(f"{folder}: {i + 1} of {len(paths)}")
    if networks.quality is not None and report.rows:
        mean = float(np.mean([row["quality"] for row in report.rows]))
        report.add("face-image quality", mean, "", networks.quality.card, len(vectors), note="CR-FIQA")
    return np.array(vectors), np.array(whose, int), names
