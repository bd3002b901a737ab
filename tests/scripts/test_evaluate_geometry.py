"""`headlab evaluate geometry`, `headlab evaluate meshes` and `headlab train nphm`, small."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import trimesh

from headlab.geometry.errors import HeadlabError, MissingAssetError
from headlab.geometry.sdf.expression import ExpressionConfig
from headlab.geometry.sdf.field_files import load_fields
from headlab.geometry.sdf.identity import IdentityConfig
from headlab.geometry.sdf.layout import EnsembleLayout
from headlab.scripts.evaluate_geometry import EvaluateGeometry, evaluate_geometry, format_table
from headlab.scripts.evaluate_meshes import EvaluateMeshes, evaluate_meshes
from headlab.scripts.field_sources import field_source
from headlab.scripts.train_nphm import TrainNphm, fields_config, train_nphm


def test_a_table_of_linear_models_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Fields take their time to be fitted: tests/geometry/sdf does; here is the command around them.
    from headlab.geometry.sdf import default_fields
    from headlab.heads.metrics import table_rows

    class Nothing:
        def __init__(self, name: str, fields: object, resolution: int) -> None:
            self.name = name
            self.fields = SimpleNamespace(facts={})

        def canonical(self, cloud: torch.Tensor) -> None:
            raise HeadlabError("not fitted in this test")

        posed = canonical

    monkeypatch.setattr(table_rows, "FieldsRow", Nothing)
    monkeypatch.setattr(default_fields, "load_default_fields", lambda: None)
    args = EvaluateGeometry(
        out=tmp_path / "table.json", train=4, test=1, expressions=(), points=600, components=(3, 2), parametric=False
    )
    table = evaluate_geometry(args)
    assert set(table["identity"]) == {"global PCA", "local PCA"} and table["expression"] == {}
    assert table["failures"][0]["row"] == "NPHM (default)"
    written = json.loads((tmp_path / "table.json").read_text())
    assert written["setting"]["train"] == 4 and written["identity"]["global PCA"]["face"]["chamfer_l1"] > 0
    text = format_table(table)
    assert "identity, head" in text and "local PCA" in text and "not fitted in this test" in text


def test_numbers_that_make_no_table() -> None:
    with pytest.raises(HeadlabError, match="at least two people"):
        evaluate_geometry(EvaluateGeometry(train=1))
    with pytest.raises(HeadlabError, match="numbered 0 to 19"):
        evaluate_geometry(EvaluateGeometry(train=2, test=1, expressions=(20,)))
    with pytest.raises(MissingAssetError, match="is not there"):
        evaluate_geometry(EvaluateGeometry(source="nowhere"))


def test_sources_are_told_apart(tmp_path: Path) -> None:
    assert getattr(field_source("default"), "name", "") == "default"
    with pytest.raises(HeadlabError, match="no source of heads"):
        field_source(str(tmp_path))
    place = tmp_path / "000" / "000"
    place.mkdir(parents=True)
    (place / "registration.ply").touch()
    assert field_source(str(tmp_path)) == tmp_path


def test_meshes_and_folders_of_them(tmp_path: Path) -> None:
    for name, radius in (("predicted", 0.1), ("true", 0.101)):
        folder = tmp_path / name
        folder.mkdir()
        for number in range(2):
            trimesh.creation.icosphere(subdivisions=3, radius=radius).export(folder / f"{number}.ply")
    one = evaluate_meshes(EvaluateMeshes(tmp_path / "predicted" / "0.ply", tmp_path / "true" / "0.ply", samples=2000))
    assert one["pairs"]["0.ply"]["chamfer_l1"] == pytest.approx(1.0, rel=0.02)
    (tmp_path / "true" / "1.ply").write_bytes(b"ply\nbroken")
    both = evaluate_meshes(
        EvaluateMeshes(tmp_path / "predicted", tmp_path / "true", tmp_path / "out.json", samples=500, outer=True)
    )
    assert list(both["pairs"]) == ["0.ply"] and list(both["failures"]) == ["1.ply"]
    assert json.loads((tmp_path / "out.json").read_text())["unit"] == "mm"
    with pytest.raises(HeadlabError, match="two meshes or two folders"):
        evaluate_meshes(EvaluateMeshes(tmp_path / "predicted", tmp_path / "true" / "0.ply"))
    with pytest.raises(MissingAssetError):
        evaluate_meshes(EvaluateMeshes(tmp_path / "nothing", tmp_path / "true"))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(HeadlabError, match="nothing to compare"):
        evaluate_meshes(EvaluateMeshes(empty, tmp_path / "true"))


def test_training_writes_fields_that_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headlab.geometry.sdf import presets
    from headlab.geometry.sdf.model_heads import HeadsConfig

    small = presets.small_fields

    def tiny(kind: str, *minutes: float):
        config = small(kind, *minutes)
        layout = EnsembleLayout(latent_global=4, latent_local=3)
        return replace(
            config,
            identity=IdentityConfig(layout, 16, 4, 8),
            expression=ExpressionConfig(latent=4, code=4, hidden=24, layers=4),
            identity_training=replace(config.identity_training, face_points=20, rest_points=20),
            expression_training=replace(config.expression_training, points=30, elsewhere=5),
        )

    monkeypatch.setattr(presets, "small_fields", tiny)
    monkeypatch.setattr("headlab.geometry.sdf.model_heads.HeadsConfig", _few(HeadsConfig))
    args = TrainNphm("default", tmp_path / "run", people=2, expressions=1, steps=3, expression_steps=3, batch=2)
    fields = train_nphm(args)
    found = load_fields(tmp_path / "run")
    assert found.kind == "NPHM" and len(found.identity_latents) == 2 and found.expression_latents.shape == (2, 4)
    assert found.facts["source"] == "default" and found.facts["identity_steps"] == 3
    assert torch.equal(found.identity_latents, fields.identity_latents)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["source"] == "default" and len(config["heads"]) == 2
    again = train_nphm(args)
    assert torch.equal(again.identity_latents, fields.identity_latents), "a finished run is not trained further"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"people": 1}, "--people must be at least 2"),
        ({"steps": 0}, "--steps must be at least 1, not 0"),
        ({"batch": 0}, "--batch must be at least 1"),
        ({"minutes": -1.0}, "--minutes must be more than 0, not -1"),
        ({"expression_minutes": float("nan")}, "--expression-minutes must be more than 0"),
    ],
)
def test_numbers_that_make_no_training(tmp_path: Path, change: dict[str, float], message: str) -> None:
    with pytest.raises(HeadlabError, match=message):
        train_nphm(replace(TrainNphm("default", tmp_path / "run"), **change))
    assert not (tmp_path / "run").exists()


def test_a_file_is_no_folder_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(HeadlabError, match="is a file"):
        train_nphm(TrainNphm("default", tmp_path / "run"))


def test_one_subject_is_no_training_set(tmp_path: Path) -> None:
    place = tmp_path / "data" / "000" / "000"
    place.mkdir(parents=True)
    trimesh.creation.icosphere(subdivisions=4, radius=0.4).export(place / "registration.ply")
    with pytest.raises(HeadlabError, match="gives one head"):
        train_nphm(TrainNphm(str(tmp_path / "data"), tmp_path / "run"))


def _few(heads: type) -> object:
    def make(people: int, expressions: int, seed: int) -> object:
        return heads(people, expressions, face_points=200, rest_points=200, pose_points=100, seed=seed)

    return make


def test_sizes_and_budgets_can_be_said() -> None:
    released = fields_config(TrainNphm("default", Path("out"), size="released", minutes=3.0, seed=4))
    assert released.identity.hidden == 200 and released.identity.layout.latent == 1344
    assert released.identity_training.loop.minutes == 3.0 and released.expression_training.loop.seed == 4
    small = fields_config(TrainNphm("default", Path("out"), kind="npm", steps=5))
    assert small.kind == "npm" and small.identity_training.loop.steps == 5
