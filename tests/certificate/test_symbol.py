"""Nothing below the supremum of a convolution's symbol is proven, and what is a little above it is."""

from __future__ import annotations

import functools
import itertools
import json
import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

import lipcert
from lipcert.certificate import Claim, SpectralChain, symbol, verify
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.balls import BallArithmetic
from lipcert.certificate.claim import Symbol
from lipcert.certificate.lattice import Lattice, as_lattice
from lipcert.certificate.norms import norm_bound
from lipcert.certificate.symbol import proves_symbol
from lipcert.errors import CertificateError, NotProvedError
from lipcert.operators import (
    Convolution,
    Dense,
    Diagonal,
    Identity,
    Leaf,
    LinearOperator,
    Product,
    Sum,
    Transposed,
    enclosed,
)
from lipcert.problem import pose
from lipcert.report import parse_report
from tests.helpers.exact import member_matrix
from tests.helpers.lattices import lattice_matrix
from tests.helpers.reports import ENOUGH, RULES, Case, all_cases
from tests.helpers.symbols import circular_matrix, dressed, layer, per_channel, plain, sampled_supremum, scaled_kernel

in_both = pytest.mark.parametrize("arithmetic", [Arithmetic, BallArithmetic], ids=["float64", "balls"])

LAYERS = [*((1, seed) for seed in range(80)), *((2, seed) for seed in range(65)), *((3, seed) for seed in range(15))]
BELOW = (0.0, 0.1, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1 - 1e-4, 1 - 1e-6, 1 - 1e-9)
"""Fractions of the supremum."""

ABOVE = {1: 1e-4, 2: 1e-3, 3: 0.02}
"""How far above the supremum everything is proven, by rank."""


def proves(op: LinearOperator, sigma: float, by: Arithmetic | None = None) -> bool:
    """Whether the rule for norms takes sigma."""
    try:
        return norm_bound(op, 2.0, 2.0, Symbol(sigma), by or Arithmetic()) == sigma
    except NotProvedError:
        return False


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("rank", "seed"), LAYERS)
def test_proven_is_what_is_above_the_supremum(rank: int, seed: int) -> None:
    """Of all kinds of convolutions; what is not proven includes all below the norm with zero padding."""
    rng = np.random.default_rng([rank, seed])
    op = dressed(rng, layer(rng, rank))
    conv, weights = scaled_kernel(op)
    supremum = sampled_supremum(conv, weights)
    dense = float(np.linalg.norm(written_out(op), 2))
    assert dense <= supremum * (1 + 1e-9)
    for fraction in BELOW:
        assert not proves(op, supremum * fraction), fraction
    for fraction in BELOW[-3:]:
        assert not proves(op, dense * fraction), fraction
    assert proves(op, supremum * (1 + ABOVE[rank]))
    assert proves(op, supremum * 10)


def written_out(op: LinearOperator) -> np.ndarray:
    matrices = [f.matrix() for f in (op.factors if isinstance(op, Product) else (op,)) if isinstance(f, Leaf)]
    return functools.reduce(np.matmul, matrices)


@pytest.mark.parametrize("seed", range(12))
def test_large_padded_maps_come_close_to_what_is_proven(seed: int) -> None:
    """The supremum is the norm, not only a bound of it: 1 / size^2 below."""
    rng = np.random.default_rng([seed, 5])
    conv = layer(rng, 1)
    large = Convolution(
        conv.weights,
        (conv.in_shape[0], 150),
        strides=conv.strides,
        pads=((9, 7),),
        dilations=conv.dilations,
        groups=conv.groups,
    )
    norm = float(np.linalg.norm(large.matrix(), 2))
    assert not any(proves(large, norm * fraction) for fraction in BELOW)
    assert proves(large, norm * 1.03)


@pytest.mark.parametrize("seed", range(24))
def test_circular_convolutions_have_the_norm_that_is_proven(seed: int) -> None:
    """All frequencies of a circle are frequencies: never less is proven, and hardly more is needed on a large one."""
    rng = np.random.default_rng([seed, 6])
    rank = 1 + seed % 2
    conv = layer(rng, rank)
    norms = []
    for periods in itertools.product(*((n, n + 1) for n in ((100,) if rank == 1 else (6, 7)))):
        norms.append(float(np.linalg.norm(circular_matrix(conv, periods), 2)))
        assert not any(proves(conv, norms[-1] * fraction) for fraction in BELOW), periods
    assert max(norms) <= sampled_supremum(conv) * (1 + 1e-9)
    degrees = [(-(-((k - 1) * d + 1) // s)) for k, d, s in zip(conv.kernel, conv.dilations, conv.strides, strict=True)]
    if rank == 1:
        assert proves(conv, max(norms) / math.cos(math.pi * degrees[0] / 200) * (1 + 1e-4))


SHARP = [(2,), (3,), (6,), (1, 2), (2, 1), (1, 5), (4, 1), (2, 2), (3, 2), (2, 5), (1, 1, 3), (1, 2, 2), (2, 1, 3)]


@in_both
@pytest.mark.parametrize("kernel", SHARP, ids=str)
def test_kernels_for_which_the_bound_of_a_cell_is_sharp(kernel: tuple[int, ...], arithmetic: type[Arithmetic]) -> None:
    """Two taps at opposite corners: 2 cos(d.w), which falls from its supremum as fast as the theorem allows."""
    by = arithmetic()
    for signs, first in itertools.product((1.0, -1.0), (0, -1)):
        taps = np.zeros(kernel)
        corner = (0,) * (len(kernel) - 1) + (first,)
        taps[corner] = 1.0
        taps[tuple(-1 - c for c in corner)] = signs
        weights = taps[None, None]
        for fraction in BELOW[1 if arithmetic is Arithmetic else 8 :]:
            assert not proves(plain(weights), 2 * fraction, by), fraction
        assert proves(plain(weights), 2 * (1.01 if len(kernel) < 3 else 1.1), by)


@pytest.mark.parametrize("seed", range(20))
def test_a_wave_anywhere_in_the_plane_is_noticed(seed: int) -> None:
    """Complex rotations as 2 x 2 blocks put the supremum at one frequency, and its negative, only."""
    rng = np.random.default_rng([seed, 8])
    kernel = tuple(int(k) for k in rng.integers(1, 4, size=2))
    wave = rng.uniform(-np.pi, np.pi, size=2)
    weights = np.zeros((2, 2, *kernel))
    for i, j in itertools.product(range(kernel[0]), range(kernel[1])):
        turn = float(wave @ (i, j))
        weights[:, :, i, j] = [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]
    taps = math.prod(kernel)
    assert sampled_supremum(plain(weights)) == pytest.approx(taps, rel=1e-9)
    assert not any(proves(plain(weights), taps * fraction) for fraction in BELOW)
    assert proves(plain(weights), taps * 1.001)


@in_both
@pytest.mark.parametrize("seed", range(12))
def test_members_of_a_radius_are_bounded(seed: int, arithmetic: type[Arithmetic]) -> None:
    """Also those whose diagonals differ from place to place within it."""
    rng, by = np.random.default_rng([seed, 7]), arithmetic()
    size = (0.3, 1e-3, 1e-9)[seed % 3]
    op = dressed(rng, layer(rng, 1, radius=size, largest=8), radius=size)
    conv, weights = scaled_kernel(op)
    supremum = sampled_supremum(conv, weights)
    members = [float(np.linalg.norm(member_matrix(rng, op).astype(float), 2)) for _ in range(2)]
    for sigma in supremum * np.array([0.9, 1 - 1e-12, 1 + 1e-9, 1.001, 1 + size, 1 + 3 * size, 2]):
        if proves(op, float(sigma), by):
            assert max(*members, supremum) <= sigma * (1 + 1e-12)
    assert proves(op, supremum * 10, by)


@in_both
@pytest.mark.parametrize("side", ["kernel", "left", "right", "both"])
def test_the_worst_member_of_a_radius_is_bounded(side: str, arithmetic: type[Arithmetic]) -> None:
    """Positive weights: their supremum is at frequency zero, and that of the largest member too."""
    rng, by = np.random.default_rng(2), arithmetic()
    weights, r = rng.random((4, 1, 3)) + 0.2, 0.25
    scales = rng.random(4) + 0.5, rng.random(2) + 0.5
    conv = plain(weights, groups=2, radius=r * weights if side in ("kernel", "both") else 0.0)
    factors: list[LinearOperator] = [conv]
    if side in ("left", "both"):
        factors.insert(0, per_channel(scales[0], conv.out_shape, 1, r))
    if side in ("right", "both"):
        factors.append(per_channel(scales[1], conv.in_shape, 1, r))
    op = factors[0] if len(factors) == 1 else Product(factors)
    supremum = sampled_supremum(conv, scaled_kernel(op)[1])
    largest = supremum * (1 + r) ** (3 if side == "both" else 1)
    for sigma in np.linspace(supremum * 0.9, largest, 30, endpoint=False):
        assert not proves(op, float(sigma), by)
    assert proves(op, largest * 4, by)


@pytest.mark.parametrize(("rank", "seed"), [(1, s) for s in range(8)] + [(2, s) for s in range(4)])
def test_balls_agree(rank: int, seed: int) -> None:
    rng = np.random.default_rng([rank, seed, 9])
    op = dressed(rng, layer(rng, rank))
    supremum = sampled_supremum(*scaled_kernel(op))
    assert not any(proves(op, supremum * fraction, BallArithmetic()) for fraction in BELOW[:11])
    assert proves(op, supremum * 1.05, BallArithmetic())


def some_kernel(scale: float) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(2, 3, 3)) * scale


def lattice_of(weights: np.ndarray) -> Lattice:
    found = as_lattice(plain(weights))
    assert found is not None
    return found


@in_both
@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e-160, 1e-30, 1.0, 1e30, 1e150, 1e160, 1e300])
def test_tiny_and_huge_kernels(scale: float, arithmetic: type[Arithmetic]) -> None:
    by = arithmetic()
    supremum = sampled_supremum(plain(some_kernel(1.0))) * scale
    with np.errstate(over="ignore", invalid="ignore"):
        for fraction in BELOW:
            assert not proves_symbol(lattice_of(some_kernel(scale)), supremum * fraction, by)
        proven = proves_symbol(lattice_of(some_kernel(scale)), supremum * 1.001, by)
    assert proven or not 1e-150 <= scale <= 1e150


@in_both
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_proves_nothing(bad: float, arithmetic: type[Arithmetic]) -> None:
    by, weights = arithmetic(), some_kernel(1.0)
    damaged = weights.copy()
    damaged[1, 1, 1] = bad
    with np.errstate(all="ignore"):
        assert not proves(plain(damaged), 1e6, by)
        assert not proves(plain(weights), bad, by)
        assert not proves(plain(weights, radius=np.abs(damaged)), 1e6, by)
        conv = plain(weights)
        scale = per_channel(np.array([1.0, bad]), conv.out_shape)
        assert not proves(Product((scale, conv)), 1e6, by)
        loose = Diagonal(np.ones(conv.out_size), np.where(np.arange(conv.out_size) == 0, abs(bad), 0.0))
        assert not proves(Product((loose, conv)), 1e6, by)
        large = per_channel(np.full(2, 1e308), conv.out_shape)
        assert not proves(Product((large, plain(weights * 100))), 1e308, by)


@in_both
def test_no_negative_number_and_not_zero(arithmetic: type[Arithmetic]) -> None:
    for sigma in (-1.0, -1e-300, -0.0, 0.0, 5e-324):
        assert not proves(plain(some_kernel(1.0)), sigma, arithmetic())
    assert proves(plain(np.zeros((2, 2, 3))), 1.0, arithmetic())
    assert not proves(plain(np.zeros((2, 2, 3)), radius=np.full((2, 2, 3), 0.1)), 0.1, arithmetic())


@pytest.mark.parametrize("taps", [(1,), (1, 1), (1, 1, 1)])
def test_kernels_of_one_tap_are_proven_to_the_last_digits(taps: tuple[int, ...]) -> None:
    for seed in range(10):
        weights = np.random.default_rng(seed).normal(size=(3, 4, *taps))
        norm = float(np.linalg.norm(weights.reshape(3, 4), 2))
        assert not proves(plain(weights), norm * (1 - 1e-14))
        assert proves(plain(weights), norm * (1 + 1e-12))


def test_every_group_counts() -> None:
    for g in range(3):
        weights = np.ones((3, 1, 2))
        weights[g] = 5
        assert not proves(plain(weights, groups=3), 9.999)
        assert proves(plain(weights, groups=3), 10.001)


class Counting(Arithmetic):
    """Counts the cells that are looked at."""

    looked_at = 0

    def proves_complex(self, re: np.ndarray, *args: Any) -> np.ndarray:
        self.looked_at += len(re)
        return super().proves_complex(re, *args)


def test_the_search_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The symbol of a shift by one is as large everywhere: nothing close to it is proven, and that is said soon."""
    shift = np.zeros((1, 1, 2, 3))
    shift[0, 0, 0, 0] = 1.0
    for most in (1, 100, 1000):
        monkeypatch.setattr(symbol, "MAX_CELLS", most)
        by = Counting()
        assert not proves_symbol(lattice_of(shift), 1 + 1e-9, by)
        assert by.looked_at <= 2 * most
        assert proves_symbol(lattice_of(shift), 1.5, Arithmetic()) == (most > 1)
    monkeypatch.undo()
    assert proves_symbol(lattice_of(shift), 1.01, Arithmetic())


def test_dilation_changes_nothing_without_strides() -> None:
    weights = some_kernel(1.0)
    plain_supremum = sampled_supremum(plain(weights))
    for dilation in (2, 3, 1000):
        conv = Convolution(weights, (3, 5), strides=(1,), pads=((0, 2 * dilation),), dilations=(dilation,))
        assert proves(conv, plain_supremum * (1 + 1e-6))
        assert not proves(conv, plain_supremum * (1 - 1e-9))


@pytest.mark.parametrize("seed", range(40))
def test_a_convolution_between_diagonals_is_the_one_with_scaled_channels(seed: int) -> None:
    rng = np.random.default_rng([seed, 10])
    op = dressed(rng, layer(rng, 1 + seed % 3))
    found = as_lattice(op)
    assert found is not None
    forward = op.leaf if isinstance(op, Transposed) else op
    strided = isinstance(forward, Convolution) and max(forward.strides) > 1
    true = written_out(forward if strided else op)
    size = 1 + np.abs(true).max(initial=0.0)
    assert np.abs(lattice_matrix(found) - true).max() <= 1e-14 * size
    assert found.weights.full_radius().max(initial=0.0) <= 1e-14 * size
    assert found.deviation == 0.0


def test_what_is_no_convolution_is_refused() -> None:
    conv = plain(np.random.default_rng(0).normal(size=(3, 3, 3)))
    n = conv.in_size
    places = np.ones(n)
    places[1] = 2.0
    copies = Convolution(conv.weights, conv.in_shape, strides=(1,), pads=conv.pads, dilations=(1,), copies=2)
    others: list[LinearOperator] = [
        Dense(np.eye(3)),
        Identity(n),
        Diagonal(np.ones(n)),
        Product((conv, conv)),
        Product((Diagonal(np.ones(n)), Diagonal(np.ones(n)))),
        Product((Dense(np.eye(n)), conv)),
        Product((conv, Sum((conv, conv)))),
        Sum((conv, Diagonal(places))),
        Product((Sum((conv, conv)), Diagonal(places), Diagonal(np.ones(n)))),
        Product((Product((Diagonal(places), conv)), Identity(n))),
        Product((copies, Diagonal(np.concatenate([np.ones(n), 2 * np.ones(n)])), Diagonal(np.ones(2 * n)))),
        Product((Transposed(plain(conv.weights, strides=2)), plain(conv.weights, strides=2))),
    ]
    for op in others:
        assert as_lattice(op) is None
        assert not proves(op, 1e9)


def test_what_was_refused_when_only_single_convolutions_counted_is_proven_from_its_norm_on() -> None:
    """Sums, a kernel of one tap after another, diagonals that vary over pixels at the ends, transposed factors."""
    rng = np.random.default_rng(0)
    conv = plain(rng.normal(size=(3, 3, 3)))
    n, one = conv.in_size, plain(rng.normal(size=(3, 3, 1)))
    places = np.ones(n)
    places[1] = 2.0
    copies = Convolution(conv.weights, conv.in_shape, strides=(1,), pads=conv.pads, dilations=(1,), copies=2)
    by_copy = Diagonal(np.concatenate([np.ones(n), 2 * np.ones(n)]))
    doubled = per_channel(np.array([2.0, 1.0, 1.0]), conv.out_shape)
    supremum, doubled_out, doubled_in = (
        sampled_supremum(*scaled_kernel(op)) for op in (conv, Product((doubled, conv)), Product((conv, doubled)))
    )
    together = plain(np.einsum("oi,ijt->ojt", one.weights[:, :, 0], conv.weights))
    known: list[tuple[LinearOperator, float]] = [
        (Sum((conv, conv)), 2 * supremum),
        (Product((Identity(n), Sum((conv, conv)))), 2 * supremum),
        (Sum((conv, Identity(n))), sampled_supremum(plain(conv.weights + np.eye(3)[:, :, None] * [0.0, 1.0, 0.0]))),
        (Product((Diagonal(places), conv)), doubled_out),
        (Product((conv, Diagonal(places))), doubled_in),
        (Product((copies, by_copy)), 2 * supremum),
        (Product((Transposed(conv), Diagonal(np.ones(n)))), supremum),
        (Product((one, conv)), sampled_supremum(together)),
    ]
    for op, true in known:
        dense = float(np.linalg.norm(enclosed.dense(op).value, 2))
        assert dense <= true * (1 + 1e-9)
        assert not any(proves(op, dense * fraction) for fraction in BELOW)
        assert not any(proves(op, true * fraction) for fraction in BELOW)
        assert proves(op, true * (1 + ABOVE[1]))


@cache
def case() -> Case:
    return next(c for c in all_cases() if c.name == "symbol to l2")


def with_sigma(factor: float) -> SpectralChain:
    evidence = case().claim.evidence
    assert isinstance(evidence, SpectralChain)
    first, *others = evidence.steps
    proof = first.groups[0].proof
    assert isinstance(proof, Symbol)
    group = replace(first.groups[0], proof=Symbol(proof.sigma * factor))
    return SpectralChain(evidence.center, (replace(first, groups=(group,)), *others))


@in_both
def test_a_lowered_sigma_is_refused_by_verify(arithmetic: type[Arithmetic]) -> None:
    problem = pose(case().model.graph, case().query)
    assert verify(problem, Claim(ENOUGH, with_sigma(1.0)), arithmetic()) <= case().claim.value
    for factor in (1 - 1e-8, 0.999, 0.5, 0.0, -1.0, math.nan, math.inf):
        with pytest.raises((NotProvedError, CertificateError)):
            verify(problem, Claim(ENOUGH, with_sigma(factor)), arithmetic())


@pytest.mark.parametrize("strict", [False, True])
def test_a_lowered_sigma_in_a_report_is_refused_by_check(strict: bool) -> None:
    text = case().report.to_json()
    sigma = RULES["symbol"]()[1].steps[0].groups[0].proof.sigma  # type: ignore[union-attr]
    assert text.count(f'"{sigma.hex()}"') == 1
    assert lipcert.check(parse_report(text, "report.json"), case().model, strict=strict).upper
    for factor in (1 - 1e-8, 0.9, 0.0):
        data = json.loads(text.replace(sigma.hex(), (sigma * factor).hex()))
        data["certificate"]["value"] = (case().claim.value * max(factor, 0.1)).hex()
        for edited in (json.dumps(data), text.replace(sigma.hex(), (sigma * factor).hex())):
            with pytest.raises(CertificateError):
                lipcert.check(parse_report(edited, "report.json"), case().model, strict=strict)
