"""Where the symbol of a convolution is largest, in floats: nothing here is trusted.

On the plane: a coarse grid of frequencies, then ascent from its best points: with u, v the singular vectors at w, the
largest |u'F(w')v| over the neighbourhood gives a w' where the symbol is at least as large. On a circle: all of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from lipcert.certificate.symbol import SymbolKernel
from lipcert.operators import Shape

if TYPE_CHECKING:
    import torch

Tick = Callable[[], None]

GRID = 16
STARTS = 6
ROUNDS = 20
NEIGHBOURS = 9
"""Points along each axis of the neighbourhood that an ascent looks at."""

LANCZOS_STEPS = 14
"""Enough to tell within about a percent which frequencies matter."""

CLOSE = 0.97
"""Frequencies whose estimate is at least this part of the largest are looked at closely ..."""

MOST_CLOSE = 32
"""... but no more than so many."""

EXACT_CHANNELS = 48
"""Up to so many channels eigenvalues are computed in full."""

DEVICE_WORK = 2**30
"""Multiplications from which a search is given to a GPU."""

CHUNK = 2**22
"""Entries of the symbol that are held at a time."""


def supremum(kernel: SymbolKernel, tick: Tick = lambda: None, density: int = 1, device: str = "cpu") -> float:
    """A value that the symbol attains somewhere on the plane, nearly its supremum; `tick` may end the work.

    A higher density looks at more frequencies, and starts more ascents.
    """
    taps, size = _scaled(kernel)
    if not size:
        return 0.0
    positions = _positions(kernel.extents)
    counts = tuple(density * max(GRID, 4 * (e - 1)) for e in kernel.extents)
    grid = _half_grid(counts)
    heights = _all_heights(taps, positions, grid, tick, device)
    best = float(heights.max())
    steps = np.array([2 * np.pi / n for n in counts])
    for g in np.argsort(-heights.max(axis=1))[:MOST_CLOSE]:
        if heights[g].max() < 0.7 * best:
            break
        for start in _apart(heights[g], grid, density * (STARTS if len(taps) == 1 else 2)):
            tick()
            best = max(best, _ascend(taps[g], positions, grid[start], steps))
    return best * size


def circle_maximum(kernel: SymbolKernel, tick: Tick = lambda: None, device: str = "cpu") -> float:
    """The largest value of the symbol at the frequencies of the circle, up to about 1e-9."""
    taps, size = _scaled(kernel)
    if not size:
        return 0.0
    positions = _positions(kernel.extents)
    grid = _half_grid(kernel.periods)
    heights = _all_heights(taps, positions, grid, tick, device)
    if min(taps.shape[2:]) <= EXACT_CHANNELS:
        return float(heights.max()) * size
    best = 0.0
    flat = heights.reshape(-1)
    for i in np.argsort(-flat)[:MOST_CLOSE]:
        if flat[i] < CLOSE * flat.max():
            break
        tick()
        g, point = np.unravel_index(i, heights.shape)
        best = max(best, _top(taps[g], positions, grid[point])[0])
    return best * size


def singular_range(kernel: SymbolKernel, points: int = 400) -> tuple[float, float]:
    """The largest and the smallest singular value of the symbol at about so many frequencies."""
    taps, size = _scaled(kernel)
    if not size:
        return 0.0, 0.0
    groups, total, m, n = taps.shape
    each = max(2, round(min(points, CHUNK / (m * n)) ** (1 / max(1, len(kernel.extents)))))
    grid = _half_grid(tuple(each for _ in kernel.extents))
    phases = np.exp(-1j * grid @ _positions(kernel.extents).T)
    values = [
        np.linalg.svd((phases @ taps[g].reshape(total, -1)).reshape(-1, m, n), compute_uv=False) for g in range(groups)
    ]
    return size * float(np.max(values)), size * float(np.min(values))


def _scaled(kernel: SymbolKernel) -> tuple[np.ndarray, float]:
    """The taps of all groups divided by their largest entry, and that entry."""
    size = float(np.max(np.abs(kernel.taps), initial=0.0))
    return (kernel.taps / size, size) if size else (kernel.taps, 0.0)


def _half_grid(counts: Shape) -> np.ndarray:
    """Frequencies 2 pi j / count along each axis, half of the first: (points, axes)."""
    axes = [2 * np.pi * np.arange(n // 2 + 1 if j == 0 else n) / n for j, n in enumerate(counts)]
    return _points(axes)


def _all_heights(
    taps: np.ndarray, positions: np.ndarray, grid: np.ndarray, tick: Tick, device: str = "cpu"
) -> np.ndarray:
    """|F(w)|_2, or a close value below, for each group and frequency: (groups, points)."""
    groups, total, m, n = taps.shape
    if m > EXACT_CHANNELS and device != "cpu" and groups * len(grid) * m * m * n > DEVICE_WORK:
        from lipcert.methods.device import choose_device  # torch takes a second to load

        if (chosen := choose_device(device)).type != "cpu":
            return _on_device(taps, positions, grid, tick, chosen)
    heights = np.empty((groups, len(grid)))
    at_a_time = max(1, CHUNK // max(m * n, total))
    for start in range(0, len(grid), at_a_time):
        part = slice(start, start + at_a_time)
        phases = np.exp(-1j * grid[part] @ positions.T)
        for g in range(groups):
            tick()
            heights[g, part] = _largest((phases @ taps[g].reshape(total, -1)).reshape(-1, m, n))
    return heights


def _on_device(
    taps: np.ndarray, positions: np.ndarray, grid: np.ndarray, tick: Tick, device: torch.device
) -> np.ndarray:
    """The same in single precision by torch, many frequencies at a time."""
    import torch

    groups, total, m, n = taps.shape
    kernel = torch.as_tensor(taps.reshape(groups, total, m * n), dtype=torch.complex64, device=device)
    heights = np.empty((groups, len(grid)))
    at_a_time = max(1, 8 * CHUNK // max(groups * m * n, total))
    for start in range(0, len(grid), at_a_time):
        tick()
        part = slice(start, start + at_a_time)
        phases = torch.as_tensor(np.exp(-1j * grid[part] @ positions.T), dtype=torch.complex64, device=device)
        symbols = (phases @ kernel).reshape(groups, -1, m, n)
        squares = torch.linalg.eigvalsh(symbols @ symbols.mH)[..., -1]
        heights[:, part] = squares.clamp_min(0).sqrt().double().cpu().numpy()
    return heights


def _largest(symbols: np.ndarray) -> np.ndarray:
    """The largest singular values of matrices (points, m, n), m <= n; estimated from below where m is large."""
    m = symbols.shape[1]
    if m == 1:
        return np.sqrt((np.abs(symbols) ** 2).sum(axis=(1, 2)))
    if m <= EXACT_CHANNELS:
        squares = np.linalg.eigvalsh(symbols @ symbols.conj().swapaxes(1, 2))[:, -1]
        return np.sqrt(np.maximum(squares, 0.0))
    return _lanczos(symbols.astype(np.complex64))


def _lanczos(symbols: np.ndarray) -> np.ndarray:
    """Lanczos for F F' of all matrices at once, with full reorthogonalisation."""
    points, m, _ = symbols.shape
    rng = np.random.default_rng(0)
    adjoint = symbols.conj().swapaxes(1, 2)
    u = rng.standard_normal((points, m, 1)) + 1j * rng.standard_normal((points, m, 1))
    u = (u / np.linalg.norm(u, axis=1, keepdims=True)).astype(symbols.dtype)
    basis = u
    steps = min(LANCZOS_STEPS, m)
    diagonal, beside = np.zeros((points, steps)), np.zeros((points, steps))
    for k in range(steps):
        image = symbols @ (adjoint @ u)
        diagonal[:, k] = (u.conj() * image).sum(axis=(1, 2)).real
        for _ in range(2):  # once is not enough when the space has converged
            image = image - basis @ (basis.conj().swapaxes(1, 2) @ image)
        length = np.linalg.norm(image, axis=1, keepdims=True)
        beside[:, k] = length[:, 0, 0]
        u = image / np.maximum(length, 1e-30)
        basis = np.concatenate([basis, u], axis=2)
    tridiagonal = np.zeros((points, steps, steps))
    index = np.arange(steps)
    tridiagonal[:, index, index] = diagonal
    tridiagonal[:, index[1:], index[:-1]] = beside[:, :-1]
    return np.sqrt(np.maximum(np.linalg.eigvalsh(tridiagonal)[:, -1], 0.0))


def _apart(heights: np.ndarray, grid: np.ndarray, count: int) -> Iterator[int]:
    """The best points of the grid, each not next to a better one."""
    chosen: list[int] = []
    for i in np.argsort(-heights):
        distance = [np.abs((grid[i] - grid[c] + np.pi) % (2 * np.pi) - np.pi).max(initial=0.0) for c in chosen]
        if all(d > 2.5 * np.pi / GRID for d in distance):
            chosen.append(int(i))
            yield int(i)
        if len(chosen) == count:
            return


def _ascend(taps: np.ndarray, positions: np.ndarray, w: np.ndarray, step: np.ndarray) -> float:
    value, u, v = _top(taps, positions, w)
    around = _points([np.linspace(-1, 1, NEIGHBOURS)] * len(w))
    for _ in range(ROUNDS):
        scalars = np.einsum("m,tmn,n->t", u.conj(), taps, v, optimize=True)
        near = w + step * around
        heights = np.abs(np.exp(-1j * near @ positions.T) @ scalars)
        w = near[int(np.argmax(heights))]
        before = value
        risen, u, v = _top(taps, positions, w, v)
        value, step = max(value, risen), step / 2
        if step.max(initial=0.0) < 1e-3 and risen <= before * (1 + 1e-12):
            break
    return value


def _top(
    taps: np.ndarray, positions: np.ndarray, w: np.ndarray, start: np.ndarray | None = None
) -> tuple[float, np.ndarray, np.ndarray]:
    """The largest singular value of the symbol at w, and its vectors; `start` is close to the right one."""
    symbol = np.tensordot(np.exp(-1j * positions @ w), taps, axes=1)
    if symbol.shape[0] <= EXACT_CHANNELS:
        values, vectors = np.linalg.eigh(symbol @ symbol.conj().T)
        square, u = float(values[-1]), vectors[:, -1]
    else:
        square, u = _iterative_top(symbol, None if start is None else symbol @ start)
    value = math.sqrt(max(0.0, square))
    return value, u, symbol.conj().T @ u / max(value, 1e-300)


def _iterative_top(symbol: np.ndarray, start: np.ndarray | None) -> tuple[float, np.ndarray]:
    from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

    m = symbol.shape[0]
    adjoint = np.ascontiguousarray(symbol.conj().T)
    form = LinearOperator((m, m), matvec=lambda x: symbol @ (adjoint @ x), dtype=complex)
    try:
        values, vectors = eigsh(form, k=1, which="LA", v0=start, tol=1e-10)
    except ArpackError:  # no convergence: the slow way
        values, vectors = np.linalg.eigh(symbol @ adjoint)
    return float(values[-1]), vectors[:, -1]


def _positions(extents: Shape) -> np.ndarray:
    """Centred positions of the taps, (T, axes)."""
    return _points([np.arange(e) - (e - 1) / 2 for e in extents])


def _points(axes: list[np.ndarray]) -> np.ndarray:
    """All combinations, (points, axes); one point where there are no axes."""
    return np.array(list(itertools.product(*axes))).reshape(math.prod(map(len, axes)), len(axes))
