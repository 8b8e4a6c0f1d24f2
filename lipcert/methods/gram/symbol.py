"""The supremum of a convolution's symbol, found in floats and proven by the kernel a little above.

A coarse grid of frequencies, then ascent from its best points: with u, v the singular vectors at w, the largest
|u'F(w')v| over the neighbourhood gives a w' where the symbol is at least as large.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.symbol import SymbolKernel, is_small, proves_symbol, symbol_kernel
from lipcert.operators import Convolution

GAPS = ((64, 1e-4), (128, 1e-3), (256, 1e-2))
"""Channels (of the smaller side) up to which the proof stays within this of the supremum; beyond, it takes too long."""

GRID = 16
STARTS = 4
ROUNDS = 12
NEIGHBOURS = 9
"""Points along each axis of the neighbourhood that an ascent looks at."""


def symbol_norm(op: Convolution, by: Arithmetic) -> float:
    """A number that the kernel proves to bound the l2 norm of the convolution; infinite where that is too much work."""
    if not is_small(op):
        return math.inf
    kernel = symbol_kernel(op)
    channels = kernel.taps.shape[2]
    gap = next((gap for limit, gap in GAPS if channels <= limit), None)
    if gap is None or not np.all(np.isfinite(kernel.taps)):
        return math.inf
    found = max(supremum(kernel, g, by.tick) for g in range(len(kernel.taps)))
    for attempt in range(4):
        sigma = found * (1 + gap * 4**attempt) + 1e-300
        if proves_symbol(op, sigma, by):
            return sigma * (1 + 2.0**-34)
    return math.inf


def supremum(kernel: SymbolKernel, g: int, tick: Callable[[], None] = lambda: None) -> float:
    """A value that the symbol of a group attains, nearly its supremum; `tick` may end the work."""
    taps = kernel.taps[g]
    size = float(np.max(np.abs(taps), initial=0.0))
    if not size:
        return 0.0
    scaled, positions = taps / size, _positions(kernel.extents)
    axes = [
        np.pi * np.arange(GRID // 2 + 1) / (GRID // 2) if j == 0 else 2 * np.pi * np.arange(GRID) / GRID
        for j in range(len(kernel.extents))
    ]
    axes = [axis if extent > 1 else axis[:1] for axis, extent in zip(axes, kernel.extents, strict=True)]
    grid = np.array(list(itertools.product(*axes)))
    values = np.empty(len(grid))
    for i, w in enumerate(grid):
        tick()
        values[i] = _top(scaled, positions, w)[0]
    best = 0.0
    for start in np.argsort(-values)[:STARTS]:
        tick()
        best = max(best, _ascend(scaled, positions, grid[start], kernel.extents))
    return best * size


def _ascend(taps: np.ndarray, positions: np.ndarray, w: np.ndarray, extents: tuple[int, ...]) -> float:
    value, u, v = _top(taps, positions, w)
    step = 2 * np.pi / GRID
    offsets = [np.linspace(-1, 1, NEIGHBOURS) if extent > 1 else np.zeros(1) for extent in extents]
    around = np.array(list(itertools.product(*offsets)))
    for _ in range(ROUNDS):
        scalars = np.einsum("m,tmn,n->t", u.conj(), taps, v)
        near = w + step * around
        heights = np.abs(np.exp(-1j * near @ positions.T) @ scalars)
        w = near[int(np.argmax(heights))]
        risen, u, v = _top(taps, positions, w)
        value, step = max(value, risen), step / 2
    return value


def _top(taps: np.ndarray, positions: np.ndarray, w: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """The largest singular value of the symbol at w, and its vectors."""
    symbol = np.tensordot(np.exp(-1j * positions @ w), taps, axes=1)
    values, vectors = np.linalg.eigh(symbol @ symbol.conj().T)
    u = vectors[:, -1]
    value = math.sqrt(max(0.0, float(values[-1])))
    return value, u, symbol.conj().T @ u / max(value, 1e-300)


def _positions(extents: tuple[int, ...]) -> np.ndarray:
    """Centred positions of the taps, (T, axes)."""
    return np.array(list(itertools.product(*(np.arange(e) - (e - 1) / 2 for e in extents))))
