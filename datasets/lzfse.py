"""Decoder of Apple's LZFSE, which Record3D compresses depth with: finite-state entropy codes over Lempel-Ziv matches.

Written from the published format (Apple, "LZFSE compression library", 2016; Duda's tabled asymmetric numeral systems).
A stream is a row of blocks: plain (bvx-), entropy coded (bvx2), end (bvx$). Blocks of tiny inputs (bvxn, LZVN) do not
occur in depth pictures and are refused. The package `liblzfse` is used where it is installed: it is in C.
"""

import struct
from dataclasses import dataclass
from importlib.util import find_spec

_L_EXTRA = (0,) * 16 + (2, 3, 5, 8)
_M_EXTRA = (0,) * 16 + (3, 5, 8, 11)
_D_EXTRA = tuple(i // 4 for i in range(64))
_STATES = (64, 64, 256, 1024)  # of literal run lengths, match lengths, distances, literals
_SYMBOLS = (20, 20, 64, 256)
_FREQUENCY_BITS = (2, 3, 2, 5, 2, 3, 2, 8, 2, 3, 2, 5, 2, 3, 2, 14) * 2
_FREQUENCY = (0, 2, 1, 4, 0, 3, 1, -1, 0, 2, 1, 5, 0, 3, 1, -1, 0, 2, 1, 6, 0, 3, 1, -1, 0, 2, 1, 7, 0, 3, 1, -1)


class LzfseError(ValueError):
    """The stream is damaged, too long, or of a kind that is not read here."""


def decompress(data: bytes, most: int = 1 << 28) -> bytes:
    """Decode a stream.

    Args:
        data: the whole stream.
        most: longest result that is made, bytes.

    Raises:
        LzfseError: damaged, longer than `most`, or with LZVN blocks.
    """
    if _declared(data) > most:
        raise LzfseError(f"it would unpack to more than {most} bytes")
    if find_spec("liblzfse") is not None:
        import liblzfse  # type: ignore[import-not-found]

        try:
            return liblzfse.decompress(data)
        except Exception as error:
            raise LzfseError(str(error)) from error
    out = bytearray()
    position = 0
    try:
        while True:
            magic = data[position : position + 4]
            if magic == b"bvx$":
                return bytes(out)
            if magic == b"bvx-":
                (length,) = struct.unpack_from("<I", data, position + 4)
                if position + 8 + length > len(data):
                    raise LzfseError("it ends too early")
                out += data[position + 8 : position + 8 + length]
                position += 8 + length
            elif magic == b"bvx2":
                position = _block(data, position, out)
            else:
                raise LzfseError(f"a block of kind {magic!r} is not read here")
            if len(out) > most:
                raise LzfseError(f"it unpacks to more than {most} bytes")
    except (struct.error, IndexError, ZeroDivisionError) as error:
        raise LzfseError("it is damaged") from error


def store(data: bytes) -> bytes:
    """A valid stream that holds `data` uncompressed."""
    return b"bvx-" + struct.pack("<I", len(data)) + data + b"bvx$"


def _declared(data: bytes) -> int:
    """What the first block says it unpacks to, bytes."""
    return struct.unpack_from("<I", data, 4)[0] if len(data) >= 8 and data[:3] == b"bvx" else 0


@dataclass(frozen=True)
class _Header:
    literals: int
    literal_bytes: int
    matches: int
    literal_bits: int
    literal_states: tuple[int, int, int, int]
    match_bytes: int
    match_bits: int
    size: int
    states: tuple[int, int, int]  # of run lengths, match lengths, distances


def _header(data: bytes, at: int) -> _Header:
    a, b, c = struct.unpack_from("<QQQ", data, at + 8)

    def field(value: int, low: int, count: int) -> int:
        return value >> low & (1 << count) - 1

    states = tuple(field(b, 10 * i, 10) for i in range(4))
    return _Header(
        field(a, 0, 20),
        field(a, 20, 20),
        field(a, 40, 20),
        field(a, 60, 3) - 7,
        (states[0], states[1], states[2], states[3]),
        field(b, 40, 20),
        field(b, 60, 3) - 7,
        field(c, 0, 32),
        (field(c, 32, 10), field(c, 42, 10), field(c, 52, 10)),
    )


def _block(data: bytes, at: int, out: bytearray) -> int:
    head = _header(data, at)
    tables = _frequencies(data[at + 32 : at + head.size])
    begin = at + head.size
    middle, end = begin + head.literal_bytes, begin + head.literal_bytes + head.match_bytes
    if end > len(data) or head.size < 32:
        raise LzfseError("it ends too early")
    literals = _literals(data[begin:middle], head, _symbol_table(tables[3], _STATES[3]))
    _matches(data[middle:end], head, tables, literals, out)
    return end


def _frequencies(packed: bytes) -> list[list[int]]:
    """How often each symbol of the four alphabets occurs."""
    if not packed:
        raise LzfseError("its tables are missing")
    bits, values = int.from_bytes(packed, "little"), []
    for _ in range(sum(_SYMBOLS)):
        low = bits & 31
        count = _FREQUENCY_BITS[low]
        if count == 8:
            values.append(8 + (bits >> 4 & 15))
        elif count == 14:
            values.append(24 + (bits >> 4 & 1023))
        else:
            values.append(_FREQUENCY[low])
        bits >>= count
    tables, start = [], 0
    for symbols, states in zip(_SYMBOLS, _STATES, strict=True):
        table = values[start : start + symbols]
        if sum(table) > states:
            raise LzfseError("its tables make no sense")
        tables.append(table)
        start += symbols
    return tables


def _symbol_table(frequencies: list[int], states: int) -> list[tuple[int, int, int]]:
    """(bits to read, what to add, symbol) of every state."""
    table: list[tuple[int, int, int]] = []
    for symbol, f in enumerate(frequencies):
        if not f:
            continue
        k = states.bit_length() - f.bit_length()
        turn = (2 * states >> k) - f
        for j in range(f):
            if j < turn:
                table.append((k, (f + j << k) - states, symbol))
            else:
                table.append((k - 1, j - turn << k - 1, symbol))
    return table


def _value_table(frequencies: list[int], states: int, extra: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """(bits to read, of these the value's, what to add to the rest, least value) of every state."""
    bases, base = [], 0
    for bits in extra:
        bases.append(base)
        base += 1 << bits
    symbols = _symbol_table(frequencies, states)
    return [(k + extra[s], extra[s], delta, bases[s]) for k, delta, s in symbols]


class _Bits:
    """Bits of a buffer, the last ones first."""

    def __init__(self, data: bytes, bits: int) -> None:
        self._data, self._at = data, len(data)
        self._held, self._count = 0, 0
        self.refill()
        self._count += bits  # the unused top of the last byte
        self._held &= (1 << self._count) - 1

    def refill(self) -> None:
        """Hold many bits; enough for some dozen reads."""
        if self._count < 192 and self._at:
            start = max(0, self._at - 48)
            chunk = self._data[start : self._at]
            self._held = self._held << 8 * len(chunk) | int.from_bytes(chunk, "little")
            self._count += 8 * len(chunk)
            self._at = start

    def read(self, count: int) -> int:
        self._count -= count
        if self._count < 0:
            raise LzfseError("it is damaged")
        value = self._held >> self._count
        self._held &= (1 << self._count) - 1
        return value


def _literals(data: bytes, head: _Header, table: list[tuple[int, int, int]]) -> bytes:
    bits = _Bits(data, head.literal_bits)
    states = list(head.literal_states)
    out = bytearray(head.literals)
    for i in range(0, head.literals, 4):
        bits.refill()
        for k in range(4):
            count, delta, symbol = table[states[k]]
            states[k] = delta + bits.read(count)
            if i + k < head.literals:
                out[i + k] = symbol
    return bytes(out)


def _matches(data: bytes, head: _Header, tables: list[list[int]], literals: bytes, out: bytearray) -> None:
    bits = _Bits(data, head.match_bits)
    decoders = [
        _value_table(f, n, extra) for f, n, extra in zip(tables, _STATES, (_L_EXTRA, _M_EXTRA, _D_EXTRA), strict=False)
    ]
    states = list(head.states)
    used, distance = 0, 0
    for _ in range(head.matches):
        bits.refill()
        values = []
        for k in range(3):
            total, own, delta, base = decoders[k][states[k]]
            read = bits.read(total)
            states[k] = delta + (read >> own)
            values.append(base + (read & (1 << own) - 1))
        run, length, step = values
        distance = step or distance
        out += literals[used : used + run]
        used += run
        if not length:
            continue
        if not 0 < distance <= len(out):
            raise LzfseError("it is damaged")
        start = len(out) - distance
        if distance >= length:
            out += out[start : start + length]
        else:
            piece = bytes(out[start:])
            out += (piece * (length // distance + 1))[:length]
