"""Seeded mutations of the sample networks: every outcome is a model or a LipcertError, within seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto

from lipcert.errors import LipcertError, ModelError
from lipcert.frontend import Model, load_file
from tests.helpers.onnx_models import outcome, save

MODELS = Path(__file__).parents[2] / "models"
NAMES = ("digits_relu", "digits_tanh", "digits_conv", "digits_resnet")
SECONDS = 5.0

Random = np.random.Generator
Mutation = Callable[[onnx.ModelProto, Random], None]

INTEGERS = [-(2**63), -(2**31), -7, -2, -1, 0, 1, 2, 3, 5, 64, 1000, 2**31, 2**40, 2**63 - 1]
FLOATS = [0.0, -1.0, 1e-45, 1e30, float("inf"), float("nan")]
OPS = [
    "Add",
    "Concat",
    "Conv",
    "Flatten",
    "Gemm",
    "Identity",
    "MatMul",
    "Mul",
    "Pad",
    "Relu",
    "Reshape",
    "Shape",
    "Tanh",
]


def pick(random: Random, options: Any) -> Any:
    options = list(options)
    return options[int(random.integers(len(options)))] if options else None


def change_dims(proto: onnx.ModelProto, random: Random) -> None:
    tensor = pick(random, [t for t in proto.graph.initializer if t.dims])
    tensor.dims[int(random.integers(len(tensor.dims)))] = pick(random, INTEGERS)


def drop_dim(proto: onnx.ModelProto, random: Random) -> None:
    del pick(random, [t for t in proto.graph.initializer if t.dims]).dims[0]


def change_type(proto: onnx.ModelProto, random: Random) -> None:
    pick(random, proto.graph.initializer).data_type = int(random.integers(-1, 26))


def cut_data(proto: onnx.ModelProto, random: Random) -> None:
    tensor = pick(random, proto.graph.initializer)
    tensor.raw_data = tensor.raw_data[: int(random.integers(len(tensor.raw_data) + 1))]


def change_op(proto: onnx.ModelProto, random: Random) -> None:
    pick(random, proto.graph.node).op_type = pick(random, OPS)


def rewire_input(proto: onnx.ModelProto, random: Random) -> None:
    node = pick(random, [n for n in proto.graph.node if n.input])
    names = [name for n in proto.graph.node for name in (*n.input, *n.output)]
    node.input[int(random.integers(len(node.input)))] = pick(random, [*names, "", "nowhere"])


def rewire_output(proto: onnx.ModelProto, random: Random) -> None:
    pick(random, proto.graph.node).output[0] = pick(random, [n.output[0] for n in proto.graph.node])


def drop_input(proto: onnx.ModelProto, random: Random) -> None:
    del pick(random, [n for n in proto.graph.node if n.input]).input[-1]


def repeat_input(proto: onnx.ModelProto, random: Random) -> None:
    node = pick(random, [n for n in proto.graph.node if n.input])
    node.input.append(pick(random, node.input))


def drop_node(proto: onnx.ModelProto, random: Random) -> None:
    del proto.graph.node[int(random.integers(len(proto.graph.node)))]


def swap_nodes(proto: onnx.ModelProto, random: Random) -> None:
    nodes = list(proto.graph.node)
    random.shuffle(nodes)  # type: ignore[arg-type]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def change_attribute(proto: onnx.ModelProto, random: Random) -> None:
    found = pick(random, [a for n in proto.graph.node for a in n.attribute])
    if found is None:
        return add_attribute(proto, random)
    found.type = int(random.integers(0, 12))
    found.i = pick(random, INTEGERS)
    found.f = pick(random, FLOATS)
    found.s = bytes(random.bytes(3))
    if found.ints:
        found.ints[int(random.integers(len(found.ints)))] = pick(random, INTEGERS)


def change_number(proto: onnx.ModelProto, random: Random) -> None:
    found = pick(random, [a for n in proto.graph.node for a in n.attribute if a.type in (2, 7)])
    if found is None:
        return add_attribute(proto, random)
    found.i = pick(random, INTEGERS)
    if found.ints:
        found.ints[int(random.integers(len(found.ints)))] = pick(random, INTEGERS)


def add_attribute(proto: onnx.ModelProto, random: Random) -> None:
    name = pick(random, ["axis", "alpha", "transA", "strides", "pads", "group", "perm", "epsilon", "surprise"])
    pick(random, proto.graph.node).attribute.append(
        AttributeProto(name=name, type=AttributeProto.INT, i=pick(random, INTEGERS))
    )


def change_domain(proto: onnx.ModelProto, random: Random) -> None:
    pick(random, proto.graph.node).domain = pick(random, ["ai.onnx", "ai.onnx.ml", "com.microsoft", "x"])


def change_opset(proto: onnx.ModelProto, random: Random) -> None:
    pick(random, proto.opset_import).version = pick(random, [*INTEGERS, 7, 9, 11, 13, 18, 30])


def change_input_shape(proto: onnx.ModelProto, random: Random) -> None:
    pick(random, proto.graph.input[0].type.tensor_type.shape.dim).dim_value = pick(random, INTEGERS)


def change_weights(proto: onnx.ModelProto, random: Random) -> None:
    tensor = pick(random, [t for t in proto.graph.initializer if t.raw_data])
    data = bytearray(tensor.raw_data)
    for _ in range(4):
        data[int(random.integers(len(data)))] = int(random.integers(256))
    tensor.raw_data = bytes(data)


def make_external(proto: onnx.ModelProto, random: Random) -> None:
    tensor = pick(random, proto.graph.initializer)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=pick(random, ["model.onnx", "..", ".", "/", "none", ""]))


EDITS: list[Mutation] = [
    change_dims,
    drop_dim,
    change_type,
    cut_data,
    change_op,
    rewire_input,
    rewire_output,
    drop_input,
    repeat_input,
    drop_node,
    swap_nodes,
    change_attribute,
    change_number,
    add_attribute,
    change_domain,
    change_opset,
    change_input_shape,
    change_weights,
    make_external,
]


def flip_bits(data: bytes, random: Random) -> bytes:
    flipped = bytearray(data)
    # Half of the flips in the head or tail, where names and structure are; the rest is mostly weights.
    for _ in range(int(random.integers(1, 6))):
        place = int(random.integers(min(len(data), 3000)))
        place = pick(random, [place, len(data) - 1 - place, int(random.integers(len(data)))])
        flipped[place] ^= 1 << int(random.integers(8))
    return bytes(flipped)


def edit_fields(data: bytes, random: Random) -> bytes:
    proto = onnx.load_model_from_string(data)
    for _ in range(int(random.integers(1, 3))):
        pick(random, EDITS)(proto, random)
    return proto.SerializeToString()


def import_within_seconds(data: bytes, folder: Path) -> Model | LipcertError:
    path = save(data, folder)
    start = time.perf_counter()
    found = outcome(lambda: load_file(path))
    assert time.perf_counter() - start < SECONDS
    if isinstance(found, LipcertError):
        assert isinstance(found, ModelError)
        assert found.exit_status == 3
        assert "\n" not in str(found)
    return found


@pytest.mark.parametrize("seed", range(200))
def test_a_mutated_network_is_imported_or_refused(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    data = (MODELS / f"{NAMES[seed % len(NAMES)]}.onnx").read_bytes()
    mutate = flip_bits if random.random() < 0.4 else edit_fields
    import_within_seconds(mutate(data, random), tmp_path)


@pytest.mark.parametrize("edit", EDITS, ids=lambda e: e.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_each_kind_of_edit_is_imported_or_refused(edit: Mutation, name: str, tmp_path: Path) -> None:
    proto = onnx.load_model(MODELS / f"{name}.onnx")
    edit(proto, np.random.default_rng(len(name)))
    import_within_seconds(proto.SerializeToString(), tmp_path)
