"""Reading pickles without running them: only named globals are let in, and those only as stand-ins.

A pickle is a program. `pickle.load` imports whatever it names and calls it, so a head model from an unknown place
can do anything. Here a stream may name only exact (module, name) pairs from an allow-list, and each pair stands for
a `StandIn` of ours that keeps the arguments it is given. When the stream has ended, the stand-ins are turned into
plain values (arrays, tensors, dicts). No code of numpy, scipy, torch or chumpy runs on the stream's behalf.

A format adds its own list by merging mappings:

    allowed = {**NUMPY_GLOBALS, **BUILTIN_GLOBALS, ("my.module", "Thing"): MyStandIn}
    value = load_pickle(path, allowed)
"""

import copy
import io
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .errors import HeadlabError

#: What a stream may name, and what it gets. Values are `StandIn` subclasses or harmless built-in types.
Allowed = Mapping[tuple[str, str], type]

#: Errors that a damaged stream provokes in the unpickler or in the stand-ins.
_DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    MemoryError,
    RecursionError,
    OverflowError,
    AssertionError,
)


class UnsafePickleError(HeadlabError):
    """A pickle names something that its format does not need."""

    def __init__(self, source: str, module: str, name: str) -> None:
        self.module, self.name = module, name
        if module.split(".")[0] == "chumpy":
            why = "is a chumpy expression, not a plain array; save it again with plain numpy arrays"
        else:
            why = "has no place in such a file, so it may be malicious; get it again from its authors' page"
        super().__init__(f"{source} was not opened: it names {module}.{name}, which {why}")


class StandIn:
    """Takes the place of a foreign object while a stream is read; `resolve` makes the plain value afterwards."""

    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> "StandIn":
        self = super().__new__(cls)
        self.args, self.state = args, None
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def resolve(self, plain: Callable[[Any], Any]) -> Any:
        """The plain value; `plain` resolves what is nested inside."""
        raise NotImplementedError


class _Dtype(StandIn):
    """numpy.dtype: simple types only (no records)."""

    _CODE = re.compile(r"[<>|=]?(\?|[bBhHiIlLqQefd]|[biufcSUO]\d{1,5}|O)")

    def resolve(self, plain: Callable[[Any], Any]) -> np.dtype:
        code = self.args[0]
        code = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(code, str) or not self._CODE.fullmatch(code):
            raise ValueError(f"array type {code!r}")
        # numpy refuses an explicit size for the pointer type that it writes itself ("O8").
        dtype = np.dtype("O" if "O" in code else code)
        if self.state is None or dtype.kind == "O":
            return dtype
        order, subtype, names = (v.decode() if isinstance(v, bytes) else v for v in self.state[1:4])
        if subtype is not None or names is not None:
            raise ValueError("record arrays")
        if order not in ("|", "<", ">", "="):
            raise ValueError(f"byte order {order!r}")
        return dtype if order == "|" else dtype.newbyteorder(order)


class _Array(StandIn):
    """numpy.ndarray, or numpy.core.multiarray._reconstruct followed by its state."""

    def resolve(self, plain: Callable[[Any], Any]) -> np.ndarray:
        shape, dtype, fortran, data = self.state[-4:]
        return _array(plain(data), plain(dtype), shape, "F" if fortran else "C")


class _FromBuffer(StandIn):
    """numpy.core.numeric._frombuffer(buffer, dtype, shape, order), which protocol 5 writes."""

    def resolve(self, plain: Callable[[Any], Any]) -> np.ndarray:
        data, dtype, shape, order = self.args
        return _array(bytes(plain(data)), plain(dtype), shape, order)


class _Scalar(StandIn):
    """numpy.core.multiarray.scalar(dtype, bytes)."""

    def resolve(self, plain: Callable[[Any], Any]) -> Any:
        dtype, data = self.args
        return _array(plain(data), plain(dtype), (), "C")[()]


class _Bytes(StandIn):
    """bytes(), which protocols below 3 write for empty data."""

    def resolve(self, plain: Callable[[Any], Any]) -> bytes:
        if self.args:
            raise ValueError("bytes made of something")
        return b""


class _Encode(StandIn):
    """_codecs.encode(text, "latin1"): how Python 3 writes bytes for Python 2."""

    def resolve(self, plain: Callable[[Any], Any]) -> bytes:
        return self.args[0].encode("latin1")


class _Reconstructor(StandIn):
    """copyreg._reconstructor(cls, object, None): how protocols 0 and 1 make an instance."""

    def __new__(cls, *args: Any) -> StandIn:
        kind = args[0]
        if not (isinstance(kind, type) and issubclass(kind, StandIn)):
            raise TypeError("not an allowed class")
        return kind()


class _CompressedMatrix(StandIn):
    """scipy.sparse.csc_matrix and csr_matrix, of any scipy; becomes a dense array."""

    by_columns = True

    def resolve(self, plain: Callable[[Any], Any]) -> np.ndarray:
        state = {_text(key): plain(value) for key, value in self.state.items()}
        rows, columns = (int(n) for n in state["_shape"])
        data, indices, starts = (np.asarray(state[name]) for name in ("data", "indices", "indptr"))
        lines = columns if self.by_columns else rows
        counts = np.diff(starts)
        if len(counts) != lines or (counts < 0).any() or rows * columns > 1 << 28:
            raise ValueError("sparse matrix")
        line = np.repeat(np.arange(lines), counts)
        dense = np.zeros((rows, columns), data.dtype)
        np.add.at(dense, (indices, line) if self.by_columns else (line, indices), data)
        return dense


class _RowMatrix(_CompressedMatrix):
    by_columns = False


class _Chumpy(StandIn):
    """chumpy.ch.Ch: an array with bookkeeping; `x` is the array."""

    def resolve(self, plain: Callable[[Any], Any]) -> np.ndarray:
        return np.asarray(plain({_text(key): value for key, value in self.state.items()}["x"]))


class _TorchStorage(StandIn):
    """torch.storage._load_from_bytes: its argument is a pickle again, which torch reads as weights only."""

    def resolve(self, plain: Callable[[Any], Any]) -> torch.Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # typed storages are deprecated, but that is what such files hold
            storage = load_torch(io.BytesIO(plain(self.args[0])), "a tensor inside the file")
            if isinstance(storage, torch.Tensor):
                return storage.flatten()
            return torch.tensor([], dtype=storage.dtype).set_(storage.untyped())


class _TorchTensor(StandIn):
    """torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...)."""

    def resolve(self, plain: Callable[[Any], Any]) -> torch.Tensor:
        flat, (offset, size, stride) = plain(self.args[0]), self.args[1:4]
        if int(np.prod(size, dtype=object)) > flat.numel():
            raise ValueError("tensor larger than its storage")
        return flat.as_strided(size, stride, offset).clone()


BUILTIN_GLOBALS: Allowed = {
    ("__builtin__", "set"): set,
    ("builtins", "set"): set,
    ("__builtin__", "bytes"): _Bytes,
    ("builtins", "bytes"): _Bytes,
    ("__builtin__", "object"): object,
    ("builtins", "object"): object,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _Encode,
    ("copy_reg", "_reconstructor"): _Reconstructor,
    ("copyreg", "_reconstructor"): _Reconstructor,
}

NUMPY_GLOBALS: Allowed = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _FromBuffer for core in ("core", "_core")},
}

SCIPY_GLOBALS: Allowed = {
    **{(f"scipy.sparse.{module}", "csc_matrix"): _CompressedMatrix for module in ("csc", "_csc")},
    **{(f"scipy.sparse.{module}", "csr_matrix"): _RowMatrix for module in ("csr", "_csr")},
}

CHUMPY_GLOBALS: Allowed = {("chumpy.ch", "Ch"): _Chumpy}

TORCH_GLOBALS: Allowed = {
    ("torch._utils", "_rebuild_tensor_v2"): _TorchTensor,
    ("torch.storage", "_load_from_bytes"): _TorchStorage,
}

#: Plain arrays in plain containers, as written by any numpy.
ARRAY_GLOBALS: Allowed = {**BUILTIN_GLOBALS, **NUMPY_GLOBALS}


def load_pickle(source: Path | bytes, allowed: Allowed, name: str | None = None) -> Any:
    """Read a pickle that may name only `allowed` globals. Python-2 byte strings come back as str (latin1).

    Args:
        source: a file, or the stream itself.
        allowed: exact (module, name) pairs and what they stand for.
        name: what to call the source in messages; a file's own path where absent.

    Raises:
        UnsafePickleError: the stream names anything else.
        HeadlabError: the file is missing, damaged, or no pickle.
    """
    name = name or (str(source) if isinstance(source, Path) else "the data")
    data = source if isinstance(source, bytes) else _read(source)
    try:
        value = _Unpickler(io.BytesIO(data), allowed, name).load()
        return _Resolver()(value)
    except _DAMAGE as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HeadlabError(f"{name} is damaged or no pickle of the kind expected ({what}); get it again") from error


def load_object_npy(path: Path, allowed: Allowed) -> Any:
    """Read an .npy file whose array holds Python objects, that is, a pickle; plain arrays are read as they are.

    Raises:
        UnsafePickleError: the pickle inside names anything not allowed.
        HeadlabError: the file is missing, damaged, or no .npy.
    """
    stream = io.BytesIO(_read(path))
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(stream)
        if not dtype.hasobject:
            stream.seek(0)
            return np.load(stream, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise HeadlabError(f"{path} is no .npy file or a damaged one; get it again") from error
    value = load_pickle(stream.read(), allowed, str(path))
    if not isinstance(value, np.ndarray) or value.shape != shape:
        raise HeadlabError(f"{path} is damaged: its contents do not match its header; get it again")
    return value


def load_torch(source: Path | io.BytesIO, name: str | None = None) -> Any:
    """Read a torch file as weights only: tensors in plain containers, on the CPU.

    Raises:
        UnsafePickleError: the file names anything else.
        HeadlabError: the file is missing, damaged, or no torch file.
    """
    name = name or str(source)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            warnings.filterwarnings("ignore", message="TypedStorage is deprecated")
            return torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise HeadlabError(f"{name} is not there") from error
    except (*_DAMAGE, RuntimeError, OSError) as error:
        refused = re.search(r"GLOBAL (\S+) was not an allowed global|Unsupported class (\S+)", str(error))
        if refused:
            module, _, attribute = (refused[1] or refused[2]).rpartition(".")
            raise UnsafePickleError(name, module, attribute) from error
        what = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise HeadlabError(f"{name} is damaged or no torch file ({what}); get it again") from error


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, allowed: Allowed, source: str) -> None:
        super().__init__(stream, encoding="latin1")
        self._allowed, self._source = allowed, source

    def find_class(self, module: str, name: str) -> type:
        try:
            return self._allowed[module, name]
        except KeyError:
            raise UnsafePickleError(self._source, module, name) from None


class _Resolver:
    """Turns stand-ins into plain values, each once, however often the stream refers to it."""

    def __init__(self) -> None:
        self._done: dict[int, tuple[Any, Any]] = {}  # the original is kept too, so that its id stays its own

    def __call__(self, value: Any) -> Any:
        if id(value) in self._done:
            return self._done[id(value)][1]
        if isinstance(value, StandIn):
            plain = value.resolve(self)
        elif isinstance(value, dict):
            plain = copy.copy(value)
            self._done[id(value)] = value, plain
            plain.clear()
            plain.update((self(key), self(item)) for key, item in value.items())
        elif isinstance(value, list):
            plain = []
            self._done[id(value)] = value, plain
            plain.extend(self(item) for item in value)
        elif isinstance(value, tuple | set | frozenset):
            plain = type(value)(self(item) for item in value)
        else:
            plain = value
        self._done[id(value)] = value, plain
        return plain


def _array(data: Any, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    if dtype.kind == "O":
        array = np.empty(shape, dtype)
        flat = array.reshape(-1, order=order if order == "F" else "C")
        if len(data) != array.size:
            raise ValueError("object array of the wrong size")
        for i, item in enumerate(data):
            flat[i] = item
        return flat.reshape(shape, order=order if order == "F" else "C")
    data = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C").copy()


def _text(key: Any) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise HeadlabError(f"{path} cannot be read ({error.strerror}); give the path of an existing file") from error
