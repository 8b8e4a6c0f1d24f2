"""LipSDP as a linear matrix inequality, block by block: for networks whose layers see only their neighbours.

With z = phi(v), slopes in [l, h], dv = A dz + B dx and dy = C dz + D dx over all nonlinear nodes, scales e > 0 of
neurons, a > 0 of inputs, c >= 0 of outputs, in the coordinates dx / a and dz / e:

    P = sum over inputs of dx^2 / a^2 + sum over neurons of (dz - l dv) (dz - h dv) / e^2 - |diag(c) dy|^2

Each neuron's term is at most 0 (of a group: (|dz|^2 - |s dv|^2) / e^2, or a form of certificate.forms), so that P > 0
proves |diag(c) dy|_2 <= |diag(1/a) dx|_2: LipSDP of Fazlyab, Robey, Hassani, Morari, Pappas (NeurIPS 2019). P has a
block for two nodes only where one reads the other, or a third one reads both and its slopes do not begin at zero.

Implicit networks are no special case: a node may read itself, or one behind it. With e > 0, P > 0 on dx = 0 says that
I - A diag(s) is nonsingular for all slopes s in their ranges, so that there is one fixed point for every input
(well-posedness; Revay, Wang, Manchester 2020).
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

from lipcert.activations.jacobian import BlockBound, SlopeBound
from lipcert.arithmetic.rounding import ETA, gamma, inflate, mul_up, norm_up, up
from lipcert.certificate.chains import Setting, step_terms
from lipcert.certificate.claim import Inequality, Scaling
from lipcert.certificate.definite import SymmetricBlocks
from lipcert.certificate.forms import add_form, quadratic_forms
from lipcert.certificate.terms import Term, place_cross, scaled_terms
from lipcert.errors import NotProvedError

MAX_ENTRIES = 2**28
"""Of the blocks: 2 GiB, and as much again for their factor."""

TINY = 1e-150


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # overflow ends in inf or NaN, which proves nothing
def inequality_bound(setting: Setting, evidence: Inequality) -> float:
    """The bound on all outputs."""
    if setting.norm_in != 1 and setting.norm_out != math.inf and len(evidence.scalings) > 1:
        raise NotProvedError("several scalings bound inputs in l1 or outputs in l-infinity only")
    return float(output_bounds(setting, evidence).max(initial=0.0))


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def output_bounds(setting: Setting, evidence: Inequality) -> np.ndarray:
    """(inputs in l1, else 1; outputs): of each output the least that a scaling proves that speaks of it."""
    if not evidence.scalings:
        raise NotProvedError("no scaling is given")
    p, q = setting.norm_in, setting.norm_out
    # in l1 each input by itself, |J|_{1->q} being the largest |J e_i|_q; in linf each output
    best = np.full((setting.graph.size(setting.x) if p == 1 else 1, setting.graph.size(setting.y)), np.inf)
    for scaling in evidence.scalings:
        _check_proven(setting, scaling)
        covered = scaling.outputs > 0
        before, inverse = up(1 / scaling.inputs), up(1 / scaling.outputs[covered])
        into = before if p == 1 else norm_up(before, 2.0) if p == math.inf else before.max(initial=0.0)
        after = inverse if q == math.inf else norm_up(inverse, 2.0) if q == 1 else inverse.max(initial=0.0)
        bound = mul_up(np.reshape(into, (-1, 1)), np.reshape(after, (1, -1)))
        best[:, covered] = np.minimum(best[:, covered], bound)
    return best


def _check_proven(setting: Setting, scaling: Scaling) -> None:
    _check_scaling(setting, scaling)
    proven: list[tuple[bytes, np.ndarray]] = setting.by.kept(("scalings", setting.increments), list)
    parts = [scaling.hidden, scaling.outputs, *(a for f in scaling.forms for a in (np.array(f.node), f.values))]
    rest = hashlib.sha256(b"".join(part.tobytes() for part in parts)).digest()
    if any(known == rest and np.all(scaling.inputs <= inputs) for known, inputs in proven):
        return  # of inputs with smaller scales P is larger
    form = inequality(setting, scaling)
    if not setting.by.proves_positive(form):
        size = sum(form.sizes)
        raise NotProvedError(f"the linear matrix inequality, {size} x {size}, is not proven positive definite")
    proven.append((rest, scaling.inputs.copy()))


def inequality(setting: Setting, scaling: Scaling) -> SymmetricBlocks:
    """P: coordinates of x, then those of the nonlinear nodes, node after node."""
    nodes = setting.increments.nonlinear
    sizes = [setting.graph.size(node) for node in nodes]
    _check_scaling(setting, scaling)
    hidden = dict(zip(nodes, np.split(scaling.hidden, np.cumsum(sizes)[:-1]), strict=True)) if nodes else {}
    column = {setting.x: scaling.inputs, **hidden}
    place = {node: i for i, node in enumerate(column)}
    form = SymmetricBlocks([len(v) for v in column.values()])
    _check_room(setting, form.sizes, place)
    chosen = {choice.node: choice for choice in scaling.forms}
    for node, i in place.items():
        if node not in chosen:
            form.add(i, i, np.eye(form.sizes[i]), np.zeros(form.sizes[i]), np.zeros(form.sizes[i]))
    for node in nodes:
        if node in chosen:
            matrices, row = quadratic_forms(setting, chosen[node], hidden[node])
            add_form(form, place, node, scaled_terms(setting, node, row, column), *matrices)
            continue
        cross, square, row = _weights(setting, node, hidden[node])
        terms = scaled_terms(setting, node, row, column)
        for source, term in terms.items():
            if cross is not None:
                _add_cross(form, place[node], place[source], term, cross)
        if np.any(square):
            _add_squares(form, place, terms, square)
    _add_squares(form, place, scaled_terms(setting, setting.y, scaling.outputs, column), -np.ones(len(scaling.outputs)))
    return form


def _weights(setting: Setting, node: int, scale: np.ndarray) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """(l + h) / 2 (None for groups) and l h, each rounded once; what its rows are divided by the scale times of."""
    bound = setting.increments.bound(node)
    if isinstance(bound, SlopeBound):
        low, high = _normal(bound.low, bound.high)
        return low / 2 + high / 2, low * high, 1 / scale
    if isinstance(bound, BlockBound):
        groups, width = bound.columns.shape
        by_group = scale.reshape(groups, -1) if groups else np.ones((0, 1))
        if np.any(by_group != by_group[:, :1]):
            raise NotProvedError(f"the scales of a group of node {node} differ")
        if not np.all(np.isfinite(bound.spectral)):
            raise NotProvedError(f"no norm of the Jacobian of node {node} is known, and no form is chosen for it")
        # only squared and subtracted: what is larger is sound, and nothing may underflow
        row = np.maximum(bound.spectral / np.repeat(by_group[:, 0], width), ETA)
        return None, -np.ones(groups * width), row
    raise NotProvedError(f"node {node} has no slopes to scale")


def _normal(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes widened away from the tiniest numbers, so that their products do not underflow."""
    low = np.where((low < 0) & (low > -TINY), -TINY, np.where((low > 0) & (low < TINY), 0.0, low))
    high = np.where((high > 0) & (high < TINY), TINY, np.where((high < 0) & (high > -TINY), 0.0, high))
    return low, high


def _check_room(setting: Setting, sizes: list[int], place: dict[int, int]) -> None:
    """NotProvedError where the blocks would not fit into memory."""
    pairs = {(i, i) for i in place.values()}
    for node in (*setting.increments.nonlinear, setting.y):
        read = {place[s] for s in step_terms(setting, node, ())}
        bound = setting.increments.bound(node)
        if node in place:
            pairs |= {(max(place[node], i), min(place[node], i)) for i in read}
        if not (isinstance(bound, SlopeBound) and not np.any(bound.low * bound.high)):
            pairs |= {(i, j) for i in read for j in read if i > j}
    for k in range(len(sizes)):  # what the factorisation fills in
        below = sorted(i for i, j in pairs if j == k < i)
        pairs |= {(i, j) for i in below for j in below if i > j}
    if sum(sizes[i] * sizes[j] for i, j in pairs) > MAX_ENTRIES:
        reason = f"{sum(sizes)} inputs and neurons are over the kernel's size limit"
        raise NotProvedError(f"{reason} for one matrix inequality")


def _add_cross(form: SymmetricBlocks, node: int, source: int, term: Term, cross: np.ndarray) -> None:
    """Add -2 z' diag(cross) v, the weights rounded once, for what a node reads of one source."""
    value = -cross[:, None] * term.value
    rounding = gamma(3) * np.abs(value)
    rows = np.abs(cross) * term.error(np.ones(value.shape[1])) + rounding.sum(axis=1)
    columns = term.error_across(np.abs(cross)) + rounding.sum(axis=0)
    rows, columns = inflate(rows, value.shape[1] + 8), inflate(columns, len(value) + 8)
    place_cross(form, node, source, value, rows, columns)


def _add_squares(form: SymmetricBlocks, place: dict[int, int], terms: dict[int, Term], weight: np.ndarray) -> None:
    """Add v' diag(weight) v, v the sum of the terms, its weights rounded once."""
    size = np.abs(weight)
    for left, a in terms.items():
        for right, b in terms.items():
            if place[left] >= place[right]:
                value = a.value.T @ (weight[:, None] * b.value)
                rows, columns = _square_error(a, b, size), _square_error(b, a, size)
                form.add(place[left], place[right], value, rows, columns)


def _square_error(a: Term, b: Term, weight: np.ndarray) -> np.ndarray:
    """Row sums of the error of a' diag(weight) b."""
    ones = np.ones(b.value.shape[1])
    there, missing = np.abs(b.value) @ ones, b.error(ones)
    found = gamma(len(weight) + 6) * ((weight * there) @ np.abs(a.value))
    found = found + a.error_across(weight * (there + missing)) + (weight * missing) @ np.abs(a.value)
    return np.asarray(inflate(found + len(ones) * len(weight) * ETA, 2 * (len(weight) + len(ones)) + 16))


def _check_scaling(setting: Setting, scaling: Scaling) -> None:
    """NotProvedError where the scales do not fit the network, or are no scales."""
    neurons = sum(setting.graph.size(node) for node in setting.increments.nonlinear)
    expected = (setting.graph.size(setting.x), neurons, setting.graph.size(setting.y))
    if (scaling.inputs.shape, scaling.hidden.shape, scaling.outputs.shape) != tuple((n,) for n in expected):
        raise NotProvedError(f"the scales do not fit {expected[0]} inputs, {neurons} neurons and {expected[2]} outputs")
    if any(v.dtype != np.float64 for v in (scaling.inputs, scaling.hidden, scaling.outputs)):
        raise NotProvedError("the scales are not float64")
    nodes = [choice.node for choice in scaling.forms]
    if len(set(nodes)) < len(nodes) or not set(nodes) <= set(setting.increments.nonlinear):
        raise NotProvedError("the forms are not those of nonlinear nodes, each once")
    positive = [scaling.inputs, scaling.hidden]
    if not all(np.all(np.isfinite(v)) and np.all(v > 0) for v in positive):
        raise NotProvedError("a scale is not a finite number above zero")
    if not (np.all(np.isfinite(scaling.outputs)) and np.all(scaling.outputs >= 0)):
        raise NotProvedError("a scale of an output is not a finite number of at least zero")
