"""The l2 norm of a convolution from its symbol, the matrix F(w) = sum_s K_s exp(-i s.w): at most its supremum over w.

A zero-padded convolution of any size is a part of the infinite one, whose norm is that supremum. Strides become input
channels (space to depth): the input pixels of one residue modulo the stride are maps of their own.

Over a cell with centre c and half-widths h_j, |F(c)|_2 >= sup cos(tau), tau = sum_j d_j h_j, d_j = (taps - 1) / 2, if
the supremum is attained in the cell: u'F(w)v with the singular vectors there is of exponential type d_j in w_j and
bounded by sup, so that asin(u'Fv / sup) is d_j-Lipschitz in w_j (Bernstein and Szego; Duffin and Schaeffer for real
exponents). So sup <= sigma once |F(c)|_2 <= sigma cos(tau) in every cell of a cover. F(-w) is the conjugate of F(w):
half the plane does.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.arithmetic.rounding import ETA, down, gamma, inflate, up
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.operators import Convolution, Diagonal, LinearOperator, Product, Transposed

MAX_CELLS = 2**15
"""Cells that the proof of a group may look at."""

PHASE_ERROR = 2.0**-47
"""Bound on the error of Re and Im of a product of at most three phases, each within 2^-52 of cos and sin: 18.1 u."""

CHUNK = 2**22
"""Entries of the symbol, or of phases, that are held at a time."""


@dataclass(frozen=True, eq=False)
class SymbolKernel:
    """K_s of each group: `taps` (groups, T, m, n), m <= n, with radii, and the taps' positions along each axis."""

    taps: np.ndarray
    radius: np.ndarray
    extents: tuple[int, ...]

    @property
    def degrees(self) -> tuple[float, ...]:
        return tuple((extent - 1) / 2 for extent in self.extents)


def _steps(op: Convolution) -> tuple[int, ...]:
    """Dilations; without a stride, they only rescale w."""
    return tuple(1 if s == 1 else d for s, d in zip(op.strides, op.dilations, strict=True))


def _extents(op: Convolution) -> tuple[int, ...]:
    return tuple((k - 1) * d // s + 1 for k, d, s in zip(op.kernel, _steps(op), op.strides, strict=True))


def _first_cover(extents: tuple[int, ...]) -> tuple[int, ...]:
    """Cells along each axis to begin with: pi / 8 of tau each."""
    return tuple(max(1, (2 if j == 0 else 4) * (extent - 1)) for j, extent in enumerate(extents))


def is_small(op: Convolution) -> bool:
    """Whether a proof may begin: at most three axes, and no more cells than a proof may look at."""
    return len(op.kernel) <= 3 and math.prod(_first_cover(_extents(op))) <= MAX_CELLS


def symbol_kernel(op: Convolution) -> SymbolKernel:
    """The kernel with strides as channels. Every entry is one stored weight."""
    groups = op.groups
    steps, extents = _steps(op), _extents(op)

    def laid_out(weights: np.ndarray) -> np.ndarray:
        stored = weights.reshape(groups, weights.shape[0] // groups, *weights.shape[1:])
        out = np.zeros((groups, *extents, *op.strides, *stored.shape[1:3]))
        for tap in itertools.product(*(range(k) for k in op.kernel)):
            place = [t * d // s for t, d, s in zip(tap, steps, op.strides, strict=True)]
            residue = [t * d % s for t, d, s in zip(tap, steps, op.strides, strict=True)]
            target: Any = (slice(None), *place, *residue)
            source: Any = (slice(None), slice(None), slice(None), *tap)
            out[target] = stored[source]
        out = out.reshape(groups, math.prod(extents), math.prod(op.strides), *stored.shape[1:3])
        # (group, tap, residue, out, in) -> (group, tap, out, in and residue)
        moved = np.moveaxis(out, 2, -1).reshape(groups, math.prod(extents), stored.shape[1], -1)
        return moved if moved.shape[2] <= moved.shape[3] else moved.swapaxes(2, 3)

    full_radius = np.broadcast_to(np.asarray(op.radius, dtype=float), op.weights.shape)
    return SymbolKernel(laid_out(op.weights), laid_out(full_radius), extents)


def proves_symbol(op: Convolution, sigma: float, by: Arithmetic) -> bool:
    """Whether the supremum of the symbol's l2 norm is proven to be at most sigma, over all kernels enclosed."""
    if not (math.isfinite(sigma) and sigma >= 0 and is_small(op)):
        return False
    from flint import ctx

    kernel = symbol_kernel(op)
    if not (np.all(np.isfinite(kernel.taps)) and np.all(np.isfinite(kernel.radius))):
        return False
    before, ctx.prec = ctx.prec, 106  # of the phases
    try:
        return all(_proves_group(kernel, g, sigma, by) for g in range(len(kernel.taps)))
    finally:
        ctx.prec = before


def _proves_group(kernel: SymbolKernel, g: int, sigma: float, by: Arithmetic) -> bool:
    taps, radius = kernel.taps[g], kernel.radius[g]
    total, m, n = taps.shape
    if not (taps.any() or radius.any()):
        return True
    size = inflate(up(np.abs(taps) + radius).sum(axis=0), total)  # |F| entrywise, at every w
    spread = inflate((gamma(total + 2) + PHASE_ERROR) * size + radius.sum(axis=0), total + 8) + ETA
    error = _gram_error(inflate(size + spread, 2), spread)
    flat = taps.reshape(total, m * n)
    counts = _first_cover(kernel.extents)
    cells = np.array(list(itertools.product(*(range(c) for c in counts))), dtype=np.int64)
    looked_at = 0
    while len(cells):
        looked_at += len(cells)
        if looked_at > MAX_CELLS:
            return False
        share = _cos_tau(kernel.degrees, counts)
        limit = float(down(sigma * share)) if share > 0 else -1.0
        left = []
        for part in np.array_split(cells, max(1, -(-len(cells) * max(m * n, total) * 2 // CHUNK))):
            phases = _phases(kernel.extents, counts, part)
            re, im = ((p @ flat).reshape(len(part), m, n) for p in phases)
            held = np.zeros(len(part), dtype=bool)
            for i in range(len(part)):
                by.tick()
                held[i] = limit >= 0 and by.proves_complex(re[i], im[i], spread, error, limit)
                if not held[i] and not by.proves_complex(re[i], im[i], spread, error, sigma):
                    return False  # nor will any cell around it
            left.append(part[~held])
        cells = np.concatenate(left)
        if len(cells) and not any(kernel.degrees):
            return False  # one tap: there is nothing to split
        cells, counts = _split(cells, counts, kernel.degrees)
    return True


def _split(
    cells: np.ndarray, counts: tuple[int, ...], degrees: tuple[float, ...]
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Every cell in halves along each axis on which the symbol varies."""
    factors = [2 if d else 1 for d in degrees]
    offsets = np.array(list(itertools.product(*(range(f) for f in factors))), dtype=np.int64)
    children = (cells * np.array(factors))[:, None, :] + offsets
    return children.reshape(-1, len(counts)), tuple(c * f for c, f in zip(counts, factors, strict=True))


def _cos_tau(degrees: tuple[float, ...], counts: tuple[int, ...]) -> float:
    """Lower bound on cos(tau), < 0 if useless: half-widths are pi / (2 count) on the first axis, pi / count beyond."""
    from flint import arb

    tau = sum((arb(d) / (2 * c if j == 0 else c) for j, (d, c) in enumerate(zip(degrees, counts, strict=True))), arb(0))
    if not tau < arb(1) / 2:
        return -1.0
    return float(down(float((arb.pi() * tau).cos().lower())))


def _phases(extents: tuple[int, ...], counts: tuple[int, ...], cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Re and Im of exp(-i s.w) at the centres of cells, for all taps: (cells, taps) each."""
    real, imaginary = np.ones((len(cells), 1)), np.zeros((len(cells), 1))
    for axis, (extent, count) in enumerate(zip(extents, counts, strict=True)):
        cos, sin = _axis_phases(extent, count, cells[:, axis], first=axis == 0)
        re = real[:, :, None] * cos[:, None, :] - imaginary[:, :, None] * sin[:, None, :]
        im = real[:, :, None] * sin[:, None, :] + imaginary[:, :, None] * cos[:, None, :]
        real, imaginary = re.reshape(len(cells), -1), im.reshape(len(cells), -1)
    return real, imaginary


def _axis_phases(extent: int, count: int, index: np.ndarray, first: bool) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of s w along one axis, each within 2^-52: (cells, extent); centred positions s."""
    from flint import arb

    if extent == 1:
        return np.ones((len(index), 1)), np.zeros((len(index), 1))
    distinct, place = np.unique(index, return_inverse=True)
    cos, sin = np.empty((len(distinct), extent)), np.empty((len(distinct), extent))
    for row, i in enumerate(distinct.tolist()):
        # the centre is pi (2 i + 1) / (2 count), or 2 pi ..; positions are multiples of 1/2
        turn = arb.pi() * (2 * i + 1) / ((4 if first else 2) * count)
        for t in range(extent):
            angle = turn * (2 * t - extent + 1)
            cos[row, t], sin[row, t] = float(angle.cos()), float(-angle.sin())
    return cos[place], sin[place]


def _gram_error(size: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Row sums of the error of [[A, -B], [B, A]], A + i B = F F', for F within `spread` of entries below `size`."""
    m, n = size.shape
    columns, loose = size.sum(axis=0), spread.sum(axis=0)
    rows = gamma(2 * n + 2) * (size @ columns) + spread @ columns + size @ loose
    return np.tile(inflate(4 * rows, 2 * (m + n) + 16), 2) + 8 * n * m * ETA


def as_convolution(op: LinearOperator) -> Convolution | None:
    """The convolution that an operator is, its channels scaled by the diagonals around it; None for anything else.

    Of a transposed one, the convolution itself: the l2 norm is the same. Within their radii diagonals may differ from
    place to place: then they are diag(t) times the largest ones, |t_i| <= 1, which are among the enclosed.
    """
    if isinstance(op, Transposed):
        op = op.leaf
    if isinstance(op, Convolution):
        return op
    factors = op.factors if isinstance(op, Product) else ()
    found = [i for i, f in enumerate(factors) if isinstance(f, Convolution)]
    if len(found) != 1 or not all(isinstance(f, Convolution | Diagonal) for f in factors):
        return None
    conv = factors[found[0]]
    assert isinstance(conv, Convolution)
    weights = Enclosure(conv.weights, conv.radius)
    for i, factor in enumerate(factors):
        if isinstance(factor, Diagonal):
            out = i < found[0]
            scale = _per_channel(factor, conv.copies, conv.weights.shape[0] if out else conv.in_shape[0])
            if scale is None:
                return None
            weights = weights * _beside(scale, conv, out)
    return conv.with_enclosure(weights.value, weights.radius)


def _per_channel(diagonal: Diagonal, copies: int, channels: int) -> Enclosure | None:
    """One factor for each channel, if they do not vary over positions."""
    value = np.asarray(diagonal.weights, dtype=float).reshape(copies, channels, -1)
    radius = np.broadcast_to(np.asarray(diagonal.radius, dtype=float), diagonal.weights.shape).reshape(value.shape)
    if np.any(value != value[:1, :, :1]):
        return None
    return Enclosure(value[0, :, 0].copy(), radius.max(axis=(0, 2)))


def _beside(scale: Enclosure, conv: Convolution, out: bool) -> Enclosure:
    """The factors in the shape of the kernel: (out, in / groups, 1, ..)."""
    rank = len(conv.kernel)
    if out:
        return scale.reshape((-1, 1, *(1 for _ in range(rank))))
    per_group, group_in = conv.weights.shape[0] // conv.groups, conv.weights.shape[1]

    def spread(v: np.ndarray) -> np.ndarray:
        return np.repeat(v.reshape(conv.groups, group_in), per_group, axis=0)

    return scale.rearrange(spread).reshape((-1, group_in, *(1 for _ in range(rank))))
