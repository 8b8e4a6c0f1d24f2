"""The differentiable norm is a bound, close to the truth, and has the right gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lipcert
from lipcert.errors import UsageError
from lipcert.nn import conv_norm
from lipcert.operators import Convolution

SHAPES = [
    ((4, 3, 3), 1, 1),
    ((4, 3, 3, 3), 1, 1),
    ((6, 2, 3, 3), 1, 2),
    ((5, 1, 3, 3), 1, 5),
    ((4, 3, 5, 2), 1, 1),
    ((4, 3, 3, 3), 2, 1),
    ((3, 4, 4, 4), 2, 1),
    ((8, 8, 1, 1), 1, 1),
    ((2, 2, 2, 3, 2), 1, 1),
]


def dense_norm(weight: torch.Tensor, stride: int, groups: int) -> float:
    rank = weight.dim() - 2
    size = {1: 24, 2: 10, 3: 5}[rank]
    kernel = weight.shape[2:]
    conv = Convolution(
        weight.detach().double().numpy(),
        (weight.shape[1] * groups, *[size] * rank),
        strides=(stride,) * rank,
        pads=tuple((k // 2, k // 2) for k in kernel),
        dilations=(1,) * rank,
        groups=groups,
    )
    return float(np.linalg.norm(conv.matrix(), 2))


@pytest.mark.parametrize(("shape", "stride", "groups"), SHAPES)
def test_it_bounds_the_dense_norm_closely(shape: tuple[int, ...], stride: int, groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        weight = torch.randn(shape, generator=generator, dtype=torch.float64)
        truth = dense_norm(weight, stride, groups)
        bounds = [float(conv_norm(weight, stride=stride, groups=groups, iterations=k)) for k in (2, 4, 7)]
        assert bounds == sorted(bounds, reverse=True)
        assert truth <= bounds[-1] * (1 + 1e-12)
        assert bounds[-1] <= 1.35 * truth  # the small maps of the dense form are below the supremum


def test_the_kernel_of_the_certificate_agrees() -> None:
    from lipcert.certificate.arithmetic import Arithmetic
    from lipcert.methods.gram import symbol_norm

    weight = torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    conv = Convolution(weight.numpy(), (5, 8, 8), strides=(1, 1), pads=((1, 1), (1, 1)), dilations=(1, 1))
    proven = symbol_norm(conv, Arithmetic())
    assert proven * (1 - 2e-4) <= float(conv_norm(weight, iterations=12, grid=256)) <= proven * 1.001


@pytest.mark.parametrize(("shape", "stride", "groups"), SHAPES[:7])
def test_its_gradient_is_right(shape: tuple[int, ...], stride: int, groups: int) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: conv_norm(w, stride=stride, groups=groups, iterations=3, grid=16), weight)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("iterations", [1, 12])
def test_nothing_overflows(scale: float, iterations: int) -> None:
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(3))
    expected = float(conv_norm(weight, iterations=iterations))
    assert float(conv_norm(weight * scale, iterations=iterations)) == pytest.approx(expected * scale, rel=1e-4)


def test_zero_kernels_have_norm_zero() -> None:
    assert float(conv_norm(torch.zeros(2, 2, 3, 3))) < 1e-30


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="shape"):
        conv_norm(torch.zeros(2, 2))
    with pytest.raises(UsageError, match="groups"):
        conv_norm(torch.zeros(3, 2, 3), groups=2)
    with pytest.raises(UsageError, match="grid"):
        conv_norm(torch.zeros(3, 2, 9), grid=8)


def test_it_is_part_of_the_api() -> None:
    assert lipcert.conv_norm is conv_norm
