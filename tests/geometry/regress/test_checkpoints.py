"""Reading the authors' checkpoints: the right ones, the wrong ones, the wicked ones."""

import io
import pickle
import sys
import types
import zipfile
from pathlib import Path

import pytest
import torch

from headlab.geometry.code import HeadCode
from headlab.geometry.errors import HeadlabError, MissingAssetError
from headlab.geometry.regress.checkpoints import (
    find_emoca_checkpoint,
    read_deca_checkpoint,
    read_emoca_checkpoint,
    read_expression_outputs,
)
from headlab.geometry.regress.codes import ExpressionOutputs
from headlab.geometry.regress.deca import load_deca, load_emoca
from headlab.geometry.regress.emoca_buffers import read_emoca_assets, read_emoca_head
from headlab.geometry.regress.torch_archive import TorchArchive
from headlab.geometry.safe_pickle import UnsafePickleError

SECTIONS = ("E_flame", "E_detail", "D_detail")


class Wicked:
    """Opens a file when it is unpickled the careless way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return io.open, (str(self.path), "w")


@pytest.fixture
def lightning(monkeypatch: pytest.MonkeyPatch):
    """Stand-ins for the classes whose instances lie in Lightning checkpoints, so that such a file can be written."""

    def module(name: str, *classes: str) -> list[type]:
        made = types.ModuleType(name)
        kinds = [type(kind, (), {"__module__": name}) for kind in classes]
        for kind in kinds:
            setattr(made, kind.__name__, kind)
        parent, _, _ = name.rpartition(".")
        if parent and parent not in sys.modules:
            monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
        monkeypatch.setitem(sys.modules, name, made)
        return kinds

    (config,) = module("omegaconf.dictconfig", "DictConfig")
    (metadata,) = module("omegaconf.base", "ContainerMetadata")
    (node,) = module("omegaconf.nodes", "AnyNode")
    module("pytorch_lightning.callbacks")
    (callback,) = module("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
    settings = config()
    settings.__dict__ = {"_content": {"lr": node()}, "_metadata": metadata(), "_parent": None}
    return {
        "epoch": 3,
        "pytorch-lightning_version": "1.4.9",
        "hyper_parameters": settings,
        "callbacks": {callback: {"best_model_score": torch.tensor(1.0), "dirpath": Path("x")}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}],
    }


def tiny_state() -> dict[str, torch.Tensor]:
    names = ("E_flame.a", "E_expression.layers.2.weight", "E_detail.b", "D_detail.c", "perceptual_loss.d")
    state = {f"deca.{name}": torch.rand(3, 2) for name in names}
    return state | {"deca.uv_face_eye_mask": torch.rand(1, 1, 4, 4), "other.x": torch.zeros(1)}


def test_deca_model(state, tmp_path, encoder, images) -> None:
    path = tmp_path / "deca_model.tar"
    sections = {"E_flame": state("E_flame", 236), "E_detail": state("E_detail", 128), "D_detail": state("D_detail")}
    torch.save(sections, path)
    deca = load_deca(path)
    with torch.inference_mode():
        code = deca.encode(images, detail=False)
        assert torch.equal(code.shape, encoder("E_flame", 236)(images)[:, :100])
    assert code.detail is None and deca.expression is None and deca.blend
    for name, network in (("E_detail", deca.detail), ("D_detail", deca.displacement)):
        assert all(torch.equal(value, sections[name][key]) for key, value in network.state_dict().items())


def test_incomplete_deca_model(state, tmp_path) -> None:
    path = tmp_path / "deca_model.tar"
    decoder = dict(state("D_detail"))
    del decoder["l1.0.bias"]
    torch.save({"E_flame": {}, "E_detail": {}, "D_detail": decoder}, path)
    with pytest.raises(HeadlabError, match=r"\(E_flame\) does not fit .*missing: encoder\.conv1\.weight"):
        load_deca(path)
    torch.save({"E_flame": {}, "opt": 3}, path)
    with pytest.raises(HeadlabError, match="E_detail, D_detail expected, E_flame, opt found"):
        load_deca(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_training_checkpoint_of_deca(tmp_path, zipped: bool) -> None:
    """Both of torch's formats, and what training adds."""
    path = tmp_path / "model.tar"
    content = {name: {"w": torch.rand(2)} for name in SECTIONS}
    training = {"opt": {"state": {}}, "global_step": 5, "batch_size": 8}
    torch.save({**content, **training}, path, _use_new_zipfile_serialization=zipped)
    sections = read_deca_checkpoint(path)
    assert set(sections) == set(SECTIONS)
    assert all(torch.equal(sections[name]["w"], content[name]["w"]) for name in SECTIONS)


def test_emoca(state, lightning, tmp_path, images, golden) -> None:
    """The whole way, from a Lightning checkpoint with hyper-parameters to merged codes."""
    folder = tmp_path / "EMOCA"
    (folder / "detail/checkpoints").mkdir(parents=True)
    weights = {
        f"deca.{section}.{key}": value
        for section, outputs in (("E_flame", 236), ("E_detail", 128), ("D_detail", None), ("E_expression", 53))
        for key, value in state(section, outputs).items()
    }
    torch.save({**lightning, "state_dict": weights}, folder / "detail/checkpoints/detail-last-epoch=03.ckpt")
    (folder / "cfg.yaml").write_text(
        "coarse:\n  model:\n    exp_deca_jaw_pose: true\n    exp_deca_global_pose: true\n"
        "detail:\n  model:\n    exp_deca_jaw_pose: true  # jaw\n    exp_deca_global_pose: false\n"
    )
    emoca = load_emoca(folder)
    assert emoca.predicts is ExpressionOutputs.JAW
    assert not emoca.blend
    with torch.inference_mode():
        code = emoca.encode(images, detail=False)
    expected = golden("emoca_expression_encoder")
    for ours, key in ((code.expression, "code_exp_exp_and_jaw"), (code.pose, "code_pose_exp_and_jaw")):
        assert float((ours - expected[key]).abs().max() / expected[key].abs().max()) < 2e-6


def test_lightning_without_hyper_parameters(tmp_path) -> None:
    path = tmp_path / "a.ckpt"
    state = tiny_state()
    torch.save({"state_dict": state, "epoch": 1}, path)
    sections = read_emoca_checkpoint(path, ("E_flame", "E_expression", ""))
    assert torch.equal(sections["E_flame"]["a"], state["deca.E_flame.a"])
    assert list(sections[""]) == ["uv_face_eye_mask"]
    assert "E_detail" not in sections


def test_archive_gives_every_tensor(lightning, tmp_path) -> None:
    """Types, views, empty and scalar tensors, and parameters."""
    path = tmp_path / "a.ckpt"
    base = torch.arange(24, dtype=torch.float64).reshape(4, 6)
    tensors = {
        "view": base[1:, ::2],
        "turned": base.T,
        "half": torch.rand(3).half(),
        "brain": torch.rand(3).bfloat16(),
        "int": torch.tensor(7),
        "bool": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.rand(2, 2)),
    }
    torch.save({**lightning, "state_dict": {f"deca.s.{key}": value for key, value in tensors.items()}}, path)
    sections = read_emoca_checkpoint(path, ("s",))
    assert sections["s"].keys() == tensors.keys()
    for key, value in tensors.items():
        ours = sections["s"][key]
        assert ours.dtype == value.dtype and torch.equal(ours, value.detach()), key


def test_wicked_checkpoints_are_refused(lightning, tmp_path, parity, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    trap, path = tmp_path / "PWNED", tmp_path / "a.ckpt"
    for content in (
        {"state_dict": tiny_state(), "hyper_parameters": Wicked(trap)},
        {**lightning, "state_dict": tiny_state(), "more": [Wicked(trap)]},
        {**lightning, "state_dict": tiny_state() | {"deca.E_flame.x": Wicked(trap)}},
    ):
        torch.save(content, path)
        with pytest.raises(UnsafePickleError, match=r"io\.open"):
            read_emoca_checkpoint(path)
    torch.save({name: {} for name in SECTIONS} | {"opt": Wicked(trap)}, path)
    with pytest.raises(UnsafePickleError, match=r"io\.open"):
        read_deca_checkpoint(path)
    for read in (read_deca_checkpoint, read_emoca_checkpoint):
        with pytest.raises(HeadlabError):
            read(parity / "malicious.pkl")
    path.write_bytes(pickle.dumps(Wicked(trap)))
    for read in (read_deca_checkpoint, read_emoca_checkpoint):
        with pytest.raises(HeadlabError):
            read(path)
    assert not list(tmp_path.glob("PWNED*"))


def rewrite(path: Path, change) -> None:
    """Write an archive again with its members changed."""
    with zipfile.ZipFile(path) as old:
        members = {info.filename: old.read(info) for info in old.infolist()}
    change(members)
    with zipfile.ZipFile(path, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)


@pytest.mark.parametrize("kind", ["truncated", "short storage", "no storage", "big-endian", "text", "no state"])
def test_damaged_checkpoints(lightning, tmp_path, kind: str) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({**lightning, **({} if kind == "no state" else {"state_dict": tiny_state()})}, path)

    def storages(members: dict[str, bytes]) -> list[str]:
        return [name for name in members if "/data/" in name]

    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "short storage":
        rewrite(path, lambda m: m.update({name: b"" for name in storages(m)}))
    elif kind == "no storage":
        rewrite(path, lambda m: [m.pop(name) for name in storages(m)])
    elif kind == "big-endian":
        rewrite(path, lambda m: m.update({name: b"big" for name in m if name.endswith("byteorder")}))
    elif kind == "text":
        path.write_text("no checkpoint")
    with pytest.raises(HeadlabError) as caught:
        read_emoca_checkpoint(path, ("E_flame",))
    assert "\n" not in str(caught.value)


def test_a_tensor_cannot_be_larger_than_its_storage(lightning, tmp_path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({**lightning, "state_dict": {"deca.s.w": torch.zeros(1).expand(1 << 20)}}, path)
    with TorchArchive(path) as archive, pytest.raises(HeadlabError, match="larger than its storage"):
        archive.tensor(archive.value["state_dict"]["deca.s.w"])


def test_missing_files(tmp_path) -> None:
    for read in (read_deca_checkpoint, read_emoca_checkpoint, find_emoca_checkpoint):
        with pytest.raises(MissingAssetError, match=r"https://\w+\.is\.tue\.mpg\.de"):
            read(tmp_path / "nothing")


def test_lowest_number_is_chosen(tmp_path) -> None:
    folder = tmp_path / "detail/checkpoints"
    folder.mkdir(parents=True)
    for name in ("detail-epoch=10-loss=3.5.ckpt", "detail-epoch=07-loss=0.25.ckpt", "detail-last.ckpt"):
        (folder / name).touch()
    assert find_emoca_checkpoint(tmp_path).name == "detail-epoch=07-loss=0.25.ckpt"


@pytest.mark.parametrize(
    "rows, text, expected",
    [
        (50, None, ExpressionOutputs.EXPRESSION),
        (56, None, ExpressionOutputs.GLOBAL_JAW),
        (53, "model:\n  exp_deca_jaw_pose: True\n", ExpressionOutputs.JAW),
        (53, "exp_deca_global_pose: true\n", ExpressionOutputs.GLOBAL),
        (50, "detail:\n  model:\n    name: emoca\n", ExpressionOutputs.EXPRESSION),
    ],
)
def test_configurations(tmp_path, rows: int, text: str | None, expected: ExpressionOutputs) -> None:
    if text is not None:
        (tmp_path / "cfg.yaml").write_text(text)
    assert read_expression_outputs(tmp_path / "detail/checkpoints/a.ckpt", rows) is expected


def test_unclear_configurations(tmp_path) -> None:
    path = tmp_path / "a.ckpt"
    with pytest.raises(HeadlabError, match="keep its cfg.yaml beside it"):  # noqa: RUF043
        read_expression_outputs(path, 53)
    with pytest.raises(HeadlabError, match="51 outputs"):
        read_expression_outputs(path, 51)
    (tmp_path / "cfg.yaml").write_text("exp_deca_jaw_pose: true\n")
    with pytest.raises(HeadlabError, match="different models"):
        read_expression_outputs(path, 56)


def flame_buffers(flame) -> dict[str, torch.Tensor]:
    """A HeadModel as EMOCA's modules hold it."""
    count = len(flame.template)
    return {
        "flame.v_template": flame.template,
        "flame.shapedirs": torch.cat([flame.shape_basis[..., :100], flame.expression_basis[..., :50]], -1),
        "flame.posedirs": flame.pose_basis.reshape(3 * count, 36).T,
        "flame.J_regressor": flame.joint_regressor,
        "flame.parents": torch.tensor(flame.parents),
        "flame.lbs_weights": flame.skin_weights,
        "flame.faces_tensor": flame.faces,
        "flame.lmk_faces_idx": flame.landmarks["51"].faces,
        "flame.lmk_bary_coords": flame.landmarks["51"].weights,
        "flame.full_lmk_faces_idx": flame.landmarks["68"].faces[None],
        "flame.full_lmk_bary_coords": flame.landmarks["68"].weights[None],
        "flame.dynamic_lmk_faces_idx": flame.contour.faces,
        "flame.dynamic_lmk_bary_coords": flame.contour.weights,
        "flame.lmk_faces_idx_mediapipe": flame.landmarks["105"].faces,
        "flame.lmk_bary_coords_mediapipe": flame.landmarks["105"].weights,
        "render.raw_uvcoords": flame.uvs[None],
        "render.uvfaces": flame.uv_faces[None],
    }


def test_head_and_maps_inside_a_checkpoint(flame, assets, tmp_path) -> None:
    path = tmp_path / "a.ckpt"
    state = {f"deca.{key}": value for key, value in flame_buffers(flame).items()}
    state |= {"deca.uv_face_eye_mask": assets.mask[None, None], "deca.fixed_uv_dis": assets.fixed_displacement}
    torch.save({"state_dict": state}, path)
    head = read_emoca_head(path)
    torch.manual_seed(0)
    code = HeadCode.neutral(100, 50).map(lambda value: torch.randn_like(value) * 0.1)
    assert torch.allclose(head.vertices(code), flame.vertices(code), atol=1e-7)
    assert head.landmarks.keys() == flame.landmarks.keys()
    assert torch.equal(head.uvs, flame.uvs) and torch.equal(head.uv_faces, flame.uv_faces)
    assert head.parents == flame.parents
    maps = read_emoca_assets(path)
    assert torch.equal(maps.mask, assets.mask) and torch.equal(maps.fixed_displacement, assets.fixed_displacement)
    del state["deca.flame.posedirs"], state["deca.fixed_uv_dis"]
    torch.save({"state_dict": state}, path)
    with pytest.raises(HeadlabError, match="no complete FLAME"):
        read_emoca_head(path)
    with pytest.raises(HeadlabError, match="no detail maps"):
        read_emoca_assets(path)
