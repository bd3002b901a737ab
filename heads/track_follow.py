"""FaceFollower: the landmarks of one person from frame to frame of a video.

    follow where the face was ──lost?──> glance at the whole frame ──a face?──> detect, and choose by look and place

Persons are told apart by place, look and identity (`track_people`). What was seen of the followed person and of others
in the video is kept, so that after two faces have crossed the right one goes on.
"""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float

from ..geometry.landmarks import FaceLandmarks
from ..geometry.landmarks.search import overlap
from .track_people import FaceEmbedder, Likeness, People, Pixels


@runtime_checkable
class VideoDetector(Protocol):
    """What `SolutionsDetector` and `TasksDetector` offer for video."""

    def detect(self, image: Float[torch.Tensor, "3 height width"]) -> list[FaceLandmarks]: ...

    def follow(self, picture: Pixels, last: FaceLandmarks) -> FaceLandmarks | None: ...

    def glance(self, picture: Pixels) -> list[FaceLandmarks]: ...


@dataclass(frozen=True)
class FollowConfig:
    """When a face is the same face."""

    face: int = 0  #: which face of the first frame that shows any: 0 the largest
    jump: float = 0.45  #: largest step between frames at 25 frames/s, over the face's size
    growth: float = 1.35  #: largest change of size between frames
    change: float = 0.35  #: look distance to what is known of the person, beyond which it may be another one
    same: float = 0.45  #: likewise, below which a face that turns up is the one that was lost
    alike: float = 0.6  #: cosine of identities above which a face is the same one even where its look has changed
    unlike: float = 0.35  #: likewise, below which it is another one whatever its look
    patience: float = 1.0  #: seconds after which a lone face that turns up may look less alike: by 0.6
    others_every: int = 5  #: frames between looks for other persons
    search_every: int = 25  #: frames between thorough searches while there is no face


class FaceFollower:
    """Follows one person through a video. Frames must come in order."""

    def __init__(
        self, detector: VideoDetector, config: FollowConfig | None = None, embedder: FaceEmbedder | None = None
    ) -> None:
        """Without an embedder persons are told apart by their looks alone."""
        self.config = config or FollowConfig()
        self.others_seen = 0  #: frames in which other faces were seen
        self._detector = detector
        self._people = People(embedder)
        self._last: FaceLandmarks | None = None
        self._velocity = torch.zeros(2)  # pixels per second
        self._time = 0.0
        self._frames = 0
        self._since_search = 0

    def next(self, pixels: Pixels, time: float) -> FaceLandmarks | None:
        """The person's face in the next frame; None where it cannot be seen.

        Args:
            pixels: 8-bit RGB.
            time: seconds, later than the last.
        """
        self._frames += 1
        elapsed = time - self._time
        lost = self._last is not None and elapsed > 0.2
        face = None if self._last is None or lost else self._followed(pixels, self._last, elapsed)
        if face is None:
            face = self._found_again(pixels, elapsed)
        if face is None:
            return None
        if self._last is not None and 0 < elapsed < 0.2:
            step = (face.points.mean(0) - self._last.points.mean(0)) / elapsed
            self._velocity = 0.5 * self._velocity + 0.5 * step
        else:
            self._velocity = torch.zeros(2)
        self._last, self._time, self._since_search = face, time, 0
        if self._frames % self.config.others_every == 1:
            self._note_others(pixels, face)
        self._people.remember(pixels, face, own=True)
        return face

    def _followed(self, pixels: Pixels, last: FaceLandmarks, elapsed: float) -> FaceLandmarks | None:
        """The face where its motion should have brought it, if it is the same one."""
        expected = replace(last, points=last.points + self._velocity * elapsed)
        face = self._detector.follow(pixels, expected)
        if face is None:
            return None
        allowed = self.config.jump * max(1.0, elapsed * 25) * last.size
        moved = float((face.points.mean(0) - expected.points.mean(0)).norm())
        grown = face.size / max(last.size, 1e-6)
        if moved > allowed or not 1 / self.config.growth < grown < self.config.growth:
            return None
        # Looks tell from frame to frame; identities where they are not sure.
        likeness = self._people.compare(pixels, face, identity=False)
        if likeness.own > 0.1 or likeness.other < 2 * likeness.own:
            likeness = self._people.compare(pixels, face)
        sure = likeness.same is not None and likeness.same > self.config.alike
        limit = self.config.change + (0.1 if sure else 0.0)
        return None if likeness.own > limit or likeness.taken_for_other else face

    def _found_again(self, pixels: Pixels, elapsed: float) -> FaceLandmarks | None:
        """The person among the faces of the whole frame, for want of a face to follow."""
        self._since_search += 1
        thorough = self._frames == 1 or self._since_search % self.config.search_every == 0
        if not thorough and not self._detector.glance(pixels):
            return None
        # `detect` doubts what it sees, and searches small windows where it sees nothing, which takes its time.
        faces = self._detector.detect(torch.from_numpy(pixels).permute(2, 0, 1).float() / 255)
        if not faces:
            return None
        if not self._people.known:
            chosen = faces[min(self.config.face, len(faces) - 1)]
            for face in faces:
                if face is not chosen:
                    self._people.remember(pixels, face, own=False)
            return chosen
        best, nearest = None, float("inf")
        for face in faces:
            likeness = self._people.compare(pixels, face)
            distance = self._distance(likeness, lone=elapsed > self.config.patience and len(faces) == 1)
            if distance < nearest and self._reachable(face, elapsed):
                best, nearest = face, distance
        return best

    def _distance(self, likeness: Likeness, lone: bool) -> float:
        """How unlike the person a face that turned up is; infinite where it is another one."""
        limit = self.config.same + (0.15 if lone else 0.0)
        if likeness.taken_for_other:
            return float("inf")
        if likeness.same is None:
            return likeness.own if likeness.own < limit else float("inf")
        if likeness.same > self.config.alike:
            limit += 0.4
        if likeness.own > limit or likeness.same < self.config.unlike:
            return float("inf")
        return likeness.own - likeness.same

    def _reachable(self, face: FaceLandmarks, elapsed: float) -> bool:
        """Whether the person can have come here: one face size and three per second, on top of its last speed."""
        if self._last is None or elapsed > self.config.patience:
            return True
        size = max(face.size, self._last.size)
        moved = float((face.points.mean(0) - self._last.points.mean(0)).norm())
        return moved < (1 + 3 * elapsed) * size + float(self._velocity.norm()) * elapsed

    def _note_others(self, pixels: Pixels, own: FaceLandmarks) -> None:
        """Remember how the other faces of this frame look."""
        others = [face for face in self._detector.glance(pixels) if overlap(face.box, own.box) < 0.1]
        for face in others:
            self._people.remember(pixels, face, own=False)
        self.others_seen += bool(others)
