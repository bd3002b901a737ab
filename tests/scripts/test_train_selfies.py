"""`headlab train denoiser --data rgbd:FOLDER`: crops are made once, and again when captures change."""

from pathlib import Path

import pytest
import torch
from tiny_diffusion import EXPRESSIONS, SIZE, tiny_diffusion

from headlab.datasets.rgbd_folder import write_rgbd_folder
from headlab.datasets.rgbd_selfie_crops import SelfieCrops
from headlab.geometry.camera import Camera
from headlab.geometry.frame import Frame
from headlab.scripts.train import TrainDenoiser
from headlab.scripts.train_selfies import selfie_data


def test_crops_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    person = tmp_path / "captures" / "ann"
    person.mkdir(parents=True)
    frame = Frame(torch.rand(3, 40, 40), depth=torch.ones(40, 40), camera=Camera.frontal(40.0, (40, 40)))
    write_rgbd_folder(person, [frame, frame])
    calls = []

    def made(tools, people, detector, size, expressions, progress) -> SelfieCrops:
        calls.append([p.name for p in people])
        assert (size, expressions) == (SIZE, EXPRESSIONS)
        return SelfieCrops(
            person=torch.zeros(2, dtype=torch.long),
            images=torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8),
            near=torch.zeros(2, SIZE, SIZE).half(),
            maps=torch.zeros(2, 11, SIZE, SIZE).half(),
            expression=torch.zeros(2, EXPRESSIONS),
            emotion=torch.tensor([1, -1]),
            valence_arousal=torch.zeros(2, 2),
            names=("ann/0001", "ann/0002"),
            skipped=("ann/0003: blurred",),
        )

    monkeypatch.setattr("headlab.heads.selfie_crops.selfie_crops", made)
    text, kept, lines = f"rgbd:{tmp_path / 'captures'}", tmp_path / "kept.safetensors", []
    data = selfie_data(text, tiny_diffusion(), kept, lines.append)
    assert data.count == 2 and calls == [["ann"]] and lines == ["left out ann/0003: blurred"]
    selfie_data(text, tiny_diffusion(), kept)
    assert len(calls) == 1
    (person / "expressions.json").write_text('{"0001": "happy"}')
    selfie_data(text, tiny_diffusion(), kept)
    assert len(calls) == 2


def test_the_command_takes_them() -> None:
    import tyro

    options = tyro.cli(TrainDenoiser, args=["--data", "rgbd:captures", "-o", "out"])
    assert options.data == "rgbd:captures" and options.pairs is None
