"""gallery.html of a batch: every item as a thumbnail, sorted by error, name or time; ten thousand and more at once.

One file beside the result folders, whose thumbnails it loads as they come into view. Only visible items are in the
page's tree. A content security policy forbids every connection and every script but ours.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from ..geometry.files import plain, write_text
from ..heads.batch_items import is_url
from ..heads.batch_manifest import read_manifest
from ..heads.batch_storage import file_system

#: More items than this make the page slow to open; the worst are kept.
MOST = 100_000
#: What a click opens, in order of preference.
_PAGES = ("index.html", "side_by_side.mp4", "strip.png", "edited.mp4", "report.json")


def write_gallery(out: str) -> None:
    """Write gallery.html of a batch from its manifest, atomically.

    Args:
        out: folder or URL of a batch.

    Raises:
        HeadlabError: there is no manifest, or the page cannot be written.
    """
    header, records = read_manifest(out)
    title = out.rstrip("/").rsplit("/", 1)[-1] or "Batch"
    page = gallery_page(records, title, header)
    if is_url(out):
        system, base = file_system(out)
        system.pipe_file(f"{base.rstrip('/')}/gallery.html", page.encode())
    else:
        write_text(Path(out) / "gallery.html", page)


def gallery_page(records: Sequence[dict[str, Any]], title: str, header: dict[str, Any]) -> str:
    """The page.

    Args:
        records: of the manifest.
        title: heading.
        header: of the manifest; what was asked for is shown.
    """
    script = "\n" + _asset("batch_gallery.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rows = [_row(record) for record in records]
    left_out = len(rows) - MOST
    if left_out > 0:
        rows = sorted(rows, key=lambda row: (row[3] is None, -(row[2] or 0)))[:MOST]
    # Within a script element, only "<" could end it.
    data = json.dumps(plain(rows), allow_nan=False).replace("<", "\\u003c")
    options = header.get("same", {})
    shown = ("task", "method", "model", "group", "files")
    about = ", ".join(f"{name} {options[name]}" for name in shown if name in options)
    if left_out > 0:
        about += f"; the {MOST} worst of {len(records)} items"
    return Template(_asset("batch_gallery.html")).substitute(
        title=escape(title.encode("utf-8", "replace").decode()),
        about=escape(about),
        generator=escape(f"headlab {version('headlab')}"),
        style=_asset("batch_gallery.css"),
        script=script,
        script_hash=f"sha256-{digest}",
        items=data,
    )


def _row(record: dict[str, Any]) -> list[Any]:
    """Name, kind, error, why it failed, seconds, page, whether there is a thumbnail: short, as there are many."""
    made = record.get("files", {})
    return [
        record["name"].encode("utf-8", "replace").decode(),
        record["kind"],
        record.get("nme"),
        record["error"]["message"][:300] if "error" in record else None,
        round(sum(record.get("seconds", {}).values()), 2),
        next((page for page in _PAGES if page in made), None),
        int("thumb.jpg" in made),
    ]


def _asset(name: str) -> str:
    return files(__package__ or "headlab.viewers").joinpath("assets", name).read_text(encoding="utf-8")
