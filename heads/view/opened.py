"""Opening what a user names: a fit, a track, a mesh, a point cloud, RGB-D pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from ...datasets.photo import read_photo
from ...geometry.errors import HeadlabError, MissingAssetError
from ...geometry.models.head_model import HeadModel
from ...geometry.rgbd.cloud import PointCloud
from ..fitted_photo import photo_candidates
from ..head_fit import HeadFit
from ..models import load_model
from .mesh_files import MESH_SUFFIXES, read_mesh_or_cloud
from .rgbd_files import is_depth_picture, read_rgbd
from .surface import Surface, surface_of

_FITS = ("track.npz", "head.npz")
#: What a folder of results keeps its head as, best first.
_STORED = ("head.ply", "head.glb", "head.obj")
_KINDS = (
    "a folder that `headlab fit` or `headlab track` wrote, a head.npz, a mesh (.ply .obj .glb .stl .off), "
    "a point cloud (.ply) or a depth picture NAME_depth.png"
)


@dataclass(frozen=True, eq=False)
class OpenedHead:
    """A fit or a track. Without its head model only the mesh that was stored beside it can be shown."""

    name: str
    path: Path  #: of the npz
    fit: HeadFit
    model: HeadModel | None
    stored: Surface | None = None  #: where the model is missing
    note: str = ""  #: what the user shall know, one line

    @property
    def frames(self) -> int:
        return len(self.fit.cameras)

    @cached_property
    def times(self) -> tuple[float, ...]:
        """Seconds of the frames; photos of one person count as one a second."""
        given = self.fit.report.get("times")
        if isinstance(given, Sequence) and len(given) == self.frames:
            return tuple(float(value) for value in given)
        return tuple(float(i) for i in range(self.frames))

    @cached_property
    def surface(self) -> Surface:
        """Topology and colours; its vertices are at rest."""
        if self.model is None:
            assert self.stored is not None
            return self.stored
        return surface_of(self.model, self.fit.albedo)

    def photo(self, frame: int, named: Path | None = None) -> UInt8[np.ndarray, "height width 3"] | None:
        """The picture a frame was fitted to, if it is found and has the camera's size.

        Args:
            frame: which.
            named: where the user says it is; of one photo only.
        """
        tracked = self.path.parent / "vhap" / "images" / f"{frame:05d}_00.png"
        places = [named] if named is not None else [tracked]
        if named is None and frame < len(self.fit.sources):
            places += photo_candidates(self.fit, frame, self.path)
        for path in places:
            if not path.is_file():
                continue
            try:
                picture = read_photo(path)
            except HeadlabError:
                if named is not None:
                    raise
                continue
            if picture.size == tuple(self.fit.cameras[frame].size):
                return (picture.image * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
            if named is not None:
                height, width = self.fit.cameras[frame].size
                raise HeadlabError(
                    f"{path} is {picture.size[1]} x {picture.size[0]} pixels, but the head was fitted to a photo of "
                    f"{width} x {height}; name that photo"
                )
        return None


@dataclass(frozen=True, eq=False)
class OpenedMesh:
    name: str
    surface: Surface


@dataclass(frozen=True, eq=False)
class OpenedCloud:
    name: str
    cloud: PointCloud


Opened = OpenedHead | OpenedMesh | OpenedCloud


def open_any(path: Path | str) -> Opened:
    """Open what a path means.

    Raises:
        HeadlabError: there is nothing, it is of another kind, damaged, or a fit whose model is missing and that has no
            mesh beside it.
    """
    path = Path(path)
    if not path.exists():
        raise HeadlabError(f"cannot open {path}: there is no such file or folder; name {_KINDS}")
    if path.is_dir():
        fits = [path / name for name in _FITS if (path / name).is_file()]
        if not fits:
            raise HeadlabError(f"cannot open {path}: the folder holds no head.npz or track.npz; name {_KINDS}")
        return open_head(fits[0])
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return open_head(path)
    if suffix in MESH_SUFFIXES:
        found = read_mesh_or_cloud(path)
        return OpenedMesh(path.name, found) if isinstance(found, Surface) else OpenedCloud(path.name, found)
    if is_depth_picture(path):
        return OpenedCloud(path.name, read_rgbd(path))
    if suffix in (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"):
        raise HeadlabError(f"cannot open {path}: it is a picture; fit it first: headlab fit {path.name} -o OUT")
    raise HeadlabError(
        f"cannot open {path}: files of the kind {suffix or 'without suffix'} are not known; name {_KINDS}"
    )


def open_head(path: Path) -> OpenedHead:
    """Open an npz that `headlab fit` or `headlab track` wrote.

    Raises:
        HeadlabError: not such a file; or its model is missing and there is no mesh beside it.
    """
    fit = HeadFit.load(path)
    name = path.parent.name or path.stem
    try:
        model = load_model(fit.model)
    except MissingAssetError as error:
        stored = next((path.with_name(file) for file in _STORED if path.with_name(file).is_file()), None)
        if stored is None:
            raise HeadlabError(
                f"{error}; and there is no {', '.join(_STORED)} beside {path} to show instead"
            ) from error
        surface = read_mesh_or_cloud(stored)
        if not isinstance(surface, Surface):
            raise HeadlabError(f"{error}; and {stored} holds no mesh to show instead") from error
        note = (
            f"the head model {fit.model} is not installed: showing the mesh of {stored.name}, without sliders ({error})"
        )
        return OpenedHead(name, path, fit, None, surface, note)
    _check_lengths(path, fit, model)
    return OpenedHead(name, path, fit, model)


def _check_lengths(path: Path, fit: HeadFit, model: HeadModel) -> None:
    given = (fit.codes.shape.shape[-1], fit.codes.expression.shape[-1])
    if given[0] > model.shapes or given[1] > model.expressions:
        raise HeadlabError(
            f"{path} has {given[0]} shape and {given[1]} expression coefficients, but the {fit.model} model installed "
            f"here has {model.shapes} and {model.expressions}; fit the photo again with it"
        )
    if not all(bool(torch.isfinite(value).all()) for value in fit.codes.arrays().values()):
        raise HeadlabError(f"{path} holds numbers that are not finite; fit the photo again")
