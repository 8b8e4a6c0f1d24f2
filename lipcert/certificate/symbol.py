"""The l2 norm of a convolution from its symbol, the matrix F(w) = sum_t K_t exp(-i t.w).

A zero-padded convolution is a part of the infinite one, whose norm is the supremum of |F|, and of the one on a circle
that is large enough for nothing to meet around it, whose norm is the maximum over its frequencies. Strides become
input channels (space to depth): the input pixels of one residue modulo the stride are maps of their own.

Between frequencies: over a cell with centre c and half-widths h_j, |F(c)|_2 >= sup cos(tau), tau = sum_j d_j h_j,
d_j = (taps - 1) / 2, if the supremum is attained in the cell: u'F(w)v with the singular vectors there is of exponential
type d_j in w_j and bounded by sup, so that asin(u'Fv / sup) is d_j-Lipschitz in w_j (Bernstein and Szego; Duffin and
Schaeffer for real exponents). So sup <= sigma once |F(c)|_2 <= sigma cos(tau) in every cell of a cover. F(-w) is the
conjugate of F(w): half the plane does. Proofs: docs/convolutions.md.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lipcert.arithmetic.rounding import ETA, down, gamma, inflate, up
from lipcert.arithmetic.threads import one_thread
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.lattice import Lattice
from lipcert.operators import Shape

MAX_CELLS = 2**15
"""Cells, or frequencies, that the proof of a group may look at."""

MAX_AXES = 3
"""Axes with more than one tap; PHASE_ERROR rests on it."""

PHASE_ERROR = 2.0**-47
"""Bound on the error of Re and Im of a product of at most three phases, each within 2^-52 of cos and sin: 18.1 u."""

CHUNK = 2**22
"""Entries of the symbol, or of phases, that are held at a time."""


@dataclass(frozen=True, eq=False)
class SymbolKernel:
    """K_t of each group: `taps` (groups, T, m, n), m <= n, with radii, and the taps' positions along each axis.

    Axes with one tap are left out; the longest comes first. `periods`: of a circle that the maps fit on.
    """

    taps: np.ndarray
    radius: np.ndarray
    extents: Shape
    periods: Shape

    @property
    def degrees(self) -> tuple[float, ...]:
        return tuple((extent - 1) / 2 for extent in self.extents)

    @property
    def frequencies(self) -> int:
        """How many frequencies of the circle are looked at."""
        return math.prod(self.periods[1:]) * (self.periods[0] // 2 + 1) if self.periods else 1

    @property
    def first_cells(self) -> int:
        return math.prod(_first_cover(self.extents))


def symbol_kernel(conv: Lattice) -> SymbolKernel:
    """The kernel with strides as channels. Every entry is one stored weight."""
    groups = conv.groups
    steps = tuple(d // _rescaling(conv, j) for j, d in enumerate(conv.dilations))
    extents = tuple((k - 1) * d // s + 1 for k, d, s in zip(conv.kernel, steps, conv.strides, strict=True))
    order = sorted((j for j, extent in enumerate(extents) if extent > 1), key=lambda j: -extents[j])

    def laid_out(weights: np.ndarray) -> np.ndarray:
        stored = weights.reshape(groups, weights.shape[0] // groups, *weights.shape[1:])
        out = np.zeros((groups, *extents, *conv.strides, *stored.shape[1:3]))
        for tap in itertools.product(*(range(k) for k in conv.kernel)):
            place = [t * d // s for t, d, s in zip(tap, steps, conv.strides, strict=True)]
            residue = [t * d % s for t, d, s in zip(tap, steps, conv.strides, strict=True)]
            target: Any = (slice(None), *place, *residue)
            source: Any = (slice(None), slice(None), slice(None), *tap)
            out[target] = stored[source]
        ones = [j for j, extent in enumerate(extents) if extent == 1]
        out = np.moveaxis(out, [1 + j for j in (*order, *ones)], range(1, 1 + len(extents)))
        out = out.reshape(groups, math.prod(extents), math.prod(conv.strides), *stored.shape[1:3])
        # (group, tap, residue, out, in) -> (group, tap, out, in and residue)
        moved = np.moveaxis(out, 2, -1).reshape(groups, math.prod(extents), stored.shape[1], -1)
        return moved if moved.shape[2] <= moved.shape[3] else moved.swapaxes(2, 3)

    return SymbolKernel(
        laid_out(conv.weights.value),
        laid_out(conv.weights.full_radius()),
        tuple(extents[j] for j in order),
        # a dilated kernel sees the multiples of d among the frequencies of its circle only
        tuple(conv.periods[j] // math.gcd(conv.periods[j], _rescaling(conv, j)) for j in order),
    )


def _rescaling(conv: Lattice, axis: int) -> int:
    """By how much frequencies are multiplied: without a stride, by the dilation."""
    return conv.dilations[axis] if conv.strides[axis] == 1 else 1


def proves_symbol(conv: Lattice, sigma: float, by: Arithmetic) -> bool:
    """Whether the l2 norm is proven to be at most sigma for maps of any size, over all kernels enclosed."""
    return _proves(conv, sigma, by, _proves_plane)


def proves_frequencies(conv: Lattice, sigma: float, by: Arithmetic) -> bool:
    """Whether the l2 norm is proven to be at most sigma for maps of this size, over all kernels enclosed."""
    return _proves(conv, sigma, by, _proves_circle)


Rule = Callable[["Group", float, Arithmetic], bool]


@dataclass(frozen=True, eq=False)
class Group:
    """One group's taps (T, m, n), what encloses its symbol, and the error of F F' (row sums of the real form)."""

    kernel: SymbolKernel
    taps: np.ndarray
    spread: np.ndarray
    error: np.ndarray

    def symbols(self, phases: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Re and Im, within `spread`, at frequencies given by the phases (points, T) of the taps."""
        flat = self.taps.reshape(len(self.taps), -1)
        re, im = ((p @ flat).reshape(len(p), *self.taps.shape[1:]) for p in phases)
        return re, im


def enclosed_groups(kernel: SymbolKernel) -> Iterator[Group]:
    """The groups whose symbol is not zero."""
    for taps, radius in zip(kernel.taps, kernel.radius, strict=True):
        total = len(taps)
        if not (taps.any() or radius.any()):
            continue
        size = inflate(up(np.abs(taps) + radius).sum(axis=0), total)  # |F| entrywise, at every w
        spread = inflate((gamma(total + 2) + PHASE_ERROR) * size + radius.sum(axis=0), total + 8) + ETA
        yield Group(kernel, taps, spread, _gram_error(inflate(size + spread, 2), spread))


def _proves(conv: Lattice, sigma: float, by: Arithmetic, rule: Rule) -> bool:
    if not (math.isfinite(sigma) and sigma >= 0 and conv.weights.is_finite and math.isfinite(conv.deviation)):
        return False
    kernel = symbol_kernel(conv)
    if len(kernel.extents) > MAX_AXES:
        return False
    rest = float(down(sigma - conv.deviation)) if conv.deviation else sigma
    with phases_of_106_bits(), one_thread():
        return rest >= 0 and all(rule(group, rest, by) for group in enclosed_groups(kernel))


class phases_of_106_bits:
    """A context in which Arb computes with 106 bits."""

    def __enter__(self) -> None:
        from flint import ctx

        self.before, ctx.prec = ctx.prec, 106

    def __exit__(self, *_: object) -> None:
        from flint import ctx

        ctx.prec = self.before


def _proves_circle(group: Group, sigma: float, by: Arithmetic) -> bool:
    """Every frequency of the circle, half of them as the others are conjugates."""
    if group.kernel.frequencies > MAX_CELLS:
        return False
    for phases in circle_phases(group.kernel, group.kernel.periods, at_a_time(group)):
        by.tick()
        if not by.proves_complex(*group.symbols(phases), group.spread, group.error, sigma).all():
            return False
    return True


def circle_phases(kernel: SymbolKernel, periods: Shape, at_a_time: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The phases of the taps at the frequencies 2 pi j / periods, half of the first axis: (points, T) each."""
    counts = [n // 2 + 1 if axis == 0 else n for axis, n in enumerate(periods)]
    points = math.prod(counts)
    for start in range(0, points, at_a_time):
        places = np.unravel_index(np.arange(start, min(points, start + at_a_time)), counts) if counts else ()
        axes = [
            _axis_phases(extent, 2 * place, n) for extent, place, n in zip(kernel.extents, places, periods, strict=True)
        ]
        yield _together(axes, min(points, start + at_a_time) - start)


def _proves_plane(group: Group, sigma: float, by: Arithmetic) -> bool:
    """A cover of half the plane by cells, each proven or split."""
    kernel = group.kernel
    counts = _first_cover(kernel.extents)
    if math.prod(counts) > MAX_CELLS:
        return False
    cells = np.array(list(itertools.product(*(range(c) for c in counts))), dtype=np.int64)
    looked_at = 0
    while len(cells):
        looked_at += len(cells)
        if looked_at > MAX_CELLS:
            return False
        share = cos_tau(kernel.degrees, tuple(2 * c if j == 0 else c for j, c in enumerate(counts)))
        limit = float(down(sigma * share)) if share > 0 else -1.0
        left = []
        for part in np.array_split(cells, max(1, -(-len(cells) // at_a_time(group)))):
            by.tick()
            re, im = group.symbols(_cell_phases(kernel.extents, counts, part))
            held = by.proves_complex(re, im, group.spread, group.error, limit)
            open_cells = np.flatnonzero(~held)
            if not by.proves_complex(re[open_cells], im[open_cells], group.spread, group.error, sigma).all():
                return False  # nor will any cell around it
            left.append(part[open_cells])
        cells = np.concatenate(left)
        if not kernel.extents:
            return not len(cells)  # one tap: there is nothing to split
        cells, counts = _split(cells, counts)
    return True


def at_a_time(group: Group) -> int:
    """How many symbols are held at a time."""
    return max(1, CHUNK // (2 * max(math.prod(group.taps.shape[1:]), len(group.taps))))


def _first_cover(extents: Shape) -> Shape:
    """Cells along each axis to begin with: pi / 8 of tau each."""
    return tuple((2 if j == 0 else 4) * (extent - 1) for j, extent in enumerate(extents))


def _split(cells: np.ndarray, counts: Shape) -> tuple[np.ndarray, Shape]:
    """Every cell in halves along each axis."""
    offsets = np.array(list(itertools.product(range(2), repeat=len(counts))), dtype=np.int64)
    children = (2 * cells)[:, None, :] + offsets
    return children.reshape(-1, len(counts)), tuple(2 * c for c in counts)


def cos_tau(degrees: tuple[float, ...], spacings: Shape) -> float:
    """Lower bound on cos(tau), < 0 if useless, for half-widths pi / spacing along each axis."""
    from flint import arb

    tau = sum((arb(d) / n for d, n in zip(degrees, spacings, strict=True)), arb(0))
    if not tau < arb(1) / 2:
        return -1.0
    return float(down(float((arb.pi() * tau).cos().lower())))


def _cell_phases(extents: Shape, counts: Shape, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The phases of the taps at the centres of cells: pi (2 i + 1) / (2 count), or twice that beyond the first axis."""
    axes = [
        _axis_phases(extent, 2 * cells[:, axis] + 1, 2 * count if axis == 0 else count)
        for axis, (extent, count) in enumerate(zip(extents, counts, strict=True))
    ]
    return _together(axes, len(cells))


def _together(axes: list[tuple[np.ndarray, np.ndarray]], points: int) -> tuple[np.ndarray, np.ndarray]:
    """Re and Im of the products of the axes' phases, taps in C order: (points, T) each."""
    real, imaginary = np.ones((points, 1)), np.zeros((points, 1))
    for cos, sin in axes:
        re = real[:, :, None] * cos[:, None, :] - imaginary[:, :, None] * sin[:, None, :]
        im = real[:, :, None] * sin[:, None, :] + imaginary[:, :, None] * cos[:, None, :]
        real, imaginary = re.reshape(points, -1), im.reshape(points, -1)
    return real, imaginary


def _axis_phases(extent: int, numerators: np.ndarray, denominator: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and -sin of s w at w = pi numerator / denominator, each within 2^-52, s centred: (points, extent) each."""
    from flint import arb

    distinct, place = np.unique(numerators, return_inverse=True)
    cos, sin = np.empty((len(distinct), extent)), np.empty((len(distinct), extent))
    for row, i in enumerate(distinct.tolist()):
        half = arb.pi() * i / (2 * denominator)
        for t in range(extent):
            angle = half * (2 * t - extent + 1)  # positions are multiples of 1/2
            cos[row, t], sin[row, t] = float(angle.cos()), float(-angle.sin())
    return cos[place], sin[place]


def _gram_error(size: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Row sums of the error of [[A, -B], [B, A]], A + i B = F F', for F within `spread` of entries below `size`."""
    m, n = size.shape
    columns, loose = size.sum(axis=0), spread.sum(axis=0)
    rows = gamma(2 * n + 2) * (size @ columns) + spread @ columns + size @ loose
    return np.tile(inflate(4 * rows, 2 * (m + n) + 16), 2) + 8 * n * m * ETA
