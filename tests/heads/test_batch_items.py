"""What the inputs of a batch stand for, however they are named."""

import io
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headlab.geometry.errors import HeadlabError
from headlab.heads.batch_items import FindConfig, find_items, folder_name


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(*inputs: Path | str, out: Path | str = "/nowhere/out", **config: bool) -> list[str]:
    return [item.name for item in find_items([str(i) for i in inputs], str(out), FindConfig(**config)).items]


def test_folder(tmp_path: Path) -> None:
    """Everything below is found, in order, with its kind; other files are counted; hidden ones are left out."""
    touch(
        *(tmp_path / name for name in ("b/x.jpg", "a/x.JPG", "a/clip.mp4", "a/notes.md", "x.png", ".x.jpg", ".h/y.jpg"))
    )
    touch(tmp_path / "scan/color/0.png", tmp_path / "scan/depth/0.png", tmp_path / "flat/1_color.png")
    touch(tmp_path / "flat/1_depth.png", tmp_path / "phone.r3d")
    found = find_items([str(tmp_path)], "/nowhere/out")
    assert [(item.name, item.kind) for item in found.items] == [
        ("a/clip.mp4", "video"),
        ("a/x.JPG", "photo"),
        ("b/x.jpg", "photo"),
        ("flat", "capture"),
        ("phone.r3d", "capture"),
        ("scan", "capture"),
        ("x.png", "photo"),
    ]
    assert found.ignored == {".md": 1}
    hidden = names(tmp_path, hidden=True)
    assert len(hidden) == 9 and hidden[0].startswith("h~") and hidden[1].startswith("x.jpg~")


def test_frames(tmp_path: Path) -> None:
    touch(tmp_path / "shot 1/0.png", tmp_path / "shot 1/1.png", tmp_path / "shot 2/0.png", tmp_path / "clip.mp4")
    assert names(tmp_path, frames=True) == ["clip.mp4", "shot 1", "shot 2"]


def test_same_names_in_different_folders(tmp_path: Path) -> None:
    touch(tmp_path / "a/x.jpg", tmp_path / "b/x.jpg", tmp_path / "c/a/x.jpg", tmp_path / "a/X.jpg")
    both = names(tmp_path / "a", tmp_path / "b")
    assert [name.split("~")[0] for name in both] == ["a/X.jpg", "a/x.jpg", "b/x.jpg"]
    assert len({name.casefold() for name in both}) == 3  # one folder each even where case does not count
    roots = names(tmp_path / "a", tmp_path / "c/a")
    assert len(set(roots)) == 3 and all(root.startswith("a~") for root in roots)
    files = names(tmp_path / "a/x.jpg", tmp_path / "b/x.jpg")
    assert files[0] == "x.jpg" and files[1].startswith("x.jpg~")
    assert names(tmp_path / "a/x.jpg", tmp_path / "a/x.jpg") == ["x.jpg"]


def test_odd_names(tmp_path: Path) -> None:
    """Spaces, Unicode, newlines, bytes that are no text, and the longest names: found, and kept apart."""
    odd = [
        "two  words.jpg",
        "Zoë 名前 🙂.jpg",
        "new\nline.jpg",
        "new_line.jpg",
        "-o.jpg",
        "a:b.jpg",
        "%41.jpg",
        "x" * 251 + ".jpg",
    ]
    for name in odd:
        touch(tmp_path / name)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.jpg")).touch()
    found = find_items([str(tmp_path)], "/nowhere/out").items
    assert len(found) == len(odd) + 1 == len({item.name for item in found})
    by_key = {os.path.basename(item.key): item.name for item in found}
    assert by_key["two  words.jpg"] == "two  words.jpg" and by_key["Zoë 名前 🙂.jpg"] == "Zoë 名前 🙂.jpg"
    assert by_key["new\nline.jpg"].startswith("new_line.jpg~") and by_key["new_line.jpg"] == "new_line.jpg"
    for item in found:
        assert len(item.name.encode()) < 200 and "\n" not in item.name
        assert os.path.exists(item.paths[0])


@given(st.text(st.characters(codec=None), max_size=300), st.text(max_size=30))
def test_folder_names_are_safe_and_distinct(one: str, other: str) -> None:
    name = folder_name(one)
    assert name and not name.startswith(("/", ".")) and ".." not in name.split("/") and "\0" not in name
    assert all(0 < len(part.encode()) < 200 and not part.startswith(".") for part in name.split("/"))
    plain = [[p for p in text.split("/") if p not in ("", ".", "..")] for text in (one, other)]
    if plain[0] != plain[1]:
        assert folder_name(other) != name or not (plain[0] and plain[1])


def test_links(tmp_path: Path) -> None:
    """Loops end, links are followed, and a file with two names counts once."""
    touch(tmp_path / "in/deep/x.jpg", tmp_path / "elsewhere/y.jpg")
    (tmp_path / "in/deep/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/self").symlink_to(tmp_path / "in/self")
    (tmp_path / "in/other").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/again.jpg").symlink_to(tmp_path / "in/deep/x.jpg")
    (tmp_path / "in/gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    assert names(tmp_path / "in") == ["again.jpg", "gone.jpg", "other/y.jpg"]


def test_output_inside_input(tmp_path: Path) -> None:
    touch(tmp_path / "x.jpg", tmp_path / "out/x.jpg/overlay.png", tmp_path / "out.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    assert names(tmp_path, out=tmp_path / "out") == ["out.jpg", "x.jpg"]
    assert names(tmp_path / "**/*.*", out=tmp_path / "out") == ["out.jpg", "x.jpg"]
    with pytest.raises(HeadlabError, match="both input and output"):
        names(tmp_path, out=f"{tmp_path}/sub/..")


def test_patterns_and_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "in/a/x.jpg", tmp_path / "in/b/y.jpg", tmp_path / "in/z.txt", tmp_path / "other/n\nl.jpg")
    assert names(tmp_path / "in/*/*.jpg") == ["a/x.jpg", "b/y.jpg"]
    assert names(tmp_path / "in/**/*.jpg") == ["a/x.jpg", "b/y.jpg"]
    listed = tmp_path / "in/list.txt"
    listed.write_text(f"# mine\na/x.jpg\n\n  {tmp_path}/in/b/y.jpg\n{tmp_path}/other/z.jpg\nmissing.jpg\n")
    found = names(listed)
    assert found[:2] == ["a/x.jpg", "b/y.jpg"] and found[2].endswith("other/z.jpg") and found[3] == "missing.jpg"
    data = b"in/a/x.jpg\0other/n\nl.jpg\0"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert [name.split("~")[0] for name in names("-")] == ["in/a/x.jpg", "other/n_l.jpg"]


def test_nothing_there(tmp_path: Path) -> None:
    touch(tmp_path / "in/a.md", tmp_path / "in/b.md")
    with pytest.raises(HeadlabError, match=r"holds no photo.*ignored: 2 \.md"):
        names(tmp_path / "in")
    with pytest.raises(HeadlabError, match="does not exist"):
        names(tmp_path / "nowhere")
    with pytest.raises(HeadlabError, match="holds no photo"):
        names(tmp_path / "in/*.jpg")
    with pytest.raises(HeadlabError, match="nothing to do"):
        names()
    with pytest.raises(HeadlabError, match="cannot be opened"):
        names("nosuch://bucket/x")
    with pytest.raises(HeadlabError, match="does not exist"):
        names(f"file://{tmp_path}/nowhere")


def test_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It becomes an item that fails, so that nobody takes the batch for complete."""
    touch(tmp_path / "a/x.jpg", tmp_path / "b/y.jpg")
    scan = os.scandir

    def refuse(path: str):
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_items([str(tmp_path)], "/nowhere/out").items
    assert [(item.name, item.kind) for item in found] == [("a", "unreadable"), ("b/y.jpg", "photo")]
