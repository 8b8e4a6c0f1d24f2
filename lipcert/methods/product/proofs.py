"""Finding the best proof of an operator norm: every rule that applies, is affordable and can win is tried."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from lipcert.arithmetic.rounding import U
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import Entrywise, Factors, NormProof, Overlap, Spectral, Taps, Terms
from lipcert.certificate.definite import GramForm, gram_form
from lipcert.certificate.norms import (
    conversion,
    entrywise_bound,
    is_affordable,
    overlap,
    proves_l2,
    tap_matrices,
    unfolded,
)
from lipcert.methods.symbol import Effort, symbol_proof
from lipcert.operators import Convolution, LinearOperator, Product, Row, Sum, Transposed
from lipcert.problem import Norm

MAX_SPECTRAL_DIMENSION = 2048
"""Smaller side of a matrix whose Gram form is factorised: about a second on two cores."""

QUICK_SPECTRAL_DIMENSION = 64
"""The same where milliseconds count."""

MAX_ENTRIES_WORK = 2**24
"""Multiplications beyond which an l2 norm is not bounded by entries where factors or a symbol nearly always win."""

MARGIN = 1 + 2.0**-34
"""A sigma that is proven here is stored this much larger, so that other machines' roundings prove it too."""

Found = tuple[float, NormProof]
"""A bound (not yet verified) and the proof of it."""


def prove_norm(op: LinearOperator, p: Norm, q: Norm, effort: Effort, by: Arithmetic) -> Found:
    """The proof with the smallest bound among the rules that apply and that the effort allows.

    Found once for each operator: chains with other cuts ask again.
    """
    key = ("norm", op.digest, p, q, effort.seconds)
    if key not in by.found:
        here = Effort(effort.seconds, device=effort.device)
        by.found[key] = min(_proofs(op, p, q, here, by), key=lambda found: found[0]), here.limited
    found, limited = by.found[key]
    effort.limited = effort.limited or limited
    return found


def _proofs(op: LinearOperator, p: Norm, q: Norm, effort: Effort, by: Arithmetic) -> Iterator[Found]:
    limit = MAX_SPECTRAL_DIMENSION if effort.seconds else QUICK_SPECTRAL_DIMENSION
    exact_entries = (p == 1 or q == math.inf) and is_affordable(op)
    block = op.block
    sigma = math.inf
    spectral = is_affordable(block) and min(block.size) <= limit and not exact_entries
    if spectral:
        sigma = spectral_norm_of(block, by)
        yield sigma * conversion(op, p, q), Spectral(sigma)
    if spectral and p == q == 2 and math.isfinite(sigma):
        return  # the norm itself: no other rule can win
    symbol = symbol_proof(op, by, effort) if effort.seconds and not exact_entries else None
    if symbol is not None:
        yield symbol[0] * conversion(op, p, q), symbol[1]
    composite = isinstance(op, Product | Sum | Row)
    if not (p == q == 2 and (composite or symbol is not None) and op.work > MAX_ENTRIES_WORK):
        yield entrywise_bound(op, p, q, by), Entrywise()
    if exact_entries or (symbol is not None and p == q == 2):
        return
    if isinstance(op, Product):
        last = len(op.factors) - 1
        yield _together(
            [prove_norm(f, p if i == last else 2.0, q if i == 0 else 2.0, effort, by) for i, f in enumerate(op.factors)]
        )
    if isinstance(op, Sum | Row):
        parts = [prove_norm(t, p, q, effort, by) for t in (op.terms if isinstance(op, Sum) else op.blocks)]
        yield sum(bound for bound, _ in parts), Terms(tuple(proof for _, proof in parts))
    kernel = op.leaf if isinstance(op, Transposed) else op
    if isinstance(kernel, Convolution) and not spectral and symbol is None:
        yield from _convolution_proofs(kernel, conversion(op, p, q))


def spectral_norm_of(op: LinearOperator, by: Arithmetic) -> float:
    """A number just above the norm of the dense form, which the kernel proves; found once for each operator."""
    key = ("spectral", op.digest)
    if key not in by.found:
        matrix = by.dense(op)
        form = by.gram(matrix) if matrix.is_finite else gram_form(matrix)
        by.found[key] = spectral_norm(form, lambda sigma: proves_l2(op, Spectral(sigma), by))
    return float(by.found[key])


def _together(factors: list[Found]) -> Found:
    return math.prod(bound for bound, _ in factors), Factors(tuple(proof for _, proof in factors))


def _convolution_proofs(op: Convolution, factor: float) -> Iterator[Found]:
    sigma = max(spectral_norm(gram_form(m)) for m in unfolded(op))
    yield sigma * math.sqrt(overlap(op)) * factor, Overlap(sigma)
    sigmas = tuple(max(spectral_norm(gram_form(m)) for m in groups) for groups in tap_matrices(op))
    yield sum(sigmas) * factor, Taps(sigmas)


def spectral_norm(form: GramForm, proves: Callable[[float], bool] | None = None) -> float:
    """A number just above the spectral norm for which the Gram form proves definite, or what `proves` says."""
    proves = proves or form.proves
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
        if proves(sigma):
            return sigma * MARGIN
        excess *= 4
    return math.inf


def _largest_eigenvalue(gram: np.ndarray) -> float:
    if len(gram) <= 400:
        return float(np.linalg.eigvalsh(gram)[-1])
    from scipy.sparse.linalg import eigsh

    start = np.ones(len(gram))
    return float(eigsh(gram, k=1, which="LA", tol=1e-13, v0=start, return_eigenvectors=False)[0])
