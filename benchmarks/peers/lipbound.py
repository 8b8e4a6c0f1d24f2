"""LipBound (Araujo, Negrevergne, Chevaleyre, Atif, AAAI 2021): the Frobenius norm of the symbol on a grid.

Scripts, not a package. It takes square kernels of odd size, no strides, and works in float32 without error bounds. Its
torch version is what its readme uses in training; there v1 lacks the factor for what lies between samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers import folder
from benchmarks.peers.answers import Answer, Way

if TYPE_CHECKING:
    import torch

NAME = "LipBound"

FILE = "lipbound/lipschitz_bound/lipschitz_bound.py"

SAMPLES = 50
"""Its default, along each axis."""

MAX_ENTRIES = 2**29
"""Of the symbol at all samples, which it holds at once, twice and more: 2 GiB each."""


def available(peers: Path | None) -> str | None:
    return folder.missing(peers, FILE)


def version(peers: Path) -> str:
    return folder.version(peers / FILE)


def conv_l2(peers: Path, weight: torch.Tensor, size: int) -> Iterator[Way]:
    """Its two versions, for maps of every size."""
    del size
    module = folder.load(peers / "lipbound", "lipschitz_bound")
    for way in ("v1", "v2"):
        yield f"{way}, {SAMPLES} samples", partial(_bound, module.LipschitzBound, weight, way)


def _bound(maker: type, weight: torch.Tensor, version: str) -> Answer:
    if weight.shape[0] * weight.shape[1] * SAMPLES**2 > MAX_ENTRIES:
        raise MemoryError("it would hold more than 4 GiB")
    padding = weight.shape[-1] // 2
    bound = maker(weight.shape, padding, sample=SAMPLES, backend="torch", version=version, cuda=False)
    return float(bound.compute(weight)), ""
