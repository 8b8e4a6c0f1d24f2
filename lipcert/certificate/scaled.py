"""LipSDP as one spectral norm: the stacked increments of a network, scaled, with all nonlinear nodes in between.

With dv = A dw + B dx, dy = C dw + D dx over all nonlinear nodes, |dw_i| <= s_i |dv_i| for each neuron (or group) i,
scales e > 0 of neurons, a > 0 of inputs, c >= 0 of outputs, and

    M = [diag(s / e)     ] [A B] [diag(e)        ]
        [         diag(c)] [C D] [        diag(a)]

|M|_2 <= 1 implies |diag(c) dy|_2 <= |diag(1/a) dx|_2, since the neurons' parts of the output, |s dv / e| >= |dw / e|,
are at least those of the input. With lambda = 1 / e^2 and rho = 1 / a^2 this is the linear matrix inequality of LipSDP
(Fazlyab, Robey, Hassani, Morari, Pappas, NeurIPS 2019) after the loop transformation of certificate.increments.
"""

from __future__ import annotations

import math

import numpy as np

from lipcert.activations.jacobian import BlockBound, DiagonalBound
from lipcert.arithmetic.enclosure import Enclosure, exact
from lipcert.arithmetic.rounding import mul_up, norm_up, up
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.chains import Setting, step_terms
from lipcert.certificate.claim import Scaled, Scaling
from lipcert.errors import NotProvedError
from lipcert.operators import LinearOperator
from lipcert.problem import Norm

MAX_ROWS = 2**13
MAX_ENTRIES = 2**25
"""Of the stacked matrix."""


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # overflow ends in inf or NaN, which proves nothing
def scaled_bound(setting: Setting, evidence: Scaled) -> float:
    """The bound that the scalings prove; for outputs in l-infinity each scaling may speak of some of them."""
    if not evidence.scalings:
        raise NotProvedError("no scaling is given")
    outputs = setting.graph.size(setting.y)
    best = np.full(outputs, np.inf)
    for scaling in evidence.scalings:
        covered, bound = _bound_of(setting, scaling)
        best[covered] = np.minimum(best[covered], bound)
    if setting.norm_out != math.inf and len(evidence.scalings) > 1:
        raise NotProvedError("scalings of some of the outputs bound l-infinity only")
    if not outputs:
        return 0.0
    return float(best.max())


def _bound_of(setting: Setting, scaling: Scaling) -> tuple[np.ndarray, float]:
    """Which outputs a scaling speaks of, and the bound on their norm."""
    matrix = scaled_matrix(setting, scaling)
    if not setting.by.proves_spectral(matrix, 1.0):
        raise NotProvedError(
            f"the scaled increments, {matrix.shape[0]} x {matrix.shape[1]}, are not proven to be below 1"
        )
    covered = scaling.outputs > 0
    inverse = up(1 / scaling.outputs[covered])
    if setting.norm_out != 1:
        after = float(inverse.max(initial=0.0))  # |.|_inf <= |.|_2
    else:
        after = float(norm_up(inverse, 2.0))
    return covered, float(mul_up(after, _input_size(scaling.inputs, setting.norm_in)))


def _input_size(inputs: np.ndarray, p: Norm) -> float:
    """The largest |diag(1/a) dx|_2 of |dx|_p = 1."""
    inverse = up(1 / inputs)
    return float(norm_up(inverse, 2.0)) if p == math.inf else float(inverse.max(initial=0.0))


def scaled_matrix(setting: Setting, scaling: Scaling) -> Enclosure:
    """M: rows of all nonlinear nodes' inputs and of the outputs, columns of x and of the nodes' outputs."""
    nodes = setting.increments.nonlinear
    sizes = [setting.graph.size(node) for node in nodes]
    _check(setting, scaling, sum(sizes))
    hidden = dict(zip(nodes, np.split(scaling.hidden, np.cumsum(sizes)[:-1]), strict=True)) if nodes else {}
    columns = {setting.x: scaling.inputs, **hidden}
    blocks = []
    for node in (*nodes, setting.y):
        row = scaling.outputs if node == setting.y else _row_scale(setting, node, hidden[node])
        terms = step_terms(setting, node, ())
        blocks.append([_block(terms.get(s), row, column, setting.by) for s, column in columns.items()])
    value = np.block([[b.value for b in row] for row in blocks])
    if all(b.is_exact for row in blocks for b in row):
        return Enclosure(value)
    return Enclosure(value, np.block([[b.full_radius() for b in row] for row in blocks]))


def _block(op: LinearOperator | None, row: np.ndarray, column: np.ndarray, by: Arithmetic) -> Enclosure:
    if op is None:
        return exact(np.zeros((row.size, column.size)))
    return exact(row[:, None]) * by.dense(op) * exact(column[None, :])


def _row_scale(setting: Setting, node: int, scale: np.ndarray) -> np.ndarray:
    """s / e, rounded up, for each entry that the node reads."""
    bound = setting.increments.bound(node)
    if isinstance(bound, DiagonalBound):
        return np.asarray(up(bound.steepest / scale))
    if isinstance(bound, BlockBound):
        groups, width = bound.columns.shape
        if not groups:
            return np.zeros(0)
        by_group = scale.reshape(groups, -1)
        if np.any(by_group != by_group[:, :1]):
            raise NotProvedError(f"the scales of a group of node {node} differ")
        return np.asarray(up(bound.spectral / np.repeat(by_group[:, 0], width)))
    raise NotProvedError(f"node {node} has no slopes to scale")


def _check(setting: Setting, scaling: Scaling, neurons: int) -> None:
    expected = (setting.graph.size(setting.x), neurons, setting.graph.size(setting.y))
    if (scaling.inputs.shape, scaling.hidden.shape, scaling.outputs.shape) != tuple((n,) for n in expected):
        raise NotProvedError(f"the scales do not fit {expected[0]} inputs, {neurons} neurons and {expected[2]} outputs")
    rows = expected[2] + sum(setting.graph.size(setting.graph.nodes[i].inputs[0]) for i in setting.increments.nonlinear)
    if rows > MAX_ROWS or rows * (neurons + expected[0]) > MAX_ENTRIES:
        raise NotProvedError(f"{neurons} neurons are over the kernel's size limit for one scaled matrix")
    if any(v.dtype != np.float64 for v in (scaling.inputs, scaling.hidden, scaling.outputs)):
        raise NotProvedError("the scales are not float64")
    positive = [scaling.inputs, scaling.hidden]
    if not all(np.all(np.isfinite(v)) and np.all(v > 0) for v in positive):
        raise NotProvedError("a scale is not a finite number above zero")
    if not (np.all(np.isfinite(scaling.outputs)) and np.all(scaling.outputs >= 0)):
        raise NotProvedError("a scale of an output is not a finite number of at least zero")
