"""Files made to harm: of another kind, that name files elsewhere, that mean two things, that wrap around or do not fit.

Each is refused in one line that names the file and the place; those that take too long are in test_hostile_sizes.py.
"""

from __future__ import annotations

import gzip
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lipcert.errors import ModelError
from lipcert.frontend import Model, load_file, load_proto
from lipcert.frontend.registry import supported_ops
from tests.helpers.onnx_models import assert_refused, integers, model, one_op, outcome, random_weights, save

node = helper.make_node

GIB = 1024**3


def assert_refused_file(path: Path, *words: str) -> None:
    """Malformed or unsupported, in one line that names the file and every word."""
    found = outcome(lambda: load_file(path))
    assert not isinstance(found, Model), "taken without a word"
    assert isinstance(found, ModelError)
    assert_refused(lambda: load_file(path), type(found), str(path), *words)


def assert_refused_model(proto: onnx.ModelProto, *words: str, check: bool = True) -> None:
    found = outcome(lambda: load_proto(proto, check=check))
    assert not isinstance(found, Model), "taken without a word"
    assert isinstance(found, ModelError)
    assert_refused(lambda: load_proto(proto, check=check), type(found), *words)


# ---------------------------------------------------------------------------- other kinds of files


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weight": [1.0]}))
        archive.writestr("archive/version", "3\n")
    return stream.getvalue()


OTHER_KINDS: dict[str, bytes] = {
    "model.pt": zipped(),
    "model.pkl": pickle.dumps({"weight": np.ones(3)}),
    "model.onnx.gz": gzip.compress(one_op("Relu", (2, 3)).SerializeToString()),
    "weights.npy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }",
    "model.h5": b"\x89HDF\r\n\x1a\n" + bytes(64),
    "model.tflite": b"\x1c\x00\x00\x00TFL3" + bytes(64),
    "model.safetensors": b"\x40\0\0\0\0\0\0\0" + b'{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}'.ljust(76),
    "zeros.bin": bytes(4096),
    "function.onnx": helper.make_function("d", "F", ["x"], ["y"], [node("Relu", ["x"], ["y"])], []).SerializeToString(),
    "tensor.pb": numpy_helper.from_array(random_weights(3), "w").SerializeToString(),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_KINDS)
def test_a_file_of_another_kind_is_refused(name: str, tmp_path: Path) -> None:
    assert_refused_file(save(OTHER_KINDS[name], tmp_path, name), "not an ONNX file")


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "was here"

    class Trap:
        def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
            return os.mkdir, (str(mark),)

    assert_refused_file(save(pickle.dumps(Trap()), tmp_path, "model.pt"), "not an ONNX file")
    assert not mark.exists()


# ---------------------------------------------------------------------------- files elsewhere


def stored_outside(location: str, name: str = "w") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def info(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def in_a_branch(tensor: TensorProto, *, as_constant: bool) -> onnx.ModelProto:
    """The tensor as an initializer, or a constant, of a branch of If."""
    add = node("Add", ["x", "w"], ["t"], name="inner")
    nodes = [node("Constant", [], ["w"], value=tensor), add] if as_constant else [add]
    then = helper.make_graph(nodes, "then", [], [info("t")], [] if as_constant else [tensor])
    other = helper.make_graph([node("Relu", ["x"], ["e"])], "else", [], [info("e")])
    chosen = node("If", ["yes"], ["y"], then_branch=then, else_branch=other, name="choice")
    return model([chosen], {"x": (3,)}, ["y"], {"yes": np.array(True)})


def in_a_function(tensor: TensorProto) -> onnx.ModelProto:
    body = [node("Constant", [], ["w"], value=tensor), node("Add", ["x", "w"], ["y"])]
    function = helper.make_function("local", "F", ["x"], ["y"], body, [helper.make_opsetid("", 20)])
    return model(
        [node("F", ["x"], ["y"], domain="local")], {"x": (3,)}, ["y"], functions=[function], domains={"local": 1}
    )


PLACES: dict[str, Callable[[TensorProto], onnx.ModelProto]] = {
    "initializer of a branch": lambda tensor: in_a_branch(tensor, as_constant=False),
    "constant of a branch": lambda tensor: in_a_branch(tensor, as_constant=True),
    "constant of a function": in_a_function,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("escape", ["absolute", "parent", "link"])
def test_weights_outside_the_folder_are_refused_wherever_the_file_names_them(
    place: str, escape: str, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(np.array([1, 2, 3], np.float32).tobytes())
    (folder / "link.bin").symlink_to("../secret.bin")
    location = {"absolute": str(tmp_path / "secret.bin"), "parent": "../secret.bin", "link": "link.bin"}[escape]
    proto = PLACES[place](stored_outside(location))
    words = ("outside", repr(location))
    assert_refused_file(save(proto, folder), *words)


@pytest.mark.parametrize("place", PLACES)
def test_a_model_in_memory_has_no_external_data_anywhere(place: str) -> None:
    words = "external data"
    assert_refused_model(PLACES[place](stored_outside("w.bin")), words)


@pytest.mark.parametrize("place", PLACES)
def test_external_data_inside_is_digested_wherever_the_file_names_it_or_refused(place: str, tmp_path: Path) -> None:
    """What is not digested can change without the report noticing."""
    (tmp_path / "w.bin").write_bytes(np.array([1, 2, 3], np.float32).tobytes())
    found = outcome(lambda: load_file(save(PLACES[place](stored_outside("w.bin")), tmp_path)))
    if isinstance(found, Model):
        assert list(found.external_data) == ["w.bin"]
    else:
        assert isinstance(found, ModelError)


def test_a_ring_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.bin").symlink_to("w.bin")
    proto = one_op("Add", (3,), random_weights(3))
    proto.graph.initializer[0].CopyFrom(stored_outside("w.bin", "c0"))
    assert_refused_file(save(proto, tmp_path), "'c0'", "w.bin")


def test_a_model_that_is_a_ring_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").symlink_to("model.onnx")
    assert_refused_file(tmp_path / "model.onnx")


def test_a_file_over_two_gibibytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as stream:
        stream.truncate(2 * GIB + 1)  # a hole: it takes no space
    assert_refused(lambda: load_file(path), ModelError, str(path), "2 GiB")


# ---------------------------------------------------------------------------- two meanings


def two_outputs_of_one_name() -> onnx.ModelProto:
    return model([node("Relu", ["x"], ["twice"], name="first")], {"x": (2, 3)}, ["twice", "twice"])


def two_functions_of_one_name() -> onnx.ModelProto:
    bodies = ([node(op, ["x"], ["y"])] for op in ("Relu", "Neg"))
    both = [helper.make_function("local", "twice", ["x"], ["y"], b, [helper.make_opsetid("", 20)]) for b in bodies]
    call = node("twice", ["x"], ["y"], domain="local")
    return model([call], {"x": (2, 3)}, ["y"], functions=both, domains={"local": 1})


def a_function_with_two_inputs_of_one_name() -> onnx.ModelProto:
    body = [node("Sub", ["twice", "twice"], ["y"])]
    function = helper.make_function("local", "F", ["twice", "twice"], ["y"], body, [helper.make_opsetid("", 20)])
    call = node("F", ["x", "w"], ["y"], domain="local")
    weights = {"w": random_weights(3)}
    return model([call], {"x": (3,)}, ["y"], weights, functions=[function], domains={"local": 1})


def a_function_that_sets_a_tensor_twice() -> onnx.ModelProto:
    body = [node("Relu", ["x"], ["twice"]), node("Neg", ["x"], ["twice"]), node("Neg", ["twice"], ["y"])]
    function = helper.make_function("local", "F", ["x"], ["y"], body, [helper.make_opsetid("", 20)])
    return model(
        [node("F", ["x"], ["y"], domain="local")], {"x": (3,)}, ["y"], functions=[function], domains={"local": 1}
    )


def an_opset_imported_twice() -> onnx.ModelProto:
    """ReduceMean of opset 9 takes no second input."""
    proto = one_op("ReduceMean", (2, 3), integers(1))
    proto.opset_import.append(helper.make_opsetid("", 9))
    return proto


def an_opset_imported_under_both_names() -> onnx.ModelProto:
    proto = one_op("ReduceMean", (2, 3), integers(1))
    proto.opset_import.append(helper.make_opsetid("ai.onnx", 9))
    return proto


def two_outputs_of_a_node_of_one_name() -> onnx.ModelProto:
    split = node("Split", ["x"], ["twice", "twice"], axis=0, num_outputs=2, name="first")
    return model([split, node("Relu", ["twice"], ["y"])], {"x": (2, 3)}, ["y"])


TWO_MEANINGS: dict[str, tuple[onnx.ModelProto, str]] = {
    "outputs": (two_outputs_of_one_name(), "twice"),
    "outputs of a node": (two_outputs_of_a_node_of_one_name(), "twice"),
    "functions": (two_functions_of_one_name(), "twice"),
    "inputs of a function": (a_function_with_two_inputs_of_one_name(), "twice"),
    "tensors of a function": (a_function_that_sets_a_tensor_twice(), "twice"),
    "opsets": (an_opset_imported_twice(), "opset"),
    "opsets by both names": (an_opset_imported_under_both_names(), "opset"),
}


@pytest.mark.parametrize("what", TWO_MEANINGS)
def test_what_is_named_twice_is_refused(what: str) -> None:
    """Readers differ in which of the two they take, so no reading of it can be certified."""
    proto, word = TWO_MEANINGS[what]
    assert_refused_model(proto, word)


def shadowing_branch() -> onnx.ModelProto:
    """A branch that sets a tensor of the graph around it: ONNX forbids it."""
    then = helper.make_graph(
        [node("Neg", ["x"], ["h"], name="shadow"), node("Relu", ["h"], ["t"])], "then", [], [info("t")]
    )
    other = helper.make_graph([node("Relu", ["x"], ["e"])], "else", [], [info("e")])
    nodes = [
        node("Relu", ["x"], ["h"]),
        node("If", ["yes"], ["c"], then_branch=then, else_branch=other, name="choice"),
        node("Add", ["c", "h"], ["y"]),
    ]
    return model(nodes, {"x": (3,)}, ["y"], {"yes": np.array(True)})


def test_a_branch_that_sets_a_tensor_of_the_graph_around_it_is_refused() -> None:
    assert_refused_model(shadowing_branch(), "'h'" if "If" in supported_ops() else "choice")


def test_a_function_in_place_of_a_standard_op_is_refused_or_read_as_onnxruntime_does() -> None:
    """Relu that is -x: whoever reads the op instead of the body certifies another network."""
    standard = helper.make_opsetid("", 20)
    function = helper.make_function("", "Relu", ["x"], ["y"], [node("Neg", ["x"], ["y"])], [standard])
    proto = model([node("Relu", ["x"], ["y"], name="the_node")], {"x": (3,)}, ["y"], functions=[function])
    found = outcome(lambda: load_proto(proto))
    assert isinstance(found, Model | ModelError)
    if isinstance(found, Model):
        assert found.check is not None


def test_a_function_without_an_opset_is_refused() -> None:
    function = helper.make_function("local", "F", ["x"], ["y"], [node("Relu", ["x"], ["y"], name="inner")], [])
    proto = model(
        [node("F", ["x"], ["y"], domain="local")], {"x": (3,)}, ["y"], functions=[function], domains={"local": 1}
    )
    found = outcome(lambda: load_proto(proto))
    assert isinstance(found, Model | ModelError)


# ---------------------------------------------------------------------------- rings


def ring(size: int) -> onnx.ModelProto:
    """Functions that call each other in a ring."""
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("local", 1)]
    functions = []
    for k in range(size):
        body = [node(f"F{(k + 1) % size}", ["x"], ["h"], domain="local"), node("Relu", ["h"], ["y"])]
        functions.append(helper.make_function("local", f"F{k}", ["x"], ["y"], body, imports))
    call = node("F0", ["x"], ["y"], domain="local", name="call")
    return model([call], {"x": (2, 3)}, ["y"], functions=functions, domains={"local": 1})


@pytest.mark.parametrize("size", [1, 2, 7])
def test_functions_that_call_each_other_in_a_ring_are_refused(size: int) -> None:
    assert_refused_model(ring(size), "F0", "yclic")


def test_a_ring_of_tensors_inside_a_function_is_refused() -> None:
    body = [node("Add", ["x", "b"], ["a"], name="inner"), node("Relu", ["a"], ["b"]), node("Neg", ["b"], ["y"])]
    function = helper.make_function("local", "F", ["x"], ["y"], body, [helper.make_opsetid("", 20)])
    proto = model(
        [node("F", ["x"], ["y"], domain="local")], {"x": (3,)}, ["y"], functions=[function], domains={"local": 1}
    )
    assert_refused_model(proto, "b")


# ---------------------------------------------------------------------------- numbers that wrap around

BIG = 2**62
LEAST = -(2**63)

WRAPS: dict[str, tuple[list[np.ndarray], dict[str, Any]]] = {
    "Mul": ([integers(BIG), integers(4)], {}),
    "Add": ([integers(2 * BIG - 1), integers(2)], {}),
    "Sub": ([integers(LEAST), integers(1)], {}),
    "Neg": ([integers(LEAST)], {}),
    "Abs": ([integers(LEAST)], {}),
    "Div": ([integers(LEAST), integers(-1)], {}),
    "ReduceProd": ([integers(BIG, 4)], {}),
    "ReduceSum": ([integers(2 * BIG - 1, 2)], {}),
}


@pytest.mark.parametrize("op", WRAPS)
def test_shape_arithmetic_that_overflows_is_refused(op: str) -> None:
    """ONNX does not say that it wraps around."""
    inputs, attributes = WRAPS[op]
    weights = {f"i{k}": array for k, array in enumerate(inputs)}
    nodes = [node(op, list(weights), ["s"], name="large", **attributes), node("Reshape", ["x", "s"], ["y"])]
    assert_refused_model(model(nodes, {"x": (1,)}, ["y"], weights), op, "large", "overflow")


def test_an_overflow_that_comes_out_as_a_likely_size_is_refused() -> None:
    """2^62 * 4 + 6 is 6 modulo 2^64."""
    nodes = [
        node("Mul", ["big", "four"], ["zero"], name="wraps"),
        node("Add", ["zero", "six"], ["s"]),
        node("Reshape", ["x", "s"], ["y"]),
    ]
    weights = {"big": integers(BIG), "four": integers(4), "six": integers(6)}
    assert_refused_model(model(nodes, {"x": (2, 3)}, ["y"], weights), "Mul", "wraps")


@pytest.mark.parametrize("op", ["Div", "Mod"])
def test_shape_arithmetic_that_divides_by_zero_is_refused(op: str) -> None:
    nodes = [node(op, ["six", "nothing"], ["s"], name="by_zero"), node("Reshape", ["x", "s"], ["y"])]
    weights = {"six": integers(6), "nothing": integers(0)}
    assert_refused_model(model(nodes, {"x": (1,)}, ["y"], weights), op, "by_zero")


def test_a_cast_that_loses_the_number_is_refused() -> None:
    """2^32 + 6 is 6 in 32 bits, on most machines."""
    nodes = [
        node("Cast", ["large"], ["small"], to=TensorProto.INT32, name="narrow"),
        node("Cast", ["small"], ["s"], to=TensorProto.INT64),
        node("Reshape", ["x", "s"], ["y"]),
    ]
    assert_refused_model(model(nodes, {"x": (2, 3)}, ["y"], {"large": integers(2**32 + 6)}), "Cast", "narrow")


# ---------------------------------------------------------------------------- shapes that do not fit

IMAGE = (1, 4, 6, 6)


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


MISFITS: dict[str, onnx.ModelProto] = {
    "Clip bounds": one_op("Clip", (2, 3), f32(0, 1), f32(2, 3)),
    "ConvTranspose channels": one_op("ConvTranspose", IMAGE, random_weights(3, 2, 3, 3)),
    "ConvTranspose output_padding": one_op("ConvTranspose", IMAGE, random_weights(4, 2, 3, 3), output_padding=[5, 5]),
    "ConvTranspose output_shape": one_op("ConvTranspose", IMAGE, random_weights(4, 2, 3, 3), output_shape=[-1, 3]),
    "DepthToSpace": one_op("DepthToSpace", (1, 3, 2, 2), blocksize=2),
    "Einsum sizes": one_op("Einsum", (2, 3), random_weights(4, 5), equation="ij,jk->ik"),
    "Einsum letters": one_op("Einsum", (2, 3), random_weights(3, 5), equation="ij,jk->iz"),
    "Einsum terms": one_op("Einsum", (2, 3), equation="ij,jk->ik"),
    "Expand": one_op("Expand", (2, 3), integers(2, 4)),
    "Gather index": one_op("Gather", (2, 3), integers(2)),
    "Gather axis": one_op("Gather", (2, 3), integers(0), axis=2),
    "GatherElements": one_op("GatherElements", (2, 3), integers(0)),
    "GatherND": one_op("GatherND", (2, 3), np.array([[0, 5]])),
    "GroupNormalization": one_op("GroupNormalization", (1, 4, 3), ones(4), ones(4), opset=21, num_groups=3),
    "InstanceNormalization": one_op("InstanceNormalization", (1, 2, 4), f32(1, 2, 3), f32(1, 2, 3)),
    "LayerNormalization scale": one_op("LayerNormalization", (2, 3), random_weights(4)),
    "LayerNormalization axis": one_op("LayerNormalization", (2, 3), random_weights(3), axis=2),
    "LSTM": one_op("LSTM", (1, 1, 3), random_weights(1, 8, 3), random_weights(1, 8, 3), hidden_size=2),
    "Max": one_op("Max", (2, 3), random_weights(4)),
    "MaxPool kernel": one_op("MaxPool", (1, 1, 3, 3), kernel_shape=[4, 4]),
    "MaxPool pads": one_op("MaxPool", (1, 1, 3, 3), kernel_shape=[2, 2], pads=[0, 0, 0, 5]),
    "MaxPool strides": one_op("MaxPool", (1, 1, 3, 3), kernel_shape=[2, 2], strides=[0, 1]),
    "Min": one_op("Min", (2, 3), random_weights(4)),
    "PRelu": one_op("PRelu", (2, 3), random_weights(4)),
    "ReduceSum": one_op("ReduceSum", (2, 3), integers(2)),
    "ReduceMax": one_op("ReduceMax", (2, 3), integers(0, 0)),
    "Resize sizes": one_op("Resize", IMAGE, None, None, integers(1, 4, 12)),
    "Resize scales": one_op("Resize", IMAGE, None, f32(1, 1, -2, 2)),
    "Slice step": one_op("Slice", (2, 3), integers(0), integers(2), integers(0), integers(0)),
    "Slice axis": one_op("Slice", (2, 3), integers(0), integers(2), integers(2)),
    "Slice lengths": one_op("Slice", (2, 3), integers(0, 0), integers(2), integers(0)),
    "Softmax": one_op("Softmax", (2, 3), axis=2),
    "SpaceToDepth": one_op("SpaceToDepth", (1, 1, 3, 3), blocksize=2),
    "Split sizes": one_op("Split", (6, 2), integers(2, 5)),
    "Split parts": one_op("Split", (6, 2), num_outputs=7),
    "Sum": one_op("Sum", (2, 3), random_weights(4)),
    "Tile": one_op("Tile", (2, 3), integers(2)),
    "Tile negative": one_op("Tile", (2, 3), integers(2, -1)),
    "TopK": one_op("TopK", (2, 3), integers(4)),
    "Trilu": one_op("Trilu", (3,)),
    "Where": one_op("Where", (2, 3), np.ones(4, bool), random_weights(2, 3), live=1),
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS)
def test_shapes_that_do_not_fit_are_refused(case: str) -> None:
    """By the importer itself: onnxruntime does not check every one."""
    assert_refused_model(MISFITS[case], case.split(maxsplit=1)[0], "the_node", check=False)
