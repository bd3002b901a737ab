"""Data sets by name: KIND:PATH, with options after a question mark, as commands take them.

    affectnet:/data/AffectNet?split=train     ffhq:/data/ffhq?view=wild      lmdb:/data/ffhq256.lmdb?size=128
    wds:s3://bucket/faces                     album:photos                   video:clips?every=5

Every kind is a function that yields records and faults (`records`). Modules are imported when their kind is asked for.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from ..geometry.errors import HeadlabError
from .records import Fault, PictureRecord, Policy
from .remote import is_remote

Items = Iterator[PictureRecord | Fault]
Options = dict[str, str]


@dataclass(frozen=True)
class DataSpec:
    """What KIND:PATH?options says."""

    kind: str
    path: str
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> "DataSpec":
        """Raises:
        HeadlabError: no such kind, no path, or an option that the kind does not have.
        """
        kind, colon, rest = text.partition(":")
        if not colon or kind not in KINDS:
            raise HeadlabError(f"{text} names no data set; say KIND:PATH with KIND one of {', '.join(sorted(KINDS))}")
        path, _, query = rest.partition("?")
        options = tuple(parse_qsl(query, keep_blank_values=True))
        if not path:
            raise HeadlabError(f"{text} has no path; say {kind}:PATH")
        allowed = KINDS[kind][1]
        wrong = [f"{name}={value}" for name, value in options if not _allowed(value, allowed.get(name))]
        if wrong:
            known = "; ".join(f"{name}={'|'.join(v) if v else 'NUMBER'}" for name, v in allowed.items())
            raise HeadlabError(f"{text}: {', '.join(wrong)} is no option of {kind}; it has {known or 'none'}")
        if not is_remote(path) and kind != "wds" and not Path(path).exists():
            raise HeadlabError(f"{path} does not exist; name the folder of the data set")
        return cls(kind, path, options)

    def items(self) -> Items:
        """Records and faults, in the set's order."""
        return KINDS[self.kind][0](self.path, dict(self.options))

    def __str__(self) -> str:
        query = "&".join(f"{name}={value}" for name, value in self.options)
        return f"{self.kind}:{self.path}" + (f"?{query}" if query else "")


def _allowed(value: str, known: tuple[str, ...] | None) -> bool:
    return known is not None and (value in known if known else value.isdigit() and int(value) > 0)


def open_pictures(spec: DataSpec, policy: Policy = "skip", report: Any = None) -> Any:
    """Pictures by number, for training: stores as they are, other sets by their files.

    Raises:
        HeadlabError: the set can only be read in order (videos, foreign shards): convert it first.
    """
    from .store_records import FilePictures, LmdbPictures, ShardPictures

    options = dict(spec.options)
    if spec.kind == "lmdb":
        return LmdbPictures(spec.path, _number(options, "size"))
    if spec.kind == "wds":
        return ShardPictures(spec.path)
    if spec.kind in ("video", "rig", "rgbd", "nphm"):
        raise HeadlabError(
            f"{spec} cannot be read by number fast enough to train on; "
            f"`headlab data convert {spec} lmdb:STORE` first, and train on that"
        )
    return FilePictures(spec.items(), str(spec), policy, report)


# ------------------------------------------------------------------------------------------ kinds


def _affectnet(path: str, options: Options) -> Items:
    from .affectnet import read_affectnet

    split: Any = options.get("split")
    return read_affectnet(path, split, only_usable=options.get("classes") != "all")


def _ffhq(path: str, options: Options) -> Items:
    from .ffhq import read_ffhq

    view: Any = options.get("view", "aligned")
    return read_ffhq(path, view, options.get("split"))


def _celeba(path: str, options: Options) -> Items:
    from .celeba_hq import read_celeba_hq

    return read_celeba_hq(path, options.get("split"))


def _album(path: str, options: Options) -> Items:
    from .picture_folders import read_albums

    return read_albums(path)


def _classes(path: str, options: Options) -> Items:
    from .picture_folders import read_albums

    return read_albums(path, classes=True)


def _video(path: str, options: Options) -> Items:
    from .video_records import read_videos

    return read_videos(path, every=_number(options, "every") or 1)


def _vhap(path: str, options: Options) -> Items:
    from .vhap import read_vhap

    return read_vhap(path, options.get("split"))


def _synthetic(path: str, options: Options) -> Items:
    from .synthetic_records import read_synthetic

    return read_synthetic(path)


def _rgbd(path: str, options: Options) -> Items:
    from .capture_records import read_rgbd

    return read_rgbd(path)


def _nphm(path: str, options: Options) -> Items:
    from .capture_records import read_nphm

    return read_nphm(path)


def _lmdb(path: str, options: Options) -> Items:
    from .store_records import read_lmdb

    return read_lmdb(path, _number(options, "size"))


def _rig(path: str, options: Options) -> Items:
    from .store_records import read_rig

    return read_rig(path)


def _shards(path: str, options: Options) -> Items:
    from .store_records import read_shards

    return read_shards(path)


def _number(options: Options, name: str) -> int | None:
    return int(options[name]) if name in options else None


#: By name: the reader, and its options with their values (none listed: a positive number).
KINDS: dict[str, tuple[Callable[[str, Options], Items], dict[str, tuple[str, ...]]]] = {
    "affectnet": (_affectnet, {"split": ("train", "val"), "classes": ("all", "usable")}),
    "ffhq": (_ffhq, {"view": ("aligned", "wild", "thumbnail"), "split": ("train", "val")}),
    "celeba-hq": (_celeba, {"split": ("train", "val", "test")}),
    "album": (_album, {}),
    "classes": (_classes, {}),
    "video": (_video, {"every": ()}),
    "vhap": (_vhap, {"split": ("train", "val", "test")}),
    "synthetic": (_synthetic, {}),
    "rgbd": (_rgbd, {}),
    "nphm": (_nphm, {}),
    "lmdb": (_lmdb, {"size": ()}),
    "rig": (_rig, {}),
    "wds": (_shards, {}),
}
