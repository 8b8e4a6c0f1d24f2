"""A choice between two affine functions that meet where the score is zero: b + c relu(score).

Leaky ReLUs, absolute values and clamps spelt with Where are of this kind.
"""

from __future__ import annotations

import numpy as np

from lipcert.activations import Relu
from lipcert.arithmetic.enclosure import Enclosure
from lipcert.arithmetic.rounding import U
from lipcert.frontend.affine_form import MAX_STEPS, AffineForm, affine_form
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.recognisers.miss import Miss
from lipcert.frontend.values import Known, Live, Value
from lipcert.operators import Diagonal, Identity

WHAT = "a choice shown to be continuous"
IDIOM = 1e-6
"""Relative error of coefficients that were rounded to float32."""


def match(build: GraphBuilder, node: OpNode, score: Live, a: Live | Known, b: Live | Known) -> Value | Miss:
    """a where score > 0, else b, all three multiples of one entry: they meet at zero whatever the factors."""
    line = affine_form(build.nodes, score.node)
    found = line.single()
    if found is None:
        return Miss(WHAT, "the condition combines several entries")
    columns, slopes = found
    parts = []
    for value in (a, b):
        if isinstance(value, Known):
            form = None if np.any(value.data.magnitude()) else np.zeros(value.size)
        else:
            form = _multiples(affine_form(build.nodes, value.node), columns)
        if form is None:
            return Miss(WHAT, "a branch is not a multiple of what the condition compares with zero")
        parts.append(form)
    if not line.is_exact or np.any(line.bias):
        return Miss(WHAT, "the condition compares with something else than zero")
    factors = (_enclosed(parts[0]) - _enclosed(parts[1])) / _enclosed(slopes)
    ramp = build.elementwise(node, score, Relu())
    return build.affine(node, [(b, Identity(b.size)), (ramp, Diagonal(factors.value, factors.radius))], b.shape)


def jump_factors(build: GraphBuilder, score: Live, a: Live, b: Live) -> np.ndarray | Miss:
    """c with a - b = c score entry by entry, up to what rounding of stored coefficients to float32 makes."""
    line = affine_form(build.nodes, score.node)
    above, below = affine_form(build.nodes, a.node), affine_form(build.nodes, b.node)
    difference = (above.matrix - below.matrix).tocsr()
    squares = np.asarray(line.matrix.multiply(line.matrix).sum(axis=1)).reshape(-1)
    factors = np.asarray(difference.multiply(line.matrix).sum(axis=1)).reshape(-1) / squares
    rest = abs(difference - line.matrix.multiply(factors[:, None])).tocsr()
    off = rest.max(axis=1).toarray().reshape(-1) if rest.nnz else np.zeros(len(factors))
    gap = np.abs(above.bias - below.bias - factors * line.bias)
    size = IDIOM * np.maximum(1.0, np.abs(factors) * np.sqrt(squares))
    if np.any(off > size) or np.any(gap > IDIOM * np.abs(factors * line.bias)):
        return Miss(WHAT, "the branches differ where the condition changes")
    return factors


def _multiples(form: AffineForm, columns: np.ndarray) -> np.ndarray | None:
    """The factor of the given column in each row, if the rows have nothing else."""
    if not form.is_exact or np.any(form.bias) or np.any(np.diff(form.matrix.indptr) > 1):
        return None
    factors = np.asarray(form.matrix[np.arange(len(columns)), columns]).reshape(-1)
    return factors if np.count_nonzero(factors) == form.matrix.nnz else None


def _enclosed(factors: np.ndarray) -> Enclosure:
    """Coefficients of an affine form: sums, without much cancellation, of products of at most MAX_STEPS stored ones."""
    return Enclosure(factors, np.where(np.abs(factors) == 1, 0.0, np.abs(factors) * (16 * MAX_STEPS * U)))
