"""The embedded network of an implicit layer that contracts in l-infinity, for many boxes at a time.

Its fixed point is the smallest box that it takes into itself (Jafarpour, Davydov, Abate, Bullo, Coogan 2022, "Robust
Training and Verification of Implicit Neural Networks").
"""

from __future__ import annotations

import numpy as np

from lipcert.certificate.boxes import Bounds
from lipcert.certificate.implicit import Layer

ROOM = 2.0**-30
"""By which boxes are wider than what maps into them."""

STEPS = 200

CLOSE = 0.01
"""How far a center may be from its solution, in radii of the box: boxes do not depend on it in the end."""

NEWTON_STEPS = 20


@np.errstate(all="ignore")
def embedded(layer: Layer, u: np.ndarray, reach: np.ndarray, gain: float) -> Bounds | None:
    """Boxes of v for sources within `reach` of what gives u (K, n); None where the layer is not seen to contract.

    Steps end where they make boxes narrower by less than `gain`.

    In r = v - diag(A) phi(v), of which v is a function, neuron by neuron: r = R phi(v(r)) + u, R without a diagonal.
    Slopes of phi(v(r)) are at most |s| / (1 - a_ii s); steps of the whole r keep what is inside inside.
    """
    a = layer.matrix.value
    own = np.diag(a)
    rest = a - np.diag(own)
    slopes = np.array(layer.slopes())
    steepest = np.max(np.abs(slopes) / (1 - own * slopes), axis=0)
    if not np.all(1 - own * slopes > 0):
        return None
    try:
        inverse = np.linalg.inv(np.eye(layer.size) - np.abs(rest) * steepest)
    except np.linalg.LinAlgError:
        return None
    wide = inverse @ np.ones(layer.size)
    if not (np.all(np.isfinite(inverse)) and np.all(wide > 0)):
        return None
    signed, size = rest.T.copy(), np.abs(rest).T.copy()
    r = u
    for _ in range(STEPS):
        before, r = r, layer.activation.value(_of_rest(layer, own, r)) @ signed + u
        if np.abs(r - before).max(initial=0.0) <= CLOSE * np.min(reach, initial=np.inf):
            break
    lack = np.abs(layer.activation.value(_of_rest(layer, own, r)) @ signed + u - r)
    radius = (1 + ROOM) * (lack + reach) @ inverse.T
    low, high = r - radius, r + radius
    for _ in range(STEPS):
        least, most = layer.activation.enclose(_of_rest(layer, own, low), _of_rest(layer, own, high))
        middle, around = (least / 2 + most / 2) @ signed + u, (most / 2 - least / 2) @ size + reach
        before, (low, high) = high - low, (middle - around, middle + around)
        if not before.sum() > (1 + gain) * (high - low).sum():
            break
    largest = 1 + max(np.abs(low).max(initial=0.0), np.abs(high).max(initial=0.0))
    room = ROOM * largest * wide / wide.max()
    return _of_rest(layer, own, low - room), _of_rest(layer, own, high + room)


def _of_rest(layer: Layer, own: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """v with v - a_ii phi(v) = r, by Newton's method, in a form in which nothing cancels on a straight piece."""
    v, phi = rest, layer.activation
    for _ in range(NEWTON_STEPS):
        slope = phi.derivative(v)
        before, v = v, (rest + own * (phi.value(v) - slope * v)) / (1 - own * slope)
        if not np.abs(v - before).max(initial=0.0) > 1e-14 * np.abs(v).max(initial=0.0):
            break
    return v
