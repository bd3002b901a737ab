"""`headlab data`: look at data sets, count and balance their labels, convert them to stores, make synthetic ones.

Data sets are named KIND:PATH, with options after a question mark, as in affectnet:/data/AffectNet?split=train.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..datasets.balance import Balance
from ..datasets.convert import ConvertConfig
from ..geometry.errors import HeadlabError

Spec = Annotated[str, tyro.conf.Positional]


@dataclass(frozen=True)
class Convert:
    """Convert a data set into a store. A conversion that was stopped goes on when it is started again."""

    source: Spec
    """KIND:PATH: affectnet, ffhq, celeba-hq, album, classes, video, vhap, synthetic, lmdb, rig, wds, ..."""
    target: Spec
    """lmdb:FOLDER (DiffAE's layout), wds:FOLDER or wds:s3://... (WebDataset), rig:FOLDER (DiffusionRig's, of fits)."""
    sizes: tuple[int, ...] = (256,)
    """Sides of the stored pictures, pixels."""
    fits: Path | None = None
    """Folder of fits of these pictures (KEY/head.npz, as `headlab fit` writes them): kept with the pictures."""
    detect: bool = False
    """Find landmarks where the set has none, as alignment needs them."""
    per_shard: int = 1000
    """Pictures per WebDataset shard."""
    most_gigabytes: float | None = None
    """Size that an LMDB store may reach."""
    pictures: ConvertConfig = field(default_factory=ConvertConfig)

    def run(self) -> None:
        from .data_convert import convert_set

        convert_set(self)


@dataclass(frozen=True)
class Inspect:
    """Look at every picture of a data set: classes, sizes, duplicates, what cannot be read, valence and arousal."""

    source: Spec
    """KIND:PATH."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder for report.json and valence_arousal.png."""
    bad: Literal["skip", "stop"] = "skip"
    """Bad items: name and count, or stop."""
    threads: int = 2
    """Pictures at once."""

    def run(self) -> None:
        from ..datasets.inspection import inspect, summary
        from ..datasets.kinds import DataSpec

        with Counter("inspecting") as bar:
            items = DataSpec.parse(self.source).items()
            found = inspect(items, policy=self.bad, threads=self.threads, callback=lambda found: bar.step())
        print("\n".join(summary(found)))
        if self.out is not None:
            _write_report(self.out, found.told(), found.valence_arousal)


@dataclass(frozen=True)
class Stats:
    """Count the labels of a data set, without looking at the pictures."""

    source: Spec
    """KIND:PATH."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder for report.json and valence_arousal.png."""
    bad: Literal["skip", "stop"] = "skip"
    """Bad items: name and count, or stop."""

    def run(self) -> None:
        import numpy as np

        from ..datasets.balance import count_table
        from ..datasets.kinds import DataSpec
        from ..datasets.label_table import label_table

        table = label_table(DataSpec.parse(self.source), self.bad)
        counts = table.counts()
        print("\n".join(count_table(counts)))
        if table.splits:
            print(", ".join(f"{name}: {count}" for name, count in sorted(table.splits.items())))
        known = np.isfinite(table.valence) & np.isfinite(table.arousal)
        va = np.stack([table.valence[known], table.arousal[known]], 1).astype(float)
        if len(va):
            (v, a), (dv, da) = va.mean(0), va.std(0)
            print(f"valence {v:+.3f} (deviation {dv:.3f}), arousal {a:+.3f} (deviation {da:.3f}), {len(va)} items")
        print("\n".join(table.faults.lines()) or "no bad items")
        if self.out is not None:
            told = {
                "items": len(table),
                "counts": counts,
                "splits": table.splits,
                "faults": {"counts": dict(table.faults.counts), "named": table.faults.named},
            }
            rows = list(zip(va[:, 0].tolist(), va[:, 1].tolist(), table.expression[known].tolist(), strict=True))
            _write_report(self.out, told, rows)


@dataclass(frozen=True)
class BalanceSet:
    """Balance the expressions of a data set: the table of counts before and after, and how often each item comes."""

    source: Spec
    """KIND:PATH."""
    balance: tyro.conf.OmitArgPrefixes[Balance] = field(default_factory=lambda: Balance("oversample"))
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """File for a line of JSON per item: key, expression, repeats, weight."""
    bad: Literal["skip", "stop"] = "skip"
    """Bad items: name and count, or stop."""

    def run(self) -> None:
        import json

        import numpy as np

        from ..datasets.balance import count_table, repeats, weights
        from ..datasets.kinds import DataSpec
        from ..datasets.label_table import label_table

        table = label_table(DataSpec.parse(self.source), self.bad)
        times = repeats(table.expression, self.balance)
        known = table.expression >= 0
        after = np.bincount(table.expression[known], times[known], minlength=11).astype(int)
        print("\n".join(count_table(table.counts()[:11], after)))
        factor = weights(table.expression)
        if self.balance.rule == "weights":
            for kind in np.unique(table.expression[known]):
                print(f"weight of class {kind}: {factor[table.expression == kind][0]:.4f}")
        print("\n".join(table.faults.lines()) or "no bad items")
        if self.out is not None:
            from ..geometry.files import write_text

            rows = zip(table.keys, table.expression.tolist(), times.tolist(), factor.round(6).tolist(), strict=True)
            names = ("key", "expression", "repeats", "weight")
            write_text(self.out, "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
            print(f"wrote {self.out}")


@dataclass(frozen=True)
class Synthesize:
    """Make synthetic pictures: shards of heads or of pairs, or a small set in the layout of a known data set."""

    out: Annotated[Path, tyro.conf.Positional]
    """Folder. Shards that are there are kept, so a run that was stopped goes on."""
    what: Literal["heads", "pairs", "affectnet", "affectnet-csv", "ffhq", "celeba-hq", "album", "classes", "vhap"] = (
        "heads"
    )
    """heads, pairs: shards with codes and maps; the others: that data set's layout."""
    count: int = 1024
    """Pictures (or pairs)."""
    size: int = 128
    """Side of the pictures, pixels."""
    seed: int = 0
    """Of people, faces and scenes."""
    shard: int = 512
    """Pictures (or pairs) per shard."""

    def run(self) -> None:
        from .data_convert import synthesize

        synthesize(self)


@dataclass(frozen=True)
class Data:
    """Look at, count, balance, convert and make data sets."""

    what: (
        Annotated[Convert, tyro.conf.subcommand("convert")]
        | Annotated[Inspect, tyro.conf.subcommand("inspect")]
        | Annotated[BalanceSet, tyro.conf.subcommand("balance")]
        | Annotated[Synthesize, tyro.conf.subcommand("synthesize")]
        | Annotated[Stats, tyro.conf.subcommand("stats")]
    )

    def run(self) -> None:
        self.what.run()


class Counter:
    """A line that counts items, on a terminal."""

    def __init__(self, what: str):
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self.what, self.count = what, 0
        self.bar = Progress(*columns, console=Console(stderr=True), transient=True)

    def __enter__(self) -> "Counter":
        self.bar.start()
        self.task = self.bar.add_task(self.what, total=None)
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def step(self) -> None:
        self.count += 1
        if self.count % 100 == 0:
            self.bar.update(self.task, description=f"{self.what}: {self.count} items")


def _write_report(folder: Path, told: dict[str, Any], rows: list[tuple[float, float, int]]) -> None:
    from ..datasets.va_picture import draw_valence_arousal, encode_png
    from ..geometry.files import write_bytes, write_json

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HeadlabError(f"cannot make the folder {folder}: {error.strerror}; choose another") from error
    write_json(folder / "report.json", told)
    if rows:
        write_bytes(folder / "valence_arousal.png", encode_png(draw_valence_arousal(rows)))
    print(f"wrote {folder / 'report.json'}" + (" and valence_arousal.png" if rows else ""))


def main(args: Data) -> None:
    """Run the command."""
    args.run()


if __name__ == "__main__":
    main(tyro.cli(tyro.conf.OmitSubcommandPrefixes[Data]))  # type: ignore[arg-type]
