"""Which operators are convolutions of maps on Z^r, seen through finite windows: what the symbol then bounds.

Convolutions between diagonals (batch normalisation, slopes), circular padding, stretches of several where no value is
cut off in between (a kernel of one tap, pooling without padding), and sums of branches with one stride (I + K).

A padded convolution after another is none: what the first one would write outside its map is read as zero. Such
stretches are refused here. Proofs: docs/convolutions.md.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure, exact
from lipcert.arithmetic.rounding import add_up, gamma, inflate, mul_up, sqrt_up, up
from lipcert.operators import (
    Convolution,
    Diagonal,
    Identity,
    LinearOperator,
    Product,
    Selection,
    Shape,
    Sum,
    Transposed,
    size_of,
)

MAX_KERNEL = 2**23
"""Entries of the kernel of a stretch or a sum."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """y(o) = sum_t K_t x(o s + t d - p), o in [0, out_space), x zero outside [0, in_space) or, `circular`, repeating.

    `weights` (out, in / groups, *kernel); within `deviation` in l2 norm, for what is no convolution.
    """

    weights: Enclosure
    groups: int
    copies: int
    strides: Shape
    dilations: Shape
    begins: Shape
    in_space: Shape
    out_space: Shape
    circular: tuple[bool, ...]
    deviation: float = 0.0

    @property
    def kernel(self) -> Shape:
        return self.weights.shape[2:]

    @property
    def channels(self) -> tuple[int, int]:
        """Of the output and of the input."""
        return self.weights.shape[0], self.weights.shape[1] * self.groups

    @property
    def periods(self) -> Shape:
        """Outputs along each axis after which maps may repeat without any value meeting another that is not zero."""
        found = []
        for n, m, s, d, p, k, circular in self._axes():
            last = (m - 1) * s + (k - 1) * d - p
            found.append(n // s if circular else max(m, -(-max(n, n + p, last + 1) // s)))
        return tuple(found)

    def reads_inside(self, axis: int) -> bool:
        """Whether no output reads outside the map along an axis."""
        n, m, s, d, p, k, _ = self._axes()[axis]
        return p <= 0 and (m - 1) * s + (k - 1) * d - p < n

    def writes_inside(self, axis: int) -> bool:
        """Whether all outputs beyond the window, read from a map that is zero outside, are zero along an axis."""
        n, m, s, d, p, k, circular = self._axes()[axis]
        return not circular and (k - 1) * d - s - p < 0 and m * s - p >= n

    def is_pointwise(self, axis: int) -> bool:
        n, m, s, _, p, k, _ = self._axes()[axis]
        return k == 1 and s == 1 and p == 0 and n == m

    def _axes(self) -> list[tuple[int, int, int, int, int, int, bool]]:
        return list(
            zip(
                self.in_space,
                self.out_space,
                self.strides,
                self.dilations,
                self.begins,
                self.kernel,
                self.circular,
                strict=True,
            )
        )


def as_lattice(op: LinearOperator) -> Lattice | None:
    """The convolution that an operator or its transpose is, both of one l2 norm; None where there is none."""
    found = _lattice(op, alone=True)
    if found is None and (adjoint := _adjoint(op)) is not None:
        found = _lattice(adjoint, alone=True)
    return found


def _lattice(op: LinearOperator, alone: bool = False) -> Lattice | None:
    """`alone`: whether this is all of the operator, nothing before, after or beside it."""
    if isinstance(op, Convolution):
        return _convolution(op)
    if isinstance(op, Transposed):
        return _turned(op)
    if isinstance(op, Sum):
        return _sum(op)
    if isinstance(op, Product):
        return _product(op, alone)
    return None


def _convolution(op: Convolution) -> Lattice:
    rank = len(op.kernel)
    return Lattice(
        weights=Enclosure(op.weights, op.radius),
        groups=op.groups,
        copies=op.copies,
        strides=op.strides,
        dilations=op.dilations,
        begins=tuple(p for p, _ in op.pads),
        in_space=op.in_shape[1:],
        out_space=op.out_shape[1:],
        circular=(False,) * rank,
    )


def _turned(op: Transposed) -> Lattice | None:
    """A transposed convolution of stride 1 is the one with its kernel turned around."""
    if not isinstance(op.leaf, Convolution) or any(s != 1 for s in op.leaf.strides):
        return None
    forward = _convolution(op.leaf)
    spatial = tuple(range(-len(forward.kernel), 0))

    def turn(weights: np.ndarray) -> np.ndarray:
        by_group = weights.reshape(forward.groups, -1, *weights.shape[1:]).swapaxes(1, 2)
        return np.flip(by_group, spatial).reshape(forward.channels[1], -1, *forward.kernel)

    begins = tuple((k - 1) * d - p for k, d, p in zip(forward.kernel, forward.dilations, forward.begins, strict=True))
    return replace(
        forward,
        weights=forward.weights.rearrange(turn),
        begins=begins,
        in_space=forward.out_space,
        out_space=forward.in_space,
    )


def _adjoint(op: LinearOperator) -> LinearOperator | None:
    """The transpose of an operator, where transposed convolutions become convolutions."""
    if isinstance(op, Transposed):
        return op.leaf
    if isinstance(op, Product):
        factors = [_adjoint(f) for f in reversed(op.factors)]
        return None if any(f is None for f in factors) else Product([f for f in factors if f is not None])
    return op if isinstance(op, Diagonal | Identity) else None


def _product(op: Product, alone: bool) -> Lattice | None:
    """Factor after factor onto the first one that is a convolution by itself."""
    factors = _grouped([f for f in op.factors if not isinstance(f, Identity)])
    start = next((i for i, f in enumerate(factors) if isinstance(f, Lattice)), len(factors))
    last = len(factors) - 1
    found: Lattice | None = None
    for i in (*range(start, last + 1), *range(start - 1, -1, -1)):
        factor = factors[i]
        if isinstance(factor, Lattice):
            found = factor if found is None else _after(factor, found) if i < start else _after(found, factor)
        elif isinstance(factor, Diagonal) and found is not None:
            found = _scaled(found, factor, out=i < start, outermost=alone and i in (0, last))
        else:
            return None
        if found is None:
            return None
    return found


def _grouped(factors: list[LinearOperator]) -> list[LinearOperator | Lattice]:
    """The factors, convolutions read as such, together with the selection that pads what they read."""
    found: list[LinearOperator | Lattice] = []
    for factor in factors:
        before = found[-1] if found else None
        if isinstance(factor, Selection) and isinstance(before, Lattice) and (conv := _wrapped(before, factor)):
            found[-1] = conv
        else:
            found.append(_lattice(factor) or factor)
    return found


def _scaled(conv: Lattice, diagonal: Diagonal, out: bool, outermost: bool) -> Lattice | None:
    """The channels scaled, by one value each; what the radius leaves open is no convolution.

    At the end of a stretch values may differ: diag(a) = diag(t) diag(the largest of each channel), |t| <= 1.
    """
    channels = conv.channels[0 if out else 1]
    value = np.asarray(diagonal.weights, dtype=float).reshape(conv.copies, channels, -1)
    radius = np.broadcast_to(np.asarray(diagonal.radius, dtype=float), diagonal.weights.shape).reshape(value.shape)
    uniform = not np.any(value != value[:1, :, :1])
    if outermost:
        scale = Enclosure(value[0, :, 0].copy(), radius.max(axis=(0, 2)))
        if not uniform:
            scale = exact(up(np.abs(value) + radius).max(axis=(0, 2)))
        loose = 0.0
    elif uniform:
        scale, loose = exact(value[0, :, 0].copy()), float(radius.max(initial=0.0))
    else:
        return None
    largest = float(scale.magnitude().max(initial=0.0))
    deviation = add_up(mul_up(loose, _size(conv)), mul_up(conv.deviation, add_up(largest, loose)))
    return replace(conv, weights=conv.weights * _beside(scale, conv, out), deviation=float(deviation))


def _beside(scale: Enclosure, conv: Lattice, out: bool) -> Enclosure:
    """The factors in the shape of the kernel: (out, in / groups, 1, ..)."""
    ones = tuple(1 for _ in conv.kernel)
    if out:
        return scale.reshape((-1, 1, *ones))
    per_group, group_in = conv.weights.shape[0] // conv.groups, conv.weights.shape[1]

    def spread(v: np.ndarray) -> np.ndarray:
        return np.repeat(v.reshape(conv.groups, group_in), per_group, axis=0)

    return scale.rearrange(spread).reshape((-1, group_in, *ones))


def _wrapped(conv: Lattice, selection: Selection) -> Lattice | None:
    """An unpadded convolution of maps that a selection continues around (circular padding), along some axes.

    The outputs must not go around more than once, and strides must divide the maps: then they are those of a circle.
    """
    channels, rank = conv.channels[1], len(conv.kernel)
    maps = conv.copies * channels
    index = selection.index.reshape(maps, *conv.in_space)
    pixels = selection.in_size // maps
    if selection.in_size % maps or index.size == 0 or index[0].min() < 0 or index[0].max() >= pixels:
        return None
    if not all(conv.reads_inside(axis) for axis in range(rank)):
        return None
    space = _wrapped_space(index[0], pixels)
    if space is None:
        return None
    first = np.unravel_index(int(index[(0,) * (rank + 1)]), space)
    places = [(int(f) + np.arange(n)) % m for f, n, m in zip(first, conv.in_space, space, strict=True)]
    expected = np.ravel_multi_index(np.ix_(*places), space) if rank else np.zeros(())
    shifted = expected + size_of(space) * np.arange(maps).reshape(-1, *(1 for _ in space))
    if not np.array_equal(index, shifted):
        return None
    # pixel i of the padded map is pixel i + first of the circle
    begins = tuple((p - int(f)) % n for p, f, n in zip(conv.begins, first, space, strict=True))
    return _once_around(replace(conv, begins=begins, in_space=space, circular=(True,) * rank))


def _once_around(conv: Lattice) -> Lattice | None:
    """The convolution, if on circular axes its strides divide the circle and no output comes twice."""
    fits = all(
        not circular or (n % s == 0 and m <= n // s)
        for n, m, s, circular in zip(conv.in_space, conv.out_space, conv.strides, conv.circular, strict=True)
    )
    return conv if fits else None


def _wrapped_space(index: np.ndarray, pixels: int) -> Shape | None:
    """The shape of the maps that one padded map, as places in it, would come from."""
    space: list[int] = []
    step = 1
    for axis in range(index.ndim - 1, 0, -1):  # the last axis runs fastest
        line = np.moveaxis(index, axis, 0).reshape(index.shape[axis], -1)[:, 0]
        size = (int(line.max()) - int(line.min())) // step + 1
        space.insert(0, size)
        step *= size
    if pixels % step:
        return None
    return (pixels // step, *space) if index.ndim else ()


def _after(outer: Lattice, inner: Lattice) -> Lattice | None:
    """The convolution after another, if nothing that the inner one writes is cut off before it is read."""
    rank = len(outer.kernel)
    fits = (outer.channels[1], outer.in_space, outer.copies) == (inner.channels[0], inner.out_space, inner.copies)
    if not fits or len(inner.kernel) != rank:
        return None
    circular = []
    for axis in range(rank):
        if outer.circular[axis]:
            full = inner.circular[axis] and inner.out_space[axis] == inner.periods[axis]
            if not (full or inner.is_pointwise(axis)):
                return None
        elif not (outer.reads_inside(axis) or inner.writes_inside(axis)):
            return None
        circular.append(outer.circular[axis] or inner.circular[axis])
    weights = _composed(outer, inner)
    if weights is None:
        return None
    deviation = add_up(
        mul_up(_size(outer), inner.deviation), mul_up(outer.deviation, add_up(_size(inner), inner.deviation))
    )
    whole = Lattice(
        weights=weights,
        groups=math.gcd(outer.groups, inner.groups),
        copies=outer.copies,
        strides=tuple(a * b for a, b in zip(outer.strides, inner.strides, strict=True)),
        dilations=(1,) * rank,
        begins=tuple(p * s + q for p, s, q in zip(outer.begins, inner.strides, inner.begins, strict=True)),
        in_space=inner.in_space,
        out_space=outer.out_space,
        circular=tuple(circular),
        deviation=float(deviation),
    )
    return _once_around(whole)


def _composed(outer: Lattice, inner: Lattice) -> Enclosure | None:
    """The kernel of `outer` after `inner`: tap b of one after tap a of the other goes to place b d s + a d'."""
    groups = math.gcd(outer.groups, inner.groups)
    steps = tuple(d * s for d, s in zip(outer.dilations, inner.strides, strict=True))
    kernel = tuple(
        (k - 1) * step + (l - 1) * d + 1
        for k, step, l, d in zip(outer.kernel, steps, inner.kernel, inner.dilations, strict=True)
    )
    out, into = outer.channels[0] // groups, inner.channels[1] // groups
    sizes = [math.prod(conv.channels) // groups * math.prod(conv.kernel) for conv in (outer, inner)]
    if max(groups * out * into * math.prod(kernel), *sizes) > MAX_KERNEL:
        return None
    left, right = _taps(outer, groups), _taps(inner, groups)
    fan = left.shape[-1] * max(1, min(len(left.value), len(right.value)))
    a, b = left.magnitude(), right.magnitude()
    loose = inflate(gamma(fan) * b + right.radius, 4)

    def combined(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        result = np.zeros((groups, out, into, *kernel))
        taps = (list(itertools.product(*(range(k) for k in conv.kernel))) for conv in (outer, inner))
        for (i, t), (j, u) in itertools.product(*(list(enumerate(t)) for t in taps)):
            place = tuple(p * s + q * d for p, s, q, d in zip(t, steps, u, inner.dilations, strict=True))
            target: Any = (slice(None), slice(None), slice(None), *place)
            result[target] += x[i] @ y[j]
        return result.reshape(groups * out, into, *kernel)

    radius = combined(a, loose)
    if not left.is_exact:
        radius = radius + combined(left.full_radius(), b)
    return Enclosure(combined(left.value, right.value), inflate(radius, 2 * fan + 8))


def _taps(conv: Lattice, groups: int) -> Enclosure:
    """The matrices of the taps, (taps, groups, out, in), with fewer groups: zero blocks are written out."""

    def laid_out(weights: np.ndarray) -> np.ndarray:
        return np.moveaxis(_regrouped(weights, conv.groups, groups), -1, 0)

    return conv.weights.rearrange(laid_out)


def _regrouped(weights: np.ndarray, before: int, after: int) -> np.ndarray:
    """(after, out / after, in / after, taps) from a kernel of `before` groups, a multiple of `after`."""
    out, into = weights.shape[:2]
    each, inner = out // before, before // after
    blocks = weights.reshape(after, inner, each, into, -1)
    result = np.zeros((after, inner, each, inner, into, blocks.shape[-1]))
    for i in range(inner):
        result[:, i, :, i] = blocks[:, i]
    return result.reshape(after, inner * each, inner * into, -1)


def _sum(op: Sum) -> Lattice | None:
    """Branches of one stride between the same maps; the identity and diagonals are kernels of one tap."""
    found = [_lattice(term) for term in op.terms]
    pattern = next((c for c in found if c is not None), None)
    if pattern is None:
        return None
    total: Lattice | None = None
    for i, (conv, term) in enumerate(zip(found, op.terms, strict=True)):
        branch = conv or _pointwise(term, pattern)
        if branch is None or (i and total is None):
            return None
        total = branch if total is None else _added(total, branch)
    return total


def _pointwise(op: LinearOperator, like: Lattice) -> Lattice | None:
    """The identity, or a diagonal of one factor a channel, on the maps of another convolution."""
    channels = like.channels[1]
    if like.channels[0] != channels or like.in_space != like.out_space or not isinstance(op, Identity | Diagonal):
        return None
    rank = len(like.kernel)
    identity = Lattice(
        weights=exact(np.ones((channels, 1, *(1 for _ in range(rank))))),
        groups=channels,
        copies=like.copies,
        strides=(1,) * rank,
        dilations=(1,) * rank,
        begins=(0,) * rank,
        in_space=like.in_space,
        out_space=like.in_space,
        circular=(False,) * rank,
    )
    return identity if isinstance(op, Identity) else _scaled(identity, op, out=True, outermost=False)


def _added(a: Lattice, b: Lattice) -> Lattice | None:
    """The sum: kernels of one stride, moved so that their taps meet."""
    same = (a.channels, a.copies, a.strides, a.in_space, a.out_space)
    if same != (b.channels, b.copies, b.strides, b.in_space, b.out_space):
        return None
    rank = len(a.kernel)
    for axis in range(rank):
        if a.circular[axis] != b.circular[axis] and not (b if a.circular[axis] else a).reads_inside(axis):
            return None
    groups = math.gcd(a.groups, b.groups)
    begins = tuple(max(p, q) for p, q in zip(a.begins, b.begins, strict=True))
    ends = [
        max((k - 1) * d - p for k, d, p in ((x.kernel[j], x.dilations[j], x.begins[j]) for x in (a, b)))
        for j in range(rank)
    ]
    kernel = tuple(p + e + 1 for p, e in zip(begins, ends, strict=True))
    out, into = a.channels
    if out * into // groups * math.prod(kernel) > MAX_KERNEL:
        return None

    def placed(conv: Lattice) -> Enclosure:
        def move(weights: np.ndarray) -> np.ndarray:
            blocks = _regrouped(weights, conv.groups, groups).reshape(out, into // groups, *conv.kernel)
            result = np.zeros((out, into // groups, *kernel))
            at = tuple(
                slice(p - q, p - q + (k - 1) * d + 1, d)
                for p, q, k, d in zip(begins, conv.begins, conv.kernel, conv.dilations, strict=True)
            )
            result[(slice(None), slice(None), *at)] = blocks
            return result

        return conv.weights.rearrange(move)

    return replace(
        a,
        weights=placed(a) + placed(b),
        groups=groups,
        dilations=(1,) * rank,
        begins=begins,
        circular=tuple(x or y for x, y in zip(a.circular, b.circular, strict=True)),
        deviation=float(add_up(a.deviation, b.deviation)),
    )


def _size(conv: Lattice) -> float:
    """Upper bound on the l2 norm of the convolution, deviation left out, from sums over rows and columns (Schur)."""
    magnitude = conv.weights.magnitude()
    rows = magnitude.reshape(len(magnitude), -1).sum(axis=1)
    by_group = magnitude.reshape(conv.groups, -1, *magnitude.shape[1:])
    columns = by_group.sum(axis=(1, *range(3, by_group.ndim)))
    terms = magnitude.size // max(1, min(magnitude.shape[:2], default=1))
    worst = inflate(mul_up(rows.max(initial=0.0), columns.max(initial=0.0)), 2 * terms)
    return float(sqrt_up(worst))
