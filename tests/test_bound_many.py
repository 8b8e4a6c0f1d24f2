"""`bound_many`: a sound report for each region, in order, by slopes that are searched for over all of them at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import lipcert
from lipcert.certificate.encoding import decode_query
from lipcert.errors import UnsupportedModelError, UsageError
from lipcert.frontend import Model
from lipcert.graph import Graph
from lipcert.planning import many
from lipcert.problem import Ball, Box, Everywhere, Margin, Norm, Problem, Region, SomeOutputs
from lipcert.report import CheckResult, Report
from tests.certificate.test_linear_bounds import GRAPHS
from tests.helpers.implicit import random_implicit
from tests.helpers.inequalities import NETWORKS
from tests.helpers.paths import MODELS
from tests.helpers.reports import model_of
from tests.helpers.sampling import NORM_PAIRS
from tests.soundness.test_local import MARGIN, sampled

KINDS: dict[str, Norm | None] = {"linf": math.inf, "l2": 2.0, "l1": 1.0, "box": None}
EVERY = {**NETWORKS, **GRAPHS}
SAMPLES = 500


def some_regions(rng: np.random.Generator, kind: str, n: int, count: int) -> list[Region]:
    """Of one kind and many sizes."""
    found: list[Region] = []
    norm = KINDS[kind]
    for k in range(count):
        center, size = rng.normal(size=n), 0.02 * 4.0**k
        found.append(Box(center, center + size * rng.random(n)) if norm is None else Ball(center, size, norm))
    return found


def size_of(graph: Graph) -> int:
    return graph.size(next(iter(graph.inputs.values())))


def bound_all(model: Model, regions: Sequence[Region], **options: Any) -> list[Report]:
    return list(lipcert.bound_many(model, regions, **{"timeout": 0.3, **options}))


def numbers(region: Region) -> list[float]:
    if isinstance(region, Ball):
        return [*region.center.tolist(), region.eps, region.norm]
    return [] if isinstance(region, Everywhere) else [*region.lower.tolist(), *region.upper.tolist()]


def assert_checked(report: Report, model: Model) -> None:
    checked = lipcert.check(report, model)
    assert isinstance(checked, CheckResult)
    assert report.upper is not None
    assert report.lower <= report.upper
    assert checked.upper <= report.upper


def assert_in_order_and_sound(
    graph: Graph, regions: Sequence[Region], pair: tuple[Norm, Norm], rng: np.random.Generator, **options: Any
) -> None:
    model = model_of(graph, "network")
    reports = bound_all(model, regions, norm_in=pair[0], norm_out=pair[1], **options)
    assert len(reports) == len(regions)
    for region, report in zip(regions, reports, strict=True):
        query = decode_query(report.data["query"])
        assert numbers(query.region) == numbers(region)
        assert (query.norm_in, query.norm_out) == pair
        assert report.status == "certified"
        assert report.upper is not None
        assert sampled(graph, region, pair, rng, SAMPLES) <= report.upper * MARGIN
        assert_checked(report, model)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["relu", "products"])
def test_regions_of_every_kind(name: str, kind: str) -> None:
    rng = np.random.default_rng([*name.encode(), *kind.encode()])
    graph = EVERY[name](rng)
    pair = NORM_PAIRS[int(rng.integers(9))]
    assert_in_order_and_sound(graph, some_regions(rng, kind, size_of(graph), 3), pair, rng)


@pytest.mark.parametrize("name", EVERY)
def test_graphs_of_every_kind(name: str) -> None:
    """Products, smooth activations, convolutions and groups among them."""
    rng = np.random.default_rng([*name.encode(), 2])
    graph = EVERY[name](rng)
    kind = list(KINDS)[int(rng.integers(4))]
    pair = NORM_PAIRS[int(rng.integers(9))]
    assert_in_order_and_sound(graph, some_regions(rng, kind, size_of(graph), 2), pair, rng)


@pytest.mark.parametrize("method", ["product", "local", "lipsdp"])
def test_every_method(method: str) -> None:
    rng = np.random.default_rng(8)
    graph = NETWORKS["tanh"](rng)
    regions = some_regions(rng, "l2", size_of(graph), 3)
    assert_in_order_and_sound(graph, regions, (2.0, 2.0), rng, method=method)


def test_points_and_regions_that_are_given_twice() -> None:
    rng = np.random.default_rng(9)
    graph = NETWORKS["relu"](rng)
    balls: list[Region] = [Ball(rng.normal(size=size_of(graph)), eps, 2.0) for eps in (0.0, 0.1, 0.0)]
    assert_in_order_and_sound(graph, [*balls, balls[1], balls[1]], (2.0, 2.0), rng)


def test_everywhere() -> None:
    """Where there are no slopes to search for."""
    rng = np.random.default_rng(10)
    assert_in_order_and_sound(NETWORKS["relu"](rng), [Everywhere()] * 2, (2.0, 2.0), rng)


def test_networks_that_are_fixed_points() -> None:
    rng = np.random.default_rng(11)
    model = model_of(random_implicit(rng, 3, 2, 2).graph(), "network")
    size = model.graph.size(next(iter(model.graph.inputs.values())))
    reports = bound_all(model, some_regions(rng, "l2", size, 2))
    whole = lipcert.bound(model, timeout=2.0)
    assert whole.upper is not None
    for report in reports:
        assert report.upper is not None
        assert report.lower <= min(report.upper, whole.upper)
        assert_checked(report, model)


def test_bounds_are_about_those_of_each_region_alone() -> None:
    model = lipcert.load(MODELS / "digits_relu.onnx")
    rng = np.random.default_rng(12)
    balls: list[Region] = [Ball(rng.random(64), eps, math.inf) for eps in (0.002, 0.02, 0.005)]
    options: dict[str, Any] = {"norm": math.inf, "method": "local", "gap": 1e6}
    for ball, report in zip(balls, bound_all(model, balls, timeout=20.0, **options), strict=True):
        alone = lipcert.bound(model, region=ball, timeout=20.0, **options)
        assert report.upper == pytest.approx(alone.upper, rel=1e-3)


def test_outputs_are_chosen_for_all() -> None:
    rng = np.random.default_rng(13)
    graph = NETWORKS["relu"](rng)
    model, regions = model_of(graph, "network"), some_regions(rng, "linf", size_of(graph), 2)
    for given, wanted in ((1, SomeOutputs((1,))), ([0, 1], SomeOutputs((0, 1))), (Margin(1, 0), Margin(1, 0))):
        for region, report in zip(regions, bound_all(model, regions, outputs=given), strict=True):
            assert decode_query(report.data["query"]).outputs == wanted
            alone = lipcert.bound(model, region=region, outputs=given, timeout=0.5)
            assert report.upper is not None
            assert alone.upper is not None
            assert max(report.lower, alone.lower) <= min(report.upper, alone.upper)


class Counted:
    """A function, and what it has been asked with."""

    def __init__(self, function: Any) -> None:
        self.function, self.calls = function, list[Any]()

    def __call__(self, first: Any, *arguments: Any, **options: Any) -> Any:
        self.calls.append(first)
        return self.function(first, *arguments, **options)


def refused(problems: Sequence[Problem], *_: Any) -> None:
    pytest.fail(f"slopes of {len(problems)} regions are searched for again")


def test_slopes_are_searched_for_over_many_regions_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some at a time where they are too many; and not again for each."""
    search, rng = Counted(many.find_slopes), np.random.default_rng(14)
    monkeypatch.setattr(many, "find_slopes", search)
    monkeypatch.setattr(many, "TOGETHER", 3)
    monkeypatch.setattr("lipcert.methods.boxes.find_slopes", refused)
    graph = NETWORKS["relu"](rng)
    model, regions = model_of(graph, "network"), some_regions(rng, "linf", size_of(graph), 4)
    regions += regions[:3]
    reports = bound_all(model, regions, norm=math.inf, timeout=5.0)
    assert [len(problems) for problems in search.calls] == [3, 3, 1]
    found = [decode_query(report.data["query"]).region for report in reports]
    assert [numbers(region) for region in found] == [numbers(region) for region in regions]
    assert any(report.data["certificate"]["slopes"] for report in reports)
    for report in reports:
        assert_checked(report, model)


def test_a_report_comes_as_soon_as_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    solve, rng, said = Counted(many.solve), np.random.default_rng(15), list[str]()
    monkeypatch.setattr(many, "solve", solve)
    graph = NETWORKS["relu"](rng)
    regions = some_regions(rng, "l2", size_of(graph), 3)
    found = lipcert.bound_many(
        model_of(graph, "network"), regions, timeout=0.5, on_step=lambda what, outcome: said.append(what)
    )
    for k, region in enumerate(regions):
        assert len(solve.calls) == k
        assert numbers(decode_query(next(found).data["query"]).region) == numbers(region)
    assert next(found, None) is None
    assert said[0] == "slopes"
    assert len(said) > len(regions)


def test_no_regions_give_nothing() -> None:
    assert list(lipcert.bound_many(MODELS / "digits_relu.onnx", [])) == []


def mixtures(n: int) -> Iterator[list[Region]]:
    zeros = np.zeros(n)
    yield [Ball(zeros, 0.1, 2.0), Ball(zeros, 0.1, math.inf)]
    yield [Ball(zeros, 0.1, 1.0), Ball(zeros, 0.1, 1.0), Box(zeros, zeros)]
    yield [Everywhere(), Ball(zeros, 0.1, 2.0)]


@pytest.mark.parametrize("regions", mixtures(64), ids=["norms", "box", "everywhere"])
def test_regions_of_several_kinds_are_refused(regions: list[Region]) -> None:
    with pytest.raises(UsageError, match="several kinds"):
        next(lipcert.bound_many(MODELS / "digits_relu.onnx", regions))


@pytest.mark.parametrize("place", [0, 2])
def test_a_region_of_another_size_is_refused_before_any_is_bounded(place: int) -> None:
    sizes = [64, 64, 64]
    sizes[place] = 63
    balls = [Ball(np.zeros(n), 0.1, 2.0) for n in sizes]
    with pytest.raises(UsageError, match="63 numbers for an input of 64"):
        next(lipcert.bound_many(MODELS / "digits_relu.onnx", balls))


@pytest.mark.parametrize(
    "options", [{"method": "magic"}, {"gap": 0.5}, {"timeout": -1.0}, {"norm": 3}, {"outputs": 10}]
)
def test_options_are_refused_as_by_bound(options: dict[str, Any]) -> None:
    ball = Ball(np.zeros(64), 0.1, 2.0)
    path = MODELS / "digits_relu.onnx"
    with pytest.raises(UsageError) as alone:
        lipcert.bound(path, region=ball, **options)
    with pytest.raises(UsageError) as together:
        next(lipcert.bound_many(path, [ball], **options))
    assert str(together.value) == str(alone.value)


def test_a_network_that_has_no_bound_is_named() -> None:
    model = model_of(GRAPHS["products"](np.random.default_rng(16)), "network")
    with pytest.raises(UnsupportedModelError, match=r"^network\.onnx: "):
        next(lipcert.bound_many(model, [Everywhere()]))
