"""The assets folder: files a user has added, each with its terms and checksum.

The folder is `$HEADLAB_ASSETS`, or `headlab/assets` in the user's data folder. `manifest.json` in it records what was
added. Files are recognised by what is in them (`asset_recognition`), checked, and copied under one fixed name.
"""

import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from ..geometry.errors import HeadlabError, MissingAssetError
from ..geometry.files import atomic_path, write_json
from ..geometry.models.ict import read_ict, save_ict
from .asset_kinds import COMPANIONS, KINDS, AssetKind
from .asset_recognition import is_archive, recognise

_FORMAT = "headlab.assets/1"
_MOST_BYTES = 16 << 30  # of an archive, unpacked
_SUFFIXES = {".pkl", ".npy", ".npz", ".obj", ".task", ".tar", ".ckpt", ".pt", ".safetensors"}

State = Literal["missing", "present", "changed", "not recorded"]


@dataclass(frozen=True)
class Asset:
    """One kind of asset and what is there of it."""

    kind: AssetKind
    path: Path
    state: State  #: "changed" only after a check: the checksum differs from the recorded one
    sha256: str | None = None  #: as recorded when it was added


def assets_folder() -> Path:
    """`$HEADLAB_ASSETS`, or `headlab/assets` in the user's data folder. Not made here."""
    if chosen := os.environ.get("HEADLAB_ASSETS"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local")) / "headlab/assets"
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support/headlab/assets"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "headlab/assets"


def list_assets() -> list[Asset]:
    """Every kind headlab knows, and whether it is there. Checksums are not computed.

    Raises:
        HeadlabError: the manifest is damaged.
    """
    folder = assets_folder()
    entries = _read_manifest(folder)
    found = []
    for kind in KINDS.values():
        entry = entries.get(kind.id)
        path = folder / (kind.file if entry is None else str(entry["file"]))
        state: State = "missing" if not path.is_file() else "not recorded" if entry is None else "present"
        found.append(Asset(kind, path, state, None if entry is None else str(entry["sha256"])))
    return found


def asset_path(id: str) -> Path:
    """Where an asset lies.

    Raises:
        MissingAssetError: it was not added; says what it is, its terms, its page and the command.
    """
    asset = next(asset for asset in list_assets() if asset.kind.id == id)
    if asset.state == "missing":
        raise MissingAssetError(asset.kind.missing)
    return asset.path


def find_asset(id: str) -> Path | None:
    """Where an asset lies, or None: for files that one can do without."""
    asset = next(asset for asset in list_assets() if asset.kind.id == id)
    return None if asset.state == "missing" else asset.path


def add_asset(path: Path, kind: str | None = None) -> list[Asset]:
    """Recognise a file, check it, and copy it into the assets folder.

    Args:
        path: the file as its authors ship it; a zip of such files; for ICT-FaceKit the cloned folder.
        kind: what to take it for where its contents do not tell (FLAME 2020 and 2023 have the same form).

    Returns:
        What was added; several for a zip.

    Raises:
        UnsafePickleError: the file would run something.
        HeadlabError: it is missing, damaged, of no known kind, or of another kind than said.
    """
    path = Path(path)
    if kind is not None and kind not in KINDS:
        raise HeadlabError(f"no asset is called {kind}; known are {', '.join(KINDS)}")
    if not path.exists():
        raise HeadlabError(f"{path} is not there; give the path of the file to add")
    if is_archive(path):
        with tempfile.TemporaryDirectory() as temporary:
            files = _unpack(path, Path(temporary))
            return [_add(file, id, path.name) for id, file in sorted(_choose(path, files, kind).items())]
    return [_add(path, _agree(path, recognise(path), kind), path.name)]


def still_missing(id: str) -> list[AssetKind]:
    """What an added asset works with (`COMPANIONS`), as far as it is not there."""
    there = {asset.kind.id for asset in list_assets() if asset.state != "missing"}
    return [KINDS[group[0]] for group in COMPANIONS.get(id, ()) if not there & set(group)]


def check_assets() -> list[Asset]:
    """Every asset that is there or recorded, with its checksum computed anew and compared.

    Raises:
        HeadlabError: the manifest is damaged.
    """
    checked = []
    for asset in list_assets():
        if asset.state == "present" and _sha256(asset.path) != asset.sha256:
            checked.append(Asset(asset.kind, asset.path, "changed", asset.sha256))
        elif asset.state != "missing" or asset.sha256 is not None:
            checked.append(asset)
    return checked


def _agree(path: Path, found: str, wanted: str | None) -> str:
    """The kind to add a file as: what it is, or of the two releases of FLAME the one that was said."""
    if wanted is None or wanted == found or {found, wanted} == {"flame2020", "flame2023"}:
        return wanted or found
    raise HeadlabError(f"{path} is not {KINDS[wanted].title} ({wanted}) but {KINDS[found].title} ({found})")


def _choose(archive: Path, files: list[Path], kind: str | None) -> dict[str, Path]:
    """One file of a zip for each kind in it; of FLAME's variants the neutral one with its jaw."""
    chosen: dict[str, Path] = {}
    reasons: list[str] = []
    for file in sorted(files, key=lambda f: (_is_variant(f.name), len(f.name), f.name)):
        try:
            found = recognise(file)
        except HeadlabError as error:
            reasons.append(str(error).replace(f"{file.parent}{os.sep}", ""))
            continue
        release = "flame2023" if found == "flame2020" and "2023" in archive.name else found
        chosen.setdefault(_agree(file, release, kind), file)
    if not chosen:
        why = reasons[0] if reasons else "it holds no file of a kind headlab knows"
        raise HeadlabError(f"nothing in {archive} can be added: {why}")
    return chosen


def _is_variant(name: str) -> bool:
    return any(word in name.lower() for word in ("female", "male", "no_jaw", "nojaw"))


def _unpack(archive: Path, folder: Path) -> list[Path]:
    """Unpack the files of a zip that may be assets. No member may leave the folder."""
    files: list[Path] = []
    try:
        with zipfile.ZipFile(archive) as parcel:
            members = [info for info in parcel.infolist() if not info.is_dir()]
            for info in members:
                name = PurePosixPath(info.filename.replace("\\", "/"))
                outside = name.is_absolute() or ".." in name.parts or ":" in info.filename
                if outside or stat.S_ISLNK(info.external_attr >> 16):
                    raise HeadlabError(f"{archive} was not unpacked: its member {info.filename} would leave the folder")
            if sum(info.file_size for info in members) > _MOST_BYTES:
                raise HeadlabError(f"{archive} was not unpacked: it would fill more than {_MOST_BYTES >> 30} GB")
            for i, info in enumerate(members):
                name = PurePosixPath(info.filename).name
                if PurePosixPath(name).suffix.lower() in _SUFFIXES:
                    file = folder / str(i) / name
                    file.parent.mkdir()
                    with parcel.open(info) as source, file.open("wb") as sink:
                        shutil.copyfileobj(source, sink, 1 << 20)
                    files.append(file)
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise HeadlabError(f"{archive} cannot be unpacked ({error}); get it again") from error
    return files


def _add(source: Path, id: str, name: str) -> Asset:
    kind, folder = KINDS[id], assets_folder()
    entries = _read_manifest(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HeadlabError(
            f"cannot make {folder} ({error.strerror}); set HEADLAB_ASSETS to a writable folder"
        ) from error
    target = folder / kind.file
    with atomic_path(target) as temporary:
        if id == "ict" and source.is_dir():
            save_ict(read_ict(source), temporary)
        else:
            shutil.copyfile(source, temporary)
        checksum = _sha256(temporary)
    size = target.stat().st_size
    entries[id] = {"file": kind.file, "sha256": checksum, "bytes": size, "added_from": name}
    write_json(folder / "manifest.json", {"format": _FORMAT, "assets": entries})
    return Asset(kind, target, "present", checksum)


def _read_manifest(folder: Path) -> dict[str, dict[str, str | int]]:
    path = folder / "manifest.json"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise HeadlabError(f"{path} cannot be read ({error}); delete it and add the files again") from error
    try:
        entries = json.loads(text)["assets"]
        for id, entry in entries.items():
            if Path(str(entry["file"])).name != entry["file"] or entry["file"] in ("", ".", ".."):
                raise ValueError(f"{id} lies outside the folder")
            if len(str(entry["sha256"])) != 64:
                raise ValueError(f"{id} has no checksum")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HeadlabError(f"{path} is damaged ({error}); delete it and add the files again") from error
    return entries


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
