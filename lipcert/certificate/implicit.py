"""Implicit layers, z = w = phi(v), v = A w + u, u = sum B_k s_k + b: that there is one solution, and where it is.

There is one for every u if I - A diag(s) is nonsingular for all slopes s of phi, which are bounded (h(v) = v - A phi(v)
is then a homeomorphism). Two conditions, over slopes in [l, h] everywhere:

- some e > 0 has s a_ii e_i + |s| sum_j |a_ij| e_j < e_i for s = l_i, h_i and all i: for slopes in [0, 1] this is
  mu(A) < 1 in l-infinity weighted by e, or in l1 (the majorant is an M-matrix: Jafarpour, Davydov, Proskurnikov,
  Bullo, NeurIPS 2021);
- some t > 0 has sum t_i (dw_i - l_i dv_i) (dw_i - h_i dv_i) > 0 on dv = A dw: 2 T - T A - A' T > 0 for [0, 1].

Where there is one solution it lies in any box that has one. A box [l, u] of v does by Poincare and Miranda if v_i -
a_ii phi(v_i) - (the rest) is at most 0 where v_i = l_i and at least 0 where v_i = u_i (for slopes in [0, 1] the
embedded network of the same authors, 2022); or by Brouwer if v - W h(v) stays in it, W near (I - A S)^-1, S any slopes;
or if the second condition bounds how far the solutions are from one (gains).
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
from lipcert.certificate.relaxation import offsets
from lipcert.errors import NotProvedError
from lipcert.graph import Elementwise, FixedPoint, Graph, Iteration, State, linear_terms
from lipcert.graph.stretch import bias_of
from lipcert.operators import Diagonal, Identity, LinearOperator
from lipcert.problem import Ball, Everywhere, Norm, Problem, dual, rows_of

if TYPE_CHECKING:
    from lipcert.certificate.boxes import Bounds

MAX_NEURONS = 4096

ROUNDS = 8
"""Of images that narrow a box, as long as they do ..."""

GAIN = 1.01
"""... by this."""

ROOM = 1e-6
"""Relative, in a norm that is proven by a Cholesky factorisation."""

NEARLY = 1 - 2.0**-10
"""Rates that are shown with room for roundings, which (M e)_i / e_i = 1 - 1 / e_i has none for where e is huge."""

RATES = (1.0, NEARLY, 0.97, 0.9, 0.8, 0.65, 0.5, 0.25)
"""Of contraction, for which weights are tried where steps are counted."""

SHORT = 2.0**-20

TINY = 1e-290
"""Above what underflows."""


@dataclass(frozen=True, eq=False)
class Layer:
    """An implicit layer of a graph."""

    state: int
    reads: int
    """The node v."""

    neurons: int
    """The node w = phi(v)."""

    fixed: int
    """The FixedPoint."""

    activation: Activation
    matrix: Enclosure
    """A."""

    sources: tuple[tuple[int, LinearOperator], ...]
    """(node, B_k): inputs and nonlinear nodes before the State."""

    bias: Enclosure
    scale: LinearOperator
    """z = scale w: the identity, but for a step whose damping is not quite (c, 1 - c)."""

    origin: str = ""

    @property
    def size(self) -> int:
        return len(self.matrix.value)

    def slopes(self) -> Bounds:
        """Everywhere."""
        return self.activation.slopes(np.full(self.size, -np.inf), np.full(self.size, np.inf))


def layers_of(graph: Graph, by: Arithmetic) -> dict[int, Layer]:
    """Every implicit layer, by its State; NotProvedError where a fixed point is of another form."""
    found = by.kept(("layers", graph), lambda: [_layer(graph, i, by) for i in _fixed_points(graph)])
    return {layer.state: layer for layer in found}


def _fixed_points(graph: Graph) -> list[int]:
    return [i for i, node in enumerate(graph.nodes) if isinstance(node, FixedPoint)]


def _layer(graph: Graph, position: int, by: Arithmetic) -> Layer:
    fixed = graph.nodes[position]
    assert isinstance(fixed, FixedPoint)
    state, name = fixed.state, f"the fixed point {fixed.origin!r}"
    out = linear_terms(graph, fixed.body, frozenset())
    if len(out) != 1 or np.any((rest := bias_of(graph, fixed.body)).value) or not rest.is_exact:
        raise NotProvedError(f"{name} is not one activation of the state: LipSDP alone bounds it")
    neurons, scale = next(iter(out.items()))
    node = graph.nodes[neurons]
    if not isinstance(node, Elementwise) or neurons < state or graph.size(neurons) != graph.size(state):
        raise NotProvedError(f"{name} is not one activation of the state, entry by entry: LipSDP alone bounds it")
    terms = linear_terms(graph, node.input, frozenset())
    inner = terms.pop(state, None)
    if any(source > state for source in terms) or any(isinstance(graph.nodes[s], State) for s in terms):
        raise NotProvedError(f"{name} has another activation inside its loop: LipSDP alone bounds it")
    size = graph.size(state)
    if size > MAX_NEURONS:
        raise NotProvedError(f"{name} has {size} entries, over the limit of {MAX_NEURONS}")
    matrix = Enclosure(np.zeros((size, size))) if inner is None else by.dense(inner)
    if not isinstance(scale, Identity):
        matrix = matrix @ by.dense(scale)
    if not matrix.is_finite:
        raise NotProvedError(f"{name}: its matrix is not finite")
    bias = bias_of(graph, node.input)
    return Layer(
        state, node.input, neurons, position, node.activation, matrix, tuple(terms.items()), bias, scale, fixed.origin
    )


def check_unique(layer: Layer, multipliers: np.ndarray, by: Arithmetic) -> None:
    """NotProvedError unless the layer has one solution for every u; `multipliers` as in Equilibrium."""
    low, high = layer.slopes()
    if not (np.all(np.isfinite(low)) and np.all(np.isfinite(high))):
        raise NotProvedError(f"node {layer.neurons}: its slopes are not bounded")
    if multipliers.size == 0:
        weights = (majorant_weights(layer, under) for under in (1.0, NEARLY))
        if not any(w is not None and contraction(layer, w) < 1 for w in weights):
            raise NotProvedError(f"node {layer.fixed}: no weights show a contraction in l-infinity")
        return
    if multipliers.shape != (layer.size,) or not (np.all(np.isfinite(multipliers)) and np.all(multipliers > 0)):
        raise NotProvedError(f"node {layer.fixed}: the multipliers are not a positive number for each neuron")
    if not by.prove_positive(*well_posed_form(layer, multipliers)):
        raise NotProvedError(f"node {layer.fixed}: the inequality of well-posedness is not positive definite")


def well_posed_form(layer: Layer, multipliers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(1, n, n) the form in dw of the second condition, doubled, and the row sums of its error."""
    low, high = layer.slopes()
    a, t = layer.matrix, Enclosure(multipliers)
    total = Enclosure(np.diag(2 * multipliers))
    both = (t * (Enclosure(low) + Enclosure(high))).reshape((-1, 1)) * a
    total = total - (both + both.rearrange(np.transpose))
    if np.any((low != 0) & (high != 0)):
        product = (t * Enclosure(low) * Enclosure(high)).reshape((-1, 1)) * a
        square = a.rearrange(np.transpose) @ product
        total = total + square + square.rearrange(np.transpose)
    value = (total.value + total.value.T) / 2  # of sums in two orders
    error = total.full_radius() + np.abs(value - total.value)
    return value[None], inflate(error.sum(axis=1), layer.size + 2)[None]


def majorant(layer: Layer) -> np.ndarray:
    """Of A times the slope that is largest in size: absolute values, but for the diagonal (rounded to nearest)."""
    low, high = layer.slopes()
    steepest = np.where(np.abs(high) >= np.abs(low), high, low)
    diagonal = np.diag(layer.matrix.value)
    found = np.abs(steepest[:, None] * layer.matrix.value)
    both = np.maximum(low * diagonal, high * diagonal)
    np.fill_diagonal(found, np.where((low < 0) & (high > 0), both, steepest * diagonal))
    return found


def majorant_weights(layer: Layer, under: float = 1.0) -> np.ndarray | None:
    """e = (t I - M)^-1 1 for the majorant M, which is positive exactly where some e has M e < t e (what contraction
    proves of both ends of the slopes); else None."""
    try:
        weights = np.linalg.solve(under * np.eye(layer.size) - majorant(layer), np.ones(layer.size))
    except np.linalg.LinAlgError:
        return None
    return weights if np.all(np.isfinite(weights)) and np.all(weights > 0) else None


@np.errstate(over="ignore", invalid="ignore")  # overflow ends in inf or NaN, which proves nothing
def contraction(layer: Layer, weights: np.ndarray) -> float:
    """The largest (M e)_i / e_i: an upper bound on mu of the slopes times A in l-infinity weighted by e."""
    low, high = layer.slopes()
    size = layer.matrix.magnitude()
    np.fill_diagonal(size, 0.0)
    beside = inflate(size @ weights, layer.size)
    diagonal = Enclosure(np.diag(layer.matrix.value), np.diag(layer.matrix.full_radius())) * Enclosure(weights)
    ends = [(Enclosure(s) * diagonal + Enclosure(np.abs(s)) * Enclosure(beside)).upper() for s in (low, high)]
    return float(up(np.maximum(*ends) / weights).max(initial=0.0))


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
