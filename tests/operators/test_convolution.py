"""Convolutions against torch, over every combination of what ONNX Conv has."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional

from lipcert.operators import Convolution
from tests.helpers.operators import matrix_by_definition, random_convolution

CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
GRID = list(itertools.product((1, 2, 3), (1, 2), (0, 1), (1, 2), (1, 2), (1, 3)))


def torch_convolution(op: Convolution, x: np.ndarray) -> np.ndarray:
    maps = torch.from_numpy(x).reshape(-1, *op.in_shape)
    padded = functional.pad(maps, [p for pair in reversed(op.pads) for p in pair])
    conv = CONV[len(op.kernel)]
    out = conv(padded, torch.from_numpy(op.weights), None, op.strides, 0, op.dilations, op.groups)
    assert tuple(out.shape[1:]) == op.out_shape
    return out.reshape(*x.shape[:-1], -1).numpy()


def agrees(op: Convolution, rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3, op.in_size))
    np.testing.assert_allclose(op.matvec(x), torch_convolution(op, x), rtol=1e-11, atol=1e-12)
    point = torch.from_numpy(rng.normal(size=op.in_size)).requires_grad_()
    y = rng.normal(size=op.out_size)
    maps = functional.pad(point.reshape(-1, *op.in_shape), [p for pair in reversed(op.pads) for p in pair])
    out = CONV[len(op.kernel)](maps, torch.from_numpy(op.weights), None, op.strides, 0, op.dilations, op.groups)
    (gradient,) = torch.autograd.grad(out.reshape(-1), point, torch.from_numpy(y))
    np.testing.assert_allclose(op.rmatvec(y), gradient.numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("rank", "stride", "pad", "dilation", "groups", "copies"), GRID)
def test_convolutions_agree_with_torch(
    rank: int, stride: int, pad: int, dilation: int, groups: int, copies: int
) -> None:
    rng = np.random.default_rng(rank)
    space, kernel = (7, 6, 5)[:rank], (3, 2, 2)[:rank]
    op = Convolution(
        rng.normal(size=(4, 2 // groups, *kernel)),
        (2, *space),
        strides=(stride,) * rank,
        pads=((pad, 2 * pad), (0, pad), (2 * pad, 0))[:rank],
        dilations=(dilation,) * rank,
        groups=groups,
        copies=copies,
    )
    agrees(op, rng)


@pytest.mark.parametrize("seed", range(40))
def test_random_convolutions_agree_with_torch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    agrees(random_convolution(rng, int(rng.choice([12, 24, 36, 60]))), rng)


@pytest.mark.parametrize("seed", range(20))
def test_the_taps_partition_the_products_of_a_convolution(seed: int) -> None:
    """Each tap's window lists, for each output position, the padded pixel that the tap multiplies."""
    rng = np.random.default_rng(seed)
    op = random_convolution(rng, 12)
    padded = tuple(d + p[0] + p[1] for d, p in zip(op.in_shape[1:], op.pads, strict=True))
    taps = list(op.taps())
    assert [tap for tap, _ in taps] == list(itertools.product(*map(range, op.kernel)))
    for tap, window in taps:
        for axis, (t, view) in enumerate(zip(tap, window, strict=True)):
            positions = np.arange(padded[axis])[view]
            expected = t * op.dilations[axis] + op.strides[axis] * np.arange(op.out_shape[1:][axis])
            assert positions.tolist() == expected.tolist()


def test_a_depthwise_convolution_keeps_channels_apart() -> None:
    weights = np.ones((3, 1, 3))
    op = Convolution(weights, (3, 5), strides=(1,), pads=((1, 1),), dilations=(1,), groups=3)
    matrix = matrix_by_definition(op).astype(float)
    for a, b in itertools.product(range(3), range(3)):
        assert matrix[5 * a : 5 * a + 5, 5 * b : 5 * b + 5].any() == (a == b)
    np.testing.assert_array_equal(op.matvec(np.eye(15)).T, matrix)
