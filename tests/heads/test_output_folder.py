"""A result folder appears whole or not at all."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from headlab.geometry.errors import HeadlabError
from headlab.heads import output_folder as module
from headlab.heads.output_folder import check_output, output_folder


def contents(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "out"
    with output_folder(out) as folder:
        (folder / "x").write_text("1")
        assert not out.exists()
    assert contents(tmp_path) == {"a/b/out/x": "1"}


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with output_folder(out) as folder:
        (folder / "x").write_text("1")
    assert contents(tmp_path) == {"out/x": "1"}


def test_a_relative_name_works(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with output_folder(Path("out")) as folder:
        (folder / "x").write_text("1")
    with output_folder(Path("."), overwrite=True) as folder:
        (folder / "y").write_text("2")
    assert contents(tmp_path) == {"out/x": "1", "y": "2"}


def test_an_existing_folder_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("keep")
    with pytest.raises(HeadlabError, match="already holds files; add --overwrite"), output_folder(out):
        pytest.fail("the block must not be entered")
    assert contents(tmp_path) == {"out/mine": "keep"}


def test_overwriting_replaces_its_own_files_and_keeps_the_others(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("keep")
    (out / "x").write_text("old")
    with output_folder(out, overwrite=True) as folder:
        (folder / "x").write_text("new")
    assert contents(tmp_path) == {"out/mine": "keep", "out/x": "new"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, HeadlabError, SystemExit])
def test_any_exception_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), output_folder(tmp_path / "a" / "b" / "out") as folder:
        (folder / "x").write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_exception_while_overwriting_leaves_the_old_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "x").write_text("old")
    with pytest.raises(KeyboardInterrupt), output_folder(out, overwrite=True) as folder:
        (folder / "x").write_text("half")
        raise KeyboardInterrupt
    assert contents(tmp_path) == {"out/x": "old"} and len(list(tmp_path.iterdir())) == 1


def test_parents_that_were_there_stay(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(RuntimeError), output_folder(tmp_path / "there" / "made" / "out"):
        raise RuntimeError
    assert [p.name for p in tmp_path.rglob("*")] == ["there"]


def test_files_in_the_way_are_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for out in (file, file / "out", file / "a" / "out"):
        with pytest.raises(HeadlabError, match=f"{file} is a file"):
            check_output(out, overwrite=True)
    assert file.read_text() == "mine"


def test_a_folder_where_a_file_belongs_stops_before_anything_moves(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "b").mkdir(parents=True)
    (out / "a").write_text("old")
    with pytest.raises(HeadlabError, match="b is a folder"), output_folder(out, overwrite=True) as folder:
        (folder / "a").write_text("new")
        (folder / "b").write_text("new")
    assert contents(tmp_path) == {"out/a": "old"}


def test_folders_that_may_not_be_written_are_refused_early(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module.os, "access", lambda path, mode: False)
    with pytest.raises(HeadlabError, match="cannot be written; name another folder"):
        check_output(tmp_path / "out", overwrite=False)


def test_a_failing_disk_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(HeadlabError, match="No space left on device; choose a folder") as caught:
        with output_folder(tmp_path / "new" / "out"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 64 KiB; needs root."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_named_and_cleaned(small_disk: Path) -> None:
    with pytest.raises(HeadlabError, match="No space left"), output_folder(small_disk / "out") as folder:
        (folder / "x").write_bytes(bytes(40_000))
        (folder / "y").write_bytes(bytes(40_000))
    assert list(small_disk.iterdir()) == []
