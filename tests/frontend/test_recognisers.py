"""Functions that exporters spell in several nodes: what is recognised, what is not, and what that gains."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import lipcert
from lipcert.errors import UnsupportedModelError
from lipcert.frontend import Model, load_proto
from lipcert.graph import Affine, Elementwise, Groupwise, Input, Product
from tests.helpers.onnx_models import assert_agrees, assert_unsupported, integers, model, random_weights

Value = str | float | np.ndarray
Spelling = Callable[["Net", str], str]


@dataclass
class Net:
    """A graph under construction: net("Mul", x, 2.0) adds a node and gives its result's name."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def __call__(self, op: str, *inputs: Value, **attributes: Any) -> str:
        return self.all(op, 1, *inputs, **attributes)[0]

    def all(self, op: str, count: int, *inputs: Value, **attributes: Any) -> list[str]:
        outputs = [f"t{len(self.nodes)}_{i}" for i in range(count)]
        self.nodes.append(helper.make_node(op, [self.name(v) for v in inputs], outputs, **attributes))
        return outputs

    def name(self, value: Value) -> str:
        if isinstance(value, str):
            return value
        array = np.asarray(value)
        name = f"c{len(self.weights)}"
        self.weights[name] = array if array.dtype.kind in "ib" else array.astype(np.float32)
        return name

    def part(self, x: str, first: int, last: int, axis: int = 1, step: int = 1) -> str:
        return self("Slice", x, *(integers(i) for i in (first, last, axis, step)))


def spelt(spelling: Spelling, *shape: int) -> onnx.ModelProto:
    net = Net()
    result = spelling(net, "x")
    return model(net.nodes, {"x": shape}, [result], net.weights)


def nonlinear(imported: Model) -> list[str]:
    """The nodes that the output depends on, other than inputs and affine ones."""
    found = []
    for node in imported.graph.pruned().nodes:
        if isinstance(node, Elementwise):
            found.append(type(node.activation).__name__)
        elif isinstance(node, Groupwise):
            found.append(type(node.function).__name__)
        elif isinstance(node, Product):
            found.append("Product")
        else:
            assert isinstance(node, Input | Affine)
    return found


def check(spelling: Spelling, *shape: int) -> Model:
    """The import, which agrees with onnxruntime tensor by tensor, far out too."""
    proto = spelt(spelling, *shape)
    assert_agrees(proto, tolerance=5e-6)
    return load_proto(proto)


def l2(imported: Model, **options: Any) -> float:
    report = lipcert.bound(imported, norm=2, timeout=0.8, **options)  # soundness does not need more
    assert report.status == "certified"
    assert report.upper is not None
    return float(report.upper)


ROOT = 1.4142135


def erf_gate(n: Net, x: str) -> str:
    return n("Add", n("Erf", n("Div", x, ROOT)), 1.0)


def tanh_gate(n: Net, x: str, cube: str, c: float = 0.044715, k: float = math.sqrt(2 / math.pi)) -> str:
    return n("Add", n("Tanh", n("Mul", n("Add", x, n("Mul", cube, c)), k)), 1.0)


def cubed(n: Net, x: str) -> str:
    return n("Pow", x, 3.0)


def image(n: Net, x: str) -> str:
    """An affine image of x without special entries; never zero at x = 0."""
    return n("Gemm", x, random_weights(6, 6, seed=3), random_weights(6, seed=4))


def of_image(spelling: Spelling) -> Spelling:
    return lambda n, x: spelling(n, image(n, x))


def silu(n: Net, x: str) -> str:
    return n("Mul", x, n("Sigmoid", x))


GATED: dict[str, tuple[str, Spelling]] = {
    "silu": ("Silu", silu),
    "silu reversed": ("Silu", lambda n, x: n("Mul", n("Sigmoid", x), x)),
    "silu of an affine image": ("Silu", of_image(silu)),
    "silu of beta x": ("Silu", lambda n, x: silu(n, n("Mul", x, 2.0))),
    "swish, beta 2": ("Silu", lambda n, x: n("Mul", x, n("Sigmoid", n("Mul", x, 2.0)))),
    "swish, beta -1.5": ("Silu", lambda n, x: n("Mul", n("Sigmoid", n("Mul", x, -1.5)), x)),
    "silu, gate scaled": ("Silu", lambda n, x: n("Mul", x, n("Mul", n("Sigmoid", x), 3.0))),
    "mish": ("Mish", lambda n, x: n("Mul", x, n("Tanh", n("Softplus", x)))),
    "mish reversed": ("Mish", lambda n, x: n("Mul", n("Tanh", n("Softplus", x)), x)),
    "mish of an affine image": ("Mish", of_image(lambda n, x: n("Mul", x, n("Tanh", n("Softplus", x))))),
    "hardswish by HardSigmoid": ("HardSwish", lambda n, x: n("Mul", x, n("HardSigmoid", x, alpha=1 / 6, beta=0.5))),
    "hardswish, divided after": (
        "HardSwish",
        lambda n, x: n("Div", n("Mul", x, n("Clip", n("Add", x, 3.0), 0.0, 6.0)), 6.0),
    ),
    "hardswish, divided before": (
        "HardSwish",
        lambda n, x: n("Mul", n("Div", n("Clip", n("Add", 3.0, x), 0.0, 6.0), 6.0), x),
    ),
    "hardswish, times 1/6": (
        "HardSwish",
        lambda n, x: n("Mul", n("Mul", x, n("Clip", n("Add", x, 3.0), 0.0, 6.0)), 1 / 6),
    ),
    "gelu, half after": ("Gelu", lambda n, x: n("Mul", n("Mul", x, erf_gate(n, x)), 0.5)),
    "gelu, half first": ("Gelu", lambda n, x: n("Mul", 0.5, n("Mul", erf_gate(n, x), x))),
    "gelu, half in the gate": ("Gelu", lambda n, x: n("Mul", x, n("Mul", erf_gate(n, x), 0.5))),
    "gelu, half of x": ("Gelu", lambda n, x: n("Mul", n("Mul", x, 0.5), erf_gate(n, x))),
    "gelu, times 0.707": (
        "Gelu",
        lambda n, x: n("Mul", n("Mul", n("Add", n("Erf", n("Mul", x, math.sqrt(0.5))), 1.0), x), 0.5),
    ),
    "gelu of an affine image": ("Gelu", of_image(lambda n, x: n("Mul", n("Mul", x, erf_gate(n, x)), 0.5))),
    "tanh gelu": ("GeluTanh", lambda n, x: n("Mul", n("Mul", x, tanh_gate(n, x, cubed(n, x))), 0.5)),
    "tanh gelu, half in the gate": (
        "GeluTanh",
        lambda n, x: n("Mul", n("Mul", 0.5, tanh_gate(n, x, cubed(n, x))), x),
    ),
    "tanh gelu, half of x": (
        "GeluTanh",
        lambda n, x: n("Mul", n("Mul", x, 0.5), tanh_gate(n, x, cubed(n, x))),
    ),
    "tanh gelu, x times x times x": (
        "GeluTanh",
        lambda n, x: n("Mul", n("Mul", x, tanh_gate(n, x, n("Mul", n("Mul", x, x), x))), 0.5),
    ),
    "tanh gelu of an affine image": (
        "GeluTanh",
        of_image(lambda n, x: n("Mul", n("Mul", x, tanh_gate(n, x, cubed(n, x))), 0.5)),
    ),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", GATED)
def test_a_gated_activation_is_recognised(name: str) -> None:
    wanted, spelling = GATED[name]
    imported = check(spelling, 2, 6)
    assert nonlinear(imported) == [wanted]
    # constants that are rounded irrational numbers, or sixths, are named
    assert bool(imported.notes) == (("gelu" in name) or name == "hardswish by HardSigmoid")
    everywhere = l2(imported)
    assert l2(imported, center=np.zeros(12), eps=0.5) <= everywhere <= 60


BETAS = np.array([1, 1, 1, 1, 1, 2], np.float32)

NO_GATES: dict[str, Spelling] = {
    "another tensor": lambda n, x: n("Mul", x, n("Sigmoid", image(n, x))),
    "a shift inside": lambda n, x: n("Mul", x, n("Sigmoid", n("Add", x, 0.1))),
    "a shift outside": lambda n, x: n("Mul", n("Add", x, 1.0), n("Sigmoid", x)),
    "a factor for each entry": lambda n, x: n("Mul", x, n("Sigmoid", n("Mul", x, BETAS))),
    "tanh": lambda n, x: n("Mul", x, n("Tanh", x)),
    "mish of 2 x": lambda n, x: n("Mul", x, n("Tanh", n("Softplus", n("Mul", x, 2.0)))),
    "mish of twice softplus": lambda n, x: n("Mul", x, n("Tanh", n("Mul", n("Softplus", x), 2.0))),
    "hardswish of slope 0.2": lambda n, x: n("Mul", x, n("HardSigmoid", x, alpha=0.2, beta=0.5)),
    "hardswish of offset 0.4": lambda n, x: n("Mul", x, n("HardSigmoid", x, alpha=1 / 6, beta=0.4)),
    "hardswish shifted by 2.9": lambda n, x: n("Mul", x, n("Clip", n("Add", x, 2.9), 0.0, 6.0)),
    "hardswish up to 5": lambda n, x: n("Mul", x, n("Clip", n("Add", x, 3.0), 0.0, 5.0)),
    "gelu of 1.4142": lambda n, x: n("Mul", x, n("Add", n("Erf", n("Div", x, 1.4142)), 1.0)),
    "gelu plus 0.9": lambda n, x: n("Mul", x, n("Add", n("Erf", n("Div", x, ROOT)), 0.9)),
    "gelu of a shift": lambda n, x: n("Mul", x, erf_gate(n, n("Add", x, 0.01))),
    "gelu of reversed entries": lambda n, x: n("Mul", x, erf_gate(n, n.part(x, 5, -100, step=-1))),
    "tanh gelu of 0.0447": lambda n, x: n("Mul", x, tanh_gate(n, x, cubed(n, x), 0.0447)),
    "tanh gelu of 0.798": lambda n, x: n("Mul", x, tanh_gate(n, x, cubed(n, x), k=0.798)),
    "tanh gelu of a square": lambda n, x: n("Mul", x, tanh_gate(n, x, n("Mul", x, x))),
    "tanh gelu of another cube": lambda n, x: n("Mul", x, tanh_gate(n, x, cubed(n, n("Mul", x, 1.1)))),
    "silu of one entry": lambda n, x: n("Mul", x, n("Sigmoid", n.part(x, 0, 1))),
}


@pytest.mark.parametrize("name", NO_GATES)
def test_what_is_nearly_a_gated_activation_stays_a_product(name: str) -> None:
    imported = check(NO_GATES[name], 1, 6)
    assert nonlinear(imported)[-1] == "Product"
    assert not imported.notes
    assert math.isfinite(l2(imported, center=np.zeros(6), eps=0.5))


def softplus(
    n: Net,
    x: str,
    beta: float = 1.0,
    threshold: float = 20.0,
    slope: float = 1.0,
    compared: str = "",
    op: str = "Greater",
) -> str:
    scaled = x if beta == 1 else n("Mul", x, beta)
    soft = n("Softplus", scaled)
    soft = soft if beta == 1 else n("Div", soft, beta)
    above = x if slope == 1 else n("Mul", x, slope)
    condition = n(op, compared or scaled, threshold)
    return n("Where", condition, above, soft) if "Greater" in op else n("Where", condition, soft, above)


@pytest.mark.parametrize("beta", [1.0, 2.0, 0.5, 3.7])
@pytest.mark.parametrize(("threshold", "op"), [(20.0, "Greater"), (15.0, "Greater"), (30.0, "GreaterOrEqual")])
def test_a_softplus_with_a_threshold_is_recognised(beta: float, threshold: float, op: str) -> None:
    imported = check(lambda n, x: softplus(n, x, beta, threshold, op=op), 2, 3)
    assert nonlinear(imported) == ["Softplus"]
    (note,) = imported.notes
    assert "softplus" in note
    assert f"{threshold:g}" in note
    assert l2(imported) == pytest.approx(1, rel=1e-6)


NO_SOFTPLUS: dict[str, tuple[Spelling, str]] = {
    "a threshold of 10": (lambda n, x: softplus(n, x, threshold=10.0), "threshold 10"),
    "a threshold of 14.9 after beta": (lambda n, x: softplus(n, x, 2.0, 14.9), "threshold 14.9"),
    "another slope above": (lambda n, x: softplus(n, x, slope=1.001), "not what softplus tends to"),
    "another slope below beta": (lambda n, x: softplus(n, x, 2.0, slope=1.001), "not what softplus tends to"),
    "a condition on another tensor": (
        lambda n, x: softplus(n, x, compared=n.part(x, 5, -100, step=-1)),
        "does not compare softplus's argument",
    ),
    "a condition on 1.1 x": (
        lambda n, x: softplus(n, x, compared=n("Mul", x, 1.1)),
        "does not compare softplus's argument",
    ),
    "an elu": (
        lambda n, x: n("Where", n("Greater", x, 20.0), x, n("Elu", x)),
        "neither branch is a softplus",
    ),
    "slopes of very different sizes": (
        lambda n, x: n(
            "Where",
            n("Greater", n("Mul", x, np.array([1e8, 1])), 20.0),
            n("Mul", x, np.array([1e8, 50])),
            n("Softplus", n("Mul", x, np.array([1e8, 1]))),
        ),
        "not what softplus tends to",
    ),
}


@pytest.mark.parametrize("name", NO_SOFTPLUS)
def test_what_is_nearly_a_softplus_is_refused(name: str) -> None:
    spelling, reason = NO_SOFTPLUS[name]
    assert_unsupported(spelt(spelling, 1, 2), "Where", reason)


def householder(
    n: Net,
    x: str,
    angle: float = 0.7,
    *,
    axis: int = 1,
    half: int = 3,
    op: str = "LessOrEqual",
    compare: float = 0.0,
    scale: float = 1.0,
    turned_by: float | None = None,
    off: float = 0.0,
) -> str:
    """The reflection of (v, w) at the line of `angle` where sin v - cos w > 0; `off` spoils it along that line."""
    v, w = n.all("Split", 2, x, axis=axis, num_outputs=2)
    turn = angle if turned_by is None else turned_by
    s, c, sine, cosine = math.sin(angle), math.cos(angle), math.sin(2 * turn), math.cos(2 * turn)
    score = n("Sub", n("Mul", v, scale * s), n("Mul", w, scale * c))
    v2 = n("Add", n("Mul", v, cosine + off * c), n("Mul", w, sine + off * s))
    w2 = n("Sub", n("Mul", v, sine), n("Mul", w, cosine))
    condition = n(op, score, compare)
    pairs = ((v, v2), (w, w2)) if op.startswith("Less") else ((v2, v), (w2, w))
    return n("Concat", *(n("Where", condition, a, b) for a, b in pairs), axis=axis)


def orthogonal(n: Net, x: str, width: int = 6, seed: int = 0) -> str:
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((width, width)))
    return n("Gemm", x, q, random_weights(width, seed=seed))


HOUSEHOLDER: dict[str, tuple[Spelling, tuple[int, ...]]] = {
    "vectors": (householder, (1, 6)),
    "a batch": (householder, (3, 6)),
    "maps": (lambda n, x: householder(n, x, half=2), (1, 4, 2, 3)),
    "the last axis": (lambda n, x: householder(n, x, axis=2, half=2), (1, 3, 4)),
    "branches swapped": (lambda n, x: householder(n, x, op="Greater"), (1, 6)),
    "branches swapped, equal": (lambda n, x: householder(n, x, op="GreaterOrEqual"), (1, 6)),
    "another angle": (lambda n, x: householder(n, x, angle=-2.1), (1, 6)),
    "a scaled condition": (lambda n, x: householder(n, x, scale=100.0), (1, 6)),
    "between orthogonal layers": (
        lambda n, x: orthogonal(n, householder(n, orthogonal(n, x)), seed=1),
        (1, 6),
    ),
}


@pytest.mark.parametrize("name", HOUSEHOLDER)
def test_a_householder_activation_is_recognised(name: str) -> None:
    spelling, shape = HOUSEHOLDER[name]
    imported = check(spelling, *shape)
    assert nonlinear(imported) == ["Householder"]
    assert any("Householder" in note for note in imported.notes)
    assert l2(imported) == pytest.approx(1, abs=1e-5)


def two_normals(n: Net, x: str, difference: float) -> str:
    """Both entries of a pair decide by a hyperplane of their own."""
    angles = np.array([0.3, 0.3 + difference])
    normals = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    matrix = np.stack([np.eye(2)[i] - 2 * normals[i, i] * normals[i] for i in range(2)])
    v, w = n.part(x, 0, 1), n.part(x, 1, 2)

    def combined(m: np.ndarray) -> str:
        return n("Add", n("Mul", v, m[:, 0]), n("Mul", w, m[:, 1]))

    return n("Where", n("Greater", combined(normals), 0.0), combined(matrix), x)


NO_HOUSEHOLDER: dict[str, tuple[Spelling, tuple[int, ...]]] = {
    "a shifted threshold": (lambda n, x: householder(n, x, compare=0.1), (1, 6)),
    "another angle": (lambda n, x: householder(n, x, turned_by=0.71), (1, 6)),
    "a little beside the reflection": (lambda n, x: householder(n, x, off=1e-4), (1, 6)),
    "a little beside it, under a large scale": (lambda n, x: householder(n, x, off=5e-5, scale=1e3), (1, 6)),
}


@pytest.mark.parametrize("name", NO_HOUSEHOLDER)
def test_what_is_nearly_a_householder_activation_is_refused(name: str) -> None:
    spelling, shape = NO_HOUSEHOLDER[name]
    assert_unsupported(spelt(spelling, *shape), "Where", "choice that depends on the input")


@pytest.mark.parametrize("difference", [0.5, 1e-3])
def test_the_entries_of_a_pair_may_be_reflected_at_lines_of_their_own(difference: float) -> None:
    imported = check(lambda n, x: two_normals(n, x, difference), 1, 2)
    assert nonlinear(imported) == ["Householder"]
    (node,) = (n for n in imported.graph.nodes if isinstance(n, Groupwise))
    assert imported.graph.size(node.input) == 4


PIECEWISE: dict[str, tuple[Spelling, float]] = {
    "leaky relu": (lambda n, x: n("Where", n("Greater", x, 0.0), x, n("Mul", x, 0.1)), 1),
    "leaky relu by Less": (lambda n, x: n("Where", n("Less", x, 0.0), n("Mul", x, 0.1), x), 1),
    "leaky relu by Not": (lambda n, x: n("Where", n("Not", n("Greater", x, 0.0)), n("Mul", x, 0.1), x), 1),
    "leaky relu, zero first": (lambda n, x: n("Where", n("GreaterOrEqual", 0.0, x), n("Mul", x, 0.1), x), 1),
    "absolute value": (lambda n, x: n("Where", n("GreaterOrEqual", x, 0.0), x, n("Neg", x)), 1),
    "relu": (lambda n, x: n("Where", n("Greater", x, 0.0), x, 0.0), 1),
    "relu of the negative": (lambda n, x: n("Where", n("LessOrEqual", x, 0.0), n("Mul", x, -2.0), 0.0), 2),
    "relu of a scaled score": (lambda n, x: n("Where", n("Greater", n("Mul", x, 3.0), 0.0), x, 0.0), 1),
    "slopes for each entry": (
        lambda n, x: n("Where", n("Greater", x, 0.0), n("Mul", x, random_weights(6)), n("Mul", x, 0.3)),
        float(max(0.3, np.abs(random_weights(6)).max())),
    ),
    "steeper below": (lambda n, x: n("Where", n("Greater", x, 0.0), x, n("Mul", x, 4.0)), 4),
}


@pytest.mark.parametrize("name", PIECEWISE)
def test_a_choice_between_multiples_is_a_ramp(name: str) -> None:
    spelling, constant = PIECEWISE[name]
    imported = check(spelling, 2, 6)
    assert nonlinear(imported) == ["Relu"]
    assert l2(imported) >= constant * (1 - 1e-9)
    # where the sign is known, the choice is linear
    here = l2(imported, center=np.full(12, 5.0), eps=1.0)
    assert here <= constant * (1 + 1e-6)


def cancelling(n: Net, x: str) -> str:
    """(x + 2^-53 x) - x: 2^-53 x, and 0 in float64."""
    return n("Sub", n("Add", x, n("Mul", x, 2.0**-53)), x)


def test_slopes_that_cancel_are_not_rounded_to_nothing() -> None:
    """Or it is refused; what is read is 2^-53 x, times 2^60."""

    def ramp(n: Net, x: str) -> str:
        return n("Mul", n("Where", n("Greater", x, 0.0), cancelling(n, x), 0.0), 2.0**60)

    try:
        imported = load_proto(spelt(ramp, 1, 2), check=False)
    except UnsupportedModelError:
        return
    assert l2(imported) >= 128


def test_a_small_part_of_a_gate_that_cancels_is_not_dropped() -> None:
    """x sigmoid(x + 2^-53 y), times 2^60, changes with y: by 25 per unit at x = 1, y = 0."""
    net = Net()
    x = net("Sigmoid", "z")
    gate = net("Sigmoid", net("Add", x, cancelling(net, "y")))
    result = net("Mul", net("Mul", x, gate), 2.0**60)
    proto = model(net.nodes, {"z": (1, 2), "y": (1, 2)}, [result], net.weights)
    assert l2(load_proto(proto, check=False), inputs=["y"]) >= 16


JUMPS: dict[str, tuple[Spelling, str]] = {
    "a shifted threshold": (lambda n, x: n("Where", n("Greater", x, 0.5), x, 0.0), "something else than zero"),
    "an offset above": (
        lambda n, x: n("Where", n("Greater", x, 0.0), n("Add", x, 1.0), n("Mul", x, 0.1)),
        "not a multiple",
    ),
    "a constant below": (lambda n, x: n("Where", n("Greater", x, 0.0), x, 1.0), "not a multiple"),
    "two constants": (lambda n, x: n("Where", n("Greater", x, 0.0), 1.0, -1.0), "not a multiple"),
    "another entry": (
        lambda n, x: n("Where", n("Greater", x, 0.0), n.part(x, 5, -100, step=-1), 0.0),
        "not a multiple",
    ),
    "a condition on two entries": (
        lambda n, x: n("Where", n("Greater", x, n.part(x, 5, -100, step=-1)), x, 0.0),
        "combines several entries",
    ),
    "a curve above": (lambda n, x: n("Where", n("Greater", x, 0.0), n("Tanh", x), n("Mul", x, 0.1)), "not a multiple"),
}


@pytest.mark.parametrize("name", JUMPS)
def test_a_choice_whose_branches_may_not_meet_is_refused(name: str) -> None:
    spelling, reason = JUMPS[name]
    assert_unsupported(spelt(spelling, 1, 6), "Where", reason)


def normalised(n: Net, x: str, op: str = "ReduceL2", axis: int = 1, floor: float | None = 1e-12) -> str:
    norm = n(op, x, integers(axis), keepdims=1)
    return n("Div", x, norm if floor is None else n("Clip", norm, floor))


def expanded(n: Net, x: str) -> str:
    """As torch writes it."""
    norm = n("Clip", n("ReduceL2", x, integers(-1), keepdims=1), 1e-12)
    return n("Div", x, n("Expand", norm, n("Shape", x)))


def layer_norm(
    n: Net,
    x: str,
    axes: tuple[int, ...] = (-1,),
    *,
    square: str = "Pow",
    epsilon: float | None = 1e-5,
    centred: bool = True,
    over: str = "Div",
    var_axes: tuple[int, ...] | None = None,
    count: float = 0.0,
) -> str:
    mean = n("ReduceMean", x, integers(*axes), keepdims=1)
    d = n("Sub", x, mean) if centred else x
    squares = n("Pow", d, 2.0) if square == "Pow" else n("Mul", d, d)
    within = integers(*(axes if var_axes is None else var_axes))
    if count:
        variance = n("Div", n("ReduceSum", squares, within, keepdims=1), count)
    else:
        variance = n("ReduceMean", squares, within, keepdims=1)
    root = n("Sqrt", variance if epsilon is None else n("Add", variance, epsilon))
    if over == "Div":
        return n("Div", d, root)
    inverse = n("Reciprocal", root) if over == "Reciprocal" else n("Div", 1.0, root)
    return n("Mul", d, inverse) if over == "Reciprocal" else n("Mul", inverse, d)


NORMALISED: dict[str, tuple[str, Spelling, tuple[int, ...]]] = {
    "l2": ("LpNormalise", of_image(normalised), (2, 6)),
    "l2 without a floor": ("LpNormalise", of_image(lambda n, x: normalised(n, x, floor=None)), (2, 6)),
    "l1": ("LpNormalise", of_image(lambda n, x: normalised(n, x, "ReduceL1")), (2, 6)),
    "l2, a large floor": ("LpNormalise", lambda n, x: normalised(n, x, floor=0.5), (2, 6)),
    "l2 along the first axis": ("LpNormalise", of_image(lambda n, x: normalised(n, x, axis=0)), (2, 6)),
    "l2 over maps": ("LpNormalise", lambda n, x: normalised(n, n("Add", x, 1.0), axis=1), (1, 3, 2, 2)),
    "l2, expanded": ("LpNormalise", of_image(expanded), (2, 6)),
    "layer norm": ("Standardise", layer_norm, (2, 6)),
    "layer norm of an affine image": ("Standardise", of_image(layer_norm), (2, 6)),
    "layer norm by Mul": ("Standardise", lambda n, x: layer_norm(n, x, square="Mul"), (2, 6)),
    "layer norm over maps": ("Standardise", lambda n, x: layer_norm(n, x, (1, 2, 3)), (2, 3, 2, 2)),
    "layer norm along the middle axis": ("Standardise", lambda n, x: layer_norm(n, x, (1,)), (2, 3, 4)),
    "layer norm by Reciprocal": ("Standardise", lambda n, x: layer_norm(n, x, over="Reciprocal"), (2, 6)),
    "layer norm by 1 / root": ("Standardise", lambda n, x: layer_norm(n, x, over="one"), (2, 6)),
    "layer norm by a sum over 6": ("Standardise", lambda n, x: layer_norm(n, x, count=6.0), (2, 6)),
    "rms norm": ("RootMeanSquare", lambda n, x: layer_norm(n, x, centred=False, over="Reciprocal"), (2, 6)),
    "rms norm by Div": ("RootMeanSquare", lambda n, x: layer_norm(n, x, centred=False), (2, 6)),
    "rms norm over maps": ("RootMeanSquare", lambda n, x: layer_norm(n, x, (1, 2), centred=False), (2, 3, 4)),
    "log of a sigmoid": ("Softplus", lambda n, x: n("Log", n("Sigmoid", x)), (2, 6)),
    "log of a sigmoid, reshaped": (
        "Softplus",
        lambda n, x: n("Log", n("Transpose", n("Sigmoid", x), perm=[1, 0])),
        (2, 6),
    ),
    "log of a softmax": ("LogSoftmax", lambda n, x: n("Log", n("Softmax", x)), (2, 6)),
    "log of a part of a softmax": ("LogSoftmax", lambda n, x: n("Log", n.part(n("Softmax", x), 1, 3)), (2, 6)),
    "log of a softmax along the first axis": ("LogSoftmax", lambda n, x: n("Log", n("Softmax", x, axis=0)), (2, 6)),
}


@pytest.mark.parametrize("name", NORMALISED)
def test_a_normalisation_is_recognised(name: str) -> None:
    wanted, spelling, shape = NORMALISED[name]
    proto = spelt(spelling, *shape)
    assert nonlinear(assert_agrees(proto, tolerance=2e-5)) == [wanted]
    assert nonlinear(load_proto(proto)) == [wanted]


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("l2, a large floor", 2),
        ("layer norm", 1 / math.sqrt(1e-5)),
        ("rms norm", 1 / math.sqrt(1e-5)),
        ("log of a sigmoid", 1),
        ("log of a softmax", math.sqrt(6)),
    ],
)
def test_what_a_recognised_normalisation_is_bounded_by_everywhere(name: str, most: float) -> None:
    _, spelling, shape = NORMALISED[name]
    assert l2(load_proto(spelt(spelling, *shape))) <= most * (1 + 1e-4)


PLAIN: dict[str, tuple[list[str], Spelling, tuple[int, ...]]] = {
    "the norm of another tensor": (
        ["LpNorm", "Clip", "Reciprocal", "Product"],
        lambda n, x: n("Div", x, n("Clip", n("ReduceL2", image(n, x), integers(1)), 1e-3)),
        (2, 6),
    ),
    "the norm plus a constant": (
        ["LpNorm", "Reciprocal", "Product"],
        lambda n, x: n("Div", x, n("Add", n("ReduceL2", x, integers(1)), 0.1)),
        (2, 6),
    ),
    "the norm limited above": (
        ["LpNorm", "Clip", "Reciprocal", "Product"],
        lambda n, x: n("Div", x, n("Clip", n("ReduceL2", x, integers(1)), 0.1, 2.0)),
        (2, 6),
    ),
    "norms of rows under columns": (
        ["LpNorm", "Clip", "Reciprocal", "Product"],
        lambda n, x: n("Div", x, n("Clip", n("ReduceL2", x, integers(1), keepdims=0), 0.1)),
        (3, 3),
    ),
    "twice the norm": (
        ["LpNorm", "Reciprocal", "Product"],
        lambda n, x: n("Div", x, n("Add", n("Mul", n("ReduceL2", x, integers(1)), 2.0), 0.1)),
        (2, 6),
    ),
    "layer norm by n - 1": (
        ["Power", "Sqrt", "Reciprocal", "Product"],
        lambda n, x: layer_norm(n, x, count=5.0, epsilon=1e-2),
        (2, 6),
    ),
    "rows centred, columns divided by their root mean square": (
        ["RootMeanSquare"],
        lambda n, x: layer_norm(n, x, var_axes=(0,), epsilon=1e-2),
        (3, 3),
    ),
    "layer norm, squares not centred": (
        ["Power", "Sqrt", "Reciprocal", "Product"],
        lambda n, x: n(
            "Div",
            n("Sub", x, n("ReduceMean", x, integers(1))),
            n("Sqrt", n("Add", n("ReduceMean", n("Mul", x, x), integers(1)), 1e-2)),
        ),
        (2, 6),
    ),
    "layer norm with an epsilon for each row": (
        ["Power", "Sqrt", "Reciprocal", "Product"],
        lambda n, x: n(
            "Div", x, n("Sqrt", n("Add", n("ReduceMean", n("Mul", x, x), integers(1)), np.array([[0.1], [0.2]])))
        ),
        (2, 6),
    ),
    "a logarithm of a shifted softmax": (
        ["Softmax", "Log"],
        lambda n, x: n("Log", n("Add", n("Softmax", x), 1e-3)),
        (2, 6),
    ),
    "a logarithm of half a sigmoid": (
        ["Sigmoid", "Log"],
        lambda n, x: n("Log", n("Mul", n("Sigmoid", x), 0.5)),
        (2, 6),
    ),
}


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_nearly_a_normalisation_is_read_node_by_node(name: str) -> None:
    kinds, spelling, shape = PLAIN[name]
    proto = spelt(spelling, *shape)
    assert nonlinear(assert_agrees(proto, tolerance=2e-5)) == kinds
    assert nonlinear(load_proto(proto)) == kinds


def ends(n: Net, a: str, b: str, swapped: bool = False) -> tuple[str, str]:
    return n("Max", a, b), n("Min", *((b, a) if swapped else (a, b)))


def halves(n: Net, x: str, axis: int = 1, swapped: bool = False) -> str:
    return n("Concat", *ends(n, *n.all("Split", 2, x, axis=axis, num_outputs=2), swapped), axis=axis)


def strided(n: Net, x: str) -> str:
    return n("Concat", *ends(n, n.part(x, 0, 99, step=2), n.part(x, 1, 99, step=2)), axis=1)


def sliced(n: Net, x: str) -> str:
    return n("Concat", *ends(n, n.part(x, 0, 4), n.part(x, 4, 8)), axis=1)


def pairs(n: Net, x: str) -> str:
    return n("Reshape", x, integers(1, 4, 2))


def unbound(n: Net, x: str) -> str:
    p = pairs(n, x)
    a, b = (n("Gather", p, np.array(i), axis=2) for i in range(2))
    stacked = n("Concat", *(n("Unsqueeze", e, integers(2)) for e in ends(n, a, b)), axis=2)
    return n("Reshape", stacked, integers(1, 8))


def reduced(n: Net, x: str) -> str:
    p = pairs(n, x)
    both = [n(op, p, integers(2), keepdims=0) for op in ("ReduceMax", "ReduceMin")]
    return n("Concat", *both, axis=1)


def reduced_halves(n: Net, x: str) -> str:
    p = n("Reshape", x, integers(1, 2, 4))
    return n("Concat", *(n(op, p, integers(1), keepdims=0) for op in ("ReduceMin", "ReduceMax")), axis=1)


def transposed(n: Net, x: str) -> str:
    p = n("Transpose", pairs(n, x), perm=[0, 2, 1])
    return n("Reshape", halves(n, p, swapped=True), integers(1, 8))


def mixed(n: Net, x: str) -> str:
    """The maximum by one spelling and the minimum by another, its pairs in reversed order."""
    most = n("ReduceMax", pairs(n, x), integers(2), keepdims=0)
    a, b = n.part(x, 6, -100, step=-2), n.part(x, 7, -100, step=-2)
    return n("Concat", most, n("Min", b, a), axis=1)


def sorted_by_topk(n: Net, x: str, largest: int = 1, axis: int = 2, width: int = 2) -> str:
    p = n("Reshape", x, integers(1, 8 // width, width) if axis == 2 else integers(1, width, 8 // width))
    values, _ = n.all("TopK", 2, p, integers(width), axis=axis, largest=largest)
    return n("Reshape", values, integers(1, 8))


SORTS: dict[str, Spelling] = {
    "chunk": halves,
    "chunk, minimum swapped": lambda n, x: halves(n, x, swapped=True),
    "slices": sliced,
    "strided slices": strided,
    "unbind and stack": unbound,
    "ReduceMax and ReduceMin": reduced,
    "ReduceMin and ReduceMax of halves": reduced_halves,
    "transposed": transposed,
    "two spellings": mixed,
    **{
        f"TopK, largest={largest}, axis={axis}, groups of {width}": (
            lambda n, x, largest=largest, axis=axis, width=width: sorted_by_topk(n, x, largest, axis, width)
        )
        for largest in (0, 1)
        for axis in (1, 2)
        for width in (2, 4, 8)
    },
}


def between_orthogonal_layers(activation: Spelling) -> Spelling:
    return lambda n, x: orthogonal(n, activation(n, orthogonal(n, x, 8)), 8, seed=1)


@pytest.mark.parametrize("name", SORTS)
def test_sorts_between_orthogonal_layers_keep_distances(name: str) -> None:
    imported = check(between_orthogonal_layers(SORTS[name]), 1, 8)
    assert nonlinear(imported) == ["GroupSort"]
    assert l2(imported) == pytest.approx(1, abs=1e-5)


def by_relu(n: Net, x: str) -> str:
    """max(a, b) = b + relu(a - b), min(a, b) = a - relu(a - b)."""
    a, b = n.all("Split", 2, x, axis=1, num_outputs=2)
    over = n("Relu", n("Sub", a, b))
    return n("Concat", n("Add", b, over), n("Sub", a, over), axis=1)


def test_maxmin_is_bounded_better_than_the_same_function_by_relu() -> None:
    """By operator norms; LipSDP finds the same number for both."""
    spelled = check(between_orthogonal_layers(by_relu), 1, 8)
    assert l2(spelled, method="product") > 1.3
    assert l2(spelled) < 1 + 1e-5


TWO_SORTS: dict[str, Spelling] = {
    "another pairing": lambda n, x: n(
        "Concat",
        n("Max", n.part(x, 0, 4), n.part(x, 4, 8)),
        n("Min", n.part(x, 0, 4), n.part(x, 7, 3, step=-1)),
        axis=1,
    ),
    "a scaled entry": lambda n, x: n(
        "Concat",
        n("Max", n.part(x, 0, 4), n.part(x, 4, 8)),
        n("Min", n.part(x, 0, 4), n("Mul", n.part(x, 4, 8), 1.5)),
        axis=1,
    ),
    "a shifted entry": lambda n, x: n(
        "Concat",
        n("Max", n.part(x, 0, 4), n.part(x, 4, 8)),
        n("Min", n.part(x, 0, 4), n("Add", n.part(x, 4, 8), 0.5)),
        axis=1,
    ),
}


@pytest.mark.parametrize("name", TWO_SORTS)
def test_maxima_and_minima_of_different_pairs_are_two_sorts(name: str) -> None:
    assert nonlinear(check(TWO_SORTS[name], 1, 8)) == ["GroupSort", "GroupSort"]


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("k", [1, 3])
def test_the_first_few_of_a_sort(largest: int, k: int) -> None:
    def few(n: Net, x: str) -> str:
        return n.all("TopK", 2, x, integers(k), axis=1, largest=largest)[0]

    imported = check(few, 2, 5)
    assert nonlinear(imported) == ["GroupSort"]
    assert l2(imported) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["a shift inside", "another tensor", "hardswish shifted by 2.9"])
def test_a_product_has_no_bound_everywhere_where_a_gated_activation_has(name: str) -> None:
    with pytest.raises(UnsupportedModelError, match="product"):
        lipcert.bound(load_proto(spelt(NO_GATES[name], 1, 6)), norm=2, timeout=10)
