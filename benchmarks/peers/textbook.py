"""What papers and users do with a convolution's l2 norm, in a few lines of our own. Nothing here is a bound.

Sedghi, Gupta, Long (ICLR 2019): with circular padding the singular values are those of the symbol at the frequencies of
the map, which is exact there; with zero padding the norm may be above or below. Power iteration (Yoshida and Miyato
2017; Gouk, Frank, Pfahringer, Cree 2021) rises to the norm of the layer from below.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.peers.answers import Answer, Way

if TYPE_CHECKING:
    import torch

ITERATIONS = (10, 100)
CHUNK = 2**24
"""Entries of the symbol that are decomposed at a time."""


def circular(weights: np.ndarray, stride: int, size: int) -> Iterator[Way]:
    """The exact norm with circular padding."""
    yield f"circular svd at {size} x {size}", partial(_sedghi, weights, stride, size)


def power(weight: torch.Tensor, stride: int, pad: int, size: int) -> Iterator[Way]:
    """The power iteration of weight normalisation, for the layer as it is (zero padding)."""
    for iterations in ITERATIONS:
        yield f"power iteration, {iterations}", partial(_power, weight, stride, pad, size, iterations)


def _sedghi(weights: np.ndarray, stride: int, size: int) -> Answer:
    symbol = np.fft.fft2(weights, s=(size, size)).transpose(2, 3, 0, 1)
    kept = size // stride  # frequencies that a stride maps to one stand side by side
    symbol = symbol.reshape(stride, kept, stride, kept, *weights.shape[:2]).transpose(1, 3, 4, 0, 2, 5) / stride
    matrices = symbol.reshape(kept * kept, weights.shape[0], -1)
    parts = np.array_split(matrices, max(1, matrices.size // CHUNK))
    return float(max(np.linalg.svd(part, compute_uv=False).max() for part in parts)), ""


def _power(weight: torch.Tensor, stride: int, pad: int, size: int, iterations: int) -> Answer:
    import torch
    from torch.nn.functional import conv2d, conv_transpose2d

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, weight.shape[1], size, size, generator=generator, dtype=weight.dtype)
    rest = (size + 2 * pad - weight.shape[-1]) % stride
    for _ in range(iterations):
        y = conv2d(x / x.norm(), weight, stride=stride, padding=pad)
        x = conv_transpose2d(y, weight, stride=stride, padding=pad, output_padding=rest)
    return float(conv2d(x / x.norm(), weight, stride=stride, padding=pad).norm()), ""
