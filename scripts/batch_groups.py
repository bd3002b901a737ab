"""`headlab batch --group`: from photos to people, before anything is fitted."""

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..geometry.errors import HeadlabError
from ..heads.batch import BatchConfig, Events, run_batch
from ..heads.batch_items import Item
from ..heads.batch_manifest import Manifest, read_manifest
from ..heads.batch_storage import PRIVATE

if TYPE_CHECKING:
    from .batch import Batch


def grouped(
    options: "Batch",
    items: list[Item],
    same: dict[str, Any],
    versions: dict[str, str],
    config: BatchConfig,
    events: Events,
) -> tuple[list[Item], BatchConfig]:
    """The items with photos gathered into people, and how the run goes on.

    Photos whose face cannot be read stay items of their own and will fail as such.

    Raises:
        HeadlabError: the output is in the way, or there are too many faces to compare.
    """
    photos = [item for item in items if item.kind == "photo"]
    others = [item for item in items if item.kind != "photo"]
    if options.group == "folder":
        folders: dict[str, list[Item]] = {}
        for item in photos:
            folders.setdefault(os.path.dirname(item.paths[0]), []).append(item)
        groups = list(folders.values())
        return [*_named_by_folder(groups), *others], config
    with Manifest(options.out) as manifest:  # refuse now what would be refused after the faces
        manifest.open({"same": same, "versions": versions}, config.resume, config.overwrite)
    groups, lost = _by_identity(options, photos, versions, config, events)
    from ..heads.batch_people import person_items

    events("people", {"people": len(groups), "photos": sum(map(len, groups))})
    return [*person_items(groups), *lost, *others], replace(config, resume=True, overwrite=False)


def _named_by_folder(groups: list[list[Item]]) -> list[Item]:
    from ..heads.batch_people import person_items

    people = person_items(groups)
    names = [os.path.dirname(group[0].name) for group in groups]
    return [
        replace(person, name=name) if name and names.count(name) == 1 else person
        for person, name in zip(people, names, strict=True)
    ]


def _by_identity(
    options: "Batch", photos: list[Item], versions: dict[str, str], config: BatchConfig, events: Events
) -> tuple[list[list[Item]], list[Item]]:
    """Photos of each person, and photos without a face. What was read of faces is kept for the next run."""
    import numpy as np

    from ..heads.batch_people import people_of

    out = f"{options.out.rstrip('/')}/{PRIVATE}/faces"
    # Going on or beginning: the faces of a photo are the same either way.
    again = replace(config, resume=True, overwrite=config.overwrite)
    same = {"face": options.face, "landmarks": options.landmarks}

    def told(name: str, figures: dict[str, Any]) -> None:
        if name == "begin":
            events(name, {**figures, "stage": "comparing faces"})

    summary = run_batch(photos, partial(_faces, options), out, same, versions, again, told)
    if summary.stopped:
        raise HeadlabError(summary.stopped)
    records = {record["key"]: record for record in read_manifest(out)[1]}
    seen = [item for item in photos if "vector" in records.get(item.key, {})]
    shapes, vectors = (np.array([records[item.key][name] for item in seen]) for name in ("shape", "vector"))
    groups = [[seen[i] for i in members] for members in people_of(shapes, vectors)]
    known = {item.key for item in seen}
    return groups, [item for item in photos if item.key not in known]


def _faces(options: "Batch"):
    from ..geometry.landmarks import open_detector
    from ..heads.assets import find_asset
    from ..heads.batch_people import FaceReader
    from .batch import versions

    detector = open_detector(options.landmarks, find_asset("face_landmarker"))
    return FaceReader(detector, options.face, options.together, versions())
