"""What `headlab batch` tells while it runs, and at the end."""

import json
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..heads.batch import Summary

#: Failures that the summary names; the manifest has all.
_NAMED = 5


class JsonLog:
    """A line of JSON on standard output for each event; nothing else."""

    def event(self, name: str, figures: dict[str, Any]) -> None:
        """Write a line."""
        kept = {key: value for key, value in figures.items() if key not in ("files", "versions")}
        print(json.dumps({"event": name, **kept}), flush=True)

    def conclude(self, summary: "Summary") -> None:
        """The last line."""
        figures = {name: getattr(summary, name) for name in ("items", "done", "before", "failed", "reasons", "stopped")}
        figures |= {"seconds": round(summary.seconds, 3), "per_second": round(summary.rate, 4)}
        self.event("summary", figures)

    def __enter__(self) -> "JsonLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ProgressLog:
    """A live bar with rate, time left and failures; a summary at the end."""

    def __init__(self, out: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._out = out
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[failures]}"),
        )
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("looking for items", total=None, rate="", failures="")
        self._failed: list[tuple[str, str]] = []
        self._failures = self._ended = self._todo = 0
        self._began = time.monotonic()

    def event(self, name: str, figures: dict[str, Any]) -> None:
        """Show it."""
        if name == "found" and figures["ignored"]:
            others = ", ".join(
                f"{number} {suffix or 'without suffix'}" for suffix, number in figures["ignored"].items()
            )
            self._bar.console.print(f"{figures['items']} items; ignored {others}", highlight=False, markup=False)
        elif name == "people":
            self._bar.console.print(f"{figures['photos']} photos of {figures['people']} people", highlight=False)
        elif name == "begin":
            self._todo, self._ended, self._began = figures["todo"], 0, time.monotonic()
            stage = figures.get("stage", "working")
            self._bar.update(self._task, description=stage, completed=figures["before"], total=figures["items"])
        elif name == "item":
            self._ended += 1
            if figures["status"] == "failed":
                self._failures += 1
                if len(self._failed) < _NAMED:
                    self._failed.append((figures["name"], figures["error"]["message"]))
            self._bar.update(self._task, advance=1, rate=self._rate(), failures=self._failures_text())

    def _rate(self) -> str:
        passed = time.monotonic() - self._began
        if passed < 1:
            return ""
        rate = self._ended / passed
        left = (self._todo - self._ended) / rate
        speed = f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"
        return f"{speed}, {_duration(left)} left"

    def _failures_text(self) -> str:
        return f"{self._failures} failed" if self._failures else ""

    def conclude(self, summary: "Summary") -> None:
        """Print the summary."""
        earlier = f", {summary.before} were done before" if summary.before else ""
        print(
            f"{self._out}: {summary.done} of {summary.items} items done{earlier}, {summary.failed} failed, "
            f"in {_duration(summary.seconds)} ({summary.rate:.2f} per second)"
        )
        if summary.reasons:
            print("failed: " + ", ".join(f"{number} {kind}" for kind, number in sorted(summary.reasons.items())))
        for name, message in self._failed:
            print(f"  {name}: {message}".encode("utf-8", "replace").decode())
        if summary.failed > len(self._failed):
            print(f"  and {summary.failed - len(self._failed)} more, see manifest.jsonl")
        if summary.stopped:
            print(f"headlab: stopped: {summary.stopped}", file=sys.stderr)
        else:
            print(f"open {self._out.rstrip('/')}/gallery.html")

    def __enter__(self) -> "ProgressLog":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
