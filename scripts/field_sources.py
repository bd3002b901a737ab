"""Where heads for neural fields come from: a head model by name or file, or a folder in NPHM's layout."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..geometry.models.head_model import HeadModel


def field_source(source: str) -> "HeadModel | Path":
    """A head model, or the path of an NPHM folder.

    Args:
        source: "default", another name of `headlab fit --model`, a model's file (FLAME's .pkl, ICT-FaceKit's .npz or
            folder), or a folder of SUBJECT/EXPRESSION/registration.ply.

    Raises:
        MissingAssetError: nothing is there.
        HeadlabError: it is nothing that heads can be taken from.
    """
    from ..geometry.errors import HeadlabError, MissingAssetError
    from ..geometry.models.flame import load_flame
    from ..geometry.models.ict import load_ict
    from ..heads.models import MODELS, load_model

    if source in MODELS:
        return load_model(source)
    path = Path(source)
    if not path.exists():
        raise MissingAssetError(f"{source} is not there; give {', '.join(MODELS)}, a head model's file or a folder")
    if path.suffix == ".npz" or (path.is_dir() and ((path / "FaceXModel").is_dir() or _is_ict(path))):
        return load_ict(path)
    if path.suffix == ".pkl":
        return load_flame(path)
    if path.is_dir() and next(path.glob("*/*/registration.ply"), None) is not None:
        return path
    raise HeadlabError(
        f"{source} is no source of heads; give {', '.join(MODELS)}, FLAME's .pkl, ICT-FaceKit's .npz or folder, or a "
        "folder of SUBJECT/EXPRESSION/registration.ply"
    )


def _is_ict(path: Path) -> bool:
    return (path / "generic_neutral_mesh.obj").is_file()
