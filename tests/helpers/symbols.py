"""Convolutions of every kind with the supremum of their symbols, found without the kernel's own layout of strides."""

from __future__ import annotations

import itertools
import math

import numpy as np

from lipcert.operators import Convolution, Diagonal, LinearOperator, Product, Transposed

GRID = {1: 256, 2: 40, 3: 12}
"""Frequencies along each axis before the search goes closer."""


def layer(rng: np.random.Generator, rank: int, *, radius: float = 0.0, largest: int = 20) -> Convolution:
    """A small convolution with random kernel, strides, dilations, groups, copies and (asymmetric) pads.

    `largest`: pixels along an axis. `radius` is relative to the weights.
    """
    kernel = tuple(int(rng.integers(1, {1: 6, 2: 4, 3: 3}[rank])) for _ in range(rank))
    strides = tuple(int(rng.choice([1, 1, 2, 3])) for _ in range(rank))
    dilations = tuple(int(rng.choice([1, 1, 2, 3])) for _ in range(rank))
    groups = int(rng.choice([1, 1, 2, 3])) if rank < 3 else 1
    per_group, out = (int(c) for c in rng.integers(1, 4, size=2))
    if rng.random() < 0.2:
        per_group = out = 1  # depthwise
    weights = rng.normal(size=(groups * out, per_group, *kernel))
    if rng.random() < 0.2:
        weights *= rng.random(weights.shape) < 0.5
        weights[0, 0, *(0 for _ in kernel)] = 1.0
    windows = [dilation * (k - 1) + 1 for k, dilation in zip(kernel, dilations, strict=True)]
    longest = min(largest, {1: 20, 2: 7, 3: 4}[rank])
    sizes = [int(rng.integers(1, longest)) for _ in windows]
    begins = [int(rng.integers(0, w + 1)) for w in windows]
    pads = tuple(
        (b, max(int(rng.integers(0, w + 1)), w - b - n)) for b, w, n in zip(begins, windows, sizes, strict=True)
    )
    return Convolution(
        weights,
        (groups * per_group, *sizes),
        strides=strides,
        pads=pads,
        dilations=dilations,
        groups=groups,
        copies=int(rng.choice([1, 1, 2])),
        radius=radius * np.abs(weights) if radius else 0.0,
    )


def plain(weights: np.ndarray, size: int = 4, strides: int = 1, groups: int = 1, radius: object = 0.0) -> Convolution:
    """A convolution of square maps that keeps what it can see of them."""
    kernel = weights.shape[2:]
    return Convolution(
        weights,
        (weights.shape[1] * groups, *(size for _ in kernel)),
        strides=tuple(strides for _ in kernel),
        pads=tuple(((k - 1) // 2, k // 2) for k in kernel),
        dilations=tuple(1 for _ in kernel),
        groups=groups,
        radius=radius,
    )


def dressed(rng: np.random.Generator, conv: Convolution, radius: float = 0.0) -> LinearOperator:
    """The convolution as it is, transposed, or between diagonals of one factor a channel."""
    choice = rng.integers(4)
    if choice == 0:
        return conv
    if choice == 1:
        return Transposed(conv)
    sides: list[LinearOperator] = [conv]
    if choice == 2 or rng.random() < 0.5:
        sides.insert(0, per_channel(rng.normal(size=conv.out_shape[0]), conv.out_shape, conv.copies, radius))
    if len(sides) == 1 or rng.random() < 0.5:
        sides.append(per_channel(rng.normal(size=conv.in_shape[0]), conv.in_shape, conv.copies, radius))
    return Product(sides)


def per_channel(factors: np.ndarray, shape: tuple[int, ...], copies: int = 1, radius: float = 0.0) -> Diagonal:
    weights = np.tile(np.repeat(factors, math.prod(shape[1:])), copies)
    return Diagonal(weights, radius * np.abs(weights) if radius else 0.0)


def scaled_kernel(op: LinearOperator) -> tuple[Convolution, np.ndarray]:
    """The convolution in `op`, and its kernel with the channels scaled by the diagonals around it."""
    if isinstance(op, Transposed):
        op = op.leaf
    factors = op.factors if isinstance(op, Product) else (op,)
    conv = next(f for f in factors if isinstance(f, Convolution))
    weights, passed = conv.weights.copy(), False
    for factor in factors:
        if isinstance(factor, Diagonal):
            shape = conv.in_shape if passed else conv.out_shape
            scale = factor.weights.reshape(conv.copies, shape[0], -1)[0, :, 0]
            for o, i in itertools.product(range(weights.shape[0]), range(weights.shape[1])):
                group = o // (weights.shape[0] // conv.groups)
                weights[o, i] *= scale[group * weights.shape[1] + i] if passed else scale[o]
        passed = passed or factor is conv
    return conv, weights


def symbol_norms(conv: Convolution, weights: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The symbol's l2 norm at each of the frequencies w (points, axes) of the input.

    With strides s, a wave of frequency w / s meets those that look alike on every s-th pixel: the symbols of the plain
    convolution at (w + 2 pi j) / s, side by side, divided by the root of how many there are.
    """
    strides = np.array(conv.strides)
    aliases = np.array(list(itertools.product(*(range(s) for s in conv.strides))))
    places = np.array(list(itertools.product(*(range(k) for k in conv.kernel)))) * np.array(conv.dilations)
    at = (w[:, None, :] + 2 * np.pi * aliases) / strides
    phases = np.exp(-1j * at @ places.T) / math.sqrt(len(aliases))
    norms = np.zeros(len(w))
    per_group = weights.shape[0] // conv.groups
    for g in range(conv.groups):
        taps = weights[g * per_group : (g + 1) * per_group].reshape(per_group, weights.shape[1], -1)
        values = np.einsum("pat,oit->poai", phases, taps).reshape(len(w), per_group, -1)
        norms = np.maximum(norms, np.linalg.norm(values, 2, axis=(1, 2)))
    return norms


def sampled_supremum(conv: Convolution, weights: np.ndarray | None = None) -> float:
    """The largest of many samples of the symbol, closer and closer around the best ones."""
    weights = conv.weights if weights is None else weights
    rank = len(conv.kernel)
    axis = 2 * np.pi * np.arange(GRID[rank]) / GRID[rank]
    grid = np.array(list(itertools.product(axis, repeat=rank)))
    values = symbol_norms(conv, weights, grid)
    around = np.array(list(itertools.product(np.linspace(-1, 1, 5), repeat=rank)))
    best = float(values.max())
    for start in np.argsort(-values)[:6]:
        w, step = grid[start], 2 * np.pi / GRID[rank]
        for _ in range(24):
            near = w + step * around
            heights = symbol_norms(conv, weights, near)
            w, step = near[int(np.argmax(heights))], step / 2
            best = max(best, float(heights.max()))
    return best


def circular_matrix(conv: Convolution, periods: tuple[int, ...]) -> np.ndarray:
    """The convolution of maps that repeat after `periods` windows: columns of the padded one, folded."""
    sizes = [n * s for n, s in zip(periods, conv.strides, strict=True)]
    padded = [
        n - s + 1 + (k - 1) * d for n, s, k, d in zip(sizes, conv.strides, conv.kernel, conv.dilations, strict=True)
    ]
    unpadded = Convolution(
        conv.weights,
        (conv.in_shape[0], *padded),
        strides=conv.strides,
        pads=tuple((0, 0) for _ in padded),
        dilations=conv.dilations,
        groups=conv.groups,
    )
    assert unpadded.out_shape[1:] == periods
    matrix = unpadded.matrix()
    folded = np.zeros((len(matrix), conv.in_shape[0], math.prod(sizes)))
    columns = matrix.reshape(len(matrix), conv.in_shape[0], -1)
    for j, pixel in enumerate(itertools.product(*(range(n) for n in padded))):
        where = [i % n for i, n in zip(pixel, sizes, strict=True)]
        folded[:, :, int(np.ravel_multi_index(where, sizes))] += columns[:, :, j]
    return folded.reshape(len(matrix), -1)
