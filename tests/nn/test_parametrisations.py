"""Implicit layers are well-posed by construction, whatever the parameters; the differentiable bound bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lipcert.errors import UsageError
from lipcert.nn import LBEN, FixedPoint, MonDEQ, Nemon, implicit_bound

SEEDS = st.integers(0, 2**32)
SIZES = st.integers(1, 12)
SCALES = st.sampled_from([0.0, 1e-3, 1.0, 30.0])


def randomised(module: torch.nn.Module, seed: int, scale: float) -> torch.nn.Module:
    """The module in float64 with parameters of some size."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    for name, parameter in module.named_parameters():
        size = min(scale, 2.0) if name.startswith("log_") else scale
        parameter.data = size * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return module


def abscissa(a: np.ndarray) -> float:
    """Of the Metzler majorant."""
    majorant = np.abs(a) + np.diag(np.diag(a) - np.abs(np.diag(a)))
    return float(np.linalg.eigvals(majorant).real.max())


@settings(max_examples=60, deadline=None)
@given(SEEDS, SIZES, SCALES, st.sampled_from([-2.0, 0.0, 0.5, 0.99]))
def test_nemon_has_the_prescribed_matrix_measure(seed: int, size: int, scale: float, mu: float) -> None:
    core = randomised(Nemon(size, mu=mu), seed, scale)
    a, weights = core.weight.detach().numpy(), core.log_weights.detach().exp().numpy()
    off = np.abs(a - np.diag(np.diag(a)))
    slack = 1e-12 * (1 + np.abs(a).max())
    assert np.all(np.diag(a) + off @ weights / weights <= mu + slack)


@settings(max_examples=30, deadline=None)
@given(SEEDS, SIZES, SCALES)
def test_every_matrix_of_that_measure_is_a_nemon(seed: int, size: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    a = scale * rng.standard_normal((size, size))
    mu = float(np.max(np.diag(a) + np.abs(a).sum(1) - np.abs(np.diag(a))))
    off = a - np.diag(np.diag(a))
    # T has the entries of A off the diagonal, and t - |t| = a_ii - mu + sum of the others on it
    rest = np.diag(a) - mu + np.abs(off).sum(1)
    core = Nemon(size, mu=0.0, weighted=False).double()
    core.mu = mu
    core.matrix.data = torch.from_numpy(off + np.diag(rest / 2))
    np.testing.assert_allclose(core.weight.detach().numpy(), a, atol=1e-9 * (1 + scale))


@settings(max_examples=60, deadline=None)
@given(SEEDS, SIZES, SCALES, st.sampled_from([1e-3, 1.0, 5.0]))
def test_mondeq_is_strongly_monotone(seed: int, size: int, scale: float, margin: float) -> None:
    a = randomised(MonDEQ(size, margin=margin), seed, scale).weight.detach().numpy()
    least = np.linalg.eigvalsh(np.eye(size) - (a + a.T) / 2)[0]
    assert least >= margin - 1e-12 * (1 + np.abs(a).max()) * size


@settings(max_examples=60, deadline=None)
@given(SEEDS, SIZES, SCALES, st.sampled_from([0.1, 1.0, 20.0]))
def test_lben_meets_the_inequality_of_its_gamma(seed: int, size: int, scale: float, gamma: float) -> None:
    core = randomised(LBEN(3, size, 2, gamma=gamma), seed, scale)
    a, b, g = (w.detach().numpy() for w in (core.weight, core.input_weight, core.output_weight))
    multipliers = gamma * np.diag(np.exp(-core.log_scales.detach().numpy()))
    corner = -multipliers @ b
    lower = 2 * multipliers - multipliers @ a - a.T @ multipliers - g.T @ g
    matrix = np.block([[gamma**2 * np.eye(3), corner.T], [corner, lower]])
    assert np.linalg.eigvalsh(matrix)[0] >= -1e-11 * (1 + np.abs(matrix).max()) * len(matrix)


def test_no_sampled_ratio_exceeds_the_gamma_of_lben() -> None:
    core = randomised(LBEN(6, 12, 4, gamma=0.7), 0, 0.7)
    layer = FixedPoint(core, torch.nn.ReLU(), tolerance=1e-12, iterations=20_000)
    x = torch.randn(200, 6, dtype=torch.float64)
    y = x + 1e-3 * torch.randn(200, 6, dtype=torch.float64)
    with torch.no_grad():
        out = [layer(part @ core.input_weight.T) @ core.output_weight.T for part in (x, y)]
    assert float(((out[0] - out[1]).norm(dim=1) / (x - y).norm(dim=1)).max()) <= 0.7 * (1 + 1e-6)


@settings(max_examples=25, deadline=None)
@given(SEEDS, SIZES)
def test_no_sampled_ratio_exceeds_the_bound(seed: int, size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    core = randomised(Nemon(size, mu=0.9), seed, 1.0)
    b, c, d = (torch.randn(s, generator=generator, dtype=torch.float64) for s in ((size, 3), (2, size), (2, 3)))
    bound = float(implicit_bound(core.weight.detach(), b, c, d))
    layer = FixedPoint(core, torch.nn.Tanh(), tolerance=1e-12, iterations=100_000, solver="anderson")
    x = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    y = x + 1e-2 * torch.randn(50, 3, generator=generator, dtype=torch.float64).sign()
    with torch.no_grad():
        out = [layer(part @ b.T) @ c.T + part @ d.T for part in (x, y)]
    ratios = (out[0] - out[1]).abs().amax(1) / (x - y).abs().amax(1)
    assert float(ratios.max()) <= bound * (1 + 1e-6)


@settings(max_examples=40, deadline=None)
@given(SEEDS, SIZES, st.sampled_from([0.0, 0.5, 0.99]))
def test_the_bound_is_never_above_the_product_of_nemon(seed: int, size: int, mu: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    core = randomised(Nemon(size, mu=mu), seed, 1.0)
    b, c = (torch.randn(s, generator=generator, dtype=torch.float64) for s in ((size, 3), (2, size)))
    weights = core.log_weights.exp()
    product = (c.abs() @ weights).max() * (b.abs().sum(1) / weights).max() / (1 - mu)
    assert float(implicit_bound(core.weight.detach(), b, c)) <= float(product.detach()) * (1 + 1e-9)


def test_the_gradient_of_the_bound_is_right() -> None:
    core = randomised(Nemon(4, mu=0.5), 0, 1.0)
    parts = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((4, 3), (2, 4), (2, 3))]
    assert torch.autograd.gradcheck(implicit_bound, (core.weight.detach().requires_grad_(), *parts))


@pytest.mark.parametrize("a", [torch.eye(2), 2 * torch.eye(2), torch.tensor([[0.0, 1.0], [1.0, 0.0]])])
def test_a_matrix_without_contraction_has_no_bound(a: torch.Tensor) -> None:
    assert abscissa(a.numpy()) >= 1
    with pytest.raises(UsageError, match="contraction condition"):
        implicit_bound(a, torch.ones(2, 1), torch.ones(1, 2))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="shapes"):
        implicit_bound(torch.zeros(2, 2), torch.ones(3, 1), torch.ones(1, 2))


@pytest.mark.parametrize(
    "build", [lambda: Nemon(3, mu=1.0), lambda: MonDEQ(3, margin=0.0), lambda: LBEN(1, 3, 1, gamma=0)]
)
def test_parameters_that_prove_nothing_are_refused(build: object) -> None:
    with pytest.raises(UsageError):
        build()  # type: ignore[operator]
