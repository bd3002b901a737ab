"""README's Python runs as it stands, and what README names exists."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from skimage import data, io

    monkeypatch.chdir(tmp_path)
    io.imsave("photo.jpg", data.astronaut(), check_contrast=False)
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert blocks
    namespaces = [{} for _ in blocks]
    for block, names in zip(blocks, namespaces, strict=True):
        exec(compile(block, "README.md", "exec"), names)
    vertices = namespaces[0]["vertices"]
    assert vertices.shape[-1] == 3 and bool(torch.isfinite(vertices).all())
    assert float(vertices[:, 2].max()) < 0  # in front of the camera, which looks along -Z


def test_named_files_exist() -> None:
    for name in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / name).exists(), name
    for script in re.findall(r"^bash (\S+)", README, re.M):
        assert (ROOT / script).is_file(), script


def test_named_commands_exist(capsys: pytest.CaptureFixture[str]) -> None:
    from headlab.scripts.cli import main

    with pytest.raises(SystemExit):
        main(["--help"])
    listed = capsys.readouterr().out
    for command in re.findall(r"^## `headlab (\w+)", README, re.M):
        assert re.search(rf"\b{command}\b", listed), command
