"""The activations in high precision, written from their definitions, with what is known about each of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

import lipcert.activations as acts
from lipcert.activations import Activation
from lipcert.arithmetic.enclosure import Enclosure

Function = Callable[[mpf], mpf]

SELU = float(np.float32(1.67326319217681884765625)), float(np.float32(1.05070102214813232421875))
INF = math.inf

ROUNDED = 1.7, 1.05  # their product, as that of most doubles, is no double
with mpmath.workprec(200):
    ROUNDED_LEFT = mpf(ROUNDED[0]) * mpf(ROUNDED[1])


@dataclass(frozen=True)
class Case:
    """An activation beside its value and its derivative (away from kinks), in mpmath, and its ranges."""

    activation: Activation
    value: Function
    derivative: Function
    values: tuple[Any, Any] | None
    """Infimum and supremum of phi where it is defined: numbers, or decimals of 25 digits or more; None if not known."""
    slopes: tuple[Any, Any] | None
    kinks: tuple[float, ...] = ()
    """Where the derivative, or the function, jumps."""
    jumps: tuple[float, ...] = ()
    domain: tuple[float, float] = (-INF, INF)
    poles: tuple[float, ...] = ()
    """Points in (or at the ends of) the domain at which phi is not defined."""
    verticals: tuple[float, ...] = ()
    """Points of the domain at which the slope is infinite."""
    rounded_kinks: bool = False
    """Whether kinks are no floats: bounds may then take an interval that ends next to one for one that holds it."""
    periodic: bool = False
    periodic_poles: bool = False
    """Poles at the odd multiples of pi / 2."""

    def __str__(self) -> str:
        return self.activation.describe()

    def undefined(self, lower: float, upper: float) -> bool:
        """Whether phi is undefined somewhere on the interval."""
        if lower < self.domain[0] or upper > self.domain[1] or _touches(self.poles, lower, upper):
            return True
        if not self.periodic_poles:
            return False
        if math.isinf(lower) or math.isinf(upper):
            return True
        with mpmath.workprec(1200):
            return mpmath.floor(mpf(lower) / mpmath.pi - 0.5) != mpmath.floor(mpf(upper) / mpmath.pi - 0.5)

    def jumps_on(self, lower: float, upper: float) -> bool:
        return _touches(self.jumps, lower, upper)

    def slopes_at(self, x: float) -> list[mpf]:
        """The derivative, and at a kink those of both sides: the ends of the Clarke derivative."""
        if x in self.verticals or x in self.jumps:
            return []
        tiny = mpf(2) ** -1500
        if x in self.kinks:
            with mpmath.workprec(3000):
                return [self.derivative(mpf(x) - tiny), self.derivative(mpf(x) + tiny)]
        return [self.derivative(mpf(x))]


def _touches(points: tuple[float, ...], lower: float, upper: float) -> bool:
    return any(lower <= point <= upper for point in points)


def _leaky(activation: Activation, alpha: float) -> Case:
    return Case(
        activation,
        lambda x: x if x >= 0 else mpf(alpha) * x,
        lambda x: mpf(1) if x > 0 else mpf(alpha),
        (-INF if alpha > 0 else 0.0, INF),
        (min(alpha, 1.0), max(alpha, 1.0)),
        kinks=(0.0,),
    )


def _clip(low: float, high: float) -> Case:
    return Case(
        acts.Clip(low, high),
        lambda x: min(max(x, mpf(low)), mpf(high)),
        lambda x: mpf(1 if low < x < high else 0),
        (min(low, high), high),
        (1.0 if low == -INF and high == INF else 0.0, 1.0 if low < high else 0.0),
        kinks=tuple(edge for edge in (low, high) if math.isfinite(edge)) if low < high else (),
    )


def _hard_sigmoid(alpha: float, beta: float) -> Case:
    def value(x: mpf) -> mpf:
        return max(mpf(0), min(mpf(1), mpf(alpha) * x + mpf(beta)))

    flat = max(0.0, min(1.0, beta))
    return Case(
        acts.HardSigmoid(alpha, beta),
        value,
        lambda x: mpf(alpha) if 0 < mpf(alpha) * x + mpf(beta) < 1 else mpf(0),
        (0.0, 1.0) if alpha else (flat, flat),
        (min(alpha, 0.0), max(alpha, 0.0)),
        kinks=((0 - beta) / alpha, (1 - beta) / alpha) if alpha else (),
        rounded_kinks=math.log2(abs(alpha) or 1) % 1 != 0,
    )


def _threshold(alpha: float) -> Case:
    return Case(
        acts.ThresholdedRelu(alpha),
        lambda x: x if x > alpha else mpf(0),
        lambda x: mpf(1 if x > alpha else 0),
        (min(alpha, 0.0), INF),
        (-INF, INF) if alpha else (0.0, 1.0),
        kinks=(alpha,),
        jumps=(alpha,) if alpha else (),
    )


def _shrink(lambd: float, bias: float, jumps: tuple[float, ...], flat: bool) -> Case:
    def value(x: mpf) -> mpf:
        if x < -lambd:
            return x + mpf(bias)
        return x - mpf(bias) if x > lambd else mpf(0)

    return Case(
        acts.Shrink(lambd, bias),
        value,
        lambda x: mpf(1 if x < -lambd or x > lambd else 0),
        (-INF, INF),
        (-INF, INF) if jumps else (0.0 if flat else 1.0, 1.0),
        kinks=(-lambd, lambd) if flat else jumps,
        jumps=jumps,
    )


def _exponential(
    activation: Activation, right: float, left: float, scale: float, values: Any, slopes: Any, smooth: bool = False
) -> Case:
    """right x above zero, left (exp(x / scale) - 1) below; `left` may be a product in mpmath."""
    return Case(
        activation,
        lambda x: mpf(right) * x if x >= 0 else left * mpmath.expm1(x / mpf(scale)),
        lambda x: mpf(right) if x > 0 else left / mpf(scale) * mpmath.exp(x / mpf(scale)),
        values,
        slopes,
        kinks=() if smooth else (0.0,),
    )


def _logistic(x: mpf) -> mpf:
    return 1 / (1 + mpmath.exp(-x)) if x >= 0 else mpmath.exp(x) / (1 + mpmath.exp(x))


def _normal(x: mpf) -> mpf:
    if x < -1e8:
        return mpf(0)  # less than exp(-1e15), which mpmath's erfc does not reach
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2


def _gated(activation: Activation, k: Any, c: Any, values: Any, slopes: Any) -> Case:
    """x (1 + tanh w) / 2, in terms of exponentials so that nothing cancels."""

    def constants() -> tuple[mpf, mpf]:
        return mpmath.sqrt(2 / mpmath.pi) if k is None else mpf(k), mpf("0.044715") if c is None else mpf(c)

    def value(x: mpf) -> mpf:
        k, c = constants()
        return x * _logistic(2 * k * (x + c * x**3))

    def derivative(x: mpf) -> mpf:
        k, c = constants()
        w = k * (x + c * x**3)
        return _logistic(2 * w) + x / 2 * mpmath.sech(w) ** 2 * k * (1 + 3 * c * x**2)

    return Case(activation, value, derivative, values, slopes)


def _mish_slope(x: mpf) -> mpf:
    softplus = mpmath.log1p(mpmath.exp(-abs(x))) + max(x, mpf(0))
    return mpmath.tanh(softplus) + x * mpmath.sech(softplus) ** 2 * _logistic(x)


def _power(n: int) -> Case:
    return Case(
        acts.Power(n),
        lambda x: x**n,
        lambda x: n * x ** (n - 1),
        (0.0 if n % 2 == 0 else -INF, INF),
        (-INF if n % 2 == 0 else 0.0, INF),
    )


def _scaled(base: Case, factor: float, values: Any, kinks: tuple[float, ...] = ()) -> Case:
    f = mpf(factor)
    return Case(
        acts.Scaled(base.activation, factor),
        lambda x: base.value(f * x) / f,
        lambda x: base.derivative(f * x),
        values,
        base.slopes,
        kinks=kinks,
    )


HALF_PI = "1.57079632679489661923132169163975144"
STEEPEST_ERF = "1.12837916709551257389615890312154517"

SIGMOID = Case(acts.Sigmoid(), _logistic, lambda x: _logistic(x) * _logistic(-x), (0.0, 1.0), (0.0, 0.25))
ERF = Case(
    acts.Erf(),
    mpmath.erf,
    lambda x: 2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-(x**2)),
    (-1.0, 1.0),
    (0.0, STEEPEST_ERF),
)
SILU_SLOPES = ("-0.0998393201288669169581849182796", "1.0998393201288669169581849182796")
SILU = _gated(acts.Silu(), 0.5, 0, ("-0.2784645427610737951093587390217", INF), SILU_SLOPES)
SOFT_SHRINK = _shrink(0.75, 0.75, (), flat=True)

CASES = (
    _leaky(acts.Relu(), 0.0),
    _leaky(acts.LeakyRelu(float(np.float32(0.01))), float(np.float32(0.01))),
    _leaky(acts.LeakyRelu(1.7), 1.7),
    _leaky(acts.LeakyRelu(-0.6), -0.6),
    _leaky(acts.PRelu(Enclosure(np.array([0.3]))), 0.3),
    Case(acts.Abs(), abs, mpmath.sign, (0.0, INF), (-1.0, 1.0), kinks=(0.0,)),
    _clip(-1.0, 2.5),
    _clip(0.0, 6.0),
    _clip(-INF, 1.5),
    _clip(0.3, INF),
    _clip(-INF, INF),
    _clip(2.0, -1.0),
    _hard_sigmoid(0.25, 0.5),
    _hard_sigmoid(float(np.float32(0.2)), 0.5),
    _hard_sigmoid(-0.7, 0.3),
    _hard_sigmoid(0.0, 0.3),
    _threshold(0.0),
    _threshold(1.0),
    _threshold(-0.4),
    Case(acts.Sign(), mpmath.sign, lambda x: mpf(0), (-1.0, 1.0), (-INF, INF), kinks=(0.0,), jumps=(0.0,)),
    _shrink(0.5, 0.0, (-0.5, 0.5), flat=True),
    SOFT_SHRINK,
    _shrink(0.0, 0.25, (0.0,), flat=False),
    _shrink(-0.5, 0.25, (0.5,), flat=False),
    SIGMOID,
    Case(acts.Tanh(), mpmath.tanh, lambda x: mpmath.sech(x) ** 2, (-1.0, 1.0), (0.0, 1.0)),
    Case(
        acts.Softsign(),
        lambda x: x / (1 + abs(x)),
        lambda x: 1 / (1 + abs(x)) ** 2,
        (-1.0, 1.0),
        (0.0, 1.0),
    ),
    ERF,
    Case(acts.Atan(), mpmath.atan, lambda x: 1 / (1 + x**2), ("-" + HALF_PI, HALF_PI), (0.0, 1.0)),
    Case(acts.Exp(), mpmath.exp, mpmath.exp, (0.0, INF), (0.0, INF)),
    Case(
        acts.Softplus(),
        lambda x: mpmath.log1p(mpmath.exp(-abs(x))) + max(x, mpf(0)),
        _logistic,
        (0.0, INF),
        (0.0, 1.0),
    ),
    _exponential(acts.Elu(), 1, mpf(1), 1, (-1.0, INF), (0.0, 1.0), smooth=True),
    _exponential(acts.Elu(1.6), 1, mpf(1.6), 1, (-1.6, INF), (0.0, 1.6)),
    _exponential(acts.Elu(-0.5), 1, mpf(-0.5), 1, (0.0, INF), (-0.5, 1.0)),
    _exponential(
        acts.Selu(*SELU),
        SELU[1],
        mpf(SELU[0]) * mpf(SELU[1]),
        1,
        (-mpf(SELU[0]) * mpf(SELU[1]), INF),
        (0.0, mpf(SELU[0]) * mpf(SELU[1])),
    ),
    _exponential(acts.Selu(*ROUNDED), ROUNDED[1], ROUNDED_LEFT, 1, (-ROUNDED_LEFT, INF), (0.0, ROUNDED_LEFT)),
    _exponential(acts.Celu(), 1, mpf(1), 1, (-1.0, INF), (0.0, 1.0), smooth=True),
    _exponential(acts.Celu(0.3), 1, mpf(0.3), 0.3, (-0.3, INF), (0.0, 1.0), smooth=True),
    _exponential(acts.Celu(-2.0), 1, mpf(-2), -2, (-INF, INF), (1.0, INF), smooth=True),
    Case(
        acts.Gelu(),
        lambda x: x * _normal(x),
        lambda x: _normal(x) + x * mpmath.npdf(x),
        ("-0.1699712074799036616938684746889", INF),
        ("-0.1289041451851547863407443826", "1.1289041451851547863407443826"),
    ),
    _gated(
        acts.GeluTanh(),
        None,
        None,
        ("-0.1700407505712540506390674", INF),
        ("-0.1289930686587717654559045", "1.1289930686587717654559045"),
    ),
    _gated(
        acts.GeluTanh(float(np.float32(0.7978846)), float(np.float32(0.044715))),
        float(np.float32(0.7978846)),
        float(np.float32(0.044715)),
        None,
        None,
    ),
    _gated(acts.GeluTanh(3.0, 2.0), 3.0, 2.0, None, None),
    SILU,
    Case(
        acts.Mish(),
        lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(-abs(x))) + max(x, mpf(0))),
        _mish_slope,
        ("-0.3088434130172504066287602", INF),
        ("-0.1125261223894625564073279", "1.088498161251727861228294"),
    ),
    Case(
        acts.HardSwish(),
        lambda x: x * max(mpf(0), min(mpf(1), x / 6 + mpf(1) / 2)),
        lambda x: mpf(0) if x < -3 else mpf(1) if x > 3 else x / 3 + mpf(1) / 2,
        (-0.375, INF),
        (-0.5, 1.5),
        kinks=(-3.0, 3.0),
    ),
    _power(2),
    _power(3),
    _power(8),
    Case(
        acts.Sqrt(),
        mpmath.sqrt,
        lambda x: 1 / (2 * mpmath.sqrt(x)),
        (0.0, INF),
        (0.0, INF),
        domain=(0.0, INF),
        verticals=(0.0,),
    ),
    Case(acts.Reciprocal(), lambda x: 1 / x, lambda x: -1 / x**2, (-INF, INF), (-INF, 0.0), poles=(0.0,)),
    Case(acts.Log(), mpmath.log, lambda x: 1 / x, (-INF, INF), (0.0, INF), domain=(0.0, INF), poles=(0.0,)),
    Case(acts.Sin(), mpmath.sin, mpmath.cos, (-1.0, 1.0), (-1.0, 1.0), periodic=True),
    Case(acts.Cos(), mpmath.cos, lambda x: -mpmath.sin(x), (-1.0, 1.0), (-1.0, 1.0), periodic=True),
    Case(acts.Tan(), mpmath.tan, lambda x: mpmath.sec(x) ** 2, (-INF, INF), (1.0, INF), periodic_poles=True),
    Case(
        acts.Asin(),
        mpmath.asin,
        lambda x: 1 / mpmath.sqrt(1 - x**2),
        ("-" + HALF_PI, HALF_PI),
        (1.0, INF),
        domain=(-1.0, 1.0),
        verticals=(-1.0, 1.0),
    ),
    Case(
        acts.Acos(),
        mpmath.acos,
        lambda x: -1 / mpmath.sqrt(1 - x**2),
        (0.0, "3.14159265358979323846264338327950288"),
        (-INF, -1.0),
        domain=(-1.0, 1.0),
        verticals=(-1.0, 1.0),
    ),
    Case(acts.Sinh(), mpmath.sinh, mpmath.cosh, (-INF, INF), (1.0, INF)),
    Case(acts.Cosh(), mpmath.cosh, mpmath.sinh, (1.0, INF), (-INF, INF)),
    Case(acts.Asinh(), mpmath.asinh, lambda x: 1 / mpmath.sqrt(1 + x**2), (-INF, INF), (0.0, 1.0)),
    Case(
        acts.Acosh(),
        mpmath.acosh,
        lambda x: 1 / mpmath.sqrt(x**2 - 1),
        (0.0, INF),
        (0.0, INF),
        domain=(1.0, INF),
        verticals=(1.0,),
    ),
    Case(
        acts.Atanh(),
        mpmath.atanh,
        lambda x: 1 / (1 - x**2),
        (-INF, INF),
        (1.0, INF),
        domain=(-1.0, 1.0),
        poles=(-1.0, 1.0),
    ),
    _scaled(SILU, float(np.float32(1.702)), None),
    _scaled(SIGMOID, -0.3, None),
    _scaled(ERF, float(np.float32(0.70710677)), None),
    _scaled(SOFT_SHRINK, -2.0, (-INF, INF), kinks=(-0.375, 0.375)),
)
