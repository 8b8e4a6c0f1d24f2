"""The semidefinite program of LipSDP in the coordinates of certificate.scaled, as plain matrices.

minimise b'y  subject to  P(y) = sum_j y_j (E_j E_j' - Q_j Q_j') - out out' > 0, one multiplier a neuron or group, and
one for the inputs (l2) or for each of them (l-infinity); columns of E are unit vectors, those of Q the rows s [B A].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from lipcert.activations.jacobian import BlockBound
from lipcert.certificate.chains import Setting, step_terms
from lipcert.graph import Increment

SEEN = 1e-12
"""Relative singular values of what reads the inputs, below which a direction counts as not seen."""


@dataclass(frozen=True, eq=False)
class Program:
    """Coordinates: inputs (possibly reduced to the row space of what reads them), then neurons, node after node.

    `rows` (k, n): s [B A] of every entry that a nonlinear node reads; `row_group` (k,) the group that it belongs to;
    `neuron_group` (neurons,) likewise; groups are numbered from 0 over all nodes. `out` (outputs, n).
    """

    inputs: int
    rows: np.ndarray
    row_group: np.ndarray
    neuron_group: np.ndarray
    out: np.ndarray
    tilt: np.ndarray
    """(neurons,) mean slope over half the range of slopes, of what centering split off; 0 for groups."""

    partner: np.ndarray
    """(neurons,) the row that belongs to a neuron; -1 for members of groups."""

    levels: tuple[slice, ...]
    """Neurons of each node, as coordinates."""

    row_levels: tuple[slice, ...]
    """Rows of each node."""

    each_input: bool
    """Whether every input has a multiplier of its own (l-infinity)."""

    @property
    def size(self) -> int:
        return self.out.shape[1]

    @property
    def is_finite(self) -> bool:
        return bool(np.all(np.isfinite(self.rows)) and np.all(np.isfinite(self.out)))

    @property
    def groups(self) -> int:
        return int(self.neuron_group.max()) + 1 if self.neuron_group.size else 0

    def matrix(self, inputs: np.ndarray, multipliers: np.ndarray) -> np.ndarray:
        """P, from the multipliers of the inputs (one, or one each) and of the groups."""
        diagonal = np.concatenate([np.broadcast_to(inputs, self.inputs), multipliers[self.neuron_group]])
        weighted = self.rows * multipliers[self.row_group][:, None]
        result = -(self.rows.T @ weighted) - self.out.T @ self.out
        result[np.diag_indices(self.size)] += diagonal
        return (result + result.T) / 2


@np.errstate(over="ignore", invalid="ignore")
def build(setting: Setting, outputs: np.ndarray | None = None) -> Program:
    """The program of a setting, for all outputs or some of them."""
    nodes = setting.increments.nonlinear
    sizes = {node: setting.graph.size(node) for node in nodes}
    places = dict(zip(nodes, np.cumsum([0, *sizes.values()])[:-1].tolist(), strict=True)) if nodes else {}
    neurons, inputs = sum(sizes.values()), setting.graph.size(setting.x)
    rows, row_group, neuron_group, tilt, partner, row_levels = [], [], [], [], [], []
    count = height = 0
    for node in nodes:
        body, bound = setting.graph.nodes[node], setting.increments.bound(node)
        assert isinstance(body, Increment)
        assert bound is not None
        stacked = _row(setting, node, places, sizes, neurons)
        rows.append(bound.spectral[:, None] * stacked)
        mean = np.zeros(sizes[node]) if body.mean is None else body.mean
        tilt.append(mean if body.mean is None else mean / bound.spectral)
        partner.append(np.where(mean != 0, height + np.arange(sizes[node]), -1))
        row_levels.append(slice(height, height + len(stacked)))
        height += len(stacked)
        groups = len(bound.columns) if isinstance(bound, BlockBound) else sizes[node]
        if not groups:
            continue
        row_group.append(count + np.repeat(np.arange(groups), len(stacked) // groups))
        neuron_group.append(count + np.repeat(np.arange(groups), sizes[node] // groups))
        count += groups
    out = _row(setting, setting.y, places, sizes, neurons)
    levels = tuple(slice(inputs + places[node], inputs + places[node] + sizes[node]) for node in nodes)
    width = inputs + neurons
    program = Program(
        inputs,
        np.concatenate(rows) if rows else np.zeros((0, width)),
        np.concatenate(row_group) if rows else np.zeros(0, dtype=int),
        np.concatenate(neuron_group) if rows else np.zeros(0, dtype=int),
        out if outputs is None else out[outputs],
        np.concatenate(tilt) if rows else np.zeros(0),
        np.concatenate(partner) if rows else np.zeros(0, dtype=int),
        levels,
        tuple(row_levels),
        setting.norm_in == math.inf,
    )
    return program if program.each_input or not program.is_finite else _reduced(program)


def _row(setting: Setting, node: int, places: dict[int, int], sizes: dict[int, int], neurons: int) -> np.ndarray:
    """[B A] of one node: its increments from those of x and of all neurons."""
    inputs = setting.graph.size(setting.x)
    parts: list[tuple[int, np.ndarray]] = []
    for source, op in step_terms(setting, node, ()).items():
        start = 0 if source == setting.x else inputs + places[source]
        parts.append((start, setting.by.dense(op).value))
    body = setting.graph.nodes[node]
    height = parts[0][1].shape[0] if parts else setting.graph.size(body.inputs[0] if node != setting.y else node)
    row = np.zeros((height, inputs + neurons))
    for start, part in parts:
        row[:, start : start + part.shape[1]] += part
    return row


def _reduced(program: Program) -> Program:
    """Inputs replaced by coordinates of the space that the rows see: the same optimum, for l2.

    Directions that nothing sees would each cost the interior-point method a step.
    """
    n = program.inputs
    seen = np.concatenate([program.rows[:, :n], program.out[:, :n]])
    _, values, basis = np.linalg.svd(seen, full_matrices=False)
    basis = basis[values > SEEN * values.max(initial=0.0)].T

    def moved(a: np.ndarray) -> np.ndarray:
        return np.concatenate([a[:, :n] @ basis, a[:, n:]], axis=1)

    shift = basis.shape[1] - n
    levels = tuple(slice(level.start + shift, level.stop + shift) for level in program.levels)
    return replace(program, inputs=basis.shape[1], rows=moved(program.rows), out=moved(program.out), levels=levels)
