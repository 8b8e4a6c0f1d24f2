"""The activations in high precision, written from their definitions, with the ranges that they are known to have."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import mpmath
from mpmath import mpf

from lipcert.activations import Activation, LeakyRelu, Relu, Sigmoid, Tanh

Function = Callable[[mpf], mpf]


@dataclass(frozen=True)
class Reference:
    """An activation beside its value, its derivative away from kinks, and both ranges over the whole line."""

    activation: Activation
    value: Function
    derivative: Function
    values: tuple[float, float]
    slopes: tuple[float, float]

    def __str__(self) -> str:
        return self.activation.describe()


def _leaky(alpha: float, activation: Activation | None = None) -> Reference:
    return Reference(
        activation or LeakyRelu(alpha),
        lambda x: x if x >= 0 else mpf(alpha) * x,
        lambda x: mpf(1) if x > 0 else mpf(alpha),
        (-math.inf if alpha > 0 else 0.0, math.inf),
        (min(alpha, 1.0), max(alpha, 1.0)),
    )


def _logistic(x: mpf) -> mpf:
    return 1 / (1 + mpmath.exp(-x)) if x >= 0 else mpmath.exp(x) / (1 + mpmath.exp(x))


REFERENCES = (
    _leaky(0.0, Relu()),
    _leaky(0.01),
    _leaky(0.0),
    _leaky(1.0),
    _leaky(1.7),
    _leaky(-0.6),
    _leaky(-3.1),
    Reference(
        Sigmoid(),
        _logistic,
        lambda x: _logistic(x) * _logistic(-x),
        (0.0, 1.0),
        (0.0, 0.25),
    ),
    Reference(
        Tanh(),
        mpmath.tanh,
        lambda x: mpmath.sech(x) ** 2,
        (-1.0, 1.0),
        (0.0, 1.0),
    ),
)
