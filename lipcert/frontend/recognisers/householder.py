"""The Householder activation: v where a hyperplane's score is not positive, else v reflected.

Exporters write it as Split, Mul, Sub, Add, LessOrEqual, Where (once for each half) and Concat. Each Where becomes a
part of one Householder node; sines and cosines rounded to float32 make the stored function jump by about 1e-8 of its
value, so the reflection that is meant, v - c score, is certified, and a note says so.
"""

from __future__ import annotations

import numpy as np

from lipcert.activations.householder import Householder
from lipcert.arithmetic.enclosure import exact
from lipcert.frontend.affine_form import AffineForm, affine_form
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.recognisers.miss import Miss
from lipcert.frontend.recognisers.piecewise import IDIOM, jump_factors
from lipcert.frontend.values import Known, Live, Value
from lipcert.operators import Selection

WHAT = "a Householder activation"


def match(build: GraphBuilder, node: OpNode, score: Live, a: Live | Known, b: Live | Known) -> Value | Miss:
    """a where score > 0, else b: one of them entries of a vector, and score a combination of each one's group."""
    if not (isinstance(a, Live) and isinstance(b, Live)):
        return Miss(WHAT, "a branch is constant")
    line = affine_form(build.nodes, score.node)
    counts = np.diff(line.matrix.indptr)
    if not counts.size or counts[0] < 2 or np.any(counts != counts[0]) or np.any(line.bias):
        return Miss(WHAT, "the condition does not combine two or more entries each")
    for sign, turned, stays in ((1.0, a, b), (-1.0, b, a)):
        kept = affine_form(build.nodes, stays.node)
        entries = kept.single()
        if entries is None or np.any(entries[1] != 1) or np.any(kept.bias):
            continue
        factors = jump_factors(build, score, turned, stays)
        if isinstance(factors, Miss):
            return factors
        return _reflection(build, node, stays, line, sign, entries[0], sign * factors)
    return Miss(WHAT, "neither branch passes entries on unchanged")


def _reflection(
    build: GraphBuilder, node: OpNode, stays: Live, line: AffineForm, sign: float, kept: np.ndarray, factors: np.ndarray
) -> Value | Miss:
    """turned - stays = factors s'v where s'v > 0; for the reflection w = v - c s'v, c = 2 s / |s|^2."""
    width = int(np.diff(line.matrix.indptr)[0])
    groups, normals = line.matrix.indices.reshape(-1, width), sign * line.matrix.data.reshape(-1, width)
    source = line.node_of(groups.reshape(-1))
    if source is None:
        return Miss(WHAT, "a condition combines entries of several tensors")
    member = groups == kept[:, None]
    if not np.all(member.sum(axis=1) == 1):
        return Miss(WHAT, "an entry is not part of its own condition")
    own = normals[member]
    if np.any(np.abs(-factors / own * (normals**2).sum(axis=1) - 2) > IDIOM * 10):
        return Miss(WHAT, "the other branch is no reflection along the condition's hyperplane")
    table, s, which = _unique(groups, normals)
    key = (source, table.tobytes(), s.tobytes())
    if key not in build.reflections:
        vector = Live(source, build.nodes[source].shape)
        index = line.within(source, table.reshape(-1))
        gathered = build.rearrange(node, vector, lambda t: t.reshape(-1)[index])
        shifts = s * (2 / (s**2).sum(axis=1, keepdims=True))
        built = build.groupwise(node, gathered, Householder(exact(s), exact(shifts)), (table.size,))
        assert isinstance(built, Live)
        build.reflections[key] = built
        build.notes.append(f"{node.label} is read as a Householder reflection of groups of {width}")
    reflected = build.reflections[key]
    return build.affine(
        node, [(reflected, Selection(which * width + member.argmax(axis=1), reflected.size))], stays.shape
    )


def _unique(groups: np.ndarray, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each group once with each of its normals, and which of them every row is."""
    both = np.concatenate([groups.astype(float), normals], axis=1)
    table, which = np.unique(both, axis=0, return_inverse=True)
    width = groups.shape[1]
    return table[:, :width].astype(np.int64), table[:, width:], which.reshape(-1)
