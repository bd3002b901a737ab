"""Adding, listing and checking files that only their authors may give out."""

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro

from headlab.geometry.errors import HeadlabError, MissingAssetError
from headlab.geometry.safe_pickle import UnsafePickleError
from headlab.heads.asset_kinds import KINDS
from headlab.heads.assets import add_asset, asset_path, assets_folder, check_assets, find_asset, list_assets
from headlab.heads.models import load_model
from headlab.scripts.assets import Assets


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An assets folder of the test's own, not yet made."""
    monkeypatch.setenv("HEADLAB_ASSETS", str(tmp_path / "assets"))
    return tmp_path / "assets"


@pytest.fixture
def parity(shared: Path) -> Path:
    return shared / "parity/geometry"


def states() -> dict[str, str]:
    return {asset.kind.id: asset.state for asset in list_assets()}


def test_nothing_is_there_at_first(folder: Path) -> None:
    assert set(states()) == set(KINDS)
    assert set(states().values()) == {"missing"}
    assert check_assets() == []
    assert not folder.exists()


def test_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert assets_folder() == tmp_path / "assets"
    monkeypatch.delenv("HEADLAB_ASSETS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr("sys.platform", "linux")
    assert assets_folder() == tmp_path / "data/headlab/assets"
    monkeypatch.setattr("sys.platform", "darwin")
    assert assets_folder() == Path.home() / "Library/Application Support/headlab/assets"


@pytest.mark.parametrize("name", ["flame2020", "flame2023", "ict"])
def test_missing_model_names_file_terms_page_and_command(name: str) -> None:
    with pytest.raises(MissingAssetError) as caught:
        load_model(name)
    text = str(caught.value)
    kind = KINDS[name]
    for part in (kind.upstream, kind.license.name, kind.license.url, "headlab assets add", "commercial use"):
        assert part in text
    assert "\n" not in text


def test_unknown_model() -> None:
    with pytest.raises(HeadlabError, match="no head model is called smpl; known are default"):
        load_model("smpl")


def test_flame_with_its_tables(parity: Path, tmp_path: Path) -> None:
    for file in ("flame_like.pkl", "landmark_embedding.npy", "mediapipe_landmark_embedding.npz"):
        assert len(add_asset(parity / file)) == 1
    add_asset(parity / "flame_texture_tiny_flame.npz")
    model = load_model("flame2020")
    assert model.name == "flame2020"
    assert set(model.landmarks) == {"68", "51", "105"}
    assert model.contour is not None
    assert model.uvs is not None
    assert model.shapes == 300 and model.expressions == 100
    with pytest.raises(MissingAssetError):
        load_model("flame2023")


def test_release_of_flame(parity: Path, tmp_path: Path) -> None:
    named = tmp_path / "flame2023_no_jaw.pkl"
    named.write_bytes((parity / "flame_like.pkl").read_bytes())
    assert add_asset(named)[0].kind.id == "flame2023"
    assert add_asset(parity / "flame_like.pkl", "flame2023")[0].kind.id == "flame2023"
    assert add_asset(parity / "flame_like.pkl")[0].kind.id == "flame2020"
    with pytest.raises(HeadlabError, match=r"not DECA networks \(deca\) but FLAME 2020"):
        add_asset(parity / "flame_like.pkl", "deca")
    with pytest.raises(HeadlabError, match="no asset is called flame;"):
        add_asset(parity / "flame_like.pkl", "flame")


def test_ict_from_npz(shared: Path) -> None:
    add_asset(shared / "data/ict_facekit.npz")
    assert load_model("ict").shapes == 100


@pytest.mark.parametrize(
    "file, kind",
    [
        ("data/face_landmarker.task", "face_landmarker"),
        ("parity/geometry/flame_texture_tiny_bfm.npz", "bfm_albedo"),
        ("parity/geometry/flame_texture_tiny_flame.npz", "flame_texture"),
    ],
)
def test_recognised_by_contents_whatever_the_name(shared: Path, tmp_path: Path, file: str, kind: str) -> None:
    renamed = tmp_path / "download (1)"
    renamed.write_bytes((shared / file).read_bytes())
    assert [asset.kind.id for asset in add_asset(renamed)] == [kind]
    assert asset_path(kind).read_bytes() == renamed.read_bytes()
    assert states()[kind] == "present"


@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoints(tmp_path: Path, legacy: bool) -> None:
    weights = {"encoder.conv1.weight": torch.zeros(2, 2)}
    deca = tmp_path / "deca_model.tar"
    torch.save(
        {"E_flame": weights, "E_detail": weights, "D_detail": weights}, deca, _use_new_zipfile_serialization=not legacy
    )
    assert add_asset(deca)[0].kind.id == "deca"
    emoca = tmp_path / "detail-epoch=10.ckpt"
    state = {"deca.E_expression.layers.2.weight": torch.zeros(53, 4)}
    torch.save({"state_dict": state, "epoch": 1}, emoca, _use_new_zipfile_serialization=not legacy)
    assert add_asset(emoca)[0].kind.id == "emoca"
    torch.save({"weights": weights}, deca, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(HeadlabError, match="torch file of something else"):
        add_asset(deca)


class Opens:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "a")


def test_malicious_files_are_refused(parity: Path, tmp_path: Path, folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    mark = tmp_path / "PWNED"
    torch.save({"E_flame": 1, "E_detail": 2, "D_detail": Opens(mark)}, tmp_path / "deca_model.tar")
    torch.save({"state_dict": {"deca.E_expression.a": Opens(mark)}}, tmp_path / "emoca.ckpt")
    torch.save([Opens(mark)], tmp_path / "old.tar", _use_new_zipfile_serialization=False)
    np.save(tmp_path / "landmark_embedding.npy", np.array({"a": Opens(mark)}, dtype=object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "FLAME2020.zip", "w") as parcel:
        parcel.write(parity / "malicious.pkl", "FLAME2020/generic_model.pkl")
    names = ("deca_model.tar", "emoca.ckpt", "old.tar", "landmark_embedding.npy")
    for file in (*(tmp_path / name for name in names), parity / "malicious.pkl"):
        with pytest.raises(UnsafePickleError, match=r"io\.open"):
            add_asset(file)
    with pytest.raises(HeadlabError, match=r"nothing in .*FLAME2020\.zip can be added: generic_model\.pkl .*io\.open"):
        add_asset(tmp_path / "FLAME2020.zip")
    assert not mark.exists()
    assert not folder.exists()


def test_zip_as_downloaded(parity: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pkl"
    other.write_bytes(pickle.dumps({"notes": 1}))
    with zipfile.ZipFile(tmp_path / "FLAME2023.zip", "w") as parcel:
        parcel.write(parity / "flame_like.pkl", "FLAME2023/female_model.pkl")
        parcel.write(parity / "flame_like.pkl", "FLAME2023/generic_model.pkl")
        parcel.write(parity / "landmark_embedding.npy", "FLAME2023/landmark_embedding.npy")
        parcel.write(other, "FLAME2023/other.pkl")
        parcel.writestr("FLAME2023/readme.pdf", b"text")
    added = add_asset(tmp_path / "FLAME2023.zip")
    assert [asset.kind.id for asset in added] == ["flame2023", "flame_landmarks"]
    with zipfile.ZipFile(tmp_path / "nothing.zip", "w") as parcel:
        parcel.write(other, "other.pkl")
    with pytest.raises(HeadlabError, match=r"nothing in .* can be added"):
        add_asset(tmp_path / "nothing.zip")


@pytest.mark.parametrize("name", ["../generic_model.pkl", "/tmp/x.pkl", "a/../../b.pkl", "..\\x.pkl", "C:\\x.pkl"])
def test_members_cannot_leave_the_folder(parity: Path, tmp_path: Path, folder: Path, name: str) -> None:
    archive = tmp_path / "in" / "FLAME.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as parcel:
        parcel.write(parity / "flame_like.pkl", "generic_model.pkl")
        parcel.writestr(zipfile.ZipInfo(name), b"x")
    with pytest.raises(HeadlabError, match="would leave the folder"):
        add_asset(archive)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("generic_model.pkl")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "FLAME.zip", "w") as parcel:
        parcel.writestr(link, b"/etc/passwd")
    with pytest.raises(HeadlabError, match="would leave the folder"):
        add_asset(tmp_path / "FLAME.zip")


@pytest.mark.parametrize("file", ["../secret.pkl", "/etc/passwd", "..", "a/b.pkl", ""])
def test_manifest_paths_cannot_leave_the_folder(folder: Path, file: str) -> None:
    folder.mkdir()
    entry = {"flame2020": {"file": file, "sha256": "0" * 64}}
    (folder / "manifest.json").write_text(json.dumps({"assets": entry}))
    with pytest.raises(HeadlabError, match=r"manifest\.json is damaged"):
        list_assets()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"assets": 3}', '{"assets": {"ict": 1}}'])
def test_damaged_manifest(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "manifest.json").write_text(text)
    with pytest.raises(HeadlabError, match=r"manifest\.json is damaged"):
        list_assets()


def test_check_finds_changes(parity: Path, folder: Path) -> None:
    add_asset(parity / "landmark_embedding.npy")
    add_asset(parity / "mediapipe_landmark_embedding.npz")
    assert {asset.kind.id: asset.state for asset in check_assets()} == {
        "flame_landmarks": "present",
        "flame_mediapipe": "present",
    }
    file = asset_path("flame_landmarks")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    asset_path("flame_mediapipe").unlink()
    (folder / "FLAME_masks.pkl").write_bytes(b"dropped in by hand")
    assert {asset.kind.id: asset.state for asset in check_assets()} == {
        "flame_landmarks": "changed",
        "flame_mediapipe": "missing",
        "flame_masks": "not recorded",
    }
    assert find_asset("flame_mediapipe") is None


def test_a_failed_add_leaves_what_was_there(parity: Path, tmp_path: Path, folder: Path, monkeypatch) -> None:
    add_asset(parity / "flame_like.pkl")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(HeadlabError, match="No space left"):
        add_asset(parity / "flame_like.pkl")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>Please log in</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"just text", "none of the files headlab knows"),
        (b"PK\x03\x04 no zip at all", "damaged zip"),
        (b"\x80\x02}q\x00(X\x01", "damaged"),
        (pickle.dumps([1, 2, 3]), "no FLAME model"),
        (b"\x93NUMPY\x01\x00", r"no \.npy"),
    ],
)
def test_wrong_files(tmp_path: Path, folder: Path, content: bytes, message: str) -> None:
    file = tmp_path / "generic_model.pkl" if content.startswith(b"\x80") else tmp_path / "file.bin"
    file.write_bytes(content)
    with pytest.raises(HeadlabError, match=message) as caught:
        add_asset(file)
    assert "\n" not in str(caught.value)
    assert not folder.exists()


def test_other_wrong_files(shared: Path, parity: Path, tmp_path: Path) -> None:
    with pytest.raises(HeadlabError, match="is not there"):
        add_asset(tmp_path / "missing.pkl")
    with pytest.raises(HeadlabError, match="npz of something else: it holds"):
        add_asset(parity / "flame_forward.npz")
    with pytest.raises(HeadlabError, match="no ICT-FaceKit folder"):
        add_asset(tmp_path)
    (tmp_path / "head.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    with pytest.raises(HeadlabError, match=r"not FLAME's head_template\.obj: 5023 vertices"):
        add_asset(tmp_path / "head.obj")


def test_command(parity: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> str:
        tyro.cli(Assets, args=arguments).run()
        return capsys.readouterr().out

    assert "flame2023        missing" in run("list")
    assert "no assets added yet" in run("check")
    assert "added flame2023" in run("add", str(parity / "flame_like.pkl"), "--kind", "flame2023")
    listed = run("list")
    assert "flame2023        present" in listed
    assert "https://flame.is.tue.mpg.de" in listed
    assert "1 assets checked" in run("check")
    asset_path("flame2023").write_bytes(b"changed")
    with pytest.raises(HeadlabError, match=r"1 of 1 assets are not what was added: flame2023 \(changed\)"):
        run("check")
