"""No rule ever gives less than the norm of any matrix that the operator may be, decided in exact arithmetic."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.certificate import norms
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.balls import BallArithmetic
from lipcert.certificate.claim import Entrywise, Factors, NormProof, Overlap, Spectral, Taps, Terms
from lipcert.certificate.norms import norm_bound
from lipcert.errors import NotProvedError
from lipcert.operators import (
    Convolution,
    Dense,
    Diagonal,
    Identity,
    LinearOperator,
    Product,
    Reduction,
    Row,
    Selection,
    Sum,
)
from tests.helpers.exact import member_matrix, norm_is_at_most
from tests.helpers.operators import KINDS, as_fractions, matrix_by_definition, random_convolution, random_operator

NORMS = (1.0, 2.0, math.inf)
PAIRS = list(itertools.product(NORMS, NORMS))
ARITHMETICS = [Arithmetic, BallArithmetic]
in_both = pytest.mark.parametrize("arithmetic", ARITHMETICS, ids=["float64", "balls"])


def make(kind: str, seed: int, radius: float = 0.5) -> tuple[np.random.Generator, LinearOperator]:
    rng = np.random.default_rng([seed, *kind.encode()])
    if kind == "row":
        return rng, Row([random_operator(rng, n, 3, radius=radius) for n in (2, 3, 1)])
    return rng, random_operator(rng, int(rng.choice([2, 4, 6])), kind=kind, radius=radius, largest=6)


def smallest_sigma(matrices: list[Enclosure], by: Arithmetic) -> float:
    """The first of a growing sequence of numbers that the arithmetic proves to bound all the matrices."""
    size = max((float(np.linalg.norm(m.value, 2)) if m.value.size else 0.0 for m in matrices), default=0.0)
    for excess in (0.0, 1e-14, 1e-12, 1e-10, 1e-8, 1e-5, 1e-3, 0.01, 0.1, 1.0, 10.0):
        if all(by.proves_spectral(m, size * (1 + excess) + 1e-30 * excess) for m in matrices):
            return size * (1 + excess) + 1e-30 * excess
    raise AssertionError("nothing is proven")


def proofs_of(op: LinearOperator, p: float, q: float, by: Arithmetic) -> list[NormProof]:
    """A proof by every rule that applies to the operator."""
    found: list[NormProof] = [Entrywise(), Spectral(smallest_sigma([by.dense(op)], by))]
    if isinstance(op, Convolution):
        found.append(Overlap(smallest_sigma(norms.unfolded(op), by)))
        found.append(Taps(tuple(smallest_sigma(groups, by) for groups in norms.tap_matrices(op))))
    if isinstance(op, Product):
        last = len(op.factors) - 1
        ends = [(p if i == last else 2.0, q if i == 0 else 2.0) for i in range(len(op.factors))]
        choices = zip(*(proofs_of(f, *e, by)[:2] for f, e in zip(op.factors, ends, strict=True)), strict=True)
        found += [Factors(tuple(parts)) for parts in choices]
    if isinstance(op, Sum | Row):
        terms = op.terms if isinstance(op, Sum) else op.blocks
        found += [Terms(parts) for parts in zip(*(proofs_of(t, p, q, by)[:2] for t in terms), strict=True)]
    return found


@pytest.mark.one_in(3)
@in_both
@pytest.mark.parametrize("kind", [*KINDS, "row"])
def test_no_rule_gives_less_than_the_norm_of_a_member(kind: str, arithmetic: type[Arithmetic]) -> None:
    for seed in range(16 if arithmetic is Arithmetic else 4):
        rng, op = make(kind, seed)
        by = arithmetic()
        members = [member_matrix(rng, op) for _ in range(3)]
        for p, q in PAIRS:
            for proof in proofs_of(op, p, q, by):
                bound = norm_bound(op, p, q, proof, by)
                assert all(norm_is_at_most(m, p, q, bound) for m in members), (seed, p, q, proof)


@pytest.mark.parametrize("kind", [*KINDS, "row"])
def test_entries_bound_the_norm_of_operators_that_are_not_written_out(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(norms, "DENSE_LIMIT", -1)
    for seed in range(6):
        rng, op = make(kind, seed)
        members = [member_matrix(rng, op) for _ in range(3)]
        for p, q in PAIRS:
            bound = norm_bound(op, p, q, Entrywise(), Arithmetic())
            assert all(norm_is_at_most(m, p, q, bound) for m in members), (seed, p, q)
        with pytest.raises(NotProvedError, match="size limit"):
            norm_bound(op, 2.0, 2.0, Spectral(1e9), Arithmetic())


@pytest.mark.parametrize("seed", range(25))
def test_overlap_and_taps_bound_every_kind_of_convolution(seed: int) -> None:
    rng = np.random.default_rng(seed)
    op = random_convolution(rng, int(rng.choice([6, 8, 12])), radius=0.3)
    by = Arithmetic()
    members = [member_matrix(rng, op) for _ in range(2)]
    for proof in proofs_of(op, 2.0, 2.0, by)[2:]:
        assert all(norm_is_at_most(m, 2, 2, norm_bound(op, 2.0, 2.0, proof, by)) for m in members)


@in_both
@pytest.mark.parametrize("groups", [1, 2])
def test_the_worst_convolution_within_a_radius_is_bounded(groups: int, arithmetic: type[Arithmetic]) -> None:
    """Windows side by side, so that the rule of overlaps is exact, and one tap, so that that of taps is."""
    rng, by = np.random.default_rng(0), arithmetic()
    for kernel in (1, 3):
        weights = rng.random((4, 4 // groups, kernel)) + 0.1
        op = Convolution(
            weights, (4, 6), strides=(kernel,), pads=((0, 0),), dilations=(1,), groups=groups, radius=weights / 2
        )
        worst = matrix_by_definition(op, lambda leaf: as_fractions(leaf.weights) * Fraction(3, 2))
        overlap, taps = proofs_of(op, 2.0, 2.0, by)[2:]
        assert norm_is_at_most(worst, 2, 2, norm_bound(op, 2.0, 2.0, overlap, by))
        assert norm_is_at_most(worst, 2, 2, norm_bound(op, 2.0, 2.0, taps, by))


@pytest.mark.parametrize("seed", range(40))
def test_overlap_is_how_often_a_pixel_is_read(seed: int) -> None:
    """Counted on the matrix of a kernel of ones between single channels."""
    op = random_convolution(np.random.default_rng(seed), 24)
    ones = Convolution(
        np.ones((1, 1, *op.kernel)), (1, *op.in_shape[1:]), strides=op.strides, pads=op.pads, dilations=op.dilations
    )
    assert norms.overlap(op) == norms.overlap(ones)
    assert norms.overlap(op) >= matrix_by_definition(ones).sum(axis=0).max()


@pytest.mark.parametrize(("k", "s", "d"), itertools.product((1, 2, 3, 5), (1, 2, 3, 4), (1, 2, 3)))
def test_overlap_is_reached_on_long_maps(k: int, s: int, d: int) -> None:
    op = Convolution(np.ones((1, 1, k)), (1, 60), strides=(s,), pads=((0, 0),), dilations=(d,))
    assert norms.overlap(op) == matrix_by_definition(op).sum(axis=0).max()


@in_both
@pytest.mark.parametrize(("p", "q"), [(p, q) for p, q in PAIRS if p == 1 or q == math.inf])
def test_entries_give_the_norm_itself_from_l1_and_to_linf(p: float, q: float, arithmetic: type[Arithmetic]) -> None:
    for kind, seed in itertools.product((*KINDS, "row"), range(2)):
        _, op = make(kind, seed, radius=0.0)
        matrix = as_fractions(matrix_by_definition(op).astype(float))
        bound = norm_bound(op, p, q, Entrywise(), arithmetic())
        assert bound < 1e-300 or not norm_is_at_most(matrix, p, q, bound * (1 - 1e-11)), (kind, seed)


@pytest.mark.parametrize(("p", "q"), PAIRS)
def test_entries_give_the_norm_itself_where_they_are_of_one_sign(p: float, q: float) -> None:
    """Of non-negative matrices the row and column rules are exact, but for l2 to l2."""
    matrix = np.random.default_rng(0).random((4, 5))
    bound = norm_bound(Dense(matrix), p, q, Entrywise(), Arithmetic())
    if (p, q) == (2, 2):
        assert bound <= np.linalg.norm(matrix) * (1 + 1e-12)
        assert bound <= math.sqrt(matrix.sum(axis=0).max() * matrix.sum(axis=1).max()) * (1 + 1e-12)
    else:
        assert not norm_is_at_most(as_fractions(matrix), p, q, bound * (1 - 1e-12))


def test_rules_are_tight_where_they_should_be() -> None:
    by, big = Arithmetic(), 3000
    assert norm_bound(Identity(big), 2.0, 2.0, Entrywise(), by) == pytest.approx(1, rel=1e-12)
    assert norm_bound(Reduction((2, 8), (1,)), 2.0, 2.0, Entrywise(), by) == pytest.approx(math.sqrt(8), rel=1e-12)
    assert norm_bound(Selection(np.zeros(4), 2), 2.0, 2.0, Entrywise(), by) == pytest.approx(2, rel=1e-12)
    weights = np.random.default_rng(0).normal(size=(2, 3))
    copied = Dense(weights, copies=2000)
    assert not norms.is_affordable(copied)
    np.testing.assert_allclose(norms.row_norms(copied, 2.0, by)[:2], np.linalg.norm(weights, axis=1), rtol=1e-12)
    columns = norms.row_norms(copied, 2.0, by, adjoint=True)
    np.testing.assert_allclose(columns[:3], np.linalg.norm(weights, axis=0), rtol=1e-12)


@in_both
@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("limit", [norms.DENSE_LIMIT, -1])
def test_row_norms_and_magnitudes_bound_those_of_members(
    p: float, limit: int, arithmetic: type[Arithmetic], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(norms, "DENSE_LIMIT", limit)
    for kind in (*KINDS, "row"):
        rng, op = make(kind, 3)
        by = arithmetic()
        v = {False: np.abs(rng.normal(size=op.in_size)), True: np.abs(rng.normal(size=op.out_size))}
        for adjoint in (False, True):
            found = norms.row_norms(op, p, by, adjoint)
            product = norms.magnitude(op, v[adjoint], by, adjoint)
            for _ in range(3):
                matrix = member_matrix(rng, op)
                matrix = matrix.T if adjoint else matrix
                for row, bound in zip(matrix, found, strict=True):
                    # the norm of a row is that of the functional from the dual space
                    assert norm_is_at_most(row[:, None], 1, p, bound), (kind, adjoint)
                assert np.all(as_fractions(product) >= abs(matrix) @ as_fractions(v[adjoint]))


SPREAD = Dense(np.array([[3.0, 4.0], [0.0, 5.0]]))
CONV = Convolution(np.array([[[1.0, -2.0, 1.0]]]), (1, 8), strides=(1,), pads=((1, 1),), dilations=(1,))


@in_both
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -7.0, -1e-9, 0.0, 1e-300])
def test_a_sigma_that_is_no_bound_is_refused(bad: float, arithmetic: type[Arithmetic]) -> None:
    by = arithmetic()
    for op, proof in (
        (SPREAD, Spectral(bad)),
        (CONV, Overlap(bad)),
        (CONV, Taps((1.1, bad, 1.1))),
        (Product([SPREAD, SPREAD]), Factors((Spectral(bad), Spectral(bad)))),
        (Sum([SPREAD, SPREAD]), Terms((Spectral(9.0), Spectral(bad)))),
        (Row([SPREAD, SPREAD]), Terms((Spectral(bad), Spectral(9.0)))),
    ):
        with np.errstate(all="ignore"), pytest.raises(NotProvedError):
            norm_bound(op, 2.0, 2.0, proof, by)


@in_both
def test_a_sigma_just_below_the_norm_is_refused(arithmetic: type[Arithmetic]) -> None:
    by, below = arithmetic(), 1 - 1e-13
    norm, unfolded = float(np.linalg.norm(SPREAD.weights, 2)), math.sqrt(6)
    for op, good, bad in (
        (SPREAD, Spectral(norm * 1.0001), Spectral(norm * below)),
        (CONV, Overlap(unfolded * 1.0001), Overlap(unfolded * below)),
        (CONV, Taps((1.001, 2.001, 1.001)), Taps((1.001, 2 * below, 1.001))),
    ):
        assert norm_bound(op, 2.0, 2.0, good, by) < 10
        with pytest.raises(NotProvedError, match=r"sigma\^2 I - W W' > 0 fails"):
            norm_bound(op, 2.0, 2.0, bad, by)


@in_both
@pytest.mark.parametrize(
    ("op", "proof"),
    [
        (SPREAD, Overlap(100.0)),
        (SPREAD, Taps((100.0,))),
        (SPREAD, Factors((Spectral(100.0),))),
        (SPREAD, Factors(())),
        (SPREAD, Terms((Spectral(100.0),))),
        (SPREAD, Terms(())),
        (Identity(3), Terms(())),
        (CONV, Terms(())),
        (Diagonal(np.ones(2)), Overlap(100.0)),
        (CONV, Taps((100.0, 100.0))),
        (CONV, Taps((100.0,) * 4)),
        (CONV, Taps(())),
        (Product([SPREAD, SPREAD]), Factors((Spectral(100.0),))),
        (Product([SPREAD, SPREAD]), Factors(())),
        (Product([SPREAD, SPREAD]), Terms((Spectral(100.0), Spectral(100.0)))),
        (Product([SPREAD, SPREAD]), Terms(())),
        (Product([SPREAD, SPREAD]), Overlap(100.0)),
        (Sum([SPREAD, SPREAD]), Factors((Spectral(100.0), Spectral(100.0)))),
        (Sum([SPREAD, SPREAD]), Terms((Spectral(100.0),))),
        (Sum([SPREAD, SPREAD]), Terms(())),
        (Row([SPREAD, SPREAD]), Terms((Spectral(100.0),) * 3)),
        (Row([SPREAD, SPREAD]), Factors((Spectral(100.0),) * 2)),
    ],
)
def test_a_rule_that_does_not_fit_the_operator_is_refused(
    op: LinearOperator, proof: NormProof, arithmetic: type[Arithmetic]
) -> None:
    with pytest.raises(NotProvedError):
        norm_bound(op, 2.0, 2.0, proof, arithmetic())


def test_operators_too_large_to_write_out_have_no_spectral_proof() -> None:
    with pytest.raises(NotProvedError, match="size limit"):
        norm_bound(Diagonal(np.ones(3000)), 2.0, 2.0, Spectral(2.0), Arithmetic())


def test_the_exact_oracle_tells_norms_apart() -> None:
    """Of the oracle itself: known norms, from both sides."""
    matrix = as_fractions([[3.0, -4.0], [1.0, 2.0]])
    known = {(1, 1): 6, (1, 2): math.sqrt(20), (1, math.inf): 4, (2, math.inf): 5, (math.inf, math.inf): 7}
    known |= {(math.inf, 1): 8, (math.inf, 2): math.sqrt(50), (2, 1): math.sqrt(40), (2, 2): 5.116672736016927}
    assert set(known) == set(PAIRS)
    for (p, q), norm in known.items():
        assert norm_is_at_most(matrix, p, q, norm * (1 + 1e-14))
        assert not norm_is_at_most(matrix, p, q, norm * (1 - 1e-14))
    assert not norm_is_at_most(matrix, 2, 2, math.nan)
    assert norm_is_at_most(matrix * Fraction(0), 2, 2, 0.0)
