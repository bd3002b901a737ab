"""The binary half of a GLB: arrays in, accessors out."""

from dataclasses import dataclass, field

import numpy as np
import pygltflib as gltf
from jaxtyping import Float

_COMPONENTS = {
    np.dtype(np.uint8): gltf.UNSIGNED_BYTE,
    np.dtype(np.uint16): gltf.UNSIGNED_SHORT,
    np.dtype(np.uint32): gltf.UNSIGNED_INT,
    np.dtype(np.float32): gltf.FLOAT,
}
_TYPES = {(): gltf.SCALAR, (2,): gltf.VEC2, (3,): gltf.VEC3, (4,): gltf.VEC4, (4, 4): gltf.MAT4}


@dataclass
class BufferBuilder:
    """Collects arrays into one buffer, every piece aligned to four bytes."""

    data: bytearray = field(default_factory=bytearray)
    views: list[gltf.BufferView] = field(default_factory=list)
    accessors: list[gltf.Accessor] = field(default_factory=list)
    _still: dict[int, int] = field(default_factory=dict)  #: accessor of all-zero displacements, by their number

    def view(self, content: bytes, target: int | None = None) -> int:
        """Append raw bytes and return the index of their buffer view."""
        self.data.extend(b"\0" * (-len(self.data) % 4))
        self.views.append(gltf.BufferView(buffer=0, byteOffset=len(self.data), byteLength=len(content), target=target))
        self.data.extend(content)
        return len(self.views) - 1

    def dense(
        self, array: np.ndarray, target: int | None = gltf.ARRAY_BUFFER, *, bounds: bool = False, normalized=False
    ) -> int:
        """Append an array, first axis over elements, and return the index of its accessor.

        Args:
            array: uint8, uint16, uint32 or float32; matrices column-major, as glTF wants them.
            target: what the GPU uses it for; None for what it does not (inverse bind matrices).
            bounds: record smallest and largest element, which glTF demands of positions.
            normalized: integers stand for 0..1.
        """
        array = np.ascontiguousarray(array)
        low, high = _bounds(array) if bounds else (None, None)
        self.accessors.append(
            gltf.Accessor(
                bufferView=self.view(array.tobytes(), target),
                componentType=_COMPONENTS[array.dtype],
                normalized=normalized,
                count=len(array),
                type=_TYPES[array.shape[1:]],
                min=low,
                max=high,
            )
        )
        return len(self.accessors) - 1

    def displacement(self, array: Float[np.ndarray, "points 3"]) -> int:
        """Append displacements with their bounds, sparse where that is smaller than all of them.

        A sparse accessor keeps at least one element even if all are zero, since several readers choke on accessors
        without any data; all-zero ones of the same length are shared.
        """
        array = np.ascontiguousarray(array, dtype=np.float32)
        moved = np.flatnonzero(array.any(axis=1))
        if len(moved) == 0 and len(array) in self._still:
            return self._still[len(array)]
        chosen = moved if len(moved) else np.zeros(1, np.intp)
        indices = chosen.astype(np.uint8 if len(array) <= 256 else np.uint16 if len(array) <= 65536 else np.uint32)
        if len(chosen) * (indices.itemsize + 12) >= array.nbytes:
            accessor = self.dense(array, bounds=True)
        else:
            accessor = self._sparse(array, indices)
        if len(moved) == 0:
            self._still[len(array)] = accessor
        return accessor

    def _sparse(self, array: Float[np.ndarray, "points 3"], indices: np.ndarray) -> int:
        low, high = _bounds(array)
        self.accessors.append(
            gltf.Accessor(
                byteOffset=None,  # pygltflib's default 0 is only allowed together with a buffer view
                componentType=gltf.FLOAT,
                count=len(array),
                type=gltf.VEC3,
                sparse=gltf.Sparse(
                    count=len(indices),
                    indices=gltf.AccessorSparseIndices(
                        bufferView=self.view(indices.tobytes()), componentType=_COMPONENTS[indices.dtype]
                    ),
                    values=gltf.AccessorSparseValues(bufferView=self.view(array[indices].tobytes())),
                ),
                min=low,
                max=high,
            )
        )
        return len(self.accessors) - 1


def _bounds(array: np.ndarray) -> tuple[list[float], list[float]]:
    rows = array.reshape(len(array), -1)
    return rows.min(axis=0).tolist(), rows.max(axis=0).tolist()
