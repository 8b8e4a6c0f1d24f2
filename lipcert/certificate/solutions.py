"""Where the solutions of an implicit layer are over a region, where there is one for every u (certificate.implicit).

It lies in any box that has one. A box [l, u] of v does by Poincare and Miranda if v_i - a_ii phi(v_i) - (the rest) is
at most 0 where v_i = l_i and at least 0 where v_i = u_i (for slopes in [0, 1] the embedded network of Jafarpour,
Davydov, Abate, Bullo, Coogan, 2022); or by Brouwer if v - W h(v) stays in it, W near (I - A S)^-1, S any slopes; or if
the multipliers of the second condition bound how far the solutions are from one (gains).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lipcert.activations import Activation
from lipcert.arithmetic.enclosure import Enclosure, hull, stack
from lipcert.arithmetic.rounding import ETA, down, inflate, mul_up, norm_up, sqrt_up, up
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import Equilibrium
from lipcert.certificate.implicit import Layer, check_unique, layers_of, well_posed_form
from lipcert.certificate.relaxation import offsets
from lipcert.errors import NotProvedError
from lipcert.operators import LinearOperator
from lipcert.problem import Ball, Everywhere, Norm, Problem, dual, rows_of

if TYPE_CHECKING:
    from lipcert.certificate.boxes import Bounds

ROUNDS = 8
"""Of images that narrow a box, as long as they do ..."""

GAIN = 1.01
"""... by this."""

ROOM = 1e-6
"""Relative, in a norm that is proven by a Cholesky factorisation."""

SHORT = 2.0**-20


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Of u over the region: u = u0 + sum B_k (s_k - c_k), s_k within r_k of c_k."""

    center: Enclosure
    radii: tuple[tuple[int, LinearOperator, np.ndarray], ...]


def surroundings(problem: Problem, layer: Layer, boxes: list[Bounds], by: Arithmetic) -> Surroundings:
    """From the boxes of the nodes that the layer reads."""
    region, center, radii = problem.query.region, layer.bias, []
    for source, op in layer.sources:
        if source == problem.x and isinstance(region, Ball):
            box = Enclosure(region.center, np.broadcast_to(region.eps, region.center.shape[-1]))
        else:
            box = hull(*boxes[source])
        center = center + by.apply(op, Enclosure(box.value))
        radii.append((source, op, box.full_radius()))
    return Surroundings(center, tuple(radii))


def reach_of(
    problem: Problem, rows: Enclosure | None, op: LinearOperator, source: int, radius: np.ndarray, by: Arithmetic
) -> np.ndarray:
    """Upper bounds on |rows B (s - c)|, rows times the operator (None: the operator); radii may have axes in front."""
    matrix = by.dense(op) if rows is None else rows @ by.dense(op)
    size = matrix.magnitude()
    ball = problem.query.region
    if source == problem.x and isinstance(ball, Ball):
        return mul_up(by.norms(size, dual(ball.norm)), ball.eps)
    endless = ~np.isfinite(radius)
    found = inflate(np.where(endless, 0.0, radius) @ size.T, size.shape[1])
    return np.where(endless @ (size != 0).T, np.inf, found) if endless.any() else found


def check_box(problem: Problem, layer: Layer, claimed: Equilibrium, boxes: list[Bounds], by: Arithmetic) -> Bounds:
    """The box of v that follows from the claimed one; NotProvedError unless the solutions over the region are in it.

    Of many regions, (K, n) each: the claimed ones.
    """
    low, high = claimed.lower, claimed.upper
    shape = (*rows_of(problem.query.region), layer.size)
    if low.shape != shape or high.shape != shape or not np.all(low <= high):
        raise NotProvedError(f"node {layer.fixed}: the claimed box is none of {layer.size} entries")
    around = surroundings(problem, layer, boxes, by)
    box = low, high
    one = len(shape) == 1
    if not (
        np.all(_faces_hold(problem, layer, box, around, by))
        or (one and _stays(problem, layer, box, around, by))
        or (claimed.multipliers.size and _is_reached(problem, layer, box, around, claimed.multipliers, by))
    ):
        raise NotProvedError(f"node {layer.fixed}: the solutions are not proven to lie in the claimed box")
    return narrowed(problem, layer, box, around, by) if one else box


@np.errstate(over="ignore", invalid="ignore")  # overflow ends in inf or NaN, which proves nothing
def _faces_hold(problem: Problem, layer: Layer, box: Bounds, around: Surroundings, by: Arithmetic) -> bool:
    low, high = box  # (n,) or (K, n)
    matrix, values = layer.matrix, layer.activation.enclose(low, high)
    diagonal = Enclosure(np.diag(matrix.value), np.diag(matrix.full_radius()))
    value, radius = matrix.value.copy(), matrix.full_radius().copy()
    np.fill_diagonal(value, 0.0)
    np.fill_diagonal(radius, 0.0)
    beside = hull(*values) @ Enclosure(value.T, radius.T) + around.center
    for source, op, size in around.radii:
        beside = beside + Enclosure(np.zeros(layer.size), reach_of(problem, None, op, source, size, by))

    def itself(end: np.ndarray) -> Enclosure:
        return Enclosure(end) - diagonal * hull(*layer.activation.enclose(end, end))

    finite = np.all(np.isfinite(low)) and np.all(np.isfinite(high))
    below, above = itself(low).upper() <= beside.lower(), itself(high).lower() >= beside.upper()
    return bool(finite and np.all(below) and np.all(above))


def narrowed(problem: Problem, layer: Layer, box: Bounds, around: Surroundings, by: Arithmetic) -> Bounds:
    """What is in a box and solves the equation is in the box's image, too."""
    for _ in range(ROUNDS):
        found = image(problem, layer, box, around, by)
        if found is None:
            break
        low, high = np.fmax(box[0], found[0]), np.fmin(box[1], found[1])
        with np.errstate(invalid="ignore"):
            gain = (box[1] - box[0]).sum() / (high - low).sum()
        box = low, high
        if not gain > GAIN:
            break
    return box


@np.errstate(over="ignore", invalid="ignore")  # overflow ends in inf or NaN, which proves nothing
def gains(
    problem: Problem, layer: Layer, middle: np.ndarray, around: Surroundings, multipliers: np.ndarray, by: Arithmetic
) -> np.ndarray | None:
    """How far the solutions' v can be from `middle` (n,), or each of many (K, n), by the second condition: an ellipsoid
    around its w.

    With dv = A dw + q and slopes in [l, h], l h >= 0, sum t (dw - l dv) (dw - h dv) <= 0 gives dw' K dw <= dw' H q, for
    H = T (l + h) - 2 A' T l h. If q = G z, |z|_2 <= 1 and K > H G G' H' / nu, then y' K dw <= y' H q / 2 + sqrt(nu y' K
    y) / 2 for every y, of which A_i is nearly one.
    """
    low, high = layer.slopes()
    if np.any((low < 0) & (high > 0)):
        return None
    n, a, t = layer.size, layer.matrix, Enclosure(multipliers)
    transposed = a.rearrange(np.transpose)
    into = Enclosure(np.eye(n)) * (t * (Enclosure(low) + Enclosure(high)))
    if np.any((low != 0) & (high != 0)):
        into = into - transposed * (t * Enclosure(2 * low) * Enclosure(high))
    values = hull(*layer.activation.enclose(middle, middle))
    lack = (Enclosure(middle) - values @ transposed - around.center).magnitude().reshape(-1, n).max(axis=0)
    # columns of the little that the middle lacks are as long as others, and the z that go with them short
    parts: list[tuple[Enclosure, Norm]] = [(Enclosure(np.diag(lack)), math.inf)]
    for source, op, radius in around.radii:
        ball = problem.query.region
        if not np.all(np.isfinite(radius)):
            return None
        norm = ball.norm if source == problem.x and isinstance(ball, Ball) else math.inf
        parts.append((by.dense(op) * Enclosure(radius.reshape(-1, op.in_size).max(axis=0)), norm))
    largest = max((float(np.abs(part.value).max(initial=0.0)) for part, _ in parts[1:]), default=0.0)
    ratio = lack.max(initial=0.0) / largest if largest > 0 else 1.0
    short = 2.0 ** float(np.clip(np.ceil(np.log2(ratio + SHORT)), -20, 0))
    count = n * short**2 + float(sum(part.shape[1] if norm > 2 else 1 for part, norm in parts[1:]))
    moved = into @ stack([Enclosure(np.diag(lack / short)), *(part for part, _ in parts[1:])], 1)
    form, error = (side[0] / 2 for side in well_posed_form(layer, multipliers))
    try:
        least = float(np.linalg.eigvalsh(form)[0]) / 2
        half = np.linalg.solve(np.linalg.cholesky(form), moved.value)
        nu = float(np.linalg.eigvalsh(half @ half.T)[-1]) * (1 + ROOM) + ETA
        rows = Enclosure(np.linalg.solve(form, a.value.T).T)
    except np.linalg.LinAlgError:
        return None
    inside = Enclosure(form) - (moved @ moved.rearrange(np.transpose)) * Enclosure(np.array(up(1 / nu)))
    shifted = Enclosure(form) - Enclosure(np.diag(np.full(n, least)))
    if not (_is_positive(inside, error, by) and _is_positive(shifted, error, by)):
        return None
    total = float(up(nu * up(count)))
    # |y' (K - form) y| <= sum of error_i y_i^2, and |y' (K - form)|_2 <= sum of error_i |y_i|
    squares = ((rows @ Enclosure(form, np.diag(error))) * rows).total().upper()[:, 0]
    rest = norm_up((a - rows @ Enclosure(form)).magnitude(), 2) + inflate(rows.magnitude() @ error, n)
    found = up(sqrt_up(up(squares * total)) / 2) + up(rest * sqrt_up(up(total / least)))
    across = rows @ into * Enclosure(np.array(0.5)) + Enclosure(np.eye(n))
    for part, norm in parts:
        found = found + by.norms((across @ part).magnitude(), dual(norm))
    return np.asarray(inflate(found, 8 + len(parts)))


def _is_positive(matrix: Enclosure, error: np.ndarray, by: Arithmetic) -> bool:
    """Whether all symmetric matrices within the enclosure, and an error with these row sums, are positive definite."""
    value = (matrix.value + matrix.value.T) / 2
    spread = matrix.full_radius() + np.abs(value - matrix.value)
    return by.prove_positive(value[None], inflate(spread.sum(axis=1) + error, len(value) + 4)[None])


def _is_reached(
    problem: Problem, layer: Layer, box: Bounds, around: Surroundings, multipliers: np.ndarray, by: Arithmetic
) -> bool:
    if not (np.all(np.isfinite(box[0])) and np.all(np.isfinite(box[1]))):
        return False
    middle = box[0] / 2 + box[1] / 2
    found = gains(problem, layer, middle, around, multipliers, by)
    return found is not None and bool(np.all(box[0] <= down(middle - found)) and np.all(up(middle + found) <= box[1]))


def _stays(problem: Problem, layer: Layer, box: Bounds, around: Surroundings, by: Arithmetic) -> bool:
    if not (np.all(np.isfinite(box[0])) and np.all(np.isfinite(box[1]))):
        return False
    found = image(problem, layer, box, around, by)
    return found is not None and bool(np.all(box[0] <= found[0]) and np.all(found[1] <= box[1]))


@np.errstate(over="ignore", invalid="ignore")  # overflow ends in inf or NaN, which proves nothing
def image(problem: Problem, layer: Layer, box: Bounds, around: Surroundings, by: Arithmetic) -> Bounds | None:
    """Where v -> v - W h(v) takes a box of v: with phi(v) = S v + d, to W (A d + u) + (I - W (I - A S)) v."""
    low, high = box
    slopes = chord_slopes(layer.activation, low, high)
    try:
        inverse, step, error = preconditioner(layer, slopes, by)
    except np.linalg.LinAlgError:
        return None
    if not np.all(inflate(error.sum(axis=1), layer.size) < 1):  # then W is regular
        return None
    noise = hull(*offsets(layer.activation, slopes, low, high)).reshape((-1, 1))
    size = np.maximum(np.abs(low), np.abs(high))
    moved = (step @ noise + inverse @ around.center.reshape((-1, 1))).reshape((layer.size,))
    reach = inflate(error @ size, layer.size)
    for source, op, radius in around.radii:
        reach = reach + reach_of(problem, inverse, op, source, radius, by)
    found = moved + Enclosure(np.zeros(layer.size), inflate(reach, len(around.radii) + 1))
    return found.lower(), found.upper()


def preconditioner(layer: Layer, slopes: np.ndarray, by: Arithmetic) -> tuple[Enclosure, Enclosure, np.ndarray]:
    """W near (I - A S)^-1, W A, and bounds on |I - W (I - A S)|; LinAlgError where there is none.

    The last one is remembered: at a point the slopes are the same in all rounds, and of many neurons this takes long.
    """
    last: dict[str, Any] = by.kept(("preconditioner", layer), dict)
    if not np.array_equal(last.get("slopes", ()), slopes):
        inverse = Enclosure(np.linalg.inv(np.eye(layer.size) - layer.matrix.value * slopes))
        step = inverse @ layer.matrix
        error = (Enclosure(np.eye(layer.size)) - inverse + step * Enclosure(slopes)).magnitude()
        last.update(slopes=slopes, found=(inverse, step, error))
    found: tuple[Enclosure, Enclosure, np.ndarray] = last["found"]
    return found


@np.errstate(all="ignore")  # any slopes will do
def chord_slopes(activation: Activation, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Of the chord over each interval."""
    least, most = activation.slopes(low, high)
    slope = (activation.value(high) - activation.value(low)) / (high - low)
    return np.asarray(np.clip(np.where(np.isfinite(slope), slope, least / 2 + most / 2), least, most))


def located(problem: Problem, state: int, boxes: list[Bounds], by: Arithmetic) -> dict[int, Bounds]:
    """Boxes of a State and of what its layer's activation reads, proven from those of the nodes before them.

    Nothing where nothing is claimed of it, and then nothing is proven of it.
    """
    claimed = next((e for e in problem.equilibria if e.state == state), None)
    if claimed is None:
        return {}
    layer = layers_of(problem.graph, by).get(state)
    if layer is None:
        raise NotProvedError(f"node {state} is not the state of an implicit layer")
    by.kept(("unique", problem.graph, state, claimed.multipliers), lambda: check_unique(layer, claimed.multipliers, by))
    if isinstance(problem.query.region, Everywhere):
        return {}
    box = check_box(problem, layer, claimed, boxes, by)
    values = by.apply(layer.scale, hull(*layer.activation.enclose(*box)))
    return {state: (values.lower(), values.upper()), layer.reads: box}
