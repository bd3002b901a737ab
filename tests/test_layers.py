"""The layers of the project: who may import whom, and what may be imported when."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("geometry", "datasets", "diffusion", "heads", "viewers", "scripts")
#: Slow to import, or wanting a display: only inside functions.
HEAVY = {"mediapipe", "open3d", "ray", "viser", "matplotlib"}

SOURCES = [path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]
IDS = [str(path.relative_to(ROOT)) for path in SOURCES]


def absolute(node: ast.ImportFrom, package: tuple[str, ...]) -> tuple[str, ...]:
    """Parts of the module a relative import names, seen from the checkout's root."""
    assert node.level <= len(package) + 1
    base = package[: len(package) - (node.level - 1)]
    return (*base, *(node.module.split(".") if node.module else ()))


def offences(source: str, path: Path) -> list[str]:
    """What in a module breaks the rules; `path` is relative to the checkout."""
    package = path.parts[:-1]
    own = LAYERS.index(package[0])
    bench = package[:2] == ("scripts", "bench")
    tree = ast.parse(source)
    inside = {child for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for child in ast.walk(node)}
    found = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        elif isinstance(node, ast.ImportFrom):
            target = absolute(node, package)
            layers = [target[0]] if target else [alias.name for alias in node.names]
            for layer in layers:
                if layer not in LAYERS:
                    found.append(f"{path}:{node.lineno} imports {layer}, which is no layer")
                elif LAYERS.index(layer) > own:
                    found.append(f"{path}:{node.lineno} imports {layer}, which lies to its right")
        for name in names:
            top = name.split(".")[0]
            if top == "headlab" and not bench:
                found.append(f"{path}:{node.lineno} imports headlab by name; import relatively")
            if top in HEAVY and node not in inside:
                found.append(f"{path}:{node.lineno} imports {top} at module level; move it into a function")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_imports_point_leftwards_and_heavy_ones_wait(path: Path) -> None:
    assert offences(path.read_text(encoding="utf-8"), path.relative_to(ROOT)) == []


@pytest.mark.parametrize(
    ("source", "where", "complaint"),
    [
        ("from ..heads.fit import fit", "geometry/camera.py", "to its right"),
        ("def f():\n    from ...heads import fit", "geometry/raster/ops.py", "to its right"),
        ("from .. import viewers", "heads/fit.py", "to its right"),
        ("from ..tests import synthetic", "heads/fit.py", "no layer"),
        ("import headlab.heads", "scripts/fit.py", "by name"),
        ("import mediapipe as mp", "geometry/x.py", "module level"),
        ("if True:\n    from open3d import io", "viewers/x.py", "module level"),
    ],
)
def test_the_scan_sees_offences(source: str, where: str, complaint: str) -> None:
    (offence,) = offences(source, Path(where))
    assert complaint in offence


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ("from ..geometry.camera import Camera", "scripts/fit.py"),
        ("from . import ops", "geometry/raster/raster.py"),
        ("def f():\n    import mediapipe", "geometry/x.py"),
        ("import headlab.heads", "scripts/bench/photos.py"),
    ],
)
def test_the_scan_allows_what_is_right(source: str, where: str) -> None:
    assert offences(source, Path(where)) == []


def test_every_layer_was_scanned() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == set(LAYERS)


def test_datasets_does_not_hide_hugging_faces_package() -> None:
    assert not (ROOT / "datasets" / "__init__.py").exists()
    for layer in set(LAYERS) - {"datasets"}:
        assert (ROOT / layer / "__init__.py").is_file(), layer
