"""LZFSE streams of Apple's encoder, decoded here."""

import base64

import numpy as np
import pytest

from headlab.datasets import lzfse
from headlab.datasets.lzfse import LzfseError, decompress, store

#: Apple's encoder's stream of (arange(6000) // 7 * 37 % 251) as bytes.
STEPS = """
YnZ4MnAXAAAEASAQAP4AMABgwhN0FwAg3gAAAD3s4A++CQAIAAAgAG8CAACAX04AAAAAAAAAAAQAAAAAAABgjjHGGGOMMcYYY4wxxhhjjDHGGGOMMcYYY4wx
xrgdY4wxxhhjjDHGGGOMMcYYY4wxxhhjjD3GGGOMMcYYY4wxxhhjjDHGGGOMMcYYY4wxxhhjjDHGGGOMMcYYY4wxxhhjjDHGGGOMMcYYY4wxxhhjjDHGGGOM
McYYY4wxxhhjjDHGGGOMMcYYY4wxxhhjjDHGGGOMMcYYY4wxxhhjDAAAAAAACOEdxzGvri4bNhEsB554Uy7JJD+WcAsmwRw3jmgDHjlUK0ZgOxYxDKN9WDPO
KQSbdVArxiE8k20II/4ZNEtlABs2UShDXTgTLgmgelUwyyYBmHJNKMMeOZBqBSA7Vi1IYj0YMw6lf1o10CsGnXdSLcgjPpVvCiXAGzaNZwIdOFMqRV86FTAL
onxXMs0oA5p0TyrFIDuSbIdI3zWMEtmPRg3EiRDXjUQLwmce1YtyCcBlHNOJcAfOYxrBh04Vy1EYz4VMA6lfFs2zSgGnXRTLsUgPpVsCyb9GDZNZAMeNVAqR
Vw7Fi0LonlUM84lA5pxTCvGHTuSaQQjPlUvSmE8GAAAAAAAAAAAAANhh4A8P+P8PTK1KFQdidngk
"""


@pytest.fixture(autouse=True)
def own_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the C library is installed."""
    monkeypatch.setattr(lzfse, "find_spec", lambda name: None)


def test_a_stream_of_apples_encoder() -> None:
    expected = (np.arange(6000) // 7 * 37 % 251).astype(np.uint8).tobytes()
    assert decompress(base64.b64decode(STEPS)) == expected


def test_plain_blocks() -> None:
    data = bytes(range(256)) * 3
    assert decompress(store(data)) == data
    assert decompress(store(b"abc")[:-4] + store(b"de")) == b"abcde"


def test_damage_is_told() -> None:
    stream = base64.b64decode(STEPS)
    for broken in (stream[:100], stream[:-4], b"bvxn" + bytes(20), b"", b"rubbish", store(b"abc")[:-6]):
        with pytest.raises(LzfseError):
            decompress(broken)
    with pytest.raises(LzfseError, match="more than 100 bytes"):
        decompress(stream, most=100)
    # Wherever a byte changes, it ends with bytes or with our error, and soon.
    for i in range(0, len(stream), 7):
        changed = bytearray(stream)
        changed[i] ^= 0x55
        try:
            decompress(bytes(changed), most=1 << 20)
        except LzfseError:
            pass
