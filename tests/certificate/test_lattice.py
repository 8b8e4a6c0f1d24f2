"""What is read as a convolution is one, entry by entry, and its symbol never proves less than the operator's norm."""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.balls import BallArithmetic
from lipcert.certificate.gram import gram_symbol_bound
from lipcert.certificate.lattice import Lattice, as_lattice
from lipcert.certificate.symbol import proves_frequencies, proves_symbol, symbol_kernel
from lipcert.operators import (
    Convolution,
    Dense,
    Diagonal,
    Identity,
    Leaf,
    LinearOperator,
    Product,
    Reduction,
    Row,
    Selection,
    Sum,
    Transposed,
    enclosed,
)
from tests.helpers.lattices import (
    Maps,
    circle_matrix,
    circle_norm,
    convolution,
    dense_norm,
    lattice_matrix,
    lattice_supremum,
    random_branches,
    random_circular,
    random_maps,
    random_step,
    random_stretch,
    random_turned,
    wrap,
)
from tests.helpers.operators import map_leaves, random_shape
from tests.helpers.symbols import dressed, layer, per_channel, plain

BELOW = (0.5, 0.9, 0.99, 0.999, 1 - 1e-6, 1 - 1e-9)
"""Fractions of the dense norm."""

TINY = 1 + 1e-9
"""For the roundings of what is compared with."""

Draw = Callable[[np.random.Generator, int], LinearOperator]


def a_turned_one(rng: np.random.Generator, rank: int) -> LinearOperator:
    strides = tuple(int(s) for s in rng.integers(1, 4, size=rank))
    return random_turned(rng, random_maps(rng, rank), strides=strides)[0]


def a_circular_one(rng: np.random.Generator, rank: int) -> LinearOperator:
    maps = random_maps(rng, rank)
    return random_circular(rng, maps, int(rng.choice([1, maps.channels])))[0]


FAMILIES: dict[str, tuple[Draw, int]] = {
    "single": (lambda rng, rank: dressed(rng, layer(rng, rank, largest=10)), 60),
    "transposed": (a_turned_one, 45),
    "circular": (a_circular_one, 60),
    "sum": (lambda rng, rank: random_branches(rng, random_maps(rng, rank))[0], 60),
    "stretch of two": (lambda rng, rank: random_stretch(rng, rank, 2)[0], 120),
    "stretch of three": (lambda rng, rank: random_stretch(rng, rank, 3)[0], 120),
    "stretch of four": (lambda rng, rank: random_stretch(rng, rank, 4)[0], 120),
}
"""How operators are drawn, and how many of them."""

LEAST = {"circular": 45, "stretch of two": 60, "stretch of three": 40, "stretch of four": 25}
"""How many of a family are at least accepted; all, where nothing is said. Maps cut off along a later axis are not."""


@functools.cache
def accepted(family: str) -> list[tuple[int, LinearOperator, Lattice, np.ndarray]]:
    """Those that are read as convolutions: seed, operator, lattice, dense matrix."""
    draw, count = FAMILIES[family]
    found = []
    for seed in range(count):
        rng = np.random.default_rng([seed, *family.encode()])
        op = draw(rng, 1 + seed % 3)
        lattice = as_lattice(op)
        if lattice is not None:
            found.append((seed, op, lattice, enclosed.dense(op).value))
    assert len(found) >= LEAST.get(family, count)
    return found


families = pytest.mark.parametrize("family", FAMILIES)
in_both = pytest.mark.parametrize("arithmetic", [Arithmetic, BallArithmetic], ids=["float64", "balls"])


@families
def test_the_definition_gives_the_matrix_of_the_operator(family: str) -> None:
    """Or of its transpose; what is rounded is within the radius of the kernel."""
    for seed, op, lattice, dense in accepted(family):
        written = lattice_matrix(lattice)
        size = 1 + np.abs(written).max(initial=0.0)
        room = lattice_matrix(lattice, lattice.weights.full_radius()) + 1e-14 * size
        assert room.max(initial=0.0) <= 1e-12 * size, seed
        readings = [dense] if not has_strided_transpose(op) else [dense.T]
        assert any(r.shape == written.shape and np.all(np.abs(r - written) <= room) for r in readings), seed
        assert lattice.deviation == 0.0, seed


def has_strided_transpose(op: LinearOperator) -> bool:
    if isinstance(op, Product):
        return any(has_strided_transpose(f) for f in op.factors)
    return isinstance(op, Transposed) and isinstance(op.leaf, Convolution) and max(op.leaf.strides) > 1


@pytest.mark.one_in(2)
@families
def test_the_dense_norm_is_at_most_that_of_the_circle_and_that_at_most_the_supremum(family: str) -> None:
    closest = 0.0
    for seed, _, lattice, dense in accepted(family):
        norm, circle = float(np.linalg.norm(dense, 2)), circle_norm(lattice)
        assert norm <= circle * TINY, seed
        if math.prod((*lattice.kernel, *lattice.strides)) <= 100:  # else sampling takes seconds
            assert circle <= lattice_supremum(lattice) * (1 + 1e-6), seed
        closest = max(closest, norm / circle if circle else 0.0)
    assert closest > 0.99


@families
def test_the_circle_holds_the_maps_and_has_the_norm_that_the_fft_finds(family: str) -> None:
    """The dense matrix of the convolution on the circle has the operator's as a part."""
    for seed, _, lattice, _ in accepted(family)[:12]:
        whole, window = circle_matrix(lattice, lattice.periods), lattice_matrix(lattice)
        assert np.linalg.norm(whole, 2) == pytest.approx(circle_norm(lattice), rel=1e-9), seed
        out, into = lattice.channels
        sizes = tuple(n * s for n, s in zip(lattice.periods, lattice.strides, strict=True))
        full = whole.reshape(out, *lattice.periods, into, *sizes)
        cut = tuple(slice(0, n) for n in lattice.out_space), tuple(slice(0, n) for n in lattice.in_space)
        part = full[(slice(None), *cut[0], slice(None), *cut[1])]
        one_map = window[: len(window) // lattice.copies, : window.shape[1] // lattice.copies]
        np.testing.assert_allclose(part.reshape(one_map.shape), one_map, rtol=0, atol=1e-12 * (1 + np.abs(whole).max()))


@pytest.mark.one_in(2)
@families
def test_nothing_below_the_norm_is_proven_and_what_is_above_the_circle_or_the_supremum_is(family: str) -> None:
    by, proven = Arithmetic(), Counter[str]()
    for seed, _, lattice, dense in accepted(family):
        norm = float(np.linalg.norm(dense, 2))
        assert not any(proves_frequencies(lattice, norm * fraction, by) for fraction in BELOW), seed
        if symbol_kernel(lattice).frequencies <= 2000:
            assert proves_frequencies(lattice, undilated(lattice) * (1 + 1e-7) + 1e-300, by), seed
            proven["circle"] += 1
        rank = len(lattice.kernel)
        if seed % 4 == 0 or rank == 1:
            assert not any(proves_symbol(lattice, norm * fraction, by) for fraction in BELOW), seed
        if rank == 1 or (rank == 2 and seed % 4 == 1):
            supremum = lattice_supremum(lattice)
            assert not any(proves_symbol(lattice, supremum * fraction, by) for fraction in BELOW), seed
            assert proves_symbol(lattice, supremum * (1.001 if rank == 1 else 1.02) + 1e-300, by), seed
            proven["plane"] += 1
    assert min(proven["circle"], proven["plane"]) >= 10


def undilated(lattice: Lattice) -> float:
    """The largest value at all frequencies of the circle, of which dilations without a stride meet only some."""
    steps = tuple(1 if s == 1 else d for s, d in zip(lattice.strides, lattice.dilations, strict=True))
    return circle_norm(replace(lattice, dilations=steps), lattice.periods)


@families
def test_gram_bounds_are_above_the_norm_and_fall_towards_the_circle(family: str) -> None:
    by = Arithmetic()
    for seed, _, lattice, dense in accepted(family)[::3]:
        norm, circle = float(np.linalg.norm(dense, 2)), circle_norm(lattice)
        bounds = [gram_symbol_bound(lattice, k, (), by) for k in range(1, 13)]
        assert min(bounds) >= max(norm, circle) * (1 - 1e-12), seed
        assert all(after <= before * (1 + 1e-9) for before, after in itertools.pairwise(bounds)), seed
        assert bounds[-1] <= undilated(lattice) * (1 + 1e-3) + 1e-300, seed


@pytest.mark.parametrize("rank", [1, 2])
def test_balls_prove_no_less_than_the_norm_and_what_is_above_the_circle(rank: int) -> None:
    by = BallArithmetic()
    for family in FAMILIES:
        for seed, _, lattice, dense in [a for a in accepted(family) if len(a[2].kernel) == rank][:3]:
            norm = float(np.linalg.norm(dense, 2))
            if symbol_kernel(lattice).frequencies <= 60:
                assert not any(proves_frequencies(lattice, norm * fraction, by) for fraction in BELOW[2:]), seed
                assert proves_frequencies(lattice, undilated(lattice) * (1 + 1e-6) + 1e-300, by), seed


# Enclosures


def some_member(rng: np.random.Generator, op: LinearOperator, how: str) -> LinearOperator:
    """Every leaf at the ends of its radius: at random, all larger, or its even entries larger and its odd smaller."""

    def moved(leaf: Leaf) -> Leaf:
        if leaf.weights is None:
            return leaf
        signs = np.sign(leaf.weights) if how == "larger" else rng.choice([-1.0, 1.0], size=leaf.weights.shape)
        if how == "in turns":
            signs = np.where(np.arange(leaf.weights.size) % 2, -1.0, 1.0).reshape(leaf.weights.shape)
        return leaf.with_weights(leaf.weights + signs * leaf.radius)

    return map_leaves(op, moved)


@pytest.mark.parametrize("radius", [1e-9, 0.1])
@pytest.mark.parametrize("rank", [1, 2])
def test_members_of_a_radius_are_bounded(rank: int, radius: float) -> None:
    """Also those whose diagonals differ from pixel to pixel, within a stretch and at its ends."""
    by, met, loose = Arithmetic(), 0, 0
    for seed in range(90):
        rng = np.random.default_rng([seed, rank, 31])
        op, _ = random_stretch(rng, rank, 1 + seed % 4, radius, most=250)
        lattice = as_lattice(op)
        if lattice is None:
            continue
        largest = max(dense_norm(some_member(rng, op, how)) for how in ("random", "random", "larger", "in turns"))
        assert largest <= (circle_norm(lattice) + worst_of_radius(lattice) + lattice.deviation) * TINY, seed
        met, loose = met + 1, loose + (lattice.deviation > 0)
        bound = gram_symbol_bound(lattice, 12, (), by)
        assert largest <= bound * TINY, seed
        for sigma in (largest * (1 - 1e-9), *(np.linspace(largest, bound, 5)[:-1] * (1 - 1e-9))):
            if proves_frequencies(lattice, float(sigma), by) or (seed % 5 == 0 and proves_symbol(lattice, sigma, by)):
                assert largest <= sigma * TINY, seed
        assert proves_frequencies(lattice, bound * (3 if radius > 1e-3 else 1 + 1e-3) + 1e-300, by), seed
    assert met >= 40
    assert loose >= 3


def worst_of_radius(lattice: Lattice) -> float:
    """What kernels within the radius may add: the sums of radii, by Schur's test."""
    radius = lattice.weights.full_radius()
    each = radius.reshape(lattice.groups, -1, *radius.shape[1:])
    rows = each.reshape(len(radius), -1).sum(axis=1).max()
    columns = each.sum(axis=(1, *range(3, each.ndim))).max()
    return math.sqrt(rows * columns)


def adversarial(product: Product, place: int, radius: float) -> float:
    """The largest norm that is found when the diagonal at `place` moves by up to the radius, pixel by pixel."""
    before = functools.reduce(np.matmul, [enclosed.dense(f).value for f in product.factors[:place]])
    after = functools.reduce(np.matmul, [enclosed.dense(f).value for f in product.factors[place + 1 :]])
    diagonal = product.factors[place]
    assert isinstance(diagonal, Diagonal)
    moved, best = diagonal.weights.copy(), 0.0
    for _ in range(20):
        u, s, v = np.linalg.svd(before @ (moved[:, None] * after))
        best = max(best, float(s[0]))
        moved = diagonal.weights + radius * np.sign((before.T @ u[:, 0]) * (after @ v[0]))
    return best


@pytest.mark.parametrize("around", [False, True], ids=["inside", "before a selection that wraps"])
@pytest.mark.parametrize("seed", range(8))
def test_the_worst_diagonal_inside_a_stretch_is_bounded(seed: int, around: bool) -> None:
    """It varies from pixel to pixel, and the product is more than the symbol of any convolution in the radius."""
    rng, radius, by = np.random.default_rng([seed, 32]), 0.2, Arithmetic()
    maps = Maps(2, (9,))
    selection, padded = wrap(maps, ((2, 2),))
    inner, between = convolution(rng, padded if around else maps, (3,), out=2)
    outer, _ = convolution(rng, between, (3,), out=2)
    scale = per_channel(np.ones(2), between.shape)
    middle = Product((outer, Diagonal(scale.weights, radius), inner))
    product = Product((middle, selection)) if around else middle
    lattice = as_lattice(product)
    assert lattice is not None
    assert lattice.deviation > 0
    flat = Product((*middle.factors, selection)) if around else middle
    largest = adversarial(flat, 1, radius)
    bound = gram_symbol_bound(lattice, 12, (), by)
    assert largest <= bound
    assert not any(proves_symbol(lattice, largest * fraction, by) for fraction in BELOW)
    assert not any(proves_frequencies(lattice, largest * fraction, by) for fraction in BELOW)
    assert proves_frequencies(lattice, bound * (1 + 1e-9), by)


@pytest.mark.parametrize("seed", range(8))
def test_the_worst_diagonal_of_a_map_that_is_continued_around_is_bounded(seed: int) -> None:
    """Its factors differ between a pixel and its copy."""
    rng, radius, by = np.random.default_rng([seed, 35]), 0.3, Arithmetic()
    maps, stride = Maps(2, (8,)), 1 + seed % 2
    selection, padded = wrap(maps, ((1, 2),))
    conv, _ = convolution(rng, padded, (4,), strides=(stride,), out=2)
    scale = Diagonal(per_channel(rng.normal(size=2), padded.shape).weights, radius)
    lattice = as_lattice(Product((Product((conv, scale)), selection)))
    assert lattice is not None
    assert lattice.deviation > 0
    largest = adversarial(Product((conv, scale, selection)), 1, radius)
    assert largest <= gram_symbol_bound(lattice, 12, (), by)
    assert not any(proves_frequencies(lattice, largest * fraction, by) for fraction in BELOW)


def test_without_its_deviation_a_stretch_would_be_bounded_too_low() -> None:
    """Two shifts with a diagonal of 1 +- r in between: alternating in one's taps, so that the sum over both counts."""
    n, radius = 40, 0.5
    first = Convolution(np.array([[[1.0, -1.0]]]), (1, n), strides=(1,), pads=((1, 1),), dilations=(1,))
    second = Convolution(np.array([[[1.0, 1.0]]]), (1, n + 1), strides=(1,), pads=((0, 0),), dilations=(1,))
    product = Product((second, Diagonal(np.ones(n + 1), radius), first))
    lattice = as_lattice(product)
    assert lattice is not None
    largest = adversarial(product, 1, radius)
    assert largest > 1.05 * circle_norm(lattice)  # that of a sine, 2
    assert lattice.weights.full_radius().max() < 1e-12
    assert not proves_symbol(lattice, largest * (1 - 1e-9), Arithmetic())
    assert largest <= circle_norm(lattice) + lattice.deviation


@pytest.mark.parametrize("seed", range(40))
def test_diagonals_at_the_ends_may_vary_from_pixel_to_pixel(seed: int) -> None:
    """The largest of each channel counts: the bound is that of the diagonal that is as large everywhere."""
    rng, by = np.random.default_rng([seed, 33]), Arithmetic()
    rank, radius = 1 + seed % 2, (0.0, 0.1)[seed % 3 == 0]
    conv = layer(rng, rank, largest=8)
    sides = [conv.out_shape, conv.in_shape]
    factors: list[LinearOperator] = [conv]
    largest: list[LinearOperator] = [conv]
    for i, shape in enumerate(sides):
        if (seed // 2 + i) % 3 == 0:
            continue
        value = rng.normal(size=(conv.copies, shape[0], math.prod(shape[1:])))
        top = (np.abs(value) * (1 + radius)).max(axis=(0, 2))
        diagonal = Diagonal(value.reshape(-1), radius * np.abs(value).reshape(-1))
        factors.insert(0 if i == 0 else len(factors), diagonal)
        largest.insert(0 if i == 0 else len(largest), per_channel(top, shape, conv.copies))
    op, above = Product(factors), Product(largest)
    lattice, reference = as_lattice(op), as_lattice(above)
    assert lattice is not None
    assert reference is not None
    norms = [dense_norm(some_member(rng, op, how)) for how in ("random", "larger")]
    circle = circle_norm(reference)
    assert max(norms) <= circle * TINY
    # where values happen to be alike over the map (maps of one pixel), the radius stays a radius
    assert circle_norm(lattice) + worst_of_radius(lattice) >= max(norms) * (1 - 1e-9)
    assert not any(proves_frequencies(lattice, max(norms) * fraction, by) for fraction in BELOW)
    assert gram_symbol_bound(lattice, 14, (), by) <= (undilated(reference) + worst_of_radius(lattice)) * 1.01 + 1e-300


# What is refused


def test_padded_after_padded_is_refused_as_the_symbol_of_the_product_is_exceeded() -> None:
    """1 + z and 1 - z + z^2 give 1 + z^3: what the first cuts off at the border would have cancelled the rest."""
    n = 12
    first = Convolution(np.array([[[1.0, -1.0]]]), (1, n), strides=(1,), pads=((1, 0),), dilations=(1,))
    sums = Convolution(np.ones((1, 1, n)), (1, n), strides=(1,), pads=((0, n - 1),), dilations=(1,))
    product = Product((sums, first))
    whole = np.convolve(np.ones(n), [-1.0, 1.0])
    assert np.count_nonzero(whole) == 2  # sums of differences: all that is left are the ends
    assert np.abs(np.fft.fft(whole, 512)).max() <= 2 * TINY
    assert dense_norm(product) > 2.4
    assert as_lattice(product) is None


def test_differences_of_sums_are_refused_in_any_nesting() -> None:
    n = 12
    first = Convolution(np.array([[[1.0, -1.0]]]), (1, n), strides=(1,), pads=((1, 0),), dilations=(1,))
    sums = Convolution(np.ones((1, 1, n)), (1, n), strides=(1,), pads=((0, n - 1),), dilations=(1,))
    one = Convolution(np.ones((1, 1, 1)), (1, n), strides=(1,), pads=((0, 0),), dilations=(1,))
    same = Identity(n)
    nestings: list[LinearOperator] = [
        Product((Product((sums, one)), first)),
        Product((sums, Product((one, first)))),
        Product((Sum((sums, same)), first)),
        Product((sums, Sum((first, same)))),
        Sum((Product((sums, first)), same)),
        Product((Transposed(first), Transposed(sums))),
        Product((Transposed(first), sums)),
        Product((sums, same, first)),
        Product((Sum((one, sums)), Sum((one, first)))),
    ]
    assert all(as_lattice(op) is None for op in nestings)


@pytest.mark.parametrize("pads", [(0, 1), (1, 0), (1, 1), (2, 0)], ids=str)
def test_what_is_cut_off_by_one_pixel_is_noticed(pads: tuple[int, int]) -> None:
    """The first convolution must be padded by all of its taps but one on both sides, or the second not at all."""
    rng = np.random.default_rng(5)
    inner, maps = convolution(rng, Maps(1, (8,)), (3,), pads=(pads,), out=1)
    outer = Convolution(rng.normal(size=(1, 1, 3)), maps.shape, strides=(1,), pads=((1, 0),), dilations=(1,))
    assert as_lattice(Product((outer, inner))) is None
    full, maps = convolution(rng, Maps(1, (8,)), (3,), pads=((2, 2),), out=1)
    outer = Convolution(rng.normal(size=(1, 1, 3)), maps.shape, strides=(1,), pads=((1, 0),), dilations=(1,))
    assert as_lattice(Product((outer, full))) is not None


def test_a_selection_that_goes_around_more_than_once_is_refused_as_outputs_come_twice() -> None:
    conv = Convolution(np.array([[[1.0, 1.0]]]), (1, 12), strides=(1,), pads=((0, 0),), dilations=(1,))
    selection, _ = wrap(Maps(1, (6,)), ((3, 3),))
    op = Product((conv, selection))
    assert dense_norm(op) > 1.37 * 2
    assert as_lattice(op) is None
    strided = Convolution(np.array([[[1.0, 1.0]]]), (1, 12), strides=(2,), pads=((0, 0),), dilations=(1,))
    assert dense_norm(Product((strided, selection))) > math.sqrt(2) * TINY
    assert as_lattice(Product((strided, selection))) is None


def test_strides_that_do_not_divide_a_circle_are_refused() -> None:
    """Windows of two every three pixels of four, or of one every two of three: some pixels are met twice."""
    for n, stride in ((3, 2), (5, 2), (4, 3), (7, 4)):
        selection, padded = wrap(Maps(1, (n,)), ((0, stride),))
        conv = Convolution(np.array([[[1.0]]]), padded.shape, strides=(stride,), pads=((0, 0),), dilations=(1,))
        assert as_lattice(Product((conv, selection))) is None
    selection, padded = wrap(Maps(1, (6,)), ((1, 1),))
    inner, maps = convolution(np.random.default_rng(0), padded, (3,), strides=(3,), out=1)
    assert maps.space == (2,)
    circular = Product((inner, selection))
    assert as_lattice(circular) is not None
    divided = Convolution(np.ones((1, 1, 1)), (1, 2), strides=(4,), pads=((0, 0),), dilations=(1,))
    assert as_lattice(Product((divided, circular))) is None  # 12 does not divide 6


@pytest.mark.parametrize("mode", ["reflect", "edge", "symmetric"])
def test_other_paddings_are_no_convolution(mode: str) -> None:
    for rank, amount in itertools.product((1, 2), (1, 2)):
        maps = Maps(2, (5,) * rank)
        selection, padded = wrap(maps, ((amount, amount),) * rank, mode)
        conv, _ = convolution(np.random.default_rng(0), padded, (3,) * rank)
        assert as_lattice(Product((conv, selection))) is None


def test_no_other_selection_passes_as_circular_padding() -> None:
    """One entry changed, maps exchanged, zeros in between, an axis turned around, another layout of the vector."""
    rng = np.random.default_rng(0)
    maps = Maps(2, (4, 6))
    selection, padded = wrap(maps, ((1, 1), (2, 1)))
    conv, _ = convolution(rng, padded, (3, 4))
    assert as_lattice(Product((conv, selection))) is not None
    size, index = maps.size, selection.index
    for i in range(index.size):
        for other in {(int(index[i]) + 1) % size, int(rng.integers(size)), -1, (int(index[i]) + 24) % size}:
            if other != index[i]:
                changed = index.copy()
                changed[i] = other
                assert as_lattice(Product((conv, Selection(changed, size)))) is None
    shaped = index.reshape(padded.shape)
    others = [shaped[::-1], shaped[:, ::-1], shaped[:, :, ::-1], np.roll(shaped, 1, axis=0)]
    for changed in others:
        assert as_lattice(Product((conv, Selection(changed, size)))) is None
    for space in ((6, 4), (2, 12), (12, 2), (24, 1), (1, 24), (3, 8), (8, 3), (4, 6)):
        layout = Maps(2, space)
        assert layout.size == size
        for pads in itertools.product(range(-2, 5), repeat=2):
            sides = [(p, n - m - p) for p, n, m in zip(pads, padded.space, layout.space, strict=True)]
            if all(-m < min(side) for side, m in zip(sides, layout.space, strict=True)):
                relaid, _ = wrap(layout, tuple(sides))
                exact_or_none(Product((conv, relaid)))


def exact_or_none(op: LinearOperator) -> bool:
    """Whether it is read as a convolution; then it is that one."""
    lattice = as_lattice(op)
    if lattice is None:
        return False
    written, dense = lattice_matrix(lattice), enclosed.dense(op).value
    size = 1 + np.abs(written).max(initial=0.0)
    readings = [r for r in (dense, dense.T) if r.shape == written.shape]
    assert any(np.abs(r - written).max(initial=0.0) <= 1e-12 * size for r in readings)
    return True


def test_diagonals_that_vary_inside_a_stretch_are_refused() -> None:
    rng = np.random.default_rng(0)
    inner, maps = convolution(rng, Maps(2, (8,)), (3,), out=2)
    outer, _ = convolution(rng, maps, (3,), out=2)
    places = np.ones(maps.size)
    places[3] = 1 + 2.0**-52
    varied, same = Diagonal(places), Diagonal(np.ones(maps.size))
    assert as_lattice(Product((outer, same, inner))) is not None
    refused: list[LinearOperator] = [
        Product((outer, varied, inner)),
        Product((Product((outer, varied)), inner)),
        Product((outer, Product((varied, inner)))),
        Product((outer, Sum((varied, same)), inner)),
        Sum((Product((varied, inner)), inner)),
        Product((same, varied, inner)),
    ]
    assert [as_lattice(op) for op in refused[:5]] == [None] * 5
    assert as_lattice(refused[5]) is None  # only the outermost factor may
    two = Maps(2, (8,), 2)
    inner, maps = convolution(rng, two, (3,), out=2)
    outer, _ = convolution(rng, maps, (3,), out=2)
    by_copy = Diagonal(np.repeat([1.0, 2.0], maps.size // 2))
    assert as_lattice(Product((outer, by_copy, inner))) is None


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (Maps(2, (6, 6)), Maps(6, (2, 6))),
        (Maps(2, (6, 6)), Maps(8, (3, 3))),
        (Maps(2, (6, 6)), Maps(6, (6, 2))),
        (Maps(2, (6, 6)), Maps(2, (4, 9))),
        (Maps(2, (6, 6)), Maps(1, (6, 6), 2)),
        (Maps(2, (6, 6)), Maps(2, (36,))),
        (Maps(2, (6, 6)), Maps(2, (1, 6, 6))),
        (Maps(2, (6, 6)), Maps(12, (6,))),
        (Maps(2, (6, 6)), Maps(1, (6,), 12)),
        (Maps(1, (6, 6)), Maps(6, (6, 1))),
        (Maps(4, (6,)), Maps(2, (6,), 2)),
        (Maps(4, (6,)), Maps(6, (4,))),
        (Maps(4, (6,)), Maps(24, (1,))),
    ],
    ids=str,
)
def test_vectors_that_only_agree_in_size_do_not_meet(written: Maps, read: Maps) -> None:
    """A convolution of one tap or more after another, a sum, a diagonal or a selection between other layouts."""
    rng = np.random.default_rng(1)
    assert written.size == read.size
    for side in (1, 2):
        before = tuple(min(side, n) for n in written.space)
        pads = tuple((k - 1, 0) for k in before)
        inner, _ = convolution(rng, written, before, pads=pads, out=written.channels)
        after = tuple(min(side, n) for n in read.space)
        outer, _ = convolution(rng, read, after, out=read.channels)
        same, _ = convolution(rng, read, after, pads=tuple((k - 1, 0) for k in after), out=read.channels)
        assert as_lattice(Product((outer, inner))) is None
        assert as_lattice(Sum((same, inner))) is None
        selection, padded = wrap(read, tuple((0, k - 1) for k in after))
        around, _ = convolution(rng, padded, after, out=read.channels)
        exact_or_none(Product((around, selection, inner)))
        scale = per_channel(rng.normal(size=read.channels), read.shape, read.copies)
        if inner.in_size == inner.out_size:
            exact_or_none(Sum((inner, scale)))  # one factor a channel may be the same vector in both layouts
        exact_or_none(Product((outer, scale, same)))


@pytest.mark.parametrize("part", range(4))
def test_no_product_or_sum_of_what_fits_by_size_alone_is_misread(part: int) -> None:
    """Hundreds of operators whose vectors are laid out at random: what is accepted is what it is read as."""
    kinds = Counter[bool]()
    for seed in range(250):
        rng = np.random.default_rng([seed, part, 34])
        rank = int(rng.integers(1, 4))
        size = int(rng.choice([4, 6, 8, 12, 16, 24, 36, 48]))

        def laid_out(size: int = size, rank: int = rank, rng: np.random.Generator = rng) -> Maps:
            copies, channels, *space = random_shape(rng, size, rank + 2)
            return Maps(channels, tuple(space), copies)

        parts: list[LinearOperator] = []
        for _ in range(3):
            maps = laid_out()
            fits = part == 3 or rng.random() < 0.7
            step = convolution(rng, maps, (1,) * rank, out=maps.channels) if fits else random_step(rng, maps)
            parts.append(step[0])
        ops: list[LinearOperator] = [
            Product((a, b)) for a, b in itertools.permutations(parts, 2) if a.in_size == b.out_size
        ]
        ops += [Sum((a, b)) for a, b in itertools.combinations(parts, 2) if a.size == b.size]
        for op in ops:
            lattice = as_lattice(op)
            kinds[lattice is not None] += 1
            ends = isinstance(op, Product) and any(isinstance(f, Diagonal) for f in op.factors)
            if lattice is not None and ends:  # replaced by the largest of each channel
                assert dense_norm(op) <= circle_norm(lattice) * TINY, seed
            elif lattice is not None:
                assert exact_or_none(op), seed
    assert min(kinds.values()) >= 20


def test_sums_of_other_strides_spaces_or_paddings_are_refused() -> None:
    rng = np.random.default_rng(0)
    maps = Maps(2, (6, 6))
    same = convolution(rng, maps, (3, 3), pads=((1, 1), (1, 1)), out=2)[0]
    selection, padded = wrap(maps, ((1, 1), (1, 1)))
    around = Product((convolution(rng, padded, (3, 3), out=2)[0], selection))
    strided = convolution(rng, maps, (3, 3), pads=((4, 4), (4, 4)), strides=(2, 2), out=2)[0]
    assert strided.size == same.size
    skewed = convolution(rng, maps, (1, 1), pads=((5, 1), (0, 0)), strides=(2, 1), out=2)[0]
    refused: list[LinearOperator] = [
        Sum((same, around)),  # zeros and a circle
        Sum((same, strided)),
        Sum((strided, Identity(maps.size))),
        Sum((same, Dense(np.eye(maps.size)))),
        Sum((same, selection_of(maps.size))),
        Sum((Identity(maps.size), Identity(maps.size))),
        Sum((Identity(maps.size), Diagonal(np.ones(maps.size)))),
    ]
    if skewed.size == same.size:
        refused.append(Sum((same, skewed)))
    assert [as_lattice(op) for op in refused] == [None] * len(refused)
    inside = convolution(rng, maps, (1, 1), out=2)[0]
    assert exact_or_none(Sum((around, inside)))
    assert exact_or_none(Sum((around, Identity(maps.size))))


def selection_of(n: int) -> Selection:
    return Selection(np.arange(n), n)


def test_what_holds_no_convolution_is_refused() -> None:
    n = 12
    others: list[LinearOperator] = [
        Identity(n),
        Dense(np.eye(n)),
        Diagonal(np.ones(n)),
        selection_of(n),
        Reduction((3, 4), (1,)),
        Transposed(Dense(np.eye(n))),
        Transposed(selection_of(n)),
        Product((Identity(n), Identity(n))),
        Product((Diagonal(np.ones(n)), selection_of(n))),
        Row((plain(np.ones((1, 1, 3)), size=n), plain(np.ones((1, 1, 3)), size=n))),
        Product((selection_of(4), plain(np.ones((1, 1, 3))))),
        Product((Dense(np.eye(4)), plain(np.ones((1, 1, 3))))),
        Product((Transposed(plain(np.ones((1, 1, 3)), strides=2)), plain(np.ones((1, 1, 3)), strides=2))),
    ]
    assert [as_lattice(op) for op in others] == [None] * len(others)
