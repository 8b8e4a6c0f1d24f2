"""Implicit layers, z = w = phi(v), v = A w + u, u = sum B_k s_k + b: that there is one solution for every u.

There is if I - A diag(s) is nonsingular for all slopes s of phi, which are bounded (h(v) = v - A phi(v) is then a
homeomorphism). Two conditions, over slopes in [l, h] everywhere:

- some e > 0 has s a_ii e_i + |s| sum_j |a_ij| e_j < e_i for s = l_i, h_i and all i: for slopes in [0, 1] this is
  mu(A) < 1 in l-infinity weighted by e, or in l1 (the majorant is an M-matrix: Jafarpour, Davydov, Proskurnikov,
  Bullo, NeurIPS 2021);
- some t > 0 has sum t_i (dw_i - l_i dv_i) (dw_i - h_i dv_i) > 0 on dv = A dw: 2 T - T A - A' T > 0 for [0, 1].

Where it is: certificate.solutions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lipcert.activations import Activation
from lipcert.arithmetic.enclosure import Enclosure
from lipcert.arithmetic.rounding import inflate, up
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.errors import NotProvedError
from lipcert.graph import Elementwise, FixedPoint, Graph, State, linear_terms
from lipcert.graph.stretch import bias_of
from lipcert.operators import Identity, LinearOperator

if TYPE_CHECKING:
    from lipcert.certificate.boxes import Bounds

MAX_NEURONS = 4096

NEARLY = 1 - 2.0**-10
"""Rates that are shown with room for roundings, which (M e)_i / e_i = 1 - 1 / e_i has none for where e is huge."""


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
