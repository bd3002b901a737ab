"""Batches by a toy task: what is done, done again, given up, and what of it survives which accident."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from batch_toy import refused, stillborn, toy

from headlab.geometry.errors import HeadlabError
from headlab.heads.batch import BatchConfig, Summary, run_batch
from headlab.heads.batch_items import Item, find_items
from headlab.heads.batch_manifest import read_manifest
from headlab.heads.batch_pool import PoolConfig, WorkerPool

POOL = PoolConfig(workers=2, timeout=20, ahead=4)


def photos(folder: Path, number: int, **others: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        (folder / f"{i:03d}.jpg").write_text(f"good {i}")
    for name, text in others.items():
        (folder / f"{name}.jpg").write_text(text)
    return folder


def run(
    folder: Path, out: Path, pool: PoolConfig = POOL, same: dict | None = None, pause=0.0, size=0, **kind
) -> Summary:
    items = find_items([str(folder)], str(out)).items
    return run_batch(
        items, toy(out, pause, size), str(out), same or {"method": "toy"}, {"toy": "1"}, BatchConfig(pool=pool, **kind)
    )


def tree(out: Path) -> dict[str, bytes]:
    """Results, and nothing of the batch's own."""
    files = (path for path in out.rglob("*") if path.is_file() and ".batch" not in path.parts)
    return {str(path.relative_to(out)): path.read_bytes() for path in files if not path.name.startswith("manifest")}


def statuses(out: Path) -> dict[str, str]:
    return {Path(r["key"]).stem: r["error"]["kind"] if "error" in r else "done" for r in read_manifest(str(out))[1]}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    summary = run(photos(folder / "in", 30), folder / "out")
    assert summary.complete and summary.done == 30
    return tree(folder / "out")


def test_everything_that_can_go_wrong_with_an_item(tmp_path: Path) -> None:
    """Each bad item fails for its own reason, none takes another with it, and --resume does those alone."""
    folder = photos(
        tmp_path / "in", 6, bad="bad", bug="bug", die="die", hang="hang", grow="grow", once="once", empty="fine"
    )
    pool = replace(POOL, timeout=3, memory=150_000_000)
    summary = run(folder, tmp_path / "out", pool)
    wanted = {"bad": "input", "bug": "error", "die": "crash", "hang": "timeout", "grow": "memory"}
    assert statuses(tmp_path / "out") == {
        **dict.fromkeys((f"{i:03d}" for i in range(6)), "done"),
        **wanted,
        "once": "done",
        "empty": "done",
    }
    assert (summary.done, summary.failed, summary.complete) == (8, 5, False)
    records = {Path(r["key"]).stem: r for r in read_manifest(str(tmp_path / "out"))[1]}
    assert records["bad"]["tries"] == 1 and records["bug"]["tries"] == 2 == records["die"]["tries"]
    assert "SIGKILL" in records["die"]["error"]["message"] and "ZeroDivisionError" in records["bug"]["error"]["message"]
    assert set(records["000"]["seconds"]) == {"read", "think", "write"} and records["000"]["versions"] == {"toy": "1"}
    assert not list((tmp_path / "out/.batch/work").glob("*"))
    for name in wanted:
        (folder / f"{name}.jpg").write_text("mended")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("head.npz")}
    summary = run(folder, tmp_path / "out", pool, resume=True)
    assert (summary.done, summary.before, summary.failed) == (5, 8, 0) and summary.complete
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())  # the others were left alone
    assert set(statuses(tmp_path / "out").values()) == {"done"}


def heads_in(out: Path) -> int:
    """Heads so far, in a folder in which others come and go while it is looked through."""
    return sum("head.npz" in files for _, _, files in os.walk(out))


def test_worker_killed_from_outside(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    """SIGKILL to each worker in turn, while items are in its stages: nothing is lost and nothing is blamed."""
    folder, out = photos(tmp_path / "in", 30), tmp_path / "out"
    killed: list[int] = []
    with WorkerPool(toy(out, 0.05), POOL) as pool:

        def murder() -> None:
            done = heads_in(out)
            if len(killed) < 3 and done > 6 * len(killed) + 3:
                killed.append(pool.pids()[len(killed) % 2])
                os.kill(killed[-1], signal.SIGKILL)

        outcomes = {item.key: outcome for item, outcome in pool.run(find_items([str(folder)], str(out)).items, murder)}
    assert len(killed) == 3 and {outcome["status"] for outcome in outcomes.values()} == {"done"}
    assert len(outcomes) == 30 and tree(out) == undisturbed


_DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
sys.path.insert(0, sys.argv[1] + "/heads")
from test_batch import run
run(Path(sys.argv[2]), Path(sys.argv[3]), pause=0.05)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_whole_run_killed(tmp_path: Path, undisturbed: dict[str, bytes], how: int) -> None:
    """As when the machine goes down: the whole process group at once; a half line is left by hand."""
    folder, out = photos(tmp_path / "in", 30), tmp_path / "out"
    tests = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", _DRIVER, tests, str(folder), str(out)], start_new_session=True, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 60
    while heads_in(out) < 5 and time.monotonic() < until:
        time.sleep(0.05)
    if how == signal.SIGKILL:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.terminate()
    process.wait(30)
    lines = (out / "manifest.jsonl").read_bytes()
    finished = lines.count(b"\n") - 1
    assert 0 < finished < 30
    (out / "manifest.jsonl").write_bytes(lines + b'{"key": "/half/a/li')
    (out / ".batch/work/left").mkdir(parents=True)
    summary = run(folder, out, resume=True)
    assert summary.complete and summary.before == finished and tree(out) == undisturbed
    assert not (out / ".batch/work/left").exists()


def test_disk_full(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    """On a file system of 1 MB: the run stops, says so, loses nothing; with room it goes on."""
    folder, out = photos(tmp_path / "in", 30), tmp_path / "out"
    out.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(out)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        summary = run(folder, out, size=100_000)
        assert summary.stopped is not None and "No space left" in summary.stopped and "--resume" in summary.stopped
        assert 0 < summary.done < 10 and summary.failed == 0
        whole = {name: data for name, data in tree(out).items() if name.endswith("npz")}
        assert all(len(data) == 100_064 for data in whole.values()) and len(whole) >= summary.done
        subprocess.run(["mount", "-o", "remount,size=8m", str(out)], check=True)
        summary = run(folder, out, size=100_000, resume=True)
        assert summary.complete and summary.done + summary.before == 30
        assert {name: data[:64] for name, data in tree(out).items()} == {k: v[:64] for k, v in undisturbed.items()}
    finally:
        subprocess.run(["umount", str(out)], check=True)


def test_manifest_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest itself finds no room: no half line is left, and the item counts as not done."""
    from headlab.heads.batch_manifest import Manifest
    from headlab.heads.batch_storage import StorageError

    with Manifest(str(tmp_path / "out")) as manifest:
        manifest.open({"same": {}, "versions": {}}, False, False)
        manifest.add({"key": "a", "name": "a", "status": "done"})
        before = (tmp_path / "out/manifest.jsonl").read_bytes()
        write = os.write

        def full(file: int, data: bytes) -> int:
            write(file, data[:5])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(StorageError, match="No space left"):
            manifest.add({"key": "b", "name": "b", "status": "done"})
    assert (tmp_path / "out/manifest.jsonl").read_bytes() == before


def test_missing_results_are_done_again(tmp_path: Path) -> None:
    folder, out = photos(tmp_path / "in", 4), tmp_path / "out"
    run(folder, out)
    shutil.rmtree(out / "001.jpg")
    (out / "002.jpg/head.npz").write_bytes(b"short")
    (folder / "new.jpg").write_text("good")
    summary = run(folder, out, resume=True)
    assert (summary.done, summary.before) == (3, 2) and summary.complete
    assert run(folder, out, resume=True).done == 0


def test_output_in_the_way(tmp_path: Path) -> None:
    folder, out = photos(tmp_path / "in", 2), tmp_path / "out"
    run(folder, out)
    with pytest.raises(HeadlabError, match=r"already holds a batch.*--resume.*--overwrite"):
        run(folder, out)
    with pytest.raises(HeadlabError, match="made with method toy instead of other"):
        run(folder, out, same={"method": "other"}, resume=True)
    lines = (out / "manifest.jsonl").read_text().splitlines()
    header = json.loads(lines[0])
    header["versions"]["toy"] = "0"
    (out / "manifest.jsonl").write_text("\n".join([json.dumps(header), *lines[1:]]) + "\n")
    with pytest.raises(HeadlabError, match=r"made with toy 0 instead of 1.*--overwrite"):
        run(folder, out, resume=True)
    (out / "manifest.jsonl").write_text('{"format": "headlab.batch/0"}\n{}\n')
    with pytest.raises(HeadlabError, match="made by another version"):
        run(folder, out, resume=True)
    assert run(folder, out, overwrite=True).done == 2
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()
    with pytest.raises(HeadlabError, match="already holds files"):
        run(folder, tmp_path / "other")
    with pytest.raises(HeadlabError, match="no manifest to resume from"):
        run(folder, tmp_path / "other", resume=True)
    (tmp_path / "file").touch()
    with pytest.raises(HeadlabError, match="cannot be written"):
        run(folder, tmp_path / "file")


def test_one_run_at_a_time(tmp_path: Path) -> None:
    from headlab.heads.batch_manifest import Manifest

    with Manifest(str(tmp_path)) as manifest:
        manifest.open({}, False, False)
        with pytest.raises(HeadlabError, match="another batch is writing"), Manifest(str(tmp_path)) as second:
            second.open({}, True, False)


def test_task_that_cannot_be_prepared(tmp_path: Path) -> None:
    item = Item("a", "a", "photo", ("a",))
    with pytest.raises(HeadlabError, match="no model; add one"), WorkerPool(refused, POOL) as pool:
        list(pool.run([item]))
    with pytest.raises(HeadlabError, match="no model; add one"):
        run_batch([item], refused, str(tmp_path / "out"), {}, {}, BatchConfig(pool=POOL))
    assert not (tmp_path / "out").exists()  # or the next run would be told that something is there
    with pytest.raises(HeadlabError, match=r"end before they begin .*SIGABRT"), WorkerPool(stillborn, POOL) as pool:
        list(pool.run([item]))


def test_urls(tmp_path: Path) -> None:
    """Inputs and outputs by fsspec: the same results, parts of a manifest, and going on."""
    folder, out = photos(tmp_path / "in", 5, bad="bad"), f"file://{tmp_path}/out"
    items = find_items([f"file://{folder}"], out).items
    assert [item.name for item in items] == [*(f"{i:03d}.jpg" for i in range(5)), "bad.jpg"]
    config = BatchConfig(pool=POOL)
    summary = run_batch(items, toy(out), out, {}, {"toy": "1"}, config)
    assert (summary.done, summary.failed) == (5, 1)
    assert sorted(path.parent.name for path in (tmp_path / "out").rglob("head.npz")) == [
        f"{i:03d}.jpg" for i in range(5)
    ]
    (folder / "bad.jpg").write_text("good")
    with pytest.raises(HeadlabError, match="already holds a batch"):
        run_batch(items, toy(out), out, {}, {"toy": "1"}, config)
    summary = run_batch(items, toy(out), out, {}, {"toy": "1"}, replace(config, resume=True))
    assert (summary.done, summary.before) == (1, 5) and len(read_manifest(out)[1]) == 6


def test_parquet(tmp_path: Path) -> None:
    """A row per item with what the manifest says."""
    parquet = pytest.importorskip("pyarrow.parquet", exc_type=ImportError)
    from headlab.heads.batch_manifest import write_parquet

    out = tmp_path / "out"
    run(photos(tmp_path / "in", 3, bad="bad"), out)
    write_parquet(str(out))
    table = parquet.read_table(out / "manifest.parquet")
    rows = {Path(row["key"]).stem: row for row in table.to_pylist()}
    assert sorted(rows) == ["000", "001", "002", "bad"] and rows["001"]["status"] == "done"
    assert json.loads(rows["bad"]["error"])["kind"] == "input" and rows["001"]["error"] is None
    assert json.loads(table.schema.metadata[b"headlab"])["same"] == {"method": "toy"}
