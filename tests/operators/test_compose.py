"""The constructors that keep operators short: what they build acts as the plain product or sum."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lipcert.operators import Dense, Diagonal, Identity, LinearOperator, Product, Selection, Sum, add, compose
from tests.helpers.operators import KINDS, matrix_by_definition, random_operator


def same(op: LinearOperator, expected: np.ndarray) -> None:
    assert np.array_equal(matrix_by_definition(op), expected)
    x = np.random.default_rng(0).normal(size=(3, op.in_size))
    np.testing.assert_allclose(op.matvec(x), x @ expected.astype(float).T, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("inner_kind", KINDS)
@pytest.mark.parametrize("outer_kind", KINDS)
def test_a_composition_is_the_product_of_matrices(outer_kind: str, inner_kind: str) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        inner = random_operator(rng, 6, kind=inner_kind)
        outer = random_operator(rng, inner.out_size, kind=outer_kind)
        op = compose(outer, inner)
        same(op, matrix_by_definition(outer) @ matrix_by_definition(inner))
        factors = op.factors if isinstance(op, Product) else (op,)
        given = [f for part in (outer, inner) for f in (part.factors if isinstance(part, Product) else (part,))]
        assert [f for f in factors if isinstance(f, Product)] == [f for f in given if isinstance(f, Product)]
        assert op.size == (outer.out_size, inner.in_size)
        assert len(factors) == 1 or not any(isinstance(f, Identity) for f in factors)
        assert not any(isinstance(a, Selection) and isinstance(b, Selection) for a, b in itertools.pairwise(factors))


@pytest.mark.parametrize("seed", range(30))
def test_merged_selections_pick_what_the_two_pick_in_turn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, m, k = (int(rng.integers(1, 7)) for _ in range(3))
    inner, outer = Selection(rng.integers(-1, n, size=m), n), Selection(rng.integers(-1, m, size=k), m)
    merged = compose(outer, inner)
    assert isinstance(merged, Selection)
    x = rng.normal(size=(2, n))
    np.testing.assert_array_equal(merged.matvec(x), outer.matvec(inner.matvec(x)))


def test_a_zero_picked_by_the_outer_selection_stays_zero() -> None:
    """The index -1 of the outer one must not fall on the last entry of the inner one."""
    merged = compose(Selection(np.array([-1, 0]), 2), Selection(np.array([0, 1]), 2))
    assert isinstance(merged, Selection)
    assert merged.index.tolist() == [-1, 0]


def test_selections_merge_within_longer_products() -> None:
    first, second = Selection(np.array([2, -1, 0]), 3), Selection(np.array([1, 1, 0, 2]), 3)
    left, right = Dense(np.arange(8.0).reshape(2, 4)), Dense(np.arange(6.0).reshape(3, 2))
    op = compose(Product([left, second]), Product([first, right]))
    assert isinstance(op, Product)
    assert [type(f) for f in op.factors] == [Dense, Selection, Dense]
    matrices = [matrix_by_definition(f) for f in (left, second, first, right)]
    same(op, matrices[0] @ matrices[1] @ matrices[2] @ matrices[3])


def test_identities_vanish() -> None:
    weights = Diagonal(np.arange(3.0))
    assert compose(Identity(3), weights) is weights
    assert compose(weights, Identity(3)) is weights
    assert isinstance(compose(Identity(3), Identity(3)), Identity)


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (Dense(np.ones((2, 3))), Dense(np.ones((2, 3)))),
        (Identity(7), Dense(np.ones((3, 3)))),
        (Selection(np.array([0, 1]), 5), Selection(np.array([0, 1, 2]), 4)),
    ],
    ids=["dense", "identity", "selection"],
)
def test_a_composition_that_does_not_fit_is_refused(outer: LinearOperator, inner: LinearOperator) -> None:
    with pytest.raises(ValueError, match="do not compose"):
        compose(outer, inner)


@pytest.mark.parametrize("seed", range(15))
def test_a_sum_adds_the_matrices_and_is_flat(seed: int) -> None:
    rng = np.random.default_rng(seed)
    terms = [random_operator(rng, 6, 4) for _ in range(int(rng.integers(1, 5)))]
    op = add([add(terms[:2]), *terms[2:]])
    same(op, sum(matrix_by_definition(t) for t in terms))  # type: ignore[arg-type]
    assert not isinstance(op, Sum) or not any(isinstance(t, Sum) for t in op.terms)
    assert add([terms[0]]) is terms[0] or isinstance(terms[0], Sum)
