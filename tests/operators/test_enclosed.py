"""Rounding-safe application: the exact result for any weights and any vector within their radii is enclosed."""

from __future__ import annotations

import numpy as np
import pytest

from lipcert.arithmetic.enclosure import Enclosure, exact
from lipcert.operators import (
    Convolution,
    Dense,
    Diagonal,
    Identity,
    Leaf,
    LinearOperator,
    Product,
    Row,
    Selection,
    Sum,
    enclosed,
)
from tests.helpers.exact import encloses, member, member_matrix, random_enclosure
from tests.helpers.operators import KINDS, as_fractions, matrix_by_definition, random_operator

SEEDS = range(16)
each_kind = pytest.mark.parametrize("kind", [*KINDS, "row"])


def make(kind: str, seed: int, radius: float = 0.6) -> tuple[np.random.Generator, LinearOperator]:
    rng = np.random.default_rng([seed, *kind.encode()])
    if kind != "row":
        return rng, random_operator(rng, int(rng.choice([4, 6, 8])), kind=kind, radius=radius)
    return rng, Row([random_operator(rng, n, 3, radius=radius) for n in (4, 2, 6)])


@each_kind
def test_applications_to_members_stay_inside(kind: str) -> None:
    for seed in SEEDS:
        rng, op = make(kind, seed)
        x, y = random_enclosure(rng, (2, op.in_size)), random_enclosure(rng, (2, op.out_size))
        forward, adjoint = enclosed.apply(op, x), enclosed.apply_adjoint(op, y)
        for _ in range(5):
            matrix = member_matrix(rng, op)
            assert encloses(forward, member(rng, x) @ matrix.T)
            assert encloses(adjoint, member(rng, y) @ matrix)


@each_kind
def test_the_dense_form_encloses_the_matrix(kind: str) -> None:
    for seed in SEEDS:
        rng, op = make(kind, seed)
        written = enclosed.dense(op)
        for _ in range(5):
            assert encloses(written, member_matrix(rng, op))


@each_kind
def test_magnitudes_bound_the_absolute_matrix(kind: str) -> None:
    for seed in SEEDS:
        rng, op = make(kind, seed)
        v, w = (np.abs(rng.normal(size=(2, n))) * (rng.random((2, n)) < 0.8) for n in (op.in_size, op.out_size))
        forward, adjoint = enclosed.magnitude_up(op, v), enclosed.magnitude_up(op, w, adjoint=True)
        assert forward.shape == (2, op.out_size)
        assert adjoint.shape == (2, op.in_size)
        for _ in range(5):
            matrix = abs(member_matrix(rng, op))
            assert np.all(as_fractions(forward) >= as_fractions(v) @ matrix.T)
            assert np.all(as_fractions(adjoint) >= as_fractions(w) @ matrix)


@each_kind
def test_reaches_names_every_entry_that_depends_on_the_mask(kind: str) -> None:
    for seed in SEEDS:
        rng, op = make(kind, seed)
        mask = rng.random(op.in_size) < 0.3
        if kind == "row":
            with pytest.raises(TypeError, match="row"):
                enclosed.reaches(op, mask)
            continue
        reached = enclosed.reaches(op, mask)
        matrix = member_matrix(rng, op)
        assert np.all(reached | ~(matrix[:, mask] != 0).any(axis=1))
        if isinstance(op, Leaf) and op.uncertainty is None:
            assert np.array_equal(reached, (matrix[:, mask] != 0).any(axis=1))


@pytest.mark.parametrize("seed", range(20))
def test_long_products_are_written_out_in_any_order(seed: int) -> None:
    """Whichever factor is cheapest to start from: sizes go up and down along the product."""
    rng = np.random.default_rng(seed)
    factors = [random_operator(rng, int(rng.integers(1, 12)), int(rng.integers(1, 12)), radius=0.4)]
    for _ in range(int(rng.integers(1, 5))):
        factors.append(random_operator(rng, int(rng.integers(1, 12)), factors[-1].in_size, radius=0.4))
    op = Product(factors)
    written = enclosed.dense(op)
    for _ in range(3):
        assert encloses(written, member_matrix(rng, op))


def test_a_weight_of_zero_known_up_to_a_radius_reaches() -> None:
    op = Dense(np.zeros((2, 2)), np.array([[0.0, 1e-12], [0.0, 0.0]]))
    for uncertain in (op, Sum([op, op]), Product([Identity(2), op])):
        assert enclosed.reaches(uncertain, np.array([False, True]))[0]


@pytest.mark.parametrize("kind", ["dense", "copies", "diagonal", "selection", "convolution", "reduction", "identity"])
def test_stored_weights_are_written_out_without_radius(kind: str) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        op = random_operator(rng, 6, kind=kind)
        if isinstance(op, Leaf):
            written = enclosed.dense(op)
            assert written.is_exact
            assert np.array_equal(as_fractions(written.value), matrix_by_definition(op))


def test_the_radius_of_stored_weights_is_written_out_unchanged() -> None:
    rng = np.random.default_rng(0)
    weights, radius = rng.normal(size=(3, 4)), rng.random((3, 4))
    assert np.array_equal(enclosed.dense(Dense(weights, radius)).full_radius(), radius)
    assert np.array_equal(enclosed.dense(Diagonal(weights[0], radius[0])).full_radius(), np.diag(radius[0]))


@pytest.mark.parametrize("op", [Identity(4), Selection(np.array([3, -1, 0]), 4)], ids=["identity", "selection"])
def test_moving_entries_rounds_nothing(op: Leaf) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4))
    assert enclosed.apply(op, exact(x)).is_exact
    assert enclosed.apply_adjoint(op, exact(rng.normal(size=op.out_size))).is_exact
    moved = enclosed.apply(op, Enclosure(x, np.abs(x)))
    assert np.array_equal(moved.full_radius(), op.matvec(np.abs(x)))
    assert np.array_equal(enclosed.magnitude_up(op, np.abs(x)), op.matvec(np.abs(x)))


def test_entries_selected_twice_are_added_with_rounding() -> None:
    op = Selection(np.zeros(3, dtype=int), 1)
    y = exact([0.1, 0.2, 0.3])
    assert not enclosed.apply_adjoint(op, y).is_exact
    assert encloses(enclosed.apply_adjoint(op, y), as_fractions(y.value) @ matrix_by_definition(op))


@pytest.mark.parametrize("size", [10, 1000])
def test_long_sums_that_cancel_stay_inside(size: int) -> None:
    rng = np.random.default_rng(size)
    weights = rng.normal(size=(2, size))
    op = Dense(np.hstack([weights, -weights * (1 + 2.0**-50)]))
    x = np.abs(rng.normal(size=size))
    result = enclosed.apply(op, exact(np.hstack([x, x])))
    assert encloses(result, as_fractions(np.hstack([x, x])) @ as_fractions(op.weights).T)
    assert np.all(result.full_radius() < 1e-9)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e150])
def test_extreme_scales_stay_inside(scale: float) -> None:
    rng = np.random.default_rng(0)
    op = Product([Dense(rng.normal(size=(3, 5))), Dense(rng.normal(size=(5, 4)) * scale)])
    x = exact(rng.normal(size=4) * 1e-10)
    with np.errstate(under="ignore"):
        assert encloses(enclosed.apply(op, x), matrix_by_definition(op) @ as_fractions(x.value))
        assert encloses(enclosed.dense(op), matrix_by_definition(op))


def test_enclosures_are_tight() -> None:
    rng = np.random.default_rng(0)
    conv = Convolution(rng.normal(size=(2, 2, 3)), (2, 8), strides=(1,), pads=((1, 1),), dilations=(1,))
    for op in (Dense(rng.normal(size=(5, 16))), conv, Diagonal(rng.normal(size=16)), Sum([conv, conv])):
        x = exact(rng.normal(size=op.in_size))
        size = np.abs(matrix_by_definition(op).astype(float)) @ np.abs(x.value)
        assert np.all(enclosed.apply(op, x).full_radius() <= 1e-14 * size)
        np.testing.assert_allclose(
            enclosed.magnitude_up(op, np.abs(x.value)), size, rtol=1e-13 if op.size[0] != 16 else 2e-13
        )
