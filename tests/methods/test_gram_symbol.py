"""The number found for a convolution is proven, and within its gap of the supremum of the symbol."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import Symbol
from lipcert.certificate.norms import norm_bound
from lipcert.certificate.symbol import as_convolution, symbol_kernel
from lipcert.methods.gram import symbol_norm
from lipcert.methods.gram.symbol import GAPS, supremum
from lipcert.methods.product.proofs import prove_norm
from lipcert.operators import Product
from tests.helpers.symbols import dressed, layer, per_channel, plain, sampled_supremum, scaled_kernel

LAYERS = [*((1, seed) for seed in range(15)), *((2, seed) for seed in range(15))]
GAP = GAPS[0][1]


@pytest.mark.parametrize(("rank", "seed"), LAYERS)
def test_what_is_found_is_proven_and_within_the_gap_of_the_supremum(rank: int, seed: int) -> None:
    rng, by = np.random.default_rng([rank, seed, 20]), Arithmetic()
    op = dressed(rng, layer(rng, rank))
    conv = as_convolution(op)
    assert conv is not None
    found, true = symbol_norm(conv, by), sampled_supremum(*scaled_kernel(op))
    assert true <= found <= true * (1 + GAP) * (1 + 1e-5)
    assert norm_bound(op, 2.0, 2.0, Symbol(found), by) == found


@pytest.mark.parametrize("seed", range(12))
def test_the_ascent_attains_the_supremum(seed: int) -> None:
    """It is a value of the symbol: never above."""
    rng = np.random.default_rng([seed, 21])
    conv = layer(rng, 1 + seed % 3)
    kernel = symbol_kernel(conv)
    found = max(supremum(kernel, g) for g in range(conv.groups))
    assert found == pytest.approx(sampled_supremum(conv), rel=1e-5)


@pytest.mark.parametrize("scale", [1e-140, 1e-30, 1.0, 1e30, 1e140])
def test_the_gap_is_the_same_at_every_scale(scale: float) -> None:
    weights = np.random.default_rng(0).normal(size=(3, 2, 3))
    true = sampled_supremum(plain(weights)) * scale
    assert true < symbol_norm(plain(weights * scale), Arithmetic()) < true * (1 + 2 * GAP)


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
    true = sampled_supremum(*scaled_kernel(op))
    bound, proof = prove_norm(op, 2.0, 2.0, True, Arithmetic())
    assert isinstance(proof, Symbol)
    assert true <= bound <= true * (1 + 2 * GAP)
    assert norm_bound(op, 2.0, 2.0, proof, Arithmetic()) == proof.sigma
