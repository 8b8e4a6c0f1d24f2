"""Norms of the linear operators of a network one by one: proven from above, attained from below."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.arithmetic.rounding import down, norm_down
from lipcert.arithmetic.threads import idle_cores
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import Entrywise, Factors, Frequencies, NormProof, Spectral, Symbol, Terms
from lipcert.certificate.lattice import as_lattice
from lipcert.certificate.norms import entrywise_bound, is_affordable, norm_bound
from lipcert.certificate.symbol import symbol_kernel
from lipcert.errors import UsageError
from lipcert.graph import Affine, Graph
from lipcert.methods import OutOfTime, Progress
from lipcert.methods.product.proofs import prove_norm
from lipcert.methods.symbol import Effort
from lipcert.methods.symbol.search import singular_range
from lipcert.operators import Identity, LinearOperator, Selection, Shape

EFFORT = 20.0
"""Seconds of proof for one operator."""

POWER_STEPS, QUICK_STEPS, LANCZOS_VECTORS = 30, 5, 24
"""Of the search for the top singular vector: power iteration, then restarted Lanczos."""

SMALL = 2**18
"""Entries of dense forms whose top singular vector is computed directly."""

MAX_SVD = 2**21
"""Entries of dense forms whose singular values are computed, for the condition number."""


@dataclass(frozen=True)
class LayerNorms:
    """One linear operator: `l1`, `l2`, `linf` are proven upper bounds, `attained` is a proven lower bound of l2.

    `rule` says what the proof of l2 rests on. `condition` is the largest over the smallest singular value, computed in
    floats and not proven: of the dense form, or `sampled` from the symbol; None where neither can be had.
    """

    node: int
    origin: str
    operator: str
    in_shape: Shape
    out_shape: Shape
    l1: float
    l2: float
    linf: float
    attained: float
    rule: str
    condition: float | None
    sampled: bool

    @property
    def gap(self) -> float | None:
        """l2 / attained."""
        return self.l2 / self.attained if self.attained > 0 else None


def layer_norms(graph: Graph, timeout: float) -> Iterator[LayerNorms]:
    """The norms of each operator in order, with quick rules only once `timeout` seconds are over."""
    if not timeout >= 0:
        raise UsageError(f"timeout: {timeout} is not a number of seconds", hint="use 0 or more")
    progress = Progress(time.monotonic() + timeout)
    by = progress.arithmetic
    with idle_cores():
        for i, node in enumerate(graph.nodes):
            if not isinstance(node, Affine):
                continue
            for source, op in zip(node.inputs, node.operators, strict=True):
                if isinstance(op, Identity | Selection):
                    continue
                l2, proof = _l2(op, progress)
                condition, sampled = _condition(op) if progress.remaining() > 0 else (None, False)
                yield LayerNorms(
                    node=i,
                    origin=node.origin,
                    operator=op.describe(),
                    in_shape=graph.nodes[source].shape,
                    out_shape=node.shape,
                    l1=entrywise_bound(op, 1.0, 1.0, by),
                    l2=l2,
                    linf=entrywise_bound(op, math.inf, math.inf, by),
                    attained=attained_norm(op, by, quick=progress.remaining() < 0),
                    rule=describe(proof, op),
                    condition=condition,
                    sampled=sampled,
                )


def _l2(op: LinearOperator, progress: Progress) -> tuple[float, NormProof]:
    """A verified bound, by the rules that there is time for."""
    by = progress.arithmetic

    def tick() -> None:
        if progress.remaining() < 0:
            raise OutOfTime

    try:
        by.tick = tick
        tick()
        _, proof = prove_norm(op, 2.0, 2.0, Effort(EFFORT), by)
    except OutOfTime:
        _, proof = prove_norm(op, 2.0, 2.0, Effort(0.0), by)
    finally:
        by.tick = lambda: None
    return norm_bound(op, 2.0, 2.0, proof, by), proof


def attained_norm(op: LinearOperator, by: Arithmetic, quick: bool = False) -> float:
    """A proven lower bound on the l2 norm: |A x| / |x| in enclosures, at the top singular vector as far as known."""
    x = _top_vector(op, quick)
    if not np.all(np.isfinite(x)) or not np.any(x):
        return 0.0
    image = by.apply(op, Enclosure(x))
    smallest = np.maximum(0.0, np.maximum(image.lower(), -image.upper()))
    return max(0.0, float(down(norm_down(smallest, 2.0) / by.norms(np.abs(x), 2.0))))


@np.errstate(over="ignore", invalid="ignore")
def _top_vector(op: LinearOperator, quick: bool) -> np.ndarray:
    from scipy.sparse.linalg import ArpackNoConvergence, eigsh
    from scipy.sparse.linalg import LinearOperator as Matvec

    if is_affordable(op) and op.in_size * op.out_size <= SMALL:
        matrix = Arithmetic().dense(op).value
        return np.asarray(np.linalg.svd(matrix)[2][0]) if np.all(np.isfinite(matrix)) else np.zeros(op.in_size)
    start = np.random.default_rng(0).standard_normal(op.in_size)
    for _ in range(QUICK_STEPS if quick else POWER_STEPS):
        start = op.rmatvec(op.matvec(start))
        size = float(np.linalg.norm(start))
        if not (size > 0 and math.isfinite(size)):
            return np.zeros(op.in_size)
        start /= size
    quick = quick or op.in_size <= LANCZOS_VECTORS
    if quick:
        return start
    form = Matvec((op.in_size, op.in_size), matvec=lambda x: op.rmatvec(op.matvec(np.ravel(x))), dtype=float)
    try:
        _, vectors = eigsh(form, k=1, which="LA", v0=start, ncv=LANCZOS_VECTORS, maxiter=20, tol=1e-9)
    except ArpackNoConvergence as error:
        vectors = error.eigenvectors
    return np.asarray(vectors[:, 0]) if vectors.shape[1] else start


def describe(proof: NormProof, op: LinearOperator) -> str:
    """What a proof rests on, in a few words."""
    if isinstance(proof, Factors | Terms):
        parts = op.factors if hasattr(op, "factors") else op.terms if hasattr(op, "terms") else op.blocks  # type: ignore[attr-defined]
        inner = sorted({describe(p, o) for p, o in zip(proof.proofs, parts, strict=True)})
        return f"{'product' if isinstance(proof, Factors) else 'sum'} of parts ({', '.join(inner)})"
    if isinstance(proof, Frequencies):
        conv = as_lattice(op.block)
        assert conv is not None
        return "symbol, maps of " + "x".join(map(str, conv.in_space))
    names = {Spectral: "dense form", Symbol: "symbol, maps of any size", Entrywise: "entries"}
    return names.get(type(proof), type(proof).__name__.lower())


def _condition(op: LinearOperator) -> tuple[float | None, bool]:
    """Of the dense form where that is affordable; whether it is from samples of the symbol instead."""
    block = op.block
    if is_affordable(block) and block.out_size * block.in_size <= MAX_SVD:
        values = np.linalg.svd(Arithmetic().dense(block).value, compute_uv=False)
        return _ratio(float(values[0]), float(values[-1])), False
    conv = as_lattice(block)
    if conv is None:
        return None, False
    largest, smallest = singular_range(symbol_kernel(conv))
    return _ratio(largest, smallest), True


def _ratio(largest: float, smallest: float) -> float:
    return largest / smallest if smallest > 1e-14 * largest else math.inf
