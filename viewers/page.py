"""index.html: one file that shows a fitted head in any browser, by double click, without a network.

Template, style and scripts lie in `assets/`; everything of one head (model, pictures, report) is embedded. A content
security policy in the page forbids every connection and every script but ours, whatever the embedded strings say.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from importlib.metadata import version
from importlib.resources import files
from io import BytesIO
from numbers import Real
from pathlib import Path
from string import Template
from typing import Any

from ..geometry.errors import HeadlabError
from ..geometry.files import plain, write_text

_SCRIPTS = ("matrix.js", "glb.js", "viewer.js", "panel.js", "page.js")
#: Pictures larger than this (bytes, pixels a side) are embedded as JPEG, to keep the page light.
_HEAVY, _LONGEST = 300_000, 2048


def write_index_html(
    path: Path,
    glb_path: Path,
    pictures: Mapping[str, Path],
    report: Mapping[str, Any],
    *,
    title: str = "Head",
) -> None:
    """Write the page, atomically.

    Args:
        path: the file; its folder must exist.
        glb_path: a head as `write_glb` writes it.
        pictures: caption -> picture file, in the order they shall appear.
        report: what to list below; nested mappings become nested tables.
        title: heading of the page.

    Raises:
        HeadlabError: a file cannot be read or written.
    """
    script = "\n" + "\n".join(_asset(name) for name in _SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = Template(_asset("page.html")).substitute(
        title=escape(title),
        generator=escape(f"headlab {version('headlab')}"),
        style=_asset("page.css"),
        script=script,
        script_hash=f"sha256-{digest}",
        glb=base64.b64encode(_read(glb_path)).decode(),
        pictures=_section("Pictures", _figures(pictures)) if pictures else "",
        report=_section("Report", _table(plain(dict(report)))) if report else "",
    )
    write_text(path, page)


def _asset(name: str) -> str:
    return files(__package__ or "headlab.viewers").joinpath("assets", name).read_text(encoding="utf-8")


def _read(path: Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise HeadlabError(f"cannot read {path}: {error.strerror}; write it before the page that shows it") from error


def _section(title: str, content: str) -> str:
    return f'<section class="card wide">\n<h2>{title}</h2>\n{content}\n</section>'


def _figures(pictures: Mapping[str, Path]) -> str:
    figures = []
    for caption, path in pictures.items():
        name = escape(caption)
        source, broad = _embed(path)
        image = f'<img src="{source}" alt="{name}">'
        width = "broad" if broad else "usual"
        figures.append(
            f'<figure class="{width}">'
            f'<button type="button" aria-label="Enlarge: {name}">{image}</button>'
            f"<figcaption>{name}</figcaption></figure>"
        )
    return f'<div id="pictures">\n{"".join(figures)}\n</div>'


def _embed(path: Path) -> tuple[str, bool]:
    """A picture as data URI, and whether it is so wide that it wants a row of its own."""
    from PIL import Image, UnidentifiedImageError

    data = _read(path)
    try:
        with Image.open(BytesIO(data)) as picture:
            kind = Image.MIME[picture.format or ""]
            broad = picture.width > 1.9 * picture.height
            still = not getattr(picture, "is_animated", False)
            opaque = "A" not in picture.getbands() and "transparency" not in picture.info
            if still and opaque and (len(data) > _HEAVY or max(picture.size) > _LONGEST):
                picture.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
                buffer = BytesIO()
                picture.convert("RGB").save(buffer, "JPEG", quality=88)
                data, kind = buffer.getvalue(), "image/jpeg"
    except (UnidentifiedImageError, OSError, KeyError) as error:
        raise HeadlabError(f"{path} is not a picture ({error}); write it again") from error
    return f"data:{kind};base64,{base64.b64encode(data).decode()}", broad


def _table(values: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name.replace("_", " "))}</th><td>{_cell(value)}</td></tr>'
        for name, value in values.items()
    )
    return f"<table>{rows}</table>"


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return _table(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        if any(isinstance(item, Mapping) for item in value):
            return "".join(_cell(item) for item in value)
        return ", ".join(_cell(item) for item in value)
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Real) and not isinstance(value, int):
        return f"{value:.4g}"
    return escape(str(value))
