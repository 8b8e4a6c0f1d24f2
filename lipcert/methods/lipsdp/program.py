"""The semidefinite program of LipSDP in the coordinates of certificate.inequality, as plain matrices.

minimise b'y subject to P(y) = sum_j y_j F_j - out out' > 0, one multiplier a neuron or group, and one for the inputs
(l2) or for each of them (l-infinity). An input's F is e e'. A neuron of slopes m - s to m + s that reads v has
(z - m v)^2 - (s v)^2 = u^2 - q^2 with q = s v and u = z - tilt q, tilt = m / s; a group |z|^2 - |q|^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.sparse import csr_array, hstack, vstack

from lipcert.activations.jacobian import BlockBound, Forms, SlopeBound
from lipcert.certificate.chains import Setting, step_terms

SEEN = 1e-12
"""Relative singular values of what reads the inputs, below which a direction counts as not seen."""


@dataclass(frozen=True, eq=False)
class FormNode:
    """A node of groups with quadratic forms: `rows` and `neurons` (G, ..) of its groups, in the program's numbering.

    `required`: whether no norm of its Jacobian is known, so that it is not bounded without a form.
    """

    node: int
    forms: Forms
    rows: np.ndarray
    neurons: np.ndarray
    required: bool


@dataclass(frozen=True, eq=False)
class Program:
    """Coordinates: inputs (possibly reduced to the row space of what reads them), then neurons, node after node.

    `rows` (k, n): q of every entry that a nonlinear node reads; `row_group` (k,) the group that it belongs to;
    `neuron_group` (neurons,) likewise; groups are numbered from 0 over all nodes. `out` (outputs, n). Dense or sparse.
    """

    inputs: int
    rows: Any
    row_group: np.ndarray
    neuron_group: np.ndarray
    out: Any
    tilt: np.ndarray
    """(neurons,) mean slope over half the range of slopes; 0 for groups."""

    partner: np.ndarray
    """(neurons,) the row that belongs to a neuron; -1 where the tilt is 0."""

    levels: tuple[slice, ...]
    """Neurons of each node, as coordinates."""

    row_levels: tuple[slice, ...]
    """Rows of each node."""

    each_input: bool
    """Whether every input has a multiplier of its own (l-infinity)."""

    forms: tuple[FormNode, ...] = ()
    each_output: bool = False
    """Whether every output has a scale of its own (l1)."""

    @property
    def size(self) -> int:
        return self.out.shape[1]

    @property
    def has_loops(self) -> bool:
        """Whether a node reads itself or one behind it: implicit networks."""
        return any(
            bool(np.any(self.rows[row_level.start : row_level.stop, level.start :]))
            for level, row_level in zip(self.levels, self.row_levels, strict=True)
        )

    @property
    def is_finite(self) -> bool:
        arrays = (self.rows.data, self.out.data) if hasattr(self.rows, "indptr") else (self.rows, self.out)
        return all(bool(np.all(np.isfinite(a))) for a in (*arrays, self.tilt))

    @property
    def groups(self) -> int:
        return int(self.neuron_group.max()) + 1 if self.neuron_group.size else 0

    def tilted(self, neurons: np.ndarray) -> np.ndarray:
        """tilt q of these neurons."""
        return np.asarray(self.tilt[neurons, None] * self.rows[self.partner[neurons]])

    def matrix(self, inputs: np.ndarray, multipliers: np.ndarray) -> np.ndarray:
        """P, from the multipliers of the inputs (one, or one each) and of the groups."""
        units = np.eye(self.size)
        units[self.inputs :] -= self.tilted(np.arange(self.tilt.size))
        weights = np.concatenate([np.broadcast_to(inputs, self.inputs), multipliers[self.neuron_group]])
        result = units.T @ (units * weights[:, None])
        result -= self.rows.T @ (self.rows * multipliers[self.row_group][:, None]) + self.out.T @ self.out
        return (result + result.T) / 2


def inputs_needed(form: np.ndarray, n: int) -> np.ndarray | None:
    """What multipliers of the first n coordinates must exceed for P > 0; None where the rest is not positive.

    With K = P without them: K_ww > 0 first, then K_xw K_ww^-1 K_wx - K_xx.
    """
    try:
        hidden = cho_factor(form[n:, n:], lower=True)
    except (LinAlgError, ValueError):
        return None
    across = form[:n, n:]
    needed = across @ cho_solve(hidden, across.T) - form[:n, :n]
    return np.asarray((needed + needed.T) / 2)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def build(
    setting: Setting, outputs: np.ndarray | None = None, input: int | None = None, sparse: bool = False
) -> Program:
    """The program of a setting whose increments are open, for all inputs or one.

    `outputs`: their scales (0 leaves one out), 1 by default. `sparse`: rows and out as scipy.sparse arrays, and one
    multiplier for each channel of a node with maps.
    """
    nodes = setting.increments.nonlinear
    sizes = {node: setting.graph.size(node) for node in nodes}
    places = dict(zip(nodes, np.cumsum([0, *sizes.values()])[:-1].tolist(), strict=True)) if nodes else {}
    neurons, inputs = sum(sizes.values()), setting.graph.size(setting.x)
    rows, row_group, neuron_group, tilt, partner, row_levels, forms = [], [], [], [], [], [], []
    count = height = 0
    for node in nodes:
        bound = setting.increments.bound(node)
        assert bound is not None
        stacked = _row(setting, node, places, sizes, neurons, sparse)
        leaning = np.zeros(sizes[node])
        half = bound.spectral
        if isinstance(bound, BlockBound) and bound.forms is not None and len(bound.columns):
            required = not np.all(np.isfinite(half))
            half = np.ones_like(half) if required else half
            read, own = (np.arange(n).reshape(len(bound.columns), -1) for n in (stacked.shape[0], sizes[node]))
            forms.append(FormNode(node, bound.forms, height + read, places[node] + own, required))
        if isinstance(bound, SlopeBound):
            half = bound.high / 2 - bound.low / 2
            leaning = (bound.high / 2 + bound.low / 2) / half
        rows.append(stacked.multiply(half[:, None]).tocsr() if sparse else half[:, None] * stacked)
        tilt.append(leaning)
        partner.append(np.where(leaning != 0, height + np.arange(sizes[node]), -1))
        entries = stacked.shape[0]
        row_levels.append(slice(height, height + entries))
        height += entries
        groups = len(bound.columns) if isinstance(bound, BlockBound) else sizes[node]
        if sparse and isinstance(bound, SlopeBound):
            groups = multipliers_of(setting.graph.nodes[node].shape)
        if not groups:
            continue
        row_group.append(count + np.repeat(np.arange(groups), entries // groups))
        neuron_group.append(count + np.repeat(np.arange(groups), sizes[node] // groups))
        count += groups
    out = _row(setting, setting.y, places, sizes, neurons, sparse)
    levels = tuple(slice(inputs + places[node], inputs + places[node] + sizes[node]) for node in nodes)
    width = inputs + neurons
    joined = vstack(rows, format="csr") if sparse and rows else np.concatenate(rows) if rows else np.zeros((0, width))
    program = Program(
        inputs,
        joined,
        np.concatenate(row_group) if rows else np.zeros(0, dtype=int),
        np.concatenate(neuron_group) if rows else np.zeros(0, dtype=int),
        out if outputs is None else _scaled(out, outputs),
        np.concatenate(tilt) if rows else np.zeros(0),
        np.concatenate(partner) if rows else np.zeros(0, dtype=int),
        levels,
        tuple(row_levels),
        setting.norm_in == math.inf,
        tuple(forms),
        setting.norm_out == 1 and out.shape[0] > 1 and not sparse,
    )
    if input is not None:
        program = moved_inputs(program, (np.arange(inputs) == input)[:, None].astype(float))
    return program if sparse or program.each_input or not program.is_finite else _reduced(program)


def _scaled(out: Any, outputs: np.ndarray) -> Any:
    """The rows of outputs that are not left out, times their scales."""
    kept = np.flatnonzero(outputs)
    if hasattr(out, "indptr"):
        return out[kept].multiply(outputs[kept, None]).tocsr()
    return out[kept] * outputs[kept, None]


def multipliers_of(shape: tuple[int, ...]) -> int:
    """How many multipliers entries of this shape share: one a channel where there are maps, else one an entry."""
    axes = shape[1:] if len(shape) > 1 and shape[0] == 1 else shape
    return axes[0] if len(axes) > 1 else math.prod(shape)


def _row(
    setting: Setting, node: int, places: dict[int, int], sizes: dict[int, int], neurons: int, sparse: bool = False
) -> Any:
    """[B A] of one node: its increments from those of x and of all neurons."""
    inputs = setting.graph.size(setting.x)
    parts: list[tuple[int, np.ndarray]] = []
    setting.by.tick()
    for source, op in step_terms(setting, node, ()).items():
        start = 0 if source == setting.x else inputs + places[source]
        parts.append((start, setting.by.dense(op).value))
    body = setting.graph.nodes[node]
    height = parts[0][1].shape[0] if parts else setting.graph.size(body.inputs[0] if node != setting.y else node)
    if sparse:
        width = inputs + neurons
        blocks = [_placed(part, start, width) for start, part in parts]
        return sum(blocks[1:], blocks[0]) if blocks else csr_array((height, width))
    row = np.zeros((height, inputs + neurons))
    for start, part in parts:
        row[:, start : start + part.shape[1]] += part
    return row


def _placed(part: np.ndarray, start: int, width: int) -> Any:
    """A matrix as sparse columns from `start` on."""
    found = csr_array(part)
    return csr_array((found.data, found.indices + start, found.indptr), shape=(len(part), width))


def _reduced(program: Program) -> Program:
    """Inputs replaced by coordinates of the space that the rows see: the same optimum, for l2.

    Directions that nothing sees would each cost the interior-point method a step.
    """
    n = program.inputs
    seen = np.concatenate([program.rows[:, :n], program.out[:, :n]])
    _, values, basis = np.linalg.svd(seen, full_matrices=False)
    return moved_inputs(program, basis[values > SEEN * values.max(initial=0.0)].T)


def moved_inputs(program: Program, basis: np.ndarray) -> Program:
    """Inputs replaced by coordinates: x = basis times these."""
    n = program.inputs

    def moved(a: Any) -> Any:
        before, behind = a[:, :n] @ basis, a[:, n:]
        if hasattr(a, "indptr"):
            return hstack([csr_array(before), behind], format="csr")
        return np.concatenate([before, behind], axis=1)

    shift = basis.shape[1] - n
    levels = tuple(slice(level.start + shift, level.stop + shift) for level in program.levels)
    return replace(program, inputs=basis.shape[1], rows=moved(program.rows), out=moved(program.out), levels=levels)
