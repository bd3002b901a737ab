"""The members of a JSON object, one after another, without reading the whole file. Imports no torch."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..geometry.errors import HeadlabError

_SPACE = re.compile(r"[\s,]*")
_CHUNK = 1 << 18
_LONGEST = 1 << 26  #: characters that one member may have


def json_members(path: Path) -> Iterator[tuple[str, Any]]:
    """(name, value) of each member of the object that the file holds, in the file's order.

    Raises:
        HeadlabError: the file cannot be read, holds no object, or ends within it.
    """
    decoder = json.JSONDecoder()
    try:
        with path.open(encoding="utf-8") as file:
            text, at, whole = file.read(_CHUNK).lstrip("\ufeff \t\r\n"), 1, False
            if not text.startswith("{"):
                raise HeadlabError(f"{path} holds no JSON object; it is another kind of file")
            while True:
                match = _SPACE.match(text, at)
                at = match.end() if match else at
                if at < len(text) and text[at] == "}":
                    return
                try:
                    name, after = decoder.raw_decode(text, at)
                    colon = text.index(":", after)
                    begin = _SPACE.match(text, colon + 1)
                    value, end = decoder.raw_decode(text, begin.end() if begin else colon + 1)
                    # A value at the end of what was read may go on in the next piece (numbers do).
                    if end >= len(text) and not whole:
                        raise ValueError("incomplete")
                except ValueError as error:
                    more = file.read(_CHUNK)
                    whole = not more
                    if whole or len(text) - at > _LONGEST:
                        raise HeadlabError(f"{path} is damaged or cut short; get a whole copy of it") from error
                    text, at = text[at:] + more, 0
                    continue
                yield str(name), value
                at = end
    except OSError as error:
        raise HeadlabError(f"{path} cannot be read ({error.strerror}); check the name") from error
    except UnicodeDecodeError as error:
        raise HeadlabError(f"{path} is no text; it is another kind of file") from error
