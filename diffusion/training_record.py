"""What a run was: configuration, headlab's version and commit, libraries."""

import subprocess
import sys
from dataclasses import asdict, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any


def describe_run(training: Any, told: Any) -> dict[str, Any]:
    """Configuration (dataclasses) and circumstances of a run, for JSON."""

    def tree(value: Any) -> Any:
        return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value

    return {
        "training": tree(training),
        "task": tree(told),
        "commit": commit(),
        "command": sys.argv,
        "versions": {name: version(name) for name in ("headlab", "torch", "diffusers", "accelerate")},
    }


def commit() -> dict[str, Any] | None:
    """Commit of the checkout this runs from and whether files were changed since; None outside one."""

    def git(*words: str) -> str:
        call = ("git", "-C", str(Path(__file__).parent), *words)
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.CalledProcessError):
        return None
