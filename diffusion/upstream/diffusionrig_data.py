"""Stores of photos and physical buffers for DiffusionRig's training, and a way to write them without pickles.

`datasets.lmdb_diffusionrig` reads the authors' layout (pickled tensors, through an allow-list) and can write it for the
authors' code. What is written here has the same keys with plain .npy in place of pickles; both are read alike.
"""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from ...datasets.lmdb_diffusionrig import DiffusionRigLmdb, RigRecord, encode_record
from ...datasets.lmdb_store import LmdbWriter
from ...geometry.errors import HeadlabError
from .diffusionrig_training import RigBatch


class RigDatabase:
    """A store as `diffusionrig_training.RigData`."""

    def __init__(self, path: Path):
        """Raises HeadlabError where there is no such store, or an empty one."""
        self.store = DiffusionRigLmdb(path)
        self.count = len(self.store)
        if not self.count:
            raise HeadlabError(f"{path} holds no photos; make it again from some")

    def load(self, indices: Int[torch.Tensor, "batch"]) -> RigBatch:
        """Several of one size; photos -1..1.

        Raises:
            UnsafePickleError: a buffer would run something.
            HeadlabError: a record is missing or damaged, or they are of several sizes.
        """
        records = [self.store[int(index)] for index in indices]
        if len({record.image.shape for record in records}) > 1:
            raise HeadlabError(f"{self.store.path} holds photos of several sizes; make one store per size")
        photos = torch.stack([record.image * 2 - 1 for record in records])
        return RigBatch(photos, torch.stack([record.conditions() for record in records]))


def write_rig_database(path: Path, records: Iterable[RigRecord]) -> int:
    """Write a store without pickles; each record is whole or not there.

    Args:
        path: of the folder; what is in it already is an error.
        records: photos and buffers.

    Returns:
        How many were written.

    Raises:
        HeadlabError: the folder holds a store, cannot be written, or a record has values that are no numbers.
    """
    path, count = Path(path), 0
    if (path / "data.mdb").exists():
        raise HeadlabError(f"{path} holds a store already; choose another folder, or delete it")
    writer = LmdbWriter(path)
    try:
        for count, record in enumerate(records, 1):
            values = encode_record(record, count - 1, _npy)
            writer.commit(values, {b"length": str(count).encode()})
    finally:
        writer.close()
    if not count:
        raise HeadlabError("there are no photos to write; give some")
    return count


def _npy(value: torch.Tensor) -> bytes:
    data = io.BytesIO()
    np.save(data, value.detach().cpu().float().numpy(), allow_pickle=False)
    return data.getvalue()
