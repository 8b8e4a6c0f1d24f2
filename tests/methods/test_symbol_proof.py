"""The number found for a convolution is proven, and within its gap of the symbol's largest value on circle or plane."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import Frequencies, Symbol
from lipcert.certificate.lattice import Lattice, as_lattice
from lipcert.certificate.norms import norm_bound
from lipcert.certificate.symbol import symbol_kernel
from lipcert.methods.product.proofs import prove_norm
from lipcert.methods.symbol import FULL_EFFORT, Effort, search, symbol_norm, symbol_proof
from lipcert.methods.symbol.proof import CIRCLE_GAP, GAPS
from lipcert.methods.symbol.search import circle_maximum, supremum
from lipcert.operators import Product, enclosed
from tests.helpers.lattices import circle_norm
from tests.helpers.symbols import dressed, layer, per_channel, plain, sampled_supremum, scaled_kernel

LAYERS = [*((1, seed) for seed in range(15)), *((2, seed) for seed in range(15))]
GAP = GAPS[0]


@pytest.mark.parametrize(("rank", "seed"), LAYERS)
def test_what_is_found_is_proven_and_within_the_gap_of_the_supremum(rank: int, seed: int) -> None:
    """Of the circle that the maps fit on, which is at most the supremum, or of the plane."""
    rng, by = np.random.default_rng([rank, seed, 20]), Arithmetic()
    op = dressed(rng, layer(rng, rank))
    lattice = as_lattice(op)
    assert lattice is not None
    found = symbol_proof(op, by)
    assert found is not None
    bound, proof = found
    dense, true = float(np.linalg.norm(enclosed.dense(op).value, 2)), sampled_supremum(*scaled_kernel(op))
    assert bound == symbol_norm(op, Arithmetic()) == proof.sigma
    assert norm_bound(op, 2.0, 2.0, proof, Arithmetic()) == bound
    assert dense <= bound <= true * (1 + GAP) * (1 + 1e-5)
    if isinstance(proof, Symbol):
        assert true <= bound
    else:
        assert circle_norm(lattice) <= bound <= largest_on_circle(lattice) * (1 + 2 * CIRCLE_GAP)


def largest_on_circle(lattice: Lattice) -> float:
    """At all frequencies: dilations without a stride meet only some of them."""
    steps = tuple(1 if s == 1 else d for s, d in zip(lattice.strides, lattice.dilations, strict=True))
    return circle_norm(replace(lattice, dilations=steps), lattice.periods)


def test_large_maps_are_proven_on_the_plane_and_small_ones_on_their_circle() -> None:
    weights = np.random.default_rng(4).normal(size=(4, 4, 3, 3))
    true = sampled_supremum(plain(weights))
    for size, kind in ((4, Frequencies), (400, Symbol)):
        op = plain(weights, size=size)
        found = symbol_proof(op, Arithmetic())
        assert found is not None
        assert isinstance(found[1], kind)
        assert norm_bound(op, 2.0, 2.0, found[1], Arithmetic()) == found[0]
        assert found[0] <= true * (1 + 2 * GAP)
        assert kind is Frequencies or found[0] >= true


@pytest.mark.parametrize("seed", range(12))
def test_the_ascent_attains_the_supremum(seed: int) -> None:
    """It is a value of the symbol: never above."""
    rng = np.random.default_rng([seed, 21])
    conv = layer(rng, 1 + seed % 3)
    lattice = as_lattice(conv)
    assert lattice is not None
    assert supremum(symbol_kernel(lattice)) == pytest.approx(sampled_supremum(conv), rel=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_the_circle_is_searched_in_full(seed: int) -> None:
    rng = np.random.default_rng([seed, 22])
    lattice = as_lattice(layer(rng, 1 + seed % 3))
    assert lattice is not None
    found = circle_maximum(symbol_kernel(lattice))
    assert circle_norm(lattice) * (1 - 1e-9) <= found <= largest_on_circle(lattice) * (1 + 1e-9)


@pytest.mark.parametrize("scale", [1e-140, 1e-30, 1.0, 1e30, 1e140])
def test_the_gap_is_the_same_at_every_scale(scale: float) -> None:
    weights = np.random.default_rng(0).normal(size=(3, 2, 3))
    lattice = as_lattice(plain(weights))
    assert lattice is not None
    circle, true = circle_norm(lattice) * scale, sampled_supremum(plain(weights)) * scale
    assert circle < symbol_norm(plain(weights * scale), Arithmetic()) < circle * (1 + 2 * CIRCLE_GAP)
    large = symbol_norm(plain(weights * scale, size=10**6), Arithmetic())
    assert true < large < true * (1 + 2 * GAP)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e300])
def test_nothing_is_found_where_nothing_can_be_proven(bad: float) -> None:
    weights = np.ones((2, 2, 3))
    weights[0, 1, 2] = bad
    with np.errstate(all="ignore"):
        assert symbol_norm(plain(weights), Arithmetic()) == math.inf


def test_a_normalised_convolution_is_bounded_as_one_operator() -> None:
    """Its scales hidden in the kernel: closer than the product of norms, which is 10 times as much here."""
    weights = np.random.default_rng(1).normal(size=(4, 4, 3, 3))
    scale = np.array([10.0, 1.0, 1.0, 1.0])
    weights[0] /= 10
    op = Product((per_channel(scale, (4, 60, 60)), plain(weights, size=60)))
    true, lattice = sampled_supremum(*scaled_kernel(op)), as_lattice(op)
    assert lattice is not None
    bound, proof = prove_norm(op, 2.0, 2.0, Effort(FULL_EFFORT), Arithmetic())
    assert isinstance(proof, Symbol | Frequencies)
    assert circle_norm(lattice) <= bound <= true * (1 + 2 * GAP)
    assert bound >= true * (1 - 1e-2)
    assert norm_bound(op, 2.0, 2.0, proof, Arithmetic()) == proof.sigma


def test_the_search_on_a_device_sees_what_the_cpu_sees() -> None:
    """Through torch, here on its CPU: single precision, and never above by more than that."""
    torch = pytest.importorskip("torch")
    weights = np.random.default_rng(4).normal(size=(60, 56, 3, 3))
    lattice = as_lattice(plain(weights, size=7))
    assert lattice is not None
    kernel = symbol_kernel(lattice)
    taps, positions = kernel.taps, search._positions(kernel.extents)
    grid = search._half_grid(kernel.periods)
    found = search._on_device(taps, positions, grid, lambda: None, torch.device("cpu"))
    symbols = (np.exp(-1j * grid @ positions.T) @ taps[0].reshape(len(positions), -1)).reshape(-1, *taps.shape[2:])
    assert found[0] == pytest.approx(np.linalg.norm(symbols, 2, axis=(1, 2)), rel=1e-5)
