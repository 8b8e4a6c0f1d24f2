"""Reading large models: a ResNet-50 in shape and size with random weights, and constants from long chains."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks.child import run
from benchmarks.section import Column, Section, Settings, goal, seconds

COLUMNS = (
    Column("model", "model"),
    Column("parameters", "parameters", lambda n: f"{n:,}"),
    Column("load_seconds", "lipcert.load", seconds),
    Column("seconds", "whole process", seconds),
    Column("peak_mib", "peak memory", lambda mib: f"{mib:.0f} MiB"),
    Column("runs", "runs"),
    Column("goal", "goal"),
    Column("met", "", goal),
)

LOAD = "import sys, time; import lipcert; t = time.monotonic(); lipcert.load(sys.argv[1]); print(time.monotonic() - t)"

STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))
"""Blocks, channels of the bottleneck, stride of the first block (He, Zhang, Ren, Sun 2016, table 1)."""

MAX_SECONDS, MAX_MIB = 10.0, 3072.0


def suite(settings: Settings) -> list[Section]:
    section = Section("importing", "Import of large models, in a process of their own", COLUMNS)
    makers: dict[str, tuple[Callable[[], onnx.ModelProto], bool]] = {
        "resnet50, random weights": (resnet50, True),
        "bjorck 128x128, 15 steps": (lambda: bjorck(128, 15), False),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, (make, limited) in makers.items():
            settings.say(name)
            model = make()
            path = Path(folder) / "model.onnx"
            onnx.save(model, str(path))
            results = [run([sys.executable, "-c", LOAD, str(path)], Path.cwd()) for _ in range(settings.repeat)]
            failed = next((r for r in results if r.status != 0), None)
            if failed is not None:
                section.failures.append(f"{name}: {failed.output.strip()[-500:]}")
                continue
            loads = [float(r.output.split()[-1]) for r in results]
            peak = max(r.peak_mib for r in results)
            whole = statistics.median(r.seconds for r in results)
            section.rows.append(
                {
                    "model": name,
                    "parameters": sum(int(np.prod(t.dims)) for t in model.graph.initializer),
                    "load_seconds": statistics.median(loads),
                    "seconds": whole,
                    "peak_mib": peak,
                    "runs": len(results),
                    "goal": f"under {MAX_SECONDS:g} s, {MAX_MIB:g} MiB" if limited else None,
                    "met": whole < MAX_SECONDS and peak < MAX_MIB if limited else None,
                }
            )
    return [section]


def resnet50() -> onnx.ModelProto:
    """Bottleneck blocks with batch norms, 224 x 224 images, 25.6 million parameters."""
    build = _Builder()
    value = build.conv("x", 3, 64, 7, 2, 3)
    value = build.op("MaxPool", [value], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for blocks, width, first_stride in STAGES:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            inner = build.conv(value, channels, width, 1, 1, 0)
            inner = build.conv(inner, width, width, 3, stride, 1)
            inner = build.conv(inner, width, 4 * width, 1, 1, 0, relu=False)
            skip = value if block else build.conv(value, channels, 4 * width, 1, stride, 0, relu=False)
            value = build.op("Relu", [build.op("Add", [inner, skip])])
            channels = 4 * width
    value = build.op("Flatten", [build.op("GlobalAveragePool", [value])])
    weights, bias = build.weights(1000, channels), build.weights(1000)
    value = build.op("Gemm", [value, weights, bias], transB=1)
    return build.model({"x": (1, 3, 224, 224)}, value)


def bjorck(size: int, steps: int) -> onnx.ModelProto:
    """A layer whose matrix is orthonormalised in the graph: w <- 1.5 w - 0.5 w w' w (Bjorck, Bowie 1971)."""
    build = _Builder()
    w = build.weights(size, size)
    norm = build.op("ReduceL2", [w], keepdims=1)
    w = build.op("Mul", [build.op("Div", [w, norm]), build.constant(np.array(3.0))])
    for _ in range(steps):
        cube = build.op("MatMul", [build.op("MatMul", [w, build.op("Transpose", [w], perm=[1, 0])]), w])
        first = build.op("Mul", [w, build.constant(np.array(1.5))])
        w = build.op("Sub", [first, build.op("Mul", [cube, build.constant(np.array(0.5))])])
    return build.model({"x": (1, size)}, build.op("MatMul", ["x", w]))


class _Builder:
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

    def model(self, inputs: dict[str, tuple[int, ...]], output: str) -> onnx.ModelProto:
        given = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in inputs.items()]
        result = helper.make_empty_tensor_value_info(output)
        graph = helper.make_graph(self.nodes, "large", given, [result], self.stored)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
