"""Edits of tensors, of the files that weights lie in, and of what a model declares: inputs, outputs, versions."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.helpers.fuzzing_bases import Draft
from tests.helpers.fuzzing_edits import (
    INTEGERS,
    NAMES,
    Nothing,
    Random,
    names,
    of_fields,
    pick,
    place,
    replaced,
    tensors,
)

# ---------------------------------------------------------------------------- tensors


@of_fields
def tensor_dim(draft: Draft, random: Random) -> None:
    tensor = pick(random, [t for t in tensors(draft) if t.dims])
    tensor.dims[place(random, tensor.dims)] = pick(random, INTEGERS)


@of_fields
def tensor_dims_permuted(draft: Draft, random: Random) -> None:
    tensor = pick(random, [t for t in tensors(draft) if len(t.dims) > 1])
    dims = [tensor.dims[i] for i in random.permutation(len(tensor.dims))]
    tensor.ClearField("dims")
    tensor.dims.extend(dims)


@of_fields
def tensor_rank(draft: Draft, random: Random) -> None:
    tensor = pick(random, tensors(draft))
    dims = pick(
        random, [[*tensor.dims, 1], [1, *tensor.dims], [int(np.prod(tensor.dims))], [1] * 70 + [*tensor.dims], []]
    )
    tensor.ClearField("dims")
    tensor.dims.extend(dims)


@of_fields
def tensor_data_cut(draft: Draft, random: Random) -> None:
    tensor = pick(random, [t for t in tensors(draft) if t.raw_data])
    tensor.raw_data = tensor.raw_data[: place(random, tensor.raw_data)]


@of_fields
def tensor_data_longer(draft: Draft, random: Random) -> None:
    pick(random, tensors(draft)).raw_data += bytes(int(random.integers(1, 64)))


@of_fields
def tensor_data_in_a_field(draft: Draft, random: Random) -> None:
    tensor = pick(random, tensors(draft))
    if random.random() < 0.5:
        tensor.ClearField("raw_data")
    tensor.float_data.extend([1.5] * int(random.integers(1, 20)))
    tensor.int64_data.extend([3] * int(random.integers(3)))


@of_fields
def tensor_type(draft: Draft, random: Random) -> None:
    pick(random, tensors(draft)).data_type = int(random.integers(-1, 30))


@of_fields
def tensor_converted(draft: Draft, random: Random) -> None:
    """The same numbers in another format: double, half, integers, text."""
    tensor = pick(random, [t for t in tensors(draft) if t.raw_data and t.data_location != TensorProto.EXTERNAL])
    array = _array(tensor)
    with np.errstate(all="ignore"):
        new = array.astype(pick(random, [np.float64, np.float16, np.int64, np.int8, np.bool_, np.complex64]))
    tensor.CopyFrom(numpy_helper.from_array(new, tensor.name))


@of_fields
def tensor_value(draft: Draft, random: Random) -> None:
    """NaN, infinity, the largest, the smallest: one entry or all."""
    tensor = pick(random, [t for t in tensors(draft) if t.raw_data and t.data_type in (1, 10, 11)])
    array = _array(tensor).copy()
    value = np.float64(pick(random, [np.nan, np.inf, -np.inf, 3e38, 1e-45, 1e20, 0.0]))
    with np.errstate(all="ignore"):
        if random.random() < 0.5:
            array.reshape(-1)[place(random, array.reshape(-1))] = value
        else:
            array[...] = value
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


@of_fields
def tensor_integer(draft: Draft, random: Random) -> None:
    """An entry of a shape, of axes or of indices."""
    tensor = pick(random, [t for t in tensors(draft) if t.raw_data and t.data_type == TensorProto.INT64])
    array = _array(tensor).copy()
    array.reshape(-1)[place(random, array.reshape(-1))] = pick(random, INTEGERS)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _array(tensor: TensorProto) -> np.ndarray:
    try:
        return numpy_helper.to_array(tensor)
    except Exception:
        raise Nothing from None


@of_fields
def tensor_dropped(draft: Draft, random: Random) -> None:
    stored = draft.proto.graph.initializer
    del stored[place(random, stored)]


@of_fields
def tensor_twice(draft: Draft, random: Random) -> None:
    stored = draft.proto.graph.initializer
    replaced(stored, [*stored, pick(random, stored)])


@of_fields
def tensor_computed(draft: Draft, random: Random) -> None:
    """An initializer becomes the result of a node that makes as large a tensor as it is told."""
    graph = draft.proto.graph
    k = place(random, graph.initializer)
    name = graph.initializer[k].name
    del graph.initializer[k]
    sizes = [pick(random, [1, 2, 3, 2**10, 2**14, 2**20, 2**40]) for _ in range(int(random.integers(1, 4)))]
    graph.initializer.append(numpy_helper.from_array(np.array(sizes), "sizes"))
    if random.random() < 0.5:
        made = [helper.make_node("ConstantOfShape", ["sizes"], [name])]
    else:
        one = numpy_helper.from_array(np.ones([1] * len(sizes), np.float32))
        made = [helper.make_node("Constant", [], ["one"], value=one)]
        made.append(helper.make_node(pick(random, ["Expand", "Tile"]), ["one", "sizes"], [name]))
    replaced(graph.node, [*made, *graph.node])


@of_fields
def tensor_sparse(draft: Draft, random: Random) -> None:
    values = numpy_helper.from_array(np.ones(2, np.float32), pick(random, names(draft)))
    where = numpy_helper.from_array(np.array([0, 1]))
    draft.proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, where, [3, 4]))


# ---------------------------------------------------------------------------- weights in other files


@of_fields
def external_location(draft: Draft, random: Random) -> None:
    tensor = pick(random, tensors(draft))
    tensor.data_location = TensorProto.EXTERNAL
    draft.links |= {"link.bin": "/etc/passwd", "loop.bin": "loop.bin", "folder": "/etc"}
    draft.files.setdefault("short.bin", b"\0" * 7)
    places = ["../x", "/etc/passwd", "link.bin", "loop.bin", "folder/passwd", "short.bin", "model.onnx", "..", ".", "",
              "gone.bin", "/dev/zero", "/proc/self/mem", "a\0b", "x" * 5000, "%s", "~/x", "weights.bin/x"]  # fmt: skip
    del tensor.external_data[:]
    tensor.external_data.add(key="location", value=pick(random, places))


@of_fields
def external_range(draft: Draft, random: Random) -> None:
    tensor = pick(random, [t for t in tensors(draft) if t.data_location == TensorProto.EXTERNAL])
    key = pick(random, ["offset", "length", "checksum", "basepath", "location"])
    tensor.external_data.add(key=key, value=pick(random, [*map(str, INTEGERS), "", "many", "1e3", "0x10", "٣", " 1"]))


@of_fields
def external_file(draft: Draft, random: Random) -> None:
    name = pick(random, draft.files)
    data = draft.files[name]
    draft.files[name] = pick(random, [b"", data[: len(data) // 2], data + b"\0", b"\xff" * len(data)])


# ---------------------------------------------------------------------------- inputs, outputs, versions


@of_fields
def input_size(draft: Draft, random: Random) -> None:
    shape = pick(random, draft.proto.graph.input).type.tensor_type.shape
    shape.dim[place(random, shape.dim)].dim_value = pick(random, INTEGERS)


@of_fields
def input_large(draft: Draft, random: Random) -> None:
    """Large, and below every limit."""
    shape = pick(random, draft.proto.graph.input).type.tensor_type.shape
    shape.dim[place(random, shape.dim)].dim_value = pick(random, [2**10, 2**13, 2**16, 2**20, 2**24, 2**27])


@of_fields
def input_symbolic(draft: Draft, random: Random) -> None:
    shape = pick(random, draft.proto.graph.input).type.tensor_type.shape
    shape.dim[place(random, shape.dim)].dim_param = pick(random, ["n", "", "1", "a\nb"])


@of_fields
def input_rank(draft: Draft, random: Random) -> None:
    shape = pick(random, draft.proto.graph.input).type.tensor_type.shape
    if random.random() < 0.5:
        del shape.dim[place(random, shape.dim)]
    else:
        for _ in range(pick(random, [1, 2, 70])):
            shape.dim.add(dim_value=1)


@of_fields
def input_type(draft: Draft, random: Random) -> None:
    value = pick(random, draft.proto.graph.input)
    change = int(random.integers(5))
    if change == 0:
        value.type.tensor_type.elem_type = int(random.integers(-1, 30))
    elif change == 1:
        value.type.tensor_type.ClearField("shape")
    elif change == 2:
        value.ClearField("type")
    elif change == 3:
        value.type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT
    else:
        value.type.optional_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT


@of_fields
def input_added(draft: Draft, random: Random) -> None:
    name = pick(random, [*names(draft), *NAMES])
    draft.proto.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]))


@of_fields
def output_added(draft: Draft, random: Random) -> None:
    name = pick(random, [*names(draft), *NAMES])
    draft.proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))


@of_fields
def output_declared(draft: Draft, random: Random) -> None:
    value = pick(random, draft.proto.graph.output)
    shape = [pick(random, INTEGERS) for _ in range(int(random.integers(4)))]
    value.CopyFrom(helper.make_tensor_value_info(value.name, int(random.integers(1, 12)), shape))


@of_fields
def inputs_or_outputs_gone(draft: Draft, random: Random) -> None:
    draft.proto.graph.ClearField(pick(random, ["input", "output"]))


@of_fields
def declared_inside(draft: Draft, random: Random) -> None:
    """A shape for a tensor inside, right or not."""
    shape = [pick(random, INTEGERS) for _ in range(int(random.integers(4)))]
    draft.proto.graph.value_info.append(
        helper.make_tensor_value_info(pick(random, names(draft)), int(random.integers(1, 12)), shape)
    )


@of_fields
def opset(draft: Draft, random: Random) -> None:
    pick(random, draft.proto.opset_import).version = pick(random, [*INTEGERS, *range(1, 30)])


@of_fields
def opset_dropped(draft: Draft, random: Random) -> None:
    imports = pick(random, [m.opset_import for m in (draft.proto, *draft.proto.functions)])
    del imports[place(random, imports)]


@of_fields
def opset_twice(draft: Draft, random: Random) -> None:
    draft.proto.opset_import.append(
        helper.make_opsetid(pick(random, ["", "ai.onnx", "local"]), pick(random, [1, 9, 13, 21]))
    )


@of_fields
def ir_version(draft: Draft, random: Random) -> None:
    draft.proto.ir_version = pick(random, [*INTEGERS, *range(1, 15)])


@of_fields
def strange_text(draft: Draft, random: Random) -> None:
    text = pick(random, NAMES)
    field = pick(random, ["producer_name", "producer_version", "domain", "doc_string"])
    setattr(draft.proto, field, text)
    draft.proto.graph.name = text
    draft.proto.metadata_props.add(key=text, value=text)
