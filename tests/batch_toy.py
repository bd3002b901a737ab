"""A task for tests of batches that takes no time: each file's text says what shall happen to its item."""

import os
import signal
import time
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from headlab.geometry.errors import HeadlabError
from headlab.heads.batch_items import Item
from headlab.heads.batch_stages import Stage
from headlab.heads.batch_storage import fetched, result_folder, sizes


class Toy:
    """Reads a text, thinks, writes its hash. "hang", "die", "grow", "bad", "bug" and "once" misbehave in the middle."""

    versions: ClassVar = {"toy": "1"}

    def __init__(self, out: str, pause: float = 0.0, size: int = 0) -> None:
        self.out, self.pause, self.size = out, pause, size
        self.stages = (Stage("read", self.read), Stage("think", self.think, 3), Stage("write", self.write))

    def weigh(self, item: Item) -> int:
        return 10

    def close(self) -> None: ...

    def read(self, item: Item) -> tuple[Item, str]:
        with fetched(item.paths[0]) as path:
            return item, path.read_text()

    def think(self, states: list[tuple[Item, str]]) -> list[tuple[Item, str]]:
        for item, text in states:
            time.sleep(self.pause)
            if text.startswith("hang"):
                time.sleep(60)
            if text.startswith("die"):
                os.kill(os.getpid(), signal.SIGKILL)
            if text.startswith("once") and not Path(item.paths[0] + ".tried").exists():
                Path(item.paths[0] + ".tried").touch()
                os.kill(os.getpid(), signal.SIGSEGV)
            if text.startswith("grow"):
                hoard = bytearray(os.urandom(1)) * 300_000_000
                time.sleep(20)
                del hoard
            if text.startswith("bad"):
                raise HeadlabError(f"{item.paths[0]} is bad; mend it")
            if text.startswith("bug"):
                raise ZeroDivisionError("oops")
        return states

    def write(self, state: tuple[Item, str]) -> dict[str, Any]:
        item, text = state
        with result_folder(self.out, item.name) as folder:
            (folder / "head.npz").write_bytes(sha256(text.encode()).hexdigest().encode() + bytes(self.size))
            (folder / "report.json").write_text("{}")
            return {"files": sizes(folder), "hash": sha256(text.encode()).hexdigest()}


def toy(out: Path | str, pause: float = 0.0, size: int = 0) -> partial:
    return partial(Toy, str(out), pause, size)


def refused() -> Toy:
    raise HeadlabError("no model; add one")


def stillborn() -> Toy:
    os.abort()
