"""ONNX Loops that run fixed-point iterations, in all the ways that people write them, and their fixed points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from lipcert.frontend.fixed_point_form import define_functions
from tests.helpers.onnx_models import model, random_weights

node = helper.make_node
BOOL, INT64 = TensorProto.BOOL, TensorProto.INT64
SIZE, INPUTS = 4, 3


def info(name: str, element: int = TensorProto.FLOAT, shape: Sequence[int] | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def constant(name: str, value: object, dtype: type = np.float32) -> NodeProto:
    return node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value, dtype), name))


def contraction(size: int = SIZE, seed: int = 3, norm: float = 0.6) -> np.ndarray:
    """A square matrix of this spectral norm."""
    a = np.random.default_rng(seed).standard_normal((size, size))
    return np.asarray(norm * a / np.linalg.norm(a, 2), np.float32)


def body_graph(
    nodes: Sequence[NodeProto],
    stored: Sequence[TensorProto] = (),
    carried: Sequence[tuple[str, str]] = (("z", "z_next"),),
    element: int = TensorProto.FLOAT,
    ends: Sequence[str] = ("still",),
) -> GraphProto:
    """A Loop's body; `carried` are pairs of a state and the next one, `ends` its condition and scan outputs."""
    inputs = [info("i", INT64, []), info("go", BOOL, []), *(info(before, element) for before, _ in carried)]
    outputs = [info(ends[0], BOOL, []), *(info(after, element) for _, after in carried)]
    return helper.make_graph(list(nodes), "body", inputs, [*outputs, *(info(e, element) for e in ends[1:])], stored)


STEPS: dict[str, list[NodeProto]] = {
    "undamped": [node("Identity", ["f"], ["z_next"])],
    "outer": [
        constant("step", 0.5),
        node("Sub", ["f", "z"], ["d"]),
        node("Mul", ["step", "d"], ["m"]),
        node("Add", ["z", "m"], ["z_next"]),
    ],
    "average": [  # 0.1 and 0.9 in float32 do not add to one
        constant("share", 0.1),
        constant("kept", 0.9),
        node("Mul", ["f", "share"], ["m"]),
        node("Mul", ["kept", "z"], ["k"]),
        node("Add", ["m", "k"], ["z_next"]),
    ],
    "difference": [  # 3 z - 2 z + (f - z) / 4, in pieces
        constant("quarter", 0.25),
        node("Sub", ["f", "z"], ["d"]),
        node("Mul", ["d", "quarter"], ["m"]),
        node("Add", ["z", "z"], ["zz"]),
        node("Sub", ["zz", "z"], ["k"]),
        node("Add", ["k", "m"], ["z_next"]),
    ],
    "divided": [constant("two", 2.0), node("Add", ["f", "z"], ["s"]), node("Div", ["s", "two"], ["z_next"])],
    "mean": [node("Mean", ["f", "z"], ["z_next"])],
}
"""From z and f = phi(A z + u) to the next state."""

INNER = [
    constant("step", 0.5),
    node("Add", ["az", "u"], ["v"]),
    node("Sub", ["v", "z"], ["d"]),
    node("Mul", ["step", "d"], ["m"]),
    node("Add", ["z", "m"], ["argument"]),
    node("Relu", ["argument"], ["z_next"]),
]
"""From z and az = A z to phi((1 - a) z + a (A z + u)), whose fixed points are those of phi(A z + u) for ReLU."""

CONDITIONS: dict[str, list[NodeProto]] = {
    "passed on": [node("Identity", ["go"], ["still"])],
    "true": [constant("still", True, np.bool_)],
    "tolerance": [
        constant("tolerance", 1e-6),
        node("Sub", ["z_next", "z"], ["moved"]),
        node("Abs", ["moved"], ["far"]),
        node("ReduceMax", ["far"], ["change"], keepdims=0),
        node("Greater", ["change", "tolerance"], ["still"]),
    ],
}

STARTS: dict[str, list[NodeProto]] = {
    "stored": [],
    "difference": [node("Sub", ["u", "u"], ["z0"])],
    "zeros": [node("Shape", ["u"], ["u_shape"]), node("ConstantOfShape", ["u_shape"], ["z0"])],
    "input": [node("Tanh", ["u"], ["z0"])],
    "scaled": [node("Mul", ["u", "nothing"], ["z0"])],
}


@dataclass(frozen=True)
class Iterated:
    """z = relu(A z + U x + b), y = C z, by a Loop."""

    step: str = "outer"
    start: str = "stored"
    condition: str = "passed on"
    trips: int | None = 60
    weights: str = "outside"
    bias: bool = True
    dtype: type = np.float32
    batch: tuple[int, ...] = (1,)
    activation: str = "Relu"
    phi: Callable[[np.ndarray], np.ndarray] = field(default=lambda v: np.maximum(v, 0))
    head: bool = True

    @property
    def element(self) -> int:
        return helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))

    def arrays(self) -> dict[str, np.ndarray]:
        found = {"A": contraction(), "U": random_weights(INPUTS, SIZE, seed=5), "C": random_weights(SIZE, 2, seed=6)}
        found["b"] = random_weights(SIZE, seed=7) if self.bias else np.zeros(SIZE)
        return {name: array.astype(self.dtype) for name, array in found.items()}

    def body(self) -> GraphProto:
        stored: list[TensorProto] = []
        nodes: list[NodeProto] = []
        if self.weights == "body":
            stored.append(numpy_helper.from_array(self.arrays()["A"].T.copy(), "At"))
        elif self.weights == "nodes":
            nodes.append(constant("At", self.arrays()["A"].T, self.dtype))
        nodes.append(node("MatMul", ["z", "At"], ["az"]))
        if self.step == "inner":
            nodes += INNER
        else:
            nodes += [node("Add", ["az", "u"], ["v"]), node(self.activation, ["v"], ["f"]), *STEPS[self.step]]
        nodes += CONDITIONS[self.condition]
        return body_graph([in_type(n, self.dtype) for n in nodes], stored, element=self.element)

    def proto(self) -> onnx.ModelProto:
        arrays = self.arrays()
        weights = {name: arrays[name] for name in "UbC"} if self.head else {name: arrays[name] for name in "Ub"}
        if self.weights == "outside":
            weights["At"] = arrays["A"].T.copy()
        if self.start == "stored":
            weights["z0"] = np.full((*self.batch, SIZE), 0.25, self.dtype)
        if self.start == "scaled":
            weights["nothing"] = np.zeros(1, self.dtype)
        weights["true"] = np.array(True)
        if self.trips is not None:
            weights["trips"] = np.array(self.trips, np.int64)
        zero = numpy_helper.from_array(np.zeros(1, self.dtype), "zero")
        start = [node(n.op_type, n.input, n.output, value=zero) if n.op_type == "ConstantOfShape" else n
                 for n in STARTS[self.start]]  # fmt: skip
        loop = node("Loop", ["" if self.trips is None else "trips", "true", "z0"], ["z_end"], "loop", body=self.body())
        before = [node("MatMul", ["x", "U"], ["ux"]), node("Add", ["ux", "b"], ["u"]), *start]
        after = [node("MatMul", ["z_end", "C"], ["y"])] if self.head else [node("Identity", ["z_end"], ["y"])]
        shape = (*self.batch, INPUTS)
        return model([*before, loop, *after], {"x": shape}, ["y"], weights, element=self.element)

    def value(self, x: np.ndarray) -> np.ndarray:
        """The network of the fixed point, in float64."""
        arrays = {name: array.astype(np.float64) for name, array in self.arrays().items()}
        one, share, kept = (float(np.asarray(v, self.dtype)) for v in (1, 0.1, 0.9))
        scale = share / (one - kept) if self.step == "average" else 1.0
        u = x @ arrays["U"] + arrays["b"]
        z = solved(lambda z: scale * self.phi(z @ arrays["A"].T + u), (*x.shape[:-1], SIZE))
        return z @ arrays["C"] if self.head else z


def in_type(given: NodeProto, dtype: type) -> NodeProto:
    """A node with its float constant in another type."""
    found = onnx.NodeProto()
    found.CopyFrom(given)
    for attribute in found.attribute:
        if attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(attribute.t).astype(dtype)
            attribute.t.CopyFrom(numpy_helper.from_array(array, attribute.t.name))
    return found


def solved(step: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Where z is step(z), of a contraction."""
    z = np.zeros(shape)
    for _ in range(2000):
        z, last = step(z), z
        if np.abs(z - last).max() <= 1e-15 * (1 + np.abs(z).max()):
            break
    assert np.abs(step(z) - z).max() < 1e-13
    return z


def loop_of(
    body: Sequence[NodeProto],
    *,
    inputs: Sequence[str] = ("trips", "true", "z0"),
    outputs: Sequence[str] = ("y",),
    carried: Sequence[tuple[str, str]] = (("z", "z_next"),),
    ends: Sequence[str] = ("still",),
    stored: Sequence[TensorProto] = (),
    before: Sequence[NodeProto] = (),
    after: Sequence[NodeProto] = (),
    weights: dict[str, np.ndarray] | None = None,
    results: Sequence[str] = ("y",),
    trips: int = 20,
    **keywords: object,
) -> onnx.ModelProto:
    """A model that is one Loop, `loop`, from u (1, 4) and z0 = 0, with these nodes in its body."""
    loop = node("Loop", list(inputs), list(outputs), "loop", body=body_graph(body, stored, carried, ends=ends))
    known = {"trips": np.array(trips), "true": np.array(True), "z0": np.zeros((1, SIZE), np.float32)}
    known |= {"At": contraction().T.copy(), **(weights or {})}
    return model([*before, loop, *after], {"u": (1, SIZE)}, list(results), known, **keywords)  # type: ignore[arg-type]


F = (node("MatMul", ["z", "At"], ["az"]), node("Add", ["az", "u"], ["v"]), node("Relu", ["v"], ["f"]))
"""f = relu(A z + u)."""

UNDAMPED = (*F, node("Identity", ["f"], ["z_next"]))
PASSED_ON = node("Identity", ["go"], ["still"])


def chain(count: int) -> onnx.ModelProto:
    """Loops one after another, with the same names inside."""
    nodes, before = [], "u"
    for k in range(count):
        after = "y" if k == count - 1 else f"e{k}"
        body = [F[0], node("Add", ["az", before], ["v"]), node("Relu", ["v"], ["z_next"]), PASSED_ON]
        nodes.append(node("Loop", ["trips", "true", "z0"], [after], f"loop{k}", body=body_graph(body)))
        before = after
    weights = {"trips": np.array(20), "true": np.array(True), "z0": np.zeros((1, SIZE), np.float32)}
    return model(nodes, {"u": (1, SIZE)}, ["y"], {**weights, "At": contraction().T.copy()})


def nested(depth: int, trips: int = 5) -> onnx.ModelProto:
    """w = relu(A w / 2 + B z + u), z = relu(w + B z + u), and so on: a Loop within a Loop, `depth` times."""
    nodes = [node("MatMul", ["z", "At"], ["az"]), node("Add", ["az", f"bz{depth - 1}"], ["s"])]
    nodes += [node("Add", ["s", "u"], ["v"]), node("Relu", ["v"], ["z_next"]), PASSED_ON]
    body = body_graph(nodes)
    for d in range(depth - 1, -1, -1):
        nodes = [node("MatMul", [f"z{d}", "B"], [f"bz{d}"])]
        nodes.append(node("Loop", ["trips", "true", f"bz{d}"], [f"end{d + 1}"], f"loop{d + 1}", body=body))
        nodes += [node("Add", [f"end{d + 1}", f"bz{d}"], [f"p{d}"]), node("Add", [f"p{d}", "u"], [f"v{d}"])]
        nodes += [node("Relu", [f"v{d}"], [f"next{d}"]), node("Identity", [f"go{d}"], [f"still{d}"])]
        inputs = [info(f"i{d}", INT64, []), info(f"go{d}", BOOL, []), info(f"z{d}")]
        body = helper.make_graph(nodes, f"body{d}", inputs, [info(f"still{d}", BOOL, []), info(f"next{d}")])
    loop = node("Loop", ["trips", "true", "z0"], ["y"], "loop", body=body)
    weights = {"trips": np.array(trips), "true": np.array(True), "z0": np.zeros((1, SIZE), np.float32)}
    weights |= {"At": contraction().T * np.float32(0.5), "B": contraction() * np.float32(0.3)}
    return model([loop], {"u": (1, SIZE)}, ["y"], weights)


def convolutional() -> tuple[onnx.ModelProto, Callable[[np.ndarray], np.ndarray]]:
    """Convolution, z = relu(K z + u) with a convolution K, convolution; and its value."""
    import torch

    kernel = random_weights(2, 2, 3, 3, seed=4) * np.float32(0.08)
    weights = {"K": kernel, "before": random_weights(2, 1, 3, 3), "after": random_weights(1, 2, 3, 3, seed=8)}
    body = [node("Conv", ["z", "K"], ["az"], pads=[1] * 4), *F[1:], *STEPS["outer"], PASSED_ON]
    nodes = [
        node("Conv", ["x", "before"], ["u"], pads=[1] * 4),
        node("Sub", ["u", "u"], ["z0"]),
        node("Loop", ["trips", "true", "z0"], ["end"], "loop", body=body_graph(body)),
        node("Conv", ["end", "after"], ["y"]),
    ]
    stored = {**weights, "trips": np.array(40), "true": np.array(True)}

    def conv(x: np.ndarray, name: str, padding: int) -> np.ndarray:
        found = torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(weights[name]).double(), padding=padding)
        return found.numpy()

    def value(x: np.ndarray) -> np.ndarray:
        u = conv(x, "before", 1)
        return conv(solved(lambda z: np.maximum(conv(z, "K", 1) + u, 0), u.shape), "after", 0)

    return model(nodes, {"x": (1, 1, 5, 4)}, ["y"], stored), value


def fixed_point(a: np.ndarray, seed: int = 0) -> onnx.ModelProto:
    """y = C z of z = lipcert.FixedPoint(x B + b, A) with ReLU, in float64: 2 inputs, 2 outputs."""
    size = len(a)
    rng = np.random.default_rng(seed)
    weights = {"A": np.asarray(a, float), "B": rng.normal(size=(2, size)), "C": rng.normal(size=(size, 2))}
    attributes = {"kind": "linear", "activation": "Relu", "step": 0.5, "iterations": 1000, "tolerance": 1e-6}
    nodes = [
        node("MatMul", ["x", "B"], ["ux"]),
        node("Add", ["ux", "b"], ["u"]),
        node("FixedPoint", ["u", "A"], ["z"], domain="lipcert", **attributes),
        node("MatMul", ["z", "C"], ["y"]),
    ]
    weights["b"] = 1 + rng.random(size)
    proto = model(
        nodes, {"x": (1, 2)}, ["y"], weights, element=TensorProto.DOUBLE, domains={"lipcert": 1}, ir_version=10
    )
    return define_functions(proto)
