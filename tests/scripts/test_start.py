"""What is not needed is not imported: that keeps every command's start short, without measuring any time."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from viewed import model

#: Seconds each; `torch._dynamo` alone takes as long as torch.
_HEAVY = "diffusers mediapipe open3d pandas ray skimage sympy.polys torch._dynamo transformers viser".split()
_TELL = "print('LOADED', *sorted(set(sys.argv[1].split(',')) & set(sys.modules)))"


def _loaded(code: str, names: list[str], *arguments: str) -> list[str]:
    command = [sys.executable, "-c", f"import sys\n{code}\n{_TELL}", ",".join(names), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("LOADED")[2].split()


def test_the_command_line_starts_without_torch():
    assert _loaded("import headlab.scripts.cli", [*_HEAVY, "scipy", "torch", "trimesh"]) == []


@pytest.fixture
def shown(tmp_path: Path) -> list[Path]:
    from viewed import head

    import headlab.heads.export as export

    given, rest = head(frames=3), model()
    given.fit.save(tmp_path / "head.npz")
    export.write_ply(tmp_path / "mesh.ply", rest, rest.template)
    return [tmp_path / "head.npz", tmp_path / "mesh.ply"]


_VIEW = """
from pathlib import Path
import headlab.scripts.cli
from headlab.heads.view import opened
from headlab.heads.view.opened import open_any
from headlab.viewers import offscreen, session, web, window
sys.path.insert(0, sys.argv[3])
from viewed import model
opened.load_model = lambda name: model()
items = [open_any(sys.argv[2])]
shown = session.Session(items)
shown.picture((64, 60))
if shown.editor is not None:
    shown.set("jawOpen", 0.5)
    shown.toggle("landmarks", True)
    shown.toggle("wireframe", True)
    shown.picture((64, 60))
offscreen.draw("sheet", items, Path(sys.argv[2]).with_suffix(".png"))
"""


@pytest.mark.parametrize("which", [0, 1])
def test_a_head_and_a_mesh_are_shown_without_the_compiler(shown, which):
    assert _loaded(_VIEW, [*_HEAVY, "roma"], str(shown[which]), str(Path(__file__).parents[1])) == []


def test_inference_mode_draws_what_autograd_draws():
    """The operations are called another way there."""
    from headlab.geometry.camera import Camera
    from headlab.geometry.raster import interpolate, rasterize, vertex_normals

    head, camera = model(), Camera.frontal(90.0, (48, 40))
    points = camera.to_homogeneous(head.template - torch.tensor([0.0, 0.0, 0.6]))[None]
    results = []
    for inference in (False, True):
        with torch.inference_mode(inference):
            raster = rasterize(points, head.faces, camera.size)
            normals = vertex_normals(head.template, head.faces)
            results.append([raster.face, raster.depth, normals, interpolate(raster, normals[None], head.faces)])
    assert bool((results[0][0] >= 0).any())
    for plain, inferred in zip(*results, strict=True):
        assert torch.equal(plain, inferred)
