"""A result folder that appears whole or not at all."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..geometry.errors import HeadlabError


def check_output(folder: Path, overwrite: bool) -> None:
    """Refuse early, before any work is done.

    Raises:
        HeadlabError: the folder holds something and may not be overwritten, is a file, or cannot be written.
    """
    parent = folder.absolute()
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise HeadlabError(f"{parent} is a file; name a folder with -o")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise HeadlabError(f"{parent} cannot be written; name another folder with -o")
    if folder.is_dir() and not overwrite and any(folder.iterdir()):
        raise HeadlabError(f"{folder} already holds files; add --overwrite or name another folder with -o")


@contextmanager
def output_folder(folder: Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside `folder`, whose files move there when the block ends well.

    Any exception, Ctrl-C included, removes it and leaves `folder` as it was. Files of an overwritten folder that are
    not written anew stay.

    Raises:
        HeadlabError: see `check_output`; or the disk is full.
    """
    folder = Path(folder)
    check_output(folder, overwrite)
    made = _missing_parents(folder.absolute().parent)
    temporary = folder.absolute().with_name(f".{folder.absolute().name}.{secrets.token_hex(6)}")
    done = False
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if folder.is_dir():
            _check_names(temporary, folder)
            for file in sorted(temporary.iterdir()):
                if file.is_dir() and (folder / file.name).is_dir():
                    # A folder cannot take the place of one that holds files; the old one goes last of all.
                    os.rename(folder / file.name, temporary / f".{file.name}.old")
                os.replace(file, folder / file.name)
        else:
            os.rename(temporary, folder)
        done = True
    except OSError as error:
        raise HeadlabError(
            f"cannot write {folder}: {error.strerror or error}; choose a folder that is writable and has room"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if not done:
            for parent in made:
                try:
                    parent.rmdir()
                except OSError:
                    break


def _check_names(temporary: Path, folder: Path) -> None:
    """Before any file is moved: none must meet a folder of its name."""
    for file in temporary.iterdir():
        if (folder / file.name).is_dir() and not file.is_dir():
            raise HeadlabError(f"{folder / file.name} is a folder where a file belongs; move it away")


def _missing_parents(parent: Path) -> list[Path]:
    """Folders that do not exist yet, innermost first."""
    missing = []
    while not parent.exists():
        missing.append(parent)
        parent = parent.parent
    return missing
