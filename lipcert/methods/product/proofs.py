"""Finding the best proof of an operator norm: every rule that applies, is affordable and can win is tried."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from lipcert.arithmetic.rounding import U
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import Entrywise, Factors, NormProof, Overlap, Spectral, Symbol, Taps, Terms
from lipcert.certificate.definite import GramForm, gram_form
from lipcert.certificate.norms import conversion, entrywise_bound, is_affordable, overlap, tap_matrices, unfolded
from lipcert.certificate.symbol import as_convolution
from lipcert.methods.gram import symbol_norm
from lipcert.operators import Convolution, LinearOperator, Product, Row, Sum, Transposed
from lipcert.problem import Norm

MAX_SPECTRAL_DIMENSION = 2048
"""Smaller side of a matrix whose Gram form is factorised: about a second on two cores."""

QUICK_SPECTRAL_DIMENSION = 64
"""The same where milliseconds count."""

MARGIN = 1 + 2.0**-34
"""A sigma that is proven here is stored this much larger, so that other machines' roundings prove it too."""

Found = tuple[float, NormProof]
"""A bound (not yet verified) and the proof of it."""


def prove_norm(op: LinearOperator, p: Norm, q: Norm, thorough: bool, by: Arithmetic) -> Found:
    """The proof with the smallest bound among the rules that apply."""
    return min(_proofs(op, p, q, thorough, by), key=lambda found: found[0])


def _proofs(op: LinearOperator, p: Norm, q: Norm, thorough: bool, by: Arithmetic) -> Iterator[Found]:
    limit = MAX_SPECTRAL_DIMENSION if thorough else QUICK_SPECTRAL_DIMENSION
    exact_entries = (p == 1 or q == math.inf) and is_affordable(op)
    spectral = is_affordable(op) and min(op.size) <= limit and not exact_entries
    if spectral:
        sigma = spectral_norm(gram_form(by.dense(op)))
        yield sigma * conversion(op, p, q), Spectral(sigma)
    if spectral and p == q == 2:
        return  # the norm itself: no other rule can win
    yield entrywise_bound(op, p, q, by), Entrywise()
    if exact_entries:
        return
    conv = as_convolution(op) if thorough else None
    if conv is not None:
        sigma = _symbol_norm(conv, by)
        yield sigma * conversion(op, p, q), Symbol(sigma)
    if isinstance(op, Product):
        last = len(op.factors) - 1
        yield _together(
            [
                prove_norm(f, p if i == last else 2.0, q if i == 0 else 2.0, thorough, by)
                for i, f in enumerate(op.factors)
            ]
        )
    if isinstance(op, Sum | Row):
        parts = [prove_norm(t, p, q, thorough, by) for t in (op.terms if isinstance(op, Sum) else op.blocks)]
        yield sum(bound for bound, _ in parts), Terms(tuple(proof for _, proof in parts))
    kernel = op.leaf if isinstance(op, Transposed) else op
    if isinstance(kernel, Convolution) and not spectral:
        yield from _convolution_proofs(kernel, conversion(op, p, q))


def _symbol_norm(conv: Convolution, by: Arithmetic) -> float:
    """The norm, found once for each kernel: chains with other cuts ask again."""
    radius = np.asarray(conv.radius, dtype=float).tobytes()
    key = (conv.weights.tobytes(), conv.weights.shape, conv.strides, conv.dilations, conv.groups, radius)
    if key not in by.found:
        by.found[key] = symbol_norm(conv, by)
    return by.found[key]


def _together(factors: list[Found]) -> Found:
    return math.prod(bound for bound, _ in factors), Factors(tuple(proof for _, proof in factors))


def _convolution_proofs(op: Convolution, factor: float) -> Iterator[Found]:
    sigma = max(spectral_norm(gram_form(m)) for m in unfolded(op))
    yield sigma * math.sqrt(overlap(op)) * factor, Overlap(sigma)
    sigmas = tuple(max(spectral_norm(gram_form(m)) for m in groups) for groups in tap_matrices(op))
    yield sum(sigmas) * factor, Taps(sigmas)


def spectral_norm(form: GramForm) -> float:
    """A number just above the spectral norm for which the Gram form proves definite."""
    n = len(form.gram)
    if n == 0:
        return 0.0
    if not (np.all(np.isfinite(form.gram)) and np.all(np.isfinite(form.error))):
        return math.inf
    square = _largest_eigenvalue(form.gram)
    if square <= 0:
        return math.inf
    # the shift of the proof is at most n (n + 3) u square + error: ask for that much room
    excess = 0.55 * (n * (n + 3) * U + float(form.error.max()) / square) + 2.0**-50
    while excess < 1:
        sigma = math.sqrt(square) * (1 + excess)
        if form.proves(sigma):
            return sigma * MARGIN
        excess *= 4
    return math.inf


def _largest_eigenvalue(gram: np.ndarray) -> float:
    if len(gram) <= 400:
        return float(np.linalg.eigvalsh(gram)[-1])
    from scipy.sparse.linalg import eigsh

    start = np.ones(len(gram))
    return float(eigsh(gram, k=1, which="LA", tol=1e-13, v0=start, return_eigenvectors=False)[0])
