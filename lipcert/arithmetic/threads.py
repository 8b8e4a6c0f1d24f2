"""How many threads work at a time: BLAS threads that wait for a core spin, and make everything slower."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

A = TypeVar("A")
B = TypeVar("B")

LOOKS = 3

PARTS_A_WORKER = 4
"""So that a worker that is held up does not hold up the others."""


def idle_cores() -> AbstractContextManager[object]:
    """A context in which BLAS uses no more threads than there are cores that nobody else computes on."""
    return _limited(free_cores())


def one_thread() -> AbstractContextManager[object]:
    """A context in which BLAS uses one thread: for very many small products."""
    return _limited(1)


def free_cores() -> int:
    """Cores that nobody else computes on, at least one; where the environment sets a number of threads, no more."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted):
        cores = min(cores, int(wanted))
    return max(1, cores - _busy())


def over_parts(work: Callable[..., np.ndarray], *stacks: np.ndarray) -> np.ndarray:
    """work(*stacks), parts of the stacks at a time where cores are free; numpy lets go of the interpreter."""
    workers = min(free_cores(), len(stacks[0]))
    if workers <= 1:
        return work(*stacks)
    parts = min(len(stacks[0]), workers * PARTS_A_WORKER)
    with one_thread(), ThreadPoolExecutor(workers) as pool:
        pieces = zip(*(np.array_split(stack, parts) for stack in stacks), strict=True)
        return np.concatenate(list(pool.map(lambda piece: work(*piece), pieces)))


def side_by_side(left: Callable[[], A], right: Callable[[], B]) -> tuple[A, B]:
    """Both results, at the same time where a second core is free."""
    if free_cores() < 2:
        return left(), right()
    with one_thread(), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(left)
        found = right()
        return waiting.result(), found


def _limited(threads: int) -> AbstractContextManager[object]:
    context: Any = _controller().limit(limits=threads, user_api="blas")
    return context


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def _busy() -> int:
    """Threads of others that run now, where the system tells (Linux): the least of a few looks, as many run briefly."""
    return min(_running_elsewhere() for _ in range(LOOKS))


def _running_elsewhere() -> int:
    try:
        with open("/proc/loadavg", encoding="ascii") as stream:
            running = int(stream.read().split()[3].split("/")[0])
        own = 0  # BLAS threads of ours spin for a while after their work
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/stat", encoding="ascii", errors="replace") as stream:
                own += stream.read().rpartition(")")[2].split()[0] == "R"
        return max(0, running - own)
    except (OSError, ValueError, IndexError):
        return 0
