"""Values on their way: what lies between two positions of a slider that are told too seldom."""

import time
from collections.abc import Callable, Mapping


class Glide:
    """Named values that move evenly to where they were last sent.

    viser's page tells where a dragged slider is 20 times a second at most. The head follows through what lies between,
    a twentieth of a second behind, and so moves as often as it can be drawn.
    """

    def __init__(self, span: float = 0.05, clock: Callable[[], float] = time.monotonic) -> None:
        """Args:
        span: seconds that a value takes.
        clock: seconds.
        """
        self._span, self._clock = span, clock
        self._moves: dict[str, tuple[float, float, float]] = {}  # when it set out, from where, to where

    def send(self, name: str, start: float, goal: float) -> None:
        """From where a value is now to another one; an earlier goal is forgotten."""
        self._moves[name] = (self._clock(), start, goal)

    def step(self) -> Mapping[str, float]:
        """Where the values under way are now; those that arrive are under way no more."""
        now, values = self._clock(), {}
        for name, (began, start, goal) in list(self._moves.items()):
            share = (now - began) / self._span
            values[name] = start + share * (goal - start) if share < 1 else goal
            if share >= 1:
                del self._moves[name]
        return values

    def finish(self) -> Mapping[str, float]:
        """All values at their goals, at once."""
        goals = {name: goal for name, (_, _, goal) in self._moves.items()}
        self._moves.clear()
        return goals
