"""Stand-in weights for parity tests: each tensor is a function of its state-dict name and shape alone.

The golden files were made with networks filled by this rule, so that no checkpoint needs to be shipped: a normal
stream seeded by the name's SHA-256, scaled by what kind of parameter the name says it is.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def weight_for(name: str, shape: Sequence[int]) -> Tensor:
    """The float32 tensor of a name; counters come as int64 zeros."""
    shape = tuple(shape)
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    normal = np.asarray(np.random.RandomState(seed).standard_normal(shape))
    if name.endswith("running_var"):
        value = 1 + 0.1 * np.abs(normal)
    elif name.endswith("running_mean"):
        value = 0.1 * normal
    elif len(shape) > 1:
        value = normal * math.sqrt(2 / math.prod(shape[1:]))
    elif len(shape) == 1 and name.endswith("weight"):
        value = 1 + 0.1 * normal
    else:
        value = 0.02 * normal
    return torch.from_numpy(value.astype(np.float32))


def state_for(shapes: Mapping[str, Sequence[int]], prefix: str = "") -> dict[str, Tensor]:
    """A whole state dict; the seed is made from `prefix` + key."""
    return {key: weight_for(prefix + key, shape) for key, shape in shapes.items()}
