"""Keep native libraries from writing to the terminal."""

import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.RLock()  # two threads swapping the descriptor at once would lose it for good


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block, file descriptor 2 leads nowhere and Python warnings are dropped; both come back after.

    MediaPipe's C++ core logs through absl and TensorFlow Lite straight to descriptor 2, which no Python setting
    reaches. Whole-process, so keep blocks short: creating a graph, and its first run.
    """
    with _lock:
        sys.stderr.flush()
        saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(nowhere)
