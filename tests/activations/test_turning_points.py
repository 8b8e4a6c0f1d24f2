"""Where the slopes of x times a gate turn: every bracket holds one sign change of phi'', and nothing else does.

On [-30, 30] by ball arithmetic, with Taylor series of length two; docs/activations.md argues for the tails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import pytest
from flint import arb, arb_series, ctx
from mpmath import mpf

from lipcert.activations import Gelu, GeluTanh, Mish, Silu
from lipcert.activations.smooth import Real, Smooth, bracket
from tests.activations.cases import CASES, Case

Series = Any
END = 30.0


def by_name(name: str) -> Case:
    return next(case for case in CASES if str(case) == name)


def gelu(x: Series) -> Series:
    """phi'' over the density of the normal distribution."""
    return 2 - x * x


def silu(x: Series) -> Series:
    """phi'' over sigmoid'."""
    return 2 - x * (1 - 2 / (x.exp() + 1))


def gelu_tanh(x: Series) -> Series:
    """phi'' over 2 k sigmoid'(2 w), w = k (x + c x^3)."""
    k, c = (2 / arb.pi()).sqrt(), arb("0.044715")
    tanh = 1 - 2 / ((2 * k * (x + c * x * x * x)).exp() + 1)
    factor = 1 + 3 * c * x * x
    return 2 * (1 + 6 * c * x * x) - 2 * k * x * factor * factor * tanh


def mish(x: Series) -> Series:
    """phi'' over T', T = tanh(softplus(x)); written in exp(-x) where exp(x) is large."""
    if x[0] > 0:
        e = (-x).exp()
        return 2 + x * (1 + 1 / (1 + e) - 4 * (1 + e) / (1 + 2 * e + 2 * e * e))
    e = x.exp()
    return 2 + x * (1 + e / (1 + e) - 4 * e * (e + 1) / (e * e + 2 * e + 2))


PROOFS = [(Gelu(), gelu), (Silu(), silu), (GeluTanh(), gelu_tanh), (Mish(), mish)]
each = pytest.mark.parametrize(("activation", "second"), PROOFS, ids=lambda x: getattr(x, "name", None))


def over(function: Callable[[Series], Series], low: float, high: float, order: int) -> Any:
    """A ball around the derivative of this order (0 or 1) on [low, high]."""
    with ctx.workprec(128):
        x = arb(low).union(arb(high)) if low < high else arb(low)
        return function(arb_series([x, arb(1)], prec=2))[order]


def has_one_sign(function: Callable[[Series], Series], low: float, high: float, order: int = 0) -> bool:
    """Proved on pieces of [low, high], halved until the ball excludes zero."""
    pieces = [(low, high)]
    signs = set()
    while pieces:
        a, b = pieces.pop()
        try:
            ball = over(function, a, b, order)
        except ValueError:  # a denominator's ball contains zero
            ball = arb.nan()
        if not (ball > 0 or ball < 0):
            if b - a < 1e-4:
                return False
            pieces += [(a, (a + b) / 2), ((a + b) / 2, b)]
        else:
            signs.add(bool(ball > 0))
    return len(signs) == 1


def ends(turn: Real) -> tuple[float, float]:
    assert isinstance(turn, tuple)
    return turn


@each
def test_the_second_derivative_changes_sign_in_each_bracket_and_nowhere_else(
    activation: Smooth, second: Callable[[Series], Series]
) -> None:
    edges = [-END]
    for turn in activation.slope_turns:
        left, right = ends(turn)
        assert 0 < right - left <= 1e-15
        at_left, at_right = (over(second, x, x, 0) for x in (left, right))
        assert (at_left > 0 and at_right < 0) or (at_left < 0 and at_right > 0)
        assert has_one_sign(second, left - 0.05, right + 0.05, order=1)  # so it is the only zero near by
        edges += [left - 0.05, right + 0.05]
    edges.append(END)
    for low, high in zip(edges[::2], edges[1::2], strict=True):
        assert has_one_sign(second, low, high)


@each
def test_the_second_derivative_is_a_positive_multiple_of_what_the_proof_uses(
    activation: Smooth, second: Callable[[Series], Series]
) -> None:
    case = by_name(activation.describe())
    with mpmath.workdps(40):
        for i in range(-24, 25):
            x = i / 4 + 0.1
            curvature = mpmath.diff(case.value, mpf(x), 2)
            factor = curvature / mpf(float(over(second, x, x, 0)))
            assert factor > 0


@each
def test_values_turn_once_where_the_slope_is_zero(activation: Smooth, second: Callable[[Series], Series]) -> None:
    case = by_name(activation.describe())
    (turn,) = activation.value_turns
    left, right = ends(turn)
    assert 0 < right - left <= 1e-15
    with mpmath.workdps(50):
        assert case.derivative(mpf(left)) < 0 < case.derivative(mpf(right))
    assert has_one_sign(second, left, right)  # the slope is monotone there
    assert ends(activation.slope_turns[0])[1] < left


def test_turning_points_of_other_constants_are_found() -> None:
    for k, c in ((0.01, 0.0), (5.0, 0.0), (0.8, 10.0), (100.0, 1e-3)):
        activation = GeluTanh(k, c)
        left, right = ends(activation.slope_turns[1])
        with mpmath.workdps(40):

            def gap(x: float, k: float = k, c: float = c) -> mpf:
                s = 3 * mpf(c) * mpf(x) ** 2
                return (1 + 2 * s) - k * mpf(x) * (1 + s) ** 2 * mpmath.tanh(k * (mpf(x) + c * mpf(x) ** 3))

            assert gap(left) > 0 > gap(right)


@pytest.mark.parametrize("constants", [(0.0, 0.0), (-1.0, 0.0), (1.0, -0.1)])
def test_constants_without_a_proof_are_refused(constants: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="turning points"):
        GeluTanh(*constants)


def test_a_bracket_needs_a_change_of_sign() -> None:
    assert bracket(lambda x: x * x - 2, 0.0, 2.0) == (1.414213562373095, 1.4142135623730951)
    assert bracket(lambda x: 2 - x * x, -2.0, 0.0) == (-1.4142135623730951, -1.414213562373095)
    with pytest.raises(ValueError, match="no change of sign"):
        bracket(lambda x: x * x - 2, 2.0, 3.0)
    with pytest.raises(ValueError, match="undecided"):
        bracket(lambda x: x * (x - 1), 0.0, 2.0)
