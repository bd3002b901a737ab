"""`headlab data`: the commands as a user calls them."""

import json

import numpy as np
import pytest
import tyro
from drawn_faces import drawn_faces
from PIL import Image

from headlab.datasets.balance import Balance
from headlab.datasets.layouts import write_layout
from headlab.geometry.errors import HeadlabError
from headlab.scripts.data import BalanceSet, Convert, Data, Inspect, Stats, Synthesize


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_layout(folder, "affectnet", drawn_faces(20))
    (folder / "train_set/annotations/3_exp.npy").unlink()
    return folder


def parsed(*words: str):
    return tyro.cli(tyro.conf.OmitSubcommandPrefixes[Data], args=list(words))  # type: ignore[arg-type]


def test_the_command_line_reaches_every_option():
    data = parsed("convert", "album:x", "lmdb:y", "--sizes", "64", "128", "--pictures.align", "ffhq")
    assert isinstance(data.what, Convert) and data.what.sizes == (64, 128) and data.what.pictures.align == "ffhq"
    data = parsed("balance", "affectnet:x", "--rule", "cap", "--target", "9")
    assert isinstance(data.what, BalanceSet) and data.what.balance == Balance("cap", 9)
    assert isinstance(parsed("stats", "album:x", "-o", "y").what, Stats)
    assert isinstance(parsed("inspect", "album:x").what, Inspect)
    assert isinstance(parsed("synthesize", "y", "--what", "ffhq").what, Synthesize)


def test_stats_counts_and_names(root, tmp_path, capsys):
    Stats(f"affectnet:{root}", tmp_path).run()
    said = capsys.readouterr().out
    assert "train/3" in said and "missing annotation: 1" in said and "valence" in said
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["items"] == 19 and sum(told["counts"]) == 19 and told["splits"] == {"train": 15, "val": 4}
    with Image.open(tmp_path / "valence_arousal.png") as picture:
        assert picture.size == (990, 760)
    with pytest.raises(HeadlabError, match="train/3"):
        Stats(f"affectnet:{root}", bad="stop").run()


def test_inspect_looks_at_every_picture(root, tmp_path, capsys):
    Inspect(f"affectnet:{root}?split=train", tmp_path).run()
    assert "96 x 96: 15" in capsys.readouterr().out
    assert json.loads((tmp_path / "report.json").read_text())["sizes"] == {"96x96": 15}


def test_balance_writes_how_often_each_item_comes(root, tmp_path, capsys):
    BalanceSet(f"affectnet:{root}", Balance("oversample"), tmp_path / "b.jsonl").run()
    rows = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    each = np.bincount([r["expression"] for r in rows], [r["repeats"] for r in rows])
    assert len(rows) == 19 and set(each) == {max(each)} and "balanced" in capsys.readouterr().out
    assert np.mean([r["weight"] for r in rows]) == pytest.approx(1, abs=1e-5)
    BalanceSet(f"affectnet:{root}", Balance("weights")).run()
    assert "weight of class 0" in capsys.readouterr().out


def test_convert_there_and_back(root, tmp_path, capsys):
    Convert(f"affectnet:{root}", f"lmdb:{tmp_path}/l", (64,)).run()
    assert "19 pictures written" in capsys.readouterr().out
    Convert(f"lmdb:{tmp_path}/l", f"wds:{tmp_path}/w", (64,), per_shard=8).run()
    Stats(f"wds:{tmp_path}/w").run()
    assert "train: 15, val: 4" in capsys.readouterr().out
    for wrong in ("folder", "zip:x", "lmdb:"):
        with pytest.raises(HeadlabError, match="names no store"):
            Convert(f"affectnet:{root}", wrong).run()
    with pytest.raises(HeadlabError, match="--sizes"):
        Convert(f"affectnet:{root}", f"lmdb:{tmp_path}/l", ()).run()


@pytest.mark.slow
def test_synthesize_makes_sets_that_the_readers_read(tmp_path, capsys):
    Synthesize(tmp_path / "s", "heads", count=4, size=32, shard=2).run()
    capsys.readouterr()
    Inspect(f"synthetic:{tmp_path}/s").run()
    assert "items: 4" in capsys.readouterr().out
    Synthesize(tmp_path / "f", "ffhq", count=2, size=64).run()
    Convert(f"ffhq:{tmp_path}/f?view=wild", f"lmdb:{tmp_path}/l", (64,)).run()
    assert "2 pictures written" in capsys.readouterr().out
    (tmp_path / "s/synthetic-000001.safetensors").write_bytes(b"cut")
    Stats(f"synthetic:{tmp_path}/s").run()
    assert "truncated shard: 1" in capsys.readouterr().out
    with pytest.raises(HeadlabError, match="at least 1"):
        Synthesize(tmp_path, count=0).run()
