"""Operator norms from l_p to l_q, proven: one function a rule.

Entry norms: |A|_{1->q} is the largest column norm, |A|_{p->inf} the largest dual row norm (both exact); the other
rules are the standard inequalities named at each. Sources: Higham 2002, chapter 6; Schur's test for l2.
"""

from __future__ import annotations

import math

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.arithmetic.rounding import inflate, mul_up, sqrt_up, up
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import (
    Entrywise,
    Factors,
    Frequencies,
    Gram,
    NormProof,
    Overlap,
    Spectral,
    Symbol,
    Taps,
    Terms,
)
from lipcert.certificate.gram import gram_bound, gram_symbol_bound
from lipcert.certificate.lattice import as_lattice
from lipcert.certificate.symbol import proves_frequencies, proves_symbol
from lipcert.errors import NotProvedError
from lipcert.operators import Convolution, Leaf, LinearOperator, Product, Row, Sum, Transposed
from lipcert.problem import Norm, dual

DENSE_LIMIT = 2**23
"""Operators of at most this many entries may be written out ..."""

WORK_LIMIT = 2**30
"""... in at most this many multiplications."""


def is_affordable(op: LinearOperator) -> bool:
    """Whether the kernel writes the operator out as a dense matrix."""
    return op.out_size * op.in_size <= DENSE_LIMIT and op.dense_work <= WORK_LIMIT


def norm_bound(op: LinearOperator, p: Norm, q: Norm, proof: NormProof, by: Arithmetic) -> float:
    """Upper bound on the norm of `op` from l_p to l_q that `proof` proves, or NotProvedError."""
    if isinstance(proof, Entrywise):
        return entrywise_bound(op, p, q, by)
    if isinstance(proof, Factors):
        return _factors(op, p, q, proof, by)
    if isinstance(proof, Terms):
        return _terms(op, p, q, proof, by)
    return float(mul_up(_l2_bound(op, proof, by), conversion(op, p, q)))


def proves_l2(op: LinearOperator, proof: Spectral | Symbol | Frequencies, by: Arithmetic) -> bool:
    """Whether the l2 norm is proven to be at most the sigma of the proof; each proof is gone through once."""

    def proves() -> bool:
        if isinstance(proof, Spectral):
            return by.proves_spectral(by.dense(op), proof.sigma)
        conv = as_lattice(op)
        if conv is None:
            return False
        rule = proves_symbol if isinstance(proof, Symbol) else proves_frequencies
        return rule(conv, proof.sigma, by)

    return by.once(type(proof).__name__, op, proof.sigma, proves)


def row_norms(op: LinearOperator, p: Norm, by: Arithmetic, adjoint: bool = False) -> np.ndarray:
    """Upper bounds on the l_p norms of the rows (columns for the adjoint) of |op|; row sums where nothing is closer."""
    length = op.out_size if adjoint else op.in_size
    if p != 1 and is_affordable(op):
        matrix = by.dense(op).magnitude()
        return by.norms(matrix.T if adjoint else matrix, p)
    if p == 2 and isinstance(op, Leaf) and op.weights is not None:
        squared = op.with_weights(up(op.magnitude.weights**2))  # type: ignore[operator]
        return sqrt_up(by.magnitude(squared, np.ones(length), adjoint))
    return magnitude(op, np.ones(length), by, adjoint)


def magnitude(op: LinearOperator, v: np.ndarray, by: Arithmetic, adjoint: bool = False) -> np.ndarray:
    """Upper bound on |op| v (|op|' v) for v >= 0, of the written-out operator where that is affordable."""
    if not isinstance(op, Leaf) and is_affordable(op):
        matrix = by.dense(op).magnitude()
        return by.product(matrix.T if adjoint else matrix, v)
    return by.magnitude(op, v, adjoint)


def entrywise_bound(op: LinearOperator, p: Norm, q: Norm, by: Arithmetic) -> float:
    """The best bound on the norm that absolute entries give."""

    def rows(norm: Norm) -> np.ndarray:
        return row_norms(op, norm, by)

    def columns(norm: Norm) -> np.ndarray:
        return row_norms(op, norm, by, adjoint=True)

    found = []
    if p == 1:
        found.append(_largest(columns(q)))
    if q == math.inf:
        found.append(_largest(rows(dual(p))))
    if p == math.inf:
        found.append(float(by.norms(rows(1.0), q)))
    if q == 1:
        found.append(float(by.norms(columns(1.0), dual(p))))
    if p == q == 2:
        found.append(float(sqrt_up(mul_up(_largest(rows(1.0)), _largest(columns(1.0))))))  # Schur's test
        found.append(float(by.norms(rows(2.0), 2.0)))  # Frobenius
    return min(found)


def _l2_bound(
    op: LinearOperator, proof: Spectral | Overlap | Taps | Symbol | Frequencies | Gram, by: Arithmetic
) -> float:
    op = op.block
    if isinstance(proof, Spectral):
        if not is_affordable(op):
            raise NotProvedError(f"a spectral proof of an operator of {op.size}, over the kernel's size limit")
        if not proves_l2(op, proof, by):
            raise NotProvedError(_not_spectral(by.dense(op), proof.sigma))
        return proof.sigma
    if isinstance(proof, Symbol | Frequencies):
        if not proves_l2(op, proof, by):
            raise NotProvedError(f"the symbol of a {type(op).__name__} is not proven to be at most {proof.sigma:.17g}")
        return proof.sigma
    if isinstance(proof, Gram):
        return _gram(op, proof, by)
    if isinstance(op, Transposed):
        return _l2_bound(op.leaf, proof, by)  # |A'|_2 = |A|_2
    if not isinstance(op, Convolution):
        raise NotProvedError(f"a {type(proof).__name__.lower()} proof for a {type(op).__name__}, not a convolution")
    if isinstance(proof, Overlap):
        return _overlap(op, proof, by)
    return _taps(op, proof, by)


def overlap(op: Convolution) -> int:
    """The largest number of windows that one input pixel can be in."""
    # along an axis: kernel positions t with d t = i (mod s), at most ceil(k gcd(s, d) / s) for any i
    return math.prod(-(-k * math.gcd(s, d) // s) for k, s, d in zip(op.kernel, op.strides, op.dilations, strict=True))


def unfolded(op: Convolution) -> list[Enclosure]:
    """The kernel of each group as a matrix from a window to the outputs at one position."""
    by_group = (op.groups, op.weights.shape[0] // op.groups, -1)
    weights = Enclosure(op.weights, op.radius).reshape(by_group)
    return [_part(weights, g) for g in range(op.groups)]


def tap_matrices(op: Convolution) -> list[list[Enclosure]]:
    """For each kernel position, the matrix of each group from input to output channels."""
    per_group = op.weights.shape[0] // op.groups
    weights = Enclosure(op.weights, op.radius).reshape((op.groups, per_group, op.weights.shape[1], -1))
    taps = weights.rearrange(lambda w: np.moveaxis(w, -1, 0))  # positions in C order, as op.taps() lists them
    return [[_part(_part(taps, t), g) for g in range(op.groups)] for t in range(taps.shape[0])]


def _part(stacked: Enclosure, i: int) -> Enclosure:
    return stacked.rearrange(lambda a: a[i])


def _overlap(op: Convolution, proof: Overlap, by: Arithmetic) -> float:
    """sum_p |K patch_p|^2 <= |K|^2 sum_p |patch_p|^2 <= |K|^2 overlap |x|^2."""
    _prove_all("Overlap", op, unfolded(op), proof.sigma, by)
    return float(mul_up(proof.sigma, float(sqrt_up(float(overlap(op))))))


def _taps(op: Convolution, proof: Taps, by: Arithmetic) -> float:
    """A convolution is a sum over taps of (matrix of the tap) x (a strided shift, of norm at most 1)."""
    matrices = tap_matrices(op)
    if len(matrices) != len(proof.sigmas):
        raise NotProvedError(f"{len(proof.sigmas)} tap norms for a kernel of {len(matrices)} positions")
    for t, (groups, sigma) in enumerate(zip(matrices, proof.sigmas, strict=True)):
        _prove_all(f"Tap {t}", op, groups, sigma, by)
    return float(inflate(sum(proof.sigmas), len(proof.sigmas)))


def _gram(op: LinearOperator, proof: Gram, by: Arithmetic) -> float:
    """Of the symbol where there is one, else of the dense form."""
    conv = as_lattice(op)
    if conv is not None:
        return gram_symbol_bound(conv, proof.iterations, proof.grid, by)
    if proof.grid or not is_affordable(op):
        raise NotProvedError(f"Gram iteration of a {type(op).__name__} of {op.size}, no convolution and over the limit")
    return gram_bound(by.dense(op), proof.iterations)


def _prove_all(rule: str, op: Convolution, matrices: list[Enclosure], sigma: float, by: Arithmetic) -> None:
    """The matrices that the rule makes of the operator have norms of at most sigma."""

    def proves() -> bool:
        for matrix in matrices:
            if not by.proves_spectral(matrix, sigma):
                raise NotProvedError(_not_spectral(matrix, sigma))
        return True

    by.once(rule, op, sigma, proves)


def _not_spectral(matrix: Enclosure, sigma: float) -> str:
    size = _size_for_message(matrix)
    return (
        f"sigma^2 I - W W' > 0 fails for a {matrix.shape[0]} x {matrix.shape[1]} matrix: sigma = {sigma:.17g}, "
        f"its norm is about {size:.17g} (relative difference {sigma / size - 1 if size else math.nan:.2e})"
    )


def _size_for_message(matrix: Enclosure) -> float:
    """The norm of the midpoint, not proven; NaN where it cannot be computed."""
    try:
        return float(np.linalg.norm(matrix.value, 2)) if matrix.value.size and matrix.is_finite else math.nan
    except np.linalg.LinAlgError:
        return math.nan


def _factors(op: LinearOperator, p: Norm, q: Norm, proof: Factors, by: Arithmetic) -> float:
    """|A B|_{p->q} <= |A|_{2->q} |B|_{p->2}."""
    if not isinstance(op, Product) or len(op.factors) != len(proof.proofs):
        raise NotProvedError(f"{len(proof.proofs)} factor proofs for a {type(op).__name__}")
    bound, last = 1.0, len(op.factors) - 1
    for i, (factor, part) in enumerate(zip(op.factors, proof.proofs, strict=True)):
        out, into = (q if i == 0 else 2.0), (p if i == last else 2.0)
        bound = float(mul_up(bound, norm_bound(factor, into, out, part, by)))
    return bound


def _terms(op: LinearOperator, p: Norm, q: Norm, proof: Terms, by: Arithmetic) -> float:
    """|A + B| <= |A| + |B|; also for [A B], each block acting on a part of the vector."""
    parts = op.terms if isinstance(op, Sum) else op.blocks if isinstance(op, Row) else ()
    if not parts or len(parts) != len(proof.proofs):
        raise NotProvedError(f"{len(proof.proofs)} term proofs for a {type(op).__name__}")
    bounds = [norm_bound(t, p, q, part, by) for t, part in zip(parts, proof.proofs, strict=True)]
    return float(inflate(sum(bounds), len(bounds)))


def conversion(op: LinearOperator, p: Norm, q: Norm) -> float:
    """c with |A|_{p->q} <= c |A|_{2->2}: |x|_2 <= sqrt(n) |x|_inf and |y|_1 <= sqrt(m) |y|_2."""
    before = float(sqrt_up(float(op.in_size))) if p == math.inf else 1.0
    after = float(sqrt_up(float(op.out_size))) if q == 1 else 1.0
    return float(mul_up(before, after))


def _largest(v: np.ndarray) -> float:
    return float(np.max(v, initial=0.0))
