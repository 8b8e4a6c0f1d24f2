"""LipSDP as a matrix inequality: whatever scales are given, what the kernel proves from them is true."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from lipcert.activations import LeakyRelu, Relu, Sqrt
from lipcert.activations.lp_norm import LpNormalise
from lipcert.arithmetic.enclosure import exact
from lipcert.certificate import Claim, verify
from lipcert.certificate import inequality as kernel
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.balls import BallArithmetic
from lipcert.certificate.chains import Setting
from lipcert.certificate.claim import Inequality, Scaling
from lipcert.certificate.inequality import inequality, inequality_bound
from lipcert.errors import NotProvedError
from lipcert.graph import Affine, Elementwise, Graph, Groupwise, Input, Node, Output
from lipcert.methods import Progress
from lipcert.methods.lipsdp import LipSdpMethod
from lipcert.operators import Dense, Identity
from lipcert.problem import Ball, Everywhere, Norm, Query, pose
from tests.helpers.exact import is_semidefinite
from tests.helpers.graphs import random_graph
from tests.helpers.inequalities import (
    NETWORKS,
    REGIONS,
    SCALES,
    Builder,
    attained,
    exactly,
    in_floats,
    largest,
    neurons,
    same_in_groups,
    setting_of,
    tight,
    with_norms,
)
from tests.helpers.operators import as_fractions

MARGIN = 1 + 1e-9
"""For the rounding of what is sampled."""

ENOUGH = 1e308
IN: tuple[Norm, ...] = (2.0, math.inf)
OUT: tuple[Norm, ...] = (1.0, 2.0, math.inf)
PARTS = ("inputs", "hidden", "outputs")
in_both = pytest.mark.parametrize("arithmetic", [Arithmetic, BallArithmetic], ids=["float64", "balls"])


def bound_of(setting: Setting, *scalings: Scaling) -> float:
    return inequality_bound(setting, Inequality(scalings))


def proves(setting: Setting, scaling: Scaling) -> bool:
    return setting.by.proves_positive(inequality(setting, scaling))


@pytest.mark.parametrize("kind", REGIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_no_sampled_ratio_exceeds_what_any_scales_prove(name: str, kind: str) -> None:
    rng = np.random.default_rng([*name.encode(), *kind.encode()])
    problem = pose(NETWORKS[name](rng), Query(region=REGIONS[kind](rng)))
    steepest = attained(problem, rng)
    setting = setting_of(problem)
    for scales in SCALES:
        scaling = tight(setting, rng, scales)
        for p in IN:
            for q in OUT:
                assert 0 < steepest[p, q] <= bound_of(with_norms(setting, p, q), scaling) * MARGIN


@pytest.mark.parametrize("name", NETWORKS)
def test_no_sampled_ratio_exceeds_what_the_solvers_scales_prove_for_any_norms(name: str) -> None:
    """Also where they were found for other norms; and they prove what was claimed."""
    rng = np.random.default_rng([*name.encode()])
    problem = pose(NETWORKS[name](rng), Query(region=REGIONS["a ball"](rng)))
    steepest = attained(problem, rng)
    setting = setting_of(problem)
    for p, q in ((2.0, 2.0), (math.inf, 1.0), (2.0, math.inf)):
        asked = replace(problem, query=replace(problem.query, norm_in=p, norm_out=q))
        claim = list(LipSdpMethod().claims(asked, Progress(linear=False)))[-1]
        assert isinstance(claim.evidence, Inequality)
        assert steepest[p, q] <= verify(asked, claim) * MARGIN
        for norms in ((a, b) for a in IN for b in OUT):
            assert steepest[norms] <= bound_of(with_norms(setting, *norms), claim.evidence.scalings[0]) * MARGIN


@pytest.mark.parametrize("seed", range(12))
def test_no_sampled_ratio_exceeds_what_scales_of_random_networks_prove(seed: int) -> None:
    """Any nodes, weights known up to a radius, several inputs of which some may be anything."""
    rng = np.random.default_rng([seed, 71])
    graph = random_graph(rng, inputs=1 + seed % 2, depth=3 + seed % 3, width=4)
    varying = tuple(list(graph.inputs)[: 1 + seed // 2 % 2])
    size = sum(graph.size(graph.inputs[name]) for name in varying)
    region = Ball(rng.normal(size=size), 0.3, 2.0) if seed % 3 else Everywhere()
    problem = pose(graph, Query(region=region, inputs=varying))
    setting = setting_of(problem)
    assert all(np.all(np.isfinite(setting.increments.bound(i).spectral)) for i in setting.increments.nonlinear)  # type: ignore[union-attr]
    steepest = attained(problem, rng)
    for scales in SCALES:
        scaling = tight(setting, rng, scales)
        for p in IN:
            for q in OUT:
                assert steepest[p, q] <= bound_of(with_norms(setting, p, q), scaling) * MARGIN


@pytest.mark.parametrize("size", [1e-150, 1e-80, 1e80, 1e150])
@pytest.mark.parametrize("name", ["relu", "abs", "maxmin", "groupsort of 3", "max of 4", "residual"])
def test_no_sampled_ratio_exceeds_what_scales_prove_where_values_are_tiny_or_huge(name: str, size: float) -> None:
    """Before the last layer everything is multiplied by `size`, after it divided: the scales follow."""
    rng = np.random.default_rng([*name.encode(), 5])
    problem = pose(NETWORKS[name](rng), Query())
    plain = tight(setting_of(problem), rng, "random")
    changed = pose(_through(problem.graph, size), Query())
    scaling = replace(plain, hidden=plain.hidden * size, outputs=plain.outputs * (1 - 1e-9))
    steepest = attained(changed, np.random.default_rng(1))
    true = attained(problem, np.random.default_rng(1))
    for q in OUT:
        bound = bound_of(with_norms(setting_of(changed), 2.0, q), scaling)
        assert max(steepest[2.0, q], true[2.0, q]) <= bound * MARGIN


def _through(graph: Graph, size: float) -> Graph:
    """What reads the input multiplied by `size`, biases too, what the output reads divided by it."""
    nodes = list(graph.nodes)
    last = graph.outputs[0].node
    while len(nodes[last].inputs) == 1 and isinstance(nodes[nodes[last].inputs[0]], Affine):
        last = nodes[last].inputs[0]  # the selection of outputs comes after it
    for i, node in enumerate(nodes):
        if isinstance(node, Affine) and i > 1:
            reads = [size if s <= 1 else 1.0 for s in node.inputs]
            factors = [by / size if i == last else by for by in reads]
            operators = tuple(
                Dense(by * np.asarray(op.weights)) if by != 1 else op  # type: ignore[attr-defined]
                for op, by in zip(node.operators, factors, strict=True)
            )
            nodes[i] = replace(node, operators=operators, bias=exact(node.bias.value * (1.0 if i >= last else size)))
    return Graph(tuple(nodes), graph.outputs)


@pytest.mark.parametrize("seed", range(6))
def test_scales_of_any_size_prove_nothing_false(seed: int) -> None:
    """From 1e-150 to 1e150, larger from node to node: products underflow, and mostly nothing is proven."""
    rng = np.random.default_rng([seed, 3])
    problem = pose(NETWORKS["relu"](rng), Query())
    setting, steepest = setting_of(problem), attained(problem, rng)
    proven = 0
    for _ in range(40):
        ends = np.sort(rng.uniform(-150, 150, 4))
        inputs, hidden = (10.0 ** rng.uniform(a, b, n) for a, b, n in ((ends[0], ends[0], 3), (ends[1], ends[1], 10)))
        hidden[5:] = 10.0 ** rng.uniform(ends[2], ends[3], 5)
        scaling = Scaling(inputs, hidden, 10.0 ** rng.uniform(-150, ends[2] - 10, 2))
        for p in IN:
            for q in OUT:
                try:
                    bound = bound_of(with_norms(setting, p, q), scaling)
                except NotProvedError:
                    continue
                proven += 1
                assert steepest[p, q] <= bound * MARGIN
    assert proven


@in_both
@pytest.mark.parametrize("floor", [1.0, 1e100, 1e150, 1e290, 1e305])
def test_groups_that_are_almost_flat_are_not_taken_for_constant(floor: float, arithmetic: type[Arithmetic]) -> None:
    """The bound on the Jacobian of a group over its scale may be below all numbers; weights make up for it.

    Near zero the network is the first input over `floor`, whatever the scales; P > 0 would say that it is less.
    """
    nodes = (
        Input("x", (2,)),
        Affine((0,), (Dense(1e150 * np.eye(2)),), exact(np.zeros(2)), (2,)),
        Groupwise(1, LpNormalise(2, 2, floor), (2,)),
        Affine((2,), (Dense(1e-150 * np.eye(1, 2)),), exact(np.zeros(1)), (1,)),
    )
    setting = setting_of(pose(Graph(nodes, (Output("y", 3),)), Query()), arithmetic())
    proven = 0
    for place in (-100, -50, 0, 50, 100, 150, 200, 250):
        for more in (10.0, 0.1):
            # |s W a / e| = more, in exact arithmetic
            inputs = Fraction(more) * Fraction(10) ** (place - 150) * Fraction(floor)
            if not Fraction(1e-290) < inputs < Fraction(1e290):
                continue
            scaling = Scaling(np.full(2, float(inputs)), np.full(2, 10.0**place), np.full(1, 1e-300))
            assert not (more > 1 and proves(setting, scaling)), place
            proven += proves(setting, scaling)
    assert proven


# Exactly, in fractions.


@pytest.mark.one_in(3)
@in_both
@pytest.mark.parametrize("name", NETWORKS)
def test_what_the_kernel_proves_positive_is_so_in_exact_arithmetic(name: str, arithmetic: type[Arithmetic]) -> None:
    """At the largest scales of outputs that it proves; and a millionth beyond, it is not true."""
    rng = np.random.default_rng([*name.encode(), 8])
    problem = pose(NETWORKS[name](rng), Query(region=REGIONS["a ball"](rng)))
    setting = setting_of(problem, arithmetic())
    definition = exactly(setting, rng)
    for kind in ("equal", "random"):
        scaling = tight(setting, rng, kind)

        def moved(factor: float, scaling: Scaling = scaling) -> Scaling:
            return replace(scaling, outputs=scaling.outputs * factor)

        low, high = 1 - 1e-6, 1 + 1e-3
        for _ in range(50 if arithmetic is Arithmetic else 30):
            middle = low / 2 + high / 2
            low, high = (middle, high) if proves(setting, moved(middle)) else (low, middle)
        assert proves(setting, moved(low))
        assert is_semidefinite(definition.of(moved(low)), strictly=True)
        beyond = moved(low * (1 + 1e-6))
        assert not is_semidefinite(definition.of(beyond))
        assert not proves(setting, beyond)
        for p, q in ((2.0, 2.0), (math.inf, math.inf)):
            into = np.sum if p == math.inf else np.max
            truth = into(1 / as_fractions(scaling.inputs) ** 2) * max(1 / as_fractions(moved(low).outputs) ** 2)
            found = Fraction(bound_of(with_norms(setting, p, q), moved(low))) ** 2
            assert truth <= found <= truth * (1 + Fraction(1, 10**14))


def within_errors(setting: Setting, scaling: Scaling, rng: np.random.Generator) -> Fraction:
    """The largest row sum of what P lacks, relative to what it is allowed."""
    matrix, errors = inequality(setting, scaling).dense()
    lacking = abs(exactly(setting, rng).of(scaling) - as_fractions(matrix)).sum(axis=1)
    allowed = as_fractions(errors)
    assert np.all(allowed >= 0)
    return max(a / b if b else Fraction(int(a > 0) * 2) for a, b in zip(lacking, allowed, strict=True))


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", NETWORKS)
def test_row_sums_of_the_errors_hold_the_exact_inequality(name: str) -> None:
    """Weights anywhere within their radius, good scales and bad; and the errors are those of roundings."""
    rng = np.random.default_rng([*name.encode(), 9])
    for region in REGIONS.values():
        problem = pose(NETWORKS[name](rng), Query(region=region(rng)))
        for by in (Arithmetic(), BallArithmetic()):
            setting = setting_of(problem, by)
            sizes = setting.graph.size(setting.x), sum(neurons(setting)), setting.graph.size(setting.y)
            for spread in (0.0, 1.0, 6.0):
                inputs, hidden, outputs = (10.0 ** rng.uniform(-spread, spread, n) for n in sizes)
                scaling = Scaling(inputs, same_in_groups(setting, hidden), outputs)
                assert within_errors(setting, scaling, rng) <= 1
                matrix, errors = inequality(setting, scaling).dense()
                assert errors.max() <= 1e-12 * np.abs(matrix).max()


@pytest.mark.parametrize("seed", range(12))
def test_row_sums_of_the_errors_hold_the_exact_inequality_of_random_networks(seed: int) -> None:
    rng = np.random.default_rng([seed, 72])
    graph = random_graph(rng, inputs=1, depth=3 + seed % 3, width=4)
    region = Ball(rng.normal(size=graph.size(next(iter(graph.inputs.values())))), 0.3, 2.0) if seed % 3 else None
    problem = pose(graph, Query(region=region or Everywhere()))
    setting = setting_of(problem)
    sizes = setting.graph.size(setting.x), sum(neurons(setting)), setting.graph.size(setting.y)
    for spread in (0.0, 2.0, 40.0):
        inputs, hidden, outputs = (10.0 ** rng.uniform(-spread, spread, n) for n in sizes)
        hidden = same_in_groups(setting, hidden) if hidden.size else hidden
        assert within_errors(setting, Scaling(inputs, hidden, outputs), rng) <= 1


# P from the definition.


@pytest.mark.parametrize("name", NETWORKS)
def test_the_inequality_is_the_one_of_the_definition(name: str) -> None:
    rng = np.random.default_rng([*name.encode(), 11])
    for region in REGIONS.values():
        setting = setting_of(pose(NETWORKS[name](rng), Query(region=region(rng))))
        sizes = setting.graph.size(setting.x), sum(neurons(setting)), setting.graph.size(setting.y)
        inputs, hidden, outputs = (10.0 ** rng.uniform(-2, 2, n) for n in sizes)
        scaling = Scaling(inputs, same_in_groups(setting, hidden), outputs)
        form = inequality(setting, scaling)
        assert form.sizes == [sizes[0], *neurons(setting)]
        (found, _), expected = form.dense(), in_floats(setting).of(scaling)
        assert np.array_equal(found, found.T)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())


def test_the_inequality_of_a_relu_network_is_the_one_of_its_weights() -> None:
    """From the network itself, not from its increments: neurons of fixed slope are linear."""
    rng = np.random.default_rng(12)
    first, last, direct = rng.normal(size=(4, 2)), rng.normal(size=(3, 4)), rng.normal(size=(3, 2))
    bias = np.array([0.0, 9.0, -9.0, 0.1])  # the second neuron is on, the third off
    nodes = (
        Input("x", (2,)),
        Affine((0,), (Dense(first),), exact(bias), (4,)),
        Elementwise(1, Relu(), (4,)),
        Affine((2, 0), (Dense(last), Dense(direct)), exact(np.zeros(3)), (3,)),
    )
    problem = pose(Graph(nodes, (Output("y", 3),)), Query(region=Ball(np.zeros(2), 0.5, 2.0)))
    open_ones, fixed = [0, 3], np.diag([0.0, 1.0, 0.0, 0.0])
    a, e, c = rng.random(2) + 0.5, rng.random(2) + 0.5, rng.random(3) + 0.5
    below = -0.5 * np.diag(1 / e) @ first[open_ones] @ np.diag(a)  # dz^2 - dz dv
    out = np.diag(c) @ np.hstack([(last @ fixed @ first + direct) @ np.diag(a), last[:, open_ones] @ np.diag(e)])
    expected = np.block([[np.eye(2), below.T], [below, np.eye(2)]]) - out.T @ out
    found = inequality(setting_of(problem), Scaling(a, e, c)).dense()[0]
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, -0.25])
def test_the_inequality_bounds_what_slopes_within_their_range_give(alpha: float) -> None:
    """P as a form: never above |dx / a|^2 - |c dy|^2 where every dz is a slope times dv, and equal at the ends."""
    rng = np.random.default_rng(22)
    w = [rng.normal(size=shape) for shape in ((3, 2), (3, 3), (2, 3))]
    nodes: list[Node] = [Input("x", (2,))]
    for each in w:
        nodes.append(Affine((len(nodes) - 1,), (Dense(each),), exact(np.zeros(len(each))), (len(each),)))
        nodes.append(Elementwise(len(nodes) - 1, LeakyRelu(alpha), (len(each),)))
    setting = setting_of(pose(Graph(tuple(nodes[:-1]), (Output("y", len(nodes) - 2),)), Query()))
    scaling = Scaling(*(10.0 ** rng.uniform(-1, 1, n) for n in (2, 6, 2)))
    form = inequality(setting, scaling).dense()[0]
    for turn in range(2000):
        dx = rng.normal(size=2)
        slopes = rng.uniform(alpha, 1, (2, 3)) if turn % 2 else rng.choice([alpha, 1.0], (2, 3))
        first = slopes[0] * (w[0] @ dx)
        second = slopes[1] * (w[1] @ first)
        at = np.concatenate([dx / scaling.inputs, first / scaling.hidden[:3], second / scaling.hidden[3:]])
        value = at @ form @ at
        least = np.sum((dx / scaling.inputs) ** 2) - np.sum((scaling.outputs * (w[2] @ second)) ** 2)
        size = 1e-12 * np.abs(at) @ np.abs(form) @ np.abs(at)
        assert value <= least + size
        assert turn % 2 or abs(value - least) <= size


# What is refused.


def usual() -> tuple[Setting, Scaling]:
    rng = np.random.default_rng(13)
    setting = setting_of(pose(NETWORKS["groupsort of 3"](rng), Query()))
    return setting, tight(setting, rng, "random")


@in_both
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("edit", ["shorter", "longer", "empty", "a column", "a scalar"])
def test_scales_of_another_size_are_refused(part: str, edit: str, arithmetic: type[Arithmetic]) -> None:
    setting, scaling = usual()
    array = getattr(scaling, part)
    changed = {
        "shorter": array[:-1],
        "longer": np.append(array, 1.0),
        "empty": array[:0],
        "a column": array[:, None],
        "a scalar": np.array(1.0),
    }[edit]
    with pytest.raises(NotProvedError, match="do not fit"):
        bound_of(replace(setting, by=arithmetic()), replace(scaling, **{part: changed}))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", [np.float32, np.longdouble, np.int64, object])
def test_scales_that_are_not_float64_are_refused(part: str, kind: type) -> None:
    setting, scaling = usual()
    changed = np.ceil(getattr(scaling, part)).astype(kind)
    with pytest.raises(NotProvedError, match="not float64"):
        bound_of(setting, replace(scaling, **{part: changed}))


@in_both
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("value", [0.0, -0.0, -1.0, -1e-300, math.nan, math.inf, -math.inf])
def test_a_scale_that_is_not_finite_and_positive_is_refused(
    part: str, value: float, arithmetic: type[Arithmetic]
) -> None:
    """Zero is an output left out, which then has no bound."""
    setting, scaling = usual()
    for place in (0, -1):
        array = getattr(scaling, part).copy()
        array[place] = value
        changed = replace(scaling, **{part: array})
        if part == "outputs" and value == 0:
            assert bound_of(replace(setting, by=arithmetic()), changed) == math.inf
        else:
            with pytest.raises(NotProvedError, match="is not a finite number"):
                bound_of(replace(setting, by=arithmetic()), changed)


@pytest.mark.parametrize("q", OUT)
def test_outputs_that_no_scaling_speaks_of_are_not_bounded(q: Norm) -> None:
    rng = np.random.default_rng(14)
    problem = pose(NETWORKS["relu"](rng), Query(norm_out=q))
    setting = setting_of(problem)
    scaling = tight(setting, rng, "random")
    for left in (np.zeros(2), np.array([1.0, 0.0]), np.array([0.0, 1.0])):
        some = replace(scaling, outputs=scaling.outputs * left)
        assert bound_of(setting, some) == math.inf
        with pytest.raises(NotProvedError, match="above the claimed"):
            verify(problem, Claim(ENOUGH, Inequality((some,))))


def test_no_scalings_prove_nothing() -> None:
    with pytest.raises(NotProvedError, match="no scaling is given"):
        bound_of(usual()[0])


@pytest.mark.parametrize("q", [1.0, 2.0])
def test_several_scalings_bound_outputs_in_linf_only(q: Norm) -> None:
    setting, scaling = usual()
    halves = [replace(scaling, outputs=scaling.outputs * half) for half in (np.array([1.0, 0]), np.array([0, 1.0]))]
    for scalings in (halves, [scaling, scaling]):
        with pytest.raises(NotProvedError, match="l-infinity only"):
            bound_of(with_norms(setting, 2.0, q), *scalings)
        assert math.isfinite(bound_of(with_norms(setting, 2.0, math.inf), *scalings))


@pytest.mark.parametrize("name", ["groupsort of 3", "groupsort of 4"])
def test_scales_that_differ_within_a_group_are_refused(name: str) -> None:
    rng = np.random.default_rng(15)
    setting = setting_of(pose(NETWORKS[name](rng), Query()))
    scaling = tight(setting, rng, "random")
    for place in range(scaling.hidden.size):
        hidden = scaling.hidden.copy()
        hidden[place] = np.nextafter(hidden[place], 0)
        with pytest.raises(NotProvedError, match=r"scales of a group of node \d+ differ"):
            bound_of(setting, replace(scaling, hidden=hidden))


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_over_the_size_limit_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is compared with at least the entries that would then be written."""
    rng = np.random.default_rng([*name.encode(), 23])
    setting = setting_of(pose(NETWORKS[name](rng), Query()))
    scaling = tight(setting, rng, "random")
    entries = sum(block.size for block in inequality(setting, scaling).blocks.values())
    whole = (setting.graph.size(setting.x) + sum(neurons(setting))) ** 2
    monkeypatch.setattr(kernel, "MAX_ENTRIES", entries if name in ("relu", "abs", "tanh") else whole)
    inequality(setting, scaling)
    monkeypatch.setattr(kernel, "MAX_ENTRIES", entries - 1)
    for act in (inequality, bound_of):
        with pytest.raises(NotProvedError, match=r"\d+ inputs and neurons are over the kernel's size limit"):
            act(setting, scaling)


def test_what_the_factorisation_fills_in_counts_towards_the_size_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each layer reads the input, too: without it, every layer sees all others."""
    build = Builder(np.random.default_rng(25))
    at = 0
    for _ in range(10):
        at = build.active(build.affine(5, 0, *([at] if at else [])), Relu())
    build.affine(1, at)
    setting = setting_of(pose(build.graph(), Query()))
    scaling = Scaling(np.full(3, 1e-9), np.repeat(4.0 ** np.arange(10), 5), np.full(1, 1e-30))
    entries = sum(block.size for block in inequality(setting, scaling).blocks.values())
    filled = 3 * 3 + 10 * 5 * 3 + 25 * 55
    assert entries < filled / 2
    monkeypatch.setattr(kernel, "MAX_ENTRIES", filled)
    inequality(setting, scaling)
    monkeypatch.setattr(kernel, "MAX_ENTRIES", filled - 1)
    with pytest.raises(NotProvedError, match="neurons are over the kernel's size limit"):
        inequality(setting, scaling)


@pytest.mark.parametrize("weight", [0.0, 1.0])
@in_both
def test_nodes_of_infinite_slope_are_refused_whatever_reads_them(weight: float, arithmetic: type[Arithmetic]) -> None:
    nodes = (
        Input("x", (1,)),
        Elementwise(0, Sqrt(), (1,)),
        Affine((1, 0), (Dense(np.array([[weight]])), Identity(1)), exact(np.zeros(1)), (1,)),
    )
    region = Ball(np.ones(1), 1.0, 2.0)
    setting = setting_of(pose(Graph(nodes, (Output("y", 2),)), Query(region=region)), arithmetic())
    for size in (1e-300, 1e-3, 1.0, 1e300):
        with pytest.raises(NotProvedError, match="not proven positive definite"):
            bound_of(setting, Scaling(np.array([1e-3]), np.array([size]), np.array([1e-3])))


@in_both
@pytest.mark.parametrize("name", ["leaky relu", "abs", "groupsort of 3", "residual"])
def test_what_overflows_is_refused(name: str, arithmetic: type[Arithmetic]) -> None:
    """A scale of any kind at either end of the numbers, alone or with all of its kind."""
    rng = np.random.default_rng([*name.encode(), 24])
    problem = pose(NETWORKS[name](rng), Query())
    setting = setting_of(problem, arithmetic())
    scaling, steepest = tight(setting, rng, "random"), attained(problem, rng)[2.0, 2.0]
    refused = 0
    for part in PARTS:
        for size in (5e-324, 1e-310, 1e-200, 1e200, 1.7e308):
            for alone in (False, True):
                array = getattr(scaling, part)
                array = np.where((np.arange(array.size) == 0) | (not alone), size, array)
                array = same_in_groups(setting, array.copy()) if part == "hidden" else array
                try:
                    assert bound_of(setting, replace(scaling, **{part: array})) >= steepest / MARGIN
                except NotProvedError:
                    refused += 1
                else:
                    assert part != "hidden" or size < 1
                    assert part == "hidden" or size < 1
    assert refused >= 12


def test_what_is_not_positive_is_refused() -> None:
    """By a millionth, in scales of inputs or outputs."""
    setting, scaling = usual()
    assert bound_of(setting, scaling) > 0
    for part in ("inputs", "outputs"):
        with pytest.raises(NotProvedError, match=r"matrix inequality, 15 x 15, is not proven positive definite"):
            bound_of(setting, replace(scaling, **{part: getattr(scaling, part) * 1.5}))
    with pytest.raises(NotProvedError, match="not proven"):
        bound_of(setting, replace(scaling, outputs=scaling.outputs * (1 + 1e-6)))


@pytest.mark.parametrize("part", PARTS)
def test_scales_that_were_changed_after_their_proof_are_proven_anew(part: str) -> None:
    """In place, by whoever made them: what is remembered is not what is read."""
    setting, scaling = usual()
    own = replace(scaling, **{name: getattr(scaling, name).copy() for name in PARTS})
    assert bound_of(setting, own) == bound_of(setting, scaling)
    getattr(own, part)[:] *= 1.5 if part != "hidden" else 1e-3
    with pytest.raises(NotProvedError, match="not proven positive definite"):
        bound_of(setting, own)
    with pytest.raises(NotProvedError, match="not proven positive definite"):
        bound_of(setting, replace(own, inputs=own.inputs * (1 - 2.0**-40)))


def test_smaller_scales_of_inputs_are_proven_by_larger_ones_and_not_the_reverse() -> None:
    setting, scaling = usual()
    proven = bound_of(setting, scaling)
    assert bound_of(setting, replace(scaling, inputs=scaling.inputs / 2)) == pytest.approx(2 * proven, rel=1e-12)
    for place in range(scaling.inputs.size):
        inputs = scaling.inputs / 2
        inputs[place] *= 8
        with pytest.raises(NotProvedError, match="not proven"):
            bound_of(setting, replace(scaling, inputs=inputs))
    for part in ("hidden", "outputs"):
        changed = getattr(scaling, part) * (1.1 if part == "outputs" else 1e-3)
        with pytest.raises(NotProvedError, match="not proven"):
            bound_of(setting, replace(scaling, **{part: changed}))


# Outputs in l-infinity.


@pytest.mark.parametrize("p", IN)
def test_several_scalings_bound_each_output_by_the_least_and_all_by_the_largest_of_these(p: Norm) -> None:
    rng = np.random.default_rng(16)
    build = Builder(rng)
    build.affine(3, build.active(build.affine(4, 0), Relu()))
    problem = pose(build.graph(), Query(norm_in=p, norm_out=math.inf))
    setting = setting_of(problem)
    spoken = [np.array(c, dtype=float) for c in ([1, 0, 0], [0, 1, 0], [0, 1, 1], [1, 1, 0], [1, 1, 1], [0, 0, 1])]
    scalings = [tight(setting, rng, "random", c) for c in spoken]

    def alone(scaling: Scaling) -> float:
        inverse = 1 / scaling.inputs
        into = np.linalg.norm(inverse) if p == math.inf else inverse.max()
        return float(into / scaling.outputs[scaling.outputs > 0].min())

    for chosen in ([0, 1, 5], [0, 2], [4], [4, 0], [3, 5, 0], [5, 3, 4], range(6)):
        some = [scalings[i] for i in chosen]
        per_output = [min(alone(s) for s in some if s.outputs[k]) for k in range(3)]
        assert bound_of(setting, *some) == pytest.approx(max(per_output), rel=1e-12)
        assert attained(problem, rng)[p, math.inf] <= max(per_output) * MARGIN
    assert bound_of(setting, scalings[0], scalings[1]) == math.inf


def test_one_scaling_that_is_not_proven_spoils_all() -> None:
    rng = np.random.default_rng(17)
    setting = with_norms(setting_of(pose(NETWORKS["relu"](rng), Query())), 2.0, math.inf)
    good = tight(setting, rng, "random")
    bad = replace(good, outputs=good.outputs * 2)
    for scalings in ((good, bad), (bad, good)):
        with pytest.raises(NotProvedError, match="not proven"):
            bound_of(setting, *scalings)


# In ball arithmetic, and at the edges.


@pytest.mark.parametrize("name", NETWORKS)
def test_ball_arithmetic_proves_the_same(name: str) -> None:
    rng = np.random.default_rng([*name.encode(), 18])
    problem = pose(NETWORKS[name](rng), Query(region=REGIONS["a ball"](rng)))
    setting = setting_of(problem)
    scaling = tight(setting, rng, "random")
    scaling = replace(scaling, outputs=scaling.outputs * (1 - 1e-9))
    balls = setting_of(problem, BallArithmetic())
    for p in IN:
        for q in OUT:
            values = [bound_of(with_norms(s, p, q), scaling) for s in (setting, balls)]
            assert values[0] == pytest.approx(values[1], rel=1e-12)
    beyond = replace(scaling, outputs=scaling.outputs * (1 + 1e-5))
    for each in (setting, balls):
        with pytest.raises(NotProvedError, match="not proven"):
            bound_of(each, beyond)


def test_a_linear_network_needs_no_hidden_scales_and_a_constant_one_is_bounded_by_anything() -> None:
    weights = np.array([[3.0, 0.0], [0.0, 4.0]])
    linear = (Input("x", (2,)), Affine((0,), (Dense(weights),), exact(np.zeros(2)), (2,)))
    setting = setting_of(pose(Graph(linear, (Output("y", 1),)), Query()))
    scaling = Scaling(np.full(2, 0.25), np.zeros(0), np.full(2, 1 - 1e-12))
    assert bound_of(setting, scaling) == pytest.approx(4.0, rel=1e-11)
    constant = (linear[0], Affine((0,), (Dense(0 * weights),), exact(np.zeros(2)), (2,)))
    setting = setting_of(pose(Graph(constant, (Output("y", 1),)), Query()))
    huge = Scaling(np.full(2, 1e300), np.zeros(0), np.full(2, 1e300))
    assert 0 <= bound_of(setting, huge) <= 1e-300


def test_an_input_that_may_be_anything_does_not_move() -> None:
    """A second input, and a nonlinear node that reads only it, which therefore stands by itself."""
    rng = np.random.default_rng(19)
    nodes = (
        Input("a", (2,)),
        Input("b", (2,)),
        Elementwise(1, Relu(), (2,)),
        Elementwise(0, Relu(), (2,)),
        Affine((3, 1), tuple(Dense(rng.normal(size=(2, 2))) for _ in range(2)), exact(np.zeros(2)), (2,)),
        Affine((2, 4), tuple(Dense(rng.normal(size=(2, 2))) for _ in range(2)), exact(np.zeros(2)), (2,)),
    )
    problem = pose(Graph(nodes, (Output("y", 5),)), Query(inputs=("a",)))
    setting = setting_of(problem)
    assert len(setting.increments.nonlinear) == 2
    form = inequality(setting, Scaling(np.ones(2), np.ones(4), np.ones(2)))
    assert form.sizes == [2, 2, 2]
    assert (1, 0) not in form.blocks  # what reads b, and a
    scaling = tight(setting, rng, "random")
    assert attained(problem, rng)[2.0, 2.0] <= bound_of(setting, scaling) * MARGIN


def test_layers_that_do_not_read_each_other_have_no_block() -> None:
    rng = np.random.default_rng(20)
    build = Builder(rng)
    at = build.affine(4, 0)
    for _ in range(4):
        at = build.affine(4, build.active(at, Relu()))
    setting = setting_of(pose(build.graph(), Query()))
    form = inequality(setting, Scaling(np.ones(3), np.ones(16), np.ones(4)))
    assert sorted(form.blocks) == [(i, j) for i in range(5) for j in (i - 1, i) if j >= 0]


def test_largest_factors_are_found() -> None:
    """The helper that makes scales tight."""
    assert largest(lambda f: f < 3.0) == pytest.approx(3.0, rel=1e-12)
