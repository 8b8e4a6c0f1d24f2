"""Models of the size that is used, with random weights: residual networks (He, Zhang, Ren, Sun 2016), long chains."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))
"""Blocks, channels of the bottleneck, stride of the first block of ResNet-50 (table 1 there)."""


def resnet50() -> onnx.ModelProto:
    """Bottleneck blocks with batch norms, 224 x 224 images, 25.6 million parameters."""
    build = Builder()
    value, channels = build.stem(), 64
    for blocks, width, first_stride in STAGES:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            inner = build.conv(value, channels, width, 1, 1, 0)
            inner = build.conv(inner, width, width, 3, stride, 1)
            inner = build.conv(inner, width, 4 * width, 1, 1, 0, relu=False)
            skip = value if block else build.conv(value, channels, 4 * width, 1, stride, 0, relu=False)
            value = build.op("Relu", [build.op("Add", [inner, skip])])
            channels = 4 * width
    return build.classifier(value, channels)


def resnet18() -> onnx.ModelProto:
    """Basic blocks with batch norms, 224 x 224 images, 11.7 million parameters."""
    build = Builder()
    value, channels = build.stem(), 64
    for width, first_stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for stride in (first_stride, 1):
            inner = build.conv(value, channels, width, 3, stride, 1)
            inner = build.conv(inner, width, width, 3, 1, 1, relu=False)
            same = stride == 1 and channels == width
            skip = value if same else build.conv(value, channels, width, 1, stride, 0, relu=False)
            value = build.op("Relu", [build.op("Add", [inner, skip])])
            channels = width
    return build.classifier(value, channels)


def bjorck(size: int, steps: int) -> onnx.ModelProto:
    """A layer whose matrix is orthonormalised in the graph: w <- 1.5 w - 0.5 w w' w (Bjorck, Bowie 1971)."""
    build = Builder()
    w = build.weights(size, size)
    norm = build.op("ReduceL2", [w], keepdims=1)
    w = build.op("Mul", [build.op("Div", [w, norm]), build.constant(np.array(3.0))])
    for _ in range(steps):
        cube = build.op("MatMul", [build.op("MatMul", [w, build.op("Transpose", [w], perm=[1, 0])]), w])
        first = build.op("Mul", [w, build.constant(np.array(1.5))])
        w = build.op("Sub", [first, build.op("Mul", [cube, build.constant(np.array(0.5))])])
    return build.model({"x": (1, size)}, build.op("MatMul", ["x", w]))


class Builder:
    """Nodes and stored weights under fresh names."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []

    def op(self, op_type: str, inputs: list[str], **attributes: object) -> str:
        output = f"{op_type}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return output

    def constant(self, data: np.ndarray) -> str:
        name = f"w{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(data.astype(np.float32), name))
        return name

    def weights(self, *shape: int) -> str:
        fan_in = max(1, int(np.prod(shape[1:])))
        return self.constant(self.random.standard_normal(shape) * np.sqrt(1 / fan_in))

    def conv(self, value: str, into: int, out: int, kernel: int, stride: int, pad: int, relu: bool = True) -> str:
        weights = self.weights(out, into, kernel, kernel)
        value = self.op("Conv", [value, weights], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)
        gain, bias, mean = (self.weights(out) for _ in range(3))
        variance = self.constant(self.random.uniform(0.5, 2, out))
        value = self.op("BatchNormalization", [value, gain, bias, mean, variance])
        return self.op("Relu", [value]) if relu else value

    def stem(self) -> str:
        """What residual networks for 224 x 224 images begin with: 64 channels of 56 x 56."""
        value = self.conv("x", 3, 64, 7, 2, 3)
        return self.op("MaxPool", [value], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])

    def classifier(self, value: str, channels: int) -> onnx.ModelProto:
        """What they end with: the average of each channel, 1000 classes."""
        value = self.op("Flatten", [self.op("GlobalAveragePool", [value])])
        weights, bias = self.weights(1000, channels), self.weights(1000)
        value = self.op("Gemm", [value, weights, bias], transB=1)
        return self.model({"x": (1, 3, 224, 224)}, value)

    def model(self, inputs: dict[str, tuple[int, ...]], output: str) -> onnx.ModelProto:
        given = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in inputs.items()]
        result = helper.make_empty_tensor_value_info(output)
        graph = helper.make_graph(self.nodes, "large", given, [result], self.stored)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
