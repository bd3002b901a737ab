"""A report of measurements: figures, each with the network it was made with; tables; pictures. JSON, CSV and HTML."""

import csv
import html
import io
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...geometry.errors import HeadlabError
from ...geometry.files import write_bytes
from .networks import NetworkCard


@dataclass(frozen=True)
class Figure:
    """One number."""

    name: str
    value: float
    unit: str = ""
    network: NetworkCard | None = None  #: None: no network took part
    count: int | None = None  #: of pictures or pairs
    low: float | None = None  #: 95 % confidence interval
    high: float | None = None
    note: str = ""  #: definition, where the field has several


@dataclass(frozen=True)
class Missing:
    """A number that was not computed, and how to have it."""

    name: str
    why: str
    command: str


@dataclass
class Report:
    """Everything one evaluation found."""

    title: str
    figures: list[Figure] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    excluded: dict[str, list[str]] = field(default_factory=dict)  #: reason -> names of pictures
    rows: list[dict[str, Any]] = field(default_factory=list)  #: one per picture or pair
    pictures: dict[str, bytes] = field(default_factory=dict)  #: caption -> PNG
    settings: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, value: float, unit: str = "", network: NetworkCard | None = None, *rest, **more) -> None:
        """Append a `Figure`."""
        self.figures.append(Figure(name, value, unit, network, *rest, **more))

    def value(self, name: str) -> float:
        """A figure's number by its name.

        Raises:
            KeyError: there is none.
        """
        for figure in self.figures:
            if figure.name == name:
                return figure.value
        raise KeyError(name)

    def leave_out(self, reason: str, name: str) -> None:
        """Count a picture that could not be used."""
        self.excluded.setdefault(reason, []).append(name)

    def write(self, folder: Path) -> list[Path]:
        """Write report.json, figures.csv, pictures.csv (where there are rows), the PNGs and report.html.

        Returns:
            the files.

        Raises:
            HeadlabError: the folder cannot be written.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HeadlabError(f"{folder} cannot be made ({error.strerror}); name another folder") from error
        written = []
        data = {
            "format": "headlab.report/1",
            "title": self.title,
            "settings": self.settings,
            "figures": [_plain(asdict(figure)) for figure in self.figures],
            "missing": [asdict(missing) for missing in self.missing],
            "excluded": {reason: sorted(names) for reason, names in self.excluded.items()},
            "rows": [_plain(row) for row in self.rows],
        }
        files = {"report.json": json.dumps(data, indent=1).encode(), "figures.csv": _figures_csv(self.figures)}
        if self.rows:
            files["pictures.csv"] = _rows_csv(self.rows)
        names = {caption: f"{_slug(caption)}.png" for caption in self.pictures}
        files |= {names[caption]: png for caption, png in self.pictures.items()}
        files["report.html"] = self._page(names).encode()
        for name, content in files.items():
            write_bytes(folder / name, content)
            written.append(folder / name)
        return written

    def lines(self) -> list[str]:
        """The figures as text, for the terminal."""
        out = []
        for f in self.figures:
            of = f" [{f.network.name}, weights {f.network.weights}]" if f.network else ""
            span = "" if f.low is None or f.high is None else f" ({shown(f.low)} .. {shown(f.high)})"
            out.append(f"{f.name}: {shown(f.value)}{' ' + f.unit if f.unit else ''}{span}{of}")
        out += [f"{reason}: {len(names)} left out" for reason, names in self.excluded.items()]
        out += [f"{m.name}: not computed, {m.why}; {m.command}" for m in self.missing]
        return out

    def _page(self, files: dict[str, str]) -> str:
        parts = [f"<!doctype html><meta charset=utf-8><title>{_e(self.title)}</title><style>{_STYLE}</style>"]
        parts.append(f"<h1>{_e(self.title)}</h1><table><tr><th>measure<th>value<th>95 %<th>n<th>network<th>note")
        for f in self.figures:
            span = "" if f.low is None or f.high is None else f"{shown(f.low)} .. {shown(f.high)}"
            net = (
                f"{f.network.name}<br><small>weights {f.network.weights}; {f.network.sees}</small>" if f.network else ""
            )
            count = "" if f.count is None else str(f.count)
            unit = f" {f.unit}" if f.unit else ""
            cells = (_e(f.name), f"{shown(f.value)}{_e(unit)}", span, count, net, _e(f.note))
            parts.append("<tr>" + "".join(f"<td>{cell}" for cell in cells))
        parts.append("</table>")
        if self.missing:
            rows = "".join(f"<tr><td>{_e(m.name)}<td>{_e(m.why)}<td><code>{_e(m.command)}</code>" for m in self.missing)
            parts.append(f"<h2>Not computed</h2><table><tr><th>measure<th>why<th>how{rows}</table>")
        for reason, names in self.excluded.items():
            listed = ", ".join(map(_e, sorted(names)[:50])) + (" ..." if len(names) > 50 else "")
            parts.append(f"<p><b>{len(names)} left out: {_e(reason)}</b> <small>{listed}</small>")
        for caption, file in files.items():
            parts.append(
                f'<figure><img src="{file}" alt="{_e(caption)}"><figcaption>{_e(caption)}</figcaption></figure>'
            )
        if self.rows:
            parts.append('<p><a href="pictures.csv">every picture</a>')
        settings = _e(json.dumps(self.settings))
        return "".join([*parts, f"<p><small>{settings}</small>"])


def shown(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}" if math.isfinite(value) else ("∞" if value > 0 else "not a number")


def _figures_csv(figures: list[Figure]) -> bytes:
    rows = []
    for f in figures:
        row = asdict(f)
        net = row.pop("network") or {"name": "", "weights": "", "sees": ""}
        rows.append(row | {"network": net["name"], "weights": net["weights"], "sees": net["sees"]})
    return _rows_csv(rows)


def _rows_csv(rows: list[dict[str, Any]]) -> bytes:
    stream = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(stream, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no infinity."""
    return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def _slug(text: str) -> str:
    return "_".join("".join(c if c.isalnum() else " " for c in text.lower()).split())[:60] or "picture"


def _e(text: str) -> str:
    return html.escape(str(text))


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;width:100%}td,th{padding:.35rem .6rem;border-bottom:1px solid #ddd;text-align:left;"
    "vertical-align:top}small{color:#666}figure{margin:1.5rem 0}img{max-width:100%}code{background:#f3f3f3}"
)
