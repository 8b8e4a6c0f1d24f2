"""Small networks as exporters write them: torch's two exporters, tf2onnx's spelling by hand, skl2onnx."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize

from tests.helpers.onnx_models import integers, model, random_weights

node = helper.make_node

# ---------------------------------------------------------------------------- torch

Shape = tuple[int, ...]
Build = Callable[[], nn.Module]

WIDE = 96
"""Width from which on dynamo leaves what it computes from the weights in the graph: it folds up to 8192 entries."""


class Function(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Residual(nn.Module):
    """The input plus what the layers make of it."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Bjorck(nn.Module):
    """Orthonormalisation of a weight, from the Frobenius norm."""

    def forward(self, weight: Tensor) -> Tensor:
        weight = weight / weight.norm()
        for _ in range(3):
            weight = 1.5 * weight - 0.5 * weight @ weight.T @ weight
        return weight


class Householder(nn.Module):
    """Reflections of pairs, with trained angles."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.angle = nn.Parameter(torch.linspace(0.3, 2.5, features // 2))

    def forward(self, z: Tensor) -> Tensor:
        x, y = z.chunk(2, dim=-1)
        sine, cosine = torch.sin(self.angle), torch.cos(self.angle)
        keep = x * torch.sin(self.angle / 2) - y * torch.cos(self.angle / 2) > 0
        return torch.cat([torch.where(keep, x, x * cosine + y * sine), torch.where(keep, y, x * sine - y * cosine)], -1)


class SelfAttention(nn.Module):
    """nn.MultiheadAttention of a sequence with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class DotProductAttention(nn.Module):
    """Scaled dot products of two heads, by torch's function or written out."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.project, self.out = nn.Linear(4, 12), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = self.project(x).reshape(batch, length, 3, 2, 2).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            mixed = functional.scaled_dot_product_attention(q, k, v)
        else:
            mixed = torch.softmax(q @ k.transpose(-2, -1) / 2**0.5, dim=-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(batch, length, 4))


def maxmin(x: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return torch.cat([torch.maximum(a, b), torch.minimum(a, b)], dim=-1)


def maxmin_strided(x: Tensor) -> Tensor:
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.cat([torch.max(a, b), torch.min(a, b)], dim=-1)


def group_sort_2(x: Tensor) -> Tensor:
    """As deel-torchlip."""
    pairs = x.view(x.shape[0], -1, 2)
    low, high = pairs.amin(dim=-1, keepdim=True), pairs.amax(dim=-1, keepdim=True)
    return torch.cat([low, high], dim=-1).view(x.shape)


def group_sort_stacked(x: Tensor) -> Tensor:
    a, b = x.view(-1, x.shape[-1] // 2, 2).unbind(-1)
    return torch.stack([torch.minimum(a, b), torch.maximum(a, b)], dim=-1).flatten(-2)


def sort_groups(x: Tensor) -> Tensor:
    return torch.sort(x.reshape(-1, x.shape[-1] // 3, 3), dim=-1).values.reshape(x.shape)


def sort_descending(x: Tensor) -> Tensor:
    return torch.sort(x, dim=-1, descending=True)[0]


def maxmin_of_channels(x: Tensor) -> Tensor:
    a, b = x.split(x.shape[1] // 2, dim=1)
    return torch.cat((torch.max(a, b), torch.min(a, b)), dim=1)


def mlp(*between: nn.Module | Callable[[Tensor], Tensor], tail: nn.Module | None = None) -> Build:
    """A recipe for 4-6-6-3 with these layers in the middle."""

    def build() -> nn.Module:
        # copies: a module that is built twice must start from the same weights
        layers = [copy.deepcopy(b) if isinstance(b, nn.Module) else Function(b) for b in between]
        last = [] if tail is None else [copy.deepcopy(tail)]
        return nn.Sequential(nn.Linear(4, 6), *layers, nn.Linear(6, 6), *layers, nn.Linear(6, 3), *last)

    return build


def normalised(norm: Callable[[nn.Module], nn.Module], width: int) -> Build:
    """A recipe for dense layers whose weights go through `norm`."""
    return lambda: nn.Sequential(
        norm(nn.Linear(4, width)), nn.ReLU(), norm(nn.Linear(width, width)), nn.ReLU(), norm(nn.Linear(width, 3))
    )


def orthonormal(layer: nn.Module) -> nn.Module:
    parametrize.register_parametrization(layer, "weight", Bjorck())
    return layer


def conv(*middle: Callable[[], nn.Module], features: int, tail: int = 3) -> Build:
    """A recipe for a convolution to 4 channels of 6x6, these layers, and a dense head on `features`."""
    return lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), *(m() for m in middle), nn.Flatten(), nn.Linear(features, tail)
    )


IMAGE: Shape = (1, 2, 6, 6)
TOKENS: Shape = (1, 3, 4)

MODULES: dict[str, tuple[Build, Shape]] = {
    # weights computed in the graph
    "weight_norm": (normalised(parametrizations.weight_norm, 6), (1, 4)),
    "weight_norm_wide": (normalised(parametrizations.weight_norm, WIDE), (1, 4)),
    "weight_norm_by_hooks": (normalised(nn.utils.weight_norm, WIDE), (1, 4)),
    "spectral_norm": (normalised(parametrizations.spectral_norm, 6), (1, 4)),
    "spectral_norm_wide": (normalised(parametrizations.spectral_norm, WIDE), (1, 4)),
    "spectral_norm_by_hooks": (normalised(nn.utils.spectral_norm, WIDE), (1, 4)),
    "spectral_norm_conv": (
        lambda: nn.Sequential(
            parametrizations.spectral_norm(nn.Conv2d(2, 4, 3, padding=1)), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
        ),
        IMAGE,
    ),
    "bjorck": (normalised(orthonormal, 6), (1, 4)),
    "bjorck_wide": (normalised(orthonormal, WIDE), (1, 4)),
    # activations of groups
    "maxmin": (mlp(maxmin), (1, 4)),
    "maxmin_strided": (mlp(maxmin_strided), (1, 4)),
    "maxmin_of_channels": (conv(lambda: Function(maxmin_of_channels), features=144), IMAGE),
    "group_sort_2": (mlp(group_sort_2), (1, 4)),
    "group_sort_stacked": (mlp(group_sort_stacked), (1, 4)),
    "sort_groups": (mlp(sort_groups), (1, 4)),
    "sort_descending": (mlp(sort_descending), (1, 4)),
    "householder": (mlp(Householder(6)), (1, 4)),
    # activations of one entry
    "silu": (mlp(nn.SiLU()), (1, 4)),
    "softplus": (mlp(nn.Softplus()), (1, 4)),
    "softplus_sharp": (mlp(nn.Softplus(beta=3.0)), (1, 4)),
    "gelu": (mlp(nn.GELU()), (1, 4)),
    "gelu_tanh": (mlp(nn.GELU(approximate="tanh")), (1, 4)),
    "gelu_quick": (mlp(lambda x: x * torch.sigmoid(1.702 * x)), (1, 4)),
    "mish": (mlp(nn.Mish()), (1, 4)),
    "hardswish": (mlp(nn.Hardswish()), (1, 4)),
    "hardsigmoid": (mlp(nn.Hardsigmoid()), (1, 4)),
    "relu6": (mlp(nn.ReLU6()), (1, 4)),
    "hardtanh": (mlp(nn.Hardtanh(-0.5, 1.5)), (1, 4)),
    "elu": (mlp(nn.ELU(0.7)), (1, 4)),
    "selu": (mlp(nn.SELU()), (1, 4)),
    "celu": (mlp(nn.CELU(0.7)), (1, 4)),
    "abs": (mlp(torch.abs), (1, 4)),
    "leaky_relu": (mlp(nn.LeakyReLU(0.2)), (1, 4)),
    "prelu": (mlp(nn.PReLU()), (1, 4)),
    "prelu_each": (mlp(nn.PReLU(6)), (1, 4)),
    "prelu_of_channels": (conv(lambda: nn.PReLU(4), features=144), IMAGE),
    # normalisation, softmax, attention
    "layer_norm": (mlp(nn.LayerNorm(6), nn.ReLU()), (1, 4)),
    "layer_norm_bare": (mlp(nn.LayerNorm(6, elementwise_affine=False), nn.ReLU()), (1, 4)),
    "rms_norm": (mlp(nn.RMSNorm(6, eps=1e-3), nn.ReLU()), (1, 4)),
    "normalize": (mlp(nn.ReLU(), tail=Function(functional.normalize)), (1, 4)),
    "softmax": (mlp(nn.ReLU(), tail=nn.Softmax(dim=1)), (1, 4)),
    "log_softmax": (mlp(nn.ReLU(), tail=nn.LogSoftmax(dim=-1)), (1, 4)),
    "multihead_attention": (SelfAttention, TOKENS),
    "attention_fused": (lambda: DotProductAttention(fused=True), TOKENS),
    "attention_written_out": (lambda: DotProductAttention(fused=False), TOKENS),
    "transformer_layer": (
        lambda: nn.Sequential(
            Residual(nn.LayerNorm(4), SelfAttention()),
            Residual(nn.LayerNorm(4), nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4)),
            Function(lambda x: x.mean(dim=1)),
        ),
        TOKENS,
    ),
    # images
    "batch_norm": (conv(lambda: nn.BatchNorm2d(4), nn.ReLU, features=144), IMAGE),
    "batch_norm_unfolded": (conv(nn.ReLU, lambda: nn.BatchNorm2d(4), features=144), IMAGE),
    "batch_norm_1d": (mlp(nn.ReLU(), nn.BatchNorm1d(6)), (1, 4)),
    "max_pool": (conv(nn.ReLU, lambda: nn.MaxPool2d(2), features=36), IMAGE),
    "max_pool_overlapping": (conv(lambda: nn.MaxPool2d(3, 2, padding=1), features=36), IMAGE),
    "average_pool": (conv(nn.ReLU, lambda: nn.AvgPool2d(3, 2, padding=1), features=36), IMAGE),
    "adaptive_average_pool": (conv(nn.ReLU, lambda: nn.AdaptiveAvgPool2d(2), features=16), IMAGE),
    "global_average_pool": (conv(nn.ReLU, lambda: nn.AdaptiveAvgPool2d(1), features=4), IMAGE),
    "global_max_pool": (conv(nn.ReLU, lambda: nn.AdaptiveMaxPool2d(1), features=4), IMAGE),
    "conv_transpose": (
        conv(nn.ReLU, lambda: nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1), features=288),
        IMAGE,
    ),
    "residual": (
        conv(
            lambda: Residual(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)),
            nn.ReLU,
            lambda: Function(lambda x: x.mean((2, 3))),
            features=4,
        ),
        IMAGE,
    ),
    "grouped_conv": (conv(nn.ReLU, lambda: nn.Conv2d(4, 4, 3, stride=2, groups=4), features=16), IMAGE),
    "conv_1d": (
        lambda: nn.Sequential(nn.Conv1d(3, 4, 2), nn.ReLU(), nn.MaxPool1d(3), nn.Flatten(), nn.Linear(4, 2)),
        TOKENS,
    ),
    # rearrangements
    "view": (lambda: nn.Sequential(Function(lambda x: x.view(x.shape[0], -1)), nn.Linear(72, 3), nn.ReLU()), IMAGE),
    "permute": (
        lambda: nn.Sequential(
            Function(lambda x: x.permute(0, 2, 3, 1).reshape(x.size(0), 36, 2)),
            nn.Linear(2, 3),
            nn.ReLU(),
            Function(lambda x: x.transpose(1, 2).flatten(1)),
            nn.Linear(108, 2),
        ),
        IMAGE,
    ),
    "slices": (
        mlp(lambda x: torch.cat([x[:, 3:], x[:, :3].flip(1)], 1), nn.ReLU()),
        (1, 4),
    ),
}


DISCONTINUOUS: dict[str, tuple[Build, Shape]] = {
    # above its threshold torch's softplus is the identity: dynamo writes that jump down, the old exporter leaves it out
    "softplus_of_low_threshold": (mlp(nn.Softplus(threshold=5.0)), (1, 4)),
    "hardshrink": (mlp(nn.Hardshrink()), (1, 4)),
    "threshold": (mlp(nn.Threshold(0.1, 20.0)), (1, 4)),
    "heaviside": (mlp(lambda x: x * (x > 0.5)), (1, 4)),
    "round": (mlp(torch.round), (1, 4)),
    "swapping_where": (mlp(lambda x: torch.where(x > 0, x.flip(1), x)), (1, 4)),
}
"""Networks with a jump, which have no Lipschitz constant."""


def settled(name: str) -> nn.Module:
    """The module of this name in evaluation mode: seeded, its batch norms with statistics other than 0 and 1."""
    torch.manual_seed(0)
    module = (MODULES | DISCONTINUOUS)[name][0]()
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)):
        norm.running_mean = torch.linspace(-1, 1, norm.num_features)
        norm.running_var = torch.linspace(0.5, 2, norm.num_features)
    return module.eval()


class ExporterRefusesError(Exception):
    """The exporter does not export this module at this opset."""


@dataclass(frozen=True, eq=False)
class Source:
    """A model as an exporter wrote it, and the name of the output that the tests ask about."""

    name: str
    proto: onnx.ModelProto
    output: str = ""

    @property
    def ops(self) -> list[str]:
        return [n.op_type for n in self.proto.graph.node]


@dataclass(frozen=True)
class TorchExporter:
    """One of torch's exporters at one opset; `open_batch` leaves the first dimension to be decided."""

    dynamo: bool
    opset: int
    open_batch: bool = False

    def __str__(self) -> str:
        return f"{'dynamo' if self.dynamo else 'script'}-{self.opset}{'-open' * self.open_batch}"

    def __call__(self, module: Any, shape: Shape) -> onnx.ModelProto:
        return (self._dynamo if self.dynamo else self._script)(module, shape)

    def _dynamo(self, module: Any, shape: Shape) -> onnx.ModelProto:
        batch = ({0: torch.export.Dim("batch")},) if self.open_batch else None
        example = torch.zeros((2 if self.open_batch else shape[0], *shape[1:]))
        with _registries_kept():
            program = torch.onnx.export(
                module, (example,), dynamo=True, opset_version=self.opset, dynamic_shapes=batch, verbose=False
            )
        assert program is not None
        return program.model_proto

    def _script(self, module: Any, shape: Shape) -> onnx.ModelProto:
        file = io.BytesIO()
        axes = {"x": {0: "batch"}} if self.open_batch else None
        example = torch.zeros(shape)
        torch.onnx.export(
            module, (example,), file, dynamo=False, opset_version=self.opset, input_names=["x"], dynamic_axes=axes
        )
        return onnx.load_model_from_string(file.getvalue())


DYNAMO, DYNAMO_OPEN = TorchExporter(True, 20), TorchExporter(True, 20, open_batch=True)
DYNAMO_OTHERS = TorchExporter(True, 18), TorchExporter(True, 23), TorchExporter(True, 25)
SCRIPT = (
    *(TorchExporter(False, opset) for opset in (13, 15, 20)),
    TorchExporter(False, 17, open_batch=True),
)

SPELLED_BY_OPSET = ("gelu", "gelu_tanh", "rms_norm", "multihead_attention", "attention_fused")
"""What dynamo writes with other ops at another opset."""

SPELLED_BY_BATCH = (
    "sort_groups", "sort_descending", "normalize", "multihead_attention", "attention_fused", "transformer_layer"
)  # fmt: skip
"""What dynamo writes with other ops when the batch is open."""

READ_AT_EACH_OPSET = ("maxmin", "layer_norm", "max_pool", "average_pool", "residual", "view", "permute")
"""What dynamo writes with the same ops always, of which ONNX has several versions."""

TORCH_CASES: tuple[tuple[str, TorchExporter], ...] = (
    *((name, DYNAMO) for name in MODULES),
    *((name, DYNAMO_OPEN) for name in (*SPELLED_BY_BATCH, *READ_AT_EACH_OPSET)),
    *((name, exporter) for name in (*SPELLED_BY_OPSET, *READ_AT_EACH_OPSET) for exporter in DYNAMO_OTHERS),
    *((name, exporter) for name in MODULES for exporter in SCRIPT),
)
"""Every module through both exporters; dynamo takes a fifth of a second, so not at all opsets."""


@functools.cache
def torch_source(name: str, exporter: TorchExporter) -> Source:
    """The module of this name, exported; ExporterRefusesError where the exporter does not do it."""
    try:
        with _quiet():
            proto = exporter(settled(name), (MODULES | DISCONTINUOUS)[name][1])
    except Exception as error:  # the exporters raise many kinds
        raise ExporterRefusesError(f"{exporter}: {' '.join(str(error).split())[:200]}") from error
    (opset,) = (o.version for o in proto.opset_import if o.domain in ("", "ai.onnx"))
    if opset != exporter.opset:
        raise ExporterRefusesError(f"{exporter}: exports to opset {opset} instead")
    return Source(f"{name}-{exporter}", proto)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def _registries_kept() -> Iterator[None]:
    """Export with one table of torch's ops per opset: building it anew takes four fifths of a small export."""
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        build = ONNXRegistry.from_torchlib
    except (ImportError, AttributeError):
        yield
        return
    with mock.patch.object(ONNXRegistry, "from_torchlib", functools.partial(_registry, build)):
        yield


@functools.cache
def _registry(build: Callable[..., Any], opset_version: int) -> Any:
    return build(opset_version=opset_version)


# ---------------------------------------------------------------------------- Keras, as tf2onnx writes it

TO_CHANNELS_FIRST, TO_CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
UNKNOWN = "unk__42"
"""tf2onnx's name for an open dimension."""


def keras_dense(opset: int) -> onnx.ModelProto:
    """Dense layers with ReLU, swish and tanh; a softmax head."""
    weights = {
        **_dense("dense", 4, 6),
        **_dense("dense_1", 6, 5),
        **_dense("dense_2", 5, 5),
        **_dense("dense_3", 5, 3),
    }
    nodes = [
        *_matmul_add("dense", "x"),
        node("Relu", ["dense/BiasAdd:0"], ["relu"]),
        *_matmul_add("dense_1", "relu"),
        node("Sigmoid", ["dense_1/BiasAdd:0"], ["sigmoid"]),
        node("Mul", ["dense_1/BiasAdd:0", "sigmoid"], ["swish"]),
        *_matmul_add("dense_2", "swish"),
        node("Tanh", ["dense_2/BiasAdd:0"], ["tanh"]),
        *_matmul_add("dense_3", "tanh"),
        node("Softmax", ["dense_3/BiasAdd:0"], ["Identity:0"], axis=1),
    ]
    return _tensorflow(nodes, (UNKNOWN, 4), weights, opset)


def keras_conv(opset: int) -> onnx.ModelProto:
    """A convolutional classifier as the optimiser leaves it: one Transpose at the input, one before the flattening."""
    weights = {
        **_kernel("conv2d", 3, 2),
        **_kernel("conv2d_1", 4, 3),
        **_dense("dense", 4 * 2 * 2, 3),
        "const_fold_opt__31": integers(-1, 16),
    }
    nodes = [
        node("Transpose", ["x"], ["x__8"], perm=TO_CHANNELS_FIRST),
        node("Conv", ["x__8", "conv2d/W", "conv2d/B"], ["conv2d"], kernel_shape=[3, 3], pads=[1] * 4),
        node("Relu", ["conv2d"], ["relu"]),
        node("MaxPool", ["relu"], ["pool"], kernel_shape=[2, 2], strides=[2, 2], auto_pad="VALID"),
        node("Conv", ["pool", "conv2d_1/W", "conv2d_1/B"], ["conv2d_1"], kernel_shape=[3, 3], auto_pad="SAME_UPPER"),
        node("Clip", ["conv2d_1", "zero", "six"], ["relu6"]),
        node("AveragePool", ["relu6"], ["pool_1"], kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4),
        node("Transpose", ["pool_1"], ["pool_1__30"], perm=TO_CHANNELS_LAST),
        node("Reshape", ["pool_1__30", "const_fold_opt__31"], ["flatten"]),
        *_matmul_add("dense", "flatten"),
        node("Softmax", ["dense/BiasAdd:0"], ["Identity:0"], axis=1),
    ]
    bounds = {"zero": np.array(0.0, np.float32), "six": np.array(6.0, np.float32)}
    return _tensorflow(nodes, (UNKNOWN, 8, 8, 2), weights | bounds, opset)


def keras_conv_unoptimised(opset: int) -> onnx.ModelProto:
    """Every layer between its own Transposes; biases and the batch norm broadcast over channels last."""
    weights = {
        **_kernel("conv2d", 3, 2),
        **_kernel("conv2d_1", 4, 3),
        **_dense("dense", 4, 3),
        "bias": random_weights(3, seed=11),
        "gain": random_weights(1, 1, 1, 3, seed=12),
        "shift": random_weights(1, 1, 1, 3, seed=13),
    }
    nodes = [
        *_channels_first("conv2d", "Conv", ["x", "conv2d/W"], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
        node("Add", ["conv2d", "bias"], ["biased"]),
        node("Mul", ["biased", "gain"], ["scaled"]),
        node("Add", ["scaled", "shift"], ["normed"]),
        node("LeakyRelu", ["normed"], ["leaky"], alpha=0.3),
        *_channels_first("pool", "MaxPool", ["leaky"], kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
        *_channels_first("conv2d_1", "Conv", ["pool", "conv2d_1/W", "conv2d_1/B"], kernel_shape=[3, 3], pads=[1] * 4),
        node("Elu", ["conv2d_1"], ["elu"], alpha=1.0),
        *_mean("elu", "mean", [1, 2], opset),
        *_matmul_add("dense", "mean"),
        node("Identity", ["dense/BiasAdd:0"], ["Identity:0"]),
    ]
    return _tensorflow(nodes, (UNKNOWN, 8, 8, 2), weights, opset)


def keras_global_pool(opset: int) -> onnx.ModelProto:
    """A residual block, then GlobalAveragePool and a Squeeze; the erf form of GELU, written out."""
    weights = {
        **_kernel("conv2d", 3, 2),
        **_kernel("conv2d_1", 3, 3),
        **_dense("dense", 3, 4),
        **_dense("dense_1", 4, 3),
        "half": np.array(0.5, np.float32),
        "one": np.array(1.0, np.float32),
        "root": np.array(np.sqrt(2), np.float32),
    }
    axes = ["axes"] if opset >= 13 else []
    attribute = {} if opset >= 13 else {"axes": [2, 3]}
    if opset >= 13:
        weights["axes"] = integers(2, 3)
    nodes = [
        node("Transpose", ["x"], ["x__8"], perm=TO_CHANNELS_FIRST),
        node("Conv", ["x__8", "conv2d/W", "conv2d/B"], ["conv2d"], kernel_shape=[3, 3], pads=[1] * 4),
        node("Relu", ["conv2d"], ["relu"]),
        node("Conv", ["relu", "conv2d_1/W", "conv2d_1/B"], ["conv2d_1"], kernel_shape=[3, 3], pads=[1] * 4),
        node("Add", ["conv2d_1", "conv2d"], ["sum"]),
        node("Relu", ["sum"], ["relu_1"]),
        node("GlobalAveragePool", ["relu_1"], ["mean"]),
        node("Squeeze", ["mean", *axes], ["squeezed"], **attribute),
        *_matmul_add("dense", "squeezed"),
        node("Mul", ["half", "dense/BiasAdd:0"], ["mul"]),
        node("Div", ["dense/BiasAdd:0", "root"], ["truediv"]),
        node("Erf", ["truediv"], ["erf"]),
        node("Add", ["one", "erf"], ["add"]),
        node("Mul", ["mul", "add"], ["gelu"]),
        *_matmul_add("dense_1", "gelu"),
        node("Softmax", ["dense_1/BiasAdd:0"], ["Identity:0"], axis=1),
    ]
    return _tensorflow(nodes, (UNKNOWN, 4, 4, 2), weights, opset)


def keras_depthwise(opset: int) -> onnx.ModelProto:
    """A separable convolution (the depthwise kernel reshaped in the graph) behind a Pad of channels last."""
    weights = {
        "depthwise": random_weights(3, 3, 2, 1, seed=3),
        "new_shape": integers(2, 1, 3, 3),
        **_kernel("pointwise", 4, 2, 1),
        **_dense("dense", 4 * 16, 3),
        "paddings": integers(0, 1, 1, 0, 0, 1, 1, 0),
        "flat": integers(-1, 64),
    }
    nodes = [
        node("Pad", ["x", "paddings"], ["padded"]),
        node("Transpose", ["depthwise"], ["moved"], perm=[2, 3, 0, 1]),
        node("Reshape", ["moved", "new_shape"], ["kernel"]),
        node("Transpose", ["padded"], ["first"], perm=TO_CHANNELS_FIRST),
        node("Conv", ["first", "kernel"], ["depth"], group=2, kernel_shape=[3, 3], auto_pad="VALID"),
        node("Conv", ["depth", "pointwise/W", "pointwise/B"], ["point"], kernel_shape=[1, 1]),
        node("Softplus", ["point"], ["softplus"]),
        node("Transpose", ["softplus"], ["last"], perm=TO_CHANNELS_LAST),
        node("Reshape", ["last", "flat"], ["flatten"]),
        *_matmul_add("dense", "flatten"),
        node("Sigmoid", ["dense/BiasAdd:0"], ["Identity:0"]),
    ]
    return _tensorflow(nodes, (UNKNOWN, 4, 4, 2), weights, opset)


def _dense(name: str, inputs: int, outputs: int) -> dict[str, np.ndarray]:
    seed = inputs + 10 * outputs
    kernel = random_weights(inputs, outputs, seed=seed) / np.float32(np.sqrt(inputs))
    return {f"{name}/MatMul/ReadVariableOp:0": kernel, f"{name}/bias:0": random_weights(outputs, seed=seed + 1)}


def _kernel(name: str, outputs: int, inputs: int, size: int = 3) -> dict[str, np.ndarray]:
    kernel = random_weights(outputs, inputs, size, size, seed=outputs) / np.float32(size * np.sqrt(inputs))
    return {f"{name}/W": kernel, f"{name}/B": random_weights(outputs, seed=inputs)}


def _matmul_add(name: str, source: str) -> list[onnx.NodeProto]:
    product = f"{name}/MatMul:0"
    return [
        node("MatMul", [source, f"{name}/MatMul/ReadVariableOp:0"], [product], name=f"{name}/MatMul"),
        node("Add", [product, f"{name}/bias:0"], [f"{name}/BiasAdd:0"], name=f"{name}/BiasAdd"),
    ]


def _channels_first(name: str, op: str, sources: list[str], **attributes: Any) -> list[onnx.NodeProto]:
    """`op` between Transposes, from channels last and back."""
    return [
        node("Transpose", sources[:1], [f"{name}__first"], perm=TO_CHANNELS_FIRST),
        node(op, [f"{name}__first", *sources[1:]], [f"{name}__raw"], name=name, **attributes),
        node("Transpose", [f"{name}__raw"], [name], perm=TO_CHANNELS_LAST),
    ]


def _mean(source: str, target: str, axes: list[int], opset: int) -> list[onnx.NodeProto]:
    if opset < 18:
        return [node("ReduceMean", [source], [target], axes=axes, keepdims=0)]
    stored = helper.make_tensor("axes", TensorProto.INT64, [len(axes)], axes)
    return [
        node("Constant", [], [f"{target}_axes"], value=stored),
        node("ReduceMean", [source, f"{target}_axes"], [target], keepdims=0),
    ]


def _tensorflow(
    nodes: list[onnx.NodeProto], shape: tuple[int | str, ...], weights: dict[str, np.ndarray], opset: int
) -> onnx.ModelProto:
    proto = model(nodes, {"x": shape}, ["Identity:0"], weights, opset=opset)
    proto.producer_name = "tf2onnx"
    return proto


KERAS: dict[str, Callable[[int], onnx.ModelProto]] = {
    "keras_dense": keras_dense,
    "keras_conv": keras_conv,
    "keras_conv_unoptimised": keras_conv_unoptimised,
    "keras_global_pool": keras_global_pool,
    "keras_depthwise": keras_depthwise,
}
KERAS_OPSETS = (11, 13, 15, 18)


@functools.cache
def keras_source(name: str, opset: int) -> Source:
    """The graph of this name in the spelling of an opset."""
    return Source(f"{name}-{opset}", KERAS[name](opset))


# ---------------------------------------------------------------------------- scikit-learn

SKLEARN = ("classifier", "binary", "regressor", "pipeline")


@functools.cache
def sklearn_source(kind: str) -> Source:
    """A multilayer perceptron that skl2onnx converts; ImportError where it is not installed."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    points = random_weights(60, 4)
    sides = np.sign(points[:, 0] * points[:, 1]).astype(np.int64)
    settings: dict[str, Any] = {"hidden_layer_sizes": (6, 5), "max_iter": 20, "random_state": 0}
    estimator, targets = {
        "classifier": (MLPClassifier(**settings), sides + (points[:, 2] > 0)),
        "binary": (MLPClassifier(activation="logistic", **settings), sides > 0),
        "regressor": (MLPRegressor(activation="tanh", **settings), np.sin(points[:, 3])),
        "pipeline": (make_pipeline(StandardScaler(), MLPRegressor(**settings)), points[:, 0] * points[:, 1]),
    }[kind]
    is_classifier = kind in ("classifier", "binary")
    with _quiet():
        estimator.fit(points, targets)
        proto = convert_sklearn(
            estimator,
            kind,
            initial_types=[("x", FloatTensorType([None, 4]))],
            options={"zipmap": False} if is_classifier else None,
        )
    return Source(f"sklearn_{kind}", proto, output="probabilities" if is_classifier else "")
