"""Gram iteration never gives less than the norm of any matrix enclosed, and its error terms cover all roundings."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from flint import acb, acb_mat, arb

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.balls import BallArithmetic
from lipcert.certificate.claim import Gram
from lipcert.certificate.gram import MAX_ITERATIONS, gram_bound, gram_symbol_bound
from lipcert.certificate.lattice import Lattice, as_lattice
from lipcert.certificate.norms import norm_bound
from lipcert.certificate.symbol import MAX_CELLS, symbol_kernel
from lipcert.errors import NotProvedError
from lipcert.operators import Convolution, Dense, Diagonal, Identity, LinearOperator, Product, Sum
from tests.helpers.balls import precision
from tests.helpers.exact import member, norm_is_at_most, random_enclosure
from tests.helpers.lattices import circle_norm, lattice_supremum
from tests.helpers.symbols import dressed, layer, per_channel, plain, sampled_supremum, scaled_kernel

in_both = pytest.mark.parametrize("arithmetic", [Arithmetic, BallArithmetic], ids=["float64", "balls"])

SCALES = [1e-320, 1e-300, 1e-160, 1e-140, 1e-30, 1.0, 1e30, 1e140, 1e160, 1e300]

GRIDS = {1: (48,), 2: (24, 24), 3: (12, 12, 12)}


def lattice_of(op: LinearOperator) -> Lattice:
    found = as_lattice(op)
    assert found is not None
    return found


def ill_conditioned(seed: int) -> np.ndarray:
    """Small matrices of full and of low rank, graded rows, cancelling products, close singular values."""
    rng = np.random.default_rng([seed, 40])
    m, n = (int(k) for k in rng.integers(1, 6, size=2))
    kind = seed % 6
    if kind == 0:
        return rng.normal(size=(m, n))
    if kind == 1:
        return np.outer(rng.normal(size=m), rng.normal(size=n))
    if kind == 2:
        return rng.normal(size=(m, n)) * np.logspace(0, -300, m)[:, None]
    if kind == 3:  # rows that are almost the same, of both signs: products cancel
        return np.tile(rng.normal(size=n), (m, 1)) * rng.choice([-1, 1], size=(m, 1)) + 1e-15 * rng.normal(size=(m, n))
    if kind == 4:
        return np.eye(m, n) * (1 + 1e-14 * rng.normal(size=(m, 1)))
    return np.vander(rng.random(m) + 0.5, n)


def exact_bound(matrix: np.ndarray, iterations: int, bits: int = 600) -> float:
    """|H_K|_F^(2^-K), iterated in balls; complex matrices too."""
    with precision(bits):
        entries = [[acb(float(z.real), float(z.imag)) for z in row] for row in matrix.astype(complex)]
        w = acb_mat(entries)
        if w.nrows() > w.ncols():
            w = w.transpose()
        for _ in range(iterations):
            conjugate = acb_mat([[w[i, j].conjugate() for i in range(w.nrows())] for j in range(w.ncols())])
            w = w * conjugate
        total = sum((abs(z) ** 2 for z in w.entries()), arb(0))
        root = total.sqrt()
        for _ in range(iterations):
            root = root.sqrt()
        return float(root.mid())


@pytest.mark.parametrize("seed", range(60))
def test_the_bound_is_that_of_exact_iteration_and_a_little_more(seed: int) -> None:
    """In 600 bits: never less, and hardly more. Orthogonal rows lose most: errors are of the size of their number."""
    matrix = ill_conditioned(seed)
    norm = float(np.linalg.norm(matrix, 2))
    for iterations in (1, 2, 3, 5, 8, 12, 20, 30):
        true, found = exact_bound(matrix, iterations), gram_bound(Enclosure(matrix), iterations)
        assert true <= found <= true * (1 + (1e-7 if seed % 6 == 4 else 1e-11)), iterations
        assert norm <= found * (1 + 1e-14), iterations
        assert found <= norm * min(matrix.shape) ** (2.0 ** -(iterations + 1)) * (1 + 1e-7), iterations


@pytest.mark.parametrize("seed", range(40))
def test_no_member_of_an_enclosure_has_a_larger_norm(seed: int) -> None:
    """Decided in exact arithmetic."""
    rng = np.random.default_rng([seed, 41])
    shape = tuple(int(k) for k in rng.integers(1, 6, size=2))
    enclosure = random_enclosure(rng, shape, (1.0, 1e-140, 1e140)[seed % 3])
    members = [member(rng, enclosure) for _ in range(3)]
    for iterations in (1, 2, 4, 8, 16, 30):
        bound = gram_bound(enclosure, iterations)
        assert all(norm_is_at_most(m, 2, 2, bound) for m in members), iterations


def test_the_worst_member_of_a_radius_is_bounded() -> None:
    """A matrix of ones with a radius: the largest member is (1 + r) of it."""
    for r, iterations in itertools.product((1e-12, 1e-3, 0.5), (1, 3, 30)):
        found = gram_bound(Enclosure(np.ones((3, 4)), r), iterations)
        assert (1 + r) * math.sqrt(12) <= found
        assert iterations > 1 or found <= (1 + 2 * r) * math.sqrt(12) * (1 + 1e-9)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (1, 4), (4, 1), (1, 1)], ids=str)
def test_every_scale_is_proven_or_refused(shape: tuple[int, int], scale: float) -> None:
    matrix = np.random.default_rng(0).normal(size=shape)
    scaled = matrix * scale
    for iterations in (1, 6, 30):
        with np.errstate(over="ignore", invalid="ignore"):
            bound = gram_bound(Enclosure(scaled), iterations)
        true = exact_bound(matrix, 200, 2000) if iterations == 30 else exact_bound(matrix, iterations)
        smallest = exact_bound(scaled, iterations, 4000) if scale < 1e-300 else true * scale
        assert bound >= smallest * (1 - 1e-12)
        if scale >= 1e-250:
            assert bound <= exact_bound(matrix, iterations) * scale * (1 + 1e-9)


@pytest.mark.parametrize("iterations", [1, 12, 30])
def test_zero_and_empty_matrices_have_the_bound_of_roundings_only(iterations: int) -> None:
    for shape in ((2, 3), (1, 1), (0, 3), (3, 0), (0, 0)):
        assert 0 <= gram_bound(Enclosure(np.zeros(shape)), iterations) < 1e-150
    assert gram_symbol_bound(lattice_of(plain(np.zeros((2, 2, 3)))), iterations, (), Arithmetic()) == 0.0
    assert gram_symbol_bound(lattice_of(plain(np.zeros((2, 2, 3)))), iterations, (32,), Arithmetic()) == 0.0
    loose = lattice_of(plain(np.zeros((1, 1, 3)), radius=np.full((1, 1, 3), 0.5)))
    for grid in ((), (32,)):
        assert gram_symbol_bound(loose, iterations, grid, Arithmetic()) >= 1.5


@in_both
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e308])
def test_what_is_not_finite_or_overflows_is_refused(bad: float, arithmetic: type[Arithmetic]) -> None:
    by, good = arithmetic(), np.ones((2, 2, 3))
    damaged = good.copy()
    damaged[1, 0, 2] = bad
    zeroed = np.zeros((2, 2, 3))
    zeroed[0, 0, 0] = bad
    conv = plain(good)
    loose = Diagonal(np.ones(conv.out_size), np.where(np.arange(conv.out_size) == 1, abs(bad), 0.0))
    ops: list[LinearOperator] = [
        plain(damaged),
        plain(zeroed),
        plain(good, radius=np.abs(damaged)),
        Product((per_channel(np.array([1.0, bad]), conv.out_shape), conv)),
        Product((loose, conv)),
        Product((plain(good[:, :, :1]), loose, conv)),
        Sum((conv, per_channel(np.array([1.0, bad]), conv.out_shape))),
        Dense(damaged.reshape(2, 6)),
        Dense(np.ones((2, 6)), np.abs(damaged.reshape(2, 6))),
    ]
    for op, grid in itertools.product(ops, ((), (64,))):
        for iterations in (1, 5, 30):
            with np.errstate(all="ignore"):
                try:
                    bound = norm_bound(op, 2.0, 2.0, Gram(iterations, grid), by)
                except NotProvedError:
                    continue
            assert bad == 1e308  # one such number may still be squared after scaling
            assert bound >= 1e308 or op is ops[4]
            assert not math.isnan(bound)


@in_both
@pytest.mark.parametrize("iterations", [0, -1, -(10**30), MAX_ITERATIONS + 1, 10**30])
def test_too_few_and_too_many_iterations_are_refused(iterations: int, arithmetic: type[Arithmetic]) -> None:
    for op in (plain(np.ones((1, 1, 3))), Dense(np.ones((2, 2))), plain(np.ones((2, 2, 1)))):
        with pytest.raises(NotProvedError):
            norm_bound(op, 2.0, 2.0, Gram(iterations, ()), arithmetic())


def test_wrong_grids_are_refused() -> None:
    two, dense = plain(np.ones((1, 1, 3, 3))), Dense(np.ones((2, 2)))
    one_tap, pointwise = plain(np.ones((1, 1, 1, 3))), plain(np.ones((2, 2, 1)))
    four = Convolution(
        np.ones((1, 1, 2, 2, 2, 2)), (1, 3, 3, 3, 3), strides=(1,) * 4, pads=((0, 0),) * 4, dilations=(1,) * 4
    )
    wrong: list[tuple[LinearOperator, tuple[int, ...]]] = [
        (two, (16,)),
        (two, (16, 16, 16)),
        (two, (0, 16)),
        (two, (-16, -16)),
        (two, (16, -1)),
        (two, (4, 4)),  # tau is pi / 2
        (two, (2, 1000)),
        (two, (1, 1)),
        (two, (10**9, 10**9)),
        (two, (10**400, 16)),
        (two, (MAX_CELLS, 2)),
        (one_tap, (16, 16)),
        (one_tap, (2,)),
        (pointwise, (16,)),
        (dense, (16,)),
        (four, (16, 16, 16, 16)),
        (four, ()),
    ]
    for op, grid in wrong:
        with pytest.raises(NotProvedError):
            norm_bound(op, 2.0, 2.0, Gram(4, grid), Arithmetic())
    for op, grid in ((two, (5, 5)), (one_tap, (3,)), (pointwise, ()), (dense, ()), (two, ())):
        assert norm_bound(op, 2.0, 2.0, Gram(12, grid), Arithmetic()) > 0


@pytest.mark.parametrize(("rank", "seed"), [(r, s) for r, n in ((1, 30), (2, 20), (3, 6)) for s in range(n)])
def test_a_grid_bounds_the_supremum_and_so_maps_of_any_size(rank: int, seed: int) -> None:
    """Coarse ones too: the 1 / cos(tau) covers what lies between their points."""
    rng, by = np.random.default_rng([rank, seed, 42]), Arithmetic()
    op = dressed(rng, layer(rng, rank))
    lattice, supremum = lattice_of(op), sampled_supremum(*scaled_kernel(op))
    axes = len(symbol_kernel(lattice).extents)
    fine = gram_symbol_bound(lattice, 14, GRIDS[rank][:axes], by)
    assert supremum * (1 - 1e-12) <= fine
    for _ in range(4):
        grid = tuple(int(n) for n in rng.integers(2, 24, size=axes))
        try:
            coarse = gram_symbol_bound(lattice, 14, grid, by)
        except NotProvedError:
            continue
        assert supremum * (1 - 1e-12) <= coarse
    if rank == 1:
        large = Convolution(
            lattice.weights.value,
            (lattice.channels[1], 200),
            strides=lattice.strides,
            pads=((4, 5),),
            dilations=lattice.dilations,
            groups=lattice.groups,
        )
        assert float(np.linalg.norm(large.matrix(), 2)) <= fine


@pytest.mark.parametrize("kernel", [(2,), (3,), (6,), (2, 2), (3, 2), (1, 5), (2, 2, 2)], ids=str)
def test_grids_for_which_the_enlargement_is_sharp(kernel: tuple[int, ...]) -> None:
    """Two taps at opposite corners, 2 cos(d.w), and waves that are largest between the points of the grid."""
    for signs, count in itertools.product((1.0, -1.0), (3, 5, 8, 9)):
        taps = np.zeros(kernel)
        taps[(0,) * len(kernel)], taps[(-1,) * len(kernel)] = 1.0, signs
        lattice = lattice_of(plain(taps[None, None], size=5))
        axes = len(symbol_kernel(lattice).extents)
        for more in (0, 7):
            grid = tuple((count + more) * max(kernel) for _ in range(axes))
            assert gram_symbol_bound(lattice, 12, grid, Arithmetic()) >= 2
    for seed in range(20):
        rng = np.random.default_rng([seed, 43])
        turn = float(rng.uniform(-np.pi, np.pi))
        weights = np.zeros((2, 2, 4))
        for i in range(4):
            weights[:, :, i] = [
                [math.cos(turn * i), -math.sin(turn * i)],
                [math.sin(turn * i), math.cos(turn * i)],
            ]
        for count in (7, 8, 9, 20):
            assert gram_symbol_bound(lattice_of(plain(weights)), 12, (count,), Arithmetic()) >= 4


@pytest.mark.parametrize("seed", range(30))
def test_members_of_a_kernels_radius_are_bounded(seed: int) -> None:
    rng = np.random.default_rng([seed, 44])
    radius = (1e-9, 0.1, 1.0)[seed % 3]
    conv = layer(rng, 1 + seed % 2, radius=radius, largest=8)
    lattice = lattice_of(conv)
    axes = len(symbol_kernel(lattice).extents)
    bounds = [gram_symbol_bound(lattice, 10, grid, Arithmetic()) for grid in ((), GRIDS[len(conv.kernel)][:axes])]
    for how in (rng.choice([-1, 1], size=conv.weights.shape), np.sign(conv.weights)):
        other = conv.with_weights(conv.weights + how * conv.radius)
        assert circle_norm(lattice_of(other)) <= bounds[0]
        assert lattice_supremum(lattice_of(other)) <= bounds[1]


@pytest.mark.parametrize("seed", range(24))
def test_one_channel_and_one_rank_need_one_step(seed: int) -> None:
    """Where the symbol has rank one its Frobenius norm is its norm: more steps change nothing."""
    rng = np.random.default_rng([seed, 45])
    lanes, out = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    weights = rng.normal(size=(1, lanes, 3)) if seed % 2 else rng.normal(size=(out, 1, 3))
    lattice = lattice_of(plain(weights, size=7))
    true = circle_norm(lattice)
    for iterations in (1, 2, 9, 30):
        bound = gram_symbol_bound(lattice, iterations, (), Arithmetic())
        assert true * (1 - 1e-12) <= bound <= true * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_complex_symbols_are_iterated_as_they_are_in_600_bits(seed: int) -> None:
    """Two taps of a circle with four frequencies, where phases are exact."""
    rng = np.random.default_rng([seed, 46])
    weights = rng.normal(size=(3, 2, 2)) * np.logspace(0, -12 * (seed % 3), 3)[:, None, None]
    lattice = lattice_of(plain(weights, size=3))
    assert lattice.periods == (4,)
    symbols = [weights[:, :, 0] + (1, -1j, -1, 1j)[j] * weights[:, :, 1] for j in range(4)]
    for iterations in (1, 2, 5, 10, 25):
        true = max(exact_bound(s, iterations) for s in symbols)
        found = gram_symbol_bound(lattice, iterations, (), Arithmetic())
        assert true <= found <= true * (1 + 1e-10)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e-140, 1e-30, 1e30, 1e140, 1e160, 1e300])
def test_symbols_of_every_scale(scale: float) -> None:
    weights = np.random.default_rng(3).normal(size=(2, 3, 3))
    true, supremum = circle_norm(lattice_of(plain(weights))), sampled_supremum(plain(weights))
    lattice = lattice_of(plain(weights * scale))
    with np.errstate(over="ignore"):
        for iterations in (1, 4, 12, 30):
            assert gram_symbol_bound(lattice, iterations, (), Arithmetic()) >= true * scale * (1 - 1e-12)
            assert gram_symbol_bound(lattice, iterations, (24,), Arithmetic()) >= supremum * scale * (1 - 1e-12)
        assert gram_symbol_bound(lattice, 12, (), Arithmetic()) <= true * scale * (1 + 1e-3)


@pytest.mark.parametrize("seed", range(12))
def test_both_arithmetics_give_the_same(seed: int) -> None:
    """Gram iteration has error terms of its own; strict mode adds the dense form in balls."""
    rng = np.random.default_rng([seed, 47])
    conv = layer(rng, 1 + seed % 2, largest=6)
    ops: list[LinearOperator] = [
        conv,
        dressed(rng, conv),
        Product((Dense(rng.normal(size=(3, conv.out_size))), conv)),
        Sum((Dense(rng.normal(size=(4, 4))), Identity(4))),
    ]
    for op in ops:
        dense = float(np.linalg.norm(Arithmetic().dense(op).value, 2))
        floats, balls = (norm_bound(op, 2.0, 2.0, Gram(8, ()), by()) for by in (Arithmetic, BallArithmetic))
        assert dense * (1 - 1e-12) <= min(floats, balls)
        assert floats == pytest.approx(balls, rel=1e-9)


def test_norms_other_than_l2_are_converted() -> None:
    conv = plain(np.random.default_rng(0).normal(size=(2, 3, 3)))
    l2 = norm_bound(conv, 2.0, 2.0, Gram(8, ()), Arithmetic())
    assert norm_bound(conv, math.inf, 2.0, Gram(8, ()), Arithmetic()) >= l2 * math.sqrt(conv.in_size)
    assert norm_bound(conv, 2.0, 1.0, Gram(8, ()), Arithmetic()) >= l2 * math.sqrt(conv.out_size)
