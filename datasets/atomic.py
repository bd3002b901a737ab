"""Files that appear whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..geometry.errors import HeadlabError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`: what the block writes there takes the place of `path` when it ends well.

    The suffix stays last, for writers that go by it. After an error or Ctrl-C nothing is left behind, and an
    older file of that name is untouched.

    Raises:
        HeadlabError: the folder is missing or may not be written to, or the disk is full.
    """
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise HeadlabError(f"cannot write {path}: {reason}; choose a folder that exists and has room") from error
    finally:
        temporary.unlink(missing_ok=True)
