"""Frames of an RGB-D capture made ready for fitting: faces found, depth checked, bad frames set aside.

sequence ──> landmarks ──> unit and intrinsics by the size of the face ──> depth around the head, filtered
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..datasets.rgbd_sequence import UNITS, RgbdSequence
from ..geometry.camera import Camera
from ..geometry.errors import HeadlabError, NoFaceError
from ..geometry.frame import Frame
from ..geometry.landmarks import IBUG68, FaceLandmarks, LandmarkDetector
from ..geometry.landmarks.ibug68 import OUTER_EYE_CORNERS
from ..geometry.models.head_model import HeadModel
from ..geometry.rgbd.crop import cropped, face_window, person_mask
from ..geometry.rgbd.fusion import depth_frame, frontal
from ..geometry.rgbd.icp import DepthFrame, landmark_pose
from ..geometry.rgbd.register import camera_from
from ..geometry.rgbd.selection import ViewPose, head_angles, sharpness

#: The 51 points inside the face, among MediaPipe's.
INNER = list(IBUG68)[17:]
#: Distances between outer eye corners that people have, with room for errors of depth and landmarks, metres.
EYES = (0.070, 0.120)
_AROUND = 2.4  # windows around the head, in sizes of the face
_MOST = 120  # frames that are looked at; of longer captures, evenly chosen ones


@dataclass(frozen=True, eq=False)
class Candidate:
    """A frame in which the face and its depth were found."""

    index: int
    name: str
    face: FaceLandmarks
    faces: list[FaceLandmarks]
    depth: DepthFrame  #: of a window around the head
    corner: tuple[int, int]  #: (left, top) of that window
    pose: ViewPose


@dataclass(frozen=True, eq=False)
class Capture:
    """All usable frames, and what was said about the others."""

    candidates: tuple[Candidate, ...]
    skipped: dict[str, str]  #: by frame name
    notes: tuple[str, ...]
    focal: float | None  #: estimated focal length, pixels; None: known from the files or given
    eye_distance: float  #: between outer eye corners as measured, metres (median)


def gather(
    sequence: RgbdSequence,
    detector: LandmarkDetector,
    model: HeadModel,
    *,
    face: int = 0,
    focal: float | int | None = None,
    step: Callable[[int], None] = lambda frame: None,
) -> tuple[RgbdSequence, Capture]:
    """Look at every frame.

    Args:
        sequence: what `open_rgbd` gave.
        detector: finds landmarks.
        model: tells how large faces are and where they look.
        face: which face of each picture, 0 the largest.
        focal: focal length in pixels instead of the files' (principal point in the middle).
        step: called with the number of each frame.

    Returns:
        The sequence, with intrinsics if it had none, and the capture.

    Raises:
        HeadlabError: no frame can be used, or the depth is of another unit.
    """
    count = len(sequence)
    wanted = (
        range(count) if count <= _MOST else np.unique(np.linspace(0, count - 1, _MOST).round().astype(int)).tolist()
    )
    found: list[tuple[int, Frame, list[FaceLandmarks]]] = []
    skipped: dict[str, str] = {}
    notes = list(sequence.notes)
    if len(wanted) < count:
        notes.append(f"{count} frames: {len(wanted)} of them, evenly spread, were looked at")
    for i in wanted:
        step(i)
        try:
            frame = sequence.read(i)
            faces = detector.detect(frame.image)
            if len(faces) <= face:
                raise NoFaceError("no face found" if not faces else f"only {len(faces)} faces found")
            found.append((i, _slim(frame, faces[face]), faces))
        except HeadlabError as error:
            skipped[sequence.names[i]] = str(error)
    if not found:
        raise _nothing_left(sequence, skipped)
    estimated = None
    if focal is not None or (sequence.camera is None and found[0][1].camera is None):
        whole = sequence.read(found[0][0]).size
        if focal is None:
            focal = estimated = estimate_focal(model, [frame for _, frame, _ in found], notes)
        K = torch.tensor([[focal, 0, whole[1] / 2], [0, focal, whole[0] / 2], [0, 0, 1]], dtype=torch.float64)
        sequence = sequence.with_camera(camera_from(K, whole))
        found = [(i, frame.with_(camera=None), faces) for i, frame, faces in found]
    candidates = []
    for i, frame, faces in found:
        try:
            candidates.append(_candidate(sequence, i, frame, faces, face, model))
        except HeadlabError as error:
            skipped[sequence.names[i]] = str(error)
    if not candidates:
        raise _nothing_left(sequence, skipped)
    distances = [d for c in candidates if np.isfinite(d := measured_eyes(c))]
    eyes = float(np.median(distances)) if distances else float("nan")
    if estimated is None and np.isfinite(eyes):
        check_unit(eyes, sequence)
    return sequence, Capture(tuple(candidates), skipped, tuple(notes), estimated, eyes)


def check_unit(eyes: float, sequence: RgbdSequence) -> None:
    """Refuse depth that makes the face a giant's or a doll's.

    Raises:
        HeadlabError: the unit of the depth, or the focal length, is wrong.
    """
    if EYES[0] <= eyes <= EYES[1]:
        return
    fits = [unit for unit in UNITS if EYES[0] <= eyes * unit / sequence.scale <= EYES[1]]
    remedy = "give the right --depth-scale (metres per count) or --focal (pixels)"
    if fits:
        remedy = f"the counts look like {UNITS[fits[0]]}: give --depth-scale {fits[0]:g}"
    raise HeadlabError(
        f"{sequence.path}: by depth and intrinsics the outer eye corners are {1000 * eyes:.0f} mm apart "
        f"(people have 85 to 100); the depth's unit or the focal length is wrong; {remedy}"
    )


def estimate_focal(model: HeadModel, frames: list[Frame], notes: list[str]) -> float:
    """Focal length that makes the eyes as far apart as the mean head's; warns, as heads differ by 5 %.

    Raises:
        HeadlabError: the eyes have no depth.
    """
    marks = model.landmarks3d(model.template, "68")
    known = float((marks[36] - marks[45]).norm())
    values = []
    for frame in frames:
        assert frame.landmarks is not None and frame.depth is not None
        points = frame.landmarks.points[list(OUTER_EYE_CORNERS)]
        z = [_depth_at(frame.depth, point) for point in points]
        across = known**2 - (z[0] - z[1]) ** 2
        if min(z) > 0 and across > (0.6 * known) ** 2:
            values.append(float((points[0] - points[1]).norm()) * (z[0] + z[1]) / 2 / across**0.5)
    if not values:
        raise HeadlabError(
            "the capture has no intrinsics, and the eyes no depth to estimate them from; give intrinsics.txt "
            "(fx, fy, cx, cy, width, height) or --focal"
        )
    focal = float(np.median(values))
    notes.append(
        f"no intrinsics: focal length {focal:.0f} pixels estimated from the distance of the eyes (sizes are then only "
        "good to 5 %); give intrinsics.txt or --focal"
    )
    return focal


def measured_eyes(candidate: Candidate) -> float:
    """Distance of the outer eye corners on the measured surface, metres; NaN where one has no depth."""
    marks = candidate.depth.landmarks
    right, left = (INNER.index(i) for i in OUTER_EYE_CORNERS)
    return float(np.linalg.norm(marks[right] - marks[left]))


def model_marks(model: HeadModel) -> Float[np.ndarray, "51 3"]:
    """The inner landmarks of the mean head."""
    return model.landmarks3d(model.template, "68")[17:].double().numpy()


def _slim(frame: Frame, face: FaceLandmarks) -> Frame:
    """The frame's window around the head; landmarks move along."""
    window = face_window(face.points, frame.size, grow=_AROUND)
    small = cropped(frame.with_(landmarks=face), window)
    # Copies, so that the whole frame can be freed.
    depth = None if small.depth is None else small.depth.clone()
    mask = None if small.mask is None else small.mask.clone()
    return small.with_(image=small.image.clone(), depth=depth, mask=mask)


def _candidate(
    sequence: RgbdSequence, index: int, frame: Frame, faces: list[FaceLandmarks], face: int, model: HeadModel
) -> Candidate:
    marks, depth = frame.landmarks, frame.depth
    assert marks is not None and depth is not None
    left, top = (round(float(x)) for x in faces[face].points[0] - marks.points[0])
    camera = frame.camera
    if camera is None:
        assert sequence.camera is not None
        height, width = depth.shape
        camera = sequence.camera.cropped(left, top, (height, width))
    points = marks.points[INNER]
    person = person_mask(depth, points)
    if frame.mask is not None:
        person &= frame.mask > 0.5
    ready = depth_frame(torch.where(person, depth, 0.0), camera, points)
    pose = landmark_pose(model_marks(model), ready.landmarks)
    if pose is None:
        raise HeadlabError("too few landmarks have a depth")
    yaw, pitch = head_angles(pose[:3, :3])
    known = float(np.isfinite(ready.landmarks).all(1).mean())
    view = ViewPose(yaw, pitch, sharpness(frame.image, marks.points), known)
    return Candidate(index, sequence.names[index], faces[face], faces, ready, (left, top), view)


def _depth_at(depth: Tensor, point: Tensor) -> float:
    x, y = (int(v) for v in point)
    window = depth[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
    known = window[window > 0]
    return float(known.median()) if len(known) else 0.0


def _nothing_left(sequence: RgbdSequence, skipped: dict[str, str]) -> HeadlabError:
    name, reason = next(iter(skipped.items())) if skipped else ("it", "holds no frames")
    kind = NoFaceError if "no face" in reason else HeadlabError
    return kind(f"{sequence.path}: none of its {len(sequence)} frames can be used; {name}: {reason}")


def full_camera(sequence: RgbdSequence, frame: Frame) -> Camera:
    """The frame's intrinsics at its world's origin, looking along -z, float32."""
    camera = frame.camera or sequence.camera
    assert camera is not None
    return frontal(camera).to(dtype=torch.float32)
