"""How far proven bounds of random small layers are above their norms, which dense matrices give: a Markdown table.

    python -m benchmarks.convolutions_distribution [--layers 300] [--seed 0]

Every bound is found as the product method does it, and verified with an arithmetic that has seen nothing before. Two
yardsticks: the dense norm of the layer, for maps of its size, and the supremum of its symbol, for maps of any size. A
ratio below 1 is a wrong proof, and ends the run with status 1, but for that of a circle to the supremum: it holds for
maps of this size alone. Large layers have no dense form: what they would get is in rows of its own.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterator
from unittest.mock import patch

import numpy as np

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import Frequencies, NormProof
from lipcert.certificate.lattice import as_lattice
from lipcert.certificate.norms import norm_bound
from lipcert.certificate.symbol import proves_symbol, symbol_kernel
from lipcert.methods.product import proofs
from lipcert.methods.product.proofs import prove_norm
from lipcert.methods.symbol import FULL_EFFORT, Effort, symbol_proof
from lipcert.methods.symbol.proof import GAPS
from lipcert.methods.symbol.search import supremum
from lipcert.operators import Convolution, Identity, LinearOperator, Product, Sum, enclosed
from tests.helpers.lattices import Maps, convolution, lattice_supremum, random_circular, random_turned, wrap
from tests.helpers.symbols import per_channel

SPACE = {1: (8, 40), 2: (5, 12), 3: (3, 5)}
"""Pixels along an axis, by rank."""
ROUNDING = 1e-12
"""Relative, of the singular value decomposition that gives the dense norm."""
QUANTILES = (0.5, 0.9, 0.99)
MOST_TAPS = 400
"""Of kernels whose supremum is sampled."""

ALL = "**all**"
BOUND = "bound / norm"
LARGE = "bound without the dense form / norm"
SYMBOL = "symbol / norm"
CIRCLE = "symbol on a circle / supremum"
PLANE = "symbol on the plane / supremum"
RATIOS = (BOUND, LARGE, SYMBOL, CIRCLE, PLANE)

Draw = Callable[[np.random.Generator, Maps], LinearOperator]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    kinds = list(KINDS)
    found: dict[tuple[str, str], list[float]] = {}
    for i in range(arguments.layers):
        kind = kinds[i % len(kinds)]
        op = drawn(np.random.default_rng([arguments.seed, i]), kind, 1 + i // len(kinds) % 3)
        for ratio, value in ratios(op):
            found.setdefault((kind, ratio), []).append(value - 1)
            found.setdefault((ALL, ratio), []).append(value - 1)
    print("| layer | ratio | layers | below 1 | least | median | 90 % | 99 % | worst |")
    print("|---|---|---|---|---|---|---|---|---|")
    for kind, ratio in itertools.product((*kinds, ALL), RATIOS):
        row(kind, ratio, found.get((kind, ratio), []))
    proven = [v for ratio in RATIOS if ratio != CIRCLE for v in found.get((ALL, ratio), [])]
    wrong = sum(v < -ROUNDING for v in proven)
    print(f"\n{wrong} of {len(proven)} verified bounds are below what they bound.")
    return 1 if wrong else 0


def ratios(op: LinearOperator) -> Iterator[tuple[str, float]]:
    """Verified bounds divided by what they bound."""
    norm = float(np.linalg.norm(enclosed.dense(op).value, 2))
    yield BOUND, verified(op, *prove_norm(op, 2.0, 2.0, Effort(FULL_EFFORT), Arithmetic())) / norm
    with patch.object(proofs, "MAX_SPECTRAL_DIMENSION", 0):
        yield LARGE, verified(op, *prove_norm(op, 2.0, 2.0, Effort(FULL_EFFORT), Arithmetic())) / norm
    lattice, best = as_lattice(op), symbol_proof(op, Arithmetic())
    if lattice is None or best is None:
        return
    value = verified(op, *best)
    yield SYMBOL, value / norm
    if math.prod((*lattice.kernel, *lattice.strides)) > MOST_TAPS:
        return
    attained = lattice_supremum(lattice)
    if isinstance(best[1], Frequencies):
        yield CIRCLE, value / attained
    kernel = symbol_kernel(lattice)
    sigma = supremum(kernel) * (1 + GAPS[0]) + lattice.deviation
    if kernel.extents and proves_symbol(lattice, sigma, Arithmetic()):
        yield PLANE, sigma / attained


def verified(op: LinearOperator, bound: float, proof: NormProof) -> float:
    """What a fresh arithmetic proves, which must not be above what was promised."""
    proven = norm_bound(op, 2.0, 2.0, proof, Arithmetic())
    assert proven <= bound * (1 + 1e-9), (proven, bound)
    return proven


def row(kind: str, ratio: str, excess: list[float]) -> None:
    if not excess:
        return
    values = np.sort(excess)
    quantiles = [float(np.quantile(values, q)) for q in QUANTILES]
    cells = [f"{v:.1e}" for v in (values[0], *quantiles, values[-1])]
    print(f"| {kind} | {ratio} | {len(values)} | {int((values < -ROUNDING).sum())} | {' | '.join(cells)} |")


def drawn(rng: np.random.Generator, kind: str, rank: int) -> LinearOperator:
    """Draws again what cannot be built: a kernel larger than its map."""
    while True:
        low, high = SPACE[rank]
        space = tuple(int(n) for n in rng.integers(low, high + 1, size=rank))
        maps = Maps(int(rng.choice([2, 4, 6] if rank < 3 else [1, 2])), space)
        try:
            op = KINDS[kind](rng, maps)
        except ValueError:
            continue
        if enclosed.dense(op).value.any():
            return op


def sides(rng: np.random.Generator, maps: Maps, most: int = 5) -> tuple[int, ...]:
    return tuple(int(k) for k in rng.integers(1, most + 1, size=len(maps.space)))


def zeros(rng: np.random.Generator, maps: Maps, strides: int = 1, dilation: int = 1, groups: int = 1) -> LinearOperator:
    """Padded by zeros, half of the kernel on both sides."""
    kernel = sides(rng, maps)
    pads = tuple((dilation * (k - 1) // 2, dilation * k // 2) for k in kernel)
    rank = len(kernel)
    return convolution(
        rng, maps, kernel, strides=(strides,) * rank, pads=pads, dilations=(dilation,) * rank, groups=groups
    )[0]


def asymmetric(rng: np.random.Generator, maps: Maps) -> LinearOperator:
    kernel = sides(rng, maps)
    pads = tuple((int(rng.integers(0, k + 1)), int(rng.integers(0, k + 1))) for k in kernel)
    return convolution(rng, maps, kernel, pads=pads)[0]


def repeated(mode: str) -> Draw:
    def draw(rng: np.random.Generator, maps: Maps) -> LinearOperator:
        rank = len(maps.space)
        selection, padded = wrap(maps, ((1, 1),) * rank, mode)
        return Product((convolution(rng, padded, (3,) * rank)[0], selection))

    return draw


def pooled(rng: np.random.Generator, maps: Maps, padding: int = 0) -> LinearOperator:
    """Averages over 2 or 3 pixels along each axis."""
    k, rank = int(rng.integers(2, 4)), len(maps.space)
    op = convolution(
        rng,
        maps,
        (k,) * rank,
        strides=(int(rng.integers(1, k + 1)),) * rank,
        pads=((padding, padding),) * rank,
        groups=maps.channels,
        out=maps.channels,
    )[0]
    assert isinstance(op, Convolution)
    return op.with_weights(np.full_like(op.weights, 1 / k**rank))


def blurred(rng: np.random.Generator, maps: Maps) -> LinearOperator:
    """The binomial filter, strided by two, of every channel."""
    rank = len(maps.space)
    op = convolution(
        rng,
        maps,
        (3,) * rank,
        strides=(2,) * rank,
        pads=((1, 1),) * rank,
        groups=maps.channels,
        out=maps.channels,
    )[0]
    assert isinstance(op, Convolution)
    line = np.array([0.25, 0.5, 0.25])
    filter_of_all_axes = np.ones((1,) * rank)
    for axis in range(rank):
        filter_of_all_axes = filter_of_all_axes * line.reshape([3 if j == axis else 1 for j in range(rank)])
    return op.with_weights(np.broadcast_to(filter_of_all_axes, op.weights.shape).copy())


def stretch(rng: np.random.Generator, maps: Maps) -> LinearOperator:
    """Convolution, normalisation, 1 x 1 convolution, pooling without padding."""
    rank = len(maps.space)
    first, after = convolution(rng, maps, (3,) * rank, pads=((1, 1),) * rank)
    scale = per_channel(rng.random(after.channels) + 0.5, after.shape, after.copies, 1e-12)
    second, last = convolution(rng, after, (1,) * rank)
    pool, _ = convolution(rng, last, (2,) * rank, strides=(2,) * rank, groups=last.channels, out=last.channels)
    assert isinstance(pool, Convolution)
    return Product((pool.with_weights(np.full_like(pool.weights, 1 / 2**rank)), second, scale, first))


def residual(rng: np.random.Generator, maps: Maps) -> LinearOperator:
    rank = len(maps.space)
    conv, _ = convolution(rng, maps, (3,) * rank, pads=((1, 1),) * rank, out=maps.channels)
    return Sum((Identity(maps.size), conv))


KINDS: dict[str, Draw] = {
    "zero padding": zeros,
    "asymmetric padding": asymmetric,
    "no padding": lambda rng, maps: convolution(rng, maps, sides(rng, maps, 3))[0],
    "stride 2": lambda rng, maps: zeros(rng, maps, strides=2),
    "dilation 2": lambda rng, maps: zeros(rng, maps, dilation=2),
    "stride 2, dilation 3": lambda rng, maps: zeros(rng, maps, strides=2, dilation=3),
    "groups": lambda rng, maps: zeros(rng, maps, groups=2 if maps.channels % 2 == 0 else 1),
    "depthwise": lambda rng, maps: zeros(rng, maps, groups=maps.channels),
    "circular padding": lambda rng, maps: random_circular(rng, maps, 1)[0],
    "reflect padding": repeated("reflect"),
    "replicate padding": repeated("edge"),
    "transposed": lambda rng, maps: random_turned(rng, maps)[0],
    "transposed, stride 2": lambda rng, maps: random_turned(rng, maps, strides=(2,) * len(maps.space))[0],
    "average pooling": pooled,
    "average pooling, padded": lambda rng, maps: pooled(rng, maps, 1),
    "blur": blurred,
    "conv, BN, 1 x 1, pool": stretch,
    "I + K": residual,
}
"""How a layer on given maps is drawn, by kind; ranks 1, 2 and 3 take turns."""


if __name__ == "__main__":
    raise SystemExit(main())
