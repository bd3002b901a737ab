"""Run a grid: every stage of every cell that is not there yet."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from ...geometry.errors import HeadlabError
from .grid import Grid, cell_name


@dataclass(frozen=True)
class Ran:
    """What happened."""

    done: int
    skipped: int  #: was there already
    failed: dict[str, str]  #: cell and stage -> last line of what it said


def run_grid(grid: Grid, *, say: Callable[[str], None] = lambda line: None) -> Ran:
    """Run what is missing, stage by stage. A cell whose stage fails is left out of later ones, the others go on."""
    done = skipped = 0
    failed: dict[str, str] = {}
    dead: list[dict[str, str]] = []
    for stage in grid.stages:
        names = stage.factors(grid.factors)
        seen: set[tuple[str, ...]] = set()
        for levels in grid.cells():
            key = tuple(levels[name] for name in names)
            if key in seen or any(all(levels[n] == v for n, v in gone.items()) for gone in dead):
                continue
            seen.add(key)
            own = {name: levels[name] for name in names}
            made = grid.folder / grid.fill(stage.makes, levels)
            label = f"{stage.name} {cell_name(own)}".strip()
            if made.exists():
                skipped += 1
                continue
            say(label)
            made.parent.mkdir(parents=True, exist_ok=True)
            reason = _run(grid.command(stage, levels), grid)
            if reason is None and not made.exists():
                reason = f"it ended well but did not make {made}"
            if reason is None:
                done += 1
            else:
                failed[label] = reason
                dead.append(own)
                say(f"{label} failed: {reason}")
    return Ran(done, skipped, failed)


def _run(command: list[str], grid: Grid) -> str | None:
    """None where it ended well, else why not."""
    try:
        ended = subprocess.run(command, cwd=grid.folder, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise HeadlabError(f"{command[0]} cannot be started ({error.strerror}); check the grid's commands") from error
    if ended.returncode == 0:
        return None
    lines = [line for line in (ended.stdout + "\n" + ended.stderr).splitlines() if line.strip()]
    return f"exit code {ended.returncode}: {lines[-1] if lines else 'it said nothing'}"
