"""The embedded network of an implicit layer that contracts in l-infinity, for many boxes at a time.

Its fixed point is the smallest box that it takes into itself (Jafarpour, Davydov, Abate, Bullo, Coogan 2022, "Robust
Training and Verification of Implicit Neural Networks").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lipcert.certificate.boxes import Bounds
from lipcert.certificate.implicit import Layer

if TYPE_CHECKING:
    import torch

ROOM = 2.0**-30
"""By which boxes are wider than what maps into them."""

STEPS = 200

CLOSE = 0.01
"""How far a center may be from its solution, in radii of the box: boxes do not depend on it in the end."""

NEWTON_STEPS = 20


@dataclass(frozen=True, eq=False)
class Rests:
    """A layer in r = v - diag(A) phi(v), of which v is a function, neuron by neuron: r = R phi(v(r)) + u.

    R has no diagonal: steps of the whole r keep what is inside inside. Slopes of phi(v(r)) are at most
    |s| / (1 - a_ii s), for which `inverse` is that of the majorant.
    """

    layer: Layer
    own: np.ndarray
    """The diagonal of A."""

    others: np.ndarray
    """R."""

    inverse: np.ndarray


def rests_of(layer: Layer) -> Rests | None:
    """None where the layer is not seen to contract."""
    own = np.diag(layer.matrix.value)
    others = layer.matrix.value - np.diag(own)
    slopes = np.array(layer.slopes())
    if not np.all(1 - own * slopes > 0):
        return None
    steepest = np.max(np.abs(slopes) / (1 - own * slopes), axis=0)
    try:
        inverse = np.linalg.inv(np.eye(layer.size) - np.abs(others) * steepest)
    except np.linalg.LinAlgError:
        return None
    if not (np.all(np.isfinite(inverse)) and np.all(inverse.sum(axis=1) > 0)):
        return None
    return Rests(layer, own, others, inverse)


@np.errstate(all="ignore")
def embedded(
    layer: Layer, u: np.ndarray, reach: np.ndarray, gain: float, device: torch.device | None = None
) -> Bounds | None:
    """Boxes of v for sources within `reach` of what gives u (K, n); None where the layer is not seen to contract.

    Steps end where they make boxes narrower by less than `gain`; they are taken on the device, if one is given, where
    that knows the range of the activation.
    """
    rests = rests_of(layer)
    if rests is None:
        return None
    if device is not None and np.all(layer.slopes()[0] >= 0):
        from lipcert.methods.implicit.on_device import narrowed_on

        low, high = narrowed_on(device, rests, u, reach, gain)
    else:
        low, high = _narrowed(rests, u, reach, gain)
    largest = 1 + max(np.abs(low).max(initial=0.0), np.abs(high).max(initial=0.0))
    wide = rests.inverse.sum(axis=1)
    room = ROOM * largest * wide / wide.max()
    return _of_rest(rests, low - room), _of_rest(rests, high + room)


def _narrowed(rests: Rests, u: np.ndarray, reach: np.ndarray, gain: float) -> Bounds:
    """Boxes of r."""
    phi = rests.layer.activation
    signed, size = rests.others.T.copy(), np.abs(rests.others).T.copy()
    r = u
    for _ in range(STEPS):
        before, r = r, phi.value(_of_rest(rests, r)) @ signed + u
        if np.abs(r - before).max(initial=0.0) <= CLOSE * np.min(reach, initial=np.inf):
            break
    lack = np.abs(phi.value(_of_rest(rests, r)) @ signed + u - r)
    radius = (1 + ROOM) * (lack + reach) @ rests.inverse.T
    low, high = r - radius, r + radius
    for _ in range(STEPS):
        least, most = phi.enclose(_of_rest(rests, low), _of_rest(rests, high))
        middle, around = (least / 2 + most / 2) @ signed + u, (most / 2 - least / 2) @ size + reach
        before, (low, high) = high - low, (middle - around, middle + around)
        if not before.sum() > (1 + gain) * (high - low).sum():
            break
    return low, high


def _of_rest(rests: Rests, r: np.ndarray) -> np.ndarray:
    """v with v - a_ii phi(v) = r, by Newton's method, in a form in which nothing cancels on a straight piece."""
    v, phi, own = r, rests.layer.activation, rests.own
    for _ in range(NEWTON_STEPS):
        slope = phi.derivative(v)
        before, v = v, (r + own * (phi.value(v) - slope * v)) / (1 - own * slope)
        if not np.abs(v - before).max(initial=0.0) > 1e-14 * np.abs(v).max(initial=0.0):
            break
    return v
