"""Conversion: in order, once each, whatever stops it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_faces import drawn_faces

from headlab.datasets.convert import ConvertConfig, convert
from headlab.datasets.detected_records import with_landmarks
from headlab.datasets.kinds import DataSpec
from headlab.datasets.layouts import write_layout
from headlab.datasets.lmdb_diffae import DiffaeLmdb
from headlab.datasets.records import Fault
from headlab.datasets.store_records import LmdbPictures, ShardPictures, read_shard, read_shards
from headlab.datasets.store_targets import LmdbTarget, ShardTarget
from headlab.datasets.tar_samples import TruncatedShard, read_samples, tar_bytes
from headlab.geometry.errors import HeadlabError
from headlab.geometry.landmarks import FaceLandmarks
from headlab.geometry.landmarks.ibug68 import IBUG68

FACES = drawn_faces(12)


@pytest.fixture(scope="module")
def album(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("album")
    write_layout(root, "album", FACES)
    damaged = sorted(root.rglob("*.jpg"))[5]
    damaged.write_bytes(damaged.read_bytes()[:-300])  # a corrupt JPEG in the middle
    return root


def items(album: Path):
    return DataSpec.parse(f"album:{album}").items()


def test_a_set_becomes_a_store_with_its_labels_and_faults(album, tmp_path):
    report = convert(items(album), LmdbTarget(tmp_path, (64, 32), part=4))
    assert report.written == 11 and report.faults.counts == {"unreadable": 1}
    store = DiffaeLmdb(tmp_path, 32)
    assert len(store) == 11 and list(store.indices()) == list(range(11))
    lines = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == [item.key for item in items(album)]
    assert "cut short" in lines[5]["why"] and [line.get("index") for line in lines[4:7]] == [4, None, 5]
    assert [line["person"] for line in LmdbPictures(tmp_path).lines()][:3] == ["person_0"] * 3
    with pytest.raises(HeadlabError, match="cut short"):
        convert(items(album), LmdbTarget(tmp_path / "stop", (64,)), ConvertConfig(bad="stop"))


class Killed(BaseException):
    pass


@pytest.mark.parametrize("kind", ["lmdb", "wds"])
@pytest.mark.parametrize("after", [1, 4, 7, 11])
def test_stopped_anywhere_it_goes_on_without_loss_or_double(album, tmp_path, kind, after):
    def target():
        if kind == "lmdb":
            return LmdbTarget(tmp_path / "s", (32,), part=3)
        return ShardTarget(str(tmp_path / "s"), (32,), per_shard=3)

    def stop(report):
        if report.written == after:
            raise Killed

    with pytest.raises(Killed):
        convert(items(album), target(), callback=stop)
    report = convert(items(album), target())
    assert report.before <= after + 1
    whole = convert(items(album), LmdbTarget(tmp_path / "whole", (32,)))
    assert whole.written == 11
    expected = DiffaeLmdb(tmp_path / "whole")
    if kind == "lmdb":
        got = [DiffaeLmdb(tmp_path / "s")[i] for i in range(11)]
        assert len(DiffaeLmdb(tmp_path / "s")) == 11
    else:
        got = [record.data for record in read_shards(str(tmp_path / "s"))]
    assert got == [expected[i] for i in range(11)]


def test_a_killed_process_goes_on(tmp_path):
    write_layout(tmp_path / "a", "album", drawn_faces(60, 48))
    code = (
        "import sys, time\n"
        "from headlab.datasets.convert import convert\n"
        "from headlab.datasets.kinds import DataSpec\n"
        "from headlab.datasets.store_targets import LmdbTarget\n"
        "slow = lambda report: (print(report.written, flush=True), time.sleep(0.01))\n"
        f"convert(DataSpec.parse('album:{tmp_path}/a').items(), LmdbTarget(__import__('pathlib').Path('{tmp_path}/s'), "
        "(32,), part=5), callback=slow)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    while int(child.stdout.readline()) < 23:
        pass
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    before = len(DiffaeLmdb(tmp_path / "s"))
    assert 15 <= before < 60 and before % 5 == 0
    report = convert(DataSpec.parse(f"album:{tmp_path}/a").items(), LmdbTarget(tmp_path / "s", (32,)))
    assert report.written == 60 - before
    keys = [line["key"] for line in LmdbPictures(tmp_path / "s").lines()]
    assert keys == [item.key for item in DataSpec.parse(f"album:{tmp_path}/a").items()]


def test_a_changed_source_and_a_foreign_store_are_refused(album, tmp_path):
    convert(items(album), LmdbTarget(tmp_path, (32,)))
    with pytest.raises(HeadlabError, match="source has changed"):
        convert(list(items(album))[1:] + list(items(album))[:1], LmdbTarget(tmp_path, (32,)))
    with pytest.raises(HeadlabError, match="other sizes"):
        LmdbTarget(tmp_path, (64,))
    (tmp_path / "items.jsonl").unlink()
    with pytest.raises(HeadlabError, match="empty folder"):
        LmdbTarget(tmp_path, (32,))


def test_a_full_store_stops_and_goes_on(album, tmp_path):
    with pytest.raises(HeadlabError, match="is full"):
        convert(items(album), LmdbTarget(tmp_path, (256,), part=2, most_bytes=200_000))
    done = len(DiffaeLmdb(tmp_path)) if (tmp_path / "data.mdb").exists() else 0
    report = convert(items(album), LmdbTarget(tmp_path, (256,), part=2))
    assert report.written == 11 - done and len(DiffaeLmdb(tmp_path)) == 11


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")  # theirs
def test_shards_are_webdatasets_and_the_same_bytes_every_time(album, tmp_path):
    for name in "ab":
        convert(items(album), ShardTarget(str(tmp_path / name), (32, 16), per_shard=4))
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files[:3] == ["index.json", "shard-000000.jsonl", "shard-000000.tar"] and len(files) == 7
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    pictures = ShardPictures(str(tmp_path / "a"))
    assert pictures.counts == (4, 4, 3)
    in_order = [record.data for record in read_shards(str(tmp_path / "a"))]
    assert pictures.encoded([9, 0, 4]) == [in_order[9], in_order[0], in_order[4]]
    webdataset = pytest.importorskip("webdataset")
    urls = str(tmp_path / "a" / "shard-{000000..000002}.tar")
    theirs = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
    assert [sample["jpg"] for sample in theirs] == in_order
    assert (
        json.loads(theirs[2]["json"])["key"]
        == json.loads((tmp_path / "a/shard-000000.jsonl").open().readlines()[2])["key"]
    )


def test_shards_of_others_are_read(tmp_path):
    import io
    import tarfile

    long = "folder/" + "n" * 120
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in (("a.jpg", b"1"), ("a.cls", b"3"), (f"{long}.PNG", b"2" * 700), ("c.txt", b"z")):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), time.time()  # a fraction, so that headers are added
            tar.addfile(info, io.BytesIO(data))
    found = list(read_shard(str(tmp_path / "x.tar")))
    assert [item.key for item in found] == ["a", long, "c"] and isinstance(found[2], Fault)
    assert found[0].labels.expression == 3 and found[1].data == b"2" * 700


def test_a_truncated_shard_gives_what_is_whole_and_a_fault(album, tmp_path):
    convert(items(album), ShardTarget(str(tmp_path), (32,), per_shard=5))
    shard = tmp_path / "shard-000001.tar"
    shard.write_bytes(shard.read_bytes()[:4000])
    found = list(read_shards(str(tmp_path)))
    kinds = [item.kind for item in found if isinstance(item, Fault)]
    assert kinds == ["truncated shard"] and 6 <= len(found) - 1 < 11
    assert "shard-000001.tar" in str(next(item for item in found if isinstance(item, Fault)))
    pictures = ShardPictures(str(tmp_path))
    assert pictures.encoded([9]) == [None] and pictures.encoded([10])[0] is not None
    data = bytearray(tar_bytes({"a": {"jpg": b"1"}}))
    data[130] ^= 5
    with pytest.raises(TruncatedShard, match="header"):
        import io

        list(read_samples(io.BytesIO(bytes(data))))


def test_shards_elsewhere_through_fsspec(album):
    pytest.importorskip("fsspec")
    convert(items(album), ShardTarget("memory://bucket/faces", (32,), per_shard=4))
    pictures = ShardPictures("memory://bucket/faces")
    assert pictures.counts == (4, 4, 3) and pictures.encoded([10])[0] is not None
    assert len(list(DataSpec.parse("wds:memory://bucket/faces").items())) == 11
    again = convert(items(album), ShardTarget("memory://bucket/faces", (32,), per_shard=4))
    assert again.before == 9 and again.written == 3
    with pytest.raises(HeadlabError, match=r"cannot be reached|needs a library"):
        list(DataSpec.parse("wds:http://127.0.0.1:9/faces-{000..001}.tar").items())


def test_alignment_needs_landmarks_and_moves_them(tmp_path):
    write_layout(tmp_path / "f", "ffhq", FACES)
    spec = DataSpec.parse(f"ffhq:{tmp_path}/f?view=wild")
    report = convert(spec.items(), LmdbTarget(tmp_path / "s", (64,)), ConvertConfig(align="ffhq"))
    assert report.written == 12
    for line in LmdbPictures(tmp_path / "s").lines():
        points = np.array(line["points"])
        eyes = points[36:42].mean(0), points[42:48].mean(0)
        assert eyes[0][1] == pytest.approx(eyes[1][1], abs=1.5)  # upright
        assert (eyes[0] + eyes[1])[0] / 2 == pytest.approx(32, abs=1.5)
    album = list(DataSpec.parse(f"ffhq:{tmp_path}/f?view=thumbnail").items())
    report = convert(album, LmdbTarget(tmp_path / "n", (64,)), ConvertConfig(align="ffhq"))
    assert report.written == 0 and report.faults.counts == {"missing annotation": 12}


class KnownFaces:
    """A detector that knows where the faces are; finds a smaller one beside each."""

    name = "known"

    def __init__(self, faces: dict[bytes, np.ndarray]):
        self.faces = faces

    def detect(self, image):
        key = (image[:, :4, :4] * 255).round().byte().numpy().tobytes()
        if key not in self.faces:
            return []
        mesh = torch.zeros(478, 2)
        mesh[list(IBUG68)] = torch.from_numpy(self.faces[key]).float()
        mesh[mesh.sum(1) == 0] = mesh[5].clone()
        return [FaceLandmarks(mesh / 10, torch.zeros(478), 1.0), FaceLandmarks(mesh, torch.zeros(478), 1.0)]

    def close(self) -> None: ...

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None: ...


def test_landmarks_are_found_where_a_set_has_none(tmp_path):
    write_layout(tmp_path / "a", "album", FACES[:4])
    records = list(items(tmp_path / "a"))
    corners = [np.asarray(r.picture())[:4, :4].transpose(2, 0, 1).tobytes() for r in records]
    detector = KnownFaces({key: FACES[i].points for i, key in enumerate(corners) if i % 2 == 0})
    report = convert(with_landmarks(records, detector), LmdbTarget(tmp_path / "s", (64,)), ConvertConfig(align="ffhq"))
    assert report.written == 2 and report.faults.counts == {"missing annotation": 2}
    assert "no face" in report.faults.named["missing annotation"][0]
    (line, _) = LmdbPictures(tmp_path / "s").lines()
    assert np.array(line["points"])[36:48].mean(0)[0] == pytest.approx(32, abs=1.5)
