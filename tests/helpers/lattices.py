"""Operators made of convolutions, and what a `Lattice` says that they are: written out from its definition alone."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from lipcert.certificate.lattice import Lattice
from lipcert.operators import (
    Convolution,
    Identity,
    LinearOperator,
    Product,
    Selection,
    Shape,
    Sum,
    Transposed,
    enclosed,
)
from tests.helpers.symbols import per_channel, sampled_supremum

SIZES = {1: 12, 2: 6, 3: 4}
"""Pixels along an axis, by rank."""


def lattice_matrix(lattice: Lattice, weights: np.ndarray | None = None) -> np.ndarray:
    """y(o) = sum_t K_t x(o s + t d - p), entry by entry; `weights` in place of the lattice's own."""
    weights = lattice.weights.value if weights is None else weights
    out, per_group, *kernel = weights.shape
    into, space_in, space_out = per_group * lattice.groups, lattice.in_space, lattice.out_space
    matrix = np.zeros((out, *space_out, into, *space_in))
    for o, t in itertools.product(np.ndindex(*space_out), np.ndindex(*kernel)):
        pixel = [
            a * s + b * d - p
            for a, s, b, d, p in zip(o, lattice.strides, t, lattice.dilations, lattice.begins, strict=True)
        ]
        pixel = [i % n if around else i for i, n, around in zip(pixel, space_in, lattice.circular, strict=True)]
        if any(not 0 <= i < n for i, n in zip(pixel, space_in, strict=True)):
            continue
        for g in range(lattice.groups):
            rows = slice(g * out // lattice.groups, (g + 1) * out // lattice.groups)
            columns = slice(g * per_group, (g + 1) * per_group)
            matrix[(rows, *o, columns, *pixel)] += weights[(rows, slice(None), *t)]
    one_map = matrix.reshape(out * math.prod(space_out), into * math.prod(space_in))
    return np.kron(np.eye(lattice.copies), one_map)


def circle_norm(lattice: Lattice, periods: Shape | None = None) -> float:
    """The l2 norm of the convolution on a circle of so many outputs, by FFT of what a pulse at each input gives."""
    periods = lattice.periods if periods is None else periods
    weights = lattice.weights.value
    out, per_group, *kernel = weights.shape
    each = out // lattice.groups
    pulses = np.zeros((lattice.groups, each, per_group, *lattice.strides, *periods))
    for t in np.ndindex(*kernel):
        place = [b * d - p for b, d, p in zip(t, lattice.dilations, lattice.begins, strict=True)]
        # output o reads pixel o s + place: a pulse at pixel r < s is seen by the output o = (r - place) / s
        residue = tuple(i % s for i, s in zip(place, lattice.strides, strict=True))
        seen = tuple(-(i // s) % n for i, s, n in zip(place, lattice.strides, periods, strict=True))
        pulses[(slice(None), slice(None), slice(None), *residue, *seen)] += weights[(..., *t)].reshape(
            lattice.groups, each, per_group
        )
    rank = len(kernel)
    waves = np.fft.fftn(pulses, axes=tuple(range(-rank, 0))) if rank else pulses
    waves = waves.reshape(lattice.groups, each, per_group * math.prod(lattice.strides), math.prod(periods))
    return float(np.linalg.norm(np.moveaxis(waves, -1, 1), 2, axis=(2, 3)).max(initial=0.0))


def circle_matrix(lattice: Lattice, periods: Shape) -> np.ndarray:
    """The same convolution as a matrix on maps of `periods` times the strides that repeat."""
    sizes = tuple(n * s for n, s in zip(periods, lattice.strides, strict=True))
    around = Lattice(
        weights=lattice.weights,
        groups=lattice.groups,
        copies=1,
        strides=lattice.strides,
        dilations=lattice.dilations,
        begins=lattice.begins,
        in_space=sizes,
        out_space=periods,
        circular=tuple(True for _ in periods),
    )
    return lattice_matrix(around)


def lattice_supremum(lattice: Lattice) -> float:
    """The supremum of the symbol, sampled."""
    steps = zip(lattice.kernel, lattice.dilations, strict=True)
    conv = Convolution(
        lattice.weights.value,
        (lattice.channels[1], *((k - 1) * d + 1 for k, d in steps)),
        strides=lattice.strides,
        pads=tuple((0, 0) for _ in lattice.kernel),
        dilations=lattice.dilations,
        groups=lattice.groups,
    )
    return sampled_supremum(conv)


def dense_norm(op: LinearOperator) -> float:
    matrix = enclosed.dense(op).value
    return float(np.linalg.norm(matrix, 2)) if matrix.size else 0.0


@dataclass(frozen=True)
class Maps:
    """The vector between two operators: `copies` of (channels, *space)."""

    channels: int
    space: Shape
    copies: int = 1

    @property
    def shape(self) -> Shape:
        return (self.channels, *self.space)

    @property
    def size(self) -> int:
        return self.copies * math.prod(self.shape)


Made = tuple[LinearOperator, Maps]
"""An operator and the maps that it returns."""


def random_maps(rng: np.random.Generator, rank: int) -> Maps:
    space = tuple(int(rng.integers(2, SIZES[rank] + 1)) for _ in range(rank))
    return Maps(int(rng.choice([1, 2, 3, 4])), space, int(rng.choice([1, 1, 1, 2])))


def convolution(
    rng: np.random.Generator,
    maps: Maps,
    kernel: Shape,
    *,
    strides: Shape | None = None,
    pads: tuple[tuple[int, int], ...] | None = None,
    dilations: Shape | None = None,
    groups: int = 1,
    out: int | None = None,
    radius: float = 0.0,
) -> Made:
    """Normal weights; unpadded, of stride and dilation 1 unless told otherwise."""
    ones = tuple(1 for _ in kernel)
    out = groups * int(rng.integers(1, 3)) if out is None else out
    weights = rng.normal(size=(out, maps.channels // groups, *kernel))
    conv = Convolution(
        weights,
        maps.shape,
        strides=strides or ones,
        pads=pads or tuple((0, 0) for _ in kernel),
        dilations=dilations or ones,
        groups=groups,
        copies=maps.copies,
        radius=radius * np.abs(weights) if radius else 0.0,
    )
    return conv, Maps(out, conv.out_shape[1:], maps.copies)


def random_step(rng: np.random.Generator, maps: Maps, radius: float = 0.0) -> Made:
    """One operator that may stand in a stretch."""
    rank = len(maps.space)
    kind = rng.choice(
        ["pointwise", "depthwise", "pool", "padded", "unpadded", "full", "circular", "diagonal", "turned", "branches"]
    )
    some = tuple(int(rng.integers(1, min(3, n) + 1)) for n in maps.space)
    strides = tuple(int(rng.choice([1, 1, 2])) for _ in some)
    groups = int(rng.choice([g for g in (1, 2, 3, 4) if maps.channels % g == 0]))
    if kind == "diagonal":
        return per_channel(rng.normal(size=maps.channels), maps.shape, maps.copies, radius), maps
    if kind == "pointwise":
        return convolution(rng, maps, (1,) * rank, groups=groups, radius=radius)
    if kind == "depthwise":
        same = tuple(((k - 1) // 2, k // 2) for k in some)
        return convolution(rng, maps, some, pads=same, groups=maps.channels, out=maps.channels, radius=radius)
    if kind == "pool":
        sides = tuple(int(rng.integers(1, min(2, n) + 1)) for n in maps.space)
        op, after = convolution(rng, maps, sides, strides=sides, groups=maps.channels, out=maps.channels)
        return op.with_enclosure(np.full_like(op.weights, 1 / math.prod(sides)), 0.0), after  # type: ignore[attr-defined]
    if kind == "unpadded":
        return convolution(rng, maps, some, strides=strides, groups=groups, radius=radius)
    if kind == "full":  # nothing that could be written is cut off
        all_around = tuple((k - 1, k - 1) for k in some)
        return convolution(rng, maps, some, pads=all_around, groups=groups, radius=radius)
    if kind == "circular":
        return random_circular(rng, maps, groups, radius)
    if kind == "turned":
        return random_turned(rng, maps, radius)
    if kind == "branches":
        return random_branches(rng, maps, radius)
    dilations = tuple(int(rng.choice([1, 1, 2])) for _ in some)
    pads = tuple(
        (int(rng.integers(0, 3)), (k - 1) * d + int(rng.integers(0, 2))) for k, d in zip(some, dilations, strict=True)
    )
    return convolution(rng, maps, some, strides=strides, pads=pads, dilations=dilations, groups=groups, radius=radius)


def wrap(maps: Maps, pads: tuple[tuple[int, int], ...], mode: str = "wrap") -> tuple[Selection, Maps]:
    """Padding of every map as numpy does it; negative amounts cut off."""
    pixels = np.arange(math.prod(maps.space)).reshape(maps.space)
    padded = np.pad(pixels, [(max(0, a), max(0, b)) for a, b in pads], mode=mode)  # type: ignore[call-overload]
    cut = tuple(slice(max(0, -a), n - max(0, -b)) for (a, b), n in zip(pads, padded.shape, strict=True))
    padded = padded[cut]
    count = maps.copies * maps.channels
    index = pixels.size * np.arange(count).reshape(-1, *(1 for _ in maps.space)) + padded
    return Selection(index, maps.size), Maps(maps.channels, padded.shape, maps.copies)


def random_circular(rng: np.random.Generator, maps: Maps, groups: int, radius: float = 0.0, most: int = 99) -> Made:
    """A convolution of maps that a selection continues around, by any amounts, or cuts off."""
    kernel = tuple(int(rng.integers(1, 4)) for _ in maps.space)
    dilations = tuple(int(rng.choice([1, 1, 2])) for _ in kernel)
    strides = tuple(int(rng.choice([s for s in (1, 1, 2, 3) if n % s == 0])) for n in maps.space)
    pads = []
    for n, k, d, s in zip(maps.space, kernel, dilations, strides, strict=True):
        reach = (k - 1) * d
        before = int(rng.integers(-1, reach + 2))
        outputs = n // s if rng.random() < 0.7 else int(rng.integers(1, n // s + 1))
        pads.append((before, min((outputs - 1) * s + reach + 1 - before - n + int(rng.integers(0, s)), most)))
    selection, padded = wrap(maps, tuple(pads))
    conv, after = convolution(rng, padded, kernel, strides=strides, dilations=dilations, groups=groups, radius=radius)
    return Product((conv, selection)), after


def random_turned(rng: np.random.Generator, maps: Maps, radius: float = 0.0, strides: Shape | None = None) -> Made:
    """A transposed convolution."""
    rank = len(maps.space)
    strides = strides or (1,) * rank
    kernel = tuple(int(rng.integers(1, 4)) for _ in range(rank))
    dilations = tuple(int(rng.choice([1, 1, 2])) for _ in range(rank))
    pads, before = [], []
    for n, s, k, d in zip(maps.space, strides, kernel, dilations, strict=True):
        full = (n - 1) * s + (k - 1) * d + 1 + int(rng.integers(0, s))
        a = int(rng.integers(0, min(3, full)))
        b = int(rng.integers(0, min(3, full - a)))
        pads.append((a, b))
        before.append(full - a - b)
    groups = int(rng.choice([g for g in (1, 2, 3, 4) if maps.channels % g == 0]))
    source = Maps(groups * int(rng.integers(1, 3)), tuple(before), maps.copies)
    conv, _ = convolution(
        rng,
        source,
        kernel,
        strides=strides,
        pads=tuple(pads),
        dilations=dilations,
        groups=groups,
        out=maps.channels,
        radius=radius,
    )
    return Transposed(conv), source  # type: ignore[arg-type]


def random_branches(rng: np.random.Generator, maps: Maps, radius: float = 0.0) -> Made:
    """I + K, K1 + K2 with other kernels, dilations and groups, strided with a strided 1 x 1, circular ones."""
    kind = rng.choice(["skip", "scaled skip", "two", "strided", "circular", "turned"])
    rank, n = len(maps.space), maps.channels

    def same(strides: int = 1, groups: int = 1, out: int = n) -> LinearOperator:
        kernel = tuple(int(rng.choice([1, 3, 3, 5])) for _ in range(rank))
        dilations = tuple(int(rng.choice([1, 1, 2])) for _ in range(rank))
        pads = tuple((d * (k // 2), d * (k // 2)) for k, d in zip(kernel, dilations, strict=True))
        return convolution(
            rng,
            maps,
            kernel,
            strides=(strides,) * rank,
            pads=pads,
            dilations=dilations,
            groups=groups,
            out=out,
            radius=radius,
        )[0]

    if kind == "skip":
        return Sum((Identity(maps.size), same(groups=n))), maps
    if kind == "scaled skip":
        scale = per_channel(rng.normal(size=n), maps.shape, maps.copies, radius)
        return Sum((same(), scale, Identity(maps.size))), maps
    if kind == "strided":
        one = convolution(rng, maps, (1,) * rank, strides=(2,) * rank, out=2, radius=radius)
        return Sum((same(2, out=2), one[0])), one[1]
    if kind == "circular":
        pads, kernel = tuple((1, 1) for _ in range(rank)), (3,) * rank
        selection, padded = wrap(maps, pads)
        around = Product((convolution(rng, padded, kernel, out=n, radius=radius)[0], selection))
        return Sum((around, Identity(maps.size))), maps
    if kind == "turned":
        kernel = (3,) * rank
        conv = convolution(rng, maps, kernel, pads=tuple((1, 1) for _ in kernel), out=n, radius=radius)[0]
        return Sum((Transposed(conv), same())), maps  # type: ignore[arg-type]
    return Sum((same(groups=n), same())), maps


def random_stretch(rng: np.random.Generator, rank: int, factors: int, radius: float = 0.0, most: int = 400) -> Made:
    """`factors` steps, the first of them innermost; often no convolution at all. Some products are nested."""
    maps = random_maps(rng, rank)
    parts: list[LinearOperator] = []
    while len(parts) < factors:
        op, after = random_step(rng, maps, radius)
        if after.size > most:
            continue
        parts.insert(0, op)
        maps = after
        if len(parts) > 2 and rng.random() < 0.2:
            parts[:2] = [Product(parts[:2])]
            factors -= 1
    return (parts[0] if len(parts) == 1 else Product(parts)), maps
