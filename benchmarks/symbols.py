"""The supremum of a convolution's symbol from below, by a search that shares nothing with lipcert's: the yardstick.

Power iteration with a few vectors at every frequency of a dense grid, then ascent from the best of them: with u, v the
singular vectors at w, a w' near by where |u'F(w')v| is largest. All that it returns is attained, up to rounding.
"""

from __future__ import annotations

import itertools

import numpy as np

GRID = 32
VECTORS, STEPS = 6, 10
"""Of the power iteration on the grid, which only chooses where to ascend."""
STARTS, ROUNDS, NEAR = 8, 14, 9
CHUNK = 2**23


def attained(weights: np.ndarray, stride: int) -> float:
    """A value of the symbol, nearly its supremum, of a kernel (out, in, k, k) with zero padding."""
    taps, positions = _polyphase(weights, stride)
    flat = taps.reshape(len(taps), -1)
    turns = 2 * np.pi * np.arange(GRID) / GRID
    grid = np.array(list(itertools.product(turns[: GRID // 2 + 1], turns)))  # F(-w) is the conjugate of F(w)
    heights = np.concatenate(
        [
            _estimates(_at(flat, positions, part).reshape(-1, *taps.shape[1:]))
            for part in np.array_split(grid, max(1, len(grid) * flat.shape[1] // CHUNK))
        ]
    )
    return max(_ascend(taps, positions, grid[i]) for i in np.argsort(-heights)[:STARTS])


def _polyphase(weights: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """(taps, out, in) and the taps' positions; the pixels of each residue modulo the stride are channels."""
    size = weights.shape[-1]
    extent = -(-size // stride)
    padded = np.zeros((*weights.shape[:2], extent * stride, extent * stride))
    padded[:, :, :size, :size] = weights
    split = padded.reshape(*weights.shape[:2], extent, stride, extent, stride).transpose(2, 4, 0, 1, 3, 5)
    positions = np.array(list(itertools.product(np.arange(extent) - (extent - 1) / 2, repeat=2)))
    return split.reshape(extent * extent, weights.shape[0], -1), positions


def _at(flat: np.ndarray, positions: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The symbol at frequencies, in single precision."""
    return np.exp(-1j * w @ positions.T).astype(np.complex64) @ flat.astype(np.complex64)


def _estimates(symbols: np.ndarray) -> np.ndarray:
    """Roughly the largest singular values of matrices, from below."""
    adjoint = symbols.conj().swapaxes(-1, -2)
    x = np.random.default_rng(0).standard_normal((len(symbols), symbols.shape[2], VECTORS)).astype(np.complex64)
    for _ in range(STEPS):
        x = np.linalg.qr(adjoint @ (symbols @ x))[0]
    return np.linalg.norm(symbols @ x, ord=2, axis=(-2, -1))


def _ascend(taps: np.ndarray, positions: np.ndarray, w: np.ndarray) -> float:
    best, u, v = _top(taps, positions, w, None)
    step = 2 * np.pi / GRID
    around = np.array(list(itertools.product(np.linspace(-1, 1, NEAR), repeat=2)))
    for _ in range(ROUNDS):
        scalars = np.einsum("tm,m->t", taps @ v, u.conj())
        near = w + step * around
        w = near[int(np.argmax(np.abs(np.exp(-1j * near @ positions.T) @ scalars)))]
        value, u, v = _top(taps, positions, w, u)
        best, step = max(best, value), step * 0.6
    return best


def _top(
    taps: np.ndarray, positions: np.ndarray, w: np.ndarray, start: np.ndarray | None
) -> tuple[float, np.ndarray, np.ndarray]:
    """The largest singular value of the symbol at w, by Lanczos from a vector near by, and its vectors."""
    from scipy.sparse.linalg import eigsh

    symbol = np.tensordot(np.exp(-1j * positions @ w), taps, axes=1)
    gram = symbol @ symbol.conj().T
    if len(gram) < 32:
        u = np.linalg.eigh(gram)[1][:, -1]
    else:
        u = eigsh(gram, k=1, v0=start, tol=1e-12)[1][:, 0]
    right = symbol.conj().T @ u
    value = float(np.linalg.norm(right))
    return value, u, right / max(value, 1e-300)
