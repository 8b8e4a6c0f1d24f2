"""What is proven once is remembered for that very operator, that rule, and nothing smaller."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.balls import BallArithmetic
from lipcert.certificate.claim import Frequencies, Overlap, Spectral, Symbol, Taps
from lipcert.certificate.norms import norm_bound, proves_l2
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
    Transposed,
)
from tests.helpers.symbols import plain

in_both = pytest.mark.parametrize("arithmetic", [Arithmetic, BallArithmetic], ids=["float64", "balls"])
L2Rule = type[Spectral] | type[Symbol] | type[Frequencies]


def some_weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


def conv(**changes: object) -> Convolution:
    """A convolution of 4 x 4 maps, one of its parts changed."""
    parts: dict[str, object] = {
        "weights": some_weights(2, 2, 2, 2),
        "in_shape": (2, 4, 4),
        "strides": (1, 1),
        "pads": ((1, 0), (0, 1)),
        "dilations": (1, 1),
        "groups": 1,
        "copies": 1,
        "radius": 0.0,
    }
    return Convolution(**{**parts, **changes})  # type: ignore[arg-type]


def all_different() -> list[tuple[str, LinearOperator]]:
    """Operators of which no two may share a proof."""
    weights = some_weights(2, 2, 2, 2)
    one_ulp, signed = weights.copy(), weights.copy()
    one_ulp[1, 1, 1, 1] = np.nextafter(one_ulp[1, 1, 1, 1], np.inf)
    signed[0, 0, 0, 0], positive = -0.0, signed.copy()
    positive[0, 0, 0, 0] = 0.0
    square, other = some_weights(4, 4), some_weights(5, 4, 4)[4]
    a, b = Dense(square), Dense(other)
    tiny = np.zeros((4, 4))
    tiny[3, 3] = 5e-324
    index = np.array([0, 1, 2, 3])
    return [
        ("conv", conv()),
        ("one ulp", conv(weights=one_ulp)),
        ("-0.0", conv(weights=signed)),
        ("0.0", conv(weights=positive)),
        ("float32", conv(weights=weights.astype(np.float32))),
        ("axes of the kernel", conv(weights=weights.swapaxes(2, 3))),
        ("channels", conv(weights=weights.swapaxes(0, 1))),
        ("flat kernel", conv(weights=weights.reshape(2, 2, 4, 1), pads=((3, 0), (0, 0)))),
        ("in_shape", conv(in_shape=(2, 4, 5))),
        ("in_shape turned", conv(in_shape=(2, 5, 4))),
        ("strides", conv(strides=(2, 1))),
        ("other strides", conv(strides=(1, 2))),
        ("dilations", conv(dilations=(2, 1))),
        ("other dilations", conv(dilations=(1, 2))),
        ("pads", conv(pads=((0, 1), (0, 1)))),
        ("other pads", conv(pads=((1, 0), (1, 0)))),
        ("copies", conv(copies=2)),
        ("groups", conv(groups=2, in_shape=(4, 4, 4))),
        ("scalar radius", conv(radius=1e-300)),
        ("radius", conv(radius=np.full((2, 2, 2, 2), 1e-300))),
        ("radius of one entry", conv(radius=np.eye(16)[3].reshape(2, 2, 2, 2))),
        ("radius of another", conv(radius=np.eye(16)[4].reshape(2, 2, 2, 2))),
        ("transposed", Transposed(conv())),
        ("twice transposed", Transposed(Transposed(conv()))),
        ("dense", a),
        ("dense radius", Dense(square, 5e-324)),
        ("dense radii", Dense(square, tiny)),
        ("dense copies", Dense(square, 0.0, 2)),
        ("dense transposed", Dense(square.T)),
        ("transposed dense", Transposed(a)),
        ("dense reshaped", Dense(square.reshape(2, 8))),
        ("other", b),
        ("product", Product((a, b))),
        ("product the other way", Product((b, a))),
        ("sum", Sum((a, b))),
        ("sum the other way", Sum((b, a))),
        ("row", Row((a, b))),
        ("row the other way", Row((b, a))),
        ("longer", Product((a, b, a))),
        ("nested", Product((Product((a, b)), a))),
        ("nested the other way", Product((a, Product((b, a))))),
        ("alone", Product((a,))),
        ("alone in a sum", Sum((a,))),
        ("alone in a row", Row((a,))),
        ("twice", Sum((a, a))),
        ("with identity", Sum((a, Identity(4)))),
        ("identity", Identity(4)),
        ("larger identity", Identity(5)),
        ("ones", Diagonal(np.ones(4))),
        ("ones and an ulp", Diagonal(np.array([1, 1, 1, 1 + 2.0**-52]))),
        ("loose ones", Diagonal(np.ones(4), 0.1)),
        ("loose ones, each", Diagonal(np.ones(4), np.full(4, 0.1))),
        ("selection", Selection(index, 4)),
        ("selection of more", Selection(index, 5)),
        ("selection turned", Selection(index[::-1], 4)),
        ("selection with a gap", Selection(np.array([0, 1, 2, -1]), 4)),
        ("reduction", Reduction((2, 2), (0,))),
        ("other reduction", Reduction((2, 2), (1,))),
        ("reduction of a vector", Reduction((4,), (0,))),
        ("reduction of both", Reduction((2, 2), (0, 1))),
    ]


def test_operators_that_differ_in_any_part_have_digests_of_their_own() -> None:
    ops = all_different()
    for (name, op), (other_name, other) in itertools.combinations(ops, 2):
        assert op.digest != other.digest, f"{name} and {other_name}"


def test_operators_of_equal_parts_have_one_digest() -> None:
    for (name, op), (_, again) in zip(all_different(), all_different(), strict=True):
        assert op.digest == again.digest, name


def test_digests_see_through_the_order_of_memory() -> None:
    """The same numbers stored by columns are the same operator; a view that is turned around is another."""
    weights = some_weights(3, 4)
    assert Dense(weights).digest == Dense(np.asfortranarray(weights)).digest
    assert Dense(weights).digest != Dense(weights[::-1]).digest
    assert Dense(weights).digest != Dense(weights[:, ::-1]).digest


def test_bytes_cannot_move_from_one_part_to_the_next() -> None:
    weights = some_weights(2, 4)
    pairs: list[tuple[LinearOperator, LinearOperator]] = [
        (Diagonal(weights[0], weights[1]), Diagonal(weights[1], weights[0])),
        (Diagonal(weights.reshape(-1)), Diagonal(weights[0], weights[1])),
        (Dense(weights[:1], weights[1:]), Dense(weights)),
        (Product((Diagonal(weights[0]), Diagonal(weights[1]))), Diagonal(weights[0], weights[1])),
        (
            Product((Product((Diagonal(weights[0]), Diagonal(weights[1]))), Diagonal(weights[0]))),
            Product((Diagonal(weights[0]), Product((Diagonal(weights[1]), Diagonal(weights[0]))))),
        ),
    ]
    assert all(a.digest != b.digest for a, b in pairs)


RULES: list[tuple[L2Rule, Callable[[], LinearOperator]]] = [
    (Spectral, lambda: Dense(some_weights(3, 4))),
    (Symbol, lambda: plain(some_weights(2, 2, 3), size=6)),
    (Frequencies, lambda: plain(some_weights(2, 2, 3), size=6)),
]


@in_both
@pytest.mark.parametrize(("rule", "make"), RULES, ids=lambda r: getattr(r, "__name__", ""))
def test_a_larger_sigma_lets_no_smaller_one_pass(
    rule: L2Rule, make: Callable[[], LinearOperator], arithmetic: type[Arithmetic]
) -> None:
    by, op = arithmetic(), make()
    norm = float(np.linalg.norm(Arithmetic().dense(op).value, 2))
    assert proves_l2(op, rule(norm * 10), by)
    assert proves_l2(make(), rule(norm * 11), by)
    for sigma in (norm * (1 - 1e-9), norm / 2, 0.0, -0.0, -1.0, -math.inf, math.nan):
        assert not proves_l2(op, rule(sigma), by)
        assert not proves_l2(make(), rule(sigma), by)
        with pytest.raises(NotProvedError):
            norm_bound(op, 2.0, 2.0, rule(sigma), by)
    assert proves_l2(op, rule(norm * 1.1), by)
    assert not proves_l2(op, rule(norm * (1 - 1e-9)), by)


@in_both
@pytest.mark.parametrize(("rule", "make"), RULES, ids=lambda r: getattr(r, "__name__", ""))
def test_infinity_is_not_proven_by_itself(
    rule: L2Rule, make: Callable[[], LinearOperator], arithmetic: type[Arithmetic]
) -> None:
    for op in (make(), Dense(np.full((2, 2), math.nan)), plain(np.full((2, 2, 3), math.inf))):
        with np.errstate(all="ignore"):
            assert not proves_l2(op, rule(math.inf), arithmetic())
            assert not proves_l2(op, rule(math.nan), arithmetic())


@in_both
def test_one_rule_proves_nothing_for_another(arithmetic: type[Arithmetic]) -> None:
    """Nor one operator for a larger one, in whatever order they are asked."""
    by = arithmetic()
    small, large = plain(some_weights(2, 2, 3), size=6), plain(2 * some_weights(2, 2, 3), size=6)
    norm = float(np.linalg.norm(small.matrix(), 2))
    for rule in (Symbol, Frequencies):
        assert proves_l2(small, rule(norm * 1.3), by)
        assert not proves_l2(large, rule(norm * 1.3), by)
    # shifts by one of both signs: 2 at some frequency, 1.9 on a circle of so few
    shift = plain(np.array([[[1.0, 0.0, -1.0]]]), size=2)
    circle = float(np.linalg.norm(shift.matrix(), 2))
    assert proves_l2(shift, Spectral(circle * 1.001), by)
    assert not proves_l2(shift, Symbol(circle * 1.001), by)
    assert not proves_l2(shift, Frequencies(circle * 1.001), by)


@in_both
def test_parts_of_a_rule_are_remembered_apart(arithmetic: type[Arithmetic]) -> None:
    """Each tap has a sigma of its own, and what is proven for one says nothing of the others."""
    by = arithmetic()
    op = plain(np.stack([np.eye(2), 10 * np.eye(2), 0.1 * np.eye(2)], axis=2), size=6)
    proven = norm_bound(op, 2.0, 2.0, Taps((1.01, 10.1, 0.11)), by)
    assert proven >= 11.1
    for sigmas in itertools.permutations((1.01, 10.1, 0.11)):
        if sigmas != (1.01, 10.1, 0.11):
            with pytest.raises(NotProvedError):
                norm_bound(op, 2.0, 2.0, Taps(sigmas), by)
    with pytest.raises(NotProvedError):
        norm_bound(op, 2.0, 2.0, Overlap(10.0), by)
    assert norm_bound(op, 2.0, 2.0, Overlap(10.2), by) > 10.2
    with pytest.raises(NotProvedError):
        norm_bound(op, 2.0, 2.0, Overlap(10.0), by)


def test_what_is_refused_is_not_remembered_and_what_is_proven_is_not_asked_again() -> None:
    asked: list[float] = []

    def proves(sigma: float) -> Callable[[], bool]:
        def proof() -> bool:
            asked.append(sigma)
            return sigma >= 2

        return proof

    by, op = Arithmetic(), Identity(3)
    for sigma, held in ((1.0, False), (3.0, True), (4.0, True), (2.5, True), (2.7, True), (1.0, False), (2.5, True)):
        assert by.once("rule", op, sigma, proves(sigma)) == held
    assert asked == [1.0, 3.0, 2.5, 1.0]
    assert not by.once("other rule", op, 1.0, proves(1.0))
    assert not by.once("rule", Identity(4), 1.0, proves(1.0))


def test_a_proof_that_is_cut_short_counts_for_nothing() -> None:
    by, op = Arithmetic(), Identity(3)

    def stops() -> bool:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        by.once("rule", op, 2.0, stops)
    assert not by.once("rule", op, 2.0, lambda: False)
