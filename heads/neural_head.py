"""NeuralHead: latents of NPHM's fields and where the head lies, saved as `head.npz`; meshes of it at any resolution.

The file holds latents only. The fields themselves are named ("default", or the path of their file) together with a
digest, so that a head is never shown through fields it was not fitted with.
"""

import hashlib
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

from ..geometry.errors import HeadlabError
from ..geometry.files import write_bytes
from ..geometry.sdf.extract import SdfMesh
from ..geometry.sdf.field_files import load_fields
from ..geometry.sdf.fit_scan import NeuralFit
from ..geometry.sdf.frame import UNITS_PER_METRE
from ..geometry.sdf.head_fields import HeadFields

FORMAT = "headlab.neural-head/1"

#: Which mesh: in the fields' canonical expression (mouth open), upright, metres; or as observed, in the scan's frame.
CANONICAL = -1


@dataclass(frozen=True)
class NeuralHead:
    """One person, in one or more expressions."""

    fields: str  #: "default", or the path of the fields' file
    digest: str  #: of the fields
    identity: Float[Tensor, "latent"]
    expressions: Float[Tensor, "observations ex"]  #: no rows where the fields have no expressions
    scale: float  #: field = scale · rotation · scan + offset
    rotation: Float[Tensor, "3 3"]
    offset: Float[Tensor, "3"]
    sources: tuple[str, ...]
    report: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, fields: HeadFields, fit: NeuralFit, source: str) -> "NeuralHead":
        """From a fit."""
        expressions = torch.zeros(0, fields.expression_size) if fit.expression is None else fit.expression[None]
        found = fit.alignment
        return cls(
            name,
            fields_digest(fields),
            fit.identity,
            expressions,
            found.scale,
            torch.from_numpy(found.rotation).float(),
            torch.from_numpy(found.offset).float(),
            (source,),
            dict(fit.report),
        )

    def mesh(self, fields: HeadFields, resolution: int = 256, expression: int = 0, *, normals: bool = True) -> SdfMesh:
        """The head's surface, in metres: in the scan's place for an expression, upright for the canonical head.

        Args:
            fields: those it was fitted with.
            resolution: vertices of the grid along each axis.
            expression: which one; `CANONICAL` for the canonical head.

        Raises:
            HeadlabError: other fields, or there is no such expression.
        """
        if fields_digest(fields) != self.digest:
            raise HeadlabError(
                f"the fields {self.fields} have changed since this head was fitted; name the right ones or fit it again"
            )
        count = max(1, len(self.expressions))
        if not -1 <= expression < count:
            raise HeadlabError(f"this head has {count} expressions, not number {expression}; the first is 0")
        code = self.expressions[expression] if expression >= 0 and len(self.expressions) else None
        mesh = fields.extract(self.identity, code, resolution, normals=normals)
        if expression == CANONICAL:
            return SdfMesh(fields.frame.to_metres(mesh.vertices), mesh.faces, mesh.normals, mesh.evaluated)
        vertices = (mesh.vertices - self.offset) @ self.rotation / UNITS_PER_METRE
        turned = None if mesh.normals is None else mesh.normals @ self.rotation
        return SdfMesh(vertices, mesh.faces, turned, mesh.evaluated)

    @property
    def scan_per_metre(self) -> float:
        """Units of the scan in a metre: times this, `mesh` lies on the scan."""
        return UNITS_PER_METRE / self.scale

    def save(self, path: Path) -> None:
        """Write a plain npz (no pickles), atomically."""
        meta = {
            "format": FORMAT,
            "fields": self.fields,
            "digest": self.digest,
            "sources": self.sources,
            "scale": self.scale,
            "report": self.report,
        }
        arrays = {name: getattr(self, name).numpy() for name in ("identity", "expressions", "rotation", "offset")}
        buffer = BytesIO()
        np.savez_compressed(buffer, meta=np.array(json.dumps(meta)), **arrays)
        write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> "NeuralHead":
        """Read `head.npz`.

        Raises:
            HeadlabError: the file is missing, damaged, or not one of ours.
        """
        try:
            with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                data = {name: file[name] for name in file.files}
            meta = json.loads(str(data["meta"]))
            if meta["format"] != FORMAT:
                raise ValueError(f"format {meta['format']}, this version reads {FORMAT}")
            arrays = {k: torch.from_numpy(data[k]) for k in ("identity", "expressions", "rotation", "offset")}
            return cls(
                fields=str(meta["fields"]),
                digest=str(meta["digest"]),
                scale=float(meta["scale"]),
                sources=tuple(meta["sources"]),
                report=meta["report"],
                **arrays,
            )
        except (OSError, EOFError, LookupError, ValueError, TypeError, AttributeError, BadZipFile, zlib.error) as error:
            raise HeadlabError(
                f"{path} is not a neural head ({error}); expected the head.npz of `headlab fit --method nphm`"
            ) from error


def named_fields(name: str) -> HeadFields:
    """Fields by what a head calls them: "default", or a path.

    Raises:
        HeadlabError: they are not there, or damaged.
    """
    if name == "default":
        from ..geometry.sdf.default_fields import load_default_fields

        return load_default_fields()
    return load_fields(Path(name))


def fields_digest(fields: HeadFields) -> str:
    """Tells fields apart: a hash of their latents and first layer."""
    weight = next(iter(fields.identity.parameters())).detach().cpu().contiguous()
    latents = fields.identity_latents.detach().cpu().contiguous()
    return hashlib.sha256(latents.numpy().tobytes() + weight.numpy().tobytes()).hexdigest()[:16]
