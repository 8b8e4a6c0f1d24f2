"""The l2 norm of a convolution bounded by Gram iteration, differentiable.

Delattre, Barthelemy, Araujo, Allauzen, "Efficient Bound of Lipschitz Constant for Convolutional Layers by Gram
Iteration" (ICML 2023), on a grid of frequencies; the factor that makes the grid a bound for zero padding of any size is
that of docs/convolutions.md.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lipcert.errors import UsageError

if TYPE_CHECKING:
    import torch


def conv_norm(
    weight: torch.Tensor, *, stride: int = 1, dilation: int = 1, groups: int = 1, iterations: int = 6, grid: int = 32
) -> torch.Tensor:
    """An upper bound, up to rounding, on the l2 norm of a convolution with zero padding.

    `weight` has the shape (out, in / groups, *kernel), 1 to 3 axes. The bound is within rank^(1 / 2^(iterations + 1))
    times the factor of the grid of the symbol's supremum. It holds for circular padding too if the stride divides the
    map's size and the output has size / stride entries along each axis, or fewer. Differentiable in `weight`: add it
    to a loss. For a proof, export the network and use lipcert.bound.

        >>> weight = torch.randn(16, 8, 3, 3, requires_grad=True)
        >>> conv_norm(weight).backward()
    """
    import torch

    rank = weight.dim() - 2
    if not 1 <= rank <= 3:
        raise UsageError(f"conv_norm: a weight of shape {tuple(weight.shape)}", hint="use (out, in / groups, *kernel)")
    if weight.shape[0] % groups or min(stride, dilation, groups, iterations) < 1:
        raise UsageError(
            f"conv_norm: stride {stride}, dilation {dilation}, groups {groups}, iterations {iterations} for "
            f"{weight.shape[0]} maps"
        )
    # x(o s + t d) looks at multiples of gcd(s, d) only. Where s and d have no common factor, the taps of one residue
    # t mod s are apart by d, which neither the supremum over frequencies nor the block's own shift (a phase) changes.
    kernel = _with_strides_as_channels(weight, stride // math.gcd(stride, dilation))
    taps = kernel.shape[2:]
    if any(grid < 2 * k for k in taps):
        raise UsageError(f"conv_norm: a grid of {grid} for a kernel of {max(taps)}", hint="use a grid twice as large")
    factor = math.prod(math.cos(math.pi * (k - 1) / (2 * grid)) for k in taps)
    scale = kernel.detach().abs().max().clamp_min(torch.finfo(weight.dtype).tiny)
    kernel = kernel / scale
    # Far below rounding, and its complex absolute value may have no finite derivative; the gradient goes through.
    kernel = kernel - kernel.detach().where(kernel.detach().abs() < _least(weight.dtype), torch.zeros_like(scale))
    # of a real kernel: half of the frequencies, the others are conjugates
    symbol = torch.fft.rfftn(kernel, s=[grid if k > 1 else 1 for k in taps], dim=list(range(2, 2 + rank)))
    per_group = weight.shape[0] // groups
    matrices = symbol.flatten(2).permute(2, 0, 1).reshape(-1, groups, per_group, kernel.shape[1])
    if per_group > kernel.shape[1]:
        matrices = matrices.mH
    return _gram_bound(matrices, iterations) * scale / factor


def _least(dtype: torch.dtype) -> float:
    """The least number whose square does not underflow."""
    import torch

    return math.sqrt(torch.finfo(dtype).tiny)


def _gram_bound(matrices: torch.Tensor, iterations: int) -> torch.Tensor:
    """max over the batch of |(A A')^(2^(k-1))|_F^(1 / 2^k) >= |A|_2, rescaled at every step."""
    import torch

    # The largest matrix is about 1. One far below (a dead group) may have a size that underflows: divided by less than
    # this, it would overflow in the next product.
    least = _least(matrices.real.dtype)
    logarithm = torch.zeros(matrices.shape[:-2], dtype=matrices.real.dtype, device=matrices.device)
    for _ in range(iterations):
        size = torch.linalg.matrix_norm(matrices).clamp_min(least)
        matrices = matrices / size[..., None, None]
        logarithm = 2 * (logarithm + size.log())
        matrices = matrices @ matrices.mH
    size = torch.linalg.matrix_norm(matrices).clamp_min(least)
    return ((logarithm + size.log()) / 2**iterations).exp().max()


def _with_strides_as_channels(weight: torch.Tensor, stride: int) -> torch.Tensor:
    """(out, in, *kernel) -> (out, in stride^rank, *ceil(kernel / stride)): the pixels of one residue are a map."""
    if stride == 1:
        return weight
    import torch

    rank = weight.dim() - 2
    pads = [p for k in reversed(weight.shape[2:]) for p in (0, -k % stride)]
    padded = torch.nn.functional.pad(weight, pads)
    split = [d for k in padded.shape[2:] for d in (k // stride, stride)]
    parts = padded.reshape(*weight.shape[:2], *split)
    order = [0, 1, *(3 + 2 * j for j in range(rank)), *(2 + 2 * j for j in range(rank))]
    return parts.permute(order).flatten(1, 1 + rank)
