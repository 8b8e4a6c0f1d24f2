"""Multiples of the identity, as one number each: what is left of a state that many damped steps pass on."""

from __future__ import annotations

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure, exact
from lipcert.operators.base import LinearOperator
from lipcert.operators.composite import Product, Sum
from lipcert.operators.diagonal import Diagonal
from lipcert.operators.selection import Identity


def shortened(op: LinearOperator) -> LinearOperator:
    """The operator, the multiples of the identity that it ends with as one factor, whose radius has what is rounded."""
    factors = list(op.factors) if isinstance(op, Product) else [op]
    if not isinstance(factors[-1], Sum) and (len(factors) == 1 or not isinstance(factors[-2], Diagonal | Sum)):
        return op
    number, size, count = exact(1.0), op.in_size, len(factors)
    while factors and (multiple := multiple_of_identity(factors[-1])) is not None:
        number = number * multiple
        factors.pop()
    if len(factors) == count:
        return op
    last = Diagonal(np.full(size, number.value), np.broadcast_to(number.radius, (size,)))
    return Product([*factors, last]) if factors else last


def multiple_of_identity(op: LinearOperator) -> Enclosure | None:
    """t (a scalar) where the operator is t times the identity; None for all others."""
    if isinstance(op, Identity):
        return exact(1.0)
    if isinstance(op, Diagonal):
        radius = np.broadcast_to(op.radius, op.weights.shape)
        if op.weights.size == 0 or np.any(op.weights != op.weights[0]) or np.any(radius != radius[0]):
            return None
        return Enclosure(op.weights[0], radius[0] or 0.0)
    if not isinstance(op, Product | Sum):
        return None
    total = exact(1.0 if isinstance(op, Product) else 0.0)
    for part in op.parts:
        found = multiple_of_identity(part)
        if found is None:
            return None
        total = total * found if isinstance(op, Product) else total + found
    return total
