"""Head models by name: the default one, and those whose files a user has added."""

from pathlib import Path

from ..geometry.errors import HeadlabError
from ..geometry.models.default import load_default_head
from ..geometry.models.flame import load_flame
from ..geometry.models.head_model import HeadModel
from ..geometry.models.ict import load_ict
from ..geometry.models.storage import read_model
from .assets import asset_path, find_asset

#: What `load_model` takes.
MODELS = ("default", "flame2020", "flame2023", "ict")


def load_model(name: str) -> HeadModel:
    """A head model by its id, as `HeadFit.model` and `--model` have it.

    FLAME comes with whatever of its landmark tables, texture coordinates and masks is in the assets folder too.

    Raises:
        MissingAssetError: its file was not added; names it, its terms, its page and the command that adds it.
        HeadlabError: no model is called so, or its file is damaged.
    """
    if name == "default":
        return load_default_head()
    if name == "ict":
        return load_ict(asset_path("ict"))
    if name in ("flame2020", "flame2023"):
        return load_flame(
            asset_path(name),
            landmark_embedding=find_asset("flame_landmarks"),
            mediapipe_embedding=find_asset("flame_mediapipe"),
            uv=find_asset("flame_uv") or find_asset("flame_texture"),
            masks=find_asset("flame_masks"),
            name=name,
        )
    if name.endswith(".safetensors"):
        return _own(Path(name))
    raise HeadlabError(
        f"no head model is called {name}; known are {', '.join(MODELS)}, and files that `headlab train morphable` wrote"
    )


def _own(path: Path) -> HeadModel:
    """A model that the user has built."""
    try:
        return read_model(path)
    except (OSError, ValueError) as error:
        raise HeadlabError(f"{path} is no head model ({error}); build one with `headlab train morphable`") from error
