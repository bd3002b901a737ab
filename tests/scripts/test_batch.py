"""`headlab batch`: options, logs, and real fits that survive accidents."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from headlab.datasets.video import write_video
from headlab.geometry.errors import HeadlabError
from headlab.heads.batch import Summary
from headlab.heads.batch_fit import head_hash
from headlab.heads.batch_items import Item
from headlab.heads.batch_manifest import read_manifest
from headlab.heads.head_fit import HeadFit
from headlab.scripts.batch import Batch, bytes_of, check, list_items, run_config
from headlab.scripts.batch_log import JsonLog, ProgressLog
from headlab.scripts.batch_work import BatchWork

_COMMAND = "import sys, tyro; from headlab.scripts.batch import Batch; tyro.cli(Batch, args=sys.argv[1:]).run()"


#: A decoder that never comes to an end with one of the photos.
_SLOW = """
import time
import PIL.Image

plain = PIL.Image.open

def slow(file, *arguments, **options):
    if "never" in str(getattr(file, "name", file)):
        time.sleep(600)
    return plain(file, *arguments, **options)

PIL.Image.open = slow
"""


def batch_process(*arguments: str | Path, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", _COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"task": "transfer"}, "wants either --source"),
        ({"task": "transfer", "source": ("happy",), "target": Path("x.jpg")}, "wants either --source"),
        ({"source": ("happy",)}, "belong to --task transfer"),
        ({"group": "identity", "task": "track"}, "leave it out of --task track"),
        ({"texture_size": 9}, "--texture-size takes 64 to"),
        ({"workers": 0}, "--workers is from 1 on"),
        ({"retry": -1}, "--retry is from 0 on"),
        ({"timeout": float("nan")}, "--timeout is a number"),
        ({"focal": 0.0}, "--focal is a positive number"),
        ({"memory": "lots"}, "--memory is a size such as 4G"),
        ({"memory": "10"}, "--memory is a size such as 4G"),
        ({"inputs": ()}, "nothing to do"),
    ],
)
def test_wrong_options(changes: dict, complaint: str) -> None:
    with pytest.raises(HeadlabError, match=complaint):
        check(replace(Batch(("in",), "out"), **changes))


def test_options() -> None:
    assert [bytes_of(text) for text in (None, "4G", "500m", "1.5GiB", "2097152")] == [
        0,
        4 << 30,
        500 << 20,
        3 << 29,
        2 << 20,
    ]
    options = Batch(("in",), "out", memory="600M", workers=3, together=2)
    config = run_config(options)
    assert (config.pool.workers, config.pool.memory, config.pool.budget) == (3, 600 << 20, 200 << 20)
    assert run_config(replace(options, engine="ray", workers=None)).pool.workers == 0  # as many as the cluster has
    assert (options.model_name, options.fit_method) == ("default", "auto")
    assert replace(options, method="deca").model_name == "flame2020"
    assert replace(options, model="flame2023").fit_method == "optimise"
    same = check(options)
    assert json.loads(json.dumps(same)) == same and same["method"] == "auto" and "workers" not in same


def test_items_of_a_task(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.mp4", "c.md", "shots/0.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    options = Batch((str(tmp_path),), "/nowhere/out")

    def names(**changes) -> list[str]:
        return [item.name for item in list_items(replace(options, **changes))]

    assert names() == ["a.jpg", "b.mp4", "shots/0.png"] and names(task="fit") == ["a.jpg", "shots/0.png"]
    assert names(task="track") == ["b.mp4"] and names(task="track", frames=True) == [tmp_path.name, "b.mp4", "shots"]
    assert names(task="transfer", source=("happy",)) == ["a.jpg", "shots/0.png"]
    assert names(task="transfer", target=Path("x.jpg")) == ["a.jpg", "b.mp4", "shots/0.png"]
    (tmp_path / "b.mp4").unlink()
    with pytest.raises(HeadlabError, match=r"none of 2 items is for --task track; folders of frames"):
        names(task="track")


SUMMARY = Summary(10, 5, 2, 3, {"input": 1, "crash": 2}, 61.0)
FAILED = {"status": "failed", "name": "x\udcff.jpg", "error": {"kind": "crash", "message": "killed"}}


def test_progress_log(capsys: pytest.CaptureFixture) -> None:
    log = ProgressLog("out")
    with log:
        log.event("found", {"items": 10, "ignored": {".md": 4}, "others": 0})
        log.event("begin", {"items": 10, "before": 2, "todo": 8})
        for _ in range(3):
            log.event("item", FAILED)
        log.event("item", {"status": "done", "name": "y"})
    log.conclude(SUMMARY)
    told = capsys.readouterr()
    assert "ignored 4 .md" in told.err
    assert "5 of 10 items done, 2 were done before, 3 failed, in 1 min 01 s (0.13 per second)" in told.out
    assert "2 crash, 1 input" in told.out and "x?.jpg: killed" in told.out and "open out/gallery.html" in told.out
    log.conclude(replace(SUMMARY, stopped="no room"))
    told = capsys.readouterr()
    assert "stopped: no room" in told.err and "open" not in told.out


def test_json_log(capsys: pytest.CaptureFixture) -> None:
    with JsonLog() as log:
        log.event("item", {**FAILED, "files": {"a": 1}})
        log.conclude(SUMMARY)
    item, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert item["event"] == "item" and item["name"] == FAILED["name"] and "files" not in item
    assert summary["event"] == "summary" and summary["failed"] == 3 and summary["per_second"] == round(8 / 61, 4)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Eight photos of a face, none like another, and inputs that fail: no image, no face, one that never ends."""
    folder = tmp_path_factory.mktemp("photos")
    whole = Image.fromarray(astronaut()).crop((100, 0, 356, 256))
    for i in range(8):
        (folder / f"{i % 2}").mkdir(exist_ok=True)
        whole.rotate(3 * i - 10).resize((200 + 8 * i, 200 + 8 * i)).save(folder / f"{i % 2}" / f"é photo {i // 2}.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff rest is missing")
    Image.new("RGB", (64, 64)).save(folder / "nobody.png")
    return folder


OPTIONS = ("--method", "regress", "--texture-size", "64", "--files", "small", "--log", "json")


def results(out: Path) -> dict[str, str | None]:
    """Item -> hash of the head.npz that is there, which the manifest must agree with."""
    found = {}
    for record in read_manifest(str(out))[1]:
        found[record["name"]] = record.get("hash")
        if record["status"] == "done":
            assert head_hash(HeadFit.load(out / record["name"] / "head.npz")) == record["hash"]
    return found


@pytest.mark.slow
def test_real_fits_survive(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed as a whole, then a worker killed and an input that hangs: what is there in the end is what is there
    after an undisturbed run, to the last bit."""
    with batch_process(photos, "-o", tmp_path / "calm", "--workers", "1", *OPTIONS) as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == 2, err  # two items cannot be done
    summary = json.loads(out.splitlines()[-1])
    assert (summary["done"], summary["reasons"]) == (8, {"input": 1, "no face": 1}) and err == ""
    calm = results(tmp_path / "calm")
    assert len({value for value in calm.values() if value}) == 8
    assert (tmp_path / "calm/gallery.html").is_file()
    files = {path.name for path in (tmp_path / "calm/1/é photo 3.png").iterdir()}
    assert files == {"head.npz", "report.json", "thumb.jpg"}

    (photos / "never.jpg").write_bytes((photos / "broken.jpg").read_bytes())
    (tmp_path / "sitecustomize.py").write_text(_SLOW)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    disturbed = tmp_path / "disturbed"
    command = (photos, "-o", disturbed, "--workers", "2", *OPTIONS)
    alone = (*command[:3], "--workers", "1", *command[5:])
    with batch_process(*alone, start_new_session=True) as process:
        for event in heard(process):
            if event.get("status") == "done":
                break
        os.killpg(process.pid, signal.SIGKILL)
    left = len(results(disturbed))
    assert 0 < left < 11

    with batch_process(*command, "--resume", "--timeout", "20", "--retry", "0") as process:
        events, killed = [], False
        for event in heard(process):
            events.append(event)
            if event["event"] == "item" and not killed:
                # One of its children is at work on other items.
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                os.kill(int(children[-1]), signal.SIGKILL)
                killed = True
    assert process.returncode == 2 and killed
    assert events[-1]["reasons"]["timeout"] == 1 and events[-1]["before"] <= left
    again = results(disturbed)
    assert again.pop("never.jpg") is None and again == calm

    monkeypatch.delenv("PYTHONPATH")
    for name in ("never.jpg", "broken.jpg"):
        Image.fromarray(astronaut()).save(photos / name)
    with batch_process(*alone, "--resume") as process:
        summary = list(heard(process))[-1]
    assert summary["before"] == 8 and summary["done"] == 2 and summary["failed"] == 1


def heard(process: subprocess.Popen) -> Iterator[dict]:
    assert process.stdout is not None
    yield from map(json.loads, process.stdout)


def through(work: BatchWork, item: Item) -> dict:
    """An item through all stages, without processes."""
    state = item
    for stage in work.stages:
        state = stage.work([state])[0] if stage.batch > 1 else stage.work(state)
    return state


def checked(said: dict, folder: Path, name: str = "head.npz") -> HeadFit:
    """What the manifest says is so."""
    head = HeadFit.load(folder / name)
    assert said["hash"] == head_hash(head)
    assert said["files"] == {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    with Image.open(folder / "thumb.jpg") as thumb:
        assert thumb.height == 160 and thumb.getextrema()[0][1] > 100  # not black
    return head


@pytest.mark.slow
def test_every_kind_of_work(photos: Path, tmp_path: Path) -> None:
    """Photos, people and videos by the same worker; expressions put on photos."""
    options = Batch(("in",), str(tmp_path / "out"), method="regress", texture_size=64)
    work = BatchWork(options, ("photo", "person", "video"))
    paths = tuple(str(photos / f"0/é photo {i}.png") for i in range(4))
    said = through(work, Item("a", "one", "photo", paths[:1]))
    head = checked(said, tmp_path / "out/one")
    assert said["nme"] < 0.1 and head.sources == ("é photo 0.png",) and "index.html" in said["files"]

    # Of a person's photos two are solved together, two get its identity, two cannot be used.
    work.photos.config = replace(work.photos.config, most=3)
    work.options = replace(options, files="small")
    more = (paths[0], str(photos / "nobody.png"), *paths[1:], str(tmp_path / "missing.png"))
    said = through(work, Item("b", "person", "person", more))
    head = checked(said, tmp_path / "out/person")
    assert said["photos"] == 4 and {Path(name).name for name in said["dropped"]} == {"nobody.png", "missing.png"}
    assert bool((head.codes.shape == head.codes.shape[0]).all()) and not bool((head.codes.rotation[0] == 0).all())
    assert json.loads((tmp_path / "out/person/report.json").read_text())["photos"][3]["landmark_nme"] < 0.1

    whole = np.asarray(Image.fromarray(astronaut()).crop((100, 0, 356, 256)))
    write_video(tmp_path / "clip.mp4", iter([whole, np.roll(whole, 3, 1), np.roll(whole, 6, 1)]), 25.0)
    said = through(work, Item("c", "clip", "video", (str(tmp_path / "clip.mp4"),)))
    assert said["frames"] == 3 and "track.glb" in said["files"] and "side_by_side.mp4" not in said["files"]
    assert said["hash"] == head_hash(HeadFit.load(tmp_path / "out/clip/track.npz"))
    work.close()

    work = BatchWork(replace(options, task="transfer", source=("happy",), renderer="mesh"), ("photo",))
    said = through(work, Item("d", "smile", "photo", paths[:1]))
    head = checked(said, tmp_path / "out/smile")
    assert said["renderer"] == "mesh" and float(head.codes.expression.abs().max()) > 0.3
    work.close()


def test_read_only_output(photos: Path, tmp_path: Path) -> None:
    """On a read-only file system the command says so in one line, at once."""
    out = tmp_path / "out"
    out.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(out)], capture_output=True).returncode:
        pytest.skip("mounting needs root")
    try:
        from headlab.scripts.batch import batch

        with pytest.raises(HeadlabError, match=r"cannot be written \(Read-only file system\)"):
            batch(Batch((str(photos),), str(out)))
    finally:
        subprocess.run(["umount", str(out)], check=True)
