"""Quadratic forms of groups, and scales of outputs, beside the multipliers of neurons: one conic program over them all.

A row of Z for each input, neuron and entry that a node reads, and a block of K for each group. Where forms must be
positive at extreme Jacobians, that is a small condition for each group and Jacobian.

Outputs in l1 have variables nu, |dy|_1 <= sqrt(sum nu) |diag(nu)^(-1/2) dy|_2, and coordinates of their own:
[[P, -D'], [-D, diag(nu)]] > 0 says the same as P - D' diag(1 / nu) D > 0. The sum of nu and the multipliers of the
inputs is least where their product is, since the program may be scaled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from lipcert.methods.lipsdp.conic import (
    Condition,
    ConicBuilder,
    ConicProblem,
    feasible_point,
    is_positive,
    solve_conic,
)
from lipcert.methods.lipsdp.interior_point import Iterate, feasible_start
from lipcert.methods.lipsdp.program import FormNode, Program

MAX_PAIRS = 3500
"""Entries of K: beyond, one step takes more than about two seconds."""

ROOM = 0.02
"""By which the start is inside its conditions."""

SEEN = 1e-9
"""Relative singular values of what a group reads, below which a direction counts as not read."""


@dataclass(frozen=True, eq=False)
class _Forms:
    """The forms of one node as variables: Q = sum_t y_t shapes_t + fixed."""

    node: FormNode
    variables: np.ndarray
    """(G, T)."""

    shapes: np.ndarray
    """(G, T, k + m, k + m)."""

    unread: np.ndarray
    """(G, k, d): directions in which nothing moves what the groups read."""

    fixed: np.ndarray
    """(G, k + m, k + m)."""


def quadratic_iterates(program: Program, tick: Callable[[], None]) -> Iterator[Iterate]:
    """Feasible iterates with forms, each better than the last; none where there is no start, or too much to do."""
    inputs, multipliers = np.ones(program.inputs if program.each_input else 1), np.ones(program.groups)
    scaled = feasible_start(program)  # for groups without norms as if they were 1: at least the sizes are right
    if scaled is not None:
        inputs, multipliers = scaled.inputs, scaled.multipliers
    elif not any(f.required for f in program.forms):
        return
    built, forms, constant, b, y = _built(program, inputs, multipliers)
    if built.count > MAX_PAIRS:
        return
    positive = np.arange(len(y)) < len(y) - sum(f.variables.size for f in forms)
    for f in forms:
        positive[f.variables] = _nonnegative(f)
    problem = ConicProblem(built, constant, b, positive)
    started = y if is_positive(problem.value(y)) else feasible_point(built, constant, positive, y, tick)
    if started is not None:
        for point in solve_conic(problem, started, tick):
            yield _iterate(program, forms, point, inputs, multipliers)


def _built(
    program: Program, inputs: np.ndarray, multipliers: np.ndarray
) -> tuple[ConicBuilder, list[_Forms], np.ndarray, np.ndarray, np.ndarray]:
    """The problem in coordinates in which the start has multipliers of 1: also its constant, b and a first y."""
    n, first, own = program.inputs, len(inputs), program.size
    heads = len(program.out) if program.each_output else 0
    size = own + heads
    coordinate = np.concatenate([np.broadcast_to(inputs, n), multipliers[program.neuron_group], np.ones(heads)])
    shrink = 1 / np.sqrt(coordinate)
    wide = ((0, 0), (0, heads))
    rows = np.pad(program.rows, wide) * np.sqrt(multipliers[program.row_group])[:, None] * shrink
    units = np.eye(size)[n:own]
    leaning = np.flatnonzero(program.partner >= 0)
    units[leaning] -= program.tilt[leaning, None] * rows[program.partner[leaning]]
    out = np.pad(program.out, wide) * shrink
    constant = out.T @ out
    if heads:
        constant = np.concatenate([np.zeros((own, size)), out])
        constant += constant.T
    built = ConicBuilder()
    built.squares(built.stack(np.eye(size)[:n]), np.arange(n) if program.each_input else np.zeros(n, dtype=int), 1.0)
    special = np.zeros(program.groups, dtype=bool)
    for form in program.forms:
        special[program.neuron_group[form.neurons[:, 0]]] = True
    number = first + np.cumsum(~special) - 1
    for z, group, sign in ((units, program.neuron_group, 1.0), (rows, program.row_group, -1.0)):
        plain = np.flatnonzero(~special[group])
        built.squares(built.stack(z[plain]), number[group[plain]], sign)
    count = first + int((~special).sum())
    built.squares(built.stack(np.eye(size)[own:]), np.arange(count, count + heads), 1.0)
    y = [np.ones(count + heads)]
    forms = []
    for form in program.forms:
        found, begin = _node(built, form, rows, np.concatenate([rows, out]), n, sum(map(len, y)))
        constant -= _held(found, form, n, size)
        forms.append(found)
        y.append(begin.reshape(-1))
    total = np.concatenate(y)
    b = np.zeros(len(total))
    b[:first] = inputs / inputs.sum()
    b[count : count + heads] = 1 / max(heads, 1)
    return built, forms, constant, b, total


def _node(
    built: ConicBuilder, form: FormNode, rows: np.ndarray, readers: np.ndarray, n: int, number: int
) -> tuple[_Forms, np.ndarray]:
    """Rows, variables (from `number` on) and conditions of one node; where its forms begin."""
    units = np.eye(rows.shape[1])[n + form.neurons]
    if form.forms.basis is not None:
        return _spanned(built, form, np.concatenate([rows[form.rows], units], axis=1), number)
    seen = np.moveaxis(readers[:, n + form.neurons], 0, 2)
    return _complete(built, form, rows[form.rows], units, seen, number)


def _spanned(built: ConicBuilder, form: FormNode, z: np.ndarray, number: int) -> tuple[_Forms, np.ndarray]:
    """Forms of a basis: a variable for each of it and each group."""
    assert form.forms.basis is not None
    groups, s, _ = z.shape
    shapes = np.broadcast_to(form.forms.basis, (groups, *form.forms.basis.shape[1:]))
    begin = np.tile(np.asarray(form.forms.nonnegative, dtype=float), (groups, 1))
    variables = number + np.arange(begin.size).reshape(begin.shape)
    built.blocks(built.stack(z.reshape(-1, z.shape[2])).reshape(groups, s), variables, shapes)
    return _Forms(form, variables, shapes, np.zeros((groups, form.rows.shape[1], 0)), np.zeros((groups, s, s))), begin


def _complete(
    built: ConicBuilder, form: FormNode, read: np.ndarray, units: np.ndarray, seen: np.ndarray, number: int
) -> tuple[_Forms, np.ndarray]:
    """Forms given by extreme Jacobians: a variable for each entry of Q, in coordinates of what moves.

    `read` (G, k, n) rows of what the groups read, `units` (G, m, n) of what they return, `seen` (G, m, ..) its readers.
    """
    groups, k, _ = read.shape
    m = units.shape[1]
    extremes, possible = form.forms.extremes, form.forms.possible
    assert extremes is not None
    into, unread = _split(read)
    reached = np.concatenate(list(extremes[:, None] @ into), axis=2)
    onto, idle = _split(np.concatenate([seen, reached], axis=2))
    kept, returned = into.shape[2], onto.shape[2]
    s = kept + returned
    i, j = np.triu_indices(s)
    elementary = np.zeros((len(i), s, s))
    each = np.arange(len(i))
    elementary[each, i, j] = elementary[each, j, i] = 1.0
    to = np.zeros((groups, k + m, s))
    to[:, :k, :kept], to[:, k:, kept:] = into, onto
    shapes = to[:, None] @ elementary @ np.swapaxes(to, 1, 2)[:, None]
    fixed = np.zeros((groups, k + m, k + m))
    fixed[:, k:, k:] = -idle @ np.swapaxes(idle, 1, 2)
    variables = number + np.arange(groups * len(i)).reshape((groups, len(i)))
    z = np.concatenate([np.swapaxes(into, 1, 2) @ read, np.swapaxes(onto, 1, 2) @ units], axis=1)
    built.blocks(
        built.stack(z.reshape(-1, z.shape[2])).reshape(groups, -1),
        variables,
        np.broadcast_to(elementary, (groups, *elementary.shape)),
    )
    for place, matrix in enumerate(extremes):
        some = np.arange(groups) if possible is None else np.flatnonzero(possible[:, place])
        if some.size:
            stacked = np.concatenate([into[some], matrix @ into[some]], axis=1)[:, None]
            built.conditions.append(Condition(variables[some], np.swapaxes(stacked, 2, 3) @ shapes[some] @ stacked))
    built.conditions.append(
        Condition(variables, -np.broadcast_to(elementary[:, kept:, kept:], (groups, len(i), returned, returned)))
    )
    largest = max(float(np.linalg.norm(matrix, 2)) for matrix in extremes)
    begin = np.where(i == j, np.where(i < kept, (1 + ROOM) * max(1.0, largest) ** 2, -1.0), 0.0)
    return _Forms(form, variables, shapes, unread, fixed), np.tile(begin, (groups, 1))


def _split(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of (G, k, n): orthonormal (G, k, r) and (G, k, k - r), the directions of k that are seen, and the others."""
    k = vectors.shape[1]
    basis, values, _ = np.linalg.svd(vectors, full_matrices=False)
    if basis.shape[2] < k:
        basis = np.linalg.svd(vectors, full_matrices=True)[0]
        values = np.pad(values, ((0, 0), (0, k - values.shape[1])))
    rank = int((values > SEEN * values.max(initial=0.0)).sum(axis=1).max(initial=0))
    rank = max(rank, 1)
    return basis[:, :, :rank], basis[:, :, rank:]


def _held(found: _Forms, form: FormNode, n: int, size: int) -> np.ndarray:
    """What fixed parts of forms add to P."""
    k = form.rows.shape[1]
    held = np.zeros((size, size))
    for neurons, fixed in zip(form.neurons, found.fixed[:, k:, k:], strict=True):
        held[np.ix_(n + neurons, n + neurons)] -= fixed
    return held


def _nonnegative(forms: _Forms) -> np.ndarray:
    signs = forms.node.forms.nonnegative
    return np.zeros(forms.variables.shape[1], dtype=bool) if signs is None else signs


def _iterate(
    program: Program, forms: list[_Forms], y: np.ndarray, inputs: np.ndarray, multipliers: np.ndarray
) -> Iterate:
    """The iterate in the program's own coordinates."""
    first = len(inputs)
    found = multipliers.copy()
    special = np.zeros(program.groups, dtype=bool)
    values = []
    for f in forms:
        k = f.node.rows.shape[1]
        group = program.neuron_group[f.node.neurons[:, 0]]
        special[group] = True
        q = np.einsum("gt,gtij->gij", y[f.variables], f.shapes) + f.fixed
        scale = np.maximum(np.abs(np.einsum("gii->gi", q[:, k:, k:])).mean(axis=1), 1e-100)
        found[group] = multipliers[group] * scale
        chosen = y[f.variables]
        if f.node.forms.basis is None:
            chosen = _lifted(f, q)
        values.append((f.node.node, chosen / scale.reshape(-1, *[1] * (chosen.ndim - 1))))
    plain = np.flatnonzero(~special)
    found[plain] = multipliers[plain] * y[first : first + len(plain)]
    moved = inputs * y[:first]
    objective = float(moved.sum()) if program.each_input else float(moved[0])
    if not program.each_output:
        return Iterate(moved, found, objective, forms=tuple(values))
    heads = y[first + len(plain) :][: len(program.out)]
    return Iterate(moved, found, objective * float(heads.mean()), forms=tuple(values), outputs=1 / np.sqrt(heads))


def _lifted(f: _Forms, q: np.ndarray) -> np.ndarray:
    """The matrices made large in the directions that nothing moves, until the conditions hold there too."""
    extremes, possible = f.node.forms.extremes, f.node.forms.possible
    assert extremes is not None
    k = f.unread.shape[1]
    if not f.unread.shape[2]:
        return (q + np.swapaxes(q, 1, 2)) / 2
    into = np.linalg.svd(np.swapaxes(f.unread, 1, 2), full_matrices=True)[2]
    into = np.swapaxes(into[:, f.unread.shape[2] :], 1, 2)
    needed = np.zeros(len(q))
    for number, matrix in enumerate(extremes):
        seen = np.ones(len(q), dtype=bool) if possible is None else possible[:, number]
        stacked = np.vstack([np.eye(k), matrix])
        at = stacked.T @ q[seen] @ stacked
        a, idle = into[seen], f.unread[seen]
        inner, across = np.swapaxes(a, 1, 2) @ at @ a, np.swapaxes(a, 1, 2) @ at @ idle
        rest = np.swapaxes(across, 1, 2) @ np.linalg.solve(inner, across) - np.swapaxes(idle, 1, 2) @ at @ idle
        needed[seen] = np.maximum(needed[seen], np.linalg.eigvalsh(rest)[:, -1])
    raised = q.copy()
    amount = 2 * needed + np.abs(q).max(axis=(1, 2))
    raised[:, :k, :k] += amount[:, None, None] * (f.unread @ np.swapaxes(f.unread, 1, 2))
    return (raised + np.swapaxes(raised, 1, 2)) / 2
