"""One reader's throughput, for `bench.datasets`: python -m headlab.scripts.bench.datasets_reader NAME STORE SIZE N."""

import io
import json
import resource
import sys
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch

_BATCH = 32


class PlainReader(torch.utils.data.Dataset):
    """The design of DiffAE's: a value per call, decoded by Pillow, resized, mirrored, made a tensor, normalised."""

    def __init__(self, path: str, size: int):
        self.path, self.size, self.env = path, size, None
        self.count = int(self._get(b"length"))
        self.env = None  # workers open the store themselves

    def _get(self, key: bytes) -> bytes:
        if self.env is None:
            import lmdb

            self.env = lmdb.open(self.path, max_readers=32, readonly=True, lock=False, readahead=False, meminit=False)
        with self.env.begin(write=False) as transaction:
            value = transaction.get(key)
            assert value is not None
            return value

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> torch.Tensor:
        from PIL import Image

        image = Image.open(io.BytesIO(self._get(f"256-{str(index).zfill(5)}".encode())))
        if self.size != 256:
            image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        if torch.rand(1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        # As torchvision's ToTensor and Normalize do.
        tensor = torch.from_numpy(np.array(image, np.uint8, copy=True)).permute(2, 0, 1).contiguous()
        tensor = tensor.to(torch.float32).div(255)
        return tensor.clone().sub_(0.5).div_(0.5)


def plain_batches(path: str, size: int, workers: int) -> Iterator[torch.Tensor]:
    reader = PlainReader(path, size)
    reader.env = None
    options: dict[str, Any] = {"batch_size": _BATCH, "shuffle": True, "num_workers": workers, "drop_last": True}
    if workers:
        options["persistent_workers"] = True
    loader = torch.utils.data.DataLoader(reader, **options)
    while True:
        yield from loader


def our_batches(kind: str, path: str, size: int) -> Iterator[torch.Tensor]:
    from ...datasets.kinds import DataSpec, open_pictures
    from ...datasets.loader import LoaderConfig, SquareLoader, unit_range
    from ...datasets.order import Order

    source = open_pictures(DataSpec.parse(f"{kind}:{path}"))
    loader = SquareLoader(source, LoaderConfig(size, threads=2))
    for batch in loader.batches(Order(tuple(source.counts)), _BATCH):
        yield unit_range(batch)


def main(name: str, path: str, size: int, count: int) -> dict[str, float]:
    """Pictures per second of wall time, and milliseconds of processor time each, workers included."""
    torch.set_num_threads(1)
    if name.startswith("diffae"):
        stream = plain_batches(path, size, 2 if name.endswith("2_workers") else 0)
    else:
        stream = our_batches("wds" if name == "webdataset" else "lmdb", path, size)
    for batch in islice(stream, 8):
        assert batch.shape == (_BATCH, 3, size, size) and batch.dtype == torch.float32
    # Processor time of workers is known when they have ended, so it is taken over the whole life and shared out.
    start = time.perf_counter()
    own = time.process_time()
    read = 0
    for batch in stream:
        read += len(batch)
        if read >= count:
            break
    wall, own = time.perf_counter() - start, time.process_time() - own
    stream.close()  # type: ignore[attr-defined]
    del stream
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    workers = (children.ru_utime + children.ru_stime) / (read + 8 * _BATCH)
    return {"per_second": read / wall, "cpu_ms": 1000 * (own / read + workers)}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
