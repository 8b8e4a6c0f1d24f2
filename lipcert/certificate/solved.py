"""Implicit layers under linear bounds: planes back through the solution, instead of step after step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure, hull
from lipcert.arithmetic.rounding import down, inflate, up
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import Bounds, interval_product
from lipcert.certificate.implicit import Layer
from lipcert.certificate.relaxation import offsets
from lipcert.certificate.solutions import chord_slopes
from lipcert.errors import NotProvedError
from lipcert.operators import Identity, LinearOperator, enclosed, transpose

TINY = 1e-290

NOTHING = 1e-30
"""Below which entries are left out where it is guessed."""

ROOM = 1e-9
"""Relative, in what is solved for in float64."""


@dataclass(frozen=True, eq=False)
class Solved:
    """An implicit layer z = scale w, w = S v + d, v = A w + sum B_k s_k + b, d within its box in each case.

    p (I - S A) is near any row c for p = c inverse, and c w = p d + p S (sum B_k s_k + b) + (c - p (I - S A)) w.
    """

    matrix: Enclosure
    sources: tuple[tuple[int, LinearOperator], ...]
    bias: Enclosure
    scale: LinearOperator
    slopes: np.ndarray
    inverse: np.ndarray
    noise: Bounds
    values: Bounds
    """The boxes of w."""


def solved(layer: Layer, box: Bounds, slopes: np.ndarray | None = None) -> Solved | None:
    """The layer for planes, v in the boxes (cases, n); None where no slopes make it regular."""
    low, high = box
    if slopes is None:
        slopes = chord_slopes(layer.activation, low.min(axis=0), high.max(axis=0))
    try:
        inverse = np.linalg.inv(np.eye(layer.size) - slopes[:, None] * layer.matrix.value)
    except np.linalg.LinAlgError:
        return None
    if not np.all(np.isfinite(inverse)):
        return None
    noise, values = offsets(layer.activation, slopes, low, high), layer.activation.enclose(low, high)
    return Solved(layer.matrix, layer.sources, layer.bias, layer.scale, slopes, inverse, noise, values)


@np.errstate(over="ignore", invalid="ignore")  # overflow ends in inf or NaN, which bounds nothing
def turned(layer: Layer, slopes: Bounds, coming: Bounds, which: np.ndarray, source: int, by: Arithmetic) -> Solved:
    """The chain rule back through a layer, g = S (A' g + scale' c) for slopes S in [l, h] and c in a box, as a layer.

    `slopes` of pieces, `coming` of cases, `which` piece a case is of; c is node `source`. With a_ii on the other side
    g = T r and r = N' g + scale' c, where t = s / (1 - s a_ii) and N is A but for its diagonal. About any T0 and with
    W = (I - N' T0)^-1, |r| <= |W scale' c| + |W N'| |T - T0| |r|; also |r| <= |scale' c| + |N'| |T| |r|.
    """
    n = layer.size
    diagonal = Enclosure(np.diag(layer.matrix.value), np.diag(layer.matrix.full_radius()))
    others = Enclosure(*(v - np.diag(np.diag(v)) for v in (layer.matrix.value.T, layer.matrix.full_radius().T)))
    least, most = (_over_own(diagonal, side) for side in slopes)
    low, high = least.lower(), most.upper()
    middle = (low.min(axis=0) + high.max(axis=0)) / 2
    spread = up(np.maximum(up(high - middle), up(middle - low)))
    try:
        inverse = Enclosure(np.linalg.inv(np.eye(n) - others.value * middle))
        back = np.linalg.inv(np.eye(n) - middle[:, None] * others.value)
    except np.linalg.LinAlgError:
        raise NotProvedError(f"node {layer.fixed}: the middle of its slopes is singular") from None
    step = inverse @ others
    error = (Enclosure(np.eye(n)) - inverse + step * Enclosure(middle)).magnitude()
    given = enclosed.apply_adjoint(layer.scale, hull(*coming))
    first = given @ inverse.rearrange(np.transpose)
    narrow = up(up(step.magnitude()[None] * spread[:, None, :]) + error)
    wide = up(others.magnitude()[None] * np.maximum(np.abs(low), np.abs(high))[:, None, :])
    size = np.minimum(dominated(narrow, first.magnitude(), which), dominated(wide, given.magnitude(), which))
    if not np.all(np.isfinite(size)):
        raise NotProvedError(f"the slopes of the fixed point {layer.origin!r} are too open for a bound on its Jacobian")
    low, high, spread = (v[which] if len(v) > 1 else v for v in (low, high, spread))
    moved = inflate((size * spread) @ step.magnitude().T + size @ error.T, 2 * n + 4)
    about = first + Enclosure(np.zeros(first.shape), moved)
    reach = np.maximum(about.lower(), -size), np.minimum(about.upper(), size)
    noise = interval_product((down(low - middle), up(high - middle)), reach)
    values = interval_product((low, high), reach)
    sources = ((source, transpose(layer.scale)),)
    return Solved(others, sources, Enclosure(np.zeros(n)), Identity(n), middle, back, noise, values)


def _over_own(diagonal: Enclosure, slopes: np.ndarray) -> Enclosure:
    """s / (1 - s a_ii), which increases with s where the divisor is above zero."""
    divisor = Enclosure(np.ones(slopes.shape)) - Enclosure(slopes) * diagonal
    if not np.all(divisor.lower() > 0):
        raise NotProvedError("a neuron of a fixed point feeds back to itself too strongly")
    return Enclosure(slopes) / divisor


def dominated(matrices: np.ndarray, start: np.ndarray, which: np.ndarray) -> np.ndarray:
    """(cases, n) upper bounds on every r >= 0 with r <= start + G r, G that of the piece; infinite where none is seen.

    G r < r for some r > 0 shows that the powers of G tend to zero, so that r <= (I - G)^-1 start.
    """
    n = start.shape[1]
    start = up(start + TINY)
    roomy = start * (1 + ROOM) + ROOM * start.max(axis=1, keepdims=True)
    found = np.full(start.shape, np.inf)
    for piece, matrix in enumerate(matrices):
        cases = np.arange(len(start)) if len(matrices) == 1 else np.flatnonzero(which == piece)
        try:
            # without the entries that rounding made of zeros: denormal numbers take twenty times as long
            guess = np.linalg.solve(np.eye(n) - np.where(matrix > NOTHING, matrix, 0.0), roomy[cases].T).T
        except np.linalg.LinAlgError:
            continue
        holds = np.all(up(start[cases] + inflate(guess @ matrix.T, n)) <= guess, axis=1) & np.all(guess > 0, axis=1)
        found[cases[holds]] = guess[holds]
    return found
