"""Quadratic forms of groups in the matrix inequality: sharper than the norm of the group's Jacobian.

With dw = M dv, M a mean of the extreme Jacobians M_k of the group, a symmetric Q whose block of dw is negative definite
makes [I; M]' Q [I; M] concave in M: it is positive where it is at every M_k. So [dv; dw]' Q [dv; dw] >= 0, which takes
the place of |s dv|^2 - |dw|^2 in P. For sorted groups the M_k are permutations: this goes beyond the single multiplier
of Pauli et al. (ICLR 2024), and is complete among forms with a negative block. Forms with a basis are an assumption.
"""

from __future__ import annotations

import numpy as np

from lipcert.activations.jacobian import BlockBound, Forms
from lipcert.arithmetic.rounding import ETA, gamma, inflate
from lipcert.certificate.chains import Setting
from lipcert.certificate.claim import FormChoice
from lipcert.certificate.definite import SymmetricBlocks
from lipcert.certificate.terms import Term, place_cross
from lipcert.errors import NotProvedError

LARGEST = 1e150
"""Of scales and of one over them, so that nothing underflows."""

Matrices = tuple[np.ndarray, np.ndarray]
"""(G, s, s) symmetric matrices, and bounds on the error of their entries."""


def quadratic_forms(setting: Setting, choice: FormChoice, scale: np.ndarray) -> tuple[Matrices, np.ndarray]:
    """The matrices Q over (dv, dw) / scale of the groups of a node, proven, and one over the scale of what it reads."""
    node = choice.node
    bound = setting.increments.bound(node)
    if not isinstance(bound, BlockBound) or bound.forms is None:
        raise NotProvedError(f"node {node} has no quadratic forms to choose from")
    groups, width = bound.columns.shape
    if not groups:
        raise NotProvedError(f"node {node} has no groups")
    by_group = scale.reshape(groups, -1)
    if np.any(by_group != by_group[:, :1]):
        raise NotProvedError(f"the scales of a group of node {node} differ")
    if not np.all((by_group > 1 / LARGEST) & (by_group < LARGEST)):
        raise NotProvedError(f"the scales of node {node} are too large or too small for forms")
    if choice.values.dtype != np.float64 or not np.all(np.isfinite(choice.values)):
        raise NotProvedError(f"the forms of node {node} are not finite float64 numbers")
    entries = width + bound.rows.shape[1]
    found = _spanned if bound.forms.basis is not None else _complete
    return found(setting, bound.forms, choice, (groups, entries, entries)), np.repeat(1 / by_group[:, 0], width)


def _spanned(setting: Setting, forms: Forms, choice: FormChoice, shape: tuple[int, ...]) -> Matrices:
    """Combinations of a basis, with multipliers of the right signs."""
    assert forms.basis is not None
    assert forms.nonnegative is not None
    y = choice.values
    if y.shape != forms.basis.shape[:2] or forms.basis.shape[0] != shape[0]:
        raise NotProvedError(f"the multipliers of node {choice.node} do not fit its groups")
    if np.any(y[:, forms.nonnegative] < 0):
        raise NotProvedError(f"a multiplier of node {choice.node} is negative")
    value = np.einsum("gt,gtij->gij", y, forms.basis)
    size = np.einsum("gt,gtij->gij", np.abs(y), np.abs(forms.basis))
    return value, np.asarray(inflate(gamma(y.shape[1] + 2) * size, 4 * y.shape[1] + 8))


def _complete(setting: Setting, forms: Forms, choice: FormChoice, shape: tuple[int, ...]) -> Matrices:
    """Any matrices that are nonnegative at the extreme Jacobians and concave in between."""
    q, extremes = choice.values, forms.extremes
    assert extremes is not None
    if q.shape != shape or np.any(q != np.swapaxes(q, 1, 2)):
        expected = f"{shape[0]} symmetric matrices of {shape[1]} rows"
        raise NotProvedError(f"the forms of node {choice.node} are not {expected}")
    count, m, k = extremes.shape
    possible = np.ones((shape[0], count), dtype=bool) if forms.possible is None else forms.possible
    if not np.all(possible.any(axis=1)):
        raise NotProvedError(f"a group of node {choice.node} has no Jacobian")
    exact = np.zeros((shape[0], m))
    if not setting.by.prove_positive(-q[:, k:, k:], exact):
        raise NotProvedError(f"a form of node {choice.node} is not proven negative in what the node returns")
    for matrix, seen in zip(extremes, possible.T, strict=True):
        stacked = np.vstack([np.eye(k), matrix])
        at = stacked.T @ (q[seen] @ stacked)
        size = np.abs(stacked).T @ (np.abs(q[seen]) @ np.abs(stacked))
        error = inflate(gamma(2 * shape[1] + 4) * size.sum(axis=2), 2 * shape[1] + 8) + 4 * shape[1] ** 3 * ETA
        if not setting.by.prove_positive((at + np.swapaxes(at, 1, 2)) / 2, error):
            raise NotProvedError(f"a form of node {choice.node} is not proven nonnegative at an extreme Jacobian")
    return q, np.zeros_like(q)


def add_form(
    form: SymmetricBlocks, place: dict[int, int], node: int, terms: dict[int, Term], q: np.ndarray, radius: np.ndarray
) -> None:
    """Add -[v; z]' Q [v; z], v the sum of the terms and z the coordinates of the node."""
    width = q.shape[1] - form.sizes[place[node]] // len(q)
    own = _Blocks(q[:, width:, width:], radius[:, width:, width:])
    form.add(place[node], place[node], -own.dense(), own.error_rows(), own.error_rows())
    cross = _Blocks(q[:, width:, :width], radius[:, width:, :width])
    square = _Blocks(q[:, :width, :width], radius[:, :width, :width])
    for source, term in terms.items():
        _add_cross(form, place[node], place[source], term, cross)
    for left, a in terms.items():
        for right, b in terms.items():
            if place[left] >= place[right]:
                value = -(a.value.T @ square.times(b.value))
                form.add(place[left], place[right], value, _error(a, b, square), _error(b, a, square))


class _Blocks:
    """A block diagonal matrix (G a, G b) of (G, a, b), and bounds on the error of its entries."""

    def __init__(self, value: np.ndarray, radius: np.ndarray) -> None:
        self.value, self.radius, self.size = value, radius, np.abs(value)
        self.height, self.width = value.shape[1:]

    def times(self, x: np.ndarray) -> np.ndarray:
        return _times(self.value, x)

    def dense(self) -> np.ndarray:
        groups = len(self.value)
        found = np.zeros((groups, self.height, groups, self.width))
        found[np.arange(groups), :, np.arange(groups), :] = self.value
        return found.reshape(groups * self.height, groups * self.width)

    def error_rows(self) -> np.ndarray:
        return np.asarray(inflate(self.radius.sum(axis=2), self.width).reshape(-1))


def _times(blocks: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Block diagonal (G, a, b) times (G b,) or (G b, c)."""
    columns = x.reshape(len(blocks), blocks.shape[2], -1)
    return np.asarray((blocks @ columns).reshape(-1, *x.shape[1:]))


def _add_cross(form: SymmetricBlocks, node: int, source: int, term: Term, cross: _Blocks) -> None:
    """Add -2 z' Q_wv T dx."""
    value = -cross.times(term.value)
    g = gamma(cross.width + 3)
    ones = np.ones(term.value.shape[1])
    there, missing = np.abs(term.value) @ ones, term.error(ones)
    rows = g * _times(cross.size, there) + _times(cross.size, missing) + _times(cross.radius, there + missing)
    weight, spread = (a.sum(axis=1).reshape(-1) for a in (cross.size, cross.radius))
    columns = (g * weight + spread) @ np.abs(term.value) + term.error_across(weight + spread)
    count = cross.width * (term.value.shape[1] + len(value)) + 16
    place_cross(form, node, source, value, inflate(rows, 4 * count), inflate(columns, 4 * count))


def _error(a: Term, b: Term, square: _Blocks) -> np.ndarray:
    """Row sums of the error of A' Q B."""
    ones = np.ones(b.value.shape[1])
    there, missing = np.abs(b.value) @ ones, b.error(ones)
    height = len(a.value)
    g = gamma(height + square.width + 6)
    direct = _times(square.size, g * there + missing) + _times(square.radius, there + missing)
    both = _times(square.size + square.radius, there + missing)
    found = direct @ np.abs(a.value) + a.error_across(both)
    count = 2 * (height + len(ones)) + 4 * square.width
    return np.asarray(inflate(found + (len(ones) + 1) * (height + 1) * square.width * ETA, 2 * count + 32))
