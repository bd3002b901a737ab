"""Telling what a file is by what is in it, never by running it."""

import pickletools
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..geometry.errors import HeadlabError
from ..geometry.models.flame import FLAME_GLOBALS, read_flame_arrays
from ..geometry.models.flame_landmarks import read_landmark_tables, read_mediapipe_table
from ..geometry.models.flame_texture import load_flame_texture
from ..geometry.models.ict import read_ict
from ..geometry.models.obj import read_obj
from ..geometry.safe_pickle import UnsafePickleError, load_pickle, load_torch
from .asset_kinds import KINDS

_ZIP = b"PK\x03\x04"  # within the first bytes: Google's task file has two zeros before it
_TORCH_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_FLAME_MESH = 5023, 9976  # vertices, faces

#: Top-level packages that a Lightning checkpoint may name. It is only looked at here: whoever reads one does so with
#: an allow-list of exact names.
_LIGHTNING = {"torch", "collections", "numpy", "omegaconf", "pytorch_lightning", "typing", "_codecs", "copyreg", "gdl"}
_HARMLESS = {"set", "dict", "list", "tuple", "int", "float", "str", "bool", "bytes", "bytearray", "object", "slice"}


def recognise(path: Path) -> str:
    """Id of the asset kind a file or folder is of, after checking its contents.

    Raises:
        UnsafePickleError: it would run something.
        HeadlabError: it is missing, damaged, or nothing headlab knows.
    """
    if path.is_dir():
        _refuse_pipeline(path)
        read_ict(path)
        return "ict"
    start = _start(path)
    if _ZIP in start:
        kind = _of_zip(path)
    elif start.startswith(_TORCH_LEGACY):
        kind = _of_torch(path)
    elif start.startswith(b"\x93NUMPY"):
        read_landmark_tables(path, sys.maxsize)
        kind = "flame_landmarks"
    elif path.suffix.lower() == ".safetensors":
        kind = _of_safetensors(path)
    elif path.suffix.lower() == ".obj":
        kind = _of_obj(path)
    elif start.startswith(b"\x80") or path.suffix.lower() in (".pkl", ".pickle"):
        kind = _of_pickle(path)
    else:
        kind = None
    if kind is None:
        known = ", ".join(kind.upstream.split()[0] for kind in KINDS.values())
        raise HeadlabError(f"{path} is none of the files headlab knows; expected one of {known}")
    return kind


def is_archive(path: Path) -> bool:
    """A zip that is a parcel of files rather than an npz, a torch file or a MediaPipe task."""
    return path.is_file() and _ZIP in _start(path) and _of_zip_members(_members(path)) is None


def _of_pickle(path: Path) -> str:
    data = load_pickle(path, FLAME_GLOBALS)
    if isinstance(data, dict) and "v_template" not in data and {"face", "neck"} <= set(data):
        return "flame_masks"
    read_flame_arrays(path)
    # Both releases have the same keys and sizes; the name tells them apart.
    return "flame2023" if "2023" in path.name else "flame2020"


def _of_obj(path: Path) -> str:
    mesh = read_obj(path)
    found = len(mesh.vertices), len(mesh.uv_polygons)
    if found != _FLAME_MESH:
        raise HeadlabError(
            f"{path} is not FLAME's head_template.obj: {_FLAME_MESH[0]} vertices and {_FLAME_MESH[1]} textured faces "
            f"expected, {found[0]} and {found[1]} found"
        )
    return "flame_uv"


def _of_zip(path: Path) -> str | None:
    members = _members(path)
    kind = _of_zip_members(members)
    if kind == "torch":
        return _of_torch(path)
    if kind == "ict":
        read_ict(path)
    elif kind == "flame_mediapipe":
        read_mediapipe_table(path, sys.maxsize)
    elif kind in ("flame_texture", "bfm_albedo"):
        load_flame_texture(path, components=1)
    elif kind == "npz":
        names = ", ".join(sorted(name.removesuffix(".npy") for name in members)[:6])
        raise HeadlabError(f"{path} is an npz of something else: it holds {names}; see `headlab assets list`")
    return kind


def _of_zip_members(members: set[str]) -> str | None:
    arrays = {name.removesuffix(".npy") for name in members if name.endswith(".npy")}
    for kind, needed in (
        ("ict", {"neutral_vertices", "identity_deltas", "expression_deltas"}),
        ("flame_mediapipe", {"lmk_face_idx", "lmk_b_coords"}),
        ("bfm_albedo", {"MU", "PC"}),
        ("flame_texture", {"mean", "tex_dir"}),
    ):
        if needed <= arrays:
            return kind
    if {"face_landmarks_detector.tflite", "face_blendshapes.tflite"} <= members:
        return "face_landmarker"
    if any(name.endswith("/data.pkl") for name in members):
        return "torch"
    return "npz" if members and len(arrays) == len(members) and not any("/" in name for name in members) else None


def _of_torch(path: Path) -> str:
    """DECA's and EMOCA's checkpoints, told apart by the names inside."""
    texts: set[str] = set()
    try:
        for stream in _pickle_streams(path):
            texts |= _look(stream, str(path))
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, KeyError, NotImplementedError) as error:
        raise HeadlabError(f"{path} is damaged ({error}); get it again") from error
    if any(text.startswith("deca.E_expression.") for text in texts):
        return "emoca"
    if {"E_flame", "E_detail", "D_detail"} <= texts:
        load_torch(path)
        return "deca"
    if zipfile.is_zipfile(path):
        from ..diffusion.upstream.recognition import identify_torch

        if (found := identify_torch(path)) is not None:
            return _whole(path, found)
    raise HeadlabError(
        f"{path} is a torch file of something else: neither DECA's, EMOCA's, DiffusionRig's "
        "nor DiffAE's parameters are in it"
    )


def _of_safetensors(path: Path) -> str | None:
    from ..diffusion.upstream.recognition import identify_safetensors

    found = identify_safetensors(path)
    return None if found is None else _whole(path, found)


def _whole(path: Path, found: Any) -> str:
    """The kind of a checkpoint that lacks nothing.

    Raises:
        HeadlabError: it lacks something (all is listed), or there is no place for one of its size.
    """
    if found.missing:
        raise HeadlabError(
            f"{path} is {found.title}, but lacks {len(found.missing)} of its parts: {', '.join(found.missing)}; "
            "get it again"
        )
    if not found.id:
        raise HeadlabError(
            f"{path} is {found.title}, which is used where it lies: {found.note or 'name it by its path'}"
        )
    return found.id


def _refuse_pipeline(folder: Path) -> None:
    """Say what a folder of diffusers is: gigabytes that stay where they are.

    Raises:
        HeadlabError: it is one.
    """
    from ..diffusion.foreign import foreign_kind

    if (kind := foreign_kind(folder)) is not None:
        raise HeadlabError(f"{folder} is {kind}; it is used where it lies, under its own licence, and is not copied")


def _pickle_streams(path: Path) -> Iterator[Any]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith("/data.pkl"):
                    with archive.open(name) as file:
                        yield file
    else:
        with path.open("rb") as file:
            for _ in range(5):  # magic number, protocol, system, object, storage keys
                yield file


def _look(stream: Any, source: str) -> set[str]:
    """The texts of a pickle (an open binary file), which is not run.

    Raises:
        UnsafePickleError: it names something outside a Lightning checkpoint's packages.
    """
    texts: set[str] = set()
    recent: list[str] = []
    for operation, argument, _ in pickletools.genops(stream):
        if isinstance(argument, str) and "UNICODE" in operation.name:
            texts.add(argument)
            recent = [*recent[-1:], argument]
        if operation.name in ("GLOBAL", "INST"):
            module, name = str(argument).split(" ", 1)
        elif operation.name == "STACK_GLOBAL":
            module, name = recent if len(recent) == 2 else ("an unknown module", "unknown")
        else:
            continue
        harmless = module in ("builtins", "__builtin__") and name in _HARMLESS
        if not harmless and module.split(".")[0] not in _LIGHTNING:
            raise UnsafePickleError(source, module, name)
    return texts


def _members(path: Path) -> set[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {name for name in archive.namelist() if not name.endswith("/")}
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise HeadlabError(f"{path} is a damaged zip ({error}); get it again") from error


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise HeadlabError(f"{path} cannot be read ({error.strerror}); give the path of an existing file") from error
    if not start:
        raise HeadlabError(f"{path} is empty; get it again")
    if start.lstrip().startswith((b"<!DOCTYPE", b"<html", b"<!doctype")):
        raise HeadlabError(f"{path} is a web page, perhaps a login form saved in place of the file; get it again")
    if start.startswith(b"version https://"):
        raise HeadlabError(f"{path} is a Git LFS pointer, not the file; run `git lfs pull` in its repository")
    return start
