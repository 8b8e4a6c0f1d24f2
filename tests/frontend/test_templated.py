"""Custom ops that a template stands for: bounds as with the true activation, attributes, functions, the self-check."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

import lipcert
from lipcert.activations import Abs, Activation, LeakyRelu
from lipcert.activations.groupwise import GroupFunction
from lipcert.activations.householder import Householder
from lipcert.activations.sorting import GroupSort
from lipcert.activations.templated import TemplatedGroups
from lipcert.arithmetic.enclosure import exact
from lipcert.errors import LipcertError, ModelError, UnsupportedModelError, UsageError
from lipcert.frontend import Model, load_proto, registry
from lipcert.graph import Affine, Elementwise, Graph, Groupwise
from lipcert.operators import Identity, size_of
from lipcert.planning import solve
from lipcert.problem import Ball, Everywhere, Norm, Query, Region, pose
from lipcert.templates import Template, parse_template
from lipcert.templates.library import folder
from tests.helpers.onnx_models import assert_refused, model, random_weights
from tests.helpers.sampling import steepest_pairs

DOMAIN = "com.example"
OP = f"{DOMAIN}.X"
INF = math.inf
NATIVE = 1e-4
"""How far above the best multipliers LipSDP may end."""

FREE = 2e-3
"""The same of templates that reach their best bound only as free multipliers go to infinity."""

node = helper.make_node


def renamed(name: str, *ops: str) -> Template:
    """A shipped template under another name, for these ops."""
    text = (folder() / f"{name}.toml").read_text()
    for key, value in (("name", f"my_{name}"), ("activations", list(ops or (OP,)))):
        text = re.sub(rf"^{key} = .*$", f"{key} = {json.dumps(value)}", text, count=1, flags=re.MULTILINE)
    return parse_template(text, f"my_{name}.toml")


def slopes(least: float, most: float, *ops: str) -> Template:
    """Slopes between two numbers, without parameters."""
    text = f"""
        name = "slopes"
        title = "Slopes from {least} to {most}"
        activations = {json.dumps(list(ops or (OP,)))}
        group = 1
        [source]
        paper = "tests"
        theorem = "2 lambda (dw - a dv)(b dv - dw)"
        [multipliers]
        lambda = "nonnegative"
        [blocks]
        VV = "{-2 * least * most}*lambda*I"
        VW = "{least + most}*lambda*I"
        WW = "-2*lambda*I"
    """
    return parse_template(text, "slopes.toml")


def custom(source: str, result: str, op: str = "X", **attributes: Any) -> NodeProto:
    return node(op, [source], [result], name=f"the_{result}", domain=DOMAIN, **attributes)


def network(
    nodes: Sequence[NodeProto],
    outputs: Sequence[str] = ("y",),
    shape: Sequence[int | str] = (1, 8),
    functions: Sequence[onnx.FunctionProto] = (),
    **more: Any,
) -> onnx.ModelProto:
    """Nodes that may read x, weights w (8, 8), w2 (8, 8), u (8, 3) and b (8)."""
    weights = {
        "w": random_weights(8, 8) / np.float32(3),
        "w2": random_weights(8, 8, seed=2) / np.float32(3),
        "u": random_weights(8, 3, seed=3) / np.float32(3),
        "b": random_weights(8, seed=4) / np.float32(3),
        "axis": np.array([0]),
    }
    return model(nodes, {"x": shape}, outputs, weights, functions=functions, domains={DOMAIN: 1}, **more)


def between(*middle: NodeProto, last: str = "a", **more: Any) -> onnx.ModelProto:
    """Gemm to `v`, these nodes, a product with u of the tensor `last`."""
    return network([node("Gemm", ["x", "w", "b"], ["v"]), *middle, node("MatMul", [last, "u"], ["y"])], **more)


def one(**attributes: Any) -> onnx.ModelProto:
    """One custom op of 8 entries between two matrices."""
    return between(custom("v", "a", **attributes))


def two(**attributes: Any) -> onnx.ModelProto:
    """Two layers of the custom op."""
    first, second = custom("v", "a", **attributes), custom("h", "c", **attributes)
    return between(first, node("Gemm", ["a", "w2", "b"], ["h"]), second, last="c")


def real(graph: Graph, make: Callable[[TemplatedGroups], Activation | GroupFunction]) -> Graph:
    """The graph with an activation that has values in place of the templates."""

    nodes = list(graph.nodes)
    for k, each in enumerate(nodes):
        if not (isinstance(each, Groupwise) and isinstance(each.function, TemplatedGroups)):
            continue
        made, shape = make(each.function), each.shape
        if each.function.through is not None:  # what passes linearly was taken apart
            shape = nodes[k + 1].shape
            size = size_of(shape)
            nodes[k + 1] = Affine((k,), (Identity(size),), exact(np.zeros(size)), shape, each.origin)
        if isinstance(made, Activation):
            nodes[k] = Elementwise(each.input, made, shape, each.origin)
        else:
            nodes[k] = replace(each, function=made, shape=shape)
    return Graph(tuple(nodes), graph.outputs)


def upper_of(graph: Graph, query: Query) -> float:
    found = solve(pose(graph, query), method="lipsdp").upper
    assert found is not None
    return found


WHOLE = Query()


def conditional(imported: Model, query: Query = WHOLE) -> float:
    """LipSDP's bound, which rests on the templates."""
    report = lipcert.bound(
        imported, norm_in=query.norm_in, norm_out=query.norm_out, region=query.region, method="lipsdp"
    )
    assert (report.status, report.method, report.lower) == ("conditional", "lipsdp", 0.0)
    assert report.upper is not None
    return report.upper


def normals(function: TemplatedGroups) -> Householder:
    h = function.parameters["h"]
    return Householder(exact(h), exact(2 * h))


SIGNS = [0.5, 0.5, 0.5, 0.5, 0.5, -0.5, 0.5, -0.5]
"""Two normals, of norm 1 in float32, too."""

CASES: dict[str, tuple[str, dict[str, Any], Callable[[TemplatedGroups], Activation | GroupFunction]]] = {
    "slopes": ("slope_restricted", {"group": 1, "a": 0.25, "b": 1.0}, lambda f: LeakyRelu(0.25)),
    "slopes of the axis": (
        "slope_restricted",
        {"group": 1, "a": [0.25] * 8, "b": [1.0] * 8},
        lambda f: LeakyRelu(0.25),
    ),
    "groupsort 4": ("groupsort", {"group": 4}, lambda f: GroupSort(4)),
    "groupsort 8": ("groupsort", {}, lambda f: GroupSort(8)),
    "permutations": ("permutations", {"group": 4}, lambda f: GroupSort(4)),
    "householder": ("householder", {"group": 4, "h": SIGNS[:4]}, normals),
    "householder of the axis": ("householder", {"group": 4, "h": SIGNS}, normals),
    "maxmin": ("maxmin", {}, lambda f: GroupSort(2)),
    "abs": ("abs", {"group": 1}, lambda f: Abs()),
}
"""A shipped template, the attributes of the node, and the true activation."""

REGIONS: dict[str, Region] = {"whole": Everywhere(), "ball": Ball(np.zeros(8), 50.0, INF)}
"""In the ball everything may still happen: all neurons are on both sides of their kinks, all orders occur."""


@pytest.mark.one_in(3)
@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("norm", [2.0, INF])
@pytest.mark.parametrize("name", CASES)
def test_the_bound_is_that_of_the_true_activation(
    name: str, norm: Norm, region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As LipSDP has it built in; of sorted groups as it is with the template's one multiplier."""
    template, attributes, make = CASES[name]
    imported = load_proto(two(**attributes), templates=[renamed(template)])
    query = Query(norm, norm, REGIONS[region])
    found = conditional(imported, query)
    problem = pose(real(imported.graph, make), query)
    if template != "permutations":
        monkeypatch.setattr("lipcert.methods.lipsdp.method.quadratic_iterates", lambda *_: iter(()))
    best = upper_of(real(imported.graph, make), query)
    assert best * (1 - 1e-6) <= found <= best * (1 + (FREE if template in ("householder", "maxmin") else NATIVE))
    assert steepest_pairs(problem, np.random.default_rng(0), 4000)[norm, norm] <= found


@pytest.mark.parametrize("norm", [2.0, INF])
@pytest.mark.parametrize("name", ["householder", "householder of the axis", "maxmin"])
def test_free_multipliers_lose_nothing(name: str, norm: Norm) -> None:
    template, attributes, make = CASES[name]
    imported = load_proto(two(**attributes), templates=[renamed(template)])
    query = Query(norm, norm)
    assert conditional(imported, query) <= upper_of(real(imported.graph, make), query) * (1 + NATIVE)


@pytest.mark.parametrize("name", CASES)
def test_no_pair_is_steeper_in_a_small_ball(name: str) -> None:
    """There the true activation may have a better bound; the template's is that of the whole space."""
    template, attributes, make = CASES[name]
    imported = load_proto(two(**attributes), templates=[renamed(template)])
    query = Query(2.0, 2.0, Ball(np.linspace(-1, 1, 8), 0.3, 2.0))
    found = conditional(imported, query)
    assert found == pytest.approx(conditional(imported), rel=NATIVE)
    assert upper_of(real(imported.graph, make), query) <= found * (1 + NATIVE)
    problem = pose(real(imported.graph, make), query)
    assert steepest_pairs(problem, np.random.default_rng(1), 4000)[2.0, 2.0] <= found


@pytest.mark.parametrize("norms", [(1.0, 1.0), (1.0, INF), (INF, 1.0), (2.0, 1.0), (INF, 2.0)])
@pytest.mark.parametrize("name", ["slopes", "groupsort 4", "householder of the axis"])
def test_no_pair_is_steeper_in_other_norms(name: str, norms: tuple[Norm, Norm]) -> None:
    template, attributes, make = CASES[name]
    imported = load_proto(two(**attributes), templates=[renamed(template)])
    query = Query(*norms)
    problem = pose(real(imported.graph, make), query)
    assert steepest_pairs(problem, np.random.default_rng(2), 4000)[norms] <= conditional(imported, query)


def test_one_constraint_for_permutations_is_tighter_than_one_multiplier() -> None:
    proto = two(group=4)
    complete, single = (conditional(load_proto(proto, templates=[renamed(n)])) for n in ("permutations", "groupsort"))
    assert complete < single * 0.999


def test_a_group_that_returns_fewer_entries_than_it_reads() -> None:
    """The larger of each pair."""
    weights = {"w": random_weights(8, 8), "u": random_weights(4, 3, seed=3)}
    nodes = [node("MatMul", ["x", "w"], ["v"]), custom("v", "a"), node("MatMul", ["a", "u"], ["y"])]
    proto = model(nodes, {"x": (1, 8)}, ["y"], weights, domains={DOMAIN: 1})
    pool = node("MaxPool", ["v1"], ["a1"], kernel_shape=[2], strides=[2])
    about = node("Unsqueeze", ["v", "axis"], ["v1"]), pool, node("Squeeze", ["a1", "axis"], ["a"])
    weights["axis"] = np.array([0])
    known = model([nodes[0], *about, nodes[2]], {"x": (1, 8)}, ["y"], weights)
    found = conditional(load_proto(proto, templates=[renamed("max_pool_pairs")]))
    assert found == pytest.approx(upper_of(load_proto(known).graph, Query()), rel=NATIVE)


def test_wrong_slopes_show_that_the_bound_rests_on_the_template() -> None:
    """Half the slopes, half the bound: nothing checks that the template is true."""
    right, wrong = (conditional(load_proto(one(), templates=[slopes(0.0, most)])) for most in (1.0, 0.5))
    assert wrong == pytest.approx(right / 2, rel=NATIVE)


# Attributes


def test_a_parameter_for_the_group_is_that_for_each() -> None:
    template = renamed("slope_restricted")
    of_group = load_proto(one(group=2, a=[0.0, 0.25], b=[1.0, 0.5]), templates=[template])
    of_axis = load_proto(one(group=2, a=[0.0, 0.25] * 4, b=[1.0, 0.5] * 4), templates=[template])
    assert conditional(of_group) == conditional(of_axis)


def test_a_parameter_for_the_axis_is_that_of_each_row() -> None:
    """A batch of two: every row has the parameters of the axis."""
    a = [0.0, 0.25, 0.5, 0.75, 0.0, 0.25, 0.5, 0.75]
    first = custom("v", "a", group=1, a=a, b=1.0)
    single, double = (between(first, shape=(rows, 8)) for rows in (1, 2))
    bounds = [conditional(load_proto(p, templates=[renamed("slope_restricted")])) for p in (single, double)]
    assert bounds[0] == pytest.approx(bounds[1], rel=NATIVE)


def test_whole_numbers_are_numbers() -> None:
    template = renamed("slope_restricted")
    whole, real_ones = (load_proto(one(group=1, a=a, b=b), templates=[template]) for a, b in ((0, 1), (0.0, 1.0)))
    assert conditional(whole) == conditional(real_ones)


def test_the_last_axis_is_grouped() -> None:
    """Of a tensor of four axes the groups are within rows of the last."""
    nodes = [node("Conv", ["x", "k"], ["v"]), custom("v", "a", group=2), node("Relu", ["a"], ["y"])]
    proto = model(nodes, {"x": (1, 1, 4, 6)}, ["y"], {"k": random_weights(2, 1, 1, 1)}, domains={DOMAIN: 1})
    imported = load_proto(proto, templates=[renamed("maxmin")])
    assert conditional(imported) == pytest.approx(
        upper_of(real(imported.graph, lambda f: GroupSort(2)), Query()), rel=NATIVE
    )
    undivided = _edited(proto, lambda each: each.attribute[0].CopyFrom(helper.make_attribute("group", 4)))
    with pytest.raises(UnsupportedModelError, match="last axis of 6"):
        load_proto(undivided, templates=[renamed("groupsort")])


def _edited(proto: onnx.ModelProto, edit: Callable[[NodeProto], object]) -> onnx.ModelProto:
    """A copy, of whose custom nodes each is edited."""
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    for each in changed.graph.node:
        if each.domain == DOMAIN:
            edit(each)
    return changed


def _inputs(*names: str) -> onnx.ModelProto:
    def rewire(each: NodeProto) -> None:
        del each.input[:]
        each.input.extend(names)

    return _edited(one(), rewire)


def _attribute(attribute: onnx.AttributeProto) -> onnx.ModelProto:
    return _edited(one(), lambda each: each.attribute.append(attribute))


def _reference() -> onnx.AttributeProto:
    return onnx.AttributeProto(name="group", type=onnx.AttributeProto.INT, ref_attr_name="outer")


TENSOR = numpy_helper.from_array(np.full(8, 0.5), "t")

REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str, type[ModelError], tuple[str, ...]]] = {
    "a group that does not divide": (
        lambda: one(group=3),
        "groupsort",
        UnsupportedModelError,
        ("last axis of 8", "groups of 3"),
    ),
    "a group of none": (lambda: one(group=0), "groupsort", UnsupportedModelError, ("groups of 0",)),
    "a negative group": (lambda: one(group=-4), "groupsort", UnsupportedModelError, ("groups of -4",)),
    "a huge group": (lambda: one(group=2**62), "groupsort", UnsupportedModelError, (str(2**62),)),
    "a group that is no whole number": (lambda: one(group=4.0), "groupsort", UnsupportedModelError, ("4.0",)),
    "groups in a list": (lambda: one(group=[4]), "groupsort", UnsupportedModelError, ("attribute group",)),
    "a group in words": (lambda: one(group="4"), "groupsort", UnsupportedModelError, ("attribute group",)),
    "a group by reference": (lambda: _attribute(_reference()), "groupsort", ModelError, ("attribute group",)),
    "an unknown attribute": (
        lambda: one(alpha=0.1),
        "groupsort",
        UnsupportedModelError,
        ("attribute alpha", "my_groupsort"),
    ),
    "a parameter of another template": (lambda: one(h=[1.0]), "abs", UnsupportedModelError, ("attribute h", "my_abs")),
    "a tensor": (
        lambda: _attribute(helper.make_attribute("h", TENSOR)),
        "householder",
        UnsupportedModelError,
        ("attribute h",),
    ),
    "no parameter": (lambda: one(group=1, a=0.0), "slope_restricted", ModelError, ("attribute b is missing",)),
    "too many entries": (
        lambda: one(group=2, a=[0.0] * 3, b=[1.0] * 2),
        "slope_restricted",
        UnsupportedModelError,
        ("a has 3 entries", "groups of 2"),
    ),
    "too few entries": (
        lambda: one(group=4, a=[0.0] * 2, b=[1.0] * 4),
        "slope_restricted",
        UnsupportedModelError,
        ("a has 2 entries", "groups of 4"),
    ),
    "no entries": (
        lambda: _attribute(onnx.AttributeProto(name="a", type=onnx.AttributeProto.FLOATS)),
        "slope_restricted",
        UnsupportedModelError,
        ("a has 0 entries",),
    ),
    "NaN": (lambda: one(group=1, a=math.nan, b=1.0), "slope_restricted", ModelError, ("attribute a", "NaN")),
    "infinity": (lambda: one(group=1, a=[0.0], b=[INF]), "slope_restricted", ModelError, ("attribute b", "Inf")),
    "two inputs": (lambda: _inputs("v", "v"), "abs", UnsupportedModelError, ("one input",)),
    "a second input that is absent": (lambda: _inputs("v", ""), "abs", UnsupportedModelError, ("one input",)),
    "no input": (_inputs, "abs", ModelError, ("input 0 is missing",)),
    "an input that is absent": (lambda: _inputs(""), "abs", ModelError, ("input 0 is missing",)),
    "an input that is not there": (lambda: _inputs("nowhere"), "abs", ModelError, ("'nowhere'",)),
    "two outputs": (
        lambda: _edited(one(), lambda each: each.output.append("second")),
        "abs",
        UnsupportedModelError,
        ("one output",),
    ),
    "a result without a name": (
        lambda: network([node("X", ["x"], [""], name="the_a", domain=DOMAIN), node("Relu", ["x"], ["y"])]),
        "abs",
        ModelError,
        ("no name",),
    ),
    "a number": (
        lambda: network([node("ReduceSum", ["x"], ["v"], keepdims=0), custom("v", "a"), node("Relu", ["a"], ["y"])]),
        "abs",
        UnsupportedModelError,
        ("no axis",),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_node_that_does_not_fit_is_refused_by_name(name: str) -> None:
    make, template, error, words = REFUSED[name]
    proto = make()
    assert_refused(
        lambda: load_proto(proto, templates=[renamed(template)]), error, "com.example.X node 'the_a'", *words
    )


def test_a_complete_template_keeps_to_its_sizes() -> None:
    """permutations speaks of groups of 3 or 4."""
    with pytest.raises(UnsupportedModelError, match="3 or 4, not of 2"):
        load_proto(one(group=2), templates=[renamed("permutations")])


def _normal(*h: float) -> onnx.ModelProto:
    return one(group=len(h), h=list(h))


MISUSED: dict[str, tuple[onnx.ModelProto, str, tuple[str, ...]]] = {
    "of another size": (one(group=4), "maxmin", ("group", "not of 4")),
    "of several sizes, none of them given": (one(), "permutations", ("not of 8",)),
    "of a normal that is not of norm 1": (_normal(1.0, 1.0), "householder", ("parameters: h", "norm")),
}


@pytest.mark.parametrize("name", MISUSED)
def test_a_template_that_does_not_speak_of_such_groups_is_refused_at_the_node(name: str) -> None:
    proto, template, words = MISUSED[name]
    with pytest.raises(UnsupportedModelError, match="the_a") as caught:
        load_proto(proto, templates=[renamed(template)])
    assert all(word in str(caught.value) for word in (f"my_{template}.toml", *words)), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [2, 4])
def test_a_normal_may_be_any_of_norm_one(size: int) -> None:
    h = np.random.default_rng(size).normal(size=size)
    conditional(load_proto(_normal(*(h / np.linalg.norm(h))), templates=[renamed("householder")]))


# Which nodes a template stands for


def test_the_op_may_be_named_without_its_domain() -> None:
    assert conditional(load_proto(one(), templates=[renamed("abs", "X")])) == conditional(
        load_proto(one(), templates=[renamed("abs")])
    )


def test_a_model_without_its_template_is_refused_and_told_of_them() -> None:
    assert_refused(lambda: load_proto(one()), UnsupportedModelError, "the_a", DOMAIN, "--template")


@pytest.mark.parametrize("op", ["Relu", "ai.onnx.Relu", "com.example.Y", "com.other.X", "MatMul"])
def test_a_template_for_no_node_is_wrong_usage(op: str) -> None:
    """Also one for an op that lipcert knows: nothing makes it do without what it knows."""
    proto = between(node("Relu", ["v"], ["r"]), custom("r", "a"))
    for templates in ([renamed("abs"), renamed("groupsort", op)], [renamed("groupsort", op), renamed("abs")]):
        known = op in ("Relu", "ai.onnx.Relu", "MatMul")
        words = f"activations: {op} is an op that" if known else f"no node of <memory> is a {op}"
        with pytest.raises(UsageError, match=f"my_groupsort.toml: {words}"):
            load_proto(proto, templates=templates)


def test_two_templates_for_one_op_are_wrong_usage() -> None:
    with pytest.raises(UsageError, match=r"my_groupsort.toml: activations: com.example.X has .* my_abs.toml"):
        load_proto(one(), templates=[renamed("abs"), renamed("groupsort")])
    with pytest.raises(UsageError, match=r"no node of <memory> is a X"):  # the one with the domain comes first
        load_proto(one(), templates=[renamed("groupsort", "X"), renamed("abs")])


def test_a_loaded_model_takes_no_templates() -> None:
    imported = load_proto(one(), templates=[renamed("abs")])
    with pytest.raises(UsageError, match="loaded already"):
        lipcert.bound(imported, templates=[renamed("abs")])


def test_the_model_says_which_templates_it_rests_on() -> None:
    """In the order of their nodes, each once."""
    sort, bend = renamed("groupsort", f"{DOMAIN}.Y"), renamed("abs")
    proto = between(custom("v", "p"), custom("p", "q", "Y"), custom("q", "a"))
    assert load_proto(proto, templates=[sort, bend]).templates == (bend, sort)
    assert load_proto(between(node("Relu", ["v"], ["a"]))).templates == ()


def absolute(name: str = "X", domain: str = DOMAIN) -> onnx.FunctionProto:
    """A function whose value is |x|."""
    return helper.make_function(domain, name, ["x"], ["y"], [node("Abs", ["x"], ["y"])], [helper.make_opsetid("", 20)])


def test_a_function_is_not_inlined_where_a_template_stands_for_it() -> None:
    proto = between(custom("v", "a"), functions=[absolute()])
    without, beside = lipcert.bound(proto, method="lipsdp"), lipcert.bound(proto, templates=[slopes(-2.0, 2.0)])
    assert (without.status, beside.status) == ("certified", "conditional")
    assert without.upper is not None
    assert beside.upper == pytest.approx(2 * without.upper, rel=NATIVE)
    assert lipcert.check(beside, proto).templates
    assert not lipcert.check(without, proto).templates


def test_a_function_inside_a_function_is_not_inlined_either() -> None:
    body = [node("Neg", ["x"], ["n"]), node("X", ["n"], ["y"], domain=DOMAIN)]
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)]
    outer = helper.make_function(DOMAIN, "Outer", ["x"], ["y"], body, imports)
    for functions in ([outer, absolute()], [absolute(), outer], [outer]):
        proto = between(custom("v", "a", "Outer"), functions=functions)
        imported = load_proto(proto, templates=[slopes(-1.0, 1.0)])
        assert [t.name for t in imported.templates] == ["slopes"]
        assert conditional(imported) == pytest.approx(
            upper_of(real(imported.graph, lambda f: Abs()), Query()), rel=NATIVE
        )


def test_a_function_that_is_named_as_a_standard_op_stays_itself() -> None:
    """Relu is 5 x here, as without templates; one that names Relu, besides, must not turn it into relu, or refuse it.

    ONNX leaves to runtimes which of the two it is (onnxruntime: its own op), so that lipcert should not say both.
    """
    body = [node("Constant", [], ["c"], value_float=5.0), node("Mul", ["x", "c"], ["t"])]
    five = helper.make_function("", "Relu", ["x"], ["t"], body, [helper.make_opsetid("", 20)])
    proto = between(node("Relu", ["v"], ["r"]), custom("r", "a"), functions=[five])
    inlined = conditional(load_proto(proto, templates=[slopes(-5.0, 5.0)]))
    try:
        both = conditional(load_proto(proto, templates=[slopes(-5.0, 5.0, "Relu", OP)]))
    except LipcertError:
        return
    assert both >= inlined * (1 - NATIVE)


# Networks around the nodes

AROUND: dict[str, list[NodeProto]] = {
    "several": [custom("v", "p"), custom("p", "q"), custom("q", "a")],
    "beside relu": [custom("v", "p"), node("Relu", ["v"], ["r"]), node("Add", ["p", "r"], ["a"])],
    "residual": [custom("v", "p"), node("Add", ["p", "x"], ["s"]), node("Relu", ["s"], ["a"])],
    "two readers": [custom("v", "p"), node("Neg", ["p"], ["n"]), node("Sub", ["p", "n"], ["a"])],
    "behind a relu": [node("Relu", ["v"], ["r"]), node("Gemm", ["r", "w2", "b"], ["h"]), custom("h", "a")],
    "before a relu": [custom("v", "p"), node("Gemm", ["p", "w2", "b"], ["h"]), node("Relu", ["h"], ["a"])],
    "maximum": [custom("v", "p"), node("Max", ["p", "v"], ["a"])],
    "alias": [custom("v", "p"), node("Identity", ["p"], ["a"])],
    "dropout": [custom("v", "p"), node("Dropout", ["p"], ["a"])],
    "scaled": [custom("v", "p"), node("Mul", ["p", "b"], ["a"])],
    "another shape and back": [
        custom("v", "p"),
        node("Unsqueeze", ["p", "axis"], ["q"]),
        node("Squeeze", ["q", "axis"], ["a"]),
    ],
}


@pytest.mark.parametrize("name", AROUND)
def test_networks_around_templated_nodes(name: str) -> None:
    """The bound is that of LeakyRelu in their place, and pairs of that network are not steeper."""
    imported = load_proto(between(*AROUND[name]), templates=[slopes(0.25, 1.0)])
    assert imported.check is not None
    leaky = real(imported.graph, lambda f: LeakyRelu(0.25))
    found = conditional(imported)
    assert found == pytest.approx(upper_of(leaky, Query()), rel=NATIVE)
    assert steepest_pairs(pose(leaky, Query()), np.random.default_rng(3), 4000)[2.0, 2.0] <= found


RENAMED: dict[str, list[NodeProto]] = {
    "an alias beside it": [custom("v", "p"), node("Identity", ["p"], ["q"]), node("Add", ["p", "q"], ["a"])],
    "two aliases": [
        custom("v", "p"),
        node("Identity", ["p"], ["q"]),
        node("Dropout", ["p"], ["r"]),
        node("Add", ["q", "r"], ["a"]),
    ],
    "another shape": [custom("v", "p"), node("Unsqueeze", ["p", "axis"], ["a"])],
    "another shape that broadcasts": [
        custom("v", "p"),
        node("Unsqueeze", ["p", "axis"], ["q"]),
        node("Add", ["p", "q"], ["a"]),
    ],
}


@pytest.mark.parametrize("name", RENAMED)
def test_a_result_under_several_names_and_shapes(name: str) -> None:
    imported = load_proto(between(*RENAMED[name]), templates=[slopes(0.25, 1.0)])
    leaky = real(imported.graph, lambda f: LeakyRelu(0.25))
    assert conditional(imported) == pytest.approx(upper_of(leaky, Query()), rel=NATIVE)


def test_a_convolutional_network_that_is_flattened_behind_the_node() -> None:
    nodes = [
        node("Conv", ["x", "k"], ["v"]),
        custom("v", "p"),
        node("Flatten", ["p"], ["f"]),
        node("MatMul", ["f", "u"], ["y"]),
    ]
    weights = {"k": random_weights(2, 1, 1, 1), "u": random_weights(32, 3)}
    proto = model(nodes, {"x": (1, 1, 4, 4)}, ["y"], weights, domains={DOMAIN: 1})
    conditional(load_proto(proto, templates=[slopes(0.25, 1.0)]))


def test_the_node_at_an_end() -> None:
    first = network([custom("x", "a"), node("MatMul", ["a", "u"], ["y"])])
    last = network([node("MatMul", ["x", "w"], ["v"]), custom("v", "y")])
    for proto in (first, last):
        imported = load_proto(proto, templates=[slopes(0.25, 1.0)])
        leaky = real(imported.graph, lambda f: LeakyRelu(0.25))
        assert conditional(imported) == pytest.approx(upper_of(leaky, Query()), rel=NATIVE)


def test_the_node_alone() -> None:
    assert conditional(load_proto(network([custom("x", "y")]), templates=[slopes(0.25, 1.0)])) == pytest.approx(1)


def test_a_batch_of_any_size() -> None:
    fixed, free = (between(custom("v", "a"), shape=(n, 8)) for n in (1, "n"))
    bounds = [conditional(load_proto(proto, templates=[slopes(0.0, 1.0)])) for proto in (fixed, free)]
    assert bounds[0] == bounds[1]


def test_float64() -> None:
    weights = {"w": random_weights(8, 8).astype(float)}
    nodes = [node("MatMul", ["x", "w"], ["v"]), custom("v", "a"), node("MatMul", ["a", "w"], ["y"])]
    proto = model(nodes, {"x": (1, 8)}, ["y"], weights, domains={DOMAIN: 1}, element=TensorProto.DOUBLE)
    imported = load_proto(proto, templates=[slopes(0.25, 1.0)])
    leaky = real(imported.graph, lambda f: LeakyRelu(0.25))
    assert conditional(imported) == pytest.approx(upper_of(leaky, Query()), rel=NATIVE)


def test_stored_tensors_may_be_declared_as_inputs() -> None:
    """As in files of before IR version 4; here one of whole numbers comes first."""
    proto = between(*AROUND["another shape and back"])
    proto.graph.input.insert(0, helper.make_tensor_value_info("axis", TensorProto.INT64, [1]))
    conditional(load_proto(proto, templates=[slopes(0.25, 1.0)]))


def test_only_one_of_two_outputs_has_templated_nodes() -> None:
    """What is said of the other is conditional, too, though the bound is the same."""
    nodes = [
        node("MatMul", ["x", "w"], ["v"]),
        node("Relu", ["v"], ["r"]),
        node("MatMul", ["r", "u"], ["plain"]),
        custom("v", "a"),
        node("MatMul", ["a", "u"], ["bent"]),
    ]
    proto = network(nodes, outputs=("plain", "bent"))
    imported = load_proto(proto, templates=[slopes(0.25, 1.0)])
    alone = lipcert.bound(network(nodes[:3], outputs=("plain",)), method="lipsdp")
    plain, bent = (lipcert.bound(imported, output=name) for name in ("plain", "bent"))
    assert plain.status == bent.status == "conditional"
    assert alone.upper is not None
    assert plain.upper == pytest.approx(alone.upper, rel=NATIVE)
    for report in (plain, bent):
        assert lipcert.check(report, imported).templates == imported.templates


def test_a_constant_through_the_node_is_refused() -> None:
    """Its value is not known."""
    proto = between(custom("b", "k"), custom("v", "p"), node("Add", ["p", "k"], ["a"]))
    with pytest.raises(ModelError):
        load_proto(proto, templates=[slopes(0.0, 1.0)])


def test_values_are_not_invented() -> None:
    """A product of two of the op's results has slopes of any size, in a ball as well."""
    proto = between(custom("v", "p"), node("Mul", ["p", "p"], ["a"]))
    imported = load_proto(proto, templates=[slopes(0.0, 1.0)])
    for region in REGIONS.values():
        with pytest.raises(UnsupportedModelError, match="slope 2 x"):
            lipcert.bound(imported, region=region)


# The self-check


def break_relu(monkeypatch: pytest.MonkeyPatch) -> None:
    for version in registry.supported_ops()["Relu"]:
        wrong = lambda build, op: build.elementwise(op, op.real(0), LeakyRelu(0.3))  # noqa: E731
        monkeypatch.setitem(registry._CONVERTERS, ("", "Relu", version), wrong)


@pytest.mark.parametrize("name", ["before a relu", "behind a relu", "beside relu", "residual"])
def test_an_error_elsewhere_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = between(*AROUND[name])
    break_relu(monkeypatch)
    load_proto(proto, check=False, templates=[slopes(0.25, 1.0)])
    assert_refused(lambda: load_proto(proto, templates=[slopes(0.25, 1.0)]), ModelError, "onnxruntime")


def test_an_error_in_the_weights_behind_the_node_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    right = registry.find_converter("", "MatMul", 13)
    assert right is not None

    def swapped(build: Any, op: Any) -> Any:
        """The product with the columns of u in another order."""
        known = op.inputs[1]
        data = replace(known.data, value=known.data.value[:, ::-1])
        return right(build, replace(op, inputs=(op.inputs[0], replace(known, data=data))))

    monkeypatch.setitem(registry._CONVERTERS, ("", "MatMul", 13), swapped)
    load_proto(one(), check=False, templates=[slopes(0.0, 1.0)])
    assert_refused(lambda: load_proto(one(), templates=[slopes(0.0, 1.0)]), ModelError, "'y'", "onnxruntime")


def test_every_tensor_but_the_templated_is_compared() -> None:
    imported = load_proto(two(), templates=[slopes(0.0, 1.0)])
    assert imported.check is not None
    assert imported.check.tensors == 3  # v, h, y


# Scale


def scaled(factor: float, **attributes: Any) -> onnx.ModelProto:
    """Three matrices with this factor each, and the op between them."""
    parts = {"p": (4, 8), "q": (8, 8), "r": (8, 3)}
    weights = {
        name: (random_weights(*shape, seed=i) * np.float32(factor / 3)).astype(np.float32)
        for i, (name, shape) in enumerate(parts.items())
    }
    nodes = [
        node("MatMul", ["x", "p"], ["v"]),
        custom("v", "a", **attributes),
        node("MatMul", ["a", "q"], ["h"]),
        custom("h", "c", **attributes),
        node("MatMul", ["c", "r"], ["y"]),
    ]
    return model(nodes, {"x": (1, 4)}, ["y"], weights, domains={DOMAIN: 1})


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("abs", 1e-3),
        ("abs", 0.1),
        ("abs", 10.0),
        ("permutations", 0.1),
        ("permutations", 10.0),
        ("maxmin", 3.0),
        pytest.param("abs", 1000.0),
        pytest.param("maxmin", 30.0),
        pytest.param("maxmin", 0.03),
        pytest.param("maxmin", 1e-3),
    ],
)
def test_the_bound_scales_with_the_weights(name: str, factor: float) -> None:
    """As that of the true activation, which is found at each of these scales."""
    attributes = {"group": 4} if name == "permutations" else {"group": 1} if name == "abs" else {}
    imported = load_proto(scaled(factor, **attributes), templates=[renamed(name)])
    true = real(imported.graph, lambda f: Abs() if name == "abs" else GroupSort(f.width))
    best = upper_of(true, WHOLE)
    assert conditional(imported) <= best * (1 + (FREE if name == "maxmin" else NATIVE))
