"""lip4conv (Delattre, Barthelemy, Araujo, Allauzen, ICML 2023; Delattre, Barthelemy, Allauzen 2024): Gram iteration.

Scripts, not a package. The bound of 2023 is for circular padding of one size of maps; that of 2024 for zero padding of
any. Neither takes strides, and none has error bounds. `compute_delattre2023` calls CUDA whatever the device: its twin
with a backward pass of its own, which is the same iteration, runs in its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers import folder
from benchmarks.peers.answers import Answer, Way

if TYPE_CHECKING:
    import torch

NAME = "lip4conv"

FILE = "lip4conv/bounds.py"

ITERATIONS = 4
"""The default of both functions."""


def available(peers: Path | None) -> str | None:
    return folder.missing(peers, FILE)


def version(peers: Path) -> str:
    return folder.version(peers / FILE)


def conv_l2(peers: Path, weight: torch.Tensor, size: int) -> Iterator[Way]:
    """Its two bounds on the l2 norm of a convolution without strides."""
    bounds = folder.load(peers / "lip4conv", "bounds")

    def circular(iterations: int) -> Answer:
        return float(bounds.compute_delattre2023_backward(weight, n=size, n_iter=iterations)), ""

    def zero() -> Answer:
        return float(bounds.compute_delattre2024(weight, n_iter=ITERATIONS, return_time=False)), ""

    yield f"2023, {ITERATIONS} iterations", lambda: circular(ITERATIONS)
    yield f"2023, {3 * ITERATIONS} iterations", lambda: circular(3 * ITERATIONS)
    yield f"2024, {ITERATIONS} iterations", zero
