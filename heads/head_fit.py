"""HeadFit: the result of fitting, saved as `head.npz`. What viewers, converters and the diffusion editor read."""

import json
import zlib
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.camera import Camera
from ..geometry.code import HeadCode
from ..geometry.errors import HeadlabError
from ..geometry.files import write_bytes

FORMAT = "headlab.fit/1"


@dataclass(frozen=True)
class HeadFit:
    """One person in one or more photos: shared identity, a code and a camera per photo.

    `codes` and `cameras` have one leading axis over photos; `codes.shape` rows are equal (one person).
    """

    model: str  #: model id as `headlab.heads.models.load_model` takes it, e.g. "default" or "flame2023"
    codes: HeadCode
    cameras: tuple[Camera, ...]
    albedo: Float[Tensor, "3 height width"] | None  #: UV texture, sRGB 0..1, row 0 at v = 1; None without UVs
    sources: tuple[str, ...]  #: file names of the photos
    report: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write a plain npz (no pickles), atomically."""
        arrays: dict[str, np.ndarray] = {f"code.{k}": v.detach().cpu().numpy() for k, v in self.codes.arrays().items()}
        for i, camera in enumerate(self.cameras):
            for name in ("K", "R", "t"):
                arrays[f"camera{i}.{name}"] = getattr(camera, name).detach().cpu().numpy()
            arrays[f"camera{i}.size"] = np.array(camera.size)
        if self.albedo is not None:
            arrays["albedo"] = (self.albedo.detach().cpu().clamp(0, 1) * 255).round().byte().numpy()
        meta = {"format": FORMAT, "model": self.model, "sources": self.sources, "report": self.report}
        meta["textured"] = self.albedo is not None
        arrays["meta"] = np.array(json.dumps(meta))
        buffer = BytesIO()
        np.savez_compressed(buffer, **arrays)
        write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> "HeadFit":
        """Read `head.npz`.

        Raises:
            HeadlabError: the file is missing, damaged, or not one of ours.
        """
        try:
            # Opened here, since np.load leaves the files open that it cannot read.
            with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                data = {name: file[name] for name in file.files}
            meta = json.loads(str(data["meta"]))
            if meta["format"] != FORMAT:
                raise ValueError(f"format {meta['format']}, this version reads {FORMAT}")
            code = {k.split(".", 1)[1]: torch.from_numpy(v) for k, v in data.items() if k.startswith("code.")}
            count = len(meta["sources"])
            cameras = tuple(
                Camera(
                    K=torch.from_numpy(data[f"camera{i}.K"]),
                    R=torch.from_numpy(data[f"camera{i}.R"]),
                    t=torch.from_numpy(data[f"camera{i}.t"]),
                    size=(int(data[f"camera{i}.size"][0]), int(data[f"camera{i}.size"][1])),
                )
                for i in range(count)
            )
            albedo = torch.from_numpy(data["albedo"]).float() / 255 if meta.get("textured", True) else None
            return cls(meta["model"], HeadCode(**code), cameras, albedo, tuple(meta["sources"]), meta["report"])
        except (OSError, EOFError, LookupError, ValueError, TypeError, AttributeError, BadZipFile, zlib.error) as error:
            raise HeadlabError(
                f"{path} is not a head fitted by headlab ({error}); expected the head.npz that `headlab fit` writes"
            ) from error
