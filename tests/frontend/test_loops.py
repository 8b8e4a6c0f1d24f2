"""Loops that run fixed-point iterations are read as the fixed points, or step by step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import lipcert
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import propagate
from lipcert.cli.main import run
from lipcert.errors import ModelError, UnsupportedModelError
from lipcert.frontend import convert, load_proto, loops
from lipcert.frontend.fixed_point_form import define_functions
from lipcert.graph import Affine, FixedPoint
from lipcert.operators import Dense
from lipcert.problem import Box, Query, pose
from tests.helpers.loop_models import (
    CONDITIONS,
    INNER,
    INPUTS,
    PASSED_ON,
    SIZE,
    STARTS,
    STEPS,
    UNDAMPED,
    F,
    Iterated,
    body_graph,
    chain,
    constant,
    contraction,
    convolutional,
    info,
    loop_of,
    nested,
    node,
    solved,
)
from tests.helpers.onnx_models import (
    assert_malformed,
    assert_refused,
    assert_same,
    assert_unsupported,
    integers,
    lipcert_outputs,
    model,
    random_points,
    save,
    session,
)

AWAY = 1e-9
STANDARD = helper.make_opsetid("", 20)


def assert_fixed_point(proto: onnx.ModelProto, value: Callable[[np.ndarray], np.ndarray]) -> lipcert.Model:
    """The graph's evaluation is that of plain NumPy."""
    imported = load_proto(proto)
    for point in random_points(imported):
        (x,) = point.values()
        ours, reference = lipcert_outputs(imported, point)["y"], value(x.astype(np.float64))
        assert np.abs(ours - reference).max() <= AWAY * (1 + np.abs(reference).max())
    return imported


def assert_unrolled(proto: onnx.ModelProto, tolerance: float = 1e-5) -> None:
    imported = load_proto(proto, unrolled=True)
    assert not imported.notes
    assert not any(isinstance(n, FixedPoint) for n in imported.graph.nodes)
    assert_same(imported, session(proto), random_points(imported), tolerance)


def assert_both(given: Iterated, tolerance: float = 1e-5) -> None:
    imported = assert_fixed_point(given.proto(), given.value)
    (note,) = imported.notes
    assert note.startswith("Loop node 'loop' is read as the fixed point")
    assert f"{given.trips} step" in note
    assert_unrolled(given.proto(), tolerance)


@pytest.mark.parametrize("step", [*STEPS, "inner"])
def test_every_form_of_a_step_has_its_fixed_point(step: str) -> None:
    assert_both(Iterated(step=step))


def test_shares_that_do_not_add_to_one_are_taken_as_they_are() -> None:
    """The fixed point is that of the step as written, not of phi."""
    imported = load_proto(Iterated(step="average").proto())
    (fixed,) = [n for n in imported.graph.nodes if isinstance(n, FixedPoint)]
    scaled = imported.graph.nodes[fixed.body]
    assert isinstance(scaled, Affine)
    low, high = (float(np.float32(v)) / (1 - float(np.float32(0.9))) for v in (0.1, 0.1))
    (weights,) = [op.matvec(np.ones(SIZE)) for op in scaled.operators]
    assert np.all((weights / low > 0.999999) & (weights / high < 1.000001))
    assert weights[0] != 1.0


@pytest.mark.parametrize("start", STARTS)
def test_the_iteration_may_start_anywhere(start: str) -> None:
    assert_both(Iterated(start=start))


@pytest.mark.parametrize("condition", ["passed on", "true"])
@pytest.mark.parametrize("trips", [1, 60])
def test_a_fixed_number_of_steps(condition: str, trips: int) -> None:
    assert_both(Iterated(condition=condition, trips=trips))


@pytest.mark.parametrize("trips", [None, 0, 1, 60])
def test_the_data_may_decide_how_many_steps_are_run(trips: int | None) -> None:
    given = Iterated(condition="tolerance", trips=trips)
    (note,) = assert_fixed_point(given.proto(), given.value).notes
    assert note.endswith("not as its steps")
    error = assert_refused(lambda: load_proto(given.proto(), unrolled=True), UnsupportedModelError, "'loop'", "decide")
    assert "--unrolled" in error.hint


def test_no_steps_at_all() -> None:
    given = Iterated(trips=0)
    (note,) = assert_fixed_point(given.proto(), given.value).notes
    assert "its 0 steps" in note
    assert_refused(lambda: load_proto(given.proto(), unrolled=True), ModelError, "depends on no input")
    assert_unrolled(replace(given, start="input").proto())


@pytest.mark.parametrize("weights", ["outside", "body", "nodes"])
@pytest.mark.parametrize("bias", [False, True])
def test_weights_may_be_stored_anywhere(weights: str, bias: bool) -> None:
    assert_both(Iterated(weights=weights, bias=bias, head=bias))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float16, 2e-2)])
def test_other_precisions(dtype: type, tolerance: float) -> None:
    assert_both(Iterated(dtype=dtype), tolerance)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_batch_axes(batch: tuple[int, ...]) -> None:
    assert_both(Iterated(batch=batch))


def test_another_activation() -> None:
    assert_both(Iterated(activation="Tanh", phi=np.tanh))


def test_a_state_in_more_precision_than_the_input() -> None:
    loop = node("Loop", ["trips", "true", "z0"], ["end"], "loop", body=body_graph([*UNDAMPED, PASSED_ON], element=11))
    nodes = [node("Cast", ["x"], ["u"], to=11), loop, node("Cast", ["end"], ["y"], to=1)]
    stored = {"At": contraction().T.astype(np.float64), "z0": np.zeros((1, SIZE))}
    proto = model(nodes, {"x": (1, SIZE)}, ["y"], {**stored, "trips": np.array(40), "true": np.array(True)})
    assert_fixed_point(proto, plain)
    assert_unrolled(proto)


def plain(u: np.ndarray) -> np.ndarray:
    a = contraction().astype(np.float64)
    return solved(lambda z: np.maximum(z @ a.T + u, 0), u.shape)


@pytest.mark.parametrize(
    ("ends", "nodes", "stored"),
    [
        (["still"], [constant("still", False, np.bool_)], []),
        (["still"], [], [numpy_helper.from_array(np.array(False), "still")]),
        (["still"], [node("Identity", ["no"], ["middle"]), node("Identity", ["middle"], ["still"])], []),
    ],
)
def test_a_condition_that_is_never_true_ends_the_loop_after_one_step(
    ends: list[str], nodes: list[onnx.NodeProto], stored: list[onnx.TensorProto]
) -> None:
    proto = loop_of([*UNDAMPED, *nodes], ends=ends, stored=stored, weights={"no": np.array(False)})
    assert "its 1 step (" in assert_fixed_point(proto, plain).notes[0]
    assert_unrolled(proto)


def test_what_is_carried_beside_the_state_and_not_used() -> None:
    extra = [node("Sub", ["z_next", "z"], ["r_next"]), node("Add", ["n", "n"], ["n_next"])]
    proto = loop_of(
        [*UNDAMPED, *extra, PASSED_ON],
        inputs=("trips", "true", "z0", "z0", "trips"),
        outputs=("residual", "y", "count"),
        carried=(("r", "r_next"), ("z", "z_next"), ("n", "n_next")),
    )
    for i in (0, 1):  # the count is an integer
        port = (proto.graph.node[0].attribute[0].g.input[4], proto.graph.node[0].attribute[0].g.output[3])[i]
        port.type.tensor_type.elem_type = onnx.TensorProto.INT64
    assert_fixed_point(proto, plain)
    assert_unrolled(proto)


def test_unused_values_of_each_step() -> None:
    body = [*UNDAMPED, node("Identity", ["f"], ["each"]), PASSED_ON]
    proto = loop_of(body, outputs=("y", "scan"), ends=("still", "each"))
    assert_fixed_point(proto, plain)
    assert_unrolled(proto)


@pytest.mark.parametrize("count", [2, 3])
def test_stacked_loops_with_the_same_names_inside(count: int) -> None:
    def value(u: np.ndarray) -> np.ndarray:
        for _ in range(count):
            u = plain(u)
        return u

    assert len(assert_fixed_point(chain(count), value).notes) == count
    assert_unrolled(chain(count))


def test_a_function_with_a_loop_that_is_called_twice() -> None:
    body = body_graph([*UNDAMPED, PASSED_ON])
    inner = [constant("trips", 20, np.int64), constant("true", True, np.bool_)]
    inner.append(node("Loop", ["trips", "true", "z0"], ["z_end"], "loop", body=body))
    function = helper.make_function("local", "Deep", ["u", "At", "z0"], ["z_end"], inner, [STANDARD])
    calls = [node("Deep", [u, "At", "z0"], [z], domain="local") for u, z in (("u", "h"), ("h", "y"))]
    weights = {"At": contraction().T.copy(), "z0": np.zeros((1, SIZE), np.float32)}
    proto = model(calls, {"u": (1, SIZE)}, ["y"], weights, functions=[function], domains={"local": 1})
    assert len(assert_fixed_point(proto, lambda u: plain(plain(u))).notes) == 2
    assert_unrolled(proto)


def test_a_loop_inside_a_loop() -> None:
    """Its fixed point depends on the outer state."""
    a, b = ((contraction() * np.float32(s)).astype(np.float64) for s in (0.5, 0.3))

    def value(u: np.ndarray) -> np.ndarray:
        def step(z: np.ndarray) -> np.ndarray:
            inner = solved(lambda w: np.maximum(w @ a.T + z @ b + u, 0), u.shape)
            return np.maximum(inner + z @ b + u, 0)

        return solved(step, u.shape)

    assert len(assert_fixed_point(nested(1), value).notes) == 2
    assert_unrolled(nested(1))
    assert load_proto(nested(20)).check is not None
    assert_refused(lambda: load_proto(nested(20), unrolled=True), UnsupportedModelError, "Loop", "10000 nodes")


def test_a_convolution_between_convolutions() -> None:
    proto, value = convolutional()
    assert_fixed_point(proto, value)
    assert_unrolled(proto)


LINEAR = {"kind": "linear", "activation": "Relu", "step": 0.5, "iterations": 200, "tolerance": 1e-6}


def custom(defined: bool, op: str = "FixedPoint", calls: int = 1) -> onnx.ModelProto:
    names = ["u", *(f"z{k}" for k in range(1, calls)), "y"]
    nodes = [node("FixedPoint", [a, "A"], [b], b, domain="lipcert", **LINEAR) for a, b in itertools.pairwise(names)]
    proto = model(nodes, {"u": (1, SIZE)}, ["y"], {"A": contraction()}, domains={"lipcert": 1})
    proto = define_functions(proto) if defined else proto
    for given in (*proto.graph.node, *proto.functions):
        if isinstance(given, onnx.NodeProto):
            given.op_type = op
        else:
            given.name = op
    return proto


@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize(
    ("defined", "op"), [(False, "FixedPoint"), (True, "FixedPoint"), (True, "FixedPoint_2"), (True, "FixedPoint_a")]
)
def test_a_fixed_point_node_is_what_it_says(defined: bool, op: str, calls: int) -> None:
    """No note: the fixed point is meant, unrolled or not."""
    proto = custom(defined, op, calls)
    value = plain if calls == 1 else lambda u: plain(plain(u))
    assert not assert_fixed_point(proto, value).notes
    assert any(isinstance(n, FixedPoint) for n in load_proto(proto, unrolled=True).graph.nodes)


@pytest.mark.parametrize(("domain", "op"), [("lipcert", "Fixed"), ("other", "FixedPoint"), ("lipcert", "FixedPoints")])
def test_functions_of_other_names_mean_their_loop(domain: str, op: str) -> None:
    proto = custom(True, op)
    for given in (proto.graph.node[0], proto.functions[0], *proto.opset_import):
        given.domain = domain if given.domain == "lipcert" else given.domain
    assert len(load_proto(proto).notes) == 1


def test_a_file_cannot_mark_its_loop_by_itself() -> None:
    proto = loop_of([*UNDAMPED, PASSED_ON])
    for key in (loops.CONVERGED, loops.STATE):
        proto.graph.node[0].metadata_props.add(key=key, value="yes")
    assert len(load_proto(proto).notes) == 1


# what is refused


def cast_steps() -> list[onnx.NodeProto]:
    return [*F, node("Cast", ["i"], ["fi"], to=1), node("Add", ["f", "fi"], ["z_next"]), PASSED_ON]


PAIR = {"inputs": ("trips", "true", "z0", "z0"), "carried": (("z", "z_next"), ("w", "w_next"))}
BRANCHES = {
    f"{name}_branch": helper.make_graph([node(op, ["f"], [name])], name, [], [info(name)])
    for name, op in (("then", "Neg"), ("else", "Relu"))
}
SUM = [node("ReduceSum", ["u"], ["sum"], keepdims=0), node("Cast", ["sum"], ["live"], to=7)]
POSITIVE = [SUM[0], node("Greater", ["sum", "nought"], ["live"])]

UNSUPPORTED = {
    "the number of the step": (loop_of(cast_steps()), ["'loop'", "the number of the step"]),
    "two states": (
        loop_of(
            [*F, node("Add", ["f", "w"], ["z_next"]), node("Neg", ["z"], ["w_next"]), PASSED_ON],
            outputs=("y", "w_end"),
            **PAIR,
        ),
        ["'loop'", "depends on 'w'"],
    ),
    "two results": (
        loop_of(
            [*UNDAMPED, node("Neg", ["z"], ["w_next"]), PASSED_ON],
            outputs=("y", "w_end"),
            results=("y", "w_end"),
            **PAIR,
        ),
        ["'loop'", "2 of its results"],
    ),
    "each step": (
        loop_of(
            [*UNDAMPED, node("Identity", ["f"], ["each"]), PASSED_ON], outputs=("end", "y"), ends=("still", "each")
        ),
        ["'loop'", "values of each step"],
    ),
    "a matrix": (
        loop_of(
            [
                node("MatMul", ["z", "At"], ["az"]),
                node("Add", ["az", "z"], ["k"]),
                node("Add", ["k", "u"], ["z_next"]),
                PASSED_ON,
            ]
        ),
        ["'loop'", "through a matrix"],
    ),
    "steps of their own": (
        loop_of(
            [
                *F,
                node("Sub", ["f", "z"], ["d"]),
                node("Mul", ["d", "each"], ["m"]),
                node("Add", ["z", "m"], ["z_next"]),
                PASSED_ON,
            ],
            weights={"each": np.array([0.25, 0.5, 0.5, 0.25], np.float32)},
        ),
        ["'loop'", "through a matrix"],
    ),
    "adds": (loop_of([*F, node("Add", ["f", "z"], ["z_next"]), PASSED_ON]), ["'loop'", "adds to the state"]),
    "nothing": (loop_of([node("Identity", ["z"], ["z_next"]), PASSED_ON]), ["'loop'", "adds to the state"]),
    "wider": (loop_of([*F, node("Concat", ["f", "f"], ["z_next"], axis=1), PASSED_ON]), ["'loop'", "[1, 4]", "[1, 8]"]),
    "flatter": (
        loop_of([*F, node("Reshape", ["f", "four"], ["z_next"]), PASSED_ON], weights={"four": integers(4)}),
        ["'loop'", "[1, 4]", "[4]"],
    ),
    "constant": (loop_of([constant("z_next", np.ones((1, 4))), PASSED_ON]), ["'loop'", "a constant"]),
    "integers": (
        loop_of([node("Add", ["z", "z"], ["z_next"]), PASSED_ON], weights={"z0": integers(1)}),
        ["'loop'", "float"],
    ),
    "no start": (loop_of([*UNDAMPED, PASSED_ON], inputs=("trips", "true", "")), ["'loop'", "start"]),
    "float trips": (
        loop_of([*UNDAMPED, PASSED_ON], weights={"trips": np.array(3, np.float32)}),
        ["'loop'", "number of steps"],
    ),
    "two trips": (loop_of([*UNDAMPED, PASSED_ON], weights={"trips": integers(3, 4)}), ["'loop'", "number of steps"]),
    "trips from data": (loop_of([*UNDAMPED, PASSED_ON], before=SUM, inputs=("live", "true", "z0")), ["Cast", "'live'"]),
    "false": (
        loop_of([*UNDAMPED, PASSED_ON], inputs=("trips", "no", "z0"), weights={"no": np.array(False)}),
        ["'loop'", "begins at all"],
    ),
    "condition from data": (
        loop_of(
            [*UNDAMPED, PASSED_ON],
            before=POSITIVE,
            inputs=("trips", "live", "z0"),
            weights={"nought": np.zeros((), np.float32)},
        ),
        ["'loop'", "begins at all"],
    ),
    "unknown op": (
        loop_of([*F, node("Odd", ["f"], ["z_next"], "inner", domain="my"), PASSED_ON], domains={"my": 1}),
        ["Odd", "'inner'"],
    ),
    "unsupported op": (loop_of([*F, node("Round", ["f"], ["z_next"], "inner"), PASSED_ON]), ["Round", "'inner'"]),
    "if": (loop_of([*F, node("If", ["true"], ["z_next"], "inner", **BRANCHES), PASSED_ON]), ["If", "'inner'"]),
    "if it goes on": (
        loop_of([*F, node("If", ["go"], ["z_next"], "inner", **BRANCHES), PASSED_ON]),
        ["'loop'", "depends on 'go'"],
    ),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_no_iteration_of_one_state_is_refused(name: str) -> None:
    proto, words = UNSUPPORTED[name]
    assert_unsupported(proto, *words)


def edited(edit: Callable[[onnx.NodeProto], object]) -> onnx.ModelProto:
    proto = loop_of([*UNDAMPED, PASSED_ON])
    edit(proto.graph.node[0])
    return proto


def rename(place: int, name: str) -> Callable[[onnx.NodeProto], None]:
    def edit(loop: onnx.NodeProto) -> None:
        loop.input[place] = name

    return edit


def drop(ports: str, kept: int) -> Callable[[onnx.NodeProto], None]:
    def edit(loop: onnx.NodeProto) -> None:
        del getattr(loop.attribute[0].g, ports)[kept:]

    return edit


MALFORMED = {
    "no body": (edited(lambda loop: loop.ClearField("attribute")), ["'loop'", "body"]),
    "a number": (edited(lambda loop: loop.attribute[0].CopyFrom(helper.make_attribute("body", 3))), ["'loop'", "body"]),
    "two bodies": (edited(lambda loop: loop.attribute.append(loop.attribute[0])), ["'loop'", "body", "2 times"]),
    "attributes": (edited(lambda loop: loop.attribute.append(helper.make_attribute("more", 1))), ["'loop'", "'more'"]),
    "no outputs": (edited(drop("output", 0)), ["'loop'", "inputs and outputs"]),
    "one output": (edited(drop("output", 1)), ["'loop'", "inputs and outputs"]),
    "two inputs": (edited(drop("input", 2)), ["'loop'", "inputs and outputs"]),
    "nothing given": (edited(lambda loop: loop.ClearField("input")), ["'loop'", "inputs and outputs"]),
    "trips from nowhere": (edited(rename(0, "nowhere")), ["'loop'", "'nowhere'"]),
    "condition from nowhere": (edited(rename(1, "nowhere")), ["'loop'", "'nowhere'"]),
    "negative": (loop_of([*UNDAMPED, PASSED_ON], trips=-3), ["'loop'", "-3"]),
    "endless": (loop_of([*UNDAMPED, PASSED_ON], inputs=("", "true", "z0")), ["'loop'", "never ends"]),
    "unknown name": (
        loop_of([F[0], node("Add", ["az", "nowhere"], ["z_next"], "inner"), PASSED_ON]),
        ["'inner'", "'nowhere'"],
    ),
    "its own result": (loop_of([*F, node("Add", ["f", "y"], ["z_next"], "inner"), PASSED_ON]), ["'inner'", "'y'"]),
    "nothing made": (loop_of([PASSED_ON]), ["'loop'", "produced by no node"]),
    "twice": (loop_of([*UNDAMPED, node("Relu", ["v"], ["f"]), PASSED_ON]), ["'f'"]),
    "a name of the outside": (loop_of([*UNDAMPED, PASSED_ON], before=[node("Neg", ["u"], ["f"])]), ["'f'", "twice"]),
    "an input twice": (edited(lambda loop: setattr(loop.attribute[0].g.input[0], "name", "go")), ["'loop'", "'go'"]),
    "a cycle": (
        loop_of([node("Relu", ["b"], ["z_next"], "inner"), node("Relu", ["z_next"], ["b"]), PASSED_ON]),
        ["'inner'", "'b'"],
    ),
    "backwards": (loop_of([*reversed(UNDAMPED), PASSED_ON]), ["no"]),
    "nan": (
        loop_of(
            [*UNDAMPED, PASSED_ON], stored=[numpy_helper.from_array(np.full((1, 4), np.nan, np.float32), "spoilt")]
        ),
        ["'spoilt'", "NaN"],
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_loops_are_refused(name: str) -> None:
    proto, words = MALFORMED[name]
    assert_malformed(proto, *words)


def test_a_condition_that_is_its_own_cause_is_refused() -> None:
    body = [*UNDAMPED, node("Identity", ["b"], ["still"]), node("Identity", ["still"], ["b"])]
    assert_unsupported(loop_of(body), "acyclic")


def test_names_that_hide_outer_ones_are_what_onnxruntime_takes_them_for() -> None:
    double = [numpy_helper.from_array(contraction().T * np.float32(0.5), "At")]
    proto = loop_of([*UNDAMPED, PASSED_ON], stored=double)
    assert_unrolled(proto)
    a = 0.5 * contraction().astype(np.float64)
    assert_fixed_point(proto, lambda u: solved(lambda z: np.maximum(z @ a.T + u, 0), u.shape))


# time and size


@pytest.mark.parametrize("trips", [10**9, 2**62])
def test_a_billion_steps_are_not_run(trips: int) -> None:
    assert_fixed_point(loop_of([*UNDAMPED, PASSED_ON], trips=trips), plain)
    assert load_proto(nested(3, trips)).check is not None
    with pytest.raises(UnsupportedModelError, match=r"'loop'.*too many to read one by one"):
        load_proto(loop_of([*UNDAMPED, PASSED_ON], trips=trips), unrolled=True)


def test_many_steps_are_bounded_one_by_one() -> None:
    """Stretches go through all steps, whose halves of the state do not add up to long products."""
    given = Iterated(trips=200)
    unrolled = load_proto(given.proto(), unrolled=True)
    report = lipcert.bound(unrolled, norm=math.inf, method="product", timeout=0)
    assert report.upper is not None
    a, u, c = (np.abs(given.arrays()[name]).astype(float) for name in "AUC")
    wanted = np.linalg.solve(np.eye(SIZE) - a, u.T).T @ c  # where the steps lead, but for 0.5^200
    assert report.upper == pytest.approx(wanted.sum(axis=0).max(), rel=1e-6)


def test_the_state_that_a_step_keeps_counts_once() -> None:
    """z + (f - z) / 2 in intervals, over a point."""
    unrolled = load_proto(Iterated(trips=60).proto(), unrolled=True)
    problem = pose(unrolled.graph, Query(region=Box(np.ones(INPUTS), np.ones(INPUTS))))
    low, high = propagate(problem, Arithmetic())[problem.y]
    assert np.all(high - low < 1e-9)


def test_an_iteration_that_does_not_converge_is_not_waited_for() -> None:
    away = [*F, node("Neg", ["f"], ["g"]), node("Sub", ["g", "one"], ["z_next"]), *CONDITIONS["tolerance"]]
    weights = {"At": -5 * np.eye(SIZE, dtype=np.float32), "one": np.ones(1, np.float32)}
    assert load_proto(loop_of(away, inputs=("", "true", "z0"), weights=weights)).check is not None


def test_a_loop_that_is_refused_and_not_needed_is_not_run() -> None:
    adds = [*F, node("Add", ["f", "z"], ["z_next"]), PASSED_ON]
    proto = loop_of(adds, outputs=("dead",), after=[node("Relu", ["u"], ["y"])], results=("y", "dead"), trips=10**9)
    imported = load_proto(proto)
    assert list(imported.lost_outputs) == ["dead"]


def test_nodes_and_initializers_inside_of_loops_count() -> None:
    many = [node("Relu", [f"a{k}"], [f"a{k + 1}"]) for k in range(20_000)]
    body = [*F, node("Identity", ["f"], ["a0"]), *many, node("Identity", ["a20000"], ["z_next"]), PASSED_ON]
    assert_malformed(loop_of(body), "nodes", "limit of 20000")
    stored = [numpy_helper.from_array(np.zeros(1, np.float32), f"w{k}") for k in range(20_000)]
    assert_malformed(loop_of([*UNDAMPED, PASSED_ON], stored=stored), "initializers", "limit of 20000")


def test_functions_inside_of_loops_count_as_often_as_they_are_used() -> None:
    local = helper.make_opsetid("local", 1)

    def repeated(name: str, called: str) -> onnx.FunctionProto:
        calls = [node(called, ["z"], [f"q{k}"], domain="local") for k in range(9)]
        body = body_graph([*calls, node("Relu", ["q8"], ["z_next"]), PASSED_ON])
        nodes = [constant("trips", 2, np.int64), constant("true", True, np.bool_)]
        nodes.append(node("Loop", ["trips", "true", "a"], ["b"], body=body))
        return helper.make_function("local", name, ["a"], ["b"], nodes, [STANDARD, local])

    last = helper.make_function("local", "F12", ["a"], ["b"], [node("Relu", ["a"], ["b"])], [STANDARD])
    for functions in ([*(repeated(f"F{k}", f"F{k + 1}") for k in range(12)), last], [repeated("F0", "F0")]):
        call = [node("F0", ["u"], ["y"], domain="local")]
        proto = model(call, {"u": (1, SIZE)}, ["y"], functions=functions, domains={"local": 1})
        assert_refused(lambda proto=proto: load_proto(proto), ModelError)


def test_loops_nested_deeper_than_protobuf_reads_are_refused(tmp_path: Path) -> None:
    data = loop_of([*UNDAMPED, PASSED_ON]).graph.node[0].attribute[0].g.SerializeToString()
    for _ in range(50):  # node = 1 in a graph, attribute = 5 in a node, g = 6 in an attribute
        for field in (6, 5, 1):
            data = _field(field, data)
    proto = _field(7, data)
    with pytest.raises(ModelError, match="not an ONNX file"):
        lipcert.load(save(proto, tmp_path))


def _field(number: int, data: bytes) -> bytes:
    size, count = b"", len(data)
    while count >= 128:
        size, count = size + bytes([count % 128 + 128]), count // 128
    return bytes([8 * number + 2]) + size + bytes([count]) + data


# the self-check


def test_the_check_covers_the_step() -> None:
    check = load_proto(Iterated().proto()).check
    assert check is not None
    assert check.tensors >= 10


def transposed(walk: convert._Walk) -> None:
    for place, at in enumerate(walk.build.nodes):
        if isinstance(at, Affine):
            turned = (
                Dense(np.array(op.weights).T) if isinstance(op, Dense) and op.size == (SIZE, SIZE) else op
                for op in at.operators
            )
            walk.build.nodes[place] = replace(at, operators=tuple(turned))


@pytest.mark.parametrize("proto", [Iterated().proto(), custom(True), custom(False)], ids=["loop", "function", "node"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_transposed_weight_does_not_pass(
    monkeypatch: pytest.MonkeyPatch, proto: onnx.ModelProto, inside: bool
) -> None:
    """In every reading of the step, or in that of the whole model only."""
    right, depth = convert._Walk._step, []

    def wrong(walk: convert._Walk, loop: loops.LoopNode, state: convert.Value) -> convert.Value:
        depth.append(loop)
        found = right(walk, loop, state)
        transposed(walk)
        return found

    read = convert._Walk._read

    def misread(walk: convert._Walk, given: object) -> None:
        read(walk, given)  # type: ignore[arg-type]
        transposed(walk)

    monkeypatch.setattr(convert._Walk, *(("_read", misread) if inside else ("_step", wrong)))
    with pytest.raises(ModelError, match="differs from onnxruntime"):
        load_proto(proto)
    load_proto(proto, check=False)


def test_a_wrong_share_of_the_state_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    right = loops._undamped
    monkeypatch.setattr(loops, "_undamped", lambda *given: (right(*given)[0], 0.25))
    with pytest.raises(ModelError, match="differs from onnxruntime"):
        load_proto(Iterated().proto())


def test_the_next_state_of_another_one_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    body = [*UNDAMPED, node("Tanh", ["z_next"], ["w_next"]), PASSED_ON]
    proto = loop_of(body, outputs=("w_end", "y"), inputs=PAIR["inputs"], carried=PAIR["carried"][::-1])
    assert_fixed_point(proto, plain)
    right = loops._needed
    monkeypatch.setattr(loops, "_needed", lambda body, index: right(body, 0))
    monkeypatch.setattr(loops.LoopNode, "following", property(lambda loop: loop.body.outputs[1].name))
    with pytest.raises(ModelError, match="differs from onnxruntime"):
        load_proto(proto)


# commands


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save(Iterated(trips=8).proto(), tmp_path_factory.mktemp("loop")))


def test_commands_on_a_loop(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", file]) == 0
    assert "is read as the fixed point" in " ".join(capsys.readouterr().out.split())
    assert run(["bound", file, "--norm", "2"]) == 0
    assert run(["reach", file, "--center", "0", "--eps", "0.1"]) == 0


def test_the_bound_holds_for_the_fixed_point_and_of_the_steps_where_they_are_asked_for(file: str) -> None:
    rng, given = np.random.default_rng(0), Iterated(trips=8)
    x, direction = rng.standard_normal((200, 1, 3)), rng.standard_normal((200, 1, 3))
    y = [given.value(at) for at in (x, x + 1e-3 * direction)]
    steepest = (np.linalg.norm(y[1] - y[0], axis=-1) / np.linalg.norm(1e-3 * direction, axis=-1)).max()
    report = lipcert.bound(file, norm=2)
    assert report.upper is not None
    assert steepest <= report.upper
    unrolled = lipcert.bound(load_proto(given.proto(), unrolled=True), norm=2)
    assert unrolled.upper is not None


def test_reach_holds_the_fixed_points(file: str) -> None:
    rng = np.random.default_rng(0)
    report = lipcert.reach(file, center=np.zeros(3), eps=0.1)
    y = Iterated().value(rng.uniform(-0.1, 0.1, (500, 1, 3)))[:, 0]
    assert np.all((report.lower <= y) & (y <= report.upper))


def test_refusals_of_commands_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(save(UNSUPPORTED["adds"][0], tmp_path))
    for command in (["inspect", path], ["bound", path, "--norm", "2"]):
        assert run(command) == 3
        assert "'loop'" in "".join(capsys.readouterr())


def test_inner_damping_of_another_activation_is_not_that_of_the_iteration() -> None:
    """phi((1 - a) z + a (A z + u)) has the fixed points of phi(A z + u) for ReLU only: it is read as it is."""
    tanh = [node("Tanh", n.input, n.output) if n.op_type == "Relu" else n for n in INNER]
    proto = loop_of([F[0], *tanh, PASSED_ON])
    a = contraction().astype(np.float64)
    assert_fixed_point(proto, lambda u: solved(lambda z: np.tanh(z / 2 + (z @ a.T + u) / 2), u.shape))
