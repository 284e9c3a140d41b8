"""What a long-running program sets in its own process: allocation, garbage collection, how it ends in failure."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import sys
from typing import Any, Final

#: glibc's ``mallopt``: blocks below this many bytes come from the heap and not from ``mmap``, which for bodies in
#: transit would clear every page again and again (measured: 390 instead of 170 ms of CPU for 100 MB).
_M_MMAP_THRESHOLD, MMAP_BYTES = -3, 8 << 20
#: Free memory at the end of the heap that is kept instead of being returned and asked for again.
_M_TRIM_THRESHOLD, TRIM_BYTES = -1, 32 << 20
#: New objects before the youngest are looked at, and how often the older ones are looked at with them.
GC_THRESHOLDS: Final = (10_000, 50, 50)


def tune_allocation() -> bool:
    """Tell the C library to keep medium blocks on its heap; False where it is not glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, MMAP_BYTES)) and bool(mallopt(_M_TRIM_THRESHOLD, TRIM_BYTES))


def settle() -> None:
    """Call once, when everything is loaded and running: what exists now is never looked at for garbage again."""
    tune_allocation()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def give_up(reactor: Any, program: str, problem: str) -> None:
    """End a program that cannot do its work: one line for whoever started it, an orderly stop, exit code 1."""
    print(f"{program}: {problem}", file=sys.__stderr__, flush=True)  # sys.stderr may be the log
    sys.stderr.flush()
    atexit.register(_exit_failed)
    if reactor.running:
        reactor.stop()
    else:
        reactor.callWhenRunning(reactor.stop)


def _exit_failed() -> None:
    """``twistd`` ends with 0 after every orderly stop; a supervisor has to see that this one was none."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
