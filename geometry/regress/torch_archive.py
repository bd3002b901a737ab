"""Reading torch checkpoints that hold more than tensors, without running them.

A Lightning checkpoint keeps its hyper-parameters and callbacks beside the weights, so `weights_only` reading refuses
it. Here the pickle inside the archive may name only exact (module, name) pairs; all but the tensors' own become inert
stand-ins that are thrown away. Tensors are read from the archive when they are asked for: a training checkpoint is
gigabytes, of which a fifth are the networks.
"""

import io
import math
import pickle
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import HeadlabError
from ..safe_pickle import ARRAY_GLOBALS, Allowed, StandIn, UnsafePickleError

#: Largest pickle stream in an archive; the tensors lie outside it.
_MOST_PICKLE = 64 << 20

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Inert(StandIn):
    """Anything a checkpoint holds that is no tensor: it is built of nothing and does nothing.

    It swallows what pickle does to lists, dicts and sets, too.
    """

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...

    def add(self, item: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...


class StoredTensor(StandIn):
    """torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...): a tensor still in the archive."""


class _Parameter(StandIn):
    """torch._utils._rebuild_parameter(data, requires_grad, hooks): its data."""

    def __new__(cls, *args: Any) -> Any:
        if not args or not isinstance(args[0], StoredTensor):
            raise TypeError("a parameter without data")
        return args[0]


def _inert(module: str, *names: str) -> Allowed:
    return {(module, name): Inert for name in names}


#: What Lightning, OmegaConf and the EMOCA code put beside the weights.
LIGHTNING_GLOBALS: Allowed = {
    **ARRAY_GLOBALS,
    ("collections", "defaultdict"): defaultdict,
    **{
        (module, name): kind
        for module in ("builtins", "__builtin__")
        for name, kind in (("dict", dict), ("list", list))
    },
    **_inert("builtins", "str", "int", "float", "bool", "tuple", "NoneType", "slice", "range"),
    **_inert("typing", "Any", "Dict", "List", "Optional", "Union"),
    **_inert("omegaconf.dictconfig", "DictConfig"),
    **_inert("omegaconf.listconfig", "ListConfig"),
    **_inert("omegaconf.base", "Metadata", "ContainerMetadata", "Node", "SCMode"),
    **_inert("omegaconf.nodes", "AnyNode", "StringNode", "IntegerNode", "FloatNode", "BooleanNode", "ValueNode"),
    **_inert("pathlib", "Path", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"),
    **_inert("argparse", "Namespace"),
    **_inert("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
    **_inert("pytorch_lightning.callbacks.early_stopping", "EarlyStopping"),
    **_inert("pytorch_lightning.callbacks.lr_monitor", "LearningRateMonitor"),
    **_inert("pytorch_lightning.utilities.parsing", "AttributeDict"),
    **_inert("torch", "Size", "device", "dtype", "float32", "float16", "int64"),
    **_inert("torch.optim.lr_scheduler", "LambdaLR", "ExponentialLR", "ReduceLROnPlateau"),
    ("torch._utils", "_rebuild_tensor_v2"): StoredTensor,
    ("torch._utils", "_rebuild_parameter"): _Parameter,
    **{("torch", name): type(name, (StandIn,), {"dtype": dtype}) for name, dtype in _DTYPES.items()},
}


class TorchArchive:
    """An open checkpoint: `value` is its content, with a `StoredTensor` in place of each tensor."""

    def __init__(self, path: Path, allowed: Allowed = LIGHTNING_GLOBALS) -> None:
        """Open a checkpoint in torch's zip format.

        Raises:
            UnsafePickleError: it names what is not allowed.
            HeadlabError: it is missing, damaged, or no such file.
        """
        self._name = str(path)
        try:
            self._zip = zipfile.ZipFile(path)
            pickles = [info for info in self._zip.infolist() if info.filename.endswith("/data.pkl")]
            if len(pickles) != 1 or pickles[0].file_size > _MOST_PICKLE:
                raise ValueError("not one data.pkl of a sensible size")
            self._folder = pickles[0].filename.removesuffix("data.pkl")
            order = self._folder + "byteorder"
            if order in self._zip.namelist() and self._zip.read(order).strip() != b"little":
                raise ValueError("big-endian numbers")
            stream = io.BytesIO(self._zip.read(pickles[0]))
            self.value: Any = _ArchiveUnpickler(stream, allowed, self._name).load()
        except FileNotFoundError as error:
            raise HeadlabError(f"{path} is not there; give the path of an existing checkpoint") from error
        except UnsafePickleError:
            raise
        except (OSError, zipfile.BadZipFile, pickle.UnpicklingError, *_DAMAGE) as error:
            raise HeadlabError(f"{path} is damaged or no torch checkpoint ({_said(error)}); get it again") from error

    def close(self) -> None:
        self._zip.close()

    def __enter__(self) -> "TorchArchive":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def tensor(self, stored: StoredTensor) -> Tensor:
        """Read one tensor.

        Raises:
            HeadlabError: its bytes are missing or too few.
        """
        try:
            (dtype, key), offset, size, stride = stored.args[:4]
            if not all(isinstance(n, int) and n >= 0 for n in (offset, *size, *stride)) or len(size) != len(stride):
                raise ValueError("a tensor of impossible size")
            last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
            info = self._zip.getinfo(f"{self._folder}data/{key}")
            width = torch.empty(0, dtype=dtype).element_size()
            if 0 in size:
                return torch.empty(size, dtype=dtype)
            # A tensor may repeat bytes of its storage, but no weight does so a thousandfold.
            if (last + 1) * width > info.file_size or math.prod(size) * width > 1024 * info.file_size:
                raise ValueError("tensor larger than its storage")
            data = bytearray(self._zip.read(info))
        except (OSError, zipfile.BadZipFile, *_DAMAGE) as error:
            raise HeadlabError(f"{self._name} is damaged ({_said(error)}); get it again") from error
        flat = torch.frombuffer(data, dtype=dtype, count=len(data) // width)
        return flat.as_strided(size, stride, offset).clone()


_DAMAGE = (ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, MemoryError, RecursionError)


class _ArchiveUnpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, allowed: Allowed, source: str) -> None:
        super().__init__(stream, encoding="utf-8")
        self._allowed, self._source = allowed, source

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._allowed[module, name]
        except KeyError:
            raise UnsafePickleError(self._source, module, name) from None

    def persistent_load(self, pid: Any) -> tuple[torch.dtype, str]:
        kind, storage, key = pid[:3]
        dtype = getattr(storage, "dtype", None)
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not str(key).isalnum():
            raise ValueError("a storage of unknown kind")
        return dtype, str(key)


def _said(error: BaseException) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
