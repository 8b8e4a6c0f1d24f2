"""What every operator does is what its matrix does, the matrix written out entry by entry from its definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

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
)
from lipcert.operators.torch_view import realise
from tests.helpers.operators import KINDS, LEAVES, as_fractions, map_leaves, matrix_by_definition, random_operator

SEEDS = range(12)
each_kind = pytest.mark.parametrize("kind", [*KINDS, "row"])


def make(kind: str, seed: int, radius: float = 0.0) -> LinearOperator:
    rng = np.random.default_rng([seed, *kind.encode()])
    size = int(rng.choice([1, 4, 6, 7, 8, 12]))
    if kind != "row":
        return random_operator(rng, size, kind=kind, radius=radius)
    blocks = [random_operator(rng, size, 3, kind=str(rng.choice(KINDS)), radius=radius)]
    blocks += [random_operator(rng, 4, 3, radius=radius) for _ in range(2)]
    return Row(blocks)


def integral(op: LinearOperator) -> LinearOperator:
    """The operator with its weights rounded to small integers: floating point computes it exactly."""
    return map_leaves(op, lambda leaf: leaf if leaf.weights is None else leaf.with_weights(np.round(4 * leaf.weights)))


def floats(matrix: np.ndarray) -> np.ndarray:
    return matrix.astype(float)


def test_the_random_operators_are_of_every_kind() -> None:
    seen: set[type] = set()

    def see(leaf: Leaf) -> Leaf:
        seen.add(type(leaf))
        return leaf

    for kind, seed in itertools.product([*KINDS, "row"], SEEDS):
        op = make(kind, seed)
        seen.add(type(op))
        map_leaves(op, see)
    assert seen >= set(Leaf.__subclasses__()) | (set(LinearOperator.__subclasses__()) - {Leaf})
    assert {type(make(kind, 0)) for kind in LEAVES} <= set(Leaf.__subclasses__()) | {Product}


@each_kind
def test_matvec_and_rmatvec_are_products_with_the_matrix(kind: str) -> None:
    for seed in SEEDS:
        op = integral(make(kind, seed))
        rng = np.random.default_rng(seed)
        matrix = floats(matrix_by_definition(op))
        assert matrix.shape == op.size == (op.out_size, op.in_size)
        for batch in ((), (3,), (2, 3)):
            x = rng.integers(-9, 10, size=(*batch, op.in_size)).astype(float)
            y = rng.integers(-9, 10, size=(*batch, op.out_size)).astype(float)
            np.testing.assert_array_equal(op.matvec(x), x @ matrix.T)
            np.testing.assert_array_equal(op.rmatvec(y), y @ matrix)


@each_kind
def test_the_adjoint_moves_to_the_other_side_of_the_inner_product(kind: str) -> None:
    for seed in SEEDS:
        op = make(kind, seed)
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=op.in_size), rng.normal(size=op.out_size)
        np.testing.assert_allclose(op.matvec(x) @ y, x @ op.rmatvec(y), rtol=1e-10, atol=1e-12)


@each_kind
def test_operators_act_on_exact_numbers_and_on_balls(kind: str) -> None:
    for seed in SEEDS:
        from flint import arb

        op = make(kind, seed)
        rng = np.random.default_rng(seed)
        batch = ((), (2,), (2, 3))[seed // 2 % 3]
        x, y = rng.normal(size=(*batch, op.in_size)), rng.normal(size=(*batch, op.out_size))
        matrix = matrix_by_definition(op)

        exact = map_leaves(
            op, lambda leaf: leaf if leaf.weights is None else leaf.with_weights(as_fractions(leaf.weights))
        )
        assert np.array_equal(exact.matvec(as_fractions(x)), as_fractions(x) @ matrix.T)
        assert np.array_equal(exact.rmatvec(as_fractions(y)), as_fractions(y) @ matrix)

        def balls(array: np.ndarray) -> np.ndarray:
            return np.vectorize(arb, otypes=[object])(array)

        over_balls = map_leaves(
            op, lambda leaf: leaf if leaf.weights is None else leaf.with_weights(balls(leaf.weights))
        )
        for result, expected in (
            (over_balls.matvec(balls(x)), x @ floats(matrix).T),
            (over_balls.rmatvec(balls(y)), y @ floats(matrix)),
        ):
            assert np.shape(result) == expected.shape
            np.testing.assert_allclose(np.vectorize(float)(result), expected, rtol=1e-10, atol=1e-12)


@each_kind
def test_the_torch_view_is_the_operator(kind: str) -> None:
    for seed in SEEDS:
        op = make(kind, seed)
        x = np.random.default_rng(seed).normal(size=(5, op.in_size))
        view = realise(op, torch.device("cpu"), torch.float64)(torch.from_numpy(x))
        np.testing.assert_allclose(view.numpy(), op.matvec(x), rtol=1e-12, atol=1e-12)


def test_the_torch_view_of_a_reduction_over_no_axes_is_the_identity() -> None:
    x = torch.arange(12, dtype=torch.float64).reshape(2, 6)
    assert torch.equal(realise(Reduction((2, 3), ()), torch.device("cpu"), torch.float64)(x), x)


@each_kind
def test_fan_in_and_fan_out_count_the_roundings(kind: str) -> None:
    """Of a leaf, they are zero where entries only move, and else no less than the products of any sum."""
    for seed in SEEDS:
        op = make(kind, seed)
        matrix = floats(matrix_by_definition(op)) != 0
        if isinstance(op, Leaf):
            single = op.weights is None
            for fan, terms in ((op.fan_in, matrix.sum(axis=1).max()), (op.fan_out, matrix.sum(axis=0).max())):
                assert fan >= terms or (single and terms == 1 and fan == 0)
        assert op.fan_in >= 0
        assert op.fan_out >= 0


@pytest.mark.parametrize("kind", LEAVES)
def test_magnitude_and_uncertainty_bound_the_entries(kind: str) -> None:
    for seed in range(20):
        op = make(kind, seed, radius=0.7)
        if not isinstance(op, Leaf) or op.weights is None:
            continue
        magnitude, uncertainty = op.magnitude, op.uncertainty
        radius = np.broadcast_to(np.asarray(op.radius, dtype=float), op.weights.shape)
        assert magnitude.weights is not None
        assert np.all(as_fractions(magnitude.weights) >= as_fractions(np.abs(op.weights)) + as_fractions(radius))
        assert np.all(magnitude.weights <= (np.abs(op.weights) + radius) * (1 + 1e-15) + 1e-300)
        assert (uncertainty is None) == (not radius.any())
        if uncertainty is not None:
            np.testing.assert_array_equal(uncertainty.weights, radius)
        for other in (magnitude, uncertainty or magnitude):
            assert other.size == op.size
            assert not np.any(other.radius)


def test_operators_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not compose"):
        Product([Dense(np.ones((2, 3))), Dense(np.ones((2, 3)))])
    with pytest.raises(ValueError, match="do not add"):
        Sum([Dense(np.ones((2, 3))), Dense(np.ones((3, 3)))])
    with pytest.raises(ValueError, match="one row"):
        Row([Identity(2), Identity(3)])
    for index in ([3], [-2], [0, 5]):
        with pytest.raises(ValueError, match="out of range"):
            Selection(np.array(index), 3)
    with pytest.raises(ValueError, match="does not fit"):
        Convolution(np.ones((2, 2, 3)), (3, 9), strides=(1,), pads=((0, 0),), dilations=(1,))
    with pytest.raises(ValueError, match="does not fit"):
        Convolution(np.ones((3, 1, 3)), (2, 9), strides=(1,), pads=((0, 0),), dilations=(1,), groups=2)
    with pytest.raises(ValueError, match="larger than the padded map"):
        Convolution(np.ones((1, 1, 3)), (1, 3), strides=(1,), pads=((0, 0),), dilations=(2,))


def test_a_reduction_of_everything_acts_on_a_single_exact_vector() -> None:
    total = Reduction((2, 3), (0, 1)).matvec(as_fractions(np.arange(6.0)))
    assert total.tolist() == [15]


def test_padding_nothing_gives_zeros() -> None:
    assert np.array_equal(Selection(np.array([-1, -1]), 0).matvec(np.zeros((3, 0))), np.zeros((3, 2)))


def test_a_description_names_kind_and_size() -> None:
    assert Diagonal(np.ones(3)).describe() == "diagonal 3x3"
    assert Reduction((2, 3), (1,)).describe() == "reduction 2x6"
