"""How many threads matrix products get: BLAS threads that wait for a core spin, and make everything slower."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

from threadpoolctl import threadpool_limits


def idle_cores() -> AbstractContextManager[object]:
    """A context in which BLAS uses no more threads than there are cores that nobody else computes on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return threadpool_limits(limits=max(1, cores - _busy()), user_api="blas")


def _busy() -> int:
    """Threads that run now besides this one, where the system tells (Linux)."""
    try:
        with open("/proc/loadavg", encoding="ascii") as stream:
            running = stream.read().split()[3].split("/")[0]
        return max(0, int(running) - 1)
    except (OSError, ValueError, IndexError):
        return 0
