"""RGB-D selfies made ready for training: fitted, cropped, with the maps of the fitted head.

capture ──fit_rgbd──> code, camera ──> upright crop (colour, nearness) and maps ──> SelfieCrops
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from ..datasets.rgbd_selfie import SelfieLabel, SelfiePerson, SelfieRecord, read_label
from ..datasets.rgbd_selfie_crops import SelfieCrops
from ..geometry.errors import HeadlabError
from ..geometry.landmarks import LandmarkDetector
from .edit_given import focus_distance, given_of, skin_texture
from .edit_photo import crop_view, sensor_nearness
from .emotions import CATEGORIES, expression_of
from .fit import FitTools, detect_face
from .fit_rgbd import RgbdConfig, fit_rgbd
from .transfer import PhotoHead


def fit_selfie(
    tools: FitTools, person: SelfiePerson, index: int, detector: LandmarkDetector, face: int = 0
) -> PhotoHead:
    """One capture and the head fitted to its colour and depth; the frame has landmarks.

    Raises:
        HeadlabError: unreadable, no face, or no usable depth.
    """
    fitted = fit_rgbd(tools, person.one(index), detector, RgbdConfig(frames=1, face=face))
    frame = fitted.frames[0]
    found, _ = detect_face(frame, detector, face)
    return PhotoHead(frame.with_(landmarks=found, camera=fitted.head.cameras[0]), fitted.head)


def fitted_record(head: PhotoHead, person: SelfiePerson, index: int) -> SelfieRecord:
    """The record of a fitted capture."""
    name = person.frames[index]
    label = read_label(person, name, CATEGORIES)
    return SelfieRecord(person.name, name, head.frame, label, head.code, head.camera)


def selfie_crops(
    tools: FitTools,
    people: Sequence[SelfiePerson],
    detector: LandmarkDetector,
    size: int,
    expressions: int,
    progress: Callable[[str], None] = lambda stage: None,
) -> SelfieCrops:
    """Fit and crop all captures; those that cannot be used are left out and named in `skipped`.

    Args:
        tools: prepared head model.
        people: from `open_selfies`.
        detector: landmark network.
        size: side of the crops: the networks', pixels.
        expressions: length of ψ that the denoiser takes.
        progress: called with each capture's name.

    Raises:
        HeadlabError: a wrong label, ψ of another length, or no capture can be used.
    """
    if tools.model.expressions != expressions:
        raise HeadlabError(
            f"the denoiser takes {expressions} expressions, {tools.name} has {tools.model.expressions}; "
            "use the default head model"
        )
    rows: list[dict[str, torch.Tensor]] = []
    names: list[str] = []
    skipped: list[str] = []
    for number, person in enumerate(people):
        for index, name in enumerate(person.frames):
            progress(f"{person.name}/{name}")
            label = read_label(person, name, CATEGORIES)
            try:
                head = fit_selfie(tools, person, index, detector)
                rows.append(_row(tools, head, label, size, number))
            except HeadlabError as error:
                skipped.append(f"{person.name}/{name}: {error}")
                continue
            names.append(f"{person.name}/{name}")
    if not rows:
        raise HeadlabError(
            f"none of the {len(skipped)} captures can be used; {skipped[0] if skipped else 'none given'}"
        )
    stacked = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
    return SelfieCrops(**stacked, names=tuple(names), skipped=tuple(skipped))


def _row(tools: FitTools, head: PhotoHead, label: SelfieLabel, size: int, person: int) -> dict[str, torch.Tensor]:
    model, code = tools.model, head.code
    if label.actions:
        code = replace(code, expression=expression_of(label.actions, model.expression_names, tools.name))
    assert head.frame.depth is not None
    depth = head.frame.depth if head.frame.mask is None else head.frame.depth * (head.frame.mask > 0.5)
    view = crop_view(model, head, size)
    distance, texture = focus_distance(view, model, head.code), skin_texture(model, head)
    # Maps show the head as it is in the picture, whatever its expression is called.
    maps = given_of(view, model, head.code, texture, distance, model.expressions).maps[0]
    near = sensor_nearness(view, depth, maps[9], distance)
    feeling = label.valence_arousal or (float("nan"), float("nan"))
    return {
        "person": torch.tensor(person),
        "images": (view.cut(head.frame.image).clamp(0, 1) * 255).round().byte(),
        "near": near.half(),
        "maps": maps.half(),
        "expression": code.expression.float(),
        "emotion": torch.tensor(label.emotion),
        "valence_arousal": torch.tensor(feeling),
    }
