"""Synthetic people: pictures of heads about which everything is known. Every sample depends on (seed, index) alone.

people ─ expressions ─ scene ──> draws ──> heads + extras (hair, glasses, body) ──> one rasterisation per batch
                                              ──> shading ──> backdrop ──> camera faults ──> SyntheticBatch ──> shards
"""

from .batch import SyntheticBatch as SyntheticBatch
from .generator import SyntheticConfig as SyntheticConfig
from .generator import SyntheticHeads as SyntheticHeads
from .pairs import EditPairBatch as EditPairBatch
from .pairs import EditPairs as EditPairs
from .pairs import PairConfig as PairConfig
from .pairs_shards import read_pairs as read_pairs
from .pairs_shards import write_pairs as write_pairs
from .shards import read_shard as read_shard
from .shards import write_shards as write_shards
