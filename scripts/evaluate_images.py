"""`headlab evaluate images`, `identity`, `emotion`: pictures measured by networks."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ..heads.metrics.network_files import NetworkFiles

if TYPE_CHECKING:
    from ..heads.metrics.report import Report


@dataclass(frozen=True)
class Common:
    """What all of them take."""

    require: bool = False
    """End with exit code 2 where a measure could not be computed."""
    overwrite: bool = False
    """Write into a folder that already holds files."""


@dataclass(frozen=True)
class EvaluateImages:
    """Compare pictures of the same names in two folders, and the folders as sets.

    PSNR, SSIM, LPIPS, identity, shape, emotion pair by pair; Frechet distance (FID), CMMD, precision and recall, IS.
    """

    reference: Annotated[Path, tyro.conf.Positional]
    """Folder of photos as they were."""
    made: Annotated[Path, tyro.conf.Positional]
    """Folder of edited, reconstructed or generated pictures."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for report.html, report.json and the tables."""
    reconstruction: bool = False
    """The second folder holds an autoencoder's pictures of the first: FID is called rFID."""
    networks: Annotated[NetworkFiles, tyro.conf.OmitArgPrefixes] = field(default_factory=NetworkFiles)
    common: Annotated[Common, tyro.conf.OmitArgPrefixes] = field(default_factory=Common)

    def run(self) -> None:
        from ..heads.metrics.chosen import load_networks
        from ..heads.metrics.images import evaluate_images

        prepare(self.out, self.common)
        networks = load_networks(self.networks, "headlab evaluate images")
        report = evaluate_images(
            self.reference, self.made, networks, reconstruction=self.reconstruction, progress=progress
        )
        finish(report, self.out, self.common)


@dataclass(frozen=True)
class EvaluateIdentity:
    """Who is who: EER, FMR100, FMR1000, FDR, the distributions, and ranks in a gallery."""

    folder: Annotated[Path, tyro.conf.Positional]
    """One folder of pictures per person, or pictures named in --labels."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the report."""
    labels: Path | None = None
    """Table with columns file and person (CSV, or tabs)."""
    gallery: Path | None = None
    """Folder of people to rank in, one folder each; by default everyone's first picture."""
    networks: Annotated[NetworkFiles, tyro.conf.OmitArgPrefixes] = field(default_factory=NetworkFiles)
    common: Annotated[Common, tyro.conf.OmitArgPrefixes] = field(default_factory=Common)

    def run(self) -> None:
        from ..heads.metrics.chosen import load_networks
        from ..heads.metrics.people import evaluate_people

        prepare(self.out, self.common)
        networks = load_networks(self.networks, "headlab evaluate identity")
        report = evaluate_people(self.folder, networks, labels=self.labels, gallery=self.gallery, progress=progress)
        finish(report, self.out, self.common)


@dataclass(frozen=True)
class EvaluateEmotion:
    """What emotion network and pictures agree on: accuracy, confusion, CCC, PCC, RMSE, SAGR."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder of pictures."""
    labels: Annotated[Path, tyro.conf.Positional]
    """CSV with columns file and any of expression, valence, arousal."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the report."""
    networks: Annotated[NetworkFiles, tyro.conf.OmitArgPrefixes] = field(default_factory=NetworkFiles)
    common: Annotated[Common, tyro.conf.OmitArgPrefixes] = field(default_factory=Common)

    def run(self) -> None:
        from ..heads.metrics.chosen import load_networks
        from ..heads.metrics.emotions_of import evaluate_emotion

        prepare(self.out, self.common)
        networks = load_networks(self.networks, "headlab evaluate emotion")
        finish(evaluate_emotion(self.folder, self.labels, networks, progress=progress), self.out, self.common)


def progress(line: str) -> None:
    """A line on stderr, over the last one where that is a terminal."""
    import sys

    end = "\r" if sys.stderr.isatty() else "\n"
    print(line, end=end, file=sys.stderr, flush=True)


def prepare(out: Path, common: Common) -> None:
    """Refuse a folder that cannot be used before work is done."""
    from ..heads.output_folder import check_output

    check_output(out, common.overwrite)


def finish(report: "Report", out: Path, common: Common) -> None:
    """Write the report, print its figures and where it lies.

    Raises:
        HeadlabError: something is missing, and `require` is set.
    """
    from ..geometry.errors import HeadlabError
    from ..heads.output_folder import output_folder

    with output_folder(out, common.overwrite) as folder:
        report.write(folder)
    print("\n".join(report.lines()))
    print(out / "report.html")
    if common.require and report.missing:
        names = "; ".join(missing.name for missing in report.missing)
        raise HeadlabError(f"not computed: {names}; the report says what each needs")
