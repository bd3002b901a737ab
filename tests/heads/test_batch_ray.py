"""The Ray engine on a real cluster of two machines' worth of processes, one of which is lost on the way."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headlab.geometry.errors import HeadlabError
from headlab.heads.batch import RayConfig
from headlab.heads.batch_items import Item
from headlab.heads.batch_pool import PoolConfig
from headlab.heads.batch_ray import run_on_ray

#: Runs on a cluster of two nodes, and kills the second when each has done some items. In a process of its own: Ray
#: threads and warnings stay out of pytest.
_DRIVER = """
import json, os, sys

tests, folder, out = sys.argv[1:4]
sys.path.insert(0, tests)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
from ray.cluster_utils import Cluster
from batch_toy import toy
from headlab.heads.batch import BatchConfig, RayConfig, run_batch
from headlab.heads.batch_items import find_items
from headlab.heads.batch_pool import PoolConfig

small = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=small)
second = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
nodes, killed = {}, []

def event(name, figures):
    if name == "item":
        nodes.setdefault(figures["ray_node"], []).append(figures["name"])
        if not killed and len(nodes) == 2 and min(map(len, nodes.values())) >= 3:
            killed.append(sum(map(len, nodes.values())))
            cluster.remove_node(second, allow_graceful=False)

items = find_items([folder], out).items
config = BatchConfig("ray", pool=PoolConfig(workers=2, timeout=5, ahead=4), ray=RayConfig(cluster.address, block=2))
summary = run_batch(items, toy(out, 0.15), out, {}, {"toy": "1"}, config, event)
cluster.shutdown()
print(json.dumps([summary.done, summary.reasons, killed, sorted(map(len, nodes.values()))]))
"""


@pytest.mark.slow
def test_a_node_is_lost(tmp_path: Path) -> None:
    """Every item is done in the end, once in the manifest; one that kills its worker and one that hangs fail alone."""
    pytest.importorskip("ray.data", exc_type=ImportError)
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    texts = {f"{i:03d}": f"good {i}" for i in range(40)} | {"010x": "die", "020x": "bad"}
    for name, text in texts.items():
        (folder / f"{name}.jpg").write_text(text)
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER, tests, str(folder), str(out)],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "RAY_DEDUP_LOGS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    number, reasons, killed, per_node = json.loads(done.stdout.strip().splitlines()[-1])
    assert number == 40 and reasons == {"crash": 1, "input": 1}
    assert len(killed) == 1 and killed[0] < 40 and len(per_node) == 2 and sum(per_node) == 42
    assert len(list(out.rglob("head.npz"))) == 40
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()[1:]]
    assert len(lines) == 42 == len({line["key"] for line in lines})


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(HeadlabError, match=r"--engine ray needs Ray .*pip install 'headlab\[cluster\]'"):
        list(run_on_ray([Item("a", "a", "photo", ("a",))], print, PoolConfig(), RayConfig()))
