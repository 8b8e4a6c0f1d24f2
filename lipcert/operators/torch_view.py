"""Operators on a torch device: batched, differentiable, for searches only. Never imported by the trusted kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from lipcert.operators.base import LinearOperator
from lipcert.operators.composite import Product, Row, Sum
from lipcert.operators.convolution import Convolution
from lipcert.operators.dense import Dense
from lipcert.operators.diagonal import Diagonal
from lipcert.operators.reduction import Reduction
from lipcert.operators.selection import Identity, Selection
from lipcert.operators.transposed import Transposed

if TYPE_CHECKING:
    import torch

    Map = Callable[[torch.Tensor], torch.Tensor]


def realise(op: LinearOperator, device: torch.device, dtype: torch.dtype) -> Map:
    """A function on tensors of shape (batch, in_size) that applies the operator."""
    import torch

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.tensor(array, dtype=dtype, device=device)

    if isinstance(op, Identity):
        return lambda x: x
    if isinstance(op, Dense):
        return _dense(op, tensor(op.weights))
    if isinstance(op, Diagonal):
        diagonal = tensor(op.weights)
        return lambda x: x * diagonal
    if isinstance(op, Selection):
        return _selection(op, device)
    if isinstance(op, Reduction) and not op.axes:
        return lambda x: x
    if isinstance(op, Reduction):
        return lambda x: x.reshape(-1, *op.in_shape).sum([a + 1 for a in op.axes]).reshape(len(x), -1)
    if isinstance(op, Convolution):
        return _convolution(op, tensor(op.weights))
    if isinstance(op, Transposed):
        if isinstance(op.leaf, Convolution):
            return _transposed_convolution(op.leaf, tensor(op.leaf.weights))
        if isinstance(op.leaf, Dense):
            return _transposed_dense(op.leaf, tensor(op.leaf.weights))
        return _transposed_leaf(op, device, dtype)
    if isinstance(op, Product):
        factors = [realise(f, device, dtype) for f in reversed(op.factors)]
        return lambda x: _chain(factors, x)
    if isinstance(op, Sum):
        terms = [realise(t, device, dtype) for t in op.terms]
        return lambda x: torch.stack([t(x) for t in terms]).sum(0)
    assert isinstance(op, Row)
    blocks = [realise(b, device, dtype) for b in op.blocks]
    sizes = [b.in_size for b in op.blocks]
    return lambda x: torch.stack([b(p) for b, p in zip(blocks, x.split(sizes, dim=1), strict=True)]).sum(0)


def _dense(op: Dense, weights: torch.Tensor) -> Map:
    return lambda x: (x.reshape(len(x), op.copies, -1) @ weights.T).reshape(len(x), -1)


def _transposed_dense(op: Dense, weights: torch.Tensor) -> Map:
    return lambda y: (y.reshape(len(y), op.copies, -1) @ weights).reshape(len(y), -1)


def _transposed_leaf(op: Transposed, device: torch.device, dtype: torch.dtype) -> Map:
    """Of a leaf without sums of weights."""
    import torch

    leaf = op.leaf
    if isinstance(leaf, Selection):
        kept = torch.as_tensor(np.flatnonzero(leaf.index >= 0), device=device)
        index = torch.as_tensor(leaf.index[leaf.index >= 0], device=device)
        return lambda y: y.new_zeros(len(y), leaf.in_size).index_add(1, index, y[:, kept])
    if isinstance(leaf, Reduction):
        return lambda y: y.reshape(-1, *leaf.kept_shape).expand(-1, *leaf.in_shape).reshape(len(y), -1)
    return realise(leaf, device, dtype)  # it is its own transpose


def _selection(op: Selection, device: torch.device) -> Map:
    import torch

    index = torch.as_tensor(np.maximum(op.index, 0), device=device)
    kept = torch.as_tensor(op.index >= 0, device=device)
    return lambda x: torch.where(kept, x[:, index], torch.zeros((), dtype=x.dtype, device=x.device))


def _convolution(op: Convolution, weights: torch.Tensor) -> Map:
    from torch.nn import functional

    rank = len(op.kernel)
    if rank > 3:
        raise ValueError(f"torch has no convolution over {rank} axes")
    conv = (functional.conv1d, functional.conv2d, functional.conv3d)[rank - 1]
    pads = [p for pair in reversed(op.pads) for p in pair]

    def apply(x: torch.Tensor) -> torch.Tensor:
        maps = functional.pad(x.reshape(-1, *op.in_shape), pads)
        return conv(maps, weights, None, op.strides, 0, op.dilations, op.groups).reshape(len(x), -1)

    return apply


def _transposed_convolution(op: Convolution, weights: torch.Tensor) -> Map:
    from torch.nn import functional

    rank = len(op.kernel)
    if rank > 3:
        raise ValueError(f"torch has no convolution over {rank} axes")
    conv = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)[rank - 1]
    # at the end of each axis, pixels that no window reaches; then the padding is cut off
    reached = [
        (o - 1) * s + d * (k - 1) + 1
        for o, s, d, k in zip(op.out_shape[1:], op.strides, op.dilations, op.kernel, strict=True)
    ]
    change = [
        side
        for size, pads, covered in reversed(list(zip(op.in_shape[1:], op.pads, reached, strict=True)))
        for side in (-pads[0], size + pads[0] - covered)
    ]

    def apply(y: torch.Tensor) -> torch.Tensor:
        maps = conv(y.reshape(-1, *op.out_shape), weights, None, op.strides, 0, 0, op.groups, op.dilations)
        wider = functional.pad(maps, [max(side, 0) for side in change])  # a side may be cut by more than there is
        return functional.pad(wider, [min(side, 0) for side in change]).reshape(len(y), -1)

    return apply


def _chain(factors: list[Map], x: torch.Tensor) -> torch.Tensor:
    for factor in factors:
        x = factor(x)
    return x
