"""The differentiable norm is a bound, close to the truth, and has the right gradient."""

from __future__ import annotations

import math
import random

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
    from lipcert.methods.symbol import symbol_norm

    weight = torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    conv = Convolution(weight.numpy(), (5, 300, 300), strides=(1, 1), pads=((1, 1), (1, 1)), dilations=(1, 1))
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
    weight = torch.zeros(2, 2, 3, 3, requires_grad=True)
    value = conv_norm(weight)
    value.backward()
    assert value.item() < 1e-30
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


def operator(
    weight: torch.Tensor,
    size: list[int],
    pads: list[tuple[int, int]],
    groups: int,
    *,
    circular: bool,
    stride: int,
    dilation: int,
) -> torch.Tensor:
    """The matrix of torch's own convolution, of maps padded by `pads` along each axis."""
    channels = weight.shape[1] * groups
    entries = channels * math.prod(size)
    maps = torch.eye(entries, dtype=weight.dtype).reshape(entries, channels, *size)
    for axis, (before, after) in enumerate(pads, start=2):
        if circular:
            maps = maps.index_select(axis, torch.arange(-before, maps.shape[axis] + after) % maps.shape[axis])
        else:
            rest = [0, 0] * (maps.dim() - 1 - axis)
            maps = torch.nn.functional.pad(maps, [*rest, before, after])
    convolve = [torch.nn.functional.conv1d, torch.nn.functional.conv2d, torch.nn.functional.conv3d][len(size) - 1]
    return convolve(maps, weight, stride=stride, dilation=dilation, groups=groups).flatten(1)


def random_kernel(rng: random.Random, generator: torch.Generator, rank: int, groups: int) -> torch.Tensor:
    taps = [rng.randint(1, {1: 7, 2: 5, 3: 3}[rank]) for _ in range(rank)]
    shape = (groups * rng.randint(1, 3), rng.randint(1, 3 if rank < 3 else 2), *taps)
    weight = torch.randn(shape, generator=generator, dtype=torch.float64)
    match rng.choice(["normal", "sparse", "ones"]):
        case "sparse":
            return weight * (torch.rand(shape, generator=generator) < 0.3)
        case "ones":
            return torch.ones_like(weight)
    return weight


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_no_padding_of_random_layers_exceeds_it(rank: int, seed: int) -> None:
    """Zero padding of any amount, circular padding that keeps the size; scales, both precisions, few and many steps."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    for _ in range(12):
        groups, stride, dtype = rng.randint(1, 3), rng.randint(1, 3), rng.choice([torch.float32, torch.float64])
        dilation = rng.choice([d for d in (1, 2, 3) if math.gcd(d, stride) == 1])
        weight = random_kernel(rng, generator, rank, groups).to(dtype)
        dense = weight.double()
        size = [{1: 12, 2: 6, 3: 3 if stride == 3 else 2}[rank]] * rank
        reach = [dilation * (k - 1) for k in weight.shape[2:]]
        around = [(r + rng.randint(0, 1), r + rng.randint(0, 1)) for r in reach]
        padded = operator(dense, size, around, groups, circular=False, stride=stride, dilation=dilation)
        wrapped = operator(
            dense, size, [(r // 2, r - r // 2) for r in reach], groups, circular=True, stride=stride, dilation=dilation
        )
        truth = max(float(torch.linalg.matrix_norm(matrix, 2)) for matrix in (padded, wrapped))
        scale = rng.choice([1e-30, 1.0, 1e30])
        scaled = (weight * scale).requires_grad_()
        for iterations in (1, 6, 12):
            value = conv_norm(scaled, stride=stride, groups=groups, iterations=iterations, grid=16)
            (gradient,) = torch.autograd.grad(value, scaled)
            assert gradient.isfinite().all()
            bound = value.item()
            assert math.isfinite(bound)
            assert truth * scale <= bound * (1 + (1e-5 if dtype == torch.float32 else 1e-11)) + 1e-37
            # homogeneous of degree 1: the gradient times the weight is the value
            assert float((gradient.double() * scaled.detach().double()).sum()) == pytest.approx(
                bound, rel=1e-3, abs=1e-37
            )


@pytest.mark.parametrize("axis_entries", [1, 2])
@pytest.mark.parametrize("exponent", [-15, -20, -22, -24, -26, -30, -38, -40])
def test_a_dead_group_does_no_harm(exponent: int, axis_entries: int) -> None:
    """Weight decay leaves such groups: their squares, or the weights themselves, underflow beside the others."""
    weight = torch.ones(2 * axis_entries, axis_entries, 3)
    weight[axis_entries:] *= 10.0**exponent
    weight.requires_grad_()
    value = conv_norm(weight, groups=2)
    value.backward()
    assert 3 * axis_entries <= value.item() * (1 + 1e-6)
    assert value.item() <= 3.1 * axis_entries
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


@pytest.mark.parametrize(
    ("stride", "dilation"), [(1, 3), (2, 1), (2, 2), (2, 3), (2, 4), (3, 2), (4, 2), (4, 6), (6, 4)]
)
def test_stride_and_dilation_together(stride: int, dilation: int) -> None:
    generator = torch.Generator().manual_seed(4)
    for weight in (torch.ones(1, 1, 5, dtype=torch.float64), torch.randn(2, 2, 5, generator=generator).double()):
        reach = 4 * dilation
        matrix = operator(weight, [120], [(reach, reach)], 1, circular=False, stride=stride, dilation=dilation)
        truth = float(torch.linalg.matrix_norm(matrix, 2))
        bound = float(conv_norm(weight, stride=stride, dilation=dilation, iterations=12, grid=128))
        assert truth <= bound * (1 + 1e-12)
        assert bound <= 1.1 * truth


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="shape"):
        conv_norm(torch.zeros(2, 2))
    with pytest.raises(UsageError, match="groups"):
        conv_norm(torch.zeros(3, 2, 3), groups=2)
    with pytest.raises(UsageError, match="grid"):
        conv_norm(torch.zeros(3, 2, 9), grid=8)


def test_it_is_part_of_the_api() -> None:
    assert lipcert.conv_norm is conv_norm
