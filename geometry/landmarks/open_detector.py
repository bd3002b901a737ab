"""Choose a landmark detector."""

from pathlib import Path
from typing import Literal

from ..errors import MissingAssetError
from .face_landmarks import LandmarkDetector
from .quiet import quiet

DetectorName = Literal["auto", "solutions", "tasks"]


def has_solutions() -> bool:
    """Whether the installed MediaPipe carries networks in its wheel (it does before 0.10.30)."""
    with quiet():
        import mediapipe

        return hasattr(mediapipe, "solutions")


def open_detector(name: DetectorName = "auto", task_file: Path | str | None = None) -> LandmarkDetector:
    """Load a detector; close it, or use it in a `with` block.

    Args:
        name: "solutions" is in MediaPipe's wheel and needs no file; "tasks" needs `task_file` and also gives
            blend-shape scores; "auto" takes "tasks" where a file is given, else "solutions".
        task_file: MediaPipe's `face_landmarker.task`.

    Raises:
        MissingAssetError: the file is missing, or none was given where the installed MediaPipe needs one.
        HeadlabError: the file is something else, or damaged.
        ValueError: no such detector.
    """
    if name not in ("auto", "solutions", "tasks"):
        raise ValueError(f'detector is "auto", "solutions" or "tasks", not {name!r}')
    from .tasks import MISSING_TASK_FILE, TasksDetector

    if name == "tasks" or (name == "auto" and task_file is not None):
        if task_file is None:
            raise MissingAssetError(MISSING_TASK_FILE)
        return TasksDetector(Path(task_file))
    if not has_solutions():
        raise MissingAssetError(f"the installed MediaPipe carries no networks since 0.10.30, and {MISSING_TASK_FILE}")
    from .solutions import SolutionsDetector

    return SolutionsDetector()
