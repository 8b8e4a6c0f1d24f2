"""How far the steps of a Loop end from the fixed point that they tend to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.arithmetic.rounding import ETA, inflate, up
from lipcert.certificate.implicit import NEARLY, Layer, majorant_weights
from lipcert.graph import Iteration
from lipcert.operators import Diagonal, Identity, LinearOperator

if TYPE_CHECKING:
    from lipcert.certificate.boxes import Bounds

RATES = (1.0, NEARLY, 0.97, 0.9, 0.8, 0.65, 0.5, 0.25)
"""Of contraction, for which weights are tried where steps are counted."""

TINY = 1e-290
"""Above what underflows."""


def _is_multiple(op: LinearOperator) -> bool:
    """Whether it is one number times the identity: weights of z are those of w then."""
    if isinstance(op, Diagonal):
        return all(np.all(np.asarray(v) == np.ravel(v)[:1]) for v in (op.weights, op.radius))
    return isinstance(op, Identity)


@np.errstate(over="ignore", invalid="ignore")  # overflow ends in inf or NaN, which proves nothing
def distance(layer: Layer, iteration: Iteration, state: Bounds) -> np.ndarray:
    """How far z is from the solution after the steps of a file, entry by entry; infinite where it is not known.

    Where |(1 - c) s a_ii + c| e_i + |1 - c| |s| sum_j |a_ij| e_j <= r e_i for s = l_i, h_i, a step c z + (1 - c) f(z)
    takes the largest |z_i - z*_i| / e_i to at most r times that. Where data decide how many steps there are, the fixed
    point itself is what is meant.
    """
    found = np.full(layer.size, np.inf)
    if iteration.steps is None:
        return np.zeros(layer.size)
    if iteration.start is None or not _is_multiple(layer.scale):
        return found
    off = up(np.maximum(up(state[1] - iteration.start), up(iteration.start - state[0])))
    for under in RATES:
        weights = majorant_weights(layer, under)
        if weights is None:
            break
        rate = _rate(layer, iteration, weights)
        if rate < 1:
            first = up(off / weights).max(axis=-1, initial=0.0, keepdims=True)
            power = rate**iteration.steps + ETA  # what underflows may meet a start that is far off
            left = inflate(power * first, 2 * iteration.steps + 8) + TINY
            found = np.fmin(found, up(left * weights))
    return found


def _rate(layer: Layer, iteration: Iteration, weights: np.ndarray) -> float:
    """The r of `distance`, by these weights e."""
    kept = Enclosure(np.array(iteration.kept), np.array(np.spacing(abs(iteration.kept))))  # a rounded number
    factor = Enclosure(np.array(1.0)) - kept
    size = layer.matrix.magnitude()
    np.fill_diagonal(size, 0.0)
    beside = factor.magnitude() * Enclosure(inflate(size @ weights, layer.size)).value
    diagonal = Enclosure(np.diag(layer.matrix.value), np.diag(layer.matrix.full_radius()))
    rate = 0.0
    for slope in layer.slopes():
        own = (factor * Enclosure(slope) * diagonal + kept).magnitude()
        rows = up(up(own * weights) + up(np.abs(slope) * up(beside)))
        rate = max(rate, float(up(rows / weights).max(initial=0.0)))
    return rate
