"""Products and sums of operators, and the constructors that keep them short."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from lipcert.errors import NotProvedError
from lipcert.operators.base import Leaf, LinearOperator
from lipcert.operators.selection import Identity, Selection
from lipcert.operators.transposed import Transposed


class Product(LinearOperator):
    """factors[0] factors[1] ... factors[-1]: the last factor meets the vector first."""

    def __init__(self, factors: Sequence[LinearOperator]) -> None:
        self.factors = tuple(factors)
        for left, right in zip(self.factors, self.factors[1:], strict=False):
            if left.in_size != right.out_size:
                raise ValueError(f"operators {left.size} and {right.size} do not compose")
        self.out_size, self.in_size = self.factors[0].out_size, self.factors[-1].in_size

    def matvec(self, x: np.ndarray) -> np.ndarray:
        for factor in reversed(self.factors):
            x = factor.matvec(x)
        return x

    def rmatvec(self, y: np.ndarray) -> np.ndarray:
        for factor in self.factors:
            y = factor.rmatvec(y)
        return y

    @cached_property
    def cheapest_order(self) -> tuple[int, list[int], int]:
        """How to write the product out with the least work: start, moves, work.

        Start with one factor; each move takes the factor before (-1) or after (+1) what is there.
        """
        factors, n = self.factors, len(self.factors)
        work = {(i, i): f.dense_work for i, f in enumerate(factors)}
        last: dict[tuple[int, int], int] = {}
        for length in range(1, n):
            for i in range(n - length):
                j = i + length
                before = work[i + 1, j] + factors[j].in_size * factors[i].work
                after = work[i, j - 1] + factors[i].out_size * factors[j].work
                work[i, j], last[i, j] = (before, -1) if before < after else (after, 1)
        i, j, moves = 0, n - 1, []
        while i < j:
            moves.append(last[i, j])
            i, j = (i + 1, j) if moves[-1] < 0 else (i, j - 1)
        return i, moves[::-1], work[0, n - 1]

    @property
    def dense_work(self) -> int:
        return self.cheapest_order[2]

    @cached_property
    def work(self) -> int:
        return sum(part.work for part in self.factors)

    @property
    def parts(self) -> tuple[Any, ...]:
        return self.factors

    @cached_property
    def fan_in(self) -> int:
        return sum(f.fan_in for f in self.factors)

    @cached_property
    def fan_out(self) -> int:
        return sum(f.fan_out for f in self.factors)


class Sum(LinearOperator):
    """terms[0] + terms[1] + ..."""

    def __init__(self, terms: Sequence[LinearOperator]) -> None:
        self.terms = tuple(terms)
        if len({t.size for t in self.terms}) != 1:
            raise ValueError(f"operators {[t.size for t in self.terms]} do not add")
        self.out_size, self.in_size = self.terms[0].size

    def matvec(self, x: np.ndarray) -> np.ndarray:
        return _total([t.matvec(x) for t in self.terms])

    def rmatvec(self, y: np.ndarray) -> np.ndarray:
        return _total([t.rmatvec(y) for t in self.terms])

    @cached_property
    def dense_work(self) -> int:
        return sum(part.dense_work for part in self.terms) + self.in_size * self.out_size

    @cached_property
    def work(self) -> int:
        return sum(part.work for part in self.terms)

    @property
    def parts(self) -> tuple[Any, ...]:
        return self.terms

    @cached_property
    def fan_in(self) -> int:
        return max(t.fan_in for t in self.terms) + len(self.terms)

    @cached_property
    def fan_out(self) -> int:
        return max(t.fan_out for t in self.terms) + len(self.terms)


class Row(LinearOperator):
    """[blocks[0] blocks[1] ...]: acts on the concatenation of several vectors."""

    def __init__(self, blocks: Sequence[LinearOperator]) -> None:
        self.blocks = tuple(blocks)
        if len({b.out_size for b in self.blocks}) != 1:
            raise ValueError(f"operators {[b.size for b in self.blocks]} do not stand in one row")
        self.out_size = self.blocks[0].out_size
        self.in_size = sum(b.in_size for b in self.blocks)

    def matvec(self, x: np.ndarray) -> np.ndarray:
        parts = np.split(x, np.cumsum([b.in_size for b in self.blocks])[:-1], axis=-1)
        return _total([b.matvec(p) for b, p in zip(self.blocks, parts, strict=True)])

    def rmatvec(self, y: np.ndarray) -> np.ndarray:
        return np.concatenate([b.rmatvec(y) for b in self.blocks], axis=-1)

    @cached_property
    def dense_work(self) -> int:
        return sum(part.dense_work for part in self.blocks) + self.in_size * self.out_size

    @cached_property
    def work(self) -> int:
        return sum(part.work for part in self.blocks)

    @property
    def parts(self) -> tuple[Any, ...]:
        return self.blocks

    @cached_property
    def fan_in(self) -> int:
        return max(b.fan_in for b in self.blocks) + len(self.blocks)

    @cached_property
    def fan_out(self) -> int:
        return max(b.fan_out for b in self.blocks)


def compose(outer: LinearOperator, inner: LinearOperator) -> LinearOperator:
    """outer after inner, without identities and with selections merged."""
    if outer.in_size != inner.out_size:
        raise ValueError(f"operators {outer.size} and {inner.size} do not compose")
    factors = [f for op in (outer, inner) for f in (op.factors if isinstance(op, Product) else (op,))]
    kept: list[LinearOperator] = []
    for factor in factors:
        if isinstance(factor, Identity):
            continue
        if kept and isinstance(kept[-1], Selection) and isinstance(factor, Selection):
            outer_index = kept[-1].index
            merged = np.where(outer_index < 0, -1, factor.index[outer_index])
            kept[-1] = Selection(merged, factor.in_size)
            continue
        kept.append(factor)
    if not kept:
        return Identity(inner.in_size)
    return kept[0] if len(kept) == 1 else Product(kept)


def add(terms: Sequence[LinearOperator]) -> LinearOperator:
    """The sum of operators, what they all begin with factored out, nested sums flattened.

    T A + T B becomes T (A + B): without it, operators along residual networks double in length with every block.
    """
    if len(terms) == 1:
        return terms[0]
    factors = [t.factors if isinstance(t, Product) else () if isinstance(t, Identity) else (t,) for t in terms]
    shared = 0
    while all(len(f) > shared and f[shared] is factors[0][shared] for f in factors):
        shared += 1
    if shared == 0:
        flat = _merged([t for term in terms for t in (term.terms if isinstance(term, Sum) else (term,))])
        return flat[0] if len(flat) == 1 else Sum(flat)
    rests = [_chain(f[shared:], terms[0].in_size) for f in factors]
    return compose(_chain(factors[0][:shared], 0), Sum(rests))


def joined(a: LinearOperator, b: LinearOperator) -> Selection | None:
    """The sum of two selections that fill different entries; None for anything else."""
    if not (isinstance(a, Selection) and isinstance(b, Selection)) or np.any((a.index >= 0) & (b.index >= 0)):
        return None
    return Selection(np.where(a.index >= 0, a.index, b.index), a.in_size)


def _merged(terms: list[LinearOperator]) -> list[LinearOperator]:
    """Selections that fill different entries joined: a concatenation of parts of one vector moves entries only."""
    kept: list[LinearOperator] = []
    for term in terms:
        for k, other in enumerate(kept):
            merged = joined(other, term)
            if merged is not None:
                kept[k] = merged
                break
        else:
            kept.append(term)
    return kept


def _chain(factors: Sequence[LinearOperator], size: int) -> LinearOperator:
    """The product of the factors; the identity of this size where there are none."""
    if not factors:
        return Identity(size)
    return factors[0] if len(factors) == 1 else Product(factors)


def _total(parts: list[np.ndarray]) -> np.ndarray:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def transpose(op: LinearOperator) -> LinearOperator:
    """A'."""
    if isinstance(op, Product):
        return Product([transpose(f) for f in reversed(op.factors)])
    if isinstance(op, Sum):
        return Sum([transpose(t) for t in op.terms])
    if isinstance(op, Identity):
        return op
    if isinstance(op, Transposed):
        return op.leaf
    if isinstance(op, Leaf):
        return Transposed(op)
    raise NotProvedError(f"no transpose of a {type(op).__name__}")
