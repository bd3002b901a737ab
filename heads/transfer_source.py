"""Reading what a user names as source or target: a photo, an earlier fit, sliders, a category, a feeling."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

from ..datasets.depth_map import read_depth
from ..datasets.photo import read_photo
from ..geometry.errors import HeadlabError
from ..geometry.fitting.landmark_fit import LandmarkFitConfig
from ..geometry.fitting.priors import LandmarkPriors
from ..geometry.frame import Frame
from ..geometry.landmarks import LandmarkDetector
from ..geometry.models.head_model import HeadModel
from .emotions import CATEGORIES, category, category_index, expression_of, is_category, valence_arousal
from .fit import FitConfig, FitTools, detect_face, fit_photos
from .fitted_photo import photo_candidates
from .head_fit import HeadFit
from .models import load_model
from .transfer import PhotoHead, Source

#: Fits for transfer hold β closer to the mean: what a smile does to one photo is then read into ψ, which can be
#: taken back, and rather not into the person. (Landmarks fit to 1.2 % of the eye distance instead of 1.1 %; the photo's
#: own pixels are used anyway.)
EXPRESSIVE = LandmarkFitConfig(priors=LandmarkPriors(shape=4.0))
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_FEELING = re.compile(rf"(?:va:)?\s*({_NUMBER})\s*,\s*({_NUMBER})")


@dataclass(frozen=True, eq=False)
class Workshop:
    """What fitting on the fly needs; the head model is prepared when first used."""

    name: str  #: head model id
    detector: LandmarkDetector
    config: FitConfig
    texture_size: int = 1024
    progress: Callable[[str], None] = lambda stage: None

    @cached_property
    def model(self) -> HeadModel:
        return load_model(self.name)

    @cached_property
    def tools(self) -> FitTools:
        return FitTools.build(self.name, self.model, self.texture_size)


def fit_in(path: Path) -> Path | None:
    """The head.npz that a path means: the file itself, or that of a result folder; None for anything else."""
    if path.suffix.lower() == ".npz":
        return path
    return path / "head.npz" if path.is_dir() else None


def read_head(path: Path, workshop: Workshop, photo: Path | None = None) -> PhotoHead:
    """A photo with its head: fitted now, or earlier.

    Args:
        path: an image file, a head.npz, or the folder `headlab fit` wrote.
        workshop: for fitting.
        photo: the photo of an earlier fit, where it is not to be looked for; ignored for an image file.

    Returns:
        The head; its frame has landmarks.

    Raises:
        HeadlabError: unreadable, no face, or the photo of the fit is not found.
    """
    fitted = fit_in(path)
    if fitted is None:
        frame = read_photo(path)
        fit = fit_photos(workshop.tools, [frame], workshop.detector, workshop.config, workshop.progress)
        face, _ = detect_face(frame, workshop.detector, workshop.config.face)
        return PhotoHead(frame.with_(landmarks=face), fit)
    fit = HeadFit.load(fitted)
    index = 0
    if photo is not None and photo.name in fit.sources:
        index = fit.sources.index(photo.name)
    frame = read_photo(photo or _photo_of(fit, index, fitted))
    return PhotoHead(_with_landmarks(frame, fit, index, workshop), fit, index)


def with_depth(head: PhotoHead, path: Path) -> PhotoHead:
    """The head with the depth map of its photo.

    Raises:
        HeadlabError: the map cannot be read, or is of another size than the photo.
    """
    depth, image = read_depth(path), head.frame.image
    if depth.shape != image.shape[-2:]:
        raise HeadlabError(
            f"the depth map {path} is {depth.shape[1]} x {depth.shape[0]} pixels, its photo {image.shape[2]} x "
            f"{image.shape[1]}; give depth that is registered to the photo"
        )
    return replace(head, frame=head.frame.with_(depth=depth))


def read_source(text: str, workshop: Workshop) -> Source:
    """An expression from what a user names.

    Args:
        text: a category (happy, sad, ...), a point "valence,arousal" (also "va:0.6,0.4"), a slider file (JSON object of
            ARKit actions and weights), a head.npz or result folder, or a photo.
        workshop: for fitting photos.

    Raises:
        HeadlabError: none of these; or the file is missing, damaged or has no face.
    """
    names = workshop.model.expression_names
    if is_category(text):
        expression = expression_of(category(text), names, workshop.name)
        return Source(text.lower(), expression, emotion=category_index(text))
    feeling = _FEELING.fullmatch(text.strip())
    if feeling:
        valence, arousal = float(feeling[1]), float(feeling[2])
        actions = valence_arousal(valence, arousal)
        expression = expression_of(actions, names, workshop.name)
        return Source(f"va {valence:g},{arousal:g}", expression, feeling=(valence, arousal))
    path = Path(text)
    if not path.exists():
        raise HeadlabError(
            f"no source {text}: there is no such file, and it is neither a category ({', '.join(CATEGORIES)}) "
            "nor a valence,arousal point such as 0.6,0.4"
        )
    if path.suffix.lower() == ".json":
        return Source(path.stem, expression_of(read_sliders(path, workshop.model), names, workshop.name))
    fitted = fit_in(path)
    if fitted is not None:
        fit = HeadFit.load(fitted)
        frame = _frame_if_found(fit, fitted)
        return Source(_label(path), fit.codes[0].expression, PhotoHead(frame, fit))
    head = read_head(path, workshop)
    return Source(path.stem, head.code.expression, head)


def read_sliders(path: Path, model: HeadModel) -> dict[str, float]:
    """Weights of a model's actions from a JSON object.

    Raises:
        HeadlabError: not such a file; an unknown action; a weight that is no number or out of the action's range.
    """
    try:
        sliders = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HeadlabError(f"{path} cannot be read as JSON ({error}); expected {{'jawOpen': 0.4, ...}}") from error
    if not isinstance(sliders, dict):
        raise HeadlabError(f"{path} holds no JSON object; expected action names and weights, {{'jawOpen': 0.4, ...}}")
    for name, weight in sliders.items():
        if name not in model.expression_names:
            near = get_close_matches(name, model.expression_names, 1) or list(model.expression_names[:1])
            raise HeadlabError(f"{path}: {model.name} has no action {name}; did you mean {near[0]}?")
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not math.isfinite(weight):
            raise HeadlabError(f"{path}: the weight of {name} is {weight!r}; give a number")
        if model.expression_bounds is not None:
            low, high = model.expression_bounds[model.expression_names.index(name)].tolist()
            if not low <= weight <= high:
                raise HeadlabError(f"{path}: the weight of {name} is {weight:g}; it goes from {low:g} to {high:g}")
    return {name: float(weight) for name, weight in sliders.items()}


def _label(path: Path) -> str:
    return path.absolute().parent.name if path.name == "head.npz" else path.stem


def _photo_of(fit: HeadFit, index: int, fitted: Path) -> Path:
    """The photo a head was fitted to: beside the fit, where it was then, or one folder up."""
    for path in photo_candidates(fit, index, fitted):
        if path.is_file():
            return path
    raise HeadlabError(
        f"the photo {fit.sources[index]} of {fitted} is neither beside it nor where it was; name it with --photo"
    )


def _frame_if_found(fit: HeadFit, fitted: Path) -> Frame:
    """The photo of a source, which is only shown; grey where it is gone."""
    import torch

    for path in photo_candidates(fit, 0, fitted):
        if path.is_file():
            frame = read_photo(path)
            if frame.size == fit.cameras[0].size:
                return frame
    return Frame(torch.full((3, *fit.cameras[0].size), 0.5))


def _with_landmarks(frame: Frame, fit: HeadFit, index: int, workshop: Workshop) -> Frame:
    """The frame with the landmarks of the face that was fitted: the one nearest the head."""
    faces = workshop.detector.detect(frame.image)
    if not faces or frame.size != fit.cameras[index].size:
        return frame
    model = workshop.model
    middle = fit.cameras[index].project(model.landmarks3d(model.vertices(fit.codes[index]), "68")).mean(0)
    return frame.with_(landmarks=min(faces, key=lambda face: float((face.points.mean(0) - middle).norm())))
