"""`headlab train morphable` and the model it writes."""

import json
from pathlib import Path

import pytest
import torch
import trimesh

from headlab.geometry.errors import HeadlabError
from headlab.geometry.models.head_model import HeadModel
from headlab.heads.models import load_model
from headlab.scripts.train_morphable import MODEL, TrainMorphable, train_morphable


def test_a_model_of_registered_heads(default_head: HeadModel, tmp_path: Path, capsys) -> None:
    codes = torch.randn(4, default_head.shapes, generator=torch.Generator().manual_seed(0))
    folder = tmp_path / "heads"
    folder.mkdir()
    for i, head in enumerate(default_head.shaped(codes, torch.zeros(4, default_head.expressions))):
        trimesh.Trimesh(head.numpy(), default_head.faces.numpy(), process=False).export(folder / f"{i}.ply")
    TrainMorphable(folder, tmp_path / "mine", heads=30, limit=12).run()
    assert "components explain" in capsys.readouterr().out
    report = json.loads((tmp_path / "mine" / "report.json").read_text())
    assert report["sources"] == 4 and report["heads"] == 30 and len(report["scans"]) == 4
    model = load_model(str(tmp_path / "mine" / MODEL))
    assert model.name == "mine" and model.shapes == report["components"] <= 12
    assert model.expression_names == default_head.expression_names

    with pytest.raises(HeadlabError, match="--variance"):
        train_morphable(TrainMorphable(folder, tmp_path / "x", variance=0.0))
    with pytest.raises(HeadlabError, match="holds no meshes"):
        train_morphable(TrainMorphable(tmp_path, tmp_path / "x"))
    with pytest.raises(HeadlabError, match="build one with `headlab train morphable`"):
        load_model(str(tmp_path / "nothing.safetensors"))
