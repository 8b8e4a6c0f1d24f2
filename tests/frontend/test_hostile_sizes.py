"""Small files that would take for ever or fill the memory: refused, or imported within the limits.

Each is imported in a process of its own (tests/helpers/fuzzing.py), which counts its seconds and its bytes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lipcert.errors import ModelError, UnsupportedModelError
from tests.helpers.fuzzing import LONGEST
from tests.helpers.onnx_models import integers, model, one_op, random_weights, save
from tests.helpers.paths import ROOT
from tests.helpers.processes import environment

node = helper.make_node

HUGE = 2**40


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def info(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def exploding(levels: int, times: int) -> onnx.ModelProto:
    """Each function calls the one below `times` times: times ** levels nodes once inlined."""
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("local", 1)]
    functions = [helper.make_function("local", "F0", ["x"], ["y"], [node("Relu", ["x"], ["y"])], imports)]
    for level in range(1, levels + 1):
        names = ["x", *(f"h{k}" for k in range(times - 1)), "y"]
        body = [node(f"F{level - 1}", [names[k]], [names[k + 1]], domain="local") for k in range(times)]
        functions.append(helper.make_function("local", f"F{level}", ["x"], ["y"], body, imports))
    call = node(f"F{levels}", ["x"], ["y"], domain="local", name="call")
    return model([call], {"x": (2, 3)}, ["y"], functions=functions, domains={"local": 1})


def chained_functions(levels: int) -> onnx.ModelProto:
    return exploding(levels, 1)


def many_nodes(op: str, count: int = 200_000) -> onnx.ModelProto:
    nodes = [node(op, [f"x{k}"], [f"x{k + 1}"]) for k in range(count)]
    return model(nodes, {"x0": (2,)}, [f"x{count}"])


def many_initializers(count: int = 200_000) -> onnx.ModelProto:
    proto = one_op("Relu", (2, 3))
    proto.graph.initializer.extend(
        TensorProto(name=f"w{k}", data_type=1, dims=[1], float_data=[1]) for k in range(count)
    )
    return proto


def scalar_info(name: str, kind: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, [])


def looped(count: int | None) -> onnx.ModelProto:
    """A Loop of so many rounds; None: without an end."""
    body = helper.make_graph(
        [node("Identity", ["go"], ["still"]), node("Relu", ["h"], ["next"])],
        "body",
        [scalar_info("i", TensorProto.INT64), scalar_info("go", TensorProto.BOOL), info("h")],
        [scalar_info("still", TensorProto.BOOL), info("next")],
    )
    weights = {"yes": np.array(True)} | ({} if count is None else {"count": np.array(count)})
    loop = node("Loop", ["" if count is None else "count", "yes", "x"], ["y"], body=body, name="the_node")
    return model([loop], {"x": (2, 3)}, ["y"], weights)


def computed(op: str, *inputs: np.ndarray, **attributes: Any) -> onnx.ModelProto:
    """x + sum(op(constants)): a constant that is large, however small the file."""
    weights = {f"i{k}": array for k, array in enumerate(inputs)}
    nodes = [
        node(op, list(weights), ["large"], name="the_node", **attributes),
        node("ReduceMean", ["large"], ["mean"], keepdims=0),
        node("Add", ["x", "mean"], ["y"]),
    ]
    return model(nodes, {"x": (2, 3)}, ["y"], weights)


def nested(levels: int) -> bytes:
    """If in If in If, deeper than protobuf reads: written as bytes, since it does not write it either."""

    def field(number: int, data: bytes) -> bytes:
        size, length = len(data), bytearray()
        while size > 127:
            length.append(size & 127 | 128)
            size >>= 7
        return bytes([number << 3 | 2]) + bytes([*length, size]) + data

    graph = helper.make_graph([node("Relu", ["x"], ["y"])], "g", [], [info("y")]).SerializeToString()
    for _ in range(levels):
        attribute = field(1, b"then_branch") + field(6, graph)
        graph = field(1, field(4, b"If") + field(1, b"yes") + field(2, b"y") + field(5, attribute))
    return one_op("Relu", (2, 3)).SerializeToString() + field(7, graph)


def doubling(op: str, rounds: int = 60) -> onnx.ModelProto:
    """A live tensor joined with itself, over and over."""
    attributes = {"axis": 0} if op == "Concat" else {}
    nodes = [node(op, [f"x{k}", f"x{k}"], [f"x{k + 1}"], name=f"node{k}", **attributes) for k in range(rounds)]
    return model(nodes, {"x0": (2,)}, [f"x{rounds}"])


def outer_product(size: int) -> onnx.ModelProto:
    """A column plus a row, both below every limit."""
    nodes = [
        node("Reshape", ["x", "column"], ["c"]),
        node("Reshape", ["x", "row"], ["r"]),
        node("Add", ["c", "r"], ["y"], name="the_node"),
    ]
    return model(nodes, {"x": (size,)}, ["y"], {"column": integers(-1, 1), "row": integers(1, -1)})


FLOAT = numpy_helper.from_array(f32(0.5))

HOGS: dict[str, tuple[Callable[[], onnx.ModelProto | bytes], tuple[str, ...]]] = {
    "functions 2 ** 40": (lambda: exploding(40, 2), ("functions", "nodes")),
    "functions 10 ** 12": (lambda: exploding(12, 10), ("functions", "nodes")),
    "functions 100 ** 3": (lambda: exploding(3, 100), ("functions", "nodes")),
    "functions 1 ** 5000": (lambda: chained_functions(5000), ()),
    "200,000 nodes": (lambda: many_nodes("Relu"), ("200000", "limit")),
    "200,000 weights": (many_initializers, ()),
    "90,000 nodes": (lambda: many_nodes("Identity", 90_000), ()),
    "nested 1000 deep": (lambda: nested(1000), ("not an ONNX file",)),
    "nested 30 deep": (lambda: nested(30), ()),
    "name of a million characters": (lambda: one_op("N" * 10**6, (2, 3)), ()),
    "shape of rank 5000": (lambda: one_op("Relu", (1,) * 5000), ()),
    "Concat doubling": (lambda: doubling("Concat"), ("Concat",)),
    "Add of a row and a column": (lambda: outer_product(2**13), ("the_node",)),
    "wide input": (lambda: one_op("Relu", (1, 2**27)), ()),
    "ConstantOfShape": (lambda: computed("ConstantOfShape", integers(HUGE), value=FLOAT), ("the_node",)),
    "ConstantOfShape below the limit": (lambda: computed("ConstantOfShape", integers(2**28), value=FLOAT), ()),
    "Expand": (lambda: computed("Expand", f32(1), integers(HUGE)), ("the_node",)),
    "Tile": (lambda: computed("Tile", f32(1), integers(HUGE)), ("the_node",)),
    "Range": (lambda: computed("Range", np.float32(0), np.float32(HUGE), np.float32(1)), ("the_node",)),
    "Range of tiny steps": (lambda: computed("Range", np.float32(0), np.float32(1), np.float32(1e-30)), ("the_node",)),
    "Pad": (lambda: computed("Pad", f32(1), integers(0, HUGE)), ("the_node",)),
    "MatMul": (lambda: computed("MatMul", ones(2**20, 1), ones(1, 2**20)), ("the_node",)),
    "Resize": (lambda: one_op("Resize", (1, 1, 2, 2), None, f32(1, 1, 2**20, 2**20)), ("the_node",)),
    "Resize sizes": (lambda: one_op("Resize", (1, 1, 2, 2), None, None, integers(1, 1, HUGE, 2)), ("the_node",)),
    "live Expand": (lambda: one_op("Expand", (1,), integers(HUGE)), ("the_node",)),
    "live Tile": (lambda: one_op("Tile", (1,), integers(HUGE)), ("the_node",)),
    "OneHot": (lambda: computed("OneHot", integers(0), np.array(HUGE), f32(0, 1)), ("the_node",)),
    "ConvTranspose": (lambda: one_op("ConvTranspose", (1, 1, 4), ones(1, 1, 2), strides=[HUGE]), ("the_node",)),
    "ConvTranspose output_shape": (
        lambda: one_op("ConvTranspose", (1, 1, 4), random_weights(1, 1, 2), output_shape=[HUGE]), ("the_node",)),
    "MaxPool": (lambda: one_op("MaxPool", (1, 1, 4), kernel_shape=[2], pads=[0, HUGE]), ("the_node",)),
    "MaxPool dilations": (lambda: one_op("MaxPool", (1, 1, 4), kernel_shape=[2], dilations=[HUGE]), ("the_node",)),
    "DepthToSpace": (lambda: one_op("DepthToSpace", (1, 4, 2, 2), blocksize=HUGE), ("the_node",)),
    "Einsum": (lambda: one_op("Einsum", (2**10, 2**10), ones(2**10, 2**4), equation="ij,kl->ijkl"), ("the_node",)),
    "LRN": (lambda: one_op("LRN", (1, 4, 2), size=HUGE + 1), ("the_node",)),
    "Loop of 2 ** 40 rounds": (lambda: looped(HUGE), ()),
    "Loop of a million rounds": (lambda: looped(10**6), ()),
    "Loop without an end": (lambda: looped(None), ("the_node",)),
    "LSTM of a million steps": (
        lambda: one_op("LSTM", (10**6, 1, 1), ones(1, 4, 1), ones(1, 4, 1), hidden_size=1), ()),
}  # fmt: skip
"""What to import, and words of the refusal; no words: an import within the limits is as good."""

ELSEWHERE = ("endless device", "pipe", "enormous weights")


def device(folder: Path) -> Path:
    (folder / "endless.onnx").symlink_to("/dev/zero")
    return folder / "endless.onnx"


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.onnx")
    return folder / "pipe.onnx"


def enormous_weights(folder: Path) -> Path:
    """A file of a tebibyte, all hole, for a tensor of twelve bytes."""
    with (folder / "hole.bin").open("wb") as stream:
        stream.truncate(HUGE)
    proto = one_op("Add", (3,), random_weights(3))
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="hole.bin")
    tensor.external_data.add(key="length", value="12")
    return save(proto, folder, "enormous.onnx")


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Every one of these imported in a process of its own."""
    if not sys.platform.startswith("linux"):
        pytest.skip("counts seconds and bytes as Linux does")
    folder = tmp_path_factory.mktemp("hogs")
    paths = {case: save(build(), folder, f"{k}.onnx") for k, (case, (build, _)) in enumerate(HOGS.items())}
    paths |= dict(zip(ELSEWHERE, (device(folder), pipe(folder), enormous_weights(folder)), strict=True))
    command = [sys.executable, "-m", "tests.helpers.fuzzing", "--files", *map(str, paths.values())]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(zip(paths, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("case", HOGS)
def test_a_small_file_takes_neither_long_nor_much(case: str, verdicts: dict[str, dict[str, Any]]) -> None:
    verdict, words = verdicts[case], HOGS[case][1]
    assert not verdict["wrong"], (verdict["wrong"], verdict["seconds"], verdict["mebibytes"], verdict["trace"])
    if words:
        assert verdict["outcome"] in (ModelError.__name__, UnsupportedModelError.__name__), verdict
    if verdict["outcome"] != "imported":
        assert [w for w in words if w not in verdict["message"]] == [], verdict["message"]
        assert len(verdict["message"]) <= LONGEST


@pytest.mark.parametrize(("case", "word"), zip(ELSEWHERE, ["endless.onnx", "pipe.onnx", "hole.bin"], strict=True))
def test_a_file_without_an_end_is_refused(case: str, word: str, verdicts: dict[str, dict[str, Any]]) -> None:
    verdict = verdicts[case]
    assert not verdict["wrong"], (verdict["wrong"], verdict["seconds"], verdict["mebibytes"], verdict["trace"])
    assert verdict["outcome"] == ModelError.__name__
    assert word in verdict["message"]
